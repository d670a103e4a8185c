"""Evaluation that does not change training."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.type_aliases import PolicyPredictor
from stable_baselines3.common.vec_env import VecNormalize

from sb3_tom.checkpoint.random_state import global_streams, restore_global_streams
from sb3_tom.envs.workers import inner_envs


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
    Check the argument of :func:`make_eval_envs`.

    :raises ValueError: naming what came and what is allowed
    """
    if not (isinstance(eval_env, str) or callable(eval_env)):
        raise ValueError(f"eval_env={eval_env!r} is not allowed; allowed: an environment id or a function that makes one")


def make_eval_envs(eval_env: str | Callable[[], gym.Env], agent: BaseAlgorithm, count: int = 1) -> list[gym.Env]:
    """
    Make environments for evaluations, which nothing else steps.

    :param eval_env: environment id, or a function that makes a new environment with each call
    :param agent: whose observations and actions they have to have, and whose own environments they may not be
    :param count: how many
    :raises ValueError: if they are not of the agent's kind, or not separate, naming what came and what is allowed
    """
    envs = [gym.make(eval_env) if isinstance(eval_env, str) else eval_env() for _ in range(count)]
    training_env = agent.get_env()
    own = [] if training_env is None else inner_envs(training_env)
    for env in envs:
        _check_kind(env, agent)
        if any(env.unwrapped is one for one in own):
            raise ValueError("eval_env made the environment that the agent trains on; allowed: an environment of its own")
    _check_apart("eval_env", envs)
    return envs


def _check_kind(env: object, agent: BaseAlgorithm) -> None:
    if not isinstance(env, gym.Env):
        raise ValueError(f"eval_env made a {type(env).__name__}; allowed: a single Gymnasium environment")
    if env.observation_space.shape != agent.observation_space.shape:
        raise ValueError(
            f"eval_env made an environment with observations of shape {env.observation_space.shape}; allowed: those of the "
            f"agent, {agent.observation_space.shape}, with the wrappers that its environment has (gymnasium.wrappers."
            "FrameStackObservation and FlattenObservation in place of VecFrameStack)"
        )
    if not _same_actions(env.action_space, agent.action_space):
        raise ValueError(
            f"eval_env made an environment with the actions {env.action_space}; allowed: those of the agent, "
            f"{agent.action_space}, with the wrappers that its environment has"
        )


def _same_actions(made: spaces.Space[Any], own: spaces.Space[Any]) -> bool:
    """Whether an action means the same; how many bits its numbers have says nothing about that."""
    if isinstance(made, spaces.Box) and isinstance(own, spaces.Box):
        return made.shape == own.shape and np.allclose(made.low, own.low) and np.allclose(made.high, own.high)
    return made == own


def _check_apart(name: str, envs: Sequence[gym.Env]) -> None:
    """Of episodes that share an environment each would get steps of the others."""
    if len({id(env.unwrapped) for env in envs}) < len(envs):
        raise ValueError(f"{name}: the same environment came twice for episodes side by side; allowed: a new one for each")


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
    :param envs: different environments of the same kind that nothing else steps; the number of episodes played at a time
    :param n_episodes: number of episodes
    :param seed: seed of the first episode
    :param deterministic: use the mean action
    :param normalizer: normalises the policy's observations; its statistics are not changed
    :return: returns, in the environments' own units, and lengths in the order of the seeds
    :raises ValueError: if one environment is there twice
    """
    _check_apart("envs", envs[:n_episodes])

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
