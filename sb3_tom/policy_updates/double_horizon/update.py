r"""
The policy update of Double Horizon MBPO (Kubo et al. 2025, arXiv:2512.15439; code: 4kubo/erl_lib).

From each of B imagined states the current policy takes H steps in the model (``path.py``). The critics learn the soft value of
the first state and action from that path; the actor maximises the soft value of the first state by its pathwise gradient,
through policy, model and noise. Both use the same path, so that a step costs one rollout.
"""

from collections.abc import Iterator
from itertools import repeat
from typing import Any

import torch as th
from torch import nn

from sb3_tom.checks.policies import network_norms
from sb3_tom.contracts.context import Context
from sb3_tom.contracts.policy_update import Batches, ImaginedWorld, PolicyParts, PolicyUpdate
from sb3_tom.contracts.types import Batch, Transitions
from sb3_tom.policy_updates.averaged_actor import AveragedActorPolicy
from sb3_tom.policy_updates.checked import checked_figures
from sb3_tom.policy_updates.direct_adam import stepper
from sb3_tom.policy_updates.double_horizon.path import Path, path_figures, path_value, roll
from sb3_tom.policy_updates.double_horizon.policies import LayerNormCritics
from sb3_tom.policy_updates.double_horizon.settings import DoubleHorizonSettings
from sb3_tom.policy_updates.sampling import sample_squashed
from sb3_tom.policy_updates.standardized_features import standardize
from sb3_tom.policy_updates.steps import begin, clip_gradients, constant, is_supported, temperature, temperature_step

Scalars = dict[str, th.Tensor]
"""Scalar tensors on the device, by name."""


