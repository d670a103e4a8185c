"""Pieces of a gradient step that the ways of learning share; none of them knows another."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch as th
from stable_baselines3.common.distributions import SquashedDiagGaussianDistribution
from stable_baselines3.sac.policies import Actor, SACPolicy
from torch import nn

from sb3_tom.checks.untouched import methods_are_known
from sb3_tom.compute.optimizers import counters_to_device
from sb3_tom.contracts.policy_update import PolicyParts
from sb3_tom.policy_updates.direct_adam import stepper

SAMPLING = ("action_log_prob",)
DISTRIBUTION = ("log_prob_from_params", "proba_distribution", "sample", "log_prob")
"""Methods of SB3 that its ``train`` calls, and that :mod:`~sb3_tom.policy_updates.sampling` writes down instead."""


def is_supported(policy: SACPolicy) -> bool:
    """
    Whether actions and steps that are written down here are those of SB3's ``train``: not with gSDE (another distribution),
    nor with batch normalisation (running statistics are copied to the targets), nor with features shared by actor and
    critic, nor with another way to sample actions that was put into the actor.

    :param policy: the agent's policy
    """
    batch_norm = any(isinstance(module, nn.modules.batchnorm._BatchNorm) for module in policy.modules())
    if type(policy.actor) is not Actor or policy.actor.use_sde or batch_norm or policy.share_features_extractor:
        return False
    distribution: object = policy.actor.action_dist
    usual = type(distribution) is SquashedDiagGaussianDistribution and methods_are_known(distribution, DISTRIBUTION)
    return usual and methods_are_known(policy.actor, SAMPLING)


def begin(parts: PolicyParts) -> None:
    """
    What comes before the first step.

    :param parts: their networks train, and their optimisers take one-kernel steps where they may
    """
    parts.policy.set_training_mode(True)
    for optimizer in parts.optimizers:
        fuse(optimizer)


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


def clip_gradients(parts: PolicyParts, optimizer: th.optim.Optimizer, norm: th.Tensor | None = None) -> None:
    """
    Scale the gradients of an optimiser's parameters down to ``max_grad_norm``, if their norm over all of them is above.
    No host read, so that it may be recorded.

    :param parts: that hold the limit, or None
    :param optimizer: that is to step next
    :param norm: of these gradients, where it is known; None: it is taken
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
    In the block each step of actor and critics clips their gradients first, whoever makes it.

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
    The entropy coefficient, learned or fixed, as a constant.

    :param parts: that hold it
    """
    if parts.log_ent_coef is not None:
        return parts.log_ent_coef.detach().exp()
    assert parts.ent_coef is not None
    return parts.ent_coef


def temperature_step(parts: PolicyParts, log_prob: th.Tensor) -> tuple[th.Tensor, th.Tensor]:
    """
    SB3's step of the temperature, by autograd; a fixed one stays.

    :param parts: their temperature changes
    :param log_prob: of the policy's actions ``[B, 1]``
    :return: the temperature before the step, and the loss
    """
    ent_coef = temperature(parts)
    if parts.log_ent_coef is None or parts.ent_coef_optimizer is None:
        return ent_coef, th.zeros_like(ent_coef)
    loss = -(parts.log_ent_coef * (log_prob + parts.target_entropy).detach()).mean()
    parts.ent_coef_optimizer.zero_grad()
    loss.backward()
    stepper(parts.ent_coef_optimizer)()
    return ent_coef, loss.detach()


@contextmanager
def constant(module: nn.Module) -> Iterator[None]:
    """
    No gradients of the parameters in the block; what a user has frozen stays so.

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
