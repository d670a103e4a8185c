"""The file: every value comes back, writes are atomic, and no damage goes unnoticed."""

import collections
import math
import os
import pickle
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch as th
from hypothesis import given, settings
from hypothesis import strategies as st

from sb3_tom.checkpoint import archive, reading
from sb3_tom.checkpoint.archive import write_archive
from sb3_tom.checkpoint.reading import is_archive, open_archive, read_archive
from tests.checkpoint.equal import assert_equal

VALUES: dict[str, Any] = {
    "plain": [None, True, -3, 2**200, 0.1, -0.0, math.inf, "ö\n", ""],
    "nan": math.nan,
    "nested": {"a": ({"b": [1, (2,)]}, []), 3: "integer key", None: "none", "!": "key of a kind", (1, 2): "tuple"},
    "deque": collections.deque([{"r": 1.5}], maxlen=3),
    "counter": collections.Counter({"a": 3, 2: 1}),
    "default": collections.defaultdict(int, {"a": 3, 2: 1}),
    "defaults": collections.defaultdict(list, {1: [2]}),
    "no default": collections.defaultdict(None, {1: 2}),
    "scalars": [np.float32(0.1), np.int64(7), np.bool_(True), np.float64("nan")],
    "arrays": [np.arange(6.0).reshape(2, 3), np.zeros((0, 4)), np.array(3), np.array([True]), np.array([1 + 2j])],
    "strided": np.arange(24).reshape(2, 3, 4)[:, ::2, 1],
    "fortran": np.asfortranarray(np.arange(6.0).reshape(2, 3)),
    "tensors": [th.arange(5)[1:], th.ones(2, 2, dtype=th.bfloat16), th.tensor(True), th.zeros(0, 3), th.zeros(3)[::2]],
    "repetitive": np.tile(np.arange(3, dtype=np.int64), 5000).reshape(5, -1).T,
    "parameter": th.nn.Parameter(th.ones(2)),
}


def test_values_come_back(tmp_path: Path) -> None:
    write_archive(tmp_path / "new" / "file.zip", VALUES)
    assert_equal(read_archive(tmp_path / "new" / "file.zip"), {**VALUES, "parameter": th.ones(2)})


PLAIN = st.none() | st.booleans() | st.integers() | st.floats() | st.text()
NESTED = st.recursive(
    PLAIN | st.builds(lambda values: np.array(values, dtype=np.float32), st.lists(st.floats(width=32), max_size=4)),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(PLAIN, inner, max_size=3) | st.tuples(inner, inner),
    max_leaves=10,
)


@given(state=st.dictionaries(st.text(max_size=5), NESTED, max_size=4))
@settings(max_examples=50)
def test_any_nest_comes_back(state: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.getbasetemp() / "nest.zip"
    write_archive(path, state)
    assert_equal(read_archive(path), state)


def test_numpy_reads_it_too(tmp_path: Path) -> None:
    write_archive(tmp_path / "file.zip", {"rows": {"a": np.arange(3)}})
    np.testing.assert_array_equal(np.load(tmp_path / "file.zip", allow_pickle=False)["rows/a"], np.arange(3))


@pytest.mark.parametrize("value", [object(), {1}, b"bytes", np.array([object()]), lambda: 0, 1j])
def test_other_values_are_refused_by_their_place(value: Any, tmp_path: Path) -> None:
    with pytest.raises(TypeError, match="/deep/1"):
        write_archive(tmp_path / "file.zip", {"deep": [0, value]})
    assert list(tmp_path.iterdir()) == []


def small_file(folder: Path) -> Path:
    path = folder / "checkpoint.zip"
    write_archive(path, {"array": np.arange(4, dtype=np.int16), "text": "x", "tensor": th.ones(2)})
    return path


def test_every_flipped_bit_is_noticed(tmp_path: Path) -> None:
    """Each byte of the file, one bit at a time in turn: headers, data, directory, digest."""
    path = small_file(tmp_path)
    whole = path.read_bytes()
    for index in range(len(whole)):
        damaged = bytearray(whole)
        damaged[index] ^= 1 << index % 8
        path.write_bytes(damaged)
        with pytest.raises(ValueError, match=r"checkpoint\.zip is not usable as a checkpoint: .*damaged"):
            read_archive(path)


def test_every_truncation_is_noticed(tmp_path: Path) -> None:
    path = small_file(tmp_path)
    whole = path.read_bytes()
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        with pytest.raises(ValueError, match=r"checkpoint\.zip is not usable as a checkpoint: .*damaged"):
            read_archive(path)
    path.write_bytes(whole + b"0")
    with pytest.raises(ValueError, match="damaged"):
        read_archive(path)


def test_foreign_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"none\.zip.*no such file"):
        read_archive(tmp_path / "none.zip")
    with pytest.raises(ValueError, match="no such file"):
        read_archive(tmp_path)
    path = tmp_path / "foreign.zip"
    with zipfile.ZipFile(path, "w") as foreign:
        foreign.writestr("data", "{}")
    texts = [path.read_bytes(), b"", b"PK\x03\x04", b"just a text\n" * 100, pickle.dumps({"a": 1}), os.urandom(500)]
    for text in texts:
        path.write_bytes(text)
        assert not is_archive(path)
        with pytest.raises(ValueError, match=r"foreign\.zip.*is not a checkpoint of sb3_tom"):
            read_archive(path)


