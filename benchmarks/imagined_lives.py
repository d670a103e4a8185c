"""
Lengths of the current policy's episodes in the model and in the env from the same first states: why a run of Hopper collapses.

    python benchmarks/curves.py run --task Hopper-v5 --method dhmbpo_gamma_0995 --seed 1 --steps 25000
    python benchmarks/imagined_lives.py runs/curves/Hopper-v5/dhmbpo_gamma_0995_seed1 --env Hopper-v5

The run's checkpoint is loaded (with the class of the log's method) and nothing is trained. A line per kind of episode: in the
env; in the model; in the model without its noise. And for states k steps before a real fall: the share of imagined episodes
that have fallen k steps later, and the critics' values compared with the env's discounted rewards from there on.
"""

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

import checkout  # noqa: F401
import gymnasium as gym
import numpy as np
import torch as th

from sb3_tom import DHMBPO, MBPO
from sb3_tom.callbacks.tables import write_table

COLUMNS = ("run", "env_step", "kind", "life_10", "life_50", "life_90", "discounted_return", "fallen", "critics", "from_there")
LIMIT, BEFORE, COPIES = 1_000, (5, 10, 20, 40, 80, 160), 50
Rows = list[dict[str, Any]]


@th.no_grad()
def real_episodes(agent: MBPO, env: gym.Env, n_episodes: int) -> list[tuple[np.ndarray, np.ndarray, bool]]:
    """Observations ``[T + 1, O]`` and rewards ``[T]`` of episodes with the mean action, and whether they ended in a fall."""
    episodes = []
    for number in range(n_episodes):
        seen, rewards, fallen = [env.reset(seed=500 + number)[0]], [], False
        while len(rewards) < LIMIT and not fallen:
            action = agent.actor(th.as_tensor(seen[-1]).float().unsqueeze(0), deterministic=True)[0]  # without an average
            observation, reward, fallen, _, _ = env.step(agent.policy.unscale_action(action.numpy()))
            seen.append(observation)
            rewards.append(float(reward))
        episodes.append((np.array(seen), np.array(rewards), fallen))
    return episodes


@th.no_grad()
def imagined_lives(agent: MBPO, starts: th.Tensor, length: int, noise: bool) -> tuple[th.Tensor, th.Tensor]:
    """
    Roll the mean action out in the model.

    :param starts: ``[B, O]``
    :param noise: whether next states are sampled, or are the mean of the row's member
    :return: length of each rollout ``[B]``, and its discounted return ``[B]``
    """
    model, context = agent.dynamics, agent._context()
    draw = model._noisy
    if not noise:
        model._noisy = lambda mean, log_var, generator: mean
    lives, returns = th.zeros(starts.shape[0], 1), th.zeros(starts.shape[0], 1)
    alive, observations = th.ones(starts.shape[0], 1), starts
    try:
        for step in range(length):
            outcome = agent._world.outcome(observations, agent.actor(observations, deterministic=True), context)
            lives += alive
            returns += agent.gamma**step * alive * outcome.rewards
            alive = alive * (1.0 - outcome.terminated)
            observations = th.where(alive > 0, outcome.next_observations, observations)
    finally:
        model._noisy = draw
    return lives[:, 0], returns[:, 0]


def percentiles(lives: Any, returns: Any) -> dict[str, float]:
    """Statistics of lengths, and the mean of returns."""
    low, middle, high = np.percentile(np.asarray(lives), [10, 50, 90])
    return {"life_10": low, "life_50": middle, "life_90": high, "discounted_return": float(np.mean(np.asarray(returns)))}


def whole_lives(agent: MBPO, episodes: list[tuple[np.ndarray, np.ndarray, bool]]) -> Rows:
    """The three kinds of episodes, from the same first states."""
    returns = [discounted(rewards, agent.gamma) for _, rewards, _ in episodes]
    starts = th.tensor(np.array([seen[0] for seen, _, _ in episodes]), dtype=th.float32).repeat(10, 1)
    rows: Rows = [{"kind": "env"} | percentiles([len(rewards) for _, rewards, _ in episodes], returns)]
    for kind, noise in (("model", True), ("model without noise", False)):
        rows.append({"kind": kind} | percentiles(*imagined_lives(agent, starts, LIMIT, noise)))
    return rows


def before_falls(agent: MBPO, episodes: list[tuple[np.ndarray, np.ndarray, bool]]) -> Rows:
    """Predictions of model and critics before falls, at several distances; nothing without a fall."""
    rows: Rows = []
    for steps in BEFORE:
        falls = [(seen, rewards) for seen, rewards, fallen in episodes if fallen and len(rewards) >= steps]
        if not falls:
            break
        starts = th.tensor(np.array([seen[-1 - steps] for seen, _ in falls]), dtype=th.float32)
        lives, _ = imagined_lives(agent, starts.repeat(COPIES, 1), steps + 1, noise=True)
        with th.no_grad():
            critics = th.stack(agent.critic(starts, agent.actor(starts, deterministic=True))).mean()
        paid = np.mean([discounted(rewards[-steps:], agent.gamma) for _, rewards in falls])
        figures = {"fallen": float((lives <= steps).float().mean()), "critics": float(critics), "from_there": float(paid)}
        rows.append({"kind": f"{steps} steps before a fall"} | figures)
    return rows


def discounted(rewards: np.ndarray, gamma: float) -> float:
    """Sum of discounted rewards."""
    return float((gamma ** np.arange(len(rewards)) * rewards).sum())


def load(run: Path, env: str) -> MBPO:
    """The agent of a run's last checkpoint."""
    resume: Callable[..., MBPO] = DHMBPO.resume if run.name.startswith("dhmbpo") else MBPO.resume
    return resume(run / "checkpoints", env)


def main() -> None:
    """Measure, print, and write a table if a file is given."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", type=Path, nargs="+", help="folders of runs of curves.py, with checkpoints")
    parser.add_argument("--env", required=True)
    parser.add_argument("--episodes", type=int, default=10)
    parser.add_argument("--out", type=Path, help="file of the table")
    arguments = parser.parse_args()
    th.set_num_threads(1)
    found: Rows = []
    for run in arguments.runs:
        agent = load(run, arguments.env)
        episodes = real_episodes(agent, gym.make(arguments.env), arguments.episodes)
        for row in whole_lives(agent, episodes) + before_falls(agent, episodes):
            found.append({name: "" for name in COLUMNS} | {"run": run.name, "env_step": agent.num_timesteps} | row)
            print({name: value for name, value in found[-1].items() if value != ""}, flush=True)
    if arguments.out is not None:
        write_table(arguments.out, COLUMNS, found)


if __name__ == "__main__":
    main()
