"""Makes sure that SB3 stores raw observations of envs with ``VecNormalize``, also the last one of an episode."""

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
    A ``step_wait`` that keeps the raw last observation of an episode. ``VecNormalize`` normalises and clips it in place, so
    that SB3 would store, and termination rule and model would get, a wrong s'.

    The envs are an attribute, not in a closure, so that a copy of the envs gets a step of its own.

    :param venv: the envs that ``VecNormalize`` wraps
    """

    def __init__(self, venv: VecEnv) -> None:
        self.venv = venv
        self._replaced: StepWait | None = vars(venv).get("step_wait")  # if somebody has patched the envs before

    def __call__(self) -> VecEnvStepReturn:
        """``VecEnv.step_wait`` with checks, and with the key :data:`RAW_TERMINAL` in the infos of episodes that ended."""
        observations, rewards, dones, infos = self._step()
        # Before VecNormalize gets them: a NaN would stay in its running statistics for ever
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
    Check the wrappers: SB3 stores what the outermost ``VecNormalize`` got, which must be raw and must not be changed again.

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
    Let the envs inside a ``VecNormalize`` keep raw terminal observations. Their ``step_wait`` is replaced, once, rather than
    wrapped: SB3's ``EvalCallback`` refuses an evaluation env without the same wrappers.

    :param env: the agent's envs, None while loading
    """
    normalize = None if env is None else unwrap_vec_normalize(env)
    if normalize is not None and not isinstance(normalize.venv.step_wait, CheckedStepWait):
        normalize.venv.step_wait = CheckedStepWait(normalize.venv)  # type: ignore[method-assign]
