"""Tables of the documentation that are generated from other files when it is built, so that they are never out of date."""

from collections.abc import Iterable, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

import yaml

from sb3_tom.mbpo.axes import AXES
from sb3_tom.weighters.tom.settings import PRESETS

ROOT = Path(__file__).resolve().parents[1]
COLUMNS = (
    "n_timesteps",
    "learning_starts",
    "update_to_data_ratio",
    "target_entropy",
    "rollout_schedule",
    "model_train_freq",
    "model_retain_epochs",
)
"""Hyperparameters that differ between tasks; other keys are listed in a last column."""

SHARED = ("policy", "learning_rate", "real_ratio")
"""
The same in all entries, which :func:`hyperparameters` checks; they stand above the table, with the other keys that have no
column and are the same in all entries.
"""


def markdown_table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """
    A table in Markdown.

    :param header: names of the columns
    :param rows: cells
    """
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines) + "\n"


def hyperparameters(path: Path) -> str:
    """
    The table of one of the RL Zoo's YAML files.

    :param path: the file
    :raises ValueError: if a value that the page gives for all tasks differs between them
    """
    entries: dict[str, dict[str, Any]] = yaml.safe_load(path.read_text(encoding="utf-8"))
    default = entries["default"]
    for task, entry in entries.items():
        if any(entry[key] != default[key] for key in SHARED):
            raise ValueError(f"{path}: {task} has other values of {SHARED} than the default")
    shared = {
        key: value
        for key, value in default.items()
        if key not in COLUMNS and all(entry.get(key) == value for entry in entries.values())
    }
    rows = [
        [
            f"`{task}`",
            *(_text(entry[key]) for key in COLUMNS),
            ", ".join(f"`{key}: {_text(entry[key])}`" for key in entry if key not in (*COLUMNS, *shared)),
        ]
        for task, entry in entries.items()
    ]
    everywhere = ", ".join(f"`{key}: {_text(value)}`" for key, value in shared.items())
    return f"In all tasks: {everywhere}.\n\n" + markdown_table(["task", *(f"`{key}`" for key in COLUMNS), "also"], rows)


def presets() -> str:
    """The arguments of TOMWeighter whose value differs between the two presets."""
    default, official = PRESETS["default"], PRESETS["official"]
    names = [field.name for field in fields(default) if getattr(default, field.name) != getattr(official, field.name)]
    rows = [[f"`{name}`", f"`{getattr(default, name)!r}`", f"`{getattr(official, name)!r}`"] for name in names]
    return markdown_table(["argument", '`preset="default"`', '`preset="official"`'], rows)


def axes() -> str:
    """The parts of the agent that a user chooses, a row per axis."""
    rows = [
        [
            f"`{argument}`",
            f"{{class}}`~{axis.contract.__module__}.{axis.contract.__qualname__}`",
            ", ".join(f'`"{name}"`' for name in axis.aliases) or "-",
            "none" if axis.default is None else f'`"{axis.default}"`',
            f"`{axis.kwargs_argument}`",
            f"`{axis.part}`",
        ]
        for argument, axis in AXES.items()
    ]
    return markdown_table(["argument", "contract", "short names", "default", "its arguments", "attribute"], rows)


def write(folder: Path) -> None:
    """
    Write all tables.

    :param folder: is created
    """
    folder.mkdir(exist_ok=True)
    for path in sorted((ROOT / "hyperparams").glob("*.yml")):
        (folder / f"{path.stem}.md").write_text(hyperparameters(path), encoding="utf-8")
    (folder / "tom_presets.md").write_text(presets(), encoding="utf-8")
    (folder / "axes.md").write_text(axes(), encoding="utf-8")


def _text(value: Any) -> str:
    if isinstance(value, float) and value.is_integer() and abs(value) >= 1000:
        return f"{int(value):,}"
    return str(value)
