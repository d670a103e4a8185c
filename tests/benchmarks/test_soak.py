"""Long runs: what the file has is not run again, and a warning in it is not forgotten."""

import sys
from pathlib import Path
from typing import Any

import pytest
import soak

from sb3_tom.callbacks.tables import read_table


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str]]:
    """The agents that were trained, each of which takes no time and warns on Pendulum with "pmac"."""
    pairs: list[tuple[str, str]] = []

    def train(task: str, weighter: str, updates: int, width: int) -> dict[str, Any]:
        pairs.append((task, weighter))
        known = {"task": task, "weighter": weighter, "updates": updates}
        warned = {"health_warnings": "health/x"} if pairs[-1] == ("Pendulum-v1", "pmac") else {}
        return dict.fromkeys(soak.COLUMNS, "") | known | warned

    monkeypatch.setattr(soak, "soak", train)
    monkeypatch.setattr(soak.th, "set_num_threads", lambda _: None)
    return pairs


def run(monkeypatch: pytest.MonkeyPatch, path: Path, updates: int) -> int:
    monkeypatch.setattr(sys, "argv", ["soak.py", "--updates", str(updates), "--out", str(path)])
    return soak.main()


def test_only_what_is_missing_is_trained(asked: list[Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    path = tmp_path / "soak.csv"
    assert run(monkeypatch, path, 60) == 1 and len(asked) == 6
    assert [row["updates"] for row in read_table(path)] == ["10"] * 6
    lines = path.read_text().splitlines()
    path.write_text("\n".join(lines[:-1]) + "\n")
    asked.clear()
    assert run(monkeypatch, path, 60) == 1 and asked == [("InvertedPendulum-v5", "tom")]
    assert path.read_text().splitlines() == lines
    asked.clear()
    assert run(monkeypatch, path, 120) == 1 and len(asked) == 6, "of fewer updates"
    assert [row["updates"] for row in read_table(path)] == ["20"] * 6
