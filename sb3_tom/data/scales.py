"""Whether a column of data varies, whatever its unit, and what to divide by where it does not."""

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
    Scales to divide by.

    :param scale: any shape, at least 0
    :return: the same, 1 where it is 0
    """
    return th.where(scale > 0, scale, 1.0)
