"""A benchmark runs the checkout that it stands in: its results tell that checkout's commit."""

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
SCRIPTS = sorted(path for path in BENCHMARKS.glob("*.py") if '__name__ == "__main__"' in path.read_text())
OURS = {"sb3_tom", *(path.stem for path in BENCHMARKS.glob("*.py"))}


def imported(path: Path) -> list[str]:
    """Packages that a module imports, in order."""
    names: list[str] = []
    for statement in ast.parse(path.read_text()).body:
        if isinstance(statement, ast.Import):
            names += [alias.name for alias in statement.names]
        elif isinstance(statement, ast.ImportFrom):
            names.append(str(statement.module))
    return [name.partition(".")[0] for name in names]


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)
def test_the_checkout_comes_first(script: Path) -> None:
    ours = [name for name in imported(script) if name in OURS]
    assert ours[:1] in ([], ["checkout"])


def test_another_package_that_is_installed_is_not_imported(tmp_path: Path) -> None:
    other = tmp_path / "sb3_tom"
    other.mkdir()
    (other / "__init__.py").write_text("raise ImportError('the installed package')")
    program = f"import sys; sys.path[0] = {str(BENCHMARKS)!r}; import curves, sb3_tom; print(sb3_tom.__file__)"
    environment = os.environ | {"PYTHONPATH": str(tmp_path)}
    result = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    assert Path(result.stdout.strip()) == BENCHMARKS.parent / "sb3_tom" / "__init__.py"


def test_there_are_scripts() -> None:
    assert len([script for script in SCRIPTS if "sb3_tom" in imported(script) or "checkout" in imported(script)]) >= 8
