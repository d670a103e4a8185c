"""Differences between methods: the right seeds, env steps and intervals, and nothing that is left out unsaid."""

from math import inf
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("scipy", reason="scipy is not installed: pip install 'sb3_tom[plots]'")

from sb3_tom import plots
from sb3_tom.callbacks.tables import read_table
from sb3_tom.plots.__main__ import main
from sb3_tom.plots.differences import Difference, find_differences
from tests.plots.tables import curve_file, saved_figures


def write(folder: Path, method: str, curves: dict[int, dict[int, float]], task: str = "t") -> None:
    for seed, points in curves.items():
        curve_file(folder / f"{task}_{method}_{seed}.csv", method, seed, points, task)


def found(folder: Path, **arguments: Any) -> list[Difference]:
    return find_differences(plots.read_runs(folder), **arguments).differences


def test_seeds_are_paired_whatever_their_order(tmp_path: Path) -> None:
    write(tmp_path, "a", {3: {10: 1.0, 20: 3.0}, 0: {10: 10.0, 20: 20.0}, 7: {10: 0.0, 20: 0.0}})
    write(tmp_path, "b", {0: {10: 13.0, 20: 21.0}, 3: {10: 1.0, 20: 1.0}, 8: {10: 9.0, 20: 9.0}})
    (difference,) = found(tmp_path, baseline="a")
    assert dict(zip(difference.seeds, difference.values, strict=True)) == {"0": 2.0, "3": -1.0}
    assert difference.baseline_mean == (15.0 + 2.0) / 2
    assert (difference.window, difference.left_out) == ((10, 20), ())


def test_a_window_has_both_ends(tmp_path: Path) -> None:
    write(tmp_path, "a", {0: {10: 100.0, 20: 0.0, 30: 0.0, 40: 100.0}})
    write(tmp_path, "b", {0: {10: 0.0, 20: 1.0, 30: 3.0, 40: 0.0}})
    (difference,) = found(tmp_path, window=(20, 30))
    assert (*difference.values, *difference.window) == (2.0, 20, 30)


def test_a_run_that_ends_early_is_left_out_and_named(tmp_path: Path) -> None:
    write(tmp_path, "a", {0: {10: 0.0, 20: 0.0}, 1: {10: 0.0, 20: 0.0}})
    write(tmp_path, "b", {0: {10: 1.0, 20: 3.0}, 1: {10: 50.0}})
    (difference,) = found(tmp_path)
    assert (difference.seeds, *difference.values, difference.left_out) == (("0",), 2.0, ("1",))
    assert "left out, without all these env steps: 1" in str(difference)
    (both,) = found(tmp_path, window=(0, 10))
    assert both.seeds == ("0", "1") and "left out" not in str(both), "up to its end it can be compared"


def test_env_steps_are_those_that_both_methods_have(tmp_path: Path) -> None:
    """A longer method, or one that is evaluated more often, is cut to what the other has."""
    write(tmp_path, "a", {seed: {10: 1.0, 20: 1.0} for seed in (0, 1)})
    write(tmp_path, "b", {seed: {5: 99.0, 10: 2.0, 15: 99.0, 20: 4.0, 30: 99.0} for seed in (0, 1)})
    (difference,) = found(tmp_path)
    assert difference.values.tolist() == [2.0, 2.0] and difference.window == (10, 20)


def test_an_interval_from_seven_seeds_on(tmp_path: Path) -> None:
    gains = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 14.0]
    write(tmp_path, "a", {seed: {10: 100.0 * seed} for seed in range(7)})
    write(tmp_path, "b", {seed: {10: 100.0 * seed + gain} for seed, gain in enumerate(gains)})
    (difference,) = found(tmp_path)
    half = 2.446912 * np.std(gains, ddof=1) / 7**0.5  # Student's quantile of six degrees of freedom
    assert difference.interval == pytest.approx((5.0, 5.0 - half, 5.0 + half), rel=1e-5)
    assert str(difference).startswith("t: b - a, env steps 10 to 10: +5 [")
    six = difference._replace(values=difference.values[:6])
    assert np.isnan(six.interval[1:]).all() and "without an interval" in str(six)


def test_each_task_with_a_baseline_is_compared(tmp_path: Path) -> None:
    write(tmp_path, "a", {0: {10: 1.0}})
    write(tmp_path, "b", {0: {10: 2.0}})
    write(tmp_path, "b", {0: {10: 5.0}}, task="u")
    write(tmp_path, "c", {0: {10: 6.0}}, task="u")
    write(tmp_path, "c", {1: {10: 6.0}})
    differences = found(tmp_path, baseline="b")
    assert [(one.task, one.method, *one.values) for one in differences] == [("t", "a", -1.0), ("u", "c", 1.0)]


