"""TOM's Appendix D: how far weights follow age, counted on known ones."""

from pathlib import Path

import numpy as np
import pytest
import weights_in_training as measured

from sb3_tom.callbacks.tables import read_table, write_table
from sb3_tom.callbacks.weight_by_age import AGE_COLUMNS

ROOT = Path(__file__).parents[2]


def test_known_weights() -> None:
    """Even ones say nothing. Of the other two phases one rises with newness, the other has its greatest in the middle."""
    weights = np.array([[1.0, 1.0, 1.0], [0.5, 1.0, 1.5], [0.4, 1.8, 0.8]])
    assert measured.counts(weights) == {
        "phases": 2,
        "older_first": 0.5,
        "older_heavier": 0.25,
        "oldest": pytest.approx(0.45),
        "newest": pytest.approx(1.15),
    }
    assert measured.counts(weights[:1])["phases"] == 0


def test_a_runs_table_is_read_oldest_first_phase_by_phase(tmp_path: Path) -> None:
    labels = {"task": "Hopper-v5", "method": "dhmbpo_tom", "seed": "3"}
    rows = [
        labels | dict.fromkeys(AGE_COLUMNS, "0") | {"env_step": step, "age_bin": str(age), "weight_mean": str(weight)}
        for step, weights in (("1000", (1.5, 0.5)), ("1250", (0.7, 1.3)))
        for age, weight in enumerate(weights)
    ]
    write_table(tmp_path / "a.csv", list(rows[0]), rows)
    found = measured.gather([tmp_path / "a.csv"])
    assert [(row["env_step"], row["bins"]) for row in found] == [("1000", "0.5 1.5"), ("1250", "1.3 0.7")]
    measured.draw(found, tmp_path / "picture.png")
    (row,) = read_table(tmp_path / "picture_summary.csv")
    assert float(row["older_first"]) == 0.5
    assert "| Hopper-v5 | `dhmbpo_tom` | 3 | 2 | 50 % | 50 % | 0.90 | 1.10 |" in measured.page_text(found)


def test_the_page_is_that_of_the_table() -> None:
    page = (ROOT / "docs" / "results" / "curated_buffer.md").read_text()
    between = page.partition(measured.BEGIN)[2].partition(measured.END)[0]
    assert between == "\n" + measured.page_text(read_table(ROOT / "docs" / "results" / "weights_in_training.csv"))
