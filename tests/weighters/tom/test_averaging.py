"""The mean of weights over s': against known conditional means, and a noise whose mean is known."""

import numpy as np
import pytest
import torch as th

from sb3_tom.contracts.types import Transitions
from sb3_tom.weighters.tom import averaging, holdout
from sb3_tom.weighters.tom.averaging import average_next, random_folds
from tests.weighters.small import VARIANTS, built, context, fit_and_weigh, transitions
from tests.weighters.tom.finite_mdp import collected, random_mdp
from tests.weighters.tom.test_tom_finite_mdp import GivenRatio, weigh


def noisy(n_rows: int, seed: int = 0) -> tuple[Transitions, th.Tensor]:
    """Rows, and the noise ``[N]`` of the first next observation."""
    data = transitions(n_rows, seed=seed)
    noise = th.randn(n_rows, generator=th.Generator().manual_seed(seed + 1))
    following = data.next_observations.clone()
    following[:, 0] = 0.9 * data.observations[:, 0] + noise
    return data._replace(next_observations=following), noise


def averaged(weights: th.Tensor, data: Transitions, seed: int = 0) -> th.Tensor:
    return average_next(weights, th.arange(data.size), data, 400, context(seed))


def test_it_is_the_mean_given_state_and_action() -> None:
    """``exp(a + noise - 1/2)`` has the mean exp(a); the noise of a row's own weight is gone."""
    data, noise = noisy(8_000)
    mean = data.actions[:, 0].exp()
    found = averaged(mean * (noise - 0.5).exp(), data)
    assert float(found.mean()) == pytest.approx(1.0)
    ratio = found / (mean / mean.mean())
    assert float(ratio.log().std()) < 0.15
    assert abs(float(th.corrcoef(th.stack([ratio, noise]))[0, 1])) < 4 / 8_000**0.5
    tilted = mean * (noise - 0.5).exp()
    assert float((tilted * noise).mean() / tilted.mean()) > 0.5
    assert abs(float((found * noise).mean())) < 4 * float(found.square().mean().sqrt()) / 8_000**0.5


def test_randomness_comes_from_the_context_only() -> None:
    data, noise = noisy(400)
    weights, state = data.actions[:, 0].exp() + 0.1 * noise.exp(), th.get_rng_state()
    first = averaged(weights, data)
    assert th.equal(averaged(weights, data), first)
    assert th.equal(th.get_rng_state(), state)
    assert not th.equal(averaged(weights, data, seed=1), first)


def test_pure_noise_becomes_nothing() -> None:
    data, noise = noisy(4_000)
    assert float(averaged(noise.exp(), data).std()) < 0.05


def test_rows_beyond_the_given_ones_are_weighed_too() -> None:
    data, noise = noisy(8_000)
    weights = (data.actions[:, 0] + 0.1 * noise).exp()
    rows = th.arange(0, 8_000, 4)
    found = average_next(weights[rows], rows, data, 400, context())
    assert float(th.corrcoef(th.stack([found.log(), data.actions[:, 0].double()]))[0, 1]) > 0.97


@pytest.mark.parametrize(("n_rows", "n_envs"), [(1, 1), (3, 1), (40, 1), (999, 4), (5_000, 1)])
def test_folds_are_blocks_of_neighbours(n_rows: int, n_envs: int) -> None:
    folds = random_folds(n_rows, th.Generator().manual_seed(0), n_envs)
    assert folds.shape == (n_rows,)
    assert set(folds.tolist()) <= set(range(4))
    if n_rows >= 999:
        sizes = th.bincount(folds, minlength=4) / n_rows
        assert float(sizes.amin()) > 0.2
        of_env = folds[::n_envs]
        assert float((of_env[1:] != of_env[:-1]).float().mean()) < 0.1


@pytest.mark.parametrize("n_rows", [1, 2, 5])
def test_few_rows(n_rows: int) -> None:
    data = transitions(400).rows(th.arange(n_rows))
    found = averaged(th.ones(n_rows), data)
    assert th.allclose(found, th.ones(n_rows, dtype=th.float64))
    uneven = averaged(th.arange(1.0, n_rows + 1.0), data)
    assert th.allclose(uneven, th.ones(n_rows, dtype=th.float64)), "too few to learn from: all alike, in units of their mean"


@pytest.mark.parametrize("arguments", VARIANTS, ids=str)
def test_toms_weights_do_not_depend_on_the_next_state(arguments: dict[str, object]) -> None:
    """Rows with the same (s, a) in one fold weigh the same, whatever their s'; a fold's blocks have 25 rows here."""
    data = transitions(400)
    twins = data.rows(th.arange(400) // 50 * 50)._replace(next_observations=data.next_observations)
    weights = th.as_tensor(fit_and_weigh(built(**{**arguments, "average_next": True}), twins, context())).view(16, 25)
    th.testing.assert_close(weights, weights[:, :1].expand(16, 25))


@pytest.mark.parametrize("seed", range(2))
def test_the_law_of_a_finite_mdp_stays(seed: int) -> None:
    """With a log-ratio that errs by s', the weighted data have another law of s' than the data; averaged, the same."""
    problem = collected(random_mdp(seed, gamma=1.0), seed)
    log_ratio = np.log(problem.occupancy / problem.reference)
    log_ratio = log_ratio + 0.5 * np.random.default_rng(seed).normal(size=len(log_ratio))
    pairs = problem.support[:, 0] * problem.mdp.n_actions + problem.support[:, 1]

    def moved(average: bool) -> float:
        """Largest total variation between the laws of s' at one (s, a), weighted and not, where the weights are."""
        found = problem.weighted(weigh(GivenRatio(problem, log_ratio, average_next=average), problem))
        laws = [(found[pairs == pair], problem.reference[pairs == pair]) for pair in set(pairs.tolist())]
        return max(0.5 * np.abs(w / w.sum() - q / q.sum()).sum() for w, q in laws if w.sum() > 0.02)

    assert moved(False) > 0.1
    assert moved(True) < 0.03


def test_the_learning_rate_falls_to_zero(monkeypatch: pytest.MonkeyPatch) -> None:
    rates: list[float] = []
    monkeypatch.setattr(holdout, "set_learning_rate", lambda _, rate: rates.append(rate))
    average_next(th.rand(400), th.arange(400), transitions(400), 4, context())
    assert rates == pytest.approx([averaging._LEARNING_RATE * (1.0 - step / 4) for step in range(4)])
