"""
One gradient step of SAC (Haarnoja et al. 2018, arXiv:1812.05905) on tensors, without a host read. SB3's ``SAC.train`` is its
oracle: from equal parameters, batches and noise it makes the same step (tests/policy_updates/sac/test_sac_update.py).

What makes it faster than SB3's loop: losses stay tensors, the critics' own gradients are not computed in the actor's step,
Adam is fused, targets move in one call, and the temperature's gradient is written down instead of traced.
"""

from dataclasses import dataclass
from typing import NamedTuple

import torch as th
import torch.nn.functional as F
from stable_baselines3.common.distributions import SquashedDiagGaussianDistribution
from stable_baselines3.sac.policies import Actor, SACPolicy
from torch import nn

from sb3_tom.checks.untouched import methods_are_known, no_mode_is_on, optimizer_is_untouched, tensors_are_untouched
from sb3_tom.compute.cuda_graphs import counters_to_device
from sb3_tom.contracts.types import Batch
from sb3_tom.policy_updates.sac.sampling import sample_squashed

SAMPLING = ("action_log_prob",)
DISTRIBUTION = ("log_prob_from_params", "proba_distribution", "sample", "log_prob")
"""Methods of SB3 that its ``train`` calls, and that are written down here instead."""


class Losses(NamedTuple):
    """What SB3's SAC logs of a step, as scalars on the device."""

    ent_coef: th.Tensor
    ent_coef_loss: th.Tensor
    critic_loss: th.Tensor
    actor_loss: th.Tensor


def is_supported(policy: SACPolicy) -> bool:
    """
    Whether :class:`SACUpdate` does what SB3's ``train`` would: not with gSDE (another distribution), nor with batch
    normalisation (running statistics are copied to the targets), nor with features shared by actor and critic, nor with
    another way to sample actions that was put into the actor.

    :param policy: the agent's policy
    """
    batch_norm = any(isinstance(module, nn.modules.batchnorm._BatchNorm) for module in policy.modules())
    if type(policy.actor) is not Actor or policy.actor.use_sde or batch_norm or policy.share_features_extractor:
        return False
    distribution: object = policy.actor.action_dist
    usual = type(distribution) is SquashedDiagGaussianDistribution and methods_are_known(distribution, DISTRIBUTION)
    return usual and methods_are_known(policy.actor, SAMPLING)


