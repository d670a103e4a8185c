r"""
A short path (differentiable rollout) of the current policy in the model, and the value estimate that it gives.

=================  ==================  =============================================================================
paper              here                meaning
=================  ==================  =============================================================================
:math:`s_t`        ``observations``    ``[B, O]`` each, t = 0 to H, in the env's own units
:math:`a_t`        ``actions``         ``[B, A]`` each, t = 0 to H, new samples of the policy
:math:`m_t`        ``alive``           ``[B, 1]`` each, 1.0 until the episode has ended
:math:`r_t`        ``rewards``         ``[B, 1]`` each, t = 0 to H - 1, in the units of the critics
=================  ==================  =============================================================================

A path that the agent's ``rollout_stop`` stops after n < H steps stays at :math:`s_n`, the last trusted state: its m is 0 for
n <= t < H, and at t = H that of :math:`s_n`.
"""

from typing import NamedTuple

import torch as th
from stable_baselines3.sac.policies import Actor

from sb3_tom.contracts.context import Context
from sb3_tom.contracts.policy_update import ImaginedWorld, Units
from sb3_tom.imagination.differentiable import Rollout, roll_out
from sb3_tom.policy_updates.sampling import sample_squashed


class Path(NamedTuple):
    """
    H steps from each of B states, see the table of this module.

    :param log_probs: ``[B, 1]`` each, of the actions
    :param length: ``[B, 1]``, steps before the path was stopped, H where it was not; None: there is no rollout stop
    :param confidence: ``[B, 1]``, see :func:`path_confidence`; None: all count the same
    """

    observations: list[th.Tensor]
    actions: list[th.Tensor]
    log_probs: list[th.Tensor]
    alive: list[th.Tensor]
    rewards: list[th.Tensor]
    length: th.Tensor | None = None
    confidence: th.Tensor | None = None

    @property
    def weights(self) -> th.Tensor | None:
        """
        Weight of each path ``[B, 1]``, None if all count the same: its confidence, or 0 for a path that was stopped before its
        first step, whose value would be the critics' own.
        """
        if self.confidence is not None or self.length is None:
            return self.confidence
        return (self.length > 0).to(self.length.dtype)


def roll(actor: Actor, world: ImaginedWorld, starts: th.Tensor, horizon: int, units: Units, context: Context) -> Path:
    """
    Roll out the policy, keeping the graph. The reward of a step that ends an episode counts, later ones do not.

    :param actor: SB3's SAC actor, without gSDE
    :param world: model, termination and reward
    :param starts: ``[B, O]``, in the env's own units
    :param horizon: H, at least 0
    :param units: convert the env's units to the policy's
    :param context: source of randomness
    """
    n_actions = int(actor.action_space.shape[0])
    log_probs: list[th.Tensor] = []

    def policy(here: th.Tensor) -> tuple[th.Tensor, th.Tensor]:
        noise = th.randn((here.shape[0], n_actions), generator=context.generator, device=here.device, dtype=here.dtype)
        actions, log_prob = sample_squashed(actor, units.observations(here), noise)
        log_probs.append(log_prob)
        return actions, log_prob

    rollout = roll_out(world, starts, horizon, context, policy)
    last, _ = policy(rollout.observations)
    return Path(
        [*(step.observations for step in rollout.steps), rollout.observations],
        [*(step.actions for step in rollout.steps), last],
        log_probs,
        [*rollout.counted, rollout.alive],
        [units.rewards(step.rewards) for step in rollout.steps],
        rollout.length,
        path_confidence(rollout),
    )


def path_confidence(rollout: Rollout) -> th.Tensor | None:
    """
    Confidence of a path: the geometric mean over its n steps that count. One step of low confidence lowers that of the whole
    path, since later steps depend on it. Unlike a product, the mean does not favour paths that end early, and equals the
    confidence of the steps where that is constant.

    :param rollout: H steps
    :return: ``[B, 1]``, 0 where a stop has left no step; None: there is no confidence
    """
    if rollout.trust is None:
        return None
    counted = th.stack(rollout.counted)
    number = counted.sum(0)
    said = th.where(counted > 0, th.stack(rollout.trust), 1.0)
    product = said.double().prod(0)  # of twenty factors of 0.004: 0 in float32
    return th.where(number > 0, product ** (1.0 / number.clamp(min=1.0)), 0.0).to(number.dtype)


def path_value(path: Path, last_value: th.Tensor, gamma: float, ent_coef: th.Tensor, first_entropy: bool) -> th.Tensor:
    r"""
    The soft value of the starts,

    .. math:: \sum_{t<H} \gamma^t m_t (r_t - \alpha \log \pi_t) + \gamma^H m_H (Q_H - \alpha \log \pi_H),

    of the state, or, without the entropy of the first action, of the state and that action. For the critics' target (detached)
    and the actor's objective, as in ``svg.py`` of the authors' code. Where a path is stopped after n steps, H is n.

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
    discount = gamma**horizon if path.length is None else gamma**path.length
    return value + discount * path.alive[horizon] * last


def path_figures(path: Path) -> dict[str, th.Tensor]:
    """
    Figures for the log, if the agent has a stop or a confidence: share of stopped paths, mean confidence, and its effective
    sample size as a share of the paths.

    :param path: H steps
    """
    figures: dict[str, th.Tensor] = {}
    if path.length is not None:
        figures["path_stopped_share"] = (path.length < len(path.rewards)).to(path.length.dtype).mean()
    if path.confidence is not None:
        mean, squares = path.confidence.mean(), path.confidence.square().mean()
        figures["path_confidence_mean"] = mean
        figures["path_confidence_effective_share"] = th.where(squares > 0, mean.square() / squares, 0.0)
    return figures
