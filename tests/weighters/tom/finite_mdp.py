"""
Random finite MDPs, and the exact solutions of TOM's problem on them: occupancies by linear algebra, the optimum by
second-order methods on the primal, while the package descends the dual (no line of it is used here).
"""

from dataclasses import dataclass

import numpy as np
import torch as th

from sb3_tom.contracts.context import Context
from sb3_tom.contracts.types import Transitions

Array = np.ndarray


@dataclass(frozen=True)
class FiniteMDP:
    """
    S states, of which the last is terminal, and A actions. A transition has an outcome: k < S is the next state k, k >= S the
    next state k - S where a time limit cuts the episode.

    :param transition: ``[S, A, K]``, K = S without time limits, else 2 S; rows of the terminal state are not used
    :param start: ``[S]``, zero at the terminal state
    :param policy: ``[S, A]``, the policy whose occupancy is wanted
    :param gamma: discount
    """

    transition: Array
    start: Array
    policy: Array
    gamma: float

    @property
    def n_states(self) -> int:
        return int(self.policy.shape[0])

    @property
    def n_actions(self) -> int:
        return int(self.policy.shape[1])

    def arrivals(self, terminal: str) -> Array:
        """``[K, S]``: the states that the flow goes on at after each outcome, by their probabilities."""
        kinds = np.arange(self.transition.shape[2])
        restarts = kinds >= self.n_states - (terminal == "restart")
        goes_on = np.eye(self.n_states)[kinds % self.n_states] * (kinds < self.n_states - 1)[:, None]
        return np.where(restarts[:, None], self.start, goes_on)

    def occupancy(self, policy: Array, terminal: str) -> Array:
        """``d(s, a, outcome) [S, A, K]`` of a policy, from the flow equation as a linear system."""
        alive = np.arange(self.n_states) < self.n_states - 1
        pairs = (policy * alive[:, None]).reshape(-1, 1)  # pi(a|s) of the pair (s, a)
        state = np.repeat(np.eye(self.n_states), self.n_actions, axis=0)  # pair -> its state
        flow = self.transition.reshape(len(pairs), -1) @ self.arrivals(terminal)  # pair -> next state
        matrix = np.eye(len(pairs)) - self.gamma * pairs * (state @ flow.T)
        offset = (1 - self.gamma) * pairs[:, 0] * (state @ self.start)
        if terminal == "restart":  # undiscounted, the flow equation alone leaves the scale open
            matrix, offset = np.vstack([matrix, np.ones(len(pairs))]), np.append(offset, 1.0)
        visits = np.linalg.lstsq(matrix, offset, rcond=None)[0]
        return visits.reshape(self.n_states, self.n_actions, 1) * self.transition

    def flow_constraints(self, rows: Array, terminal: str) -> tuple[Array, Array]:
        """
        ``A d = b`` for d on the transitions ``rows [n, 3]`` of (s, a, outcome): one equation per pair of a living state, of
        which, undiscounted, one follows from the others and makes room for ``sum d = 1``.
        """
        living, n_actions = self.n_states - 1, self.n_actions
        matrix = np.zeros((living * n_actions, len(rows)))
        for column, (s, a, following) in enumerate(rows):
            matrix[s * n_actions + a, column] += 1.0
            arrival = self.arrivals(terminal)[following]
            matrix[:, column] -= self.gamma * (arrival[:living, None] * self.policy[:living]).ravel()
        offset = (1 - self.gamma) * (self.start[:living, None] * self.policy[:living]).ravel()
        if self.gamma == 1.0:
            matrix[-1], offset[-1] = 1.0, 1.0
        return matrix, offset

    def rows_of(self, counts: Array) -> Array:
        """Transitions ``[n, 3]``: each (s, a, outcome) as often as ``counts [S, A, K]`` says."""
        return np.repeat(np.argwhere(counts > 0), counts[counts > 0], axis=0)

    def transitions(self, rows: Array) -> Transitions:
        """One-hot states and actions of ``rows [n, 3]``."""
        states, actions = th.eye(self.n_states), th.eye(self.n_actions)
        s, a, outcome = th.as_tensor(rows.T)
        zeros, versions = th.zeros(len(rows), 1), th.zeros(len(rows), dtype=th.long)
        ended, cut = ((outcome == self.n_states - 1).float()[:, None], (outcome >= self.n_states).float()[:, None])
        return Transitions(states[s], actions[a], states[outcome % self.n_states], zeros, ended, versions, cut)

    def context(self, seed: int = 0) -> Context:
        """
        A context whose policy draws from :attr:`policy`, with a low-discrepancy sequence per state instead of independent
        numbers: the error of an average over k actions falls like 1 / k.
        """
        generator = th.Generator().manual_seed(seed)
        cumulative = th.as_tensor(self.policy).cumsum(1)

        def policy(observations: th.Tensor) -> tuple[th.Tensor, th.Tensor]:
            states = observations.argmax(1)
            visits = th.nn.functional.one_hot(states, self.n_states).cumsum(0).gather(1, states[:, None])
            offset = th.rand((), generator=generator, dtype=th.float64)
            points = (visits * ((5**0.5 - 1) / 2) + offset) % 1.0
            chosen = (points > cumulative[states]).sum(1).clamp(max=self.n_actions - 1)
            return th.eye(self.n_actions)[chosen], th.zeros(len(states), 1)

        return Context(policy, gamma=self.gamma, policy_version=1, generator=generator)

    def start_observations(self, n_rows: int = 256) -> th.Tensor:
        """One-hot start states ``[n_rows, S]`` whose frequencies are :attr:`start` up to rounding."""
        points = (np.arange(n_rows) + 0.5) / n_rows
        return th.eye(self.n_states)[np.searchsorted(self.start.cumsum(), points)]


