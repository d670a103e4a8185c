"""Building blocks of a gradient step, shared by the policy updates."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch as th
from stable_baselines3.common.distributions import SquashedDiagGaussianDistribution, StateDependentNoiseDistribution
from stable_baselines3.sac.policies import Actor, SACPolicy
from torch import nn

from sb3_tom.checks.untouched import methods_are_known
from sb3_tom.compute.optimizers import counters_to_device
from sb3_tom.contracts.policy_update import PolicyParts
from sb3_tom.data.squashed import SQUASH_EPSILON
from sb3_tom.policy_updates.direct_adam import Steppers

SAMPLING = ("action_log_prob",)
DISTRIBUTION = ("log_prob_from_params", "proba_distribution", "sample", "log_prob")
"""Methods that SB3's ``train`` calls, and that :mod:`~sb3_tom.policy_updates.sampling` replaces."""


def is_supported(policy: SACPolicy) -> bool:
    """
    Whether the actions and steps of this package are those of SB3's ``train``: not with gSDE (another distribution), batch
    normalisation (running statistics are copied to the targets), features shared by actor and critic, or an actor whose
    sampling was overridden.

    :param policy: the agent's policy
    """
    batch_norm = any(isinstance(module, nn.modules.batchnorm._BatchNorm) for module in policy.modules())
    return samples_as_sb3(policy.actor) and not (policy.actor.use_sde or batch_norm or policy.share_features_extractor)


def samples_as_sb3(actor: nn.Module) -> bool:
    """
    Whether an actor and its distribution are SB3's, with gSDE or without, and no method of them was overridden, so that
    :mod:`~sb3_tom.policy_updates.sampling` draws the same actions.

    :param actor: of a policy
    """
    if type(actor) is not Actor:
        return False
    distribution: Any = actor.action_dist
    usual = StateDependentNoiseDistribution if actor.use_sde else SquashedDiagGaussianDistribution
    known = type(distribution) is usual and methods_are_known(distribution, DISTRIBUTION)
    squashed = isinstance(distribution, StateDependentNoiseDistribution) or distribution.epsilon == SQUASH_EPSILON
    return known and squashed and methods_are_known(actor, SAMPLING)


def begin(parts: PolicyParts) -> None:
    """
    Prepare the networks for gradient steps.

    :param parts: their networks are set to training mode, and plain Adams to the fused implementation
    """
    parts.policy.set_training_mode(True)
    for optimizer in parts.optimizers:
        fuse(optimizer)


def fuse(optimizer: th.optim.Optimizer) -> None:
    """
    Switch a plain Adam to its fused implementation; the numbers agree up to rounding.

    :param optimizer: changed in place if its class is Adam or AdamW and the user chose no implementation
    """
    if type(optimizer) not in (th.optim.Adam, th.optim.AdamW):
        return
    for group in optimizer.param_groups:
        unchosen = group.get("fused") is None and group.get("foreach") is None
        if unchosen and not group.get("capturable"):
            group["fused"] = True
            counters_to_device(optimizer)


def backward(optimizer: th.optim.Optimizer, loss: th.Tensor) -> None:
    """
    Compute new gradients for an optimiser's parameters. There are none where the user froze all that the loss depends on, for
    example the whole actor; the step then changes nothing, as in SB3.

    :param optimizer: its old gradients are dropped; a user's ``zero_grad`` may take no arguments
    :param loss: scalar
    """
    optimizer.zero_grad()
    if loss.requires_grad:
        loss.backward()


def clip_gradients(parts: PolicyParts, optimizer: th.optim.Optimizer, norm: th.Tensor | None = None) -> None:
    """
    Clip the norm of the gradients of an optimiser's parameters to ``max_grad_norm``. No host read, so that it can be recorded.

    :param parts: hold ``max_grad_norm``; None: no clipping
    :param optimizer: its parameters' gradients are clipped
    :param norm: of these gradients, if it is known; None: computed
    """
    if parts.max_grad_norm is None:
        return
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    if norm is None:
        nn.utils.clip_grad_norm_(parameters, parts.max_grad_norm)
    else:
        nn.utils.clip_grads_with_norm_(parameters, parts.max_grad_norm, norm)


@contextmanager
def clipping(parts: PolicyParts) -> Iterator[None]:
    """
    In the block every step of actor and critics clips their gradients first, also SB3's.

    :param parts: see :func:`clip_gradients`
    """
    optimizers = [parts.policy.actor.optimizer, parts.policy.critic.optimizer] if parts.max_grad_norm is not None else []
    hooks = [one.register_step_pre_hook(lambda stepped, *_: clip_gradients(parts, stepped)) for one in optimizers]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def temperature(parts: PolicyParts) -> th.Tensor:
    """
    The entropy coefficient, learned or fixed, detached.

    :param parts: hold it
    """
    if parts.log_ent_coef is not None:
        return parts.log_ent_coef.detach().exp()
    assert parts.ent_coef is not None
    return parts.ent_coef


def temperature_step(parts: PolicyParts, log_prob: th.Tensor, steppers: Steppers | None = None) -> tuple[th.Tensor, th.Tensor]:
    """
    SB3's step of the temperature (entropy coefficient), by autograd; a fixed one is not changed.

    :param parts: their temperature is changed
    :param log_prob: of the policy's actions ``[B, 1]``
    :param steppers: step the optimiser; None: new ones
    :return: the temperature before the step, and the loss
    """
    ent_coef = temperature(parts)
    if parts.log_ent_coef is None or parts.ent_coef_optimizer is None:
        return ent_coef, th.zeros_like(ent_coef)
    loss = -(parts.log_ent_coef * (log_prob + parts.target_entropy).detach()).mean()
    backward(parts.ent_coef_optimizer, loss)
    (steppers or Steppers([parts.ent_coef_optimizer]))(parts.ent_coef_optimizer)
    return ent_coef, loss.detach()


@contextmanager
def constant(module: nn.Module) -> Iterator[None]:
    """
    In the block the parameters get no gradients; those that the user froze stay frozen after it.

    :param module: any
    """
    trained = [parameter for parameter in module.parameters() if parameter.requires_grad]
    for parameter in trained:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in trained:
            parameter.requires_grad_(True)
