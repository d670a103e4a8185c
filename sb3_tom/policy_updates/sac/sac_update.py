"""
One gradient step of SAC (Haarnoja et al. 2018, arXiv:1812.05905) on tensors, without a host read. From equal parameters,
batches and noise it makes the same step as SB3's ``SAC.train`` (tests/policy_updates/sac/test_sac_update.py).

It is faster than SB3's loop because losses stay tensors, the critics' parameters get no gradients in the actor's step, Adam is
fused, targets move in one call, and the temperature's gradient is computed without autograd.
"""

from dataclasses import dataclass
from typing import NamedTuple

import torch as th
import torch.nn.functional as F

from sb3_tom.checks.untouched import no_mode_is_on, optimizer_is_untouched, tensors_are_untouched
from sb3_tom.contracts.policy_update import PolicyParts
from sb3_tom.contracts.types import Batch
from sb3_tom.policy_updates.sampling import sample_squashed
from sb3_tom.policy_updates.steps import backward, clip_gradients, constant, temperature_step


class Losses(NamedTuple):
    """Figures that SB3's SAC logs, scalars on the device."""

    ent_coef: th.Tensor
    ent_coef_loss: th.Tensor
    critic_loss: th.Tensor
    actor_loss: th.Tensor


@dataclass
class SACUpdate:
    """
    SAC's gradient step for the parts of an agent.

    :param parts: they are changed
    """

    parts: PolicyParts

    def __post_init__(self) -> None:
        self._critic_parameters: list[th.Tensor] = [*self.parts.policy.critic.parameters()]
        self._target_parameters: list[th.Tensor] = [*self.parts.policy.critic_target.parameters()]

    def __call__(self, batch: Batch, noise: th.Tensor, update_target: bool) -> Losses:
        """
        One step of temperature, critics, actor and, with ``update_target``, targets, in SB3's order.

        :param batch: B rows
        :param noise: standard normal ``[2, B, A]``, for the actions at s and at s'
        :param update_target: whether the targets move
        :return: the losses
        """
        actions, log_prob = sample_squashed(self.parts.policy.actor, batch.observations, noise[0])
        ent_coef, ent_coef_loss = self._update_temperature(log_prob)
        critic_loss = self._update_critics(batch, noise[1], ent_coef)
        actor_loss = self._update_actor(batch.observations, actions, log_prob, ent_coef)
        if update_target:
            with th.no_grad():
                th._foreach_lerp_(self._target_parameters, self._critic_parameters, self.parts.tau)
        return Losses(ent_coef, ent_coef_loss, critic_loss, actor_loss)

    def _update_temperature(self, log_prob: th.Tensor) -> tuple[th.Tensor, th.Tensor]:
        """Step the temperature; return its value before the step, which SB3 uses, and its loss."""
        learned, optimizer = self.parts.log_ent_coef, self.parts.ent_coef_optimizer
        if learned is None or optimizer is None or not (no_mode_is_on() and has_plain_temperature(self.parts)):
            return temperature_step(self.parts, log_prob)
        with th.no_grad():
            ent_coef = learned.exp()
            gradient = -(log_prob + self.parts.target_entropy).mean()
            loss = learned * gradient
            learned.grad = gradient.expand_as(learned).clone()
        optimizer.step()
        return ent_coef, loss

    def _update_critics(self, batch: Batch, noise: th.Tensor, ent_coef: th.Tensor) -> th.Tensor:
        """Half the summed squared error of the critics to the soft target."""
        policy = self.parts.policy
        with th.no_grad():
            next_actions, next_log_prob = sample_squashed(policy.actor, batch.next_observations, noise)
            next_values = th.cat(policy.critic_target(batch.next_observations, next_actions), dim=1).amin(dim=1, keepdim=True)
            next_values = next_values - ent_coef * next_log_prob
            targets = batch.rewards + (1.0 - batch.terminated) * self.parts.gamma * next_values
        values = policy.critic(batch.observations, batch.actions)
        errors = (squared_error(value, targets, batch.confidence) for value in values)
        loss = 0.5 * sum(errors, start=th.zeros_like(ent_coef).squeeze())
        backward(policy.critic.optimizer, loss)
        clip_gradients(self.parts, policy.critic.optimizer)
        policy.critic.optimizer.step()
        return loss.detach()

    def _update_actor(
        self, observations: th.Tensor, actions: th.Tensor, log_prob: th.Tensor, ent_coef: th.Tensor
    ) -> th.Tensor:
        """Entropy-regularised value of the actor's own actions; the critics are constants here."""
        policy = self.parts.policy
        with constant(policy.critic):
            values = th.cat(policy.critic(observations, actions), dim=1).amin(dim=1, keepdim=True)
        loss = (ent_coef * log_prob - values).mean()
        backward(policy.actor.optimizer, loss)
        clip_gradients(self.parts, policy.actor.optimizer)
        policy.actor.optimizer.step()
        return loss.detach()


def has_plain_temperature(parts: PolicyParts) -> bool:
    """
    Whether the temperature and its optimiser have no hooks or overrides that its gradient would trigger, and it is not frozen.

    :param parts: with a learned temperature or a fixed one
    """
    if parts.log_ent_coef is None or parts.ent_coef_optimizer is None:
        return True
    usual = tensors_are_untouched([parts.log_ent_coef]) and optimizer_is_untouched(parts.ent_coef_optimizer)
    return usual and parts.log_ent_coef.requires_grad


def squared_error(values: th.Tensor, targets: th.Tensor, confidence: th.Tensor | None) -> th.Tensor:
    """
    Mean squared error, each row weighted by its confidence.

    :param values: ``[B, 1]``
    :param targets: ``[B, 1]``
    :param confidence: ``[B, 1]``, or None for ones
    :return: scalar
    """
    if confidence is None:
        return F.mse_loss(values, targets)
    return (confidence * (values - targets).square()).mean()
