"""
``VecNormalize``: the buffer, the model, the weighter and the termination live in the env's own (raw) units; the policy and the
critics in normalised ones, with the statistics of the moment, as SB3's ``ReplayBuffer.sample`` does it.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch as th
from stable_baselines3.common.running_mean_std import RunningMeanStd
from stable_baselines3.common.vec_env import (
    VecCheckNan,
    VecEnv,
    VecMonitor,
    VecNormalize,
    VecVideoRecorder,
    unwrap_vec_normalize,
)
from stable_baselines3.common.vec_env.base_vec_env import VecEnvStepReturn

from sb3_tom.checks.episode_ends import RAW_TERMINAL
from sb3_tom.checks.guards import check_rows

StepWait = Callable[[], VecEnvStepReturn]


@dataclass(frozen=True)
class PolicyUnits:
    """
    The way from raw units to those of the policy. The default is the identity, for envs without ``VecNormalize``.

    :param mean: of the observations ``[O]``, float64; None if they are not normalised
    :param std: of the observations ``[O]``, float64
    :param clip: bound of a normalised observation's entries
    :param reward_std: scale of the rewards; None if they are not normalised
    :param reward_clip: bound of a normalised reward
    """

    mean: th.Tensor | None = None
    std: th.Tensor | None = None
    clip: float = np.inf
    reward_std: float | None = None
    reward_clip: float = np.inf

    def observations(self, raw: th.Tensor) -> th.Tensor:
        """
        From raw observations to those of the policy.

        :param raw: ``[..., O]``
        :return: ``[..., O]``, what the policy sees; differentiable
        """
        if self.mean is None or self.std is None:
            return raw
        return ((raw.double() - self.mean) / self.std).clamp(-self.clip, self.clip).float()

    def rewards(self, raw: th.Tensor) -> th.Tensor:
        """
        From raw rewards to those of the critics.

        :param raw: any shape
        :return: what the critics learn from
        """
        if self.reward_std is None:
            return raw
        return (raw.double() / self.reward_std).clamp(-self.reward_clip, self.reward_clip).float()

    def values(self, of_policy: th.Tensor) -> th.Tensor:
        """
        From what the critics say to the unit of raw rewards; where rewards are clipped, what they would say without.

        :param of_policy: any shape, a sum of rewards or what is compared with one
        :return: the same in raw units; differentiable
        """
        return of_policy if self.reward_std is None else of_policy * self.reward_std


def policy_units(env: VecNormalize | None, device: th.device | str) -> PolicyUnits:
    """
    Units with the statistics that the env has now.

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
    return PolicyUnits(mean, std, env.clip_obs, reward_std, env.clip_reward)


class CheckedStepWait:
    """
    A ``step_wait`` that keeps the last observation of an episode as the env gave it. ``VecNormalize`` normalises and clips it
    in place, so that what SB3 stores is not what the env returned, and a termination rule or a model would be told a wrong s'.

    It refers to its envs by an attribute, not by a closure: a copy of the envs has one of its own, which steps the copy.

    :param venv: what ``VecNormalize`` wraps
    """

    def __init__(self, venv: VecEnv) -> None:
        self.venv = venv
        self._replaced: StepWait | None = vars(venv).get("step_wait")  # of somebody who patched the envs before

    def __call__(self) -> VecEnvStepReturn:
        """As ``VecEnv.step_wait``, checked, with the key :data:`RAW_TERMINAL` in the infos of episodes that ended."""
        observations, rewards, dones, infos = self._step()
        # Before VecNormalize sees them: a NaN would stay in its running statistics for ever
        check_rows("the reward", rewards)
        check_rows("the observation", observations)  # type: ignore[arg-type]
        for index in np.flatnonzero(dones):
            if "terminal_observation" in infos[index]:
                terminal = np.array(infos[index]["terminal_observation"])
                check_rows("the terminal observation", terminal[None], first_env=int(index))
                infos[index][RAW_TERMINAL] = terminal
        return observations, rewards, dones, infos

    def _step(self) -> VecEnvStepReturn:
        return type(self.venv).step_wait(self.venv) if self._replaced is None else self._replaced()


def check_vec_normalize(env: VecEnv | None) -> None:
    """
    SB3 stores what the outermost ``VecNormalize`` received. That must be raw, and no wrapper around it may change it again.

    :param env: the agent's envs, None while loading
    :raises ValueError: naming the wrapper
    """
    if env is None or unwrap_vec_normalize(env) is None:
        return
    while not isinstance(env, VecNormalize):
        if not isinstance(env, VecMonitor | VecCheckNan | VecVideoRecorder):
            name = type(env).__name__
            raise ValueError(f"env={name}(VecNormalize(...)) is not allowed; allowed: VecNormalize({name}(...))")
        env = env.venv
    if unwrap_vec_normalize(env.venv) is not None:
        raise ValueError(
            "env=VecNormalize(... VecNormalize(...)) is not allowed: the statistics of the inner one move under the model; "
            "allowed: one VecNormalize"
        )


def keep_raw_terminals(env: VecEnv | None) -> None:
    """
    Let what a ``VecNormalize`` wraps keep raw terminal observations, once. Its ``step_wait`` is replaced: one more wrapper
    would be one that the evaluation env lacks, which SB3's ``EvalCallback`` refuses.

    :param env: the agent's envs, None while loading
    """
    normalize = None if env is None else unwrap_vec_normalize(env)
    if normalize is not None and not isinstance(normalize.venv.step_wait, CheckedStepWait):
        normalize.venv.step_wait = CheckedStepWait(normalize.venv)  # type: ignore[method-assign]
