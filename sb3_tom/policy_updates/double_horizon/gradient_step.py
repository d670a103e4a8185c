"""
One gradient step of the double horizon on tensors, without a host read: critics, actor, temperature and targets, all from the
same path.
"""

from dataclasses import dataclass

import torch as th
from torch import nn

from sb3_tom.checks.untouched import methods_are_known
from sb3_tom.contracts.context import Context
from sb3_tom.contracts.policy_update import ImaginedWorld, PolicyParts, Units
from sb3_tom.contracts.types import Batch
from sb3_tom.policy_updates.averaged_actor import AveragedActorPolicy
from sb3_tom.policy_updates.direct_adam import Steppers
from sb3_tom.policy_updates.double_horizon.path import Path, path_figures, path_value, roll
from sb3_tom.policy_updates.double_horizon.policies import LayerNormCritics
from sb3_tom.policy_updates.double_horizon.settings import DoubleHorizonSettings
from sb3_tom.policy_updates.sampling import sample_squashed
from sb3_tom.policy_updates.steps import backward, clip_gradients, constant, temperature, temperature_step

Scalars = dict[str, th.Tensor]
"""Scalar tensors on the device, by name."""


@dataclass
class GradientStep:
    """
    Makes gradient steps.

    :param settings: of the update
    :param parts: they are changed
    :param world: to roll out in
    :param units: convert the env's units to the policy's
    :param context: source of randomness
    """

    settings: DoubleHorizonSettings
    parts: PolicyParts
    world: ImaginedWorld
    units: Units
    context: Context

    def __post_init__(self) -> None:
        self.steppers = Steppers(self.parts.optimizers)

    def __call__(self, observations: th.Tensor, real: Batch | None, move_targets: bool) -> Scalars:
        """
        One step of critics, actor, temperature and, with ``move_targets``, target critics.

        :param observations: starts of the paths ``[B, O]``, in the env's own units
        :param real: real transitions that the critics learn from too
        :param move_targets: whether the target critics move
        :return: figures for the log
        """
        with constant(self.world.model):
            path = self.roll(observations)
            self._check_gradient(path)
            figures = self.fit_critics(path, real)
            figures |= self.improve_actor(path)
        ent_coef, ent_coef_loss = temperature_step(self.parts, path.log_probs[0], self.steppers)
        if move_targets:
            self._move_targets()
        return figures | {"ent_coef": ent_coef.reshape(()), "ent_coef_loss": ent_coef_loss.reshape(())}

    def roll(self, observations: th.Tensor) -> Path:
        """Paths from the starts ``[B, O]``."""
        return roll(self.parts.policy.actor, self.world, observations, self.settings.horizon, self.units, self.context)

    def _check_gradient(self, path: Path) -> None:
        """Refuse a model that ends the gradient: the actor would learn from the critics of the first states alone."""
        if not path.rewards or not path.actions[0].requires_grad:
            return
        model = self.world.model
        if not path.observations[1].requires_grad:
            what = "have no gradient"
        elif not model.is_reparameterised:
            what = "are not differentiable in all that they depend on"
        else:
            return
        raise ValueError(
            f"dynamics={type(model).__name__} is not allowed with policy_update='double_horizon': its next observations "
            f"{what}; allowed: a model whose next observations and rewards are torch operations on observations and actions, "
            "without detach, no_grad, numpy or drawn components"
        )

    def fit_critics(self, path: Path, real: Batch | None) -> Scalars:
        """Squared error to the soft value of a path, weighted by confidence, summed over critics, in units of their scale."""
        parts, policy = self.parts, self.parts.policy
        with th.no_grad():
            last = self.target_value(self.units.observations(path.observations[-1]), path.actions[-1])
            target = path_value(path, last, parts.gamma, temperature(parts), first_entropy=False)
        values = th.stack(policy.critic(self.units.observations(path.observations[0]), path.actions[0].detach()))
        loss = _squared_errors(parts, values, target, path.weights)
        if real is not None:
            loss = loss + self.settings.real_critic_coef * self._real_loss(real)
        backward(policy.critic.optimizer, loss)
        clip_gradients(parts, policy.critic.optimizer)
        self.steppers(policy.critic.optimizer)
        figures = {"critic_loss": loss.detach(), "target_mean": target.mean(), "alive_at_end": path.alive[-1].mean()}
        return figures | path_figures(path)

    def _real_loss(self, real: Batch) -> th.Tensor:
        """SAC's squared errors on real transitions, with this update's reduction of target critics."""
        parts = self.parts
        with th.no_grad():
            noise = th.randn(real.actions.shape, generator=self.context.generator, device=real.actions.device)
            actions, log_prob = sample_squashed(parts.policy.actor, real.next_observations, noise.to(real.actions.dtype))
            last = self.target_value(real.next_observations, actions) - temperature(parts) * log_prob
            target = real.rewards + (1.0 - real.terminated) * parts.gamma * last
        return _squared_errors(parts, th.stack(parts.policy.critic(real.observations, real.actions)), target, None)

    def target_value(self, seen: th.Tensor, actions: th.Tensor) -> th.Tensor:
        """
        Values ``[B, 1]`` of newly drawn target critics.

        :param seen: observations ``[B, O]``, in the policy's units
        :param actions: ``[B, A]``
        """
        critics = self.parts.policy.critic_target
        order = th.randperm(critics.n_critics, generator=self.context.generator, device=seen.device)
        drawn = order[: self.settings.n_target_critics]
        # Other critics, and a forward patched by a user, may not take indices: they compute all values
        few = type(critics) is LayerNormCritics and methods_are_known(critics, ("forward",))
        values = th.stack(critics(seen, actions, drawn)) if few else th.stack(critics(seen, actions))[drawn]
        return _reduced(values, self.settings.target_reduction)

    def improve_actor(self, path: Path) -> Scalars:
        """Follow the pathwise gradient of the soft value of the first states; critics and model are constants."""
        parts, policy = self.parts, self.parts.policy
        with constant(policy.critic):
            values = th.stack(policy.critic(self.units.observations(path.observations[-1]), path.actions[-1]))
            last = _reduced(values, self.settings.actor_reduction)
            value = path_value(path, last, parts.gamma, temperature(parts), first_entropy=True)
            if self.settings.weight_actor and path.weights is not None:
                value = path.weights * value
            loss = -value.mean()
            backward(policy.actor.optimizer, loss)
        norm = nn.utils.get_total_norm([p.grad for p in policy.actor.parameters() if p.grad is not None])
        norm = norm.to(loss.device)  # without gradients it is a 0 on the CPU
        clip_gradients(parts, policy.actor.optimizer, norm)
        self.steppers(policy.actor.optimizer)
        if isinstance(policy, AveragedActorPolicy):
            policy.average()
        return {"actor_loss": loss.detach(), "actor_grad_norm": norm}

    @th.no_grad()
    def _move_targets(self) -> None:
        policy = self.parts.policy
        targets: list[th.Tensor] = [*policy.critic_target.parameters()]
        critics: list[th.Tensor] = [*policy.critic.parameters()]
        th._foreach_lerp_(targets, critics, self.parts.tau)


def _squared_errors(parts: PolicyParts, values: th.Tensor, target: th.Tensor, weights: th.Tensor | None) -> th.Tensor:
    """Mean squared errors of the critics' ``values [C, B, 1]``, summed over critics, in units of their scale."""
    critics = parts.policy.critic
    errors = ((values - target) / (critics.scale if isinstance(critics, LayerNormCritics) else 1.0)).square()
    return (errors if weights is None else weights * errors).mean(1).sum()


def _reduced(values: th.Tensor, reduction: str) -> th.Tensor:
    """Reduce ``[K, B, 1]`` to ``[B, 1]``."""
    return values.mean(0) if reduction == "mean" else values.amin(0)
