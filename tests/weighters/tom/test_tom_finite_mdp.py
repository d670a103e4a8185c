"""TOM against exact solutions on random finite MDPs: stochastic, with terminations, one-hot states and actions."""

from typing import Any

import numpy as np
import pytest
import torch as th

from sb3_tom.contracts.context import Context
from sb3_tom.contracts.types import Transitions
from sb3_tom.weighters.tom.weighter import TOMWeighter
from tests.weighters.tom.finite_mdp import Problem, chi2_optimum, collected, every_transition, random_mdp

CAREFUL: dict[str, Any] = {
    "q_arch": (32,),
    "q_steps": 400,
    "q_batch_size": 256,
    "q_learning_rate": 2e-2,
    "n_actions": 48,
    "start_batch_size": 128,
}
"""Full batches, and enough actions that their sampling does not hide an error of the method."""
SHARP = {"buffer_label": 0.0, "gradient_penalty": 0.0}
"""A discriminator without label and gradient penalty."""


class GivenRatio(TOMWeighter):
    """TOM with R from a table instead of from a discriminator."""

    def __init__(self, problem: Problem, log_ratio: np.ndarray, **arguments: object) -> None:
        clock: dict[str, Any] = {"terminal": problem.terminal, "occupancy_gamma": problem.mdp.gamma, "average_next": False}
        super().__init__(discriminator=False, recent_size=1, **{**CAREFUL, **clock, **arguments})
        shape = problem.mdp.transition.shape
        self.table = th.zeros(shape)
        self.table[tuple(problem.support.T)] = th.as_tensor(log_ratio, dtype=th.float32)

    def log_ratio(self, data: Transitions, context: Context) -> th.Tensor:
        outcomes = data.next_observations.argmax(1) + data.truncated.squeeze(1).long() * data.observations.shape[1]
        return self.table[data.observations.argmax(1), data.actions.argmax(1), outcomes]


def weigh(tom: TOMWeighter, problem: Problem) -> th.Tensor:
    """Weights ``[N]`` after a fit; the footprint is the last rows of the data."""
    mdp = problem.mdp
    data, context = mdp.transitions(problem.rows), mdp.context()
    tom.build(mdp.n_states, mdp.n_actions)
    recent = data.rows(th.arange(data.size - tom.recent_size, data.size))
    figures = tom.fit(data, recent, mdp.start_observations(), context)
    assert not figures["diverged"]
    return tom.weights(data, context)


def distance(problem: Problem, weights: th.Tensor, exact: np.ndarray) -> float:
    """L1 distance of the weighted data to the exact occupancy: sum over (s, a, s') of |d^D w - d|."""
    return float(np.abs(problem.weighted(weights) - exact).sum())


@pytest.mark.parametrize("seed", range(20))
def test_exact_ratio_chi2(seed: int) -> None:
    problem = every_transition(random_mdp(seed), seed)
    log_ratio = np.log(problem.occupancy / problem.reference)
    exact = problem.optimum(log_ratio, "chi2")
    weights = weigh(GivenRatio(problem, log_ratio, divergence="chi2"), problem)
    assert distance(problem, weights, exact) <= 0.02
    # The test can fail: neither equal weights nor d^pi itself solve the problem
    assert distance(problem, th.ones(len(weights)), exact) > 0.3
    assert np.abs(problem.occupancy - exact).sum() > 0.04


@pytest.mark.parametrize("seed", range(3))
def test_exact_ratio_kl_gives_the_policys_occupancy(seed: int) -> None:
    problem = every_transition(random_mdp(seed), seed)
    log_ratio = np.log(problem.occupancy / problem.reference)
    weights = weigh(GivenRatio(problem, log_ratio, divergence="kl"), problem)
    assert distance(problem, weights, problem.occupancy) <= 0.02


@pytest.mark.parametrize("divergence", ["chi2", "kl"])
@pytest.mark.parametrize("terminal", ["restart", "mask"])
@pytest.mark.parametrize("seed", range(2))
def test_wrong_ratio(seed: int, terminal: str, divergence: str) -> None:
    """With a log-ratio that belongs to no policy the flow constraint decides; its optimum is found all the same."""
    problem = every_transition(random_mdp(seed), seed, terminal)
    log_ratio = np.log(problem.occupancy / problem.reference)
    log_ratio = log_ratio + np.random.default_rng(seed).normal(size=len(log_ratio))
    exact = problem.optimum(log_ratio, divergence)
    weights = weigh(GivenRatio(problem, log_ratio, divergence=divergence), problem)
    bare = np.exp(log_ratio) * problem.reference
    assert distance(problem, weights, exact) <= 0.02 * exact.sum()
    assert np.abs(bare / bare.sum() * exact.sum() - exact).sum() > 0.2 * exact.sum()


def flow_violation(problem: Problem, weights: th.Tensor) -> float:
    """L1 norm of what the weighted data lack or have too much at each (s, a)."""
    matrix, offset = problem.mdp.flow_constraints(problem.support, problem.terminal)
    return float(np.abs(matrix @ problem.weighted(weights) - offset).sum())


