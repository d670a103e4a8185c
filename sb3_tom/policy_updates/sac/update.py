"""SAC's gradient steps (Haarnoja et al. 2018, arXiv:1812.05905) by the fastest form that is equivalent to SB3's."""

import torch as th

from sb3_tom.checks.policies import network_norms
from sb3_tom.compute.cuda_graphs import uses_cuda_graphs
from sb3_tom.contracts.context import Context
from sb3_tom.contracts.policy_update import Batches, ImaginedWorld, PolicyParts, PolicyUpdate
from sb3_tom.contracts.types import Transitions
from sb3_tom.policy_updates.averaged_actor import AveragedActorPolicy
from sb3_tom.policy_updates.checked import checked_figures
from sb3_tom.policy_updates.sac.graphed_update import GraphedUpdate, recorded_update
from sb3_tom.policy_updates.sac.handwritten_update import HandwrittenSACUpdate, supports_handwritten_gradients
from sb3_tom.policy_updates.sac.sac_update import Losses, SACUpdate, has_plain_temperature
from sb3_tom.policy_updates.sac.sb3_update import sb3_update
from sb3_tom.policy_updates.standardized_features import fingerprint, standardize
from sb3_tom.policy_updates.steps import begin, is_supported

LOSSES_KEPT = 1_000
"""Number of steps whose losses are summed at once: adding at each step would cost a kernel per loss."""


class SACPolicyUpdate(PolicyUpdate):
    """MBPO's policy update: SAC on mixed minibatches (arXiv:1906.08253), twenty gradient steps per real transition."""

    def __init__(self) -> None:
        super().__init__()
        self._graphed: GraphedUpdate | None = None  # kept between calls on CUDA
        self._made: bytes | None = None  # fingerprint of the networks that the agent was made or loaded with

    def check(self, parts: PolicyParts, uses_confidence: bool) -> None:
        """Refuse a confidence where SB3's own step is used, which has none; see :meth:`PolicyUpdate.check`."""
        if uses_confidence and not is_supported(parts.policy):
            raise ValueError(
                "confidence is not allowed with this policy (gSDE, batch normalisation, shared features or an actor of "
                "another class), which SB3's own update trains; allowed: confidence=None, or another policy"
            )

    def start_from(self, parts: PolicyParts) -> None:
        """Remember the networks, to tell whether others have trained them; see :meth:`PolicyUpdate.start_from`."""
        self._made = fingerprint(parts.policy)

    def forget(self) -> None:
        """Drop the recorded step, which would use the old tensors."""
        self._graphed = None

    def end_phase(
        self, parts: PolicyParts, data: Transitions, batches: Batches, world: ImaginedWorld, context: Context
    ) -> dict[str, float]:
        """Update the standardisation of inputs, if the policy has one; see :meth:`PolicyUpdate.end_phase`."""
        standardize(parts.policy, data, batches.units, self._made)
        return {}

    def update(
        self,
        parts: PolicyParts,
        batches: Batches,
        world: ImaginedWorld,
        context: Context,
        gradient_steps: int,
        batch_size: int,
    ) -> dict[str, float]:
        """See :meth:`PolicyUpdate.update`; nothing is imagined here."""
        before = network_norms(parts.policy, parts.log_ent_coef)
        if is_supported(parts.policy):
            figures = self._fast(parts, batches, context, gradient_steps, batch_size)
        else:
            figures = sb3_update(parts, batches, gradient_steps, batch_size)
        return checked_figures(figures, before, parts)

    def _fast(
        self, parts: PolicyParts, batches: Batches, context: Context, gradient_steps: int, batch_size: int
    ) -> dict[str, th.Tensor]:
        """Means of the losses, on the device."""
        begin(parts)
        update, device = self._make_update(parts), context.generator.device
        shape = (2, batch_size, parts.policy.action_space.shape[0])  # type: ignore[index]
        losses: list[Losses] = []
        sums: list[Losses] = []
        for step, batch in enumerate(batches(gradient_steps, batch_size)):
            noise = th.randn(shape, generator=context.generator, device=device)
            losses.append(update(batch, noise, update_target=step % parts.target_update_interval == 0))
            if isinstance(parts.policy, AveragedActorPolicy):
                parts.policy.average()
            if len(losses) == LOSSES_KEPT:
                sums, losses = [_sum([*sums, *losses])], []
        return {name: value / gradient_steps for name, value in _sum([*sums, *losses])._asdict().items()}

    def _make_update(self, parts: PolicyParts) -> SACUpdate | GraphedUpdate:
        """The fastest equivalent update for the policy and its device."""
        plain = supports_handwritten_gradients(parts.policy) and has_plain_temperature(parts)
        kind = HandwrittenSACUpdate if plain else SACUpdate
        update = kind(parts)
        if not uses_cuda_graphs(parts.policy.device) or not isinstance(update, HandwrittenSACUpdate):
            return update
        made = recorded_update(update, self._graphed)
        self._graphed = made or self._graphed
        return made or update


def _sum(losses: list[Losses]) -> Losses:
    """Sum of losses, on the device."""
    return Losses(*(th.stack([value.reshape(()) for value in values]).sum() for values in zip(*losses, strict=True)))