def test_what_cannot_be_compared_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    runs = tmp_path / "runs"
    write(runs, "a", {0: {10: 1.0, 20: 1.0}, 1: {10: 1.0}})
    write(runs, "b", {0: {10: 2.0}, 1: {10: 2.0, 20: 2.0}})
    write(runs, "c", {0: {10: 3.0, 20: 3.0}})
    write(runs, "d", {5: {10: 3.0}})
    write(runs, "d", {5: {10: 3.0}}, task="u")
    main(["differences", str(runs), "--baseline", "a", "--out", str(tmp_path / "d.png")])
    said = capsys.readouterr().out
    assert "t: c - a, env steps 10 to 20: +2 " in said
    assert "not compared: t: no seed of b and a has all their env steps; try a smaller window\n" in said
    assert "not compared: t: d shares no seed with a\n" in said and "not compared: u: d shares no seed with a\n" in said
    assert [one.method for one in found(runs, baseline="a", window=(0, 10))] == ["b", "c"]


def test_a_value_that_is_not_finite_leaves_its_seed_out(tmp_path: Path) -> None:
    write(tmp_path, "a", {seed: {10: 0.0, 20: 0.0} for seed in range(8)})
    write(tmp_path, "b", {seed: {10: 1.0, 20: float("nan") if seed == 3 else 2.0} for seed in range(8)})
    (difference,) = found(tmp_path)
    assert difference.left_out == ("3",) and difference.values.tolist() == [1.5] * 7


@pytest.mark.parametrize("n_shared", [6, 7])
def test_seeds_that_are_too_few_are_those_that_both_have(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], n_shared: int
) -> None:
    write(tmp_path / "runs", "a", {seed: {10: 0.0} for seed in range(9)})
    write(tmp_path / "runs", "b", {seed + 9 - n_shared: {10: 1.0 + seed} for seed in range(9)})
    main(["differences", str(tmp_path / "runs"), "--out", str(tmp_path / "d.png")])
    assert ("6 seeds: no interval below 7" in capsys.readouterr().out) == (n_shared == 6)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"baseline": "z"}, r"baseline='z' is not allowed; allowed: one of \['a', 'b'\]"),
        ({"column": "ess"}, r"column='ess' is not allowed"),
        ({"window": (30, 10)}, r"window=\(30, 10\) is not allowed"),
        ({"column": "cumulative_max"}, r"column='cumulative_max' is not allowed"),
        ({"window": (11, inf)}, r"t: b shares no env step with a within \(11, inf\)"),
        ({"column": "global_error"}, "nothing holds global_error"),
    ],
)
def test_what_cannot_be_compared(tmp_path: Path, arguments: dict[str, Any], message: str) -> None:
    write(tmp_path, "a", {0: {10: 1.0}})
    write(tmp_path, "b", {0: {10: 2.0}})
    with pytest.raises(ValueError, match=message):
        found(tmp_path, **arguments)


def test_the_command_prints_and_draws_the_same(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    figures = saved_figures(monkeypatch)
    write(tmp_path / "runs", "_a$", {0: {10: 1.0, 20: 1.0}, 1: {10: 0.0, 20: 8.0}, 2: {10: 0.0}})
    write(tmp_path / "runs", "b", {0: {10: 2.0, 20: 4.0}, 1: {10: 9.0, 20: 6.0}, 2: {10: 0.0, 20: 0.0}})
    picture = tmp_path / "new" / "d.png"
    main(["differences", str(tmp_path / "runs"), "--baseline", "b", "--first", "15", "--last", "20", "--out", str(picture)])
    said = capsys.readouterr().out
    line = "t: _a$ - b, env steps 20 to 20: -0.5 without an interval, greater in 1 of 2 seeds"
    assert f"{line}; left out, without all these env steps: 2\n" in said and str(picture) in said
    (row,) = read_table(tmp_path / "new" / "d_summary.csv")
    assert (row["seeds"], row["differences"], row["left_out"], row["mean"], row["low"]) == ("0 1", "-3 2", "2", "-0.5", "nan")
    (axes,) = figures[0].axes
    assert [[*line.get_xdata()] for line in axes.lines if line.get_marker() in ("o", "|")] == [[-3.0, 2.0], [-0.5]]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["a\\$\n(2 seeds)"]
    with pytest.raises(SystemExit):
        main(["differences", str(tmp_path / "runs"), "--baseline", "c", "--out", str(picture)])
    assert "baseline='c' is not allowed" in capsys.readouterr().err
