"""Files with a right checksum whose content no writer has written: one sentence, and no memory taken for what they promise."""

import hashlib
import json
import os
import tracemalloc
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch as th

from sb3_tom.checkpoint import archive, reading
from sb3_tom.checkpoint.archive import write_archive
from sb3_tom.checkpoint.reading import FORMAT, MAGIC, OPEN_DIGEST, TREE, open_archive, read_archive


def header(text: str) -> bytes:
    """Of a ``.npy`` file of version 2."""
    return b"\x93NUMPY\x02\x00" + len(text).to_bytes(4, "little") + text.encode()


def shaped(shape: str, descr: str = "'<f4'") -> bytes:
    return header(f"{{'descr': {descr}, 'fortran_order': False, 'shape': {shape}, }}\n")


Member = tuple[str, bytes, int]


def write(path: Path, members: list[Member]) -> None:
    """A zip with a right checksum."""
    with path.open("wb") as file:
        hashing = archive._HashingFile(file)
        with zipfile.ZipFile(hashing, "w") as whole:  # type: ignore[call-overload]
            whole.writestr(MAGIC, FORMAT)
            for name, data, kind in members:
                whole.writestr(name, data, kind)
            whole.comment = OPEN_DIGEST
        file.seek(-len(OPEN_DIGEST), os.SEEK_END)
        file.write(hashing.digest.hexdigest().encode())


def of_array(data: bytes, kind: int = zipfile.ZIP_STORED, refer: Any = None) -> list[Member]:
    node = {"!": "array", "name": "a"} if refer is None else refer
    return [("a.npy", data, kind), (TREE, json.dumps({"a": node}).encode(), zipfile.ZIP_DEFLATED)]


def of_tree(text: bytes) -> list[Member]:
    return [(TREE, text, zipfile.ZIP_DEFLATED)]


ONE = shaped("(1,)") + b"\0" * 4
TWICE = {"!": "tuple", "items": [{"!": "array", "name": "a"}] * 2}
BAD: dict[str, tuple[list[Member], str]] = {
    "shape": (of_array(shaped("(1000000000000,)") + b"\0" * 4), r"a\.npy says that it is float32 of shape \(1000000000000,\)"),
    "product": (of_array(shaped("(1000000, 1000000, 1000000)") + b"\0" * 4), "says that it is"),
    "negative": (of_array(shaped("(-1, -1)") + b"\0" * 4), "no array of numbers"),
    "length of the header": (of_array(b"\x93NUMPY\x02\x00\xff\xff\xff\xff" + b" " * 99), "array header"),
    "objects": (of_array(shaped("(1,)", "'|O'") + b"\0" * 8), "no array of numbers"),
    "voids": (of_array(shaped("(1,)", "'|V4'") + b"\0" * 4), "no array of numbers"),
    "texts": (of_array(shaped("(1,)", "'<U1'") + b"\0" * 4), "no array of numbers"),
    "fields": (of_array(shaped("(1,)", "[('a', '<f4')]") + b"\0" * 4), "no array of numbers"),
    "code in a header": (of_array(shaped("(1,)", "__import__('os')")), "malformed node"),
    "another version": (of_array(b"\x93NUMPY\x09\x00" + b" " * 99), r"\(9, 0\)"),
    "no array": (of_array(b"text"), "magic string"),
    "bzip2": (of_array(ONE, zipfile.ZIP_BZIP2), r"a\.npy is compressed in a way that no checkpoint is"),
    "lzma": (of_array(ONE, zipfile.ZIP_LZMA), "compressed in a way"),
    "two places": (of_array(ONE, refer=TWICE), "'a'"),
    "no place": (of_array(ONE, refer=1), r"does not refer to the arrays \['a'\]"),
    "a foreign member": ([("code.py", b"1", 0), *of_array(ONE)], r"code\.py belongs to no checkpoint"),
    "two members of one name": ([("a.npy", ONE, 0), *of_array(ONE)], "two members have one name"),
    "no tree": ([("a.npy", ONE, 0)], TREE),
    "depth": (of_tree(b"[" * 10**6 + b"]" * 10**6), "recursion"),
    "depth of dictionaries": (of_tree(b'{"a":' * 10**5 + b"1" + b"}" * 10**5), "recursion"),
    "number of values": (of_tree(b"[" + b"[]," * ((1 << 24) + 1) + b"[]]"), r"has 16777217 values; allowed: 16777216"),
    "length of the tree": (of_tree(b" " * ((1 << 28) + 1)), r"state\.json has 268435457 bytes"),
    "digits": (of_tree(b'{"a": ' + b"9" * 5000 + b"}"), "digits"),
    "no text": (of_tree(b"\xff\xfe\xff"), "decode"),
    "no dictionary": (of_tree(b"[1]"), "no dictionary"),
    "a scalar of any size": (of_tree(b'{"a": {"!": "scalar", "dtype": "V100000000000", "value": 1}}'), "no number"),
    "a scalar of text": (of_tree(b'{"a": {"!": "scalar", "dtype": "<f4", "value": "1"}}'), "no number"),
    "an object as a scalar": (of_tree(b'{"a": {"!": "scalar", "dtype": "|O", "value": 1}}'), "no number"),
    "an unknown kind": (of_tree(b'{"a": {"!": "pickle"}}'), "pickle"),
    "a kind that is a list": (of_tree(b'{"a": {"!": []}}'), "unhashable"),
    "a key that is a list": (of_tree(b'{"a": {"!": "dict", "items": [[[], 1]]}}'), "unhashable"),
    "items of a deque": (of_tree(b'{"a": {"!": "deque", "items": [], "maxlen": 1e400}}'), "integer"),
}


