"""Chunked network evaluation without gradients: activations that do not fit a processor's cache double the time."""

from collections.abc import Iterable

import torch as th

_ROWS = 4096
_ROWS_ON_A_DEVICE = 1 << 17


def rows_at_once(device: th.device, passes: int = 1) -> int:
    """
    Number of rows to evaluate at once (measured in docs/performance.md).

    :param device: of the network
    :param passes: network inputs per row: members of an ensemble, or several actions at a state
    :return: at least 1
    """
    rows = _ROWS if device.type == "cpu" else _ROWS_ON_A_DEVICE
    return max(1, rows // passes)


def evenly(n_rows: int, n_most: int, device: th.device) -> th.Tensor:
    """
    Row numbers at equal distances, beginning with the first row.

    :param n_rows: number N of rows
    :param n_most: maximum number of row numbers
    :param device: of the row numbers
    :return: int64 ``[min(n_most, N)]``, ascending
    """
    n_taken = min(n_rows, n_most)
    return th.arange(n_taken, device=device) * n_rows // n_taken


def joined(parts: Iterable[th.Tensor], n_rows: int) -> th.Tensor:
    """
    Concatenate results of chunks. Each is written to its place when it is made: small results kept between the large
    activations of the chunks would keep the memory of these from being reused, and the process would grow.

    :param parts: at least one, of one dtype, rows first
    :param n_rows: total number of rows
    """
    whole: th.Tensor | None = None
    first = 0
    for part in parts:
        whole = part.new_empty(n_rows, *part.shape[1:]) if whole is None else whole
        whole[first : first + len(part)] = part
        first += len(part)
    assert whole is not None and first == n_rows
    return whole
