"""The pure functions of TOM against definitions, closed forms and duality."""

import numpy as np
import pytest
import torch as th
from hypothesis import given
from hypothesis import strategies as st

from sb3_tom.weighters.tom import functional
from tests.weighters.tom.finite_mdp import Problem, every_transition, random_mdp

GENERATORS = {
    "chi2": lambda x: 0.5 * (x - 1.0) ** 2,
    "kl": lambda x: np.where(x > 0, x * np.log(np.maximum(x, 1e-300)), 0.0) - x + 1.0,
}
residuals = st.lists(st.floats(-20.0, 20.0), min_size=1, max_size=30)


@pytest.mark.parametrize("name", ["chi2", "kl"])
@pytest.mark.parametrize("y", [-30.0, -3.0, -1.0, -0.999, -0.2, 0.0, 0.7, 3.0])
def test_conjugate_is_the_supremum_over_non_negative_x(name: str, y: float) -> None:
    x = np.concatenate([[0.0], np.geomspace(1e-9, 40.0, 400_000)])
    expected = np.max(x * y - GENERATORS[name](x))
    conjugate = functional.DIVERGENCES[name].conjugate(th.tensor(y, dtype=th.float64))
    assert float(conjugate) == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("name", ["chi2", "kl"])
@given(values=residuals)
def test_weight_is_the_derivative_of_the_conjugate(name: str, values: list[float]) -> None:
    """Loss and weights belong together; weights are non-negative and grow with the residual."""
    y = th.tensor(values, dtype=th.float64).sort()[0].requires_grad_()
    divergence = functional.DIVERGENCES[name]
    (gradient,) = th.autograd.grad(divergence.conjugate(y).sum(), y)
    weights = divergence.derivative(y.detach())
    th.testing.assert_close(weights, gradient)
    assert (weights >= 0).all()
    assert (weights.diff() >= 0).all()


def test_the_released_chi2_loss_does_not_belong_to_its_weight() -> None:
    """Below -1 the released loss pushes the residual up, although the weight is 0 there."""
    y = th.tensor([-3.0, -1.5, 0.5], requires_grad=True)
    functional.RELEASED_TERMS["chi2"](y).backward()
    th.testing.assert_close(3 * y.grad, th.tensor([-2.0, -0.5, 1.5]))
    th.testing.assert_close(functional.chi2_derivative(y.detach()), th.tensor([0.0, 0.0, 1.5]))


@given(values=residuals)
def test_log_mean_exp_is_the_best_shift_of_the_kl_dual(values: list[float]) -> None:
    y = th.tensor(values, dtype=th.float64)
    shift = functional.best_shift(y, th.ones_like(y), functional.kl_derivative)
    th.testing.assert_close(shift, functional.log_mean_exp(y), rtol=1e-9, atol=1e-9)
    # and the weights are N softmax(y)
    th.testing.assert_close(functional.kl_derivative(y - shift), len(y) * y.softmax(0))
    for other in (shift - 0.1, shift + 0.1):
        assert other + (y - other).exp().mean() - 1 >= functional.log_mean_exp(y)


@given(values=residuals)
def test_best_shift_of_chi2_is_a_projection_onto_the_simplex(values: list[float]) -> None:
    """E max(0, y + 1 - shift) = 1, by sorting (Held, Wolfe and Crowder 1974)."""
    ordered = np.sort(np.array(values) + 1.0)[::-1]
    shifts = (ordered.cumsum() - len(ordered)) / np.arange(1, len(ordered) + 1)
    expected = shifts[np.nonzero(ordered > shifts)[0][-1]]
    y = th.tensor(values, dtype=th.float64)
    shift = functional.best_shift(y, th.ones_like(y), functional.chi2_derivative)
    assert float(shift) == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("name", ["chi2", "kl"])
@given(values=residuals, gamma=st.floats(0.0, 0.99), seed=st.integers(0, 1000))
def test_best_shift_gives_the_mass_identity(name: str, values: list[float], gamma: float, seed: int) -> None:
    y = th.tensor(values, dtype=th.float64)
    ended = (th.rand(len(values), generator=th.Generator().manual_seed(seed)) < 0.4).double()
    derivative = functional.DIVERGENCES[name].derivative
    for terminal in functional.TERMINAL:
        mass = functional.mass_coefficients(ended, gamma, terminal)
        weights = derivative(y - functional.best_shift(y, mass, derivative) * mass)
        expected = 1.0 - gamma if terminal == "mask" else 1.0
        leak = 1.0 - gamma * (1.0 - ended) if terminal == "mask" else th.ones_like(ended)
        assert float((weights * leak).mean()) == pytest.approx(expected, rel=1e-6)


