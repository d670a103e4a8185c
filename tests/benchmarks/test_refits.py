"""Refits to a growing buffer: each fit sees the rows so far and is judged on the newest, all, and the next ones."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import refits
import torch as th
from curves_jobs import Job

from sb3_tom.objectives.mnm import MnMObjective
from tests.dynamics.cases import make_data
from tests.mbpo.small import small_agent


def test_a_fit_per_growth_and_its_errors(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"FIRST": {"Hopper-v5": 60}, "EVERY": 20, "REFITS": 2, "FIRST_FITS": 2}.items():
        monkeypatch.setattr(refits, name, value)
    agent, data, sizes = small_agent(), make_data(120), []
    data = data._replace(actions=data.actions[:, :1])  # Pendulum's
    fit = agent.dynamics.fit

    def seen(rows: Any, *arguments: Any) -> Any:
        assert th.equal(rows.observations, data.observations[: rows.size])
        sizes.append(rows.size)
        return fit(rows, *arguments)

    monkeypatch.setattr(agent.dynamics, "fit", seen)
    monkeypatch.setattr(refits, "make_agent", lambda job: agent)
    found = refits.measure(Job("Hopper-v5", "dhmbpo", 0, 0, 0, {}), data)
    assert sizes == [60, 60, 80, 100]
    assert [row["rows"] for row in found] == [60, 80, 100]
    for part, rows in {"newest": th.arange(80, 100), "all": th.arange(100), "next": th.arange(100, 120)}.items():
        assert found[-1][part] == pytest.approx(float(agent.dynamics.validation_error(data.rows(rows)).mean().detach()))


def test_a_run_that_is_too_short_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    env = SimpleNamespace(close=lambda: None)
    monkeypatch.setattr(refits, "resumed", lambda path: (small_agent().learn(60), env))
    with pytest.raises(SystemExit, match=r"short.zip is not allowed: it has 60 rows; allowed: at least 6250"):
        refits.rows_of(Path("short.zip"), 6250)


def test_mnm_begins_as_often_with_the_likelihood_as_the_measurement() -> None:
    objective = MnMObjective()
    assert objective.likelihood_fits == refits.FIRST_FITS
    for name, arguments in refits.SETTINGS.items():
        assert ("objective" in arguments) == name.startswith("mnm")
        assert MnMObjective(**arguments.get("objective_kwargs", {"value_coef": 0.0})).value_coef == 0.0
