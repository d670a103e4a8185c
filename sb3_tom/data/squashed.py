"""Actions before tanh, which squashes SAC's Gaussian into [-1, 1]."""

import torch as th

SQUASH_EPSILON = 1e-6
"""Is added to the derivative of tanh, as in SB3's ``SquashedDiagGaussianDistribution``."""


def before_tanh(actions: th.Tensor) -> tuple[th.Tensor, th.Tensor]:
    """
    What tanh has squashed.

    :param actions: ``[..., A]`` in [-1, 1]; moved off the bounds, where a density is not defined
    :return: the values before tanh, and the logarithm of the derivative of tanh there, ``[..., A]`` each
    """
    inside = 1.0 - th.finfo(actions.dtype).eps
    actions = actions.clamp(-inside, inside)
    return th.atanh(actions), th.log(1.0 - actions.square() + SQUASH_EPSILON)
