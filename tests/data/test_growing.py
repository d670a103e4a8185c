"""Rows that grow and shrink without being held twice."""

import copy
import pickle
import subprocess
import sys
import weakref
from typing import Any

import pytest
import torch as th
from hypothesis import given, settings
from hypothesis import strategies as st

from sb3_tom.data import growing
from sb3_tom.data.growing import GrowingRows, rotate
from sb3_tom.data.imagined import ImaginedBuffer
from tests.pretended_cuda import CUDA, pretended_cuda


@settings(deadline=None)
@given(n_rows=st.integers(1, 40), first=st.integers(0, 39), chunk=st.integers(1, 25))
def test_rotate_is_roll(n_rows: int, first: int, chunk: int) -> None:
    rows = th.arange(2.0 * n_rows).view(n_rows, 2)
    expected = rows.roll(-(first % n_rows), dims=0)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(growing, "CHUNK", chunk)
        rotate(rows, first % n_rows)
    assert th.equal(rows, expected)


@pytest.mark.parametrize("sizes", [(5, 9), (9, 5), (0, 4), (4, 0), (4, 4), (100_000, 200_000)])
def test_the_first_rows_stay(sizes: tuple[int, int]) -> None:
    before, after = sizes
    rows = GrowingRows(before, 3, "cpu")
    rows.tensor[:] = th.arange(3.0 * before).view(before, 3)
    rows.resize(after)
    kept = min(sizes)
    assert rows.tensor.shape == (after, 3) and rows.tensor.dtype == th.float32
    assert th.equal(rows.tensor[:kept], th.arange(3.0 * kept).view(kept, 3))


@pytest.mark.parametrize("after", [3, 200_000])
def test_who_still_looks_at_rows_sees_what_they_were(after: int) -> None:
    rows = GrowingRows(100_000, 3, "cpu")
    rows.tensor.fill_(7.0)
    view = rows.tensor[10:20]
    rows.resize(after)
    rows.tensor.fill_(1.0)
    assert th.equal(view, th.full((10, 3), 7.0))


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda rows: pickle.loads(pickle.dumps(rows))])
def test_a_copy_has_rows_of_its_own(copied: Any) -> None:
    rows = GrowingRows(5, 3, "cpu")
    rows.tensor.fill_(7.0)
    other = copied(rows)
    rows.tensor.fill_(1.0)
    other.resize(6)
    assert th.equal(other.tensor[:5], th.full((5, 3), 7.0))


def test_rows_that_do_not_fit_leave_what_there_was() -> None:
    rows = GrowingRows(3, 2, "cpu")
    rows.tensor.fill_(7.0)
    with pytest.raises((OSError, OverflowError, MemoryError, ValueError)):
        rows.resize(10**15)
    assert rows.tensor.tolist() == [[7.0, 7.0]] * 3
    rows.resize(4)
    assert rows.tensor[:3].tolist() == [[7.0, 7.0]] * 3 and rows.tensor.shape == (4, 2)


def test_on_a_device_the_old_rows_are_gone_before_there_are_new_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also of a ring in the middle of its round."""
    made: list[Any] = []
    empty = th.empty

    def watched(*args: Any, **kwargs: Any) -> th.Tensor:
        assert not [one for one in made if one() is not None], "the old rows are still held"
        result = empty(*args, **kwargs)
        made.append(weakref.ref(result))
        return result

    with pretended_cuda():
        monkeypatch.setattr(growing.th, "empty", watched)
        rows = GrowingRows(6, 2, CUDA)
        rows.tensor.copy_(th.arange(12.0).view(6, 2))
        for n_rows in (9, 4):
            rows.resize(n_rows)
            assert rows.tensor.device == CUDA
            assert rows.tensor[:4].cpu().tolist() == th.arange(8.0).view(4, 2).tolist()
    assert len(made) == 3


PEAK = """
import resource
import torch as th
from sb3_tom.contracts.types import Transitions
from sb3_tom.data.imagined import ImaginedBuffer

def fill(ring, n_rows):
    for _ in range(n_rows // 1000):
        wide, narrow = th.zeros(1000, 100), th.zeros(1000, 1)
        batch = Transitions(wide, narrow, wide, narrow, narrow, narrow[:, 0].long())
        ring.add(batch, th.ones(1000, dtype=th.bool))

ring = ImaginedBuffer(200_000, 100, 1, "cpu")
fill(ring, 230_000)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
ring.resize(300_000)
print(before, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, ring.size)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="elsewhere memory may have to be moved by a copy")
def test_the_memory_of_a_ring_that_grows_has_no_peak() -> None:
    """203 floats a row: 162 MB become 244 MB; a copy of the old ones would add as much again."""
    done = subprocess.run([sys.executable, "-c", PEAK], capture_output=True, text=True, check=True)
    before, after, size = map(int, done.stdout.split())
    assert size == 200_000
    assert 1024 * (after - before) < 100_000 * ImaginedBuffer.row_bytes(100, 1) + 3 * 4 * growing.CHUNK
