"""Values of what past policies did, by age and by weights: distances that are known, and a run's own rows."""

from pathlib import Path
from typing import Any

import numpy as np
import pmac_visits
import pytest
from curves_methods import METHODS, VARIANTS

from sb3_tom import MBPO
from sb3_tom.checkpoint import ResumeCallback
from sb3_tom.weighters.pmac import PMACWeighter

SMALL: dict[str, Any] = {
    "rollout_batch_size": 20,
    "learning_starts": 30,
    "update_to_data_ratio": 1,
    "policy_kwargs": {"net_arch": [8]},
}


def test_distances_that_are_known() -> None:
    """A shift by so many standard deviations; weights that leave only the right half."""
    present = np.random.default_rng(0).normal(5.0, 2.0, 4_000)
    assert float(pmac_visits.summary("it", present, None, present)["distance"]) == 0.0
    assert float(pmac_visits.summary("shift", present - 6.0, None, present)["distance"]) == pytest.approx(3.0, rel=0.02)
    both, weights = np.concatenate([present, present - 100.0]), np.repeat([1.0, 0.0], 4_000)
    row = pmac_visits.summary("half", both, weights, present)
    assert float(row["distance"]) == pytest.approx(0.0, abs=1e-9)
    assert sum(float(row[f"bin_{number}"]) for number in range(pmac_visits.BINS)) == pytest.approx(1.0, abs=1e-3)
    assert float(pmac_visits.summary("half", both, None, present)["distance"]) == pytest.approx(50.0 / present.std(), rel=0.01)


def test_ages_of_a_run(tmp_path: Path) -> None:
    folder = tmp_path / "Reacher-v5" / "mbpo_seed3" / "checkpoints"
    agent = MBPO("MlpPolicy", "Reacher-v5", buffer_size=200, seed=3, dynamics="linear", **SMALL).learn(
        100, ResumeCallback(folder, 100)
    )
    rows = pmac_visits.measure(folder / "checkpoint_100_steps.zip", 0.9)
    assert [row["what"] for row in rows[:3]] == [pmac_visits.PRESENT, "rows 0 to 10 %", "rows 10 to 20 %"] and len(rows) == 13
    data = agent.replay_buffer.transitions()
    said = pmac_visits.values(agent, data.observations, data.actions)
    low, high = float(rows[1]["low"]), float(rows[1]["high"])
    for row, part in ((rows[1], said[:10]), (rows[10], said[90:])):
        expected, _ = np.histogram(np.clip(part, low, high), pmac_visits.BINS, (low, high))
        np.testing.assert_allclose([float(row[f"bin_{k}"]) for k in range(pmac_visits.BINS)], expected / 10, atol=1e-4)
    assert rows[1]["distance"] != rows[10]["distance"]
    assert all(float(row["distance"]) > 0.0 for row in rows[1:])
    (tmp_path / "model_error.md").write_text(f"hand\n{pmac_visits.BEGIN}old{pmac_visits.END}\nend\n")
    pmac_visits.write_table(tmp_path / "pmac_visits.csv", pmac_visits.COLUMNS, rows)
    pmac_visits.write_page(tmp_path)
    page = (tmp_path / "model_error.md").read_text()
    assert "| Reacher-v5 at 100 | `mbpo_seed3` |" in page and "old" not in page and page.startswith("hand\n")


def test_the_papers_ablations_are_methods() -> None:
    known = METHODS | VARIANTS
    assert known["mbpo_pmac_fit"].changes == {"weight_rollout_starts": False}
    assert known["mbpo_pmac_starts"].changes == {"weight_model_fit": False}
    rates = {method.weighter_kwargs["alpha"] for name, method in known.items() if name.startswith("mbpo_pmac_alpha")}
    assert rates == {0.5, 0.7, 0.8, 0.95, 0.99} and PMACWeighter().alpha == 0.9