@dataclass
class SACUpdate:
    """
    Binds the parts of an agent that a gradient step changes.

    :param policy: actor, critics, targets and their optimisers
    :param log_ent_coef: logarithm of the temperature, or None if it is fixed
    :param ent_coef_optimizer: its optimiser, or None
    :param ent_coef: the fixed temperature; unused if it is learned
    :param target_entropy: entropy that the temperature aims at
    :param gamma: discount factor
    :param tau: step of the targets
    """

    policy: SACPolicy
    log_ent_coef: th.Tensor | None
    ent_coef_optimizer: th.optim.Optimizer | None
    ent_coef: th.Tensor | None
    target_entropy: float
    gamma: float
    tau: float

    def __post_init__(self) -> None:
        self._critic_parameters: list[th.Tensor] = [*self.policy.critic.parameters()]
        self._target_parameters: list[th.Tensor] = [*self.policy.critic_target.parameters()]

    def __call__(self, batch: Batch, noise: th.Tensor, update_target: bool) -> Losses:
        """
        One step of temperature, critics, actor and, if asked, targets, in SB3's order.

        :param batch: B rows
        :param noise: standard normal ``[2, B, A]``, for the actions at s and at s'
        :param update_target: whether the targets move
        :return: the losses
        """
        actions, log_prob = sample_squashed(self.policy.actor, batch.observations, noise[0])
        ent_coef, ent_coef_loss = self._update_temperature(log_prob)
        critic_loss = self._update_critics(batch, noise[1], ent_coef)
        actor_loss = self._update_actor(batch.observations, actions, log_prob, ent_coef)
        if update_target:
            with th.no_grad():
                th._foreach_lerp_(self._target_parameters, self._critic_parameters, self.tau)
        return Losses(ent_coef, ent_coef_loss, critic_loss, actor_loss)

    def _update_temperature(self, log_prob: th.Tensor) -> tuple[th.Tensor, th.Tensor]:
        """Returns the temperature before the step, as SB3 uses it, and its loss."""
        if self.log_ent_coef is None or self.ent_coef_optimizer is None:
            assert self.ent_coef is not None
            return self.ent_coef, th.zeros_like(self.ent_coef)
        if not (no_mode_is_on() and has_plain_temperature(self.log_ent_coef, self.ent_coef_optimizer)):
            loss = -(self.log_ent_coef * (log_prob + self.target_entropy).detach()).mean()
            ent_coef = self.log_ent_coef.detach().exp()
            self.ent_coef_optimizer.zero_grad()
            loss.backward()
            self.ent_coef_optimizer.step()
            return ent_coef, loss.detach()
        with th.no_grad():
            ent_coef = self.log_ent_coef.exp()
            gradient = -(log_prob + self.target_entropy).mean()
            loss = self.log_ent_coef * gradient
            self.log_ent_coef.grad = gradient.expand_as(self.log_ent_coef).clone()
        self.ent_coef_optimizer.step()
        return ent_coef, loss

    def _update_critics(self, batch: Batch, noise: th.Tensor, ent_coef: th.Tensor) -> th.Tensor:
        """Half the summed squared error of the critics to the soft target."""
        policy = self.policy
        with th.no_grad():
            next_actions, next_log_prob = sample_squashed(policy.actor, batch.next_observations, noise)
            next_values = th.cat(policy.critic_target(batch.next_observations, next_actions), dim=1).amin(dim=1, keepdim=True)
            next_values = next_values - ent_coef * next_log_prob
            targets = batch.rewards + (1.0 - batch.terminated) * self.gamma * next_values
        values = policy.critic(batch.observations, batch.actions)
        errors = (squared_error(value, targets, batch.confidence) for value in values)
        loss = 0.5 * sum(errors, start=th.zeros_like(ent_coef).squeeze())
        policy.critic.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        policy.critic.optimizer.step()
        return loss.detach()

    def _update_actor(
        self, observations: th.Tensor, actions: th.Tensor, log_prob: th.Tensor, ent_coef: th.Tensor
    ) -> th.Tensor:
        """Entropy-regularised value of the actor's own actions; the critics are constants here."""
        policy = self.policy
        # A user may have frozen some
        trained = [parameter for parameter in self._critic_parameters if parameter.requires_grad]
        for parameter in trained:
            parameter.requires_grad_(False)
        values = th.cat(policy.critic(observations, actions), dim=1).amin(dim=1, keepdim=True)
        for parameter in trained:
            parameter.requires_grad_(True)
        loss = (ent_coef * log_prob - values).mean()
        policy.actor.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        policy.actor.optimizer.step()
        return loss.detach()


def has_plain_temperature(log_ent_coef: th.Tensor | None, optimizer: th.optim.Optimizer | None) -> bool:
    """
    Whether nothing but its optimiser sees the gradient of the temperature.

    :param log_ent_coef: its logarithm, or None if it is fixed
    :param optimizer: its optimiser, or None
    """
    if log_ent_coef is None or optimizer is None:
        return True
    return tensors_are_untouched([log_ent_coef]) and optimizer_is_untouched(optimizer)


def squared_error(values: th.Tensor, targets: th.Tensor, confidence: th.Tensor | None) -> th.Tensor:
    """
    Mean squared error, each row counted by its confidence.

    :param values: ``[B, 1]``
    :param targets: ``[B, 1]``
    :param confidence: ``[B, 1]``, or None for ones
    :return: scalar
    """
    if confidence is None:
        return F.mse_loss(values, targets)
    return (confidence * (values - targets).square()).mean()


def fuse(optimizer: th.optim.Optimizer | None) -> None:
    """
    Let a plain Adam take its one-kernel step; the numbers agree to rounding.

    :param optimizer: changed in place if its class is Adam or AdamW and the user chose no implementation
    """
    if optimizer is None or type(optimizer) not in (th.optim.Adam, th.optim.AdamW):
        return
    for group in optimizer.param_groups:
        if group.get("fused") is None and not group.get("foreach") and not group.get("capturable"):
            group["fused"] = True
            counters_to_device(optimizer)
