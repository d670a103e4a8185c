"""Norms of a policy's networks, which reveal a divergence and its place."""

import torch as th
from stable_baselines3.sac.policies import SACPolicy

from sb3_tom.checks.guards import magnitude


def network_norms(policy: SACPolicy, log_ent_coef: th.Tensor | None) -> dict[str, th.Tensor]:
    """
    Norms of the policy's networks.

    :param policy: read only
    :param log_ent_coef: logarithm of the entropy coefficient, None if it is fixed
    :return: scalars on the device, by names for messages
    """
    networks = {"critic": policy.critic, "target critic": policy.critic_target, "actor": policy.actor}
    sizes = {f"the norm of the {name}'s weights": magnitude(network.parameters()) for name, network in networks.items()}
    if log_ent_coef is not None:
        sizes["the logarithm of the entropy coefficient"] = magnitude([log_ent_coef])
    return sizes
