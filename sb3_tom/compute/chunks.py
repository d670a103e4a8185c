"""Passes through networks without gradients, in pieces: activations that leave a processor's cache cost half of the time."""

from collections.abc import Iterable

import torch as th

_ROWS = 4096
_ROWS_ON_A_DEVICE = 1 << 17


def rows_at_once(device: th.device, passes: int = 1) -> int:
    """
    How many rows to send through a network together (measured in docs/performance.md).

    :param device: of the network
    :param passes: rows that the network sees for each one, as members of an ensemble or several actions at a state
    :return: at least 1
    """
    rows = _ROWS if device.type == "cpu" else _ROWS_ON_A_DEVICE
    return max(1, rows // passes)


def evenly(n_rows: int, n_most: int, device: th.device) -> th.Tensor:
    """
    Some of many rows, from the first on at equal distances.

    :param n_rows: number N of rows
    :param n_most: how many to take; all if there are fewer
    :param device: of the numbers
    :return: int64 ``[min(n_most, N)]``, rising
    """
    n_taken = min(n_rows, n_most)
    return th.arange(n_taken, device=device) * n_rows // n_taken


def joined(parts: Iterable[th.Tensor], n_rows: int) -> th.Tensor:
    """
    What pieces gave, one after the other. Each is written to its place when it is made: if small results were kept between the
    large activations of the pieces, the memory of these could not be used again, and a process would grow by all of them.

    :param parts: at least one, of one type, rows first
    :param n_rows: rows of all together
    """
    whole: th.Tensor | None = None
    first = 0
    for part in parts:
        whole = part.new_empty(n_rows, *part.shape[1:]) if whole is None else whole
        whole[first : first + len(part)] = part
        first += len(part)
    assert whole is not None and first == n_rows
    return whole
