"""Which rows a model's fit holds out: the same ones in each fit, so that none was trained on before."""

import torch as th

_MASK = 0xFFFFFFFF


def split_rows(arrivals: th.Tensor, share: float, most: int) -> tuple[th.Tensor, th.Tensor]:
    """
    Row numbers to train on and to hold out. Whether a row is held out is a function of when it came, and of nothing else while
    the share stands: no fit trains on what a later one holds out. Where ``most`` lowers the share as the data grow, held-out
    rows become rows to train on, and never the other way round.

    :param arrivals: ``[N]`` int64, what each row is known by, see :meth:`Context.arrivals`
    :param share: of the rows that is held out
    :param most: held-out rows at most, on average over data
    :return: two tensors of row numbers, in their order; all rows in both if one of them would be empty
    """
    held = scattered(arrivals) < min(share, most / max(arrivals.numel(), 1))
    train_rows, held_rows = th.nonzero(~held).flatten(), th.nonzero(held).flatten()
    if min(train_rows.numel(), held_rows.numel()) > 0:
        return train_rows, held_rows
    everything = th.arange(arrivals.numel(), device=arrivals.device)
    return everything, everything


def scattered(numbers: th.Tensor) -> th.Tensor:
    """
    A fixed pseudo-random figure for each integer: the 32 bit finaliser of MurmurHash3 (Appleby 2011, public domain).

    :param numbers: ``[N]`` int64
    :return: ``[N]`` float64 in [0, 1)
    """
    mixed = numbers & _MASK
    for shift, factor in ((16, 0x85EBCA6B), (13, 0xC2B2AE35)):
        mixed = ((mixed ^ (mixed >> shift)) * factor) & _MASK
    return (mixed ^ (mixed >> 16)).double() / 2.0**32
