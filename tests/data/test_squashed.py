"""Actions before tanh."""

import pytest
import torch as th
from stable_baselines3.common.distributions import TanhBijector

from sb3_tom.data.squashed import SQUASH_EPSILON, before_tanh


def test_is_the_inverse_and_the_derivative_of_tanh() -> None:
    inner = th.linspace(-3.0, 3.0, 13, dtype=th.float64, requires_grad=True)
    actions = inner.tanh()
    (slope,) = th.autograd.grad(actions.sum(), inner)
    found, log_slope = before_tanh(actions.detach())
    th.testing.assert_close(found, inner.detach())
    th.testing.assert_close(log_slope, (slope + SQUASH_EPSILON).log())
    th.testing.assert_close(log_slope, TanhBijector().log_prob_correction(inner.detach()))


@pytest.mark.parametrize("dtype", [th.float32, th.float64])
def test_the_bounds_are_finite_and_symmetric(dtype: th.dtype) -> None:
    found, log_slope = before_tanh(th.tensor([-1.0, 1.0], dtype=dtype))
    assert bool(th.isfinite(found).all() & th.isfinite(log_slope).all())
    assert float(found[0]) == -float(found[1]) and float(log_slope[0]) == float(log_slope[1])
    assert float(found[1].tanh()) == pytest.approx(1.0)
