"""
Reads the file of a checkpoint, which is not trusted: first its outline, which has the shapes of all arrays without memory for
them, then the numbers. Nothing is unpickled, imported or evaluated, and no more memory is allocated than the file declares.
"""

import hashlib
import io
import json
import math
import os
import sys
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import torch as th

from sb3_tom.checkpoint.codec import NUMERIC, decode
from sb3_tom.compute.memory import total_memory

MAGIC = "sb3_tom_checkpoint"
"""Name of the first member; its content is the version of the format."""

FORMAT = b"1"
TREE = "state.json"
DIGEST_LENGTH = 64
OPEN_DIGEST = b"0" * DIGEST_LENGTH
"""Placeholder of the digest in the zip's comment, the last bytes of the file, while the digest is computed."""

CHUNK = 1 << 22

LARGEST_TEXT = 1 << 28
"""Maximum size of the uncompressed tree in bytes: it holds names and single numbers."""

MOST_VALUES = 1 << 24
"""Maximum number of values in the tree: each becomes a Python object, many times as large as its text."""

LARGEST_REST = 1 << 30
"""Maximum size of compressed arrays outside the replay buffer in bytes: of envs, callbacks and plugs."""

_OF_PYTHON = (ArithmeticError, AssertionError, AttributeError, EOFError, LookupError, MemoryError, RuntimeError)
_OF_CONTENT = (SyntaxError, TypeError, ValueError, zipfile.BadZipFile, zlib.error)
MALFORMED = (*_OF_PYTHON, *_OF_CONTENT)
"""Errors that Python, numpy and zipfile raise for malformed content."""

_HEADER = 1 << 14
"""Maximum size of an array's header in bytes."""

_HEADERS: dict[tuple[int, int], Callable[[Any], tuple[tuple[int, ...], bool, np.dtype[Any]]]] = {
    (1, 0): np.lib.format.read_array_header_1_0,
    (2, 0): np.lib.format.read_array_header_2_0,
}


class Archive:
    """
    An open checkpoint that is complete.

    :param path: of the file, for messages
    :param archive: the open zip
    :ivar elements: how many numbers all of its arrays hold
    :ivar inflated: uncompressed size of the compressed arrays in bytes
    """

    def __init__(self, path: str | os.PathLike[str], archive: zipfile.ZipFile) -> None:
        self.path = os.fspath(path)
        self._archive = archive
        with unusable(path):
            members = _members(archive)
            self._tree = json.loads(_text(archive, members.pop(TREE)))
            self._outlines = {name.removesuffix(".npy"): _outline(archive, info) for name, info in members.items()}
            self.elements = sum(array.size for array in self._outlines.values())
            self.inflated = sum(info.file_size for info in members.values() if info.compress_type == zipfile.ZIP_DEFLATED)
            self.outline()

    def outline(self) -> dict[str, Any]:
        """The state with arrays and tensors of the right shapes and types, but without their numbers."""
        return self._decoded(self._outlines.__getitem__)

    def load(self) -> dict[str, Any]:
        """The whole state."""
        with unusable(self.path):
            return self._decoded(self._array)

    def _decoded(self, take: Callable[[str], np.ndarray]) -> dict[str, Any]:
        """Decode the tree; each array is used exactly once, so that no two places share memory."""
        left = dict.fromkeys(self._outlines)

        def take_once(name: str) -> np.ndarray:
            left.pop(name)
            return take(name)

        state = decode(self._tree, take_once)
        if not isinstance(state, dict) or left:
            raise ValueError(f"its state is no dictionary, or does not refer to the arrays {sorted(left)[:3]}")
        return state

    def _array(self, name: str) -> np.ndarray:
        with self._archive.open(name + ".npy") as member:
            array: np.ndarray = np.lib.format.read_array(member, allow_pickle=False)
        return array


@contextmanager
def unusable(path: str | os.PathLike[str]) -> Iterator[None]:
    """
    Turn errors about malformed content into ValueErrors that name the file.

    :param path: of the file
    :raises ValueError: naming it
    """
    try:
        yield
    except MALFORMED as error:
        raise _unusable(path, f"its content is of another version of sb3_tom: {error}") from error


def _unusable(path: str | os.PathLike[str], what: str) -> ValueError:
    return ValueError(f"{os.fspath(path)} is not usable as a checkpoint: {what}")


