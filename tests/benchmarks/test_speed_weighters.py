"""The time of weights: sizes take turns, and the first call of each is not counted."""

import argparse
from collections.abc import Callable

import pytest
import speed_weighters

from sb3_tom.mbpo.axes import AXES


def test_medians_of_all_calls_but_the_first(monkeypatch: pytest.MonkeyPatch) -> None:
    clock, seen = [0.0], []

    def make(weighter: str, n_rows: int) -> Callable[[], None]:
        seconds = iter([9.0, 1.0, 5.0, 2.0])

        def call() -> None:
            seen.append(n_rows)
            clock[0] += next(seconds) * n_rows

        return call

    monkeypatch.setattr(speed_weighters, "part", make)
    monkeypatch.setattr(speed_weighters.time, "process_time", lambda: clock[0])
    rows = speed_weighters.table(argparse.Namespace(rows=50_000, repeats=3))
    assert [(title, name, value) for title, name, value, _, _ in rows[:2]] == [
        ("weights of 10000 rows, processor time", "recall", 20_000.0),
        ("weights of 50000 rows, processor time", "recall", 100_000.0),
    ]
    assert len(rows) == 2 * len(speed_weighters.WEIGHTERS)
    assert seen[:4] == [10_000, 50_000, 10_000, 50_000]


def test_each_is_a_weighter_whose_weights_differ(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(speed_weighters, "FEW", 600)
    assert set(speed_weighters.WEIGHTERS) < set(AXES["weighter"].aliases)
    agent = speed_weighters.part("per", 900).__self__  # type: ignore[attr-defined]
    agent.fit_weights()
    assert agent.replay_buffer.size() == 900
    assert agent.dynamics.is_fitted
    assert float(agent.replay_buffer.row_weights().std()) > 0.0


def test_the_many_are_more_than_the_few() -> None:
    with pytest.raises(SystemExit, match=r"--rows=10000 is not allowed with --sections weighters; allowed: more than 10000"):
        speed_weighters.table(argparse.Namespace(rows=10_000, repeats=3))
