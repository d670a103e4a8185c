"""Run tables survive interruptions."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from sb3_tom.callbacks.tables import RunTable, read_table


def make_table(path: Path, env_step: int = 0, seed: int = 0) -> RunTable:
    return RunTable(path, ("env_step", "value"), {"task": "t", "seed": seed}, env_step)


def test_rows_are_on_disk_at_once_and_formatted(tmp_path: Path) -> None:
    path = tmp_path / "new" / "run.csv"
    make_table(path).append({"env_step": 10, "value": 1 / 3})
    assert path.read_text() == "task,seed,env_step,value\nt,0,10,0.333333\n"


@pytest.mark.parametrize("cut", [1, 4, 9])
def test_a_line_cut_by_an_interruption_is_dropped(tmp_path: Path, cut: int) -> None:
    path = tmp_path / "run.csv"
    make_table(path).append({"env_step": 10, "value": 1.5}, {"env_step": 20, "value": 2.5})
    path.write_bytes(path.read_bytes()[:-cut])
    assert [row["env_step"] for row in read_table(path)] == ["10"]
    make_table(path, env_step=10).append({"env_step": 20, "value": 3.5})
    assert [row["value"] for row in read_table(path)] == ["1.5", "3.5"]


def test_a_line_cut_within_a_letter_is_dropped(tmp_path: Path) -> None:
    path = tmp_path / "run.csv"
    labels = {"task": "t", "method": "größe"}
    RunTable(path, ("env_step",), labels).append({"env_step": 10}, {"env_step": 20})
    whole = path.read_bytes()
    path.write_bytes(whole[: whole.rindex("ö".encode()) + 1])
    assert read_table(path) == [{"task": "t", "method": "größe", "env_step": "10"}]
    RunTable(path, ("env_step",), labels, env_step=10).append({"env_step": 20})
    assert path.read_bytes() == whole


def test_a_header_cut_within_a_letter_leaves_nothing_to_keep(tmp_path: Path) -> None:
    path = tmp_path / "run.csv"
    path.write_bytes("task,gr\u00f6".encode()[:-1])
    RunTable(path, ("größe", "env_step"), {"task": "t"}).append({"größe": 1, "env_step": 10})
    assert read_table(path) == [{"task": "t", "größe": "1", "env_step": "10"}]


@pytest.mark.parametrize("label", ["a\u2028b", "a\x85b", "a\x0cb", "a\nb", 'a "b", c', "größe"])
def test_a_label_comes_back_whatever_letters_it_has(tmp_path: Path, label: str) -> None:
    path = tmp_path / "run.csv"
    labels = {"task": "t", "method": label}
    RunTable(path, ("env_step",), labels).append({"env_step": 10})
    RunTable(path, ("env_step",), labels, env_step=10).append({"env_step": 20})
    assert read_table(path) == [{**labels, "env_step": step} for step in ("10", "20")]


def test_a_table_cut_anywhere_is_the_rows_before(tmp_path: Path) -> None:
    """A label with a line break is quoted: the end of a line within it is none of a row."""
    path, labels = tmp_path / "run.csv", {"task": "a\nb"}
    for step in (10, 20):
        RunTable(path, ("env_step",), labels, env_step=step - 10).append({"env_step": step})
    whole = path.read_bytes()
    first = whole.index(b"20") - len(b'"a\nb",')
    for cut in range(first, len(whole)):
        path.write_bytes(whole[:cut])
        assert [row["env_step"] for row in read_table(path)] == ["10"]


def test_tables_are_utf8_whatever_the_locale(tmp_path: Path) -> None:
    program = """