@pytest.mark.parametrize("divergence", ["chi2", "kl"])
@pytest.mark.parametrize("seed", range(3))
def test_undiscounted_with_time_limits(seed: int, divergence: str) -> None:
    """By default the flow is undiscounted and goes on at the start after a time-out; a wrong log-ratio is corrected."""
    problem = every_transition(random_mdp(seed, gamma=1.0, cut=0.3), seed)
    log_ratio = np.log(problem.occupancy / problem.reference)
    log_ratio = log_ratio + 0.5 * np.random.default_rng(seed).normal(size=len(log_ratio))
    exact = problem.optimum(log_ratio, divergence)
    weights = weigh(GivenRatio(problem, log_ratio, divergence=divergence, occupancy_gamma=None), problem)
    bare = th.as_tensor(np.exp(log_ratio))[th.as_tensor(np.unique(problem.rows, axis=0, return_inverse=True)[1].ravel())]
    bare = bare / bare.mean()
    assert distance(problem, weights, exact) <= 0.03
    assert flow_violation(problem, weights) <= 0.03 < 0.1 < flow_violation(problem, bare)
    goes_on = weigh(GivenRatio(problem, log_ratio, divergence=divergence, restart_truncated=False), problem)
    assert distance(problem, goes_on, exact) > 0.06, "a time-out that is not an end has another optimum"


@pytest.mark.parametrize("mass_shift", [True, False])
@pytest.mark.parametrize("divergence", ["chi2", "kl"])
@pytest.mark.parametrize("terminal", ["restart", "mask"])
def test_mass_identities(terminal: str, divergence: str, mass_shift: bool) -> None:
    """Exact where the constant of Q is solved for; without it a property of the optimum, met as far as the descent got."""
    problem = every_transition(random_mdp(7, gamma=0.8), 7, terminal)
    log_ratio = np.log(problem.occupancy / problem.reference)
    weights = weigh(GivenRatio(problem, log_ratio, divergence=divergence, mass_shift=mass_shift), problem)
    gamma, ended = problem.mdp.gamma, problem.mdp.transitions(problem.rows).terminated.squeeze(1).double()
    leaked = weights if terminal == "restart" else weights * (1 - gamma * (1 - ended)) / (1 - gamma)
    assert float(leaked.mean()) == pytest.approx(1.0, abs=1e-9 if mass_shift else 0.03)


def errors(seed: int, **arguments: object) -> tuple[float, float, float]:
    """Distance to the exact solution of TOM with its discriminator, of the bare ratio, and of uniform weights."""
    problem = collected(random_mdp(seed, n_states=8, n_actions=3, gamma=1.0), seed)
    tom = TOMWeighter(**arguments)
    exact = problem.optimum(np.log(problem.occupancy / problem.reference), tom.settings.divergence)
    weights = weigh(tom, problem)
    with th.no_grad():
        bare = tom.log_ratio(problem.mdp.transitions(problem.rows), problem.mdp.context()).exp()
    return tuple(distance(problem, w, exact) for w in (weights, bare / bare.mean(), th.ones(len(bare))))


def check_errors(seeds: range, share: float, **arguments: object) -> None:
    ours, bare, uniform = np.array([errors(seed, **arguments) for seed in seeds]).T
    assert (ours <= share * uniform).all(), (ours / uniform).round(2)
    assert ours.mean() < bare.mean()


@pytest.mark.parametrize("divergence", ["chi2", "kl"])
def test_learned_ratio(divergence: str) -> None:
    check_errors(range(2), 0.5, divergence=divergence, **SHARP, discriminator_steps=200, q_steps=250)


@pytest.mark.expensive
@pytest.mark.parametrize("divergence", ["chi2", "kl"])
def test_learned_ratio_on_twenty_mdps(divergence: str) -> None:
    check_errors(range(20), 0.5, divergence=divergence, **SHARP)


def test_default_weights_come_near_the_policys() -> None:
    """Label and penalty limit the ratio; the flow constraint makes up for most of it."""
    check_errors(range(2), 2 / 3, discriminator_steps=200, q_steps=250)


@pytest.mark.expensive
def test_default_weights_on_twenty_mdps() -> None:
    check_errors(range(20), 2 / 3)


def test_reference_solvers() -> None:
    """Both satisfy the optimality conditions of their problem, and the flow of a policy's occupancy."""
    problem = every_transition(random_mdp(3), 3)
    matrix, offset = problem.mdp.flow_constraints(problem.support, "restart")
    np.testing.assert_allclose(matrix @ problem.occupancy, offset, atol=1e-12)
    log_ratio = np.random.default_rng(0).normal(size=len(problem.reference))
    for divergence, slope in (("chi2", lambda x: x - 1.0), ("kl", np.log)):
        d = problem.optimum(log_ratio, divergence)
        np.testing.assert_allclose(matrix @ d, offset, atol=1e-10)
        positive = d > 1e-7
        gradient = log_ratio - slope(np.maximum(d, 1e-300) / problem.reference)
        multiplier = np.linalg.lstsq(matrix.T[positive], gradient[positive], rcond=None)[0]
        np.testing.assert_allclose((gradient - matrix.T @ multiplier)[positive], 0.0, atol=1e-5)
        if divergence == "chi2":  # where d is 0 it must not pay to increase it
            assert ((log_ratio + 1.0 - matrix.T @ multiplier)[~positive] <= 1e-5).all()


def test_chi2_solver_on_a_problem_with_a_known_solution() -> None:
    """max d.r - sum (d - q)^2 / (2 q) with sum d = 1 only: d = q max(0, r + 1 - shift)."""
    q = np.array([0.5, 0.25, 0.25])
    d = chi2_optimum(np.array([1.0, 0.0, -4.0]), q, np.ones((1, 3)), np.ones(1))
    shift = (0.5 * 2.0 + 0.25 * 1.0 - 1.0) / 0.75
    np.testing.assert_allclose(d, [0.5 * (2.0 - shift), 0.25 * (1.0 - shift), 0.0], atol=1e-7)
