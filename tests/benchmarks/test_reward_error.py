"""What a learned survive bonus costs: a model that knows it is right where an episode ends."""

from pathlib import Path

import pytest
import reward_error
from curves_jobs import Job

from sb3_tom.callbacks.tables import read_table
from tests.benchmarks.random_run import random_run

RESULTS = Path(__file__).parents[2] / "docs" / "results"


def test_page_is_that_of_the_table(tmp_path: Path) -> None:
    table = read_table(RESULTS / "reward_error.csv")
    page = (RESULTS / "README.md").read_text()
    between = page.partition(reward_error.BEGIN + "\n")[2].partition(reward_error.END)[0]
    assert between == reward_error.page_text(table)


def test_a_line_is_a_mean_over_buffers(tmp_path: Path) -> None:
    labels = {"task": "t", "method": "mbpo", "bonus": "10"}
    rows = [labels | {"terminal": terminal, "others": others} for terminal, others in (("4", "0.1"), ("6", "0.3"))]
    assert "| t | 10 | 2 | `mbpo` | 5.00 | 0.200 |" in reward_error.page_text(rows)


def test_no_model_phase_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="phases=0"):
        reward_error.run([], 0, tmp_path / "reward_error.csv")


@pytest.mark.filterwarnings("ignore:health/")
def test_the_jump_is_known(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """InvertedPendulum pays 1 for each step that does not end the episode, and nothing else: nothing is left to learn."""
    path, policy_kwargs = random_run(tmp_path, "mbpo")
    model = {"n_members": 2, "n_elites": 1, "net_arch": [32], "max_epochs": 4}
    small = {"dynamics_kwargs": model, "policy_kwargs": policy_kwargs}
    monkeypatch.setattr(Job, "agent_kwargs", lambda job: small | job.compared.settings(reward_error.TASKS[job.task]))
    monkeypatch.setattr(reward_error, "METHODS", ("mbpo", "mbpo_survive"))
    table = tmp_path / "reward_error.csv"
    reward_error.run([path], 2, table)
    reward_error.run([path], 2, table)  # nothing is missing
    learned, known = read_table(table)
    assert (learned["method"], known["method"], known["bonus"]) == ("mbpo", "mbpo_survive", "1")
    assert int(known["terminal_rows"]) >= 10
    assert float(known["terminal"]) < 0.1 < float(learned["terminal"])
