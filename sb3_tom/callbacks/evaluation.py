"""Evaluation that does not change training."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import gymnasium as gym
import numpy as np
from stable_baselines3.common.type_aliases import PolicyPredictor
from stable_baselines3.common.vec_env import VecNormalize

from sb3_tom.checkpoint.random_state import global_streams, restore_global_streams


class Every:
    """
    Whether a multiple of ``n_steps`` env steps was reached since the last call. Several training envs may step over it.

    :param n_steps: env steps between two events
    :param env_step: current env step
    """

    def __init__(self, n_steps: int, env_step: int) -> None:
        self.n_steps = n_steps
        self.passed = env_step // n_steps

    def __call__(self, env_step: int) -> bool:
        """
        Call at each step.

        :param env_step: env steps so far
        """
        before, self.passed = self.passed, env_step // self.n_steps
        return self.passed != before


def check_eval_env(eval_env: object) -> None:
    """
    Check the argument of :func:`make_eval_env`.

    :raises ValueError: naming what came and what is allowed
    """
    if not (isinstance(eval_env, str) or callable(eval_env)):
        raise ValueError(f"eval_env={eval_env!r} is not allowed; allowed: an environment id or a function that makes one")


def make_eval_env(eval_env: str | Callable[[], gym.Env], observation_space: gym.Space[Any]) -> gym.Env:
    """
    Make a separate environment for evaluations.

    :param eval_env: environment id, or a function that makes an environment
    :param observation_space: the agent's
    :raises ValueError: if it is not an environment with such observations, naming what came and what is allowed
    """
    env = gym.make(eval_env) if isinstance(eval_env, str) else eval_env()
    if not isinstance(env, gym.Env):
        raise ValueError(f"eval_env made a {type(env).__name__}; allowed: a single Gymnasium environment")
    if env.observation_space.shape != observation_space.shape:
        raise ValueError(
            f"eval_env made an environment with observations of shape {env.observation_space.shape}; allowed: those of the "
            f"agent, {observation_space.shape}, with the wrappers that its environment has (gymnasium.wrappers."
            "FrameStackObservation and FlattenObservation in place of VecFrameStack)"
        )
    return env


@contextmanager
def preserved_random_state() -> Iterator[None]:
    """Restore the global random streams of Python, numpy and torch (CUDA included) on leaving."""
    streams = global_streams()
    try:
        yield
    finally:
        restore_global_streams(streams)


@dataclass(frozen=True)
class Evaluation:
    """
    Results of a policy in some episodes.

    :param returns: undiscounted return of each episode ``[n_episodes]``
    :param lengths: steps of each episode ``[n_episodes]``
    """

    returns: np.ndarray
    lengths: np.ndarray


def evaluate(
    model: PolicyPredictor,
    envs: Sequence[gym.Env],
    n_episodes: int = 10,
    seed: int = 10_000,
    deterministic: bool = True,
    normalizer: VecNormalize | None = None,
) -> Evaluation:
    """
    Play ``n_episodes`` whole episodes, several at a time. Episode k starts from ``reset(seed=seed + k)``, so that every
    evaluation of a run, and of every method, begins in the same states and can be repeated from the saved agent. Global
    random streams are restored afterwards: evaluating more or less often does not change training.

    :param model: agent or policy with SB3's ``predict``
    :param envs: environments of the same kind that nothing else steps; the number of episodes that are played at a time
    :param n_episodes: number of episodes
    :param seed: seed of the first episode
    :param deterministic: use the mean action
    :param normalizer: normalises the policy's observations; its statistics are not changed
    :return: returns, in the environments' own units, and lengths in the order of the seeds
    """

    def act(observations: np.ndarray) -> np.ndarray:
        seen = observations if normalizer is None else normalizer.normalize_obs(observations)
        return model.predict(seen, deterministic=deterministic)[0]

    returns = np.zeros(n_episodes)
    lengths = np.zeros(n_episodes, dtype=np.int64)
    with preserved_random_state():
        for first in range(0, n_episodes, len(envs)):
            episodes = range(first, min(first + len(envs), n_episodes))
            _play(act, envs, episodes, seed, returns, lengths)
    return Evaluation(returns, lengths)


def _play(
    act: Callable[[np.ndarray], np.ndarray],
    envs: Sequence[gym.Env],
    episodes: range,
    seed: int,
    returns: np.ndarray,
    lengths: np.ndarray,
) -> None:
    """Play one episode per env in parallel and write its return and length."""
    running = {episode: env for episode, env in zip(episodes, envs, strict=False)}
    observations = {episode: env.reset(seed=seed + episode)[0] for episode, env in running.items()}
    while running:
        actions = act(np.stack([observations[episode] for episode in running]))
        for (episode, env), action in zip(list(running.items()), actions, strict=True):
            observations[episode], reward, terminated, truncated, _ = env.step(action)
            returns[episode] += float(reward)
            lengths[episode] += 1
            if terminated or truncated:
                del running[episode]
