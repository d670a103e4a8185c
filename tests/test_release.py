"""What is released: nothing is imported that is not used, and the wheel alone runs the code that the README shows first."""

import os
import re
import resource
import statistics
import subprocess
import sys
import venv
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SMALL = ', learning_starts=100, rollout_batch_size=100, dynamics_kwargs={"net_arch": [16], "first_max_epochs": 1}).learn(120)'


def test_the_package_imports_nothing_beyond_stable_baselines3() -> None:
    code = (
        "import sys, stable_baselines3; before = set(sys.modules); import sb3_tom; "
        "print({name.partition('.')[0] for name in set(sys.modules) - before}, "
        "{'pandas', 'matplotlib', 'scipy', 'rl_zoo3', 'optuna'} & set(sys.modules))"
    )
    result = subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True, capture_output=True, text=True)
    assert result.stdout == "{'sb3_tom'} set()\n"


def import_seconds(module: str) -> float:
    """Process time of a fresh interpreter that imports a module."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, "-c", f"import {module}"], cwd=ROOT, check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


@pytest.mark.expensive
def test_importing_costs_little_more_than_stable_baselines3() -> None:
    ratios = [import_seconds("sb3_tom") / import_seconds("stable_baselines3") for _ in range(9)]
    assert statistics.median(ratios) <= 1.15


@pytest.mark.expensive
def test_the_built_distributions_are_sound_and_run_the_first_code_of_the_readme(tmp_path: Path) -> None:
    """``python -m build``, ``twine check``, and an empty environment that gets the wheel and its requirements only."""
    constraints = ROOT / "constraints.txt"
    (torch,) = [line for line in constraints.read_text().splitlines() if line.startswith("torch==")]
    env = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "VIRTUAL_ENV")}

    def sh(*words: str | Path, cwd: Path = tmp_path) -> str:
        result = subprocess.run(words, cwd=cwd, env=env | {"OMP_NUM_THREADS": "1"}, capture_output=True, text=True)
        assert result.returncode == 0, f"{words}\n{result.stdout}{result.stderr}"
        return result.stdout

    tools, empty = tmp_path / "tools" / "bin" / "python", tmp_path / "empty" / "bin" / "python"
    for python in (tools, empty):
        venv.create(python.parents[1], with_pip=True)
    sh("git", "clone", "--quiet", ROOT, tmp_path / "source")
    sh(tools, "-m", "pip", "install", "build", "twine")
    sh(tools, "-m", "build", "--outdir", tmp_path / "dist", cwd=tmp_path / "source")
    wheel, sdist = sorted((tmp_path / "dist").iterdir(), key=lambda path: path.suffix, reverse=True)
    sh(tools, "-m", "twine", "check", "--strict", wheel, sdist)
    sh(empty, "-m", "pip", "install", "-c", constraints, torch)
    sh(empty, "-m", "pip", "install", "-c", constraints, wheel)
    first = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), flags=re.DOTALL)[0]
    assert first.count(").learn(25_000)") == 1
    sh(empty, "-c", first.replace(").learn(25_000)", SMALL))
