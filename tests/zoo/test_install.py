"""
That the literal ``python -m rl_zoo3.train --algo mbpo_tom`` works after ``pip install``: what is in a wheel and in an editable
wheel, and (expensive) both installs in a fresh virtual environment.
"""

import base64
import csv
import hashlib
import io
import os
import shutil
import subprocess
import sys
import venv
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
STARTUP = ("sb3_tom.pth", "sb3_tom.start")
FILES = ("setup.py", "pyproject.toml", "README.md", "LICENSE", "_sb3_tom_zoo_hook.py", *STARTUP)
SMALL = (
    "learning_starts:100 buffer_size:1000 batch_size:32 policy_kwargs:dict(net_arch=[16]) rollout_batch_size:100 "
    "model_train_freq:100 update_to_data_ratio:1 dynamics_kwargs:dict(net_arch=[16],max_epochs=2,steps_per_epoch=5) "
    "weighter_kwargs:dict(recent_size=100,discriminator_steps=5,q_steps=5)"
)
TRAIN = "python -m rl_zoo3.train --env Pendulum-v1 -f logs --eval-freq -1 --device cpu"
RUN = Path("logs", "mbpo_tom", "Pendulum-v1_1")


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of what is packaged, so that builds leave nothing behind in the checkout."""
    folder = tmp_path_factory.mktemp("source")
    for name in FILES:
        shutil.copy(ROOT / name, folder)
    for name in ("sb3_tom", "hyperparams"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    return folder


@pytest.mark.parametrize("kind", ["wheel", "editable"])
def test_both_kinds_of_wheel_hold_the_startup_files_and_record_them(kind: str, source: Path, tmp_path: Path) -> None:
    code = f"import sys; from setuptools import build_meta; build_meta.build_{kind}(sys.argv[1])"
    subprocess.run([sys.executable, "-c", code, str(tmp_path)], cwd=source, check=True, capture_output=True)
    (path,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(path) as wheel:
        names = wheel.namelist()
        contents = {name: wheel.read(name) for name in names}
    (record,) = [contents[name].decode() for name in names if name.endswith(".dist-info/RECORD")]
    recorded = {row[0]: row[1:] for row in csv.reader(io.StringIO(record)) if row}
    assert len(names) == len(set(names)) and set(recorded) == set(names)
    for name in STARTUP:
        digest = base64.urlsafe_b64encode(hashlib.sha256(contents[name]).digest()).rstrip(b"=").decode()
        assert contents[name] == (ROOT / name).read_bytes()
        assert recorded[name] == [f"sha256={digest}", str(len(contents[name]))]
    # Python runs .pth files in the order of their names: that of an editable install must have made the hook importable before
    assert max((name for name in names if name.endswith(".pth")), key=str) == "sb3_tom.pth"


def sh(command: str | list[str], folder: Path, path: Path) -> str:
    """Run a command as a user of the environment would, from a folder of the user's."""
    words = command.split() if isinstance(command, str) else command
    env = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "VIRTUAL_ENV")}
    env |= {"PATH": f"{path}{os.pathsep}{os.environ['PATH']}", "OMP_NUM_THREADS": "1"}
    result = subprocess.run(words, cwd=folder, env=env, capture_output=True, text=True, timeout=3600)
    output = result.stdout + result.stderr
    assert result.returncode == 0, f"{command}\n{output}"
    return output


def check_training(folder: Path, binaries: Path) -> None:
    """Train with checkpoints, and stay out of the way."""
    folder.mkdir()
    sh(f"{TRAIN} --algo mbpo_tom -n 300 --save-freq 150 --tensorboard-log tb -params {SMALL}", folder, binaries)
    assert list(folder.glob("tb/Pendulum-v1/*/events.out.tfevents.*"))
    names = {path.name for path in (folder / RUN).iterdir()}
    assert {"Pendulum-v1.zip", "rl_model_150_steps.zip", "rl_model_300_steps.zip"} <= names
    check = "import sys; print(sorted({'torch', 'sb3_tom', 'numpy'} & set(sys.modules)), type(sys.meta_path[0]).__name__)"
    assert sh(["python", "-c", check], folder, binaries) == "[] _Finder\n"


def check_commands(folder: Path, binaries: Path) -> None:
    """After a training: continue, enjoy, record a video, the other names, an algorithm that is not the package's."""
    sh(f"{TRAIN} --algo mbpo_tom -n 150 -i {RUN}/Pendulum-v1.zip -params {SMALL}", folder, binaries)
    enjoyed = sh("python -m rl_zoo3.enjoy --algo mbpo_tom --env Pendulum-v1 -f logs --no-render -n 200", folder, binaries)
    assert "Loading logs/mbpo_tom/Pendulum-v1_2/Pendulum-v1.zip" in enjoyed and "Episode Length 200" in enjoyed
    enjoyed = sh("python -m sb3_tom.enjoy --algo mbpo_tom --env Pendulum-v1 -f logs --no-render -n 200", folder, binaries)
    assert "Episode Length 200" in enjoyed
    sh("python -m rl_zoo3.record_video --algo mbpo_tom --env Pendulum-v1 -f logs -o videos -n 20", folder, binaries)
    assert [path.stat().st_size > 1000 for path in (folder / "videos").glob("*.mp4")] == [True]
    for algo in ("mbpo", "mbpo_pmac"):
        sh(f"{TRAIN} --algo {algo} -n 120 -params {SMALL.partition(' weighter_kwargs')[0]}", folder, binaries)
    sh(f"{TRAIN} --algo sac -n 120", folder, binaries)


@pytest.mark.expensive
def test_literal_commands_after_plain_and_editable_install(source: Path, tmp_path: Path) -> None:
    """
    One environment, since installing torch and the zoo takes the time: a wheel, its removal, then an editable install, which
    differs in where the package and its files of hyperparameters lie, and so in whether the zoo's training finds them.
    """
    venv.create(tmp_path / "venv", with_pip=True)
    binaries = tmp_path / "venv" / "bin"
    constraints = ROOT / "constraints.txt"
    (torch,) = [line for line in constraints.read_text().splitlines() if line.startswith("torch==")]
    pip = "python -m pip --disable-pip-version-check"
    sh(f"{pip} install {torch}", tmp_path, binaries)
    sh(f"{pip} install -c {constraints} {source}[zoo]", tmp_path, binaries)
    check_training(tmp_path / "plain", binaries)
    check_commands(tmp_path / "plain", binaries)
    sh(f"{pip} uninstall -y sb3_tom", tmp_path, binaries)
    (packages,) = (tmp_path / "venv" / "lib").glob("python*/site-packages")
    assert [path.name for path in packages.iterdir() if "sb3_tom" in path.name] == []
    sh(f"{pip} install -c {constraints} --no-deps -e {source}", tmp_path, binaries)
    check_training(tmp_path / "editable", binaries)