import sys
from sb3_tom.callbacks.tables import RunTable, read_table
table = RunTable(sys.argv[1], ("env_step",), {"task": "gr\\xf6\\xdfe"})
table.append({"env_step": 10})
assert read_table(sys.argv[1]) == table.rows
"""
    environment = {**os.environ, "LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    subprocess.run([sys.executable, "-c", program, str(tmp_path / "run.csv")], env=environment, check=True)
    assert (tmp_path / "run.csv").read_bytes() == "task,env_step\ngröße,10\n".encode()


def test_a_resumed_run_keeps_what_lies_behind_it(tmp_path: Path) -> None:
    path = tmp_path / "run.csv"
    make_table(path).append(*({"env_step": step, "value": 0.0} for step in (10, 20, 30)))
    before = path.read_text()
    table = make_table(path, env_step=25)
    assert [row["env_step"] for row in table.rows] == ["10", "20"]
    assert path.read_text() == before, "it may not come to a row"
    table.append({"env_step": 40, "value": 0.0})
    assert [row["env_step"] for row in read_table(path)] == ["10", "20", "40"]
    again = make_table(path, env_step=40)
    again.keep(1)
    assert [row["env_step"] for row in read_table(path)] == ["10"]


def test_a_run_that_begins_anew_moves_the_file_of_the_one_before_aside(tmp_path: Path) -> None:
    path = tmp_path / "run.csv"
    texts = []
    for value in (1.0, 2.0, 3.0):
        make_table(path).append({"env_step": 0, "value": value})
        texts.append(path.read_text())
    fourth = make_table(path)
    assert path.read_text() == texts[-1] and not path.with_name("run.csv.3").exists(), "it may not come to a row"
    fourth.keep(0)
    assert read_table(path) == fourth.rows == [], "nothing yet, also not of step 0"
    assert [path.with_name(f"run.csv.{number}").read_text() for number in (1, 2, 3)] == texts
    make_table(path).append({"env_step": 0, "value": 4.0})
    assert not path.with_name("run.csv.4").exists(), "a file without rows is nobody's result"


def test_a_file_of_another_run_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "run.csv"
    make_table(path, seed=1).append({"env_step": 10, "value": 0.0})
    for env_step in (0, 10):
        with pytest.raises(ValueError, match="another run"):
            make_table(path, env_step=env_step, seed=2)
    with pytest.raises(ValueError, match="another run"):
        RunTable(path, ("env_step",), {"task": "t", "seed": 1}, 10)
    assert len(read_table(path)) == 1


def test_a_file_that_somebody_has_taken_away_meanwhile(tmp_path: Path) -> None:
    path = tmp_path / "run.csv"
    make_table(path).append({"env_step": 10, "value": 1.0})
    table = make_table(path)
    path.unlink()
    table.append({"env_step": 10, "value": 2.0})
    assert [row["value"] for row in read_table(path)] == ["2"]


@pytest.mark.parametrize(
    "text",
    [
        "the only line of a file of mine\n",
        "without an end of line",
        "task,seed,env_step,another\n",
        "mine\n\n\n",
        "task,seed,env_step,value\nt,0,10\nt,0,20,1.0\n",
        "task,seed,env_step,value\nt,0,ten,1.0\n",
        "task,seed,env_step,value\nt,0,10,1.0,2.0\n",
        f"{'x' * 200_000},y\n1,2\n",
    ],
)
def test_what_somebody_has_written_is_never_overwritten(tmp_path: Path, text: str) -> None:
    path = tmp_path / "run.csv"
    path.write_text(text)
    for env_step in (0, 10):
        with pytest.raises(ValueError, match=r"run\.csv (belongs to another run|is no CSV file)"):
            make_table(path, env_step)
    assert path.read_text() == text


def test_a_file_that_is_no_text_is_never_overwritten(tmp_path: Path) -> None:
    path = tmp_path / "run.csv"
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ValueError, match=r"run\.csv is no CSV file"):
        make_table(path)
    assert path.read_bytes() == b"\xff\xfe\x00"


@pytest.mark.parametrize("left", ["", "task,se", "task,seed,env_step,value", "task,seed,env_step,value\nt,0,1"])
def test_a_run_that_was_killed_before_its_first_row_leaves_nothing_to_keep(tmp_path: Path, left: str) -> None:
    path = tmp_path / "run.csv"
    path.write_text(left)
    make_table(path).append({"env_step": 10, "value": 1.5})
    assert path.read_text() == "task,seed,env_step,value\nt,0,10,1.5\n" and list(tmp_path.iterdir()) == [path]
