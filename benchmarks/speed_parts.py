"""Parts that ``benchmarks/speed.py`` measures: functions without arguments that do a fixed amount of work."""

import time
from collections.abc import Callable
from functools import partial

import numpy as np
import torch as th
from curves_jobs import Job, make_agent
from curves_methods import NETWORKS
from speed_growth import resident
from stable_baselines3 import SAC

from sb3_tom import MBPO, Context, Transitions
from sb3_tom.compute.fast_matmul import fast_matmul
from sb3_tom.dynamics.ensemble import EnsembleLinear, ProbabilisticEnsemble
from sb3_tom.objectives.likelihood import LikelihoodObjective

OBSERVATIONS, ACTIONS, BATCH, WIDTH = 11, 3, 256, 256  # Hopper
Part = Callable[[], object]


def synchronized(part: Part, device: str) -> Part:
    """A part that ends when the device has finished."""
    if device == "cpu":
        return part

    def run() -> None:
        part()
        th.cuda.synchronize()

    return run


def paired_times(parts: dict[str, Part], repeats: int, now: Callable[[], float] = time.perf_counter) -> dict[str, list[float]]:
    """
    Seconds of each part but for its first call; the parts take turns, so that all see the same machine.

    :param parts: by names
    :param repeats: number of calls that count
    :param now: the clock
    """
    times: dict[str, list[float]] = {name: [] for name in parts}
    for part in parts.values():
        part()
    for _ in range(repeats):
        for name, part in parts.items():
            start = now()
            part()
            times[name].append(now() - start)
    return times