class DoubleHorizonUpdate(PolicyUpdate):
    """
    Pathwise gradients over short rollouts in the model. Works with SB3's ``MlpPolicy`` too; :class:`~sb3_tom.DHMBPO` has the
    networks that it was made for.

    :param settings: fields of :class:`~sb3_tom.policy_updates.double_horizon.settings.DoubleHorizonSettings`
    :raises ValueError: naming the argument, what came and what is allowed
    """

    # 256 rollouts of 20 steps every 20 gradient steps, kept for ten such intervals
    defaults = {  # noqa: RUF012  # a ClassVar of the contract
        "ent_coef": "auto_0.1",
        "batch_size": 128,
        "tau": 0.01,
        "gamma": 0.998,
        "update_to_data_ratio": 2.0,
        "real_ratio": 0.0,
        "rollout_schedule": 20,
        "rollout_batch_size": 256,
        "rollout_freq": 10,
        "model_retain_epochs": 0.1,
    }

    largest_ratio = 4.0
    climbs_rewards = True

    def __init__(self, **settings: Any) -> None:
        super().__init__()
        self.settings = DoubleHorizonSettings(**settings)

    def check(self, parts: PolicyParts, uses_confidence: bool) -> None:
        """See :meth:`PolicyUpdate.check`."""
        if self.settings.horizon == 0 and self.settings.real_critic_coef == 0.0:
            raise ValueError(
                "policy_update_kwargs: horizon=0 is not allowed with real_critic_coef=0: no reward would be learned from; "
                "allowed: a horizon of at least 1, or a real_critic_coef above 0"
            )
        if parts.policy.actor.use_sde:
            raise ValueError(
                "use_sde=True is not allowed with policy_update='double_horizon': a path has no one noise; allowed: False"
            )
        if not is_supported(parts.policy):
            raise ValueError(
                "policy_kwargs (batch normalisation, shared features or an actor of another class) are not allowed with "
                "policy_update='double_horizon'; allowed: SB3's Actor with features of its own"
            )

    def end_phase(
        self, parts: PolicyParts, data: Transitions, batches: Batches, world: ImaginedWorld, context: Context
    ) -> dict[str, float]:
        """Set the scales of inputs and values, then train the critics alone; see :meth:`PolicyUpdate.end_phase`."""
        standardize(parts.policy, data, batches.units)
        self._set_critic_scale(parts, data, batches)
        if self.settings.critic_warmup:
            begin(parts)
            steps = self.settings.critic_warmup, parts.batch_size
            for batch, real in zip(batches.raw(*steps), self._real(batches, *steps), strict=False):
                with th.no_grad():
                    path = self._roll(parts, batch, batches, world, context)
                self._update_critics(parts, path, real, batches, context)
        critics = parts.policy.critic
        return {"critic_scale": float(critics.scale)} if isinstance(critics, LayerNormCritics) else {}

    def _set_critic_scale(self, parts: PolicyParts, data: Transitions, batches: Batches) -> None:
        """Set the scale once: Adam would take long from the outputs of a new network to values of a few hundred."""
        critics, target = parts.policy.critic, parts.policy.critic_target
        if not isinstance(critics, LayerNormCritics) or not isinstance(target, LayerNormCritics) or bool(critics.scaled):
            return
        scale = self.settings.critic_scale
        if isinstance(scale, str):
            mean = float(batches.units.rewards(data.rewards).abs().mean())
            scale = max(mean / max(1.0 - parts.gamma, 1e-3), 1.0)
        for one in (critics, target):
            one.set_scale(scale)

    def update(
        self,
        parts: PolicyParts,
        batches: Batches,
        world: ImaginedWorld,
        context: Context,
        gradient_steps: int,
        batch_size: int,
    ) -> dict[str, float]:
        """See :meth:`PolicyUpdate.update`."""
        before = network_norms(parts.policy, parts.log_ent_coef)
        begin(parts)
        sums: Scalars = {}
        rows = zip(batches.raw(gradient_steps, batch_size), self._real(batches, gradient_steps, batch_size), strict=False)
        for step, (batch, real) in enumerate(rows):
            with constant(world.model):
                path = self._roll(parts, batch, batches, world, context)
                figures = self._update_critics(parts, path, real, batches, context)
                figures |= self._update_actor(parts, path, batches)
            ent_coef, ent_coef_loss = temperature_step(parts, path.log_probs[0])
            figures |= {"ent_coef": ent_coef.reshape(()), "ent_coef_loss": ent_coef_loss.reshape(())}
            if step % parts.target_update_interval == 0:
                _move_targets(parts)
            sums = {name: sums[name] + value if sums else value for name, value in figures.items()}
        means = {name: (value / gradient_steps).reshape(()) for name, value in sums.items()}
        return checked_figures(means, before, parts)

    def _roll(self, parts: PolicyParts, batch: Batch, batches: Batches, world: ImaginedWorld, context: Context) -> Path:
        return roll(parts.policy.actor, world, batch.observations, self.settings.horizon, batches.units, context)

    def _real(self, batches: Batches, n_batches: int, batch_size: int) -> Iterator[Batch | None]:
        """As many real minibatches if the critics learn from real transitions too, else None repeatedly."""
        return batches.real(n_batches, batch_size) if self.settings.real_critic_coef else repeat(None)

    def _update_critics(
        self, parts: PolicyParts, path: Path, real: Batch | None, batches: Batches, context: Context
    ) -> Scalars:
        """Squared error to the soft value of a path, weighted by confidence, summed over critics, in units of their scale."""
        policy, units = parts.policy, batches.units
        with th.no_grad():
            last = self._target_value(parts, units.observations(path.observations[-1]), path.actions[-1], context)
            target = path_value(path, last, parts.gamma, temperature(parts), first_entropy=False)
        values = th.stack(policy.critic(units.observations(path.observations[0]), path.actions[0].detach()))
        loss = _squared_errors(parts, values, target, path.weights)
        if real is not None:
            loss = loss + self.settings.real_critic_coef * self._real_loss(parts, real, context)
        policy.critic.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        clip_gradients(parts, policy.critic.optimizer)
        stepper(policy.critic.optimizer)()
        figures = {"critic_loss": loss.detach(), "target_mean": target.mean(), "alive_at_end": path.alive[-1].mean()}
        return figures | path_figures(path)

    def _real_loss(self, parts: PolicyParts, real: Batch, context: Context) -> th.Tensor:
        """SAC's squared errors on real transitions, with this update's reduction of target critics."""
        with th.no_grad():
            noise = th.randn(real.actions.shape, generator=context.generator, device=real.actions.device)
            actions, log_prob = sample_squashed(parts.policy.actor, real.next_observations, noise.to(real.actions.dtype))
            last = self._target_value(parts, real.next_observations, actions, context) - temperature(parts) * log_prob
            target = real.rewards + (1.0 - real.terminated) * parts.gamma * last
        return _squared_errors(parts, th.stack(parts.policy.critic(real.observations, real.actions)), target, None)

    def _target_value(self, parts: PolicyParts, seen: th.Tensor, actions: th.Tensor, context: Context) -> th.Tensor:
        """Values ``[B, 1]`` of newly drawn target critics."""
        critics = parts.policy.critic_target
        order = th.randperm(critics.n_critics, generator=context.generator, device=seen.device)
        drawn = order[: self.settings.n_target_critics]
        # Other critics, and a forward patched by a user, may not take indices: they compute all values
        few = type(critics) is LayerNormCritics and "forward" not in vars(critics)
        values = th.stack(critics(seen, actions, drawn)) if few else th.stack(critics(seen, actions))[drawn]
        return _reduced(values, self.settings.target_reduction)

    def _update_actor(self, parts: PolicyParts, path: Path, batches: Batches) -> Scalars:
        """The pathwise gradient of the soft value of the first states; critics and model are constants."""
        policy = parts.policy
        with constant(policy.critic):
            seen = batches.units.observations(path.observations[-1])
            values = th.stack(policy.critic(seen, path.actions[-1]))
            last = _reduced(values, self.settings.actor_reduction)
            value = path_value(path, last, parts.gamma, temperature(parts), first_entropy=True)
            if self.settings.weight_actor and path.weights is not None:
                value = path.weights * value
            loss = -value.mean()
            policy.actor.optimizer.zero_grad(set_to_none=True)
            loss.backward()
        norm = nn.utils.get_total_norm([p.grad for p in policy.actor.parameters() if p.grad is not None])
        clip_gradients(parts, policy.actor.optimizer, norm)
        stepper(policy.actor.optimizer)()
        if isinstance(policy, AveragedActorPolicy):
            policy.average()
        return {"actor_loss": loss.detach(), "actor_grad_norm": norm}


def _squared_errors(parts: PolicyParts, values: th.Tensor, target: th.Tensor, weights: th.Tensor | None) -> th.Tensor:
    """Mean squared errors of the critics' ``values [C, B, 1]``, summed over critics, in units of their scale."""
    critics = parts.policy.critic
    errors = ((values - target) / (critics.scale if isinstance(critics, LayerNormCritics) else 1.0)).square()
    return (errors if weights is None else weights * errors).mean(1).sum()


def _reduced(values: th.Tensor, reduction: str) -> th.Tensor:
    """Reduce ``[K, B, 1]`` to ``[B, 1]``."""
    return values.mean(0) if reduction == "mean" else values.amin(0)


@th.no_grad()
def _move_targets(parts: PolicyParts) -> None:
    targets: list[th.Tensor] = [*parts.policy.critic_target.parameters()]
    critics: list[th.Tensor] = [*parts.policy.critic.parameters()]
    th._foreach_lerp_(targets, critics, parts.tau)