@pytest.mark.parametrize("case", BAD)
def test_what_no_writer_writes_is_refused(case: str, tmp_path: Path) -> None:
    members, message = BAD[case]
    write(tmp_path / "file.zip", members)
    tracemalloc.start()
    try:
        with pytest.raises(ValueError, match=rf"file\.zip is not usable as a checkpoint: .*({message})"):
            read_archive(tmp_path / "file.zip")
        assert tracemalloc.get_traced_memory()[1] < 2 * sum(len(data) for _, data, _ in members) + 20_000_000
    finally:
        tracemalloc.stop()


def test_more_than_the_machine_has(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_archive(tmp_path / "file.zip", {"a": np.zeros(10**6)})
    monkeypatch.setattr(reading, "total_memory", lambda device: 10**6)
    with pytest.raises(ValueError, match=r"it needs 8e\+06 bytes of memory, and this machine has 1e\+06"):
        read_archive(tmp_path / "file.zip")


def test_a_member_that_inflates_to_more_than_it_says(tmp_path: Path) -> None:
    """A hundred megabytes in a hundred kilobytes, of which the directory says that it is one small array."""
    path = tmp_path / "file.zip"
    bomb = ONE + b"\0" * 10**8
    write(path, of_array(bomb, zipfile.ZIP_DEFLATED))
    data = path.read_bytes().replace(len(bomb).to_bytes(4, "little"), len(ONE).to_bytes(4, "little"))
    body = data[: -len(OPEN_DIGEST)]
    path.write_bytes(body + hashlib.sha256(body + OPEN_DIGEST).hexdigest().encode())
    tracemalloc.start()
    with pytest.raises(ValueError, match="not usable"):
        read_archive(path)
    assert tracemalloc.get_traced_memory()[1] < 10_000_000
    tracemalloc.stop()


def test_an_outline_takes_no_memory(tmp_path: Path) -> None:
    state = {"array": np.zeros((1000, 200)), "tensor": th.ones(300, 1000), "half": th.ones(2, 3, dtype=th.bfloat16), "n": 1}
    write_archive(tmp_path / "file.zip", state)
    tracemalloc.start()
    with open_archive(tmp_path / "file.zip") as whole:
        outline = whole.outline()
        assert tracemalloc.get_traced_memory()[1] < 1_000_000 < whole.inflated
        tracemalloc.stop()
        loaded = whole.load()
    shape: Callable[[Any], Any] = lambda value: (value.dtype, tuple(value.shape))  # noqa: E731
    assert outline.pop("n") == loaded.pop("n") == state.pop("n") == 1
    assert {name: shape(value) for name, value in outline.items()} == {name: shape(value) for name, value in state.items()}
    assert whole.elements == 500_006
    th.testing.assert_close(loaded["tensor"], state["tensor"])
