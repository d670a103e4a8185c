"""Packaging of sb3_tom. The rest of the configuration (ruff, mypy, pytest) is in pyproject.toml."""

from pathlib import Path

from setuptools import find_packages, setup

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
        "plots": ["matplotlib>=3.8"],
        "zoo": ["rl_zoo3>=2.9.2,<3.0", "requests"],
        "tests": ["pytest>=8", "pytest-xdist>=3.5", "hypothesis>=6.100", "scipy", "ruff", "mypy", "setuptools>=77"],
        "docs": ["sphinx>=7", "myst-parser>=3", "sphinx-rtd-theme>=2", "sphinx-copybutton"],
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