class Bomb:
    """Leaves a mark when it is unpickled."""

    def __reduce__(self) -> Any:
        return os.mkdir, (str(MARK),)


MARK = Path("/nonexistent")


def test_a_pickle_inside_is_not_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file with a right digest, whose arrays hold pickled objects."""
    monkeypatch.setattr(f"{__name__}.MARK", tmp_path / "mark")
    monkeypatch.setattr(archive, "_write_array", lambda member, array: np.lib.format.write_array(member, np.array([Bomb()])))
    write_archive(tmp_path / "file.zip", {"array": np.arange(3)})
    monkeypatch.undo()
    with pytest.raises(ValueError, match=r"file\.zip is not usable.*"):
        read_archive(tmp_path / "file.zip")
    assert not (tmp_path / "mark").exists()


@pytest.mark.parametrize("moment", ["hash", "array", "fsync", "replace"])
def test_a_write_that_fails_leaves_the_last_file(moment: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = small_file(tmp_path)
    before = path.read_bytes()

    def fail(*args: Any, **kwargs: Any) -> None:
        raise OSError("no space left on device")

    target = {"hash": (archive._HashingFile, "write"), "array": (archive, "_write_array")}
    target |= {"fsync": (os, "fsync"), "replace": (Path, "replace")}  # type: ignore[dict-item]
    monkeypatch.setattr(*target[moment], fail)
    with pytest.raises(OSError, match="no space left"):
        write_archive(path, {"array": np.zeros(9)})
    monkeypatch.undo()
    assert path.read_bytes() == before
    assert [file.name for file in tmp_path.iterdir()] == [path.name]
    read_archive(path)


def test_what_could_not_be_read_is_not_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "MOST_VALUES", 100)
    state: dict[str, Any] = {"callbacks": {"Mine": {"returns": [0.5] * 101}, "Yours": [1, 2]}, "agent": {"a": 1}}
    with pytest.raises(ValueError, match=r"^callbacks/Mine/returns has more single values than .*; allowed: arrays"):
        write_archive(tmp_path / "file.zip", state)
    assert list(tmp_path.iterdir()) == []
    state["callbacks"]["Mine"]["returns"] = np.full(101, 0.5)
    write_archive(tmp_path / "file.zip", state)
    assert_equal(read_archive(tmp_path / "file.zip"), state)


def test_no_more_is_compressed_than_a_reader_takes_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "LARGEST_REST", 40_000)
    state = {name: np.zeros(2_000) for name in "abcde"}  # 16,000 bytes each
    write_archive(tmp_path / "file.zip", state)
    with open_archive(tmp_path / "file.zip") as written:
        assert 30_000 < written.inflated < 40_000
        assert_equal(written.load(), state)
