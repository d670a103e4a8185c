"""Files that are damaged, foreign or of several runs: left out with a warning, or named."""

import io
import os
import pickle
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("matplotlib", reason="matplotlib is not installed: pip install 'sb3_tom[plots]'")
from sb3_tom.plots import read_runs
from sb3_tom.plots.__main__ import main
from tests.plots.tables import age_file, curve_file, error_file, log_files
from tests.plots.test_runs import CURVE, ROWS, STEP, labels, only


def test_a_csv_file_that_is_no_text_does_not_keep_the_others_from_being_drawn(tmp_path: Path) -> None:
    curve_file(tmp_path / "a.csv", "tom", 0, {50: 9.0})
    (tmp_path / "sheet.csv").write_bytes("größe;1\n".encode("utf-16"))
    with pytest.warns(UserWarning, match=r"sheet\.csv cannot be read .*no CSV file.*; the file is left out"):
        assert labels(only(read_runs(tmp_path))) == ("t", "tom", "0")
    with pytest.raises(ValueError, match=r"sheet\.csv cannot be read"):
        read_runs(tmp_path / "sheet.csv")


@pytest.mark.parametrize("file", [age_file, partial(error_file, errors={10: 1.0, 20: 0.5})])
def test_rows_of_two_runs_in_one_file_are_refused(tmp_path: Path, file: Any) -> None:
    """As two runs leave them that were started at the same time with the same csv_path."""
    first, second = (file(tmp_path / name, seed=seed).read_text() for seed, name in enumerate(("first.csv", "second.csv")))
    assert len(read_runs(tmp_path)) == 2
    (tmp_path / "second.csv").unlink()
    for more, what in ((second, r"'seed': '1'.* is not of the run \['t', 'tom', '0'\]"), (first, "is there twice")):
        (tmp_path / "first.csv").write_text(first + more.partition("\n")[2])
        with pytest.raises(ValueError, match=rf"first\.csv.*row \d+, .*{what}"):
            read_runs(tmp_path / "first.csv")


def test_the_last_row_of_a_log_that_was_cut_off_is_left_out(tmp_path: Path) -> None:
    """``2000,16`` may be the beginning of 1650.3."""
    path = tmp_path / "Hopper-v5" / "MBPO_1" / "progress.csv"
    path.parent.mkdir(parents=True)
    whole = f"{STEP},eval/mean_reward\n1000,1500.5\n2000,1650.3\n"
    for cut in (1, 4, 8):
        path.write_text(whole[:-cut])
        assert only(read_runs(path)).series == {"return_mean": {1000: 1500.5}}