def random_mdp(
    seed: int, n_states: int = 5, n_actions: int = 2, gamma: float = 0.9, branching: int = 3, cut: float = 0.0
) -> FiniteMDP:
    """
    Stochastic, with terminations: ``branching`` possible next states per pair, and another policy for each seed. A time limit
    cuts the episode after a share ``cut`` of the transitions that end in a living state.
    """
    rng = np.random.default_rng(seed)
    transition = np.zeros((n_states, n_actions, n_states))
    for s in range(n_states - 1):
        for a in range(n_actions):
            reached = rng.choice(n_states, branching, replace=False)
            transition[s, a, reached] = rng.dirichlet(np.ones(branching)) * 0.8 + 0.2 / branching
    start = np.append(rng.dirichlet(np.ones(n_states - 1)), 0.0)
    start = np.round(start * 256) / 256  # so that 256 start rows have exactly these frequencies
    start[np.argmax(start)] += 1.0 - start.sum()
    policy = rng.dirichlet(np.full(n_actions, 0.7), n_states)
    if cut > 0.0:
        cuts = cut * transition * (np.arange(n_states) < n_states - 1)
        transition = np.concatenate([transition - cuts, cuts], axis=2)
    return FiniteMDP(transition, start, policy, gamma)


def chi2_optimum(log_ratio: Array, reference: Array, matrix: Array, offset: Array, iterations: int = 60) -> Array:
    """
    ``max over d >= 0 of sum d r - 1/2 sum (d - q)^2 / q`` subject to ``matrix d = offset``, by a primal-dual interior-point
    method (Nocedal and Wright, Alg. 16.4).

    :param log_ratio: r ``[n]``
    :param reference: q ``[n]``, positive
    :param matrix: ``[m, n]`` of full row rank
    :param offset: ``[m]``
    :return: d ``[n]``
    """
    n, m = len(reference), len(offset)
    hessian, linear = 1.0 / reference, -(log_ratio + 1.0)
    d, slack, multiplier = np.full(n, 1.0 / n), np.ones(n), np.zeros(m)

    def newton(complement: Array) -> tuple[Array, Array, Array]:
        dual_gap = hessian * d + linear - matrix.T @ multiplier - slack
        primal_gap = matrix @ d - offset
        scaling = 1.0 / (hessian + slack / d)
        right = -dual_gap - complement / d
        step_multiplier = np.linalg.solve((matrix * scaling) @ matrix.T, -primal_gap - matrix @ (scaling * right))
        step_d = scaling * (right + matrix.T @ step_multiplier)
        return step_d, step_multiplier, -(complement + slack * step_d) / d

    def longest(values: Array, step: Array) -> float:
        return float(min(1.0, 0.995 * np.min(np.where(step < 0, -values / np.minimum(step, -1e-300), np.inf))))

    for _ in range(iterations):
        gap = d @ slack / n
        step_d, _, step_slack = newton(d * slack)
        ahead = (d + longest(d, step_d) * step_d) @ (slack + longest(slack, step_slack) * step_slack) / n
        step_d, step_multiplier, step_slack = newton(d * slack + step_d * step_slack - (ahead / gap) ** 3 * gap)
        length = min(longest(d, step_d), longest(slack, step_slack))
        d, multiplier, slack = d + length * step_d, multiplier + length * step_multiplier, slack + length * step_slack
        if gap < 1e-15:
            break
    return d


