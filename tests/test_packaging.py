"""What a user installs: the wheel's files, its metadata, and pins for everything that it was tested with."""

import email.message
import email.parser
import os
import re
import shutil
import subprocess
import sys
import tarfile
import zipfile
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import sb3_tom

ROOT = Path(__file__).parents[1]
(EXTRAS,) = re.findall(r"^EXTRAS \?= (\S+)$", (ROOT / "Makefile").read_text(), flags=re.MULTILINE)
"""The extras that ``make test`` installs, separated by commas."""

OF_TORCH = re.compile(r"(nvidia|cuda|triton)")
"""Packages that only torch's CUDA builds bring along; torch's own pin decides their versions."""


def build(kind: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A distribution of this checkout, built in a copy so that nothing is left behind here."""
    source, out = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp(kind)
    for path in (path for path in ROOT.iterdir() if path.is_file() and not path.name.startswith(".")):
        shutil.copy(path, source)
    for folder in ("sb3_tom", "hyperparams", "tests", "examples"):
        if (ROOT / folder).is_dir():
            shutil.copytree(ROOT / folder, source / folder, ignore=shutil.ignore_patterns("__pycache__"))
    code = f"import sys; from setuptools import build_meta; build_meta.build_{kind}(sys.argv[1])"
    subprocess.run([sys.executable, "-c", code, str(out)], cwd=source, check=True, capture_output=True, env=os.environ)
    (path,) = out.iterdir()
    return path


@pytest.fixture(scope="session")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> zipfile.ZipFile:
    return zipfile.ZipFile(build("wheel", tmp_path_factory))


@pytest.fixture(scope="session")
def wheel_metadata(wheel: zipfile.ZipFile) -> email.message.Message:
    (name,) = [name for name in wheel.namelist() if name.endswith(".dist-info/METADATA")]
    return email.parser.Parser().parsestr(wheel.read(name).decode())


def pins() -> dict[str, str]:
    """Version by canonical name of ``constraints.txt``, for this Python."""
    lines = [line.partition("#")[0].strip() for line in (ROOT / "constraints.txt").read_text().splitlines()]
    requirements = [Requirement(line) for line in lines if line]
    chosen = [requirement for requirement in requirements if requirement.marker is None or requirement.marker.evaluate()]
    versions = {}
    for requirement in chosen:
        (specifier,) = requirement.specifier
        assert specifier.operator == "==" and canonicalize_name(requirement.name) not in versions, requirement
        versions[canonicalize_name(requirement.name)] = specifier.version
    return versions


def applies(requirement: Requirement, extras: tuple[str, ...]) -> bool:
    return requirement.marker is None or any(requirement.marker.evaluate({"extra": extra}) for extra in ("", *extras))


def is_installed(name: str) -> bool:
    return any(metadata.distributions(name=name))


def closure(requirements: list[str], extras: tuple[str, ...]) -> set[str]:
    """Canonical names of all installed distributions that the requirements need, directly or not."""
    names: set[str] = set()
    waiting = [requirement for requirement in map(Requirement, requirements) if applies(requirement, extras)]
    seen: set[tuple[str, tuple[str, ...]]] = set()
    while waiting:
        requirement = waiting.pop()
        key = (canonicalize_name(requirement.name), tuple(sorted(requirement.extras)))
        if key in seen:
            continue
        seen.add(key)
        names.add(key[0])
        needed = metadata.requires(requirement.name) or []
        waiting += [inner for inner in map(Requirement, needed) if applies(inner, key[1])]
    return names


def test_wheel_holds_the_package_and_nothing_else(wheel: zipfile.ZipFile) -> None:
    names = {name for name in wheel.namelist() if ".dist-info/" not in name}
    modules = {str(path.relative_to(ROOT)) for path in (ROOT / "sb3_tom").rglob("*.py")}
    assert modules | {"sb3_tom/py.typed", "sb3_tom/version.txt"} <= names
    assert all(name.startswith("sb3_tom/") for name in names if "/" in name), "tests or examples would be installed too"
    assert any(name.endswith("licenses/LICENSE") for name in wheel.namelist())
    hyperparams = {f"sb3_tom/hyperparams/{path.name}" for path in (ROOT / "hyperparams").glob("*.yml")}
    assert hyperparams <= names


def test_source_distribution_holds_what_the_wheel_is_built_of_and_no_tests(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Setuptools adds ``tests/test_*.py`` by itself, without what they import."""
    with tarfile.open(build("sdist", tmp_path_factory)) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    needed = [ROOT / name for name in ("setup.py", "pyproject.toml", "LICENSE", "README.md", "sb3_tom.pth", "sb3_tom.start")]
    needed += [*(ROOT / "sb3_tom").rglob("*.py"), *(ROOT / "hyperparams").glob("*.yml"), ROOT / "_sb3_tom_zoo_hook.py"]
    assert {str(path.relative_to(ROOT)) for path in needed} <= names
    assert not [name for name in names if name.startswith("tests")]


def test_metadata(wheel_metadata: email.message.Message) -> None:
    version = (ROOT / "sb3_tom" / "version.txt").read_text().strip()
    assert wheel_metadata["Version"] == sb3_tom.__version__ == version
    assert f"## Release {version}" in (ROOT / "CHANGELOG.md").read_text()
    assert wheel_metadata["License-Expression"] == "MIT" or wheel_metadata["License"] == "MIT"
    assert set(wheel_metadata.get_all("Provides-Extra")) >= {"zoo", "plots", "tests", "docs", "extra"}


@pytest.mark.parametrize("extra", EXTRAS.split(","))
def test_every_dependency_is_pinned_to_what_is_installed(wheel_metadata: email.message.Message, extra: str) -> None:
    requirements = wheel_metadata.get_all("Requires-Dist")
    direct = [requirement.name for requirement in map(Requirement, requirements) if applies(requirement, (extra,))]
    if missing := [name for name in direct if not is_installed(name)]:
        pytest.skip(f"{missing} not installed: make test installs them")
    pinned = pins()
    names = {name for name in closure(requirements, (extra,)) if not OF_TORCH.match(name)}
    assert {"torch", "numpy", "stable-baselines3", "gymnasium", "mujoco"} < names
    assert names - set(pinned) == set()
    installed = {name: metadata.version(name).partition("+")[0] for name in names}
    assert installed == {name: pinned[name] for name in names}


def test_torch_has_one_pin() -> None:
    (pin,) = re.findall(r"^TORCH = torch==(\S+)$", (ROOT / "Makefile").read_text(), flags=re.MULTILINE)
    assert pins()["torch"] == pin


def test_an_index_for_torch_serves_nothing_else(tmp_path: Path) -> None:
    """It need not hold the pinned versions of torch's dependencies; the next command installs them."""
    command = ["make", "-n", "venv", f"VENV={tmp_path / 'new'}", "TORCH_INDEX=https://example.org/cpu"]
    environment = {name: value for name, value in os.environ.items() if name not in ("MAKEFLAGS", "MFLAGS")}
    lines = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True, env=environment).stdout.splitlines()
    (torch,) = (number for number, line in enumerate(lines) if "example.org" in line)
    assert " --no-deps " in lines[torch] and "torch==" in lines[torch]
    assert "-c constraints.txt -e" in lines[torch + 1]


def test_readme_and_continuous_integration_run_the_same_command() -> None:
    assert re.search(r"^make test$", (ROOT / "README.md").read_text(), flags=re.MULTILINE)
    script = ROOT / ".ci" / "run"
    assert re.search(r"^make test\b", script.read_text(), flags=re.MULTILINE)
    assert os.access(script, os.X_OK)


def test_installed_package_is_typed_and_names_what_it_exports() -> None:
    assert (Path(sb3_tom.__file__).parent / "py.typed").exists()
    missing = [name for name in sb3_tom.__all__ if not hasattr(sb3_tom, name)]
    assert missing == []
