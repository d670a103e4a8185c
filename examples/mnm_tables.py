r"""
Exact tabular Mismatched No More (Eysenbach et al. 2022, arXiv:2110.02758, Sec. 3), and VMBPO for comparison (Chow et al. 2020,
arXiv:2006.05443): no networks, no samples; MnM's classifier is the optimal one.

With true dynamics :math:`p`, a model :math:`q`, a policy :math:`\pi`, rewards :math:`r > 0` and a discount :math:`\gamma`:

.. math::
    J &= E_{p, \pi} \sum_t \gamma^t r, \\
    L &= E_{q, \pi} \sum_t \gamma^t \tilde r, \quad
    \tilde r = (1 - \gamma) \log r + \log (p / q) - (1 - \gamma) \log (1 - \gamma)
        & \text{(Eq. 2, 3)}, \quad \log J \ge L \text{ (Theorem 3.1)}, \\
    U &= E_{q, \pi} \sum_t \gamma^t \big( r + \log (p / q) \big) & \text{(VMBPO)}.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


class MDP(NamedTuple):
    """
    A finite task without terminations.

    :param transitions: :math:`p`, ``[S, A, S]``
    :param rewards: :math:`r`, ``[S, A]``, above 0 for MnM
    :param start: distribution of the first state ``[S]``
    :param gamma: discount
    """

    transitions: Array
    rewards: Array
    start: Array
    gamma: float


def expected_return(mdp: MDP, policy: Array) -> float:
    """
    J.

    :param policy: ``[S, A]``
    """
    return float(mdp.start @ _evaluate(mdp.transitions, policy, mdp.rewards, mdp.gamma))


def mnm_rewards(mdp: MDP) -> Array:
    """
    The part of Eq. 3 that does not depend on the model.

    :return: ``[S, A]``
    :raises ValueError: for rewards that are not above 0
    """
    if mdp.rewards.min() <= 0.0:
        raise ValueError(f"rewards={mdp.rewards.min():g} is not allowed: MnM takes their logarithm; allowed: rewards above 0")
    return (1.0 - mdp.gamma) * (np.log(mdp.rewards) - np.log(1.0 - mdp.gamma))


def approximate_rewards(mdp: MDP) -> Array:
    """The same of Eq. 5, from which the paper's algorithm learns: without the factor and the last term."""
    return np.log(mdp.rewards)


def vmbpo_rewards(mdp: MDP) -> Array:
    """The same of VMBPO, which has the reward itself."""
    return mdp.rewards


def log_ratio(mdp: MDP, model: Array) -> Array:
    """The logits of the best classifier of real against imagined transitions, ``[S, A, S]``; 0 where the model never goes."""
    with np.errstate(divide="ignore"):
        return np.where(model > 0.0, np.log(mdp.transitions) - np.log(np.where(model > 0.0, model, 1.0)), 0.0)


def objective(mdp: MDP, policy: Array, model: Array, rewards: Array) -> float:
    """
    L or U, by their rewards.

    :param policy: ``[S, A]``
    :param model: :math:`q`, ``[S, A, S]``
    :param rewards: ``[S, A]``, to which the logits of the best classifier are added; the result is minus infinity if the model
        has transitions that the world has not
    """
    logits = np.where(model > 0.0, model * log_ratio(mdp, model), 0.0).sum(2)
    return float(mdp.start @ _evaluate(model, policy, rewards + logits, mdp.gamma))


def best_model(mdp: MDP, values: Array) -> Array:
    r"""
    The model that is best for both objectives, given values of states: :math:`q \propto p \, e^{\gamma V(s')}`, the optimum of
    Eq. 9 under the best classifier, with :math:`\gamma V` as Eq. 2 has it. It is optimistic.

    :param values: V, ``[S]``
    :return: ``[S, A, S]``
    """
    tilted = mdp.transitions * np.exp(mdp.gamma * (values - values.max()))
    return tilted / tilted.sum(2, keepdims=True)


def backup(mdp: MDP, values: Array, rewards: Array) -> Array:
    r"""
    One step of value iteration with the best model: :math:`r + \log \sum_{s'} p \, e^{\gamma V(s')}`.

    :param values: V, ``[S]``
    :param rewards: ``[S, A]``: :func:`mnm_rewards` or :func:`vmbpo_rewards`
    :return: Q, ``[S, A]``
    """
    shift = mdp.gamma * values.max()
    return rewards + shift + np.log((mdp.transitions * np.exp(mdp.gamma * values - shift)).sum(2))


def solve(mdp: MDP, rewards: Array | None, sweeps: int = 2_000) -> Array:
    """
    Values of states and actions after value iteration.

    :param rewards: as for :func:`backup`; None: the plain task
    :param sweeps: over all states
    :return: Q, ``[S, A]``
    """
    values, quality = np.zeros(len(mdp.start)), np.zeros_like(mdp.rewards)
    for _ in range(sweeps):
        quality = mdp.rewards + mdp.gamma * mdp.transitions @ values if rewards is None else backup(mdp, values, rewards)
        values = quality.max(1)
    return quality


def greedy(quality: Array) -> Array:
    """
    The policy that takes the best action, the first of several.

    :param quality: Q, ``[S, A]``
    :return: ``[S, A]``
    """
    return np.eye(quality.shape[1])[quality.argmax(1)]


def _evaluate(transitions: Array, policy: Array, rewards: Array, gamma: float) -> Array:
    """Values of states under a policy, ``[S]``."""
    step = np.einsum("sa,sat->st", policy, transitions)
    return np.linalg.solve(np.eye(len(step)) - gamma * step, (policy * rewards).sum(1))
