"""Whether a column of data varies by more than float32 rounding, whatever its unit, and scales to divide by."""

import torch as th

ROUNDING = 2.0 * th.finfo(th.float32).eps
"""A standard deviation below this multiple of the greatest magnitude is float32 rounding."""


def varies(std: th.Tensor, magnitude: th.Tensor) -> th.Tensor:
    """
    Which columns vary.

    :param std: ``[D]`` standard deviations of columns, or of their differences
    :param magnitude: ``[D]`` greatest absolute value of each column
    :return: ``[D]`` bool; False also for a column of zeros
    """
    return std > ROUNDING * magnitude


def one_for_zero(scale: th.Tensor) -> th.Tensor:
    """
    Scales that one can divide by.

    :param scale: any shape, at least 0
    :return: the same, but 1 where it is 0
    """
    return th.where(scale > 0, scale, 1.0)
