"""Which rows a model's fit holds out: the same in each fit, so that none was trained on before."""

import torch as th

_MASK = 0xFFFFFFFF


def split_rows(arrivals: th.Tensor, share: float, most: int) -> tuple[th.Tensor, th.Tensor]:
    """
    Row numbers to train on and to hold out. At a fixed share the choice depends on a row's insertion number only: no fit
    trains on rows that a later one holds out. When ``most`` lowers the share as the data grow, held-out rows become training
    rows, never the reverse.

    :param arrivals: ``[N]`` int64, insertion numbers, see :meth:`Context.arrivals`
    :param share: probability that a row is held out
    :param most: maximum number of held-out rows, on average
    :return: two tensors of row numbers, in ascending order; all rows in both if one of them would be empty
    """
    held = hash_to_unit_interval(arrivals) < min(share, most / max(arrivals.numel(), 1))
    train_rows, held_rows = th.nonzero(~held).flatten(), th.nonzero(held).flatten()
    if min(train_rows.numel(), held_rows.numel()) > 0:
        return train_rows, held_rows
    everything = th.arange(arrivals.numel(), device=arrivals.device)
    return everything, everything


def hash_to_unit_interval(numbers: th.Tensor) -> th.Tensor:
    """
    A hash of each integer: the 32-bit finaliser of MurmurHash3 (Appleby 2011, public domain).

    :param numbers: ``[N]`` int64
    :return: ``[N]`` float64 in [0, 1)
    """
    mixed = numbers & _MASK
    for shift, factor in ((16, 0x85EBCA6B), (13, 0xC2B2AE35)):
        mixed = ((mixed ^ (mixed >> shift)) * factor) & _MASK
    return (mixed ^ (mixed >> 16)).double() / 2.0**32
