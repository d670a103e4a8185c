"""A matrix that can be resized without a second copy in memory."""

import mmap

import numpy as np
import torch as th

CHUNK = 2**22
"""Numbers that are copied at a time while rows are moved: 16 MB."""


_PRIVATE: dict[str, int] = {"flags": mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS} if hasattr(mmap, "MAP_PRIVATE") else {}
"""Not shared with the processes of a ``SubprocVecEnv``; Windows has no such flags."""


class GrowingRows:
    """
    A float32 matrix on a device. On the CPU its memory is a mapping, which Linux extends or moves without a copy; on another
    device a resize goes through the host. (``numpy.ndarray.resize`` copies, and PyTorch cannot resize in place.)

    :param n_rows: number of rows, uninitialised
    :param width: of a row
    :param device: of the matrix
    """

    def __init__(self, n_rows: int, width: int, device: th.device | str) -> None:
        self._device = th.device(device)
        self._shape = (n_rows, width)
        is_here = self._device.type == "cpu"
        self._map = self._new_map(n_rows) if is_here else None
        self._elsewhere = None if is_here else th.empty(self._shape, device=self._device)

    @property
    def tensor(self) -> th.Tensor:
        """The rows ``[n_rows, width]``, not copied."""
        if self._elsewhere is not None:
            return self._elsewhere
        if 0 in self._shape or self._map is None:
            return th.empty(self._shape)
        # The memoryview, which th.frombuffer would not keep, prevents the mapping from moving under the tensor
        return th.from_numpy(np.asarray(memoryview(self._map)).view(np.float32).reshape(self._shape))

    def resize(self, n_rows: int) -> None:
        """
        Change the number of rows. The first ones are kept; new ones are uninitialised. Without memory for them nothing
        changes, so that the rows can be saved.

        :param n_rows: new number of rows
        """
        if self._map is None:
            self._resize_elsewhere(n_rows)
        else:
            self._resize_map(self._map, n_rows)
        self._shape = (n_rows, self._shape[1])

    def _resize_elsewhere(self, n_rows: int) -> None:
        kept = self.tensor.cpu()
        self._elsewhere = None  # free it before the new one is allocated
        try:
            resized = th.empty((n_rows, self._shape[1]), device=self._device)
        except RuntimeError:
            self._elsewhere = kept.to(self._device)
            raise
        resized[: len(kept)] = kept[:n_rows]
        self._elsewhere = resized

    def _resize_map(self, old: mmap.mmap, n_rows: int) -> None:
        try:
            old.resize(self._n_bytes(n_rows))
        except (BufferError, SystemError, OSError):  # a tensor still refers to it, or the system cannot resize
            new = self._new_map(n_rows)
            n_kept = 4 * min(n_rows, self._shape[0]) * self._shape[1]
            memoryview(new)[:n_kept] = memoryview(old)[:n_kept]
            self._map = new

    def _n_bytes(self, n_rows: int) -> int:
        return max(4 * n_rows * self._shape[1], 1)  # a mapping cannot be empty

    def _new_map(self, n_rows: int) -> mmap.mmap:
        return mmap.mmap(-1, self._n_bytes(n_rows), **_PRIVATE)

    def __getstate__(self) -> th.Tensor:
        return self.tensor.clone()  # a mapping can be neither copied nor pickled

    def __setstate__(self, rows: th.Tensor) -> None:
        GrowingRows.__init__(self, rows.shape[0], rows.shape[1], rows.device)
        self.tensor.copy_(rows)


def rotate(rows: th.Tensor, first: int) -> None:
    """
    Bring row ``first`` to the front and those before it to the end, in place: three reversals.

    :param rows: ``[N, width]``
    :param first: in [0, N)
    """
    if first:
        for part in (rows[:first], rows[first:], rows):
            _reverse(part)


def _reverse(rows: th.Tensor) -> None:
    low, high = 0, rows.shape[0]
    most = max(CHUNK // rows.shape[1], 1)
    while high - low > 1:
        n_rows = min(most, (high - low) // 2)
        front = rows[low : low + n_rows].flip(0)
        rows[low : low + n_rows] = rows[high - n_rows : high].flip(0)
        rows[high - n_rows : high] = front
        low, high = low + n_rows, high - n_rows