def test_residual_row_by_row() -> None:
    r, q, v_next = th.tensor([0.1, 0.2]), th.tensor([1.0, 2.0]), th.tensor([5.0, 7.0])
    ended, v_start = th.tensor([0.0, 1.0]), th.tensor(3.0)
    restart = functional.residual(r, q, v_next, v_start, ended, 0.9, "restart")
    mask = functional.residual(r, q, v_next, v_start, ended, 0.9, "mask")
    th.testing.assert_close(restart, th.tensor([0.1 + 4.5 - 1.0, 0.2 + 2.7 - 2.0]))
    th.testing.assert_close(mask, th.tensor([0.1 + 4.5 - 1.0, 0.2 - 2.0]))


def test_a_shift_is_a_constant_in_q() -> None:
    """Loss and residual with a shift are those of Q + shift / (1 - gamma)."""
    generator = th.Generator().manual_seed(0)
    r, q, v_next = th.randn(3, 20, generator=generator, dtype=th.float64)
    ended, v_start, gamma, shift = (q > 1).double(), q.mean(), 0.9, 0.37
    for terminal in functional.TERMINAL:
        constant = shift / (1 - gamma)
        y = functional.residual(r, q, v_next, v_start, ended, gamma, terminal)
        moved = functional.residual(r, q + constant, v_next + constant, v_start + constant, ended, gamma, terminal)
        th.testing.assert_close(moved, y - shift * functional.mass_coefficients(ended, gamma, terminal))
        th.testing.assert_close(
            functional.dual_loss(moved, v_start + constant, gamma, th.mean),
            functional.dual_loss(moved, v_start, gamma, th.mean, shift),
        )


def tabular_dual(problem: Problem, log_ratio: np.ndarray, name: str, q: th.Tensor) -> th.Tensor:
    """The dual of the package at a table Q ``[S, A]`` and a shift, ``q [S + 1, A]``, in expectation over data and policy."""
    mdp, (q, shift) = problem.mdp, (q[:-1], q[-1, 0])
    s, a, outcome = th.as_tensor(problem.support.T)
    policy, ended = th.as_tensor(mdp.policy), (outcome >= mdp.n_states - 1).double()
    value = (policy * q).sum(1)
    v_start, v_next = th.as_tensor(mdp.start) @ value, value[outcome % mdp.n_states]
    y = functional.residual(th.as_tensor(log_ratio), q[s, a], v_next, v_start, ended, mdp.gamma, problem.terminal)
    y = y - shift * functional.mass_coefficients(ended, mdp.gamma, problem.terminal)
    weights = th.as_tensor(problem.reference)
    return functional.dual_loss(y, v_start, mdp.gamma, lambda y: weights @ functional.DIVERGENCES[name].conjugate(y), shift)


def primal_value(problem: Problem, log_ratio: np.ndarray, name: str, d: np.ndarray) -> float:
    return float(d @ log_ratio - problem.reference @ GENERATORS[name](d / problem.reference))


@pytest.mark.parametrize("name", ["chi2", "kl"])
@pytest.mark.parametrize(("terminal", "gamma", "cut"), [("restart", 0.9, 0.0), ("mask", 0.9, 0.0), ("restart", 1.0, 0.3)])
@pytest.mark.parametrize("seed", range(3))
def test_duality(seed: int, terminal: str, gamma: float, cut: float, name: str) -> None:
    """Every Q bounds the primal optimum from above, and the best Q attains it; also undiscounted, with time limits."""
    problem = every_transition(random_mdp(seed, gamma=gamma, cut=cut), seed, terminal)
    generator = np.random.default_rng(seed)
    log_ratio = np.log(problem.occupancy / problem.reference) + 0.5 * generator.normal(size=len(problem.reference))
    optimum = problem.optimum(log_ratio, name)
    value = primal_value(problem, log_ratio, name, optimum)
    q = th.zeros(problem.mdp.n_states + 1, problem.mdp.n_actions, dtype=th.float64, requires_grad=True)
    for _ in range(20):
        anywhere = th.as_tensor(generator.normal(size=q.shape))
        assert float(tabular_dual(problem, log_ratio, name, anywhere)) >= value
    search = th.optim.LBFGS([q], max_iter=2000, tolerance_grad=1e-12, tolerance_change=1e-16, line_search_fn="strong_wolfe")

    def closure() -> th.Tensor:
        search.zero_grad()
        loss = tabular_dual(problem, log_ratio, name, q)
        loss.backward()
        return loss

    search.step(closure)
    assert float(closure().detach()) == pytest.approx(value, abs=1e-7)
