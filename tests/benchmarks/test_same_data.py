"""Models of different weights on the same data: one row per fit, and a page that divides by uniform weights' errors."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import run_checkpoints
import same_data
import torch as th
from curves_jobs import Job

from sb3_tom import MBPO
from sb3_tom.callbacks.model_error import Episode
from sb3_tom.callbacks.tables import read_table, write_table
from sb3_tom.checkpoint import ResumeCallback
from tests.mbpo.small import SMALL_WEIGHTERS

ROOT = Path(__file__).parents[2]
NEAR = (("a", "0.9"), ("b", "0.3"))
TINY: dict[str, Any] = {"dynamics": "linear", "rollout_batch_size": 20, "learning_starts": 30, "update_to_data_ratio": 1}


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    """The last checkpoint of a short run."""
    folder = tmp_path / "Reacher-v5" / "mbpo_seed3" / "checkpoints"
    agent = MBPO("MlpPolicy", "Reacher-v5", buffer_size=200, policy_kwargs={"net_arch": [8]}, seed=3, **TINY)
    agent.learn(120, callback=ResumeCallback(folder, 60))
    return folder / "checkpoint_120_steps.zip"


def test_each_method_is_fitted_to_the_same_data_once(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    weighters = {
        "mbpo": {"weighter": "uniform"},
        "mbpo_pmac": {"weighter": "pmac", "weighter_kwargs": SMALL_WEIGHTERS["pmac"]},
    }
    monkeypatch.setattr(Job, "agent_kwargs", lambda job: TINY | weighters[job.method])
    monkeypatch.setattr(same_data, "NEWEST", 50)
    table = tmp_path / "out" / "same_data.csv"
    same_data.run([checkpoint], ["mbpo"], 1, table)
    first = table.read_text()
    same_data.run([checkpoint], ["mbpo", "mbpo_pmac"], 1, table)
    assert table.read_text().startswith(first), "what is there is kept"
    rows = read_table(table)
    assert [(row["run"], row["env_step"], row["rows"], row["method"]) for row in rows] == [
        ("mbpo_seed3", "120", "120", "mbpo"),
        ("mbpo_seed3", "120", "120", "mbpo_pmac"),
    ]
    assert float(rows[0]["ess"]) == 1.0 > float(rows[1]["ess"])
    assert 0.0 <= float(rows[0]["near_newest"]) == float(rows[1]["near_newest"]) <= 1.0
    for row in rows:
        assert all(float(row[name]) > 0.0 for name in same_data.ERRORS)


def test_each_phase_weighs_the_data_and_the_models_asked_for_are_measured(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Weights by the model's error: even before the first model, uneven after it. A later phase starts all phases anew."""
    monkeypatch.setattr(Job, "agent_kwargs", lambda job: TINY | {"weighter": "error"})
    monkeypatch.setattr(same_data, "NEWEST", 50)
    tables = {name: tmp_path / name / "same_data.csv" for name in ("both", "in_turn")}
    same_data.run([checkpoint], ["mbpo_error"], 1, tables["both"], (1, 3))
    for phases in ((1,), (3,)):
        same_data.run([checkpoint], ["mbpo_error"], 1, tables["in_turn"], phases)
    first, third = read_table(tables["both"])
    assert (first["phases"], third["phases"]) == ("1", "3")
    assert float(first["ess"]) == 1.0 > float(third["ess"])
    assert tables["both"].read_text() == tables["in_turn"].read_text()


def test_which_rows_the_policy_is_near_to() -> None:
    agent = MBPO("MlpPolicy", "Pendulum-v1", buffer_size=4000, seed=0)
    place = np.zeros((1, 3), dtype=np.float32)
    for row in range(3000):
        agent.replay_buffer.add(place + row, place + row, np.zeros((1, 1)), np.zeros(1), np.zeros(1), [{}])
    found = [
        same_data.near_newest(agent, [Episode(th.linspace(low, low + 500, 200).unsqueeze(1).expand(-1, 3), th.zeros(199, 1))])
        for low in (2300.0, 900.0)
    ]
    assert found == [1.0, 0.0]


def test_a_path_without_task_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="allowed: <task>/<run>"):
        same_data.describe(tmp_path / "checkpoint_5_steps.zip")


def test_a_run_of_no_known_method_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="no method is called 'mbpo_tomm'; allowed: <task>/<method>_seed<number>"):
        run_checkpoints.resumed(tmp_path / "Hopper-v5" / "mbpo_tomm_seed0" / "checkpoints" / "checkpoint_5_steps.zip")


def test_no_phase_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="phases=0 is not allowed"):
        same_data.run([], ["mbpo"], 1, tmp_path / "same_data.csv", phases=(1, 0))


def test_the_page_divides_by_uniform_weights_on_the_same_buffer(tmp_path: Path) -> None:
    errors = {
        ("a", "mbpo"): (1.0, 2.0),
        ("a", "mbpo_tom"): (2.0, 1.0),
        ("b", "mbpo"): (1.0, 1.0),
        ("b", "mbpo_tom"): (2.0, 8.0),
    }
    labels = {
        "task": "Hopper-v5",
        "env_step": "1000",
        "rows": "1000",
        "near_newest": "0.9",
        "phases": "1",
        "fit": "0",
        "5_steps": "1.0",
        "20_steps": "",
    }
    rows = [
        labels | {"run": run, "method": method, "ess": "0.5", "global": str(both[0]), "local": str(both[1])}
        for (run, method), both in errors.items()
    ]
    write_table(tmp_path / "same_data.csv", same_data.COLUMNS, rows)
    (tmp_path / "model_error.md").write_text(f"hand\n{same_data.BEGIN}old{same_data.END}\nend\n")
    same_data.write_page(tmp_path)
    page = (tmp_path / "model_error.md").read_text()
    assert page.startswith("hand\n") and page.endswith("\nend\n") and "old" not in page
    assert "### Hopper-v5, mbpo: 2 runs, 2 buffers, 1 model phase\n" in page
    drawn = read_table(tmp_path / "same_data_summary.csv")
    assert [(row["run"], float(row["local"])) for row in drawn] == [("a", 0.5), ("b", 8.0)]
    # local: a half with one buffer, eight times as much with the other; nobody lives for 20 steps
    assert "| `mbpo_tom` | 0.50 | 2.00 | 2.00 | 4.25 | 0.50 to 8.00 | 1 of 2 | 1.00 | - |" in page
    apart = same_data.near_line([[row | {"near_newest": near} for row in rows if row["run"] == run] for run, near in NEAR])
    assert "`mbpo_tom` 1 of 1 above, 0 of 1 below" in apart


def test_only_buffers_that_both_were_fitted_to_are_compared() -> None:
    """Two of three; of these one has two fits. On the third, uniform weights have no error."""
    errors = {("mbpo", "1"): [4.0], ("mbpo_tom", "1"): [1.0, 4.0], ("mbpo", "2"): [1.0], ("mbpo_tom", "2"): [2.0]}
    errors |= {("mbpo", "3"): [""], ("mbpo_tom", "3"): [100.0]}
    rows = [
        {"method": method, "env_step": step, "local": str(error)} for (method, step), some in errors.items() for error in some
    ]
    assert same_data._ratios([rows], "mbpo_tom", "local") == pytest.approx([1.0])


def test_the_page_is_that_of_the_table() -> None:
    page = (ROOT / "docs" / "results" / "model_error.md").read_text()
    between = page.partition(same_data.BEGIN)[2].partition(same_data.END)[0]
    table = ROOT / "docs" / "results" / "same_data.csv"
    assert between == "\n" + same_data.page_text(read_table(table) if table.exists() else [])