def kl_optimum(log_ratio: Array, reference: Array, matrix: Array, feasible: Array, iterations: int = 100) -> Array:
    """
    ``max over d > 0 of sum d r - sum (d log(d / q) - d + q)`` subject to ``matrix d = matrix feasible``, by Newton's method
    with a feasible start (Boyd and Vandenberghe, Alg. 10.1).

    :param log_ratio: r ``[n]``
    :param reference: q ``[n]``, positive
    :param matrix: ``[m, n]`` of full row rank
    :param feasible: ``[n]``, positive
    :return: d ``[n]``
    """

    def objective(d: Array) -> float:
        return float(d @ (log_ratio - np.log(d / reference) + 1.0))

    d = feasible
    for _ in range(iterations):
        gradient = log_ratio - np.log(d / reference)
        multiplier = np.linalg.solve((matrix * d) @ matrix.T, (matrix * d) @ gradient)
        step = d * (gradient - matrix.T @ multiplier)
        decrement = float(step @ (step / d))
        if decrement < 1e-24:
            break
        length = 1.0 / max(1.0, 1.01 * float(np.max(-step / d)))  # stay positive
        while length > 1e-12 and objective(d + length * step) < objective(d) + 0.25 * length * decrement - 1e-15:
            length *= 0.5
        d = d + length * step
    return d


@dataclass(frozen=True)
class Problem:
    """
    TOM's problem on an MDP and a data set.

    :param mdp: the MDP
    :param terminal: what follows a termination
    :param rows: transitions ``[N, 3]`` of the data set
    """

    mdp: FiniteMDP
    terminal: str
    rows: Array

    @property
    def support(self) -> Array:
        """The different transitions ``[n, 3]`` of the data."""
        return np.unique(self.rows, axis=0)

    @property
    def reference(self) -> Array:
        """d^D on the support ``[n]``."""
        return np.unique(self.rows, axis=0, return_counts=True)[1] / len(self.rows)

    @property
    def occupancy(self) -> Array:
        """d^pi on the support ``[n]``."""
        return self.mdp.occupancy(self.mdp.policy, self.terminal)[tuple(self.support.T)]

    def optimum(self, log_ratio: Array, divergence: str) -> Array:
        """The exact solution d on the support ``[n]`` for the log-ratio ``[n]``."""
        matrix, offset = self.mdp.flow_constraints(self.support, self.terminal)
        if divergence == "chi2":
            return chi2_optimum(log_ratio, self.reference, matrix, offset)
        return kl_optimum(log_ratio, self.reference, matrix, self.occupancy)

    def weighted(self, weights: th.Tensor) -> Array:
        """The weighted data: ``d^D w`` on the support ``[n]``, from the weight of each row ``[N]``."""
        _, place = np.unique(self.rows, axis=0, return_inverse=True)
        return np.bincount(place.ravel(), weights.numpy()) / len(self.rows)


def every_transition(mdp: FiniteMDP, seed: int, terminal: str = "restart") -> Problem:
    """A data set with each possible transition one to four times, so that d^D > 0 wherever d^pi > 0."""
    counts = np.random.default_rng(seed).integers(1, 5, mdp.transition.shape) * (mdp.transition > 0)
    return Problem(mdp, terminal, mdp.rows_of(counts))


def collected(mdp: FiniteMDP, seed: int, n_behaviours: int = 4, n_rows: int = 1000) -> Problem:
    """What a replay buffer holds: ``n_rows`` of each of several behaviour policies, and last of the policy itself."""
    rng = np.random.default_rng(seed)
    policies = [rng.dirichlet(np.full(mdp.n_actions, 0.7), mdp.n_states) for _ in range(n_behaviours)]
    rows = []
    for policy in (*policies, mdp.policy):
        visits = mdp.occupancy(policy, "restart")
        drawn = rng.choice(visits.size, n_rows, p=visits.ravel() / visits.sum())
        rows.append(np.stack(np.unravel_index(drawn, visits.shape), axis=1))
    return Problem(mdp, "restart", np.concatenate(rows))
