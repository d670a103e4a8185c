"""The table of speed: what was not measured again stays."""

from pathlib import Path

import speed

from sb3_tom.callbacks.tables import read_table


def row(part: str, median: float) -> dict[str, object]:
    return {**dict.fromkeys(speed.COLUMNS, "x"), "part": part, "median": median}


def test_rows_of_other_parts_stay(tmp_path: Path) -> None:
    path = tmp_path / "speed.csv"
    speed.write([row("update", 2.0), row("rollouts", 3.0)], path)
    speed.write([row("rollouts", 4.0), row("memory", 5.0)], path)
    assert [(found["part"], found["median"]) for found in read_table(path)] == [
        ("update", "2"),
        ("rollouts", "4"),
        ("memory", "5"),
    ]
