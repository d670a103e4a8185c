"""Packaging of sb3_tom. The rest of the configuration (ruff, mypy, pytest) is in pyproject.toml."""

import base64
import hashlib
import zipfile
from pathlib import Path

from setuptools import find_packages, setup
from setuptools.command.editable_wheel import editable_wheel

ROOT = Path(__file__).parent
DESCRIPTION = "Model-based policy optimisation on Stable-Baselines3's SAC, with uniform, PMAC and TOM weights for the model"

packages = find_packages(include=["sb3_tom", "sb3_tom.*"])
package_dir = {}
package_data = {"sb3_tom": ["py.typed", "version.txt"]}

# The RL Zoo's YAML files live at the top, as in the Zoo itself, and are installed as data of sb3_tom.hyperparams.
if (ROOT / "hyperparams").is_dir():
    packages.append("sb3_tom.hyperparams")
    package_dir["sb3_tom.hyperparams"] = "hyperparams"
    package_data["sb3_tom.hyperparams"] = ["*.yml"]

# Lines that Python runs at its start, so that the RL Zoo finds the algorithms (see _sb3_tom_zoo_hook.py). Package data one
# level up lands in site-packages itself, is listed in RECORD, and so is uninstalled too.
STARTUP_FILES = [name for name in ("sb3_tom.pth", "sb3_tom.start") if (ROOT / name).is_file()]
package_data["sb3_tom"] += [f"../{name}" for name in STARTUP_FILES]


class EditableWheel(editable_wheel):
    """Editable wheels leave package data out: put the startup files in."""

    def run(self) -> None:
        """Build the wheel, then add to it."""
        super().run()
        for wheel in Path(self.dist_dir).glob("sb3_tom-*editable*.whl"):
            add_to_wheel(wheel, STARTUP_FILES)


def add_to_wheel(wheel: Path, names: list[str]) -> None:
    """
    Add files to the root of a wheel and to its RECORD.

    :param wheel: is replaced
    :param names: files of this folder; those that the wheel holds already are left as they are
    """
    with zipfile.ZipFile(wheel) as source:
        contents = [(info, source.read(info)) for info in source.infolist()]
    missing = {name: (ROOT / name).read_bytes() for name in names if name not in {info.filename for info, _ in contents}}
    lines = b"".join(record_line(name, content) for name, content in missing.items())
    with zipfile.ZipFile(wheel, "w", zipfile.ZIP_DEFLATED) as target:
        for name, content in missing.items():
            target.writestr(name, content)
        for info, content in contents:
            is_record = info.filename.endswith(".dist-info/RECORD")
            target.writestr(info, content + lines if is_record else content)


def record_line(name: str, content: bytes) -> bytes:
    """A line of RECORD: path, hash and size."""
    digest = base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=").decode()
    return f"{name},sha256={digest},{len(content)}\n".encode()


setup(
    name="sb3_tom",
    version=(ROOT / "sb3_tom" / "version.txt").read_text(encoding="utf-8").strip(),
    description=DESCRIPTION,
    long_description=(ROOT / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    author="sb3_tom developers",
    license="MIT",
    license_files=["LICENSE"],
    keywords="reinforcement-learning model-based-reinforcement-learning mbpo pytorch stable-baselines3 gymnasium",
    packages=packages,
    package_dir=package_dir,
    package_data=package_data,
    py_modules=["_sb3_tom_zoo_hook"],
    cmdclass={"editable_wheel": EditableWheel},
    python_requires=">=3.10",
    install_requires=[
        "stable_baselines3>=2.9,<3.0",
        "torch>=2.8,<3.0",
        "gymnasium[mujoco]>=1.0,<2.0",
        "mujoco>=3.1",
        "numpy>=1.22,<3.0",
    ],
    extras_require={
        "extra": ["tqdm", "rich", "tensorboard>=2.9.1"],
        "plots": ["matplotlib>=3.8", "scipy>=1.13", "tensorboard>=2.9.1", "pyyaml>=6.0"],
        "zoo": [
            "rl_zoo3>=2.9.2,<3.0",
            "optuna>=5.0",
            "scipy>=1.13",
            "grpcio>=1.62",
            "requests",
            "pandas<3",
            "tensorboard>=2.9.1",
            "moviepy>=1.0",
            "pygame-ce>=2.1.3",
        ],
        "ray": ["ray>=2.60,<3.0"],
        "tests": [
            "pytest>=8",
            "pytest-xdist>=3.5",
            "hypothesis>=6.100",
            "ruff",
            "mypy",
            "import-linter>=2.3",
            "setuptools>=77",
            "psycopg[binary]>=3.2",
            "optuna-dashboard>=0.20",
            "ray>=2.60,<3.0",
        ],
        "docs": ["sphinx>=7", "myst-parser>=3", "sphinx-rtd-theme>=2", "sphinx-copybutton", "sphinx-mathjax-offline"],
    },
    zip_safe=False,
    classifiers=[
        "Development Status :: 4 - Beta",
        "Intended Audience :: Science/Research",
        "Operating System :: POSIX :: Linux",
        "Programming Language :: Python :: 3",
        "Programming Language :: Python :: 3.10",
        "Programming Language :: Python :: 3.11",
        "Programming Language :: Python :: 3.12",
        "Programming Language :: Python :: 3.13",
        "Topic :: Scientific/Engineering :: Artificial Intelligence",
        "Typing :: Typed",
    ],
)