def is_archive(path: str | os.PathLike[str]) -> bool:
    """
    Whether a file begins like a checkpoint; it may be damaged.

    :param path: any path
    """
    target = Path(path)
    if not target.is_file():
        return False
    with target.open("rb") as file:
        start = file.read(30 + len(MAGIC))
    return start.startswith(b"PK\x03\x04") and start[30:] == MAGIC.encode()


@contextmanager
def open_archive(path: str | os.PathLike[str]) -> Iterator[Archive]:
    """
    Open a checkpoint that :func:`sb3_tom.checkpoint.archive.write_archive` wrote.

    :param path: the file
    :return: the archive, with its outline read
    :raises ValueError: naming the file and what is wrong: it does not exist, is not a checkpoint, is cut off, damaged or
        malformed
    """
    if not Path(path).is_file():
        raise ValueError(f"path={os.fspath(path)!r} is not allowed: there is no such file; allowed: a checkpoint of sb3_tom")
    if not is_archive(path):
        raise _unusable(path, "it is not a checkpoint of sb3_tom, or its first bytes are damaged")
    with Path(path).open("rb") as file:
        if not _is_whole(file):
            raise _unusable(path, "it is cut off or damaged: its checksum does not fit its content")
        with unusable(path):
            archive = zipfile.ZipFile(file)
        with archive:
            yield Archive(path, archive)


def read_archive(path: str | os.PathLike[str]) -> dict[str, Any]:
    """
    Read a checkpoint at once.

    :param path: the file
    :return: the state
    :raises ValueError: see :func:`open_archive`
    """
    with open_archive(path) as archive:
        return archive.load()


def _is_whole(file: BinaryIO) -> bool:
    """Whether the digest at the end matches the content."""
    remaining = file.seek(0, os.SEEK_END) - DIGEST_LENGTH
    file.seek(0)
    digest = hashlib.sha256()
    while remaining > 0 and (block := file.read(min(CHUNK, remaining))):
        digest.update(block)
        remaining -= len(block)
    digest.update(OPEN_DIGEST)
    return file.read() == digest.hexdigest().encode()


def _members(archive: zipfile.ZipFile) -> dict[str, zipfile.ZipInfo]:
    """All members but the first, after checks of their format and of the memory that they need."""
    members = {info.filename: info for info in archive.infolist()}
    if len(members) != len(archive.infolist()):
        raise ValueError("two members have one name")
    for name, info in members.items():
        if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED) or info.flag_bits & 1:
            raise ValueError(f"{name} is compressed in a way that no checkpoint is")
        if name not in (MAGIC, TREE) and not name.endswith(".npy"):
            raise ValueError(f"{name} belongs to no checkpoint")
    needed, there = sum(info.file_size for info in members.values()), total_memory(th.device("cpu")) or sys.maxsize
    if needed > there:
        raise ValueError(f"it needs {needed:.3g} bytes of memory, and this machine has {there:.3g}")
    version = _start(archive, members.pop(MAGIC), 64)
    if version != FORMAT:
        raise ValueError(f"format {version!r}; this version reads {FORMAT!r}")
    return members


def _start(archive: zipfile.ZipFile, info: zipfile.ZipInfo, length: int) -> bytes:
    """The first bytes of a member; zipfile inflates no more than these."""
    with archive.open(info) as member:
        return member.read(length)


def _text(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> bytes:
    if info.file_size > LARGEST_TEXT:
        raise ValueError(f"{TREE} has {info.file_size} bytes; allowed: {LARGEST_TEXT}")
    text = _start(archive, info, info.file_size + 1)
    if text.count(b",") > MOST_VALUES:
        raise ValueError(f"{TREE} has {text.count(b',')} values; allowed: {MOST_VALUES}")
    return text


def _outline(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> np.ndarray:
    """An array with shape and type of the header, whose size must match the member's; all entries share one number."""
    start = io.BytesIO(_start(archive, info, _HEADER))
    shape, _, dtype = _HEADERS[np.lib.format.read_magic(start)](start)
    if dtype.kind not in NUMERIC or any(size < 0 for size in shape):
        raise ValueError(f"{info.filename} is no array of numbers: {dtype} {shape}")
    if start.tell() + math.prod(shape) * dtype.itemsize != info.file_size:
        raise ValueError(f"{info.filename} says that it is {dtype} of shape {shape}, which its {info.file_size} bytes are not")
    return np.lib.stride_tricks.as_strided(np.zeros(1, dtype), shape, (0,) * len(shape))