def random_transitions(n_rows: int, device: str = "cpu") -> Transitions:
    """Random rows of Hopper's sizes with dynamics that can be learned."""
    observations, actions = th.randn(n_rows, OBSERVATIONS), th.rand(n_rows, ACTIONS) * 2 - 1
    mixing = th.randn(OBSERVATIONS + ACTIONS, OBSERVATIONS)
    next_observations = observations + 0.1 * th.tanh(th.cat([observations, actions], 1) @ mixing)
    terminated = (th.rand(n_rows, 1) < 0.01).float()
    fields = (observations, actions, next_observations, actions[:, :1], terminated, th.arange(n_rows) // 250)
    return Transitions(*(field.to(device) for field in fields))


def products_of_a_sac_update(device: str = "cpu") -> None:
    """Only the matrix products of one SAC update (networks 256 x 256), by PyTorch's default."""
    hidden, weight = th.randn(BATCH, WIDTH, device=device), th.randn(WIDTH, WIDTH, device=device)
    narrow = th.randn(BATCH, OBSERVATIONS + ACTIONS, device=device)
    entrance = th.randn(OBSERVATIONS + ACTIONS, WIDTH, device=device)
    for _ in range(8):  # forward: actor at s and s', two targets, two critics, two critics of the actor's loss
        _ = narrow @ entrance, hidden @ weight
    for _ in range(5):  # through the second layer: two critics, two critics of the actor's loss, actor
        _ = hidden @ weight
    for _ in range(3):  # gradients of the weights: two critics, actor
        _ = hidden.t() @ hidden, narrow.t() @ hidden


def product_parts(products: int) -> dict[str, Part]:
    """One product of 256 x 256 float32 numbers by each of PyTorch's two libraries, ``products`` times."""
    left, right = th.randn(WIDTH, WIDTH), th.randn(WIDTH, WIDTH)

    def multiply() -> None:
        for _ in range(products):
            _ = left @ right

    return {"PyTorch's default": multiply, "fast_matmul": fast_matmul()(multiply)}


def sac_parts(updates: int, device: str = "cpu") -> dict[str, Part]:
    """SB3's own train, this package's, and the bare products, each ``updates`` times."""
    sac = SAC("MlpPolicy", "Hopper-v5", learning_starts=300, seed=0, device=device)
    sac.learn(301)
    kwargs = {"update_to_data_ratio": 1, "rollout_batch_size": 10_000, "device": device}
    agent = MBPO("MlpPolicy", "Hopper-v5", learning_starts=300, seed=0, **kwargs)
    agent.learn(301)

    def products() -> None:
        for _ in range(updates):
            products_of_a_sac_update(device)

    parts = {
        "SB3 SAC.train": lambda: sac.train(updates, BATCH),
        "sb3_tom": lambda: agent.train_policy(updates, BATCH),
        "matrix products alone": products,
        "matrix products alone, fast_matmul": fast_matmul()(products),
    }
    return {name: synchronized(part, device) for name, part in parts.items()}


def network_parts(updates: int, device: str = "cpu") -> dict[str, Part]:
    """This package's own updates of policies with other networks, each ``updates`` times."""
    settings = {"learning_starts": 300, "update_to_data_ratio": 1, "rollout_batch_size": 10_000, "device": device}
    agents = {method: evidence_agent(method, **settings).learn(301) for method in ("mbpo", *NETWORKS)}
    return {method: synchronized(partial(agent.train_policy, updates, BATCH), device) for method, agent in agents.items()}


class LoopedLinear(EnsembleLinear):
    """The same layers, one product per member."""

    def forward(self, inputs: th.Tensor, members: th.Tensor | None = None) -> th.Tensor:
        """See :class:`EnsembleLinear`."""
        numbers = range(self.weight.shape[0]) if members is None else members.tolist()
        triples = ((self.bias[member, 0], inputs[place], self.weight[member]) for place, member in enumerate(numbers))
        return th.stack([th.addmm(*triple) for triple in triples])


def fit_parts(steps: int, n_members: int, net_arch: tuple[int, ...], batch_size: int, device: str = "cpu") -> dict[str, Part]:
    """A fit of ``steps`` minibatches by an ensemble, its members batched in one product or one after the other."""
    data, weights = random_transitions(10_000, device), th.ones(10_000, device=device)
    parts: dict[str, Part] = {}
    for name, kind in (("members batched (sb3_tom)", EnsembleLinear), ("members looped", LoopedLinear)):
        model = ProbabilisticEnsemble(
            n_members, min(5, n_members), net_arch, steps_per_epoch=steps, max_epochs=1, batch_size=batch_size
        )
        model.build(OBSERVATIONS, ACTIONS)
        for layer in model.layers:
            layer.__class__ = kind
        parts[name] = synchronized(_fit(model.to(device), data, weights, device), device)
    return parts


def _fit(model: ProbabilisticEnsemble, data: Transitions, weights: th.Tensor, device: str) -> Part:
    generator = th.Generator(device=device).manual_seed(0)
    context = Context(generator=generator)

    def fit() -> None:
        with fast_matmul():
            model.fit(data, weights, LikelihoodObjective(), context)

    return fit


def evidence_agent(method: str, **overrides: object) -> MBPO:
    """The agent of the learning curves on Hopper, with their settings."""
    overrides = {"learning_starts": 1_000, **overrides}
    return make_agent(Job("Hopper-v5", method, 0, 0, 0, overrides))


def fill(agent: MBPO, n_rows: int) -> None:
    """Step the env with random actions until the buffer holds ``n_rows`` rows, and set the clock to it."""
    env, random = agent.env, np.random.default_rng(0)
    observations = env.reset()
    low, high = agent.action_space.low, agent.action_space.high
    for _ in range(n_rows):
        actions = random.uniform(low, high, size=(1, ACTIONS)).astype(np.float32)
        next_observations, rewards, dones, infos = env.step(actions)
        stored = next_observations.copy()
        if dones[0]:
            stored[0] = infos[0]["terminal_observation"]
        agent.replay_buffer.add(observations, stored, actions, rewards, dones, infos)
        observations = next_observations
    agent.replay_buffer.policy_versions[:n_rows, 0] = np.arange(n_rows) // agent.model_train_freq
    agent.num_timesteps = n_rows
    agent._last_obs = None


def running_agent(method: str, n_rows: int, **overrides: object) -> MBPO:
    """:func:`evidence_agent` with ``n_rows`` rows, after its first model phase."""
    agent = evidence_agent(method, **overrides)
    fill(agent, n_rows)
    return agent.learn(1, reset_num_timesteps=False, log_interval=None)


def phase_part(method: str, n_rows: int, device: str = "cpu") -> Callable[[], dict[str, float]]:
    """
    A run with the learning curves' settings that begins with a buffer of ``n_rows`` rows.

    :return: each call continues for a model phase and its env steps: ms per env step, their parts, minibatches of the phase
    """
    agent = running_agent(method, n_rows, device=device)
    spent: dict[str, float] = {}
    record = agent._record

    def count(group: str, figures: dict[str, float]) -> None:
        record(group, figures)
        spent.update({f"{group} {name}": figures.get(name, 0.0) for name in ("seconds", "gradient_steps")})

    agent._record = count  # type: ignore[method-assign]
    per_step = 1e3 / agent.model_train_freq

    def phase() -> dict[str, float]:
        spent.clear()
        start = time.perf_counter()
        agent.learn(agent.model_train_freq, reset_num_timesteps=False, log_interval=None)
        if device != "cpu":
            th.cuda.synchronize()
        total = (time.perf_counter() - start) * per_step
        parts = {group: spent.get(f"{group} seconds", 0.0) * per_step for group in ("weighter", "model", "rollout_model")}
        rest = total - sum(parts.values())
        return {"total": total, **parts, "updates and env": rest, "minibatches": spent.get("model gradient_steps", 0.0)}

    return phase


def resident_memory(n_rows: int) -> dict[str, float]:
    """MiB of this process with ``n_rows`` real rows after four model phases, with 400,000 imagined rows."""
    agent = evidence_agent("mbpo_tom")
    fill(agent, n_rows)
    agent.num_timesteps = 1_000  # rollouts of one step
    agent.fit_weights()
    agent.fit_model()
    for _ in range(4):
        agent.imagine()
    agent.train_policy(20)
    sizes = {name: resident(line) / 2**20 for name, line in (("now", "VmRSS"), ("at its peak", "VmHWM"))}
    return {**sizes, "imagined rows": float(agent.imagined.size)}


def rollout_part(agent: MBPO, length: int) -> Part:
    """100,000 imagined rollouts of ``length`` steps, stored."""

    def roll() -> None:
        agent.rollout_schedule = length
        agent.imagine()

    return synchronized(roll, str(agent.device))
