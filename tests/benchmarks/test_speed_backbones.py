"""What an env step costs: each way's own verbs are timed, and compared with the first."""

import argparse
import time
from types import SimpleNamespace

import pytest
import speed_backbones
import torch as th


@pytest.mark.parametrize(("device", "clock"), [("cpu", "processor"), ("cuda", "clock")])
def test_ratios_are_to_the_first_pair_by_pair(device: str, clock: str, monkeypatch: pytest.MonkeyPatch) -> None:
    totals = {"mbpo": [100.0, 200.0, 100.0], "dhmbpo": [50.0, 80.0, 30.0]}

    def make(method: str, changes: dict[str, object], where: str) -> SimpleNamespace:
        assert where == device
        figures = iter(totals["mbpo" if method == "mbpo" else "dhmbpo"])
        return SimpleNamespace(phase=lambda: {"total": next(figures), "fit": 7.0})

    monkeypatch.setattr(speed_backbones, "Run", make)
    rows = speed_backbones.table(argparse.Namespace(phases=3, device=device, gpu=device == "cuda"))
    assert {title for title, *_ in rows} == {f"whole run, Hopper, 5,000 rows, {clock} time"}
    assert [(name, median) for _, name, median, _, _ in rows][:2] == [("mbpo", 100.0), ("dhmbpo", 50.0)]
    assert rows[0][4] == "fit 7.0" and rows[1][4] == "fit 7.0; 0.40 x mbpo"


def test_verbs_are_timed_and_work_as_before() -> None:
    run = object.__new__(speed_backbones.Run)
    run.spent, run.now = {}, time.process_time
    call = run._timed("fit_model", lambda number: sum(range(number)))
    assert call(200_000) == sum(range(200_000)) and call(3) == 3
    assert 0.0 < run.spent["fit_model"] < 10.0


def test_ways_to_step_take_turns_and_count_their_own_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each call makes two steps; the first, which translates, is not counted."""
    clock, modes = [0.0], []

    def make(name: str) -> SimpleNamespace:
        seconds = iter([9.0] + [0.002 if name == "bfloat16" else 0.004] * 3)
        agent = SimpleNamespace(_n_updates=0, batch_size=1)

        def train(calls: int, batch_size: int) -> None:
            agent._n_updates += 2
            clock[0] += next(seconds)
            modes.append((name, th.is_autocast_enabled("cpu")))

        agent.train = train
        return agent

    monkeypatch.setattr(speed_backbones, "_stepping", make)
    monkeypatch.setattr(speed_backbones.time, "process_time", lambda: clock[0])
    rows = {name: (median, note) for _, name, median, _, note in speed_backbones.tried(argparse.Namespace(repeats=3))}
    assert rows["as they are"] == (pytest.approx(2.0), "")
    assert rows["bfloat16"] == (pytest.approx(1.0), "0.50 x as they are")
    assert rows["compiled model"] == (pytest.approx(2.0), "1.00 x as they are")
    assert modes[:4] == [(name, name == "bfloat16") for name in rows]
