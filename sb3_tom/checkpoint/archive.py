"""
The file of a checkpoint: a zip of ``.npy`` files and JSON that is written atomically and ends with a SHA-256 of all of its
bytes. Only arrays that compress well are compressed.

Any zip tool and ``numpy.load`` can read it. Reading it unpickles nothing and runs no code.
"""

import hashlib
import json
import os
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from sb3_tom.checkpoint import reading
from sb3_tom.checkpoint.codec import Encoder
from sb3_tom.checkpoint.reading import DIGEST_LENGTH, FORMAT, MAGIC, OPEN_DIGEST, TREE
from sb3_tom.checkpoint.replacing import replaced

_SAMPLE = 1 << 15
_HEADER_AT_MOST = 1 << 10
"""Upper bound of the size of an array's header in bytes."""


class _HashingFile:
    """A file that cannot seek, so that zipfile writes every byte once and in order."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.digest = hashlib.sha256()

    def write(self, data: Any) -> int:
        self.digest.update(data)
        return self._file.write(data)

    def flush(self) -> None:
        self._file.flush()


def write_archive(path: str | os.PathLike[str], state: Mapping[str, Any], durable: bool = True) -> None:
    """
    Write a checkpoint atomically: the file appears under its name in one step, complete, or not at all.

    :param path: the file; its folder is created
    :param state: nested values that :class:`sb3_tom.checkpoint.codec.Encoder` supports
    :param durable: wait until it is on the disk, as :func:`make_durable` does. Without it the file survives the end of this
        process, but perhaps not of the machine, which the checksum then reveals
    :raises TypeError: if the state holds other values
    :raises ValueError: if the state holds more values outside arrays than a reader accepts, naming its largest part
    """
    encoder = Encoder()
    encoded = encoder(dict(state))
    tree = json.dumps(encoded)
    if tree.count(",") > reading.MOST_VALUES or len(tree) > reading.LARGEST_TEXT:
        raise ValueError(
            f"{_largest(encoded) or 'the run'} has more single values than a checkpoint can hold; allowed: arrays of them"
        )
    target = Path(path)
    with replaced(target) as partial, partial.open("wb") as file:
        digest = _write_members(file, encoder.arrays, tree)
        file.seek(-DIGEST_LENGTH, os.SEEK_END)
        file.write(digest.encode())
        file.flush()
        if durable:
            os.fsync(file.fileno())
    if durable:
        _sync_folder(target.parent)


def _largest(tree: Any, path: str = "") -> str:
    """Path to the part of a tree that has most of its text."""
    children = tree.items() if isinstance(tree, dict) else ()
    sizes = {key: len(json.dumps(value)) for key, value in children}
    if not sizes or 2 * max(sizes.values()) < sum(sizes.values()):
        return path.strip("/")
    key = max(sizes, key=lambda one: sizes[one])
    return _largest(tree[key], f"{path}/{key}")


def make_durable(path: str | os.PathLike[str]) -> None:
    """
    Wait until a file and its name are on the disk.

    :param path: the file
    """
    with Path(path).open("rb") as file:
        os.fsync(file.fileno())
    _sync_folder(Path(path).parent)


def _write_members(file: BinaryIO, arrays: Mapping[str, np.ndarray], tree: str) -> str:
    """Write the zip; return the digest of its bytes."""
    hashing, room = _HashingFile(file), reading.LARGEST_REST
    with zipfile.ZipFile(hashing, "w", compresslevel=1) as archive:  # type: ignore[call-overload]
        archive.writestr(MAGIC, FORMAT)
        for name, array in arrays.items():
            info = zipfile.ZipInfo(name + ".npy")
            shrinks = array.nbytes < room and _is_repetitive(array)  # a reader accepts no more compressed bytes
            info.compress_type = zipfile.ZIP_DEFLATED if shrinks else zipfile.ZIP_STORED
            room -= array.nbytes + _HEADER_AT_MOST if shrinks else 0
            with archive.open(info, "w", force_zip64=True) as member:
                _write_array(member, array)
        archive.writestr(TREE, tree, zipfile.ZIP_DEFLATED)
        archive.comment = OPEN_DIGEST
    return hashing.digest.hexdigest()


def _is_repetitive(array: np.ndarray) -> bool:
    """Whether its first bytes compress to a fifth: flags, versions and weights do, observations and networks do not."""
    sample = np.ascontiguousarray(array.reshape(-1)[: _SAMPLE // array.itemsize]).tobytes()
    return len(sample) > 1024 and len(zlib.compress(sample, 1)) < len(sample) / 5


def _write_array(member: Any, array: np.ndarray) -> None:
    """Like ``numpy.save``, but without its copy of every array that goes into a zip."""
    array = np.asarray(array, order="C")
    np.lib.format.write_array_header_2_0(member, np.lib.format.header_data_from_array_1_0(array))
    if array.size:
        member.write(array.reshape(-1).view(np.uint8).data)


def _sync_folder(folder: Path) -> None:
    """Make the new name survive a power failure too, where the system can open folders."""
    if os.name != "posix":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
