"""What is asked of envs with ``VecNormalize``: that what SB3 stores of them is raw, the last observation of an episode too."""

from collections.abc import Callable

import numpy as np
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
