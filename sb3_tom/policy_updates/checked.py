"""Checks losses and networks before they are logged."""

import torch as th

from sb3_tom.checks.guards import check_losses, check_magnitudes
from sb3_tom.contracts.policy_update import PolicyParts

TITLES = {"critic_loss": "the critic's loss", "actor_loss": "the actor's loss"}
"""Losses of every update, in the order in which they are checked."""


def checked_figures(figures: dict[str, th.Tensor], before: dict[str, th.Tensor], parts: PolicyParts) -> dict[str, float]:
    """
    Check figures, and the networks before the steps, with one host read: a bad network soon spoils others. The agent checks
    the networks after them.

    :param figures: means over the steps, scalars on the device; SAC's names, and any others
    :param before: norms of the networks before the steps
    :param parts: of the agent
    :return: figures for the log
    :raises DivergenceError: naming the network
    """
    values = th.stack([*before.values(), *figures.values()]).tolist()
    check_magnitudes(dict(zip(before, values, strict=False)))
    read = dict(zip(figures, values[len(before) :], strict=True))
    check_losses({name: read[name] for name in TITLES}, TITLES.__getitem__)
    return {name: value for name, value in read.items() if name != "ent_coef_loss" or parts.ent_coef_optimizer is not None}
