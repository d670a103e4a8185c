"""Files of runs with known figures."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from stable_baselines3.common.logger import configure

from sb3_tom.callbacks.learning_curve import CURVE_COLUMNS
from sb3_tom.callbacks.model_error import ERROR_COLUMNS
from sb3_tom.callbacks.tables import RunTable
from sb3_tom.callbacks.weight_by_age import AGE_COLUMNS
from sb3_tom.plots import ages, curves, differences


def curve_file(path: Path, method: str, seed: int, points: dict[int, float], task: str = "t") -> Path:
    """What LearningCurveCallback leaves."""
    table = RunTable(path, CURVE_COLUMNS, {"task": task, "method": method, "seed": seed})
    best = -np.inf
    for step, mean in points.items():
        best = max(best, mean)
        figures = dict.fromkeys(CURVE_COLUMNS, 0.0) | {"env_step": step, "return_mean": mean, "cumulative_max": best}
        table.append(figures)
    return path


def age_file(path: Path, n_phases: int = 20, method: str = "tom", seed: int = 0) -> Path:
    """What WeightByAgeCallback leaves: two bins, of weight 1.5 and 0.5 plus the number of the phase."""
    table = RunTable(path, AGE_COLUMNS, {"task": "t", "method": method, "seed": seed})
    for version in range(1, n_phases + 1):
        for index, mean in enumerate((1.5, 0.5)):
            low = 5 * index
            row = [100 * version, version, index, low, low + 4, 5, mean + version, 2.0, 0.8]
            table.append(dict(zip(AGE_COLUMNS, row, strict=True)))
    return path


def error_file(path: Path, seed: int, errors: dict[int, float]) -> Path:
    """What ModelErrorCallback leaves: at each step the global error, the local one twice as high, and h times that after h."""
    table = RunTable(path, ERROR_COLUMNS, {"task": "t", "method": "tom", "seed": seed})
    for step, error in errors.items():
        kinds = [("global", 1, error), ("local", 1, 2 * error), *(("compounding", h, 2 * h * error) for h in (1, 2, 3))]
        table.append(*(dict(zip(ERROR_COLUMNS, (step, 1, *kind, 100), strict=True)) for kind in kinds))
    return path


def log_files(folder: Path, formats: list[str], rows: dict[int, dict[str, float]]) -> Path:
    """What SB3's loggers leave."""
    logger = configure(str(folder), formats)
    for step, figures in rows.items():
        for name, value in {**figures, "time/total_timesteps": step}.items():
            logger.record(name, value)
        logger.dump(step)
    logger.close()
    return folder


def saved_figures(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The figures that are saved from now on."""
    saved: list[Any] = []
    for module in (curves, ages, differences):
        original = module.save
        spy = lambda figure, *rest, original=original: (saved.append(figure), original(figure, *rest))[1]  # noqa: E731
        monkeypatch.setattr(module, "save", spy)
    return saved


def lines(axes: Any) -> dict[str, list[tuple[float, float]]]:
    """Points of the labelled lines."""
    labelled = [line for line in axes.lines if not line.get_label().startswith("_")]
    return {line.get_label(): list(zip(*line.get_data(), strict=True)) for line in labelled}
