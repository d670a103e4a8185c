"""Critic values and TD errors of buffer rows, computed in chunks."""

import torch as th

from sb3_tom.compute.chunks import rows_at_once
from sb3_tom.contracts.context import Context
from sb3_tom.contracts.types import Transitions


@th.no_grad()
def row_values(data: Transitions, context: Context) -> th.Tensor:
    """
    Values of the stored actions: the minimum of the current critics.

    :param data: N rows
    :param context: view of the agent
    :return: ``[N]``, in the unit of the rewards
    """
    pieces = data.split(rows_at_once(data.device))
    return th.cat([context.values(rows.observations, rows.actions).amin(0) for rows in pieces])


@th.no_grad()
def td_errors(data: Transitions, context: Context) -> th.Tensor:
    r"""
    TD errors of each critic with SAC's target (Haarnoja et al. 2018, arXiv:1812.05905, Eq. 5 and 6): the minimum of the target
    critics at one action of the current policy,

    .. math:: \delta_{c,i} = r_i + \gamma\, (1 - d_i)\, \bigl(\min_k \bar Q_k(s'_i, a'_i) - \alpha \log \pi(a'_i | s'_i)\bigr)
        - Q_c(s_i, a_i), \qquad a'_i \sim \pi(\cdot | s'_i).

    Rewards are not clipped: a row whose reward ``VecNormalize`` clips before the critics learn from it keeps an error.

    :param data: N rows; after a time-out the value of the next state counts
    :param context: view of the agent; without an entropy coefficient :math:`\alpha` is 0
    :return: ``[C, N]`` for C critics, in the unit of the rewards
    """
    return th.cat([_td_errors(rows, context) for rows in data.split(rows_at_once(data.device))], dim=1)


def _td_errors(rows: Transitions, context: Context) -> th.Tensor:
    actions, log_prob = context.policy(rows.next_observations)
    following = context.target_values(rows.next_observations, actions).amin(0)
    if context.ent_coef is not None:
        following = following - context.ent_coef * log_prob.flatten()
    target = rows.rewards.flatten() + context.gamma * (1.0 - rows.terminated.flatten()) * following
    return target - context.values(rows.observations, rows.actions)
