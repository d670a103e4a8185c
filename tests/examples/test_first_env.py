"""The first environment of the quickstart, with an agent of the size of a test."""

import re
import runpy
from pathlib import Path
from typing import Any

import pytest

import sb3_tom
from tests.policy_updates.double_horizon.cases import TINY

FILE = Path(__file__).parents[2] / "examples" / "first_env.py"


def test_it_trains_and_evaluates(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    trained = []

    class Small(sb3_tom.DHMBPO):
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            super().__init__(*args, **{**TINY, **kwargs, "learning_starts": 50})

        def learn(self, total_timesteps: int, *args: Any, **kwargs: Any) -> Any:
            trained.append(self)
            return super().learn(total_timesteps // 10, *args, **kwargs)

    monkeypatch.setattr(sb3_tom, "DHMBPO", Small)
    runpy.run_path(str(FILE), run_name="__main__")
    assert [agent.num_timesteps for agent in trained] == [100] and trained[0]._n_updates > 0
    returns = re.findall(r"\((?:np\.float64\()?(-[\d.]+)", capsys.readouterr().out)
    assert len(returns) == 2 and returns[0] != returns[1]
