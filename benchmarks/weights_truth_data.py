"""Data whose true weights are known: one policy on MuJoCo's tasks, and linear systems with Gaussian noise."""

from collections.abc import Callable
from typing import Any, NamedTuple

import gymnasium as gym
import numpy as np
import torch as th
from scipy.linalg import solve_discrete_lyapunov
from scipy.optimize import brentq

from sb3_tom import Transitions
from sb3_tom.contracts.types import PolicyFunction

N_ROWS, N_RECENT = 10_000, 1_000
SPREAD = 1.3
"""Standard deviation of log p / q over the rows of the first policy."""
_ACTION_STD, _NOISE_STD = 0.5, 0.3
_ACTION_BOUND = 8.0
"""Of the linear systems' actions, which the rows have in units of it, in [-1, 1]: far beyond all that occur."""
_PARTS = ("cinert", "cvel", "qfrc_actuator", "cfrc_ext")

Array = np.ndarray


class Known(NamedTuple):
    """
    Rows whose newest are ``recent``.

    :param data: ``N_ROWS`` rows
    :param log_ratio: true log d^pi / d^D of each; None if only its mean is known
    :param mean_action: of the policy of the newest rows, as a function of observations ``[n, O]``
    :param action_std: standard deviation of its actions
    :param n_recent: number of rows of ``recent``
    """

    data: Transitions
    log_ratio: Array | None
    mean_action: Callable[[Array], Array]
    action_std: float
    n_recent: int = N_RECENT

    def log_prob(self, observations: th.Tensor, actions: th.Tensor) -> th.Tensor:
        """
        Log-density of that policy's actions, as an agent's context gives it.

        :param observations: ``[n, O]``
        :param actions: ``[n, A]``
        :return: ``[n, 1]``
        """
        mean = th.as_tensor(self.mean_action(observations.numpy()), dtype=th.float32)
        return th.distributions.Normal(mean, self.action_std).log_prob(actions).sum(-1, keepdim=True)

    def policy(self, generator: th.Generator) -> PolicyFunction:
        """
        That policy, its actions cut at the bounds as those of the rows.

        :param generator: source of randomness
        """

        def sample(observations: th.Tensor) -> tuple[th.Tensor, th.Tensor]:
            mean = th.as_tensor(self.mean_action(observations.numpy()), dtype=th.float32)
            actions = (mean + self.action_std * th.randn(mean.shape, generator=generator)).clamp(-1, 1)
            return actions, self.log_prob(observations, actions)

        return sample


def rows_of(steps: list[tuple[Array, Array, Array, float]]) -> Transitions:
    """Transitions of (s, a, s', terminated)."""
    observations, actions, following, ended = (
        th.as_tensor(np.array(part), dtype=th.float32) for part in zip(*steps, strict=True)
    )
    flat = ended.unsqueeze(1)
    return Transitions(observations, actions, following, th.zeros_like(flat), flat, th.zeros(len(steps), dtype=th.int64))


def rollout(
    task: str,
    seed: int,
    shift: float = 0.0,
    n_rows: int = N_ROWS,
    n_recent: int = N_RECENT,
    max_episode_steps: int | None = None,
) -> Known:
    """
    One linear Gaussian policy throughout, except for a shift of its mean in the newest rows.

    :param task: Gymnasium's name; for Humanoid the 45 observations of positions and velocities
    :param seed: of env and policy
    :param shift: is added to the mean of the newest rows' actions; 0: the true weights are 1
    :param n_rows: rows in all
    :param n_recent: newest rows
    :param max_episode_steps: time limit; None is the task's
    """
    options = {f"include_{part}_in_observation": False for part in _PARTS} if task.startswith("Humanoid") else {}
    env: Any = gym.make(task, max_episode_steps=max_episode_steps, **options)
    rng = np.random.default_rng(seed)
    n_observations, n_actions = env.observation_space.shape[0], env.action_space.shape[0]
    gain = 0.1 * rng.normal(size=(n_actions, n_observations)) / np.sqrt(n_observations)
    observation, _ = env.reset(seed=seed)
    steps = []
    for number in range(n_rows):
        mean = gain @ np.clip(observation, -5, 5) + shift * (number >= n_rows - n_recent)
        action = np.clip(mean + 0.4 * rng.normal(size=n_actions), -1, 1)
        following, _, terminated, truncated, _ = env.step(action * env.action_space.high)
        steps.append((observation, action, following, float(terminated)))
        changes = number == n_rows - n_recent - 1  # the other policy begins with an episode of its own
        observation = env.reset()[0] if terminated or truncated or changes else following
    env.close()
    return Known(rows_of(steps), None, lambda seen: np.clip(seen, -5, 5) @ gain.T + shift, 0.4, n_recent)


class Policy(NamedTuple):
    """
    a = gain s + mean + noise.

    :param gain: ``[A, O]``
    :param mean: ``[A]``
    """

    gain: Array
    mean: Array


