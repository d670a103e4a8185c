"""A copy of the real replay buffer on the device; only new rows are transferred."""

from collections.abc import Iterator, Sequence

import numpy as np
import torch as th


def newest_places(n_new: int, position: int, capacity: int) -> Iterator[tuple[int, int]]:
    """
    Ranges of the newest rows of a ring buffer.

    :param n_new: number of rows, at most ``capacity``
    :param position: row that will be written next
    :param capacity: rows of the ring
    :return: one or two ranges, first row and the one after the last; they may be empty
    """
    start = position - n_new
    yield max(start, 0), position
    if start < 0:  # the range wraps around
        yield capacity + start, capacity


class ResidentRows:
    """
    Tensors on the device that mirror numpy arrays which are written as a ring. They grow by doubling, so that a large buffer
    takes memory only as it fills.

    :param arrays: ``[buffer_size, ...]`` each
    :param device: of the copy
    """

    def __init__(self, arrays: Sequence[np.ndarray], device: th.device | str) -> None:
        self._arrays = arrays
        self._device = device
        self._copies = [th.from_numpy(array[:0]).to(device) for array in arrays]
        self._n_added = 0

    def update(self, n_added: int, position: int, size: int) -> list[th.Tensor]:
        """
        Copy the rows that were written since the last call; all of them the first time.

        :param n_added: rows ever written; the arrays hold the newest
        :param position: row that will be written next
        :param size: filled rows
        :return: the filled rows on the device, ``[size, ...]`` each; views that later calls change
        """
        capacity = len(self._arrays[0])
        # Fewer than before: another run's rows were loaded into the arrays
        n_new = min(n_added - self._n_added, size) if n_added >= self._n_added else size
        if size > len(self._copies[0]):
            n_new = size if len(self._copies[0]) == 0 else n_new
            self._grow(min(max(2 * len(self._copies[0]), size, 1024), capacity))
        for first, last in newest_places(n_new, position, capacity):
            self._send(first, last)
        self._n_added = n_added
        return [copy[:size] for copy in self._copies]

    def _send(self, first: int, last: int) -> None:
        for copy, array in zip(self._copies, self._arrays, strict=True):
            copy[first:last].copy_(th.from_numpy(array[first:last]))

    def _grow(self, n_rows: int) -> None:
        for index, old in enumerate(self._copies):  # one by one, so that not all of them are in memory twice
            grown = old.new_empty(n_rows, *old.shape[1:])
            grown[: len(old)] = old
            self._copies[index] = grown