def test_without_tensorboard(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """One line, and only where nothing else tells of the run."""
    monkeypatch.setitem(sys.modules, "tensorboard.backend.event_processing.event_accumulator", None)
    folder = tmp_path / "Hopper-v5" / "MBPO_1"
    folder.mkdir(parents=True)
    (folder / "events.out.tfevents.1").touch()
    for path in (tmp_path, folder / "events.out.tfevents.1"):
        with pytest.raises(SystemExit, match="2"):
            main(["curves", str(path), "--out", str(tmp_path / "a.png")])
        assert f"{folder} holds TensorBoard files; to read them: pip install tensorboard" in capsys.readouterr().err
    curve_file(folder.parent / "curve.csv", "tom", 0, {10: 1.0})
    with pytest.warns(UserWarning, match="holds TensorBoard files.*the other files of the run are drawn"):
        assert labels(only(read_runs(tmp_path))) == ("t", "tom", "0")
    curve_file(folder.parent / "other.csv", "tom", 1, {10: 1.0})
    with pytest.raises(ValueError, match="pip install tensorboard"):  # whose of the two the log is nobody knows
        read_runs(tmp_path)
    log_files(folder, ["csv"], ROWS)
    with pytest.warns(UserWarning, match="holds TensorBoard files"):
        assert len(read_runs(tmp_path)) == 3


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("none.csv", None, "no such file or folder"),
        ("notes.txt", "x\n", "is no file that can be drawn"),
        ("other.csv", "a,b\n1,2\n", "is no file that can be drawn"),
        ("bad.csv", "task,method,seed,env_step,return_mean\nt,m,0,ten,1\n", r"bad\.csv cannot be read as \*\.csv"),
        ("few.csv", f"{CURVE}t,m,0,10,1,1,1\nt,m,0,2\nt,m,0,30,1,1,1\n", r"few\.csv cannot be read.*row 2 has fewer values"),
        ("more.csv", f"{CURVE}t,m,0,10,1,1,1,1\n", r"more\.csv cannot be read.*row 1 has more values"),
        ("large.csv", f"{CURVE}{'x' * 200_000}\n", r"large\.csv cannot be read as \*\.csv.*field larger than"),
        ("progress.csv", f"{STEP},eval/mean_reward\n1,2,3\n", r"progress\.csv cannot be read.*row 1 has more values"),
        ("progress.csv", f"{STEP},eval/mean_reward\ninf,2\n", r"progress\.csv cannot be read as progress\.csv: OverflowErr"),
        ("progress.csv", f"{STEP},weight_by_age/rows\n1,5\n", r"progress\.csv cannot be read as progress\.csv: ZeroDivision"),
        ("seeds.csv", f"{CURVE}t,m,0,10,1,1,1\nt,m,1,10,9,9,1\n", r"seeds\.csv cannot be read.*row 2, .*'seed': '1'.* not of"),
        ("twice.csv", f"{CURVE}t,m,0,10,1,1,1\nt,m,0,10,9,9,1\n", r"twice\.csv cannot be read.*row 2, .*is there twice"),
    ],
)
def test_what_cannot_be_read_is_named(tmp_path: Path, name: str, text: str | None, message: str) -> None:
    path = tmp_path / name
    if text is not None:
        path.write_text(text)
    with pytest.raises(ValueError, match=message) as caught:
        read_runs(path)
    assert name in str(caught.value)


class Bomb:
    """Leaves a mark when it is unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.mark),)


def test_no_pickle_in_evaluations_is_opened(tmp_path: Path) -> None:
    ones = np.ones((1, 2))
    np.savez(tmp_path / "evaluations.npz", timesteps=np.array([Bomb(tmp_path / "mark")]), results=ones, ep_lengths=ones)
    with pytest.raises(ValueError, match=r"evaluations\.npz cannot be read as evaluations\.npz"):
        read_runs(tmp_path)
    assert not (tmp_path / "mark").exists()


def saved(save: Callable[..., None], *arrays: Any, **named: Any) -> bytes:
    """The bytes of a file of numpy's."""
    file = io.BytesIO()
    save(file, *arrays, **named)
    return file.getvalue()


PICKLED = pickle.dumps({"timesteps": [1]})


NUMBER_ALONE = saved(np.savez, timesteps=np.array(1), results=np.ones((1, 1)), ep_lengths=np.ones((1, 1)))


PACKED = saved(np.savez_compressed, timesteps=np.arange(2000), results=np.ones((2000, 1)), ep_lengths=np.ones((2000, 1)))


DAMAGED = PACKED[:300] + b"\xff" * 100 + PACKED[400:]


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 cut off", PICKLED, saved(np.save, np.ones(3)), NUMBER_ALONE, DAMAGED])
def test_a_spoiled_file_of_evaluations_is_named(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "evaluations.npz").write_bytes(content)
    with pytest.raises(ValueError, match=r"evaluations\.npz cannot be read as evaluations\.npz"):
        read_runs(tmp_path)


def test_a_damaged_curve_of_a_run_is_an_error(tmp_path: Path) -> None:
    """Left out, it would be missing from a mean over seeds."""
    for seed in (0, 1):
        curve_file(tmp_path / f"{seed}.csv", "tom", seed, {50: 9.0})
    with (tmp_path / "1.csv").open("ab") as file:
        file.write(b"t,tom,1,\xff\xff\n")
    with pytest.raises(ValueError, match=r"1\.csv .*no CSV file"):
        read_runs(tmp_path)
