"""The pictures draw the numbers of the files and nothing else."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sb3_tom import plots
from sb3_tom.common.callbacks import AGE_COLUMNS, CURVE_COLUMNS
from sb3_tom.common.evaluation import RunTable


@pytest.fixture
def figures(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The figures that were saved."""
    saved: list[Any] = []
    original = plots._save
    monkeypatch.setattr(plots, "_save", lambda figure, out: (saved.append(figure), original(figure, out))[1])
    return saved


def curve(path: Path, method: str, seed: int, points: dict[int, float], task: str = "t") -> Path:
    table = RunTable(path, CURVE_COLUMNS, {"task": task, "method": method, "seed": seed})
    best = -np.inf
    for step, mean in points.items():
        best = max(best, mean)
        figures = dict.fromkeys(CURVE_COLUMNS, 0.0) | {"env_step": step, "return_mean": mean, "cumulative_max": best}
        table.append(figures)
    return path


def lines(axes: Any) -> dict[str, list[tuple[float, float]]]:
    labelled = [line for line in axes.lines if not line.get_label().startswith("_")]
    return {line.get_label(): list(zip(*line.get_data(), strict=True)) for line in labelled}


def test_mean_only_where_all_seeds_are(tmp_path: Path, figures: list[Any]) -> None:
    files = [
        curve(tmp_path / "a.csv", "mbpo", 0, {10: 1.0, 20: 5.0, 30: 3.0}),
        curve(tmp_path / "b.csv", "mbpo", 1, {10: 3.0, 20: 7.0}),
        curve(tmp_path / "c.csv", "sac", 0, {10: 2.0, 20: 2.0}),
        curve(tmp_path / "d.csv", "sac", 0, {10: 9.0}, task="u"),
    ]
    out = plots.plot_learning_curves(files, tmp_path / "new" / "curves.png")
    assert out.read_bytes().startswith(b"\x89PNG")
    first, second = figures[0].axes
    assert lines(first) == {"mbpo (mean and range of 2 seeds)": [(10, 2.0), (20, 6.0)], "sac (1 seed)": [(10, 2.0), (20, 2.0)]}
    assert lines(second) == {"sac (1 seed)": [(10, 9.0)]}
    seeds = [list(line.get_ydata()) for line in first.lines if line.get_label().startswith("_")]
    assert seeds == [[1.0, 5.0, 3.0], [3.0, 7.0]]
    assert (first.get_title(), first.get_ylabel()) == ("t", "mean return of an evaluation")


def test_the_maximum_has_its_name(tmp_path: Path, figures: list[Any]) -> None:
    file = curve(tmp_path / "a.csv", "mbpo", 0, {10: 5.0, 20: 1.0})
    plots.plot_learning_curves([file], tmp_path / "curves.png", "cumulative_max")
    (axes,) = figures[0].axes
    assert lines(axes) == {"mbpo (1 seed)": [(10, 5.0), (20, 5.0)]}
    assert "cumulative maximum" in axes.get_ylabel()
    with pytest.raises(ValueError, match="column='seconds'"):
        plots.plot_learning_curves([file], tmp_path / "curves.png", "seconds")


def test_weight_by_age(tmp_path: Path, figures: list[Any]) -> None:
    table = RunTable(tmp_path / "w.csv", AGE_COLUMNS, {"task": "t", "method": "tom", "seed": 0})
    for version in range(1, 21):
        for index, mean in enumerate((1.5, 0.5)):
            low = 5 * index
            row = [100 * version, version, index, low, low + 4, 5, mean + version, 2.0, 0.8]
            table.append(dict(zip(AGE_COLUMNS, row, strict=True)))
    plots.plot_weight_by_age(table.path, tmp_path / "w.png", n_phases=3)
    drawn = lines(figures[0].axes[0])
    assert list(drawn) == ["step 100 (ESS 0.80)", "step 1,100 (ESS 0.80)", "step 2,000 (ESS 0.80)"]
    assert drawn["step 2,000 (ESS 0.80)"] == [(2.0, 21.5), (7.0, 20.5)]


def test_nothing_to_draw(tmp_path: Path) -> None:
    empty = curve(tmp_path / "a.csv", "mbpo", 0, {})
    for draw in (plots.plot_learning_curves, plots.plot_weight_by_age):
        with pytest.raises(ValueError, match=r"a\.csv"):
            draw([empty], tmp_path / "a.png")


def test_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = curve(tmp_path / "a.csv", "mbpo", 0, {10: 1.0})
    plots.main(["curves", str(file), "--out", str(tmp_path / "a.png")])
    assert (tmp_path / "a.png").exists()
    for wrong, message in (tmp_path / "none.csv", "no such file"), (file, "not a table that `weights` can draw"):
        with pytest.raises(SystemExit):
            plots.main(["weights", str(wrong), "--out", str(tmp_path / "b.png")])
        assert message in capsys.readouterr().err
