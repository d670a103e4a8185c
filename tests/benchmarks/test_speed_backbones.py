"""What an env step costs: each way's own verbs are timed, and compared with the first."""

import argparse
from types import SimpleNamespace

import pytest
import speed_backbones


def test_ratios_are_to_the_first_pair_by_pair(monkeypatch: pytest.MonkeyPatch) -> None:
    totals = {"mbpo": [100.0, 200.0, 100.0], "dhmbpo": [50.0, 80.0, 30.0]}

    def make(method: str, changes: dict[str, object]) -> SimpleNamespace:
        figures = iter(totals["mbpo" if method == "mbpo" else "dhmbpo"])
        return SimpleNamespace(phase=lambda: {"total": next(figures), "fit": 7.0})

    monkeypatch.setattr(speed_backbones, "Run", make)
    rows = speed_backbones.table(argparse.Namespace(phases=3))
    assert [(name, median) for _, name, median, _, _ in rows][:2] == [("mbpo", 100.0), ("dhmbpo", 50.0)]
    assert rows[0][4] == "fit 7.0" and rows[1][4] == "fit 7.0; 0.40 x mbpo"


def test_verbs_are_timed_and_work_as_before() -> None:
    run = object.__new__(speed_backbones.Run)
    run.spent = {}
    call = run._timed("fit_model", lambda number: sum(range(number)))
    assert call(200_000) == sum(range(200_000)) and call(3) == 3
    assert 0.0 < run.spent["fit_model"] < 10.0
