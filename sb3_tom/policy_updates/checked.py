"""Checks losses and networks before they are logged."""

import torch as th

from sb3_tom.checks.guards import check_losses, check_magnitudes
from sb3_tom.checks.policies import network_norms
from sb3_tom.contracts.policy_update import PolicyParts

TITLES = {"critic_loss": "the critic's loss", "actor_loss": "the actor's loss"}
"""Losses of every update, in the order in which they are checked."""


def checked_figures(figures: dict[str, th.Tensor], before: dict[str, th.Tensor], parts: PolicyParts) -> dict[str, float]:
    """
    Check figures and networks, with one host read. Norms before the steps are checked first: a bad network soon spoils others.

    :param figures: means over the steps, scalars on the device; SAC's names, and any others
    :param before: norms of the networks before the steps
    :param parts: after the steps
    :return: figures for the log
    :raises DivergenceError: naming the network
    """
    groups = (before, figures, network_norms(parts.policy, parts.log_ent_coef))
    values = th.stack([value for group in groups for value in group.values()]).cpu().split([len(group) for group in groups])
    sizes_before, read, sizes_after = (
        dict(zip(group, part.tolist(), strict=True)) for group, part in zip(groups, values, strict=True)
    )
    check_magnitudes(sizes_before)
    check_losses({name: read[name] for name in TITLES}, TITLES.__getitem__)
    check_magnitudes(sizes_after)
    return {name: value for name, value in read.items() if name != "ent_coef_loss" or parts.ent_coef_optimizer is not None}
