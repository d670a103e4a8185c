"""
Road-and-Rocks (Ma et al. 2023, Sec. 5.1): does TOM find the relevant data, and does a linear model benefit?

    python benchmarks/road_and_rocks.py run --seeds 10     # what is missing, a process at a time
    python benchmarks/road_and_rocks.py page               # pictures, tables and docs/results/road_and_rocks.md

Everything is offline, by the public verbs of MBPO: weights from a given footprint, one fit of a linear model,
and SAC on imagined transitions only. The environment is stepped to make the data and to evaluate, never to learn.
"""

import argparse
import time
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import torch as th
from checkout import ROOT
from curves_methods import OFFICIAL_PARTS, RELEASE_010, SHARP
from torch import nn

from sb3_tom import MBPO, Transitions
from sb3_tom.callbacks.evaluation import evaluate
from sb3_tom.callbacks.tables import RunTable
from sb3_tom.data.weights import effective_sample_size
from sb3_tom.envs import ROAD_AND_ROCKS
from sb3_tom.envs.road_and_rocks import STEP, arrived, on_road, step_reward

RATIO = "ratio"
METHODS: dict[str, tuple[str, dict[str, Any]]] = {
    "uniform": ("uniform", {}),
    "ratio": (RATIO, RELEASE_010),
    "ratio_sharp": (RATIO, RELEASE_010 | SHARP),
    "ratio_cross_fitted": (RATIO, {}),
    "tom": ("tom", RELEASE_010),
    "tom_sharp": ("tom", RELEASE_010 | SHARP),
    "tom_chi2": ("tom", RELEASE_010 | {"divergence": "chi2"}),
    "tom_chi2_sharp": ("tom", RELEASE_010 | SHARP | {"divergence": "chi2"}),
    "tom_chi2_official_ratio": ("tom", RELEASE_010 | OFFICIAL_PARTS["official_ratio"] | {"divergence": "chi2"}),
    "tom_cross_fitted": ("tom", {}),
    "tom_one_fold": ("tom", {"folds": 1}),
}
"""The last two and "ratio_cross_fitted" have today's defaults, the others those of 0.1.0; names say what is changed."""
N_RANDOM, EPISODE, N_CELLS = 4000, 5, 20
UPDATES, EVAL_FREQ, PHASE = 800, 100, 50
CURVE = ("env_step", "return_mean", "success_rate", "seconds")
FIGURES = ("env_step", "road_weight", "rocks_weight", "ess", "gain_x", "gain_y", "road_error")


@dataclass(frozen=True)
class Data:
    """
    Content of the buffer and of the footprint.

    :param experts: expert trajectories in the buffer; the footprint is taken from the last one
    :param footprint: rows of the footprint, evenly spread over that trajectory; None takes all
    :param wrong: share of the footprint's rows that are random rows of the buffer instead
    :param deflection: of the rocks, see the environment
    """

    experts: int = 5
    footprint: int | None = None
    wrong: float = 0.0
    deflection: tuple[float, float] = (np.pi / 2, 3 * np.pi / 2)


DATASETS = {
    "paper": Data(),
    "few": Data(experts=1, footprint=10),
    "some_noise": Data(wrong=0.2),
    "noisy": Data(wrong=0.5),
    "harmless": Data(deflection=(-np.pi, np.pi)),
}


