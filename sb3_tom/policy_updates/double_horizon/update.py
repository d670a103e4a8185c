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
from stable_baselines3.common.policies import ContinuousCritic
from stable_baselines3.sac.policies import SACPolicy

from sb3_tom.checks.policies import network_norms
from sb3_tom.compute.cuda_graphs import uses_cuda_graphs
from sb3_tom.contracts.context import Context
from sb3_tom.contracts.policy_update import Batches, ImaginedWorld, PolicyParts, PolicyUpdate
from sb3_tom.contracts.types import Batch, Transitions
from sb3_tom.policy_updates.checked import checked_figures
from sb3_tom.policy_updates.double_horizon.gradient_step import GradientStep, Scalars
from sb3_tom.policy_updates.double_horizon.graphed_step import GraphedStep, recorded_step
from sb3_tom.policy_updates.double_horizon.policies import LayerNormCritics
from sb3_tom.policy_updates.double_horizon.settings import DoubleHorizonSettings
from sb3_tom.policy_updates.standardized_features import fingerprint, standardize
from sb3_tom.policy_updates.steps import begin, is_supported


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

    advice = "a smaller horizon or a larger real_critic_coef in policy_update_kwargs"
    largest_ratio = 4.0
    climbs_rewards = True

    def __init__(self, **settings: Any) -> None:
        super().__init__()
        self.settings = DoubleHorizonSettings(**settings)
        self._graphed: GraphedStep | None = None  # kept between calls on CUDA
        self._made: bytes | None = None  # fingerprint of the networks that the agent was made or loaded with

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
        _check_policy(parts.policy)
        _check_critics(self.settings, parts.policy.critic)

    def start_from(self, parts: PolicyParts) -> None:
        """Remember the networks, to tell whether others have trained them; see :meth:`PolicyUpdate.start_from`."""
        self._made = fingerprint(parts.policy)

    def forget(self) -> None:
        """Drop the recorded step, which would use the old tensors."""
        self._graphed = None

    def end_phase(
        self, parts: PolicyParts, data: Transitions, batches: Batches, world: ImaginedWorld, context: Context
    ) -> dict[str, float]:
        """Set the scales of inputs and values, then train the critics alone; see :meth:`PolicyUpdate.end_phase`."""
        standardize(parts.policy, data, batches.units, self._made)
        self._set_critic_scale(parts, data, batches)
        if self.settings.critic_warmup:
            steps = self.settings.critic_warmup, parts.batch_size
            step = self._begun(parts, batches, world, context)
            for batch, real in zip(batches.raw(*steps), self._real(batches, *steps), strict=False):
                with th.no_grad():
                    path = step.roll(batch.observations)
                step.fit_critics(path, real)
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
        step: GradientStep | GraphedStep = self._begun(parts, batches, world, context)
        sums: Scalars = {}
        rows = zip(batches.raw(gradient_steps, batch_size), self._real(batches, gradient_steps, batch_size), strict=False)
        for number, (batch, real) in enumerate(rows):
            if number < 2 and isinstance(step, GradientStep):  # optimisers that are new have stepped before the second
                step = self._recorded(step) or step
            figures = step(batch.observations, real, move_targets=number % parts.target_update_interval == 0)
            sums = {name: sums[name] + value if sums else value for name, value in figures.items()}
        means = {name: (value / gradient_steps).reshape(()) for name, value in sums.items()}
        return checked_figures(means, before, parts)

    def _begun(self, parts: PolicyParts, batches: Batches, world: ImaginedWorld, context: Context) -> GradientStep:
        """What makes the steps of a call; the policy is checked again, since it may have been changed."""
        _check_policy(parts.policy)
        if self.settings.horizon and not world.model.is_fitted:
            raise ValueError(
                "policy_update='double_horizon' is not allowed with a model that was never fitted, whose gradients mean "
                "nothing; allowed: after fit_model()"
            )
        begin(parts)
        return GradientStep(self.settings, parts, world, batches.units, context)

    def _recorded(self, step: GradientStep) -> GraphedStep | None:
        """The recorded form of a step, if it is on CUDA and has one."""
        if not uses_cuda_graphs(step.parts.policy.device):
            return None
        made = recorded_step(step, self._graphed)
        self._graphed = made or self._graphed
        return made

    def _real(self, batches: Batches, n_batches: int, batch_size: int) -> Iterator[Batch | None]:
        """As many real minibatches if the critics learn from real transitions too, else None repeatedly."""
        return batches.real(n_batches, batch_size) if self.settings.real_critic_coef else repeat(None)


def _check_policy(policy: SACPolicy) -> None:
    if not is_supported(policy):
        raise ValueError(
            "policy_kwargs (batch normalisation, shared features or an actor of another class) and an actor whose sampling is "
            "patched are not allowed with policy_update='double_horizon'; allowed: SB3's Actor with features of its own"
        )


def _check_critics(settings: DoubleHorizonSettings, critics: ContinuousCritic) -> None:
    """Refuse settings that have no effect on these critics; the defaults are for any."""
    number, scale = settings.n_target_critics, settings.critic_scale
    if number > max(critics.n_critics, DoubleHorizonSettings.n_target_critics):
        raise ValueError(
            f"policy_update_kwargs: n_target_critics={number} is not allowed with {critics.n_critics} critics; allowed: at "
            "most as many, or more critics by policy_kwargs={'n_critics': ...}"
        )
    if scale != "auto" and not isinstance(critics, LayerNormCritics):
        raise ValueError(
            f"policy_update_kwargs: critic_scale={scale!r} is not allowed with {type(critics).__name__}, which has no scale; "
            "allowed: 'auto', or DoubleHorizonPolicy"
        )
