"""The rooms of the package and the direction of its imports, as ``make lint`` checks them."""

import ast
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


def lint(folder: Path) -> "subprocess.CompletedProcess[str]":
    command = [str(Path(sys.executable).with_name("lint-imports")), "--no-cache"]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, env={"PYTHONPATH": str(folder), "PATH": ""})


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """The package and the rules, to break them."""
    pytest.importorskip("importlinter", reason="import-linter is not installed: pip install -e '.[tests]'")
    shutil.copytree(ROOT / "sb3_tom", tmp_path / "sb3_tom", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    return tmp_path


def test_arrows_only_go_down(copy: Path) -> None:
    result = lint(copy)
    assert result.returncode == 0, result.stdout


@pytest.mark.parametrize(
    ("file", "line", "named"),
    [
        (
            "data/weights.py",
            "from sb3_tom.weighters.uniform import UniformWeighter",
            "sb3_tom.data.weights -> sb3_tom.weighters",
        ),
        ("dynamics/linear.py", "from sb3_tom.objectives import likelihood", "sb3_tom.dynamics.linear -> sb3_tom.objectives"),
        (
            "mbpo/health.py",
            "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from sb3_tom.callbacks import tables",
            "sb3_tom.mbpo.health -> sb3_tom.callbacks",
        ),
        (
            "checks/guards.py",
            "def late() -> None:\n    import sb3_tom.contracts.types",
            "sb3_tom.checks.guards -> sb3_tom.contracts",
        ),
    ],
    ids=["upwards", "sideways", "for types only", "within a function"],
)
def test_an_arrow_up_fails(copy: Path, file: str, line: str, named: str) -> None:
    path = copy / "sb3_tom" / file
    path.write_text(f"{path.read_text()}\n{line}\n")
    result = lint(copy)
    assert result.returncode != 0 and named in result.stdout


def test_a_room_that_nobody_has_placed_fails(copy: Path) -> None:
    (copy / "sb3_tom" / "attic").mkdir()
    (copy / "sb3_tom" / "attic" / "__init__.py").write_text('"""Of whom?"""\n')
    result = lint(copy)
    assert result.returncode != 0 and "attic" in result.stdout


def test_no_part_of_the_agent_knows_the_agent() -> None:
    """Neither of the two files that are the agent is imported by the parts that it owns."""
    parts = [path for path in (ROOT / "sb3_tom").rglob("*.py") if path.parent.name not in ("zoo", "callbacks", "sb3_tom")]
    owners = {"saved.py", "hooks.py", "mbpo.py", "variants.py"}
    knowing = [path.name for path in parts if path.name not in owners and imported(path) & {"hooks", "mbpo"}]
    assert knowing == []


def imported(path: Path) -> set[str]:
    """Modules of ``sb3_tom.mbpo`` that a file imports, in any of the ways there are."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            names = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
        else:
            continue
        found |= {name.split(".")[2] for name in names if name.startswith("sb3_tom.mbpo.")}
    return found


WAYS = (
    "from sb3_tom.mbpo.mbpo import MBPO",
    "from sb3_tom.mbpo import mbpo",
    "import sb3_tom.mbpo.mbpo",
    "import sb3_tom.mbpo.mbpo as a",
)


@pytest.mark.parametrize("line", WAYS)
def test_an_import_is_seen_in_each_of_its_ways(tmp_path: Path, line: str) -> None:
    (tmp_path / "part.py").write_text(f"import sb3_tom\nfrom sb3_tom.mbpo.health import Health\n\ndef late():\n    {line}\n")
    assert imported(tmp_path / "part.py") == {"health", "mbpo"}
