"""A curated replay buffer: random rows, and then those of a whole training run, in their order."""

from collections.abc import Callable
from typing import Any

import checkout  # noqa: F401
import numpy as np
import torch as th

from sb3_tom import MBPO, Transitions
from sb3_tom.data.replay_buffer import WeightedReplayBuffer

RANDOM_SEED, FRESH_SEED = 30_000, 40_000


def play(env: Any, act: Callable[[np.ndarray], np.ndarray], n_rows: int, seed: int) -> tuple[Transitions, list[float]]:
    """
    Rows of one policy, from whole episodes except for the last, which is cut.

    :param env: a Gymnasium env
    :param act: ``act(observation) -> action``, both the env's own
    :param n_rows: number of rows
    :param seed: of the first reset
    :return: the rows, of policy version 0 and with the env's own actions, and the returns of the finished episodes
    """
    steps, returns, so_far = [], [], 0.0
    observation, _ = env.reset(seed=seed)
    for number in range(n_rows):
        action = act(observation)
        following, reward, terminated, truncated, _ = env.step(action)
        truncated = (truncated or number == n_rows - 1) and not terminated
        steps.append((observation, action, following, [reward], [terminated], [truncated]))
        so_far += float(reward)
        if terminated or truncated:
            returns.append(so_far)
            following, so_far = env.reset()[0], 0.0
        observation = following
    observations, actions, nexts, rewards, ends, cuts = (
        th.as_tensor(np.array(part), dtype=th.float32) for part in zip(*steps, strict=True)
    )
    rows = Transitions(observations, actions, nexts, rewards, ends, th.zeros(n_rows, dtype=th.int64), cuts)
    return rows, returns[:-1] or returns


def random_rows(driver: MBPO, env: Any, n_rows: int) -> Transitions:
    """Rows of uniform random actions, in the replay buffer's format."""
    env.action_space.seed(RANDOM_SEED)
    rows, _ = play(env, lambda _: env.action_space.sample(), n_rows, RANDOM_SEED)
    return _scaled(driver, rows)


def policy_rows(driver: MBPO, env: Any, n_rows: int, seed: int = FRESH_SEED) -> tuple[Transitions, list[float]]:
    """Fresh rows of the driver's policy with its noise, in the replay buffer's format, and returns."""
    th.manual_seed(seed)
    rows, returns = play(env, lambda observation: driver.predict(observation, deterministic=False)[0], n_rows, seed)
    return _scaled(driver, rows), returns


def _scaled(driver: MBPO, rows: Transitions) -> Transitions:
    scaled = driver.policy.scale_action(rows.actions.numpy())
    return rows._replace(actions=th.as_tensor(scaled, dtype=th.float32))


def curated_buffer(driver: MBPO, env: Any) -> WeightedReplayBuffer:
    """
    As many random rows as the run has, and then the run's. Random rows have the policy version of the run's warm-up, 0, since
    no policy has collected them.

    :param driver: agent of one env; its replay buffer is read
    :param env: of the task
    """
    own = driver.replay_buffer.transitions()
    own = own.rows(driver.replay_buffer.newest_rows(own.size))
    buffer = WeightedReplayBuffer(2 * own.size, driver.observation_space, driver.action_space, device="cpu")
    for rows in (random_rows(driver, env, own.size), own):
        _add(buffer, rows)
    return buffer


def _add(buffer: WeightedReplayBuffer, rows: Transitions) -> None:
    columns = [field.numpy() for field in rows]
    for observation, action, following, reward, terminated, version, truncated in zip(*columns, strict=True):
        buffer.policy_version = int(version)
        done, infos = np.maximum(terminated, truncated), [{"TimeLimit.truncated": bool(truncated[0])}]
        buffer.add(observation[None], following[None], action[None], reward, done, infos)
