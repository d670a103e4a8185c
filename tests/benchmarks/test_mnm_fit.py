"""What the measurement of MnM's models is made of: a classifier that converges, returns, blocks of rows, shapes of noise."""

from statistics import NormalDist

import mnm_fit
import pytest
import torch as th

from sb3_tom import Transitions
from tests.dynamics.cases import built, fit, make_data


@pytest.mark.expensive
def test_a_fresh_classifier_is_as_good_as_the_best_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of N(0, 1) and N(2, 1): right with the probability Phi(1); of a law and itself with 1/2, and a bit more by chance."""
    monkeypatch.setattr(mnm_fit, "MOST_STEPS", 400)
    data = make_data(3000)
    model = built("ensemble")
    fit(model, data)
    scale = model.target_scales()[1:]
    noise = th.randn(3000, 3, generator=th.Generator().manual_seed(10))
    real = data._replace(next_observations=data.observations + scale * noise)
    train, test = mnm_fit.blocks(real, 2, 3)
    generator = th.Generator().manual_seed(11)
    for shift, expected in ((0.0, 0.5), (2.0, NormalDist().cdf(1.0))):

        def outcomes(rows: Transitions, shift: float = shift) -> th.Tensor:
            made = th.randn(rows.size, 3, generator=generator) + th.tensor([shift, 0.0, 0.0])
            return rows.observations + scale * made

        found = mnm_fit.fresh_accuracy(mnm_fit.Features(model, train, False), outcomes, train, test, 0)
        assert abs(found - expected) < 0.03, (shift, found)


def test_returns_are_those_of_episodes_that_ended() -> None:
    """Two episodes, one cut by the time limit, and one that goes on: what its rows will be paid is not known."""
    zeros = th.zeros(6, 1)
    data = Transitions(
        zeros, zeros, zeros, th.tensor([[1.0], [2.0], [3.0], [4.0], [5.0], [6.0]]), zeros.clone(), zeros[:, 0].long()
    )
    data.terminated[1] = 1.0
    data.truncated[3] = 1.0
    assert mnm_fit.discounted_returns(data, 0.5).tolist() == [2.0, 2.0]


def test_blocks_are_whole_and_apart() -> None:
    data = make_data(1000)
    others, block = mnm_fit.blocks(data, 4, 5)
    assert th.equal(block.rewards, data.rewards[800:]) and th.equal(others.rewards, data.rewards[:800])


@pytest.mark.expensive
def test_noise_of_the_real_shape_is_harder_to_tell(monkeypatch: pytest.MonkeyPatch) -> None:
    """Residuals of a model that knows the mean, of two dimensions that are nearly the same one."""
    for name, value in {"MOST_STEPS": 400, "BLOCK": 500}.items():
        monkeypatch.setattr(mnm_fit, name, value)
    data = make_data(4000)
    common = th.randn(4000, 1, generator=th.Generator().manual_seed(10))
    own = th.randn(4000, 3, generator=th.Generator().manual_seed(11))
    scale = th.tensor([1.0, 20.0, 0.05])
    noise = th.cat([common, common + 0.1 * own[:, 1:2], own[:, 2:]], dim=1)
    data = data._replace(next_observations=data.observations + scale * noise)
    model = built("ensemble", max_epochs=10)
    fit(model, data)
    found = mnm_fit.shapes(model, data, 0)
    independent, apart, covariance, together = found.values()
    assert min(independent, apart) > 0.75 and max(covariance, together) < 0.6, found