class LinearSystem:
    """
    s' = F s + B a + noise, without episodes.

    :param size: O
    :param n_actions: A
    :param rng: draws the system
    """

    def __init__(self, size: int, n_actions: int, rng: np.random.Generator) -> None:
        self.matrix = 0.7 * np.linalg.qr(rng.normal(size=(size, size)))[0]
        self.inputs = 0.5 * rng.normal(size=(size, n_actions)) / np.sqrt(n_actions)

    def stationary(self, policy: Policy) -> tuple[Array, Array] | None:
        """Mean ``[O]`` and covariance ``[O, O]`` of the states; None if there are none."""
        closed = self.matrix + self.inputs @ policy.gain
        if np.abs(np.linalg.eigvals(closed)).max() > 0.97:
            return None
        identity = np.eye(len(closed))
        noise = _ACTION_STD**2 * self.inputs @ self.inputs.T + _NOISE_STD**2 * identity
        return np.linalg.solve(identity - closed, self.inputs @ policy.mean), solve_discrete_lyapunov(closed, noise)

    def log_density(self, policy: Policy, states: Array, actions: Array) -> Array | None:
        """Log-density of (s, a) ``[n]``, up to a constant of the system: that of s' given (s, a) is every policy's."""
        moments = self.stationary(policy)
        if moments is None:
            return None
        mean, covariance = moments
        factor = np.linalg.cholesky(covariance)
        unit = np.linalg.solve(factor, (states - mean).T)
        residual = (actions - states @ policy.gain.T - policy.mean) / _ACTION_STD
        return -0.5 * (unit**2).sum(0) - np.log(np.diag(factor)).sum() - 0.5 * (residual**2).sum(1)

    def run(self, policy: Policy, n_rows: int, rng: np.random.Generator) -> list[tuple[Array, Array, Array, float]]:
        """A trajectory that begins in a stationary state."""
        moments = self.stationary(policy)
        assert moments is not None
        state, steps = rng.multivariate_normal(*moments), []
        for _ in range(n_rows):
            action = policy.gain @ state + policy.mean + _ACTION_STD * rng.normal(size=len(policy.mean))
            following = self.matrix @ state + self.inputs @ action + _NOISE_STD * rng.normal(size=len(state))
            steps.append((state, action, following, 0.0))
            state = following
        return steps


def linear_system(size: int, n_actions: int, kind: str, seed: int, n_rows: int = N_ROWS, n_recent: int = N_RECENT) -> Known:
    """
    Two policies, one after the other, whose log-ratio has the standard deviation :data:`SPREAD`.

    :param size: of the state
    :param n_actions: size of the action
    :param kind: what changes: "shift", the mean of the actions, or "gain", their dependence on the state
    :param seed: of system, policies and rows
    :param n_rows: rows in all
    :param n_recent: newest rows, those of the second policy
    """
    system, first, second, rng = _two_policies(size, n_actions, kind, seed)
    steps = system.run(first, n_rows - n_recent, rng) + system.run(second, n_recent, rng)
    states, actions = (np.array([step[part] for step in steps]) for part in (0, 1))
    ours, theirs = (system.log_density(policy, states, actions) for policy in (second, first))
    share = n_recent / n_rows
    buffer = np.logaddexp(np.log(1 - share) + theirs, np.log(share) + ours)
    rows = rows_of([(state, action / _ACTION_BOUND, *rest) for state, action, *rest in steps])
    unit = _ACTION_BOUND
    return Known(rows, ours - buffer, lambda seen: (seen @ second.gain.T + second.mean) / unit, _ACTION_STD / unit)


def fresh_rows(size: int, n_actions: int, kind: str, seed: int, n_rows: int) -> Array:
    """
    Other rows of the second policy of :func:`linear_system`.

    :param size: of the state; the other parameters are as there
    :param n_actions: size of the action
    :param kind: what changes
    :param seed: of system and policies
    :param n_rows: number of rows
    :return: (s, a) ``[n_rows, O + A]``, actions in the units of the rows of :func:`linear_system`
    """
    system, _, second, _ = _two_policies(size, n_actions, kind, seed)
    steps = system.run(second, n_rows, np.random.default_rng([seed, 1]))
    return np.array([np.concatenate([state, action / _ACTION_BOUND]) for state, action, _, _ in steps])


def _two_policies(size: int, n_actions: int, kind: str, seed: int) -> tuple[LinearSystem, Policy, Policy, np.random.Generator]:
    """System, first and second policy, and the generator of rows."""
    rng = np.random.default_rng(seed)
    system = LinearSystem(size, n_actions, rng)
    first = Policy(0.2 * rng.normal(size=(n_actions, size)) / np.sqrt(size), np.zeros(n_actions))
    return system, first, _changed(system, first, kind, rng), rng


def _changed(system: LinearSystem, policy: Policy, kind: str, rng: np.random.Generator) -> Policy:
    """The policy at the distance :data:`SPREAD` from the first one, in a random direction."""
    direction = rng.normal(size=policy.mean.shape if kind == "shift" else policy.gain.shape) / np.sqrt(policy.gain.shape[1])
    steps = system.run(policy, 4000, np.random.default_rng(0))
    states, actions = (np.array([step[part] for step in steps]) for part in (0, 1))
    base = system.log_density(policy, states, actions)

    def moved(length: float) -> Policy:
        moves = {"mean" if kind == "shift" else "gain": (policy.mean if kind == "shift" else policy.gain) + length * direction}
        return policy._replace(**moves)

    def excess(length: float) -> float:
        density = system.log_density(moved(length), states, actions)
        return np.inf if density is None else float(np.std(density - base)) - SPREAD

    lengths = np.geomspace(1e-3, 30, 200)
    last = next(number for number, length in enumerate(lengths) if excess(length) > 0)
    if np.isinf(excess(lengths[last])):  # the system cannot reach that distance
        return moved(lengths[last - 1])
    return moved(brentq(excess, lengths[last - 1], lengths[last]))
