"""What a model knows of rows by their value: the page is that of the table, and rows without weight are not learned."""

from pathlib import Path

import pytest
import value_quarters
from curves_jobs import Job

from sb3_tom.callbacks.tables import read_table
from tests.benchmarks.random_run import random_run

RESULTS = Path(__file__).parents[2] / "docs" / "results"


def test_page_is_that_of_the_table() -> None:
    page = (RESULTS / "README.md").read_text()
    between = page.partition(value_quarters.BEGIN + "\n")[2].partition(value_quarters.END)[0]
    assert between == value_quarters.page_text(read_table(RESULTS / "value_quarters.csv"))


def test_a_line_is_over_runs() -> None:
    labels = {"task": "t", "method": "dhmbpo_value", "uniform_error": "0.5"}
    rows = [
        labels | {"run": run, "quarter": quarter, "weight": weight, "error": error}
        for run, error in (("a", "0.5"), ("b", "2.0"))
        for quarter, weight in (("1", "0.2"), ("2", "0.8"))
    ]
    assert "| t | `dhmbpo_value` | 2 | 0.20, 0.80 | 2.00, 2.00 |" in value_quarters.page_text(rows)


def test_no_model_phase_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="phases=0"):
        value_quarters.run([], 0, tmp_path / "value_quarters.csv")


@pytest.mark.filterwarnings("ignore:health/")
def test_rows_without_weight_are_not_learned(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """RECALL gives all weight to the last quarter."""
    path, policy_kwargs = random_run(tmp_path, "mbpo_recall")
    model = {"n_members": 2, "n_elites": 1, "net_arch": [32], "max_epochs": 20, "first_max_epochs": 20}
    small = {"dynamics_kwargs": model, "policy_kwargs": policy_kwargs}
    monkeypatch.setattr(Job, "agent_kwargs", lambda job: small | {"weighter": job.compared.weighter})
    table = tmp_path / "value_quarters.csv"
    value_quarters.run([path], 2, table)
    value_quarters.run([path], 2, table)  # nothing is missing
    rows = read_table(table)
    assert [(row["method"], row["quarter"]) for row in rows] == [("mbpo_recall", number) for number in "1234"]
    assert [float(row["weight"]) for row in rows] == pytest.approx([0.0, 0.0, 0.0, 1.0], abs=0.02)
    ratios = [float(row["error"]) / float(row["uniform_error"]) for row in rows]
    assert ratios[0] > 1.2 > ratios[3]
