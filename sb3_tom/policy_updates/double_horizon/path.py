r"""
A short path of the current policy in the model, and the value of its start as a function of it.

=================  ==================  =============================================================================
paper              here                meaning
=================  ==================  =============================================================================
:math:`s_t`        ``observations``    ``[B, O]`` each, t = 0 to H, in the env's own units
:math:`a_t`        ``actions``         ``[B, A]`` each, t = 0 to H, fresh ones of the policy
:math:`m_t`        ``alive``           ``[B, 1]`` each, 1.0 until the episode has ended
:math:`r_t`        ``rewards``         ``[B, 1]`` each, t = 0 to H - 1, in the units of the critics
=================  ==================  =============================================================================
"""

from typing import NamedTuple

import torch as th
from stable_baselines3.sac.policies import Actor

from sb3_tom.contracts.context import Context
from sb3_tom.contracts.policy_update import ImaginedWorld, Units
from sb3_tom.policy_updates.sampling import sample_squashed


class Path(NamedTuple):
    """H steps from each of B states, see the table of this module; ``log_probs`` are those of the actions."""

    observations: list[th.Tensor]
    actions: list[th.Tensor]
    log_probs: list[th.Tensor]
    alive: list[th.Tensor]
    rewards: list[th.Tensor]

    def detach(self) -> "Path":
        """The same numbers without their graph."""
        return Path(*([value.detach() for value in values] for values in self))


def roll(actor: Actor, world: ImaginedWorld, starts: th.Tensor, horizon: int, units: Units, context: Context) -> Path:
    """
    Follow the policy, keeping the graph. The reward of a step that ends an episode counts, nothing after it does.

    :param actor: SB3's SAC actor, without gSDE
    :param world: model, termination and reward
    :param starts: ``[B, O]``, in the env's own units
    :param horizon: H, at least 0
    :param units: from the env's to the policy's
    :param context: source of randomness
    """
    n_actions = int(actor.action_space.shape[0])
    path = Path([starts], [], [], [th.ones_like(starts[:, :1])], [])
    for step in range(horizon + 1):
        here = path.observations[-1]
        noise = th.randn((here.shape[0], n_actions), generator=context.generator, device=here.device, dtype=here.dtype)
        actions, log_prob = sample_squashed(actor, units.observations(here), noise)
        path.actions.append(actions)
        path.log_probs.append(log_prob)
        if step < horizon:
            outcome = world.relabel(world.outcome(here, actions, context), context)
            path.rewards.append(units.rewards(outcome.rewards))
            path.alive.append(path.alive[-1] * (1.0 - outcome.terminated))
            # Nothing is asked about states after an end, where rules and rewards may be undefined: 0 * nan is nan
            path.observations.append(th.where(path.alive[-1] > 0, outcome.next_observations, here))
    return path


def path_value(path: Path, last_value: th.Tensor, gamma: float, ent_coef: th.Tensor, first_entropy: bool) -> th.Tensor:
    r"""
    The soft value of the starts,

    .. math:: \sum_{t<H} \gamma^t m_t (r_t - \alpha \log \pi_t) + \gamma^H m_H (Q_H - \alpha \log \pi_H),

    of the state, or, without the entropy of the first action, of the state and that action. For the critics' target (detached)
    and the actor's objective; as ``svg.py`` of the authors' code has it.

    :param path: H steps
    :param last_value: Q of the last state and action ``[B, 1]``
    :param gamma: discount factor
    :param ent_coef: alpha, scalar
    :param first_entropy: whether the entropy at the start counts
    :return: ``[B, 1]``
    """
    horizon = len(path.rewards)
    value = th.zeros_like(last_value)
    for step, reward in enumerate(path.rewards):
        soft = reward - ent_coef * path.log_probs[step] if step or first_entropy else reward
        value = value + gamma**step * path.alive[step] * soft
    last = last_value - ent_coef * path.log_probs[horizon] if horizon or first_entropy else last_value
    return value + gamma**horizon * path.alive[horizon] * last
