"""
SB3's own ``SAC.train`` on minibatches, for policies that the other updates do not cover: gSDE, batch normalisation, shared
features.
"""

import torch as th
from stable_baselines3.common.logger import Logger
from stable_baselines3.common.type_aliases import ReplayBufferSamples
from stable_baselines3.common.utils import get_parameters_by_name
from stable_baselines3.sac.sac import SAC

from sb3_tom.contracts.policy_update import Batches, PolicyParts
from sb3_tom.policy_updates.averaged_actor import averaging_steps
from sb3_tom.policy_updates.sac.sac_update import Losses
from sb3_tom.policy_updates.steps import clipping


class _AsReplayBuffer:
    """Minibatches with the interface of SB3's replay buffer."""

    def __init__(self, batches: Batches) -> None:
        self._batches = batches

    def sample(self, batch_size: int, env: object = None) -> ReplayBufferSamples:
        batch = next(iter(self._batches(1, batch_size)))
        if batch.confidence is not None:  # the policy was changed to one that only SB3's update supports
            raise ValueError(
                "confidence is not allowed with this policy, which SB3's own update trains; allowed: confidence=None"
            )
        return ReplayBufferSamples(
            batch.observations, batch.actions, batch.next_observations, dones=batch.terminated, rewards=batch.rewards
        )


def sb3_update(parts: PolicyParts, batches: Batches, gradient_steps: int, batch_size: int) -> dict[str, th.Tensor]:
    """
    SB3's gradient steps. Its method needs a SAC: here an object that only refers to the parts.

    :param parts: they are changed
    :param batches: source of minibatches, drawn one by one
    :param gradient_steps: how many
    :param batch_size: rows of a minibatch
    :return: SAC's figures, 0 for those that were not logged
    """
    policy = parts.policy
    stand_in = object.__new__(SAC)
    vars(stand_in).update(
        **parts._asdict(),
        actor=policy.actor,
        critic=policy.critic,
        critic_target=policy.critic_target,
        ent_coef_tensor=parts.ent_coef,
        use_sde=policy.actor.use_sde,
        batch_norm_stats=get_parameters_by_name(policy.critic, ["running_"]),
        batch_norm_stats_target=get_parameters_by_name(policy.critic_target, ["running_"]),
        replay_buffer=_AsReplayBuffer(batches),
        _vec_normalize_env=None,
        _update_learning_rate=lambda optimizers: None,
        _logger=Logger(None, []),
        _n_updates=0,
    )
    with clipping(parts), averaging_steps(policy):
        SAC.train(stand_in, gradient_steps, batch_size)
    logged = stand_in.logger.name_to_value
    return {name: th.as_tensor(logged.get(f"train/{name}", 0.0), device=policy.device) for name in Losses._fields}
