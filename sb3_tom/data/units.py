"""
``VecNormalize``: buffer, model, weighter and termination use the env's own (raw) units; policy and critics normalised ones,
with the current statistics, as in SB3's ``ReplayBuffer.sample``.
"""

from dataclasses import dataclass

import numpy as np
import torch as th
from stable_baselines3.common.running_mean_std import RunningMeanStd
from stable_baselines3.common.vec_env import VecNormalize


@dataclass(frozen=True)
class PolicyUnits:
    """
    Converts raw units to those of the policy. The default is the identity, for envs without ``VecNormalize``.

    :param mean: mean of the observations ``[O]``, float64; None if they are not normalised
    :param std: standard deviation of the observations ``[O]``, float64
    :param clip: bound of the entries of a normalised observation
    :param reward_std: scale of the rewards; None if they are not normalised
    :param reward_clip: bound of a normalised reward
    """

    mean: th.Tensor | None = None
    std: th.Tensor | None = None
    clip: float = np.inf
    reward_std: float | None = None
    reward_clip: float = np.inf

    @property
    def are_raw(self) -> bool:
        """Whether nothing is converted."""
        return self.mean is None and self.reward_std is None

    def observations(self, raw: th.Tensor) -> th.Tensor:
        """
        Normalise raw observations.

        :param raw: ``[..., O]``
        :return: ``[..., O]``, inputs of the policy; differentiable
        """
        if self.mean is None or self.std is None:
            return raw
        return ((raw.double() - self.mean) / self.std).clamp(-self.clip, self.clip).float()

    def rewards(self, raw: th.Tensor) -> th.Tensor:
        """
        Normalise raw rewards.

        :param raw: any shape
        :return: rewards for the critics, same shape
        """
        if self.reward_std is None:
            return raw
        return (raw.double() / self.reward_std).clamp(-self.reward_clip, self.reward_clip).float()

    def values(self, of_policy: th.Tensor) -> th.Tensor:
        """
        Convert outputs of the critics to the unit of raw rewards, ignoring the clipping of rewards.

        :param of_policy: any shape, values or other sums of rewards
        :return: the same in raw units; differentiable
        """
        return of_policy if self.reward_std is None else of_policy * self.reward_std


def policy_units(env: VecNormalize | None, device: th.device | str) -> PolicyUnits:
    """
    Units with the env's current statistics.

    :param env: the agent's ``VecNormalize``, or None
    :param device: of the observations
    """
    if env is None:
        return PolicyUnits()
    mean = std = None
    if env.norm_obs:
        assert isinstance(env.obs_rms, RunningMeanStd)  # Dict observations are refused
        mean = th.as_tensor(env.obs_rms.mean, dtype=th.float64, device=device)
        std = th.as_tensor(np.sqrt(env.obs_rms.var + env.epsilon), dtype=th.float64, device=device)
    reward_std = float(np.sqrt(env.ret_rms.var + env.epsilon)) if env.norm_reward else None
    clip = env.clip_obs if env.norm_obs else np.inf  # VecNormalize clips what it normalises
    return PolicyUnits(mean, std, clip, reward_std, env.clip_reward)
