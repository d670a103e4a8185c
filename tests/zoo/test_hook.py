"""The import hook, run in interpreters of its own on a made-up ``rl_zoo3``; one test needs the real one."""

import importlib
import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

import _sb3_tom_zoo_hook as hook
from sb3_tom.zoo.registration import REGISTERED

ROOT = Path(__file__).parents[2]
START = f"import site, sys; site.addsitedir({str(ROOT)!r})\n"
"""What the interpreter does with a folder of installed packages: it runs the ``.pth`` files there."""

ZOO = {
    "__init__": "from rl_zoo3.utils import ALGOS",
    "utils": "ALGOS = {'sac': object}\nassert __spec__.loader is __loader__ and hasattr(__loader__, 'get_source')",
    "hyperparams_opt": "HYPERPARAMS_SAMPLER = {}",
    "exp_manager": "import rl_zoo3.hyperparams_opt, rl_zoo3.utils",
}
RECORDING = "def register(module): print('registered', module.__name__, *sorted(set(vars(module)) & {'ALGOS'}))"


def write_package(folder: Path, name: str, modules: dict[str, str]) -> None:
    package = folder.joinpath(*name.split("."))
    package.mkdir(parents=True)
    for module, code in modules.items():
        (package / f"{module}.py").write_text(code)


@pytest.fixture
def packages(tmp_path: Path) -> Path:
    """A folder with a small ``rl_zoo3``, and an ``sb3_tom`` that only tells what it is asked to register."""
    write_package(tmp_path, "rl_zoo3", ZOO)
    write_package(tmp_path, "sb3_tom", {"__init__": ""})
    write_package(tmp_path, "sb3_tom.zoo", {"__init__": "", "registration": RECORDING})
    return tmp_path


def run(code: str, folder: Path, *flags: str, **environment: str) -> subprocess.CompletedProcess[str]:
    kept = {name: value for name, value in os.environ.items() if name not in (hook.OPT_OUT, "PYTHONWARNINGS")}
    env = {**kept, "PYTHONPATH": str(folder), **environment}
    command = [sys.executable, *flags, "-c", code]
    return subprocess.run(command, env=env, cwd=folder, capture_output=True, text=True, timeout=300)


def output(code: str, folder: Path, **environment: str) -> list[str]:
    result = run(code, folder, "-S", **environment)  # -S: without whatever is installed
    assert result.returncode == 0 and not result.stderr, result.stderr
    return result.stdout.splitlines()


def test_start_of_the_interpreter_imports_nothing_heavy(packages: Path) -> None:
    code = START + "print(sorted({'torch', 'sb3_tom', 'rl_zoo3', 'numpy', 'typing'} & set(sys.modules)))\n"
    assert output(code + "print(type(sys.meta_path[0]).__name__)", packages) == ["[]", "_Finder"]


def test_modules_are_registered_once_each_and_after_they_ran(packages: Path) -> None:
    lines = output(START + "import rl_zoo3, rl_zoo3.exp_manager, rl_zoo3.exp_manager", packages)
    assert lines == [
        "registered rl_zoo3.utils ALGOS",
        "registered rl_zoo3.hyperparams_opt",
        "registered rl_zoo3.exp_manager",
    ]


def test_installing_again_adds_no_second_finder(packages: Path) -> None:
    code = "import _sb3_tom_zoo_hook as h\nh.install(); h.install()\n"
    code += "print(sum(type(finder).__name__ == '_Finder' for finder in sys.meta_path))\nimport rl_zoo3"
    assert output(START + code, packages) == ["1", "registered rl_zoo3.utils ALGOS"]


def test_modules_keep_their_own_loader_and_can_be_reloaded(packages: Path) -> None:
    code = "import rl_zoo3.utils as u, inspect, importlib\n"
    code += "print(type(u.__loader__).__name__, u.__spec__.loader is u.__loader__)\n"
    code += "print(inspect.getsource(u).splitlines()[0])\nimportlib.reload(u)"
    lines = output(START + code, packages)
    assert lines[1:3] == ["SourceFileLoader True", "ALGOS = {'sac': object}"]
    assert lines[0] == lines[3] == "registered rl_zoo3.utils ALGOS"


def test_zoo_that_is_imported_before_is_registered_at_once(packages: Path) -> None:
    code = f"import sys; sys.path.append({str(ROOT)!r})\nimport rl_zoo3\nprint('imported')\n"
    code += "import _sb3_tom_zoo_hook as h; h.install()"
    assert output(code, packages) == ["imported", "registered rl_zoo3.utils ALGOS"]


@pytest.mark.parametrize("value", ["1", "yes"])
def test_opt_out(packages: Path, value: str) -> None:
    code = START + "import rl_zoo3\nprint(any(type(finder).__name__ == '_Finder' for finder in sys.meta_path), rl_zoo3.ALGOS)"
    assert output(code, packages, **{hook.OPT_OUT: value}) == ["False {'sac': <class 'object'>}"]


@pytest.mark.parametrize(
    "broken",
    ["raise RuntimeError('broken')", "import no_such_module", "def register(module): module.NO_SUCH", "x ="],
    ids=["raises", "import", "registration", "syntax"],
)
def test_broken_package_is_a_warning_and_the_other_algorithms_go_on(packages: Path, broken: str) -> None:
    (packages / "sb3_tom" / "zoo" / "registration.py").write_text(broken)
    result = run(START + "import rl_zoo3\nprint(rl_zoo3.ALGOS)", packages, "-S")
    assert (result.returncode, result.stdout) == (0, "{'sac': <class 'object'>}\n")
    assert result.stderr.count("RuntimeWarning: sb3_tom could not add its algorithms to rl_zoo3.utils") == 1
    assert "Traceback" not in result.stderr


def test_missing_zoo_stays_a_plain_import_error(packages: Path) -> None:
    code = START + "import importlib.machinery as m\nprint(sys.meta_path[0].find_spec('rl_zoo3.utils', ['/nowhere']))"
    assert output(code, packages) == ["None"]


def test_startup_file_without_its_module_is_silent(tmp_path: Path) -> None:
    (tmp_path / "sb3_tom.pth").write_text((ROOT / "sb3_tom.pth").read_text())
    code = f"import site; site.addsitedir({str(tmp_path)!r}); print('started')"
    result = subprocess.run([sys.executable, "-I", "-S", "-c", code], cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert (result.returncode, result.stdout, result.stderr) == (0, "started\n", "")


def test_startup_files_are_one_line_each_and_name_the_same_function() -> None:
    (line,) = (ROOT / "sb3_tom.pth").read_text().splitlines()
    (entry,) = (ROOT / "sb3_tom.start").read_text().splitlines()
    module, _, function = entry.partition(":")
    assert line.startswith("import ")  # other lines would be taken for folders
    assert f"{module}.{function}()" in line
    assert getattr(importlib.import_module(module), function) is hook.install


@pytest.mark.skipif(find_spec("rl_zoo3") is None, reason="rl_zoo3 is not installed: pip install 'sb3_tom[zoo]'")
def test_importing_the_package_registers_without_importing_the_zoo(tmp_path: Path) -> None:
    code = "import sys, sb3_tom\nprint(sorted({'rl_zoo3', 'optuna', 'yaml'} & set(sys.modules)))\n"
    code += "import rl_zoo3\nprint([name for name in rl_zoo3.ALGOS if rl_zoo3.ALGOS[name].__module__.startswith('sb3_tom.')])"
    result = run(code, ROOT)
    assert result.returncode == 0, result.stderr
    assert result.stdout.splitlines()[-2:] == ["[]", str([*REGISTERED])]