def expert_action(position: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """East at full speed, back to the middle of the road in one step, and noise, which explores both directions."""
    aim = np.array((1.0, -position[1] / STEP))
    return np.clip(aim + rng.normal(0.0, 0.3, 2), -1.0, 1.0).astype(np.float32)


def play(agent: MBPO, env: gym.Env, rng: np.random.Generator, place: Any, steps: int, expert: bool) -> int:
    """Store one episode in the buffer; return its length."""
    observation, _ = env.reset(seed=int(rng.integers(2**31)), options=None if place is None else {"position": place})
    for step in range(1, steps + 1):
        action = expert_action(observation, rng) if expert else rng.uniform(-1, 1, 2).astype(np.float32)
        following, reward, ended, cut, _ = env.step(action)
        done = ended or cut or step == steps
        info = {"TimeLimit.truncated": done and not ended}
        agent.replay_buffer.add(observation, following, action, np.array([reward]), np.array([done]), [info])
        observation = following
        if done:
            return step
    return steps


def fill(agent: MBPO, data: Data, seed: int) -> Transitions:
    """Random coverage of the map, then expert trajectories (whose starts are the buffer's); return the footprint."""
    rng, env = np.random.default_rng(seed), gym.make(ROAD_AND_ROCKS, deflection=data.deflection)
    for _ in range(N_RANDOM // EPISODE):
        play(agent, env, rng, rng.uniform(-1, 1, 2), EPISODE, expert=False)
    n_random = agent.replay_buffer.size()  # an episode that reaches the goal is shorter
    length = [play(agent, env, rng, None, 100, expert=True) for _ in range(data.experts)][-1]
    rows = agent.replay_buffer.newest_rows(length)
    if data.footprint is not None:
        rows = rows[th.linspace(0, length - 1, data.footprint).round().long()]
    wrong = rng.permutation(len(rows))[: round(data.wrong * len(rows))]
    rows[th.from_numpy(wrong)] = th.from_numpy(rng.integers(0, n_random, len(wrong)))
    return agent.replay_buffer.transitions().rows(rows)


def cloned(footprint: Transitions, generator: th.Generator) -> Any:
    """A behaviour clone of the footprint: the policy of TOM's dual, since the agent has none yet."""
    network = nn.Sequential(nn.Linear(2, 32), nn.Tanh(), nn.Linear(32, 2), nn.Tanh())
    optimizer = th.optim.Adam(network.parameters(), lr=1e-2, weight_decay=1e-4)
    for _ in range(500):
        loss = (network(footprint.observations) - footprint.actions).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    std = (network(footprint.observations) - footprint.actions).detach().square().mean(0).sqrt().clamp(min=0.05)

    def policy(observations: th.Tensor) -> tuple[th.Tensor, th.Tensor]:
        noise = th.randn(observations.shape[0], 2, generator=generator)
        return (network(observations) + std * noise).clamp(-1, 1), (-0.5 * noise.square() - std.log()).sum(1, keepdim=True)

    return policy


def make_agent(method: str, data: Data, seed: int) -> MBPO:
    """An agent that never steps its environment; reward and termination are known functions of the position."""
    weighter, kwargs = METHODS[method]
    return MBPO(
        "MlpPolicy",
        gym.make(ROAD_AND_ROCKS, deflection=data.deflection),
        buffer_size=20_000,
        batch_size=128,
        gamma=0.97,
        learning_rate=2e-3,
        tau=0.02,
        replay_buffer_kwargs={"n_start_observations": data.experts},
        policy_kwargs={"net_arch": [64, 64]},
        seed=seed,
        device="cpu",
        weighter=weighter,
        weighter_kwargs=kwargs,
        dynamics="linear",
        termination_fn=lambda observations, actions, following: arrived(following),
        reward_fn=lambda observations, actions, following: step_reward(observations, following).unsqueeze(-1),
        real_ratio=0.0,
        rollout_batch_size=4000,
    )


def run(dataset: str, method: str, seed: int, out: Path, updates: int) -> None:
    """One run: its return curve, its figures and its weights over the map."""
    th.set_num_threads(1)
    started, data = time.monotonic(), DATASETS[dataset]
    agent = make_agent(method, data, seed)
    footprint = fill(agent, data, seed)
    weights = agent.fit_weights(footprint, cloned(footprint, agent.generator))
    agent.fit_model()
    labels = {"data": dataset, "method": method, "seed": seed}
    name = f"{dataset}_{method}_seed{seed}"
    for part in (f"{name}_figures.csv", f"{name}.csv.partial"):
        (out / part).unlink(missing_ok=True)  # from an interrupted run
    RunTable(out / f"{name}_figures.csv", FIGURES, labels).append(figures_of(agent, weights))
    np.savetxt(out / f"{name}_map.csv", weight_map(agent, weights), fmt="%.4g", delimiter=",")
    table = RunTable(out / f"{name}.csv.partial", CURVE, labels)
    envs = [gym.make(ROAD_AND_ROCKS, deflection=data.deflection) for _ in range(10)]
    for update in range(0, updates + 1, PHASE):
        if update % EVAL_FREQ == 0:
            result = evaluate(agent, envs, 10)
            row = {"env_step": update, "return_mean": float(result.returns.mean())}
            success = float((result.lengths < 100).mean())
            table.append(row | {"success_rate": success, "seconds": time.monotonic() - started})
        agent.imagine()
        agent.train_policy(PHASE)
    table.path.replace(out / f"{name}.csv")
    last = table.rows[-1]
    print(f"{name}: return {float(last['return_mean']):.1f}, {float(last['seconds']):.0f} s", flush=True)


@th.no_grad()
def figures_of(agent: MBPO, weights: th.Tensor) -> dict[str, float]:
    """Mean weights of road and rocks, and how the model steers on the road: 0.1 in both directions would be right."""
    data = agent.replay_buffer.transitions()
    smooth = on_road(data.observations)
    places, push = data.observations[smooth], 0.5
    moved = [predict(agent, places, axis, push) - predict(agent, places, axis, -push) for axis in (0, 1)]
    gains = [float(change[:, axis].mean()) for axis, change in enumerate(moved)]
    rows = data.rows(th.where(smooth)[0])
    error = agent.dynamics.normalizer.outcomes(agent.dynamics(rows.observations, rows.actions).mean[0], rows.observations)[0]
    return {
        "env_step": 0,
        "road_weight": float(weights[smooth].mean()),
        "rocks_weight": float(weights[~smooth].mean()),
        "ess": float(effective_sample_size(weights)),
        "gain_x": gains[0],
        "gain_y": gains[1],
        "road_error": float((error - rows.next_observations).norm(dim=1).mean()),
    }


@th.no_grad()
def predict(agent: MBPO, places: th.Tensor, axis: int, push: float) -> th.Tensor:
    """Mean next positions under a constant action along one axis."""
    actions = th.zeros_like(places)
    actions[:, axis] = push
    return agent.dynamics.normalizer.outcomes(agent.dynamics(places, actions).mean[0], places)[0]


def weight_map(agent: MBPO, weights: th.Tensor) -> np.ndarray:
    """Mean weight of the rows that start in each cell of the map, ``[20, 20]``, north first; NaN where there is none."""
    places = agent.replay_buffer.transitions().observations.numpy()
    edges = np.linspace(-1, 1, N_CELLS + 1)
    sums = [np.histogram2d(places[:, 1], places[:, 0], [edges, edges], weights=part)[0] for part in (weights.numpy(), None)]
    with np.errstate(invalid="ignore"):
        return (sums[0] / sums[1])[::-1]


def run_all(datasets: list[str], methods: list[str], seeds: int, out: Path, updates: int) -> None:
    """Missing runs, all methods of a seed before the next seed; interrupted runs are repeated."""
    for dataset, seed, method in product(datasets, range(seeds), methods):
        if not (out / f"{dataset}_{method}_seed{seed}.csv").exists():
            run(dataset, method, seed, out, updates)


def main() -> None:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    command = commands.add_parser("run")
    command.add_argument("--data", nargs="+", choices=tuple(DATASETS), default=list(DATASETS))
    command.add_argument("--method", nargs="+", choices=tuple(METHODS), default=list(METHODS))
    command.add_argument("--seeds", type=int, default=10)
    command.add_argument("--updates", type=int, default=UPDATES)
    command.add_argument("--out", type=Path, default=ROOT / "runs" / "road_and_rocks")
    command = commands.add_parser("page")
    command.add_argument("--runs", type=Path, default=ROOT / "runs" / "road_and_rocks")
    command.add_argument("--out", type=Path, default=ROOT / "docs" / "results" / "road_and_rocks")
    parsed = parser.parse_args()
    if parsed.command == "run":
        run_all(parsed.data, parsed.method, parsed.seeds, parsed.out, parsed.updates)
        return
    from road_and_rocks_page import collect, write_page

    collect(parsed.runs, parsed.out)
    write_page(parsed.out)


if __name__ == "__main__":
    main()
