"""
Time of an env step with either policy update (the processor's; with ``--gpu`` the clock's), and the processor time of
alternatives for a step of the double horizon.
"""

import argparse
import statistics
import time
from typing import Any

import speed_parts
import torch as th

from sb3_tom import MBPO

BACKBONES: dict[str, tuple[str, dict[str, Any]]] = {
    "mbpo": ("mbpo", {}),
    "dhmbpo": ("dhmbpo", {}),
    "dhmbpo, update_to_data_ratio=1": ("dhmbpo", {"update_to_data_ratio": 1}),
    "dhmbpo_tom": ("dhmbpo_tom", {}),
}
"""A method of the learning curves, and changes of it. The others are compared with the first."""
ROWS = 5_000
CALLS = 5


def table(arguments: argparse.Namespace) -> list[tuple[str, str, float, str, str]]:
    """
    A row per method: median of ms per env step over phases of 250 env steps, which take turns.

    :param arguments: ``phases``, number of phases of each; ``device``, "cpu" or "cuda"
    """
    runs = {name: Run(method, changes, arguments.device) for name, (method, changes) in BACKBONES.items()}
    measured: dict[str, list[dict[str, float]]] = {name: [] for name in runs}
    for _ in range(arguments.phases):
        for name, run in runs.items():
            measured[name].append(run.phase())
    first = measured[next(iter(runs))]
    rows, title = [], f"whole run, Hopper, 5,000 rows, {'clock' if arguments.gpu else 'processor'} time"
    for name, figures in measured.items():
        medians = {part: statistics.median(figure[part] for figure in figures) for part in figures[0]}
        ratio = statistics.median(ours["total"] / theirs["total"] for ours, theirs in zip(figures, first, strict=True))
        note = ", ".join(f"{part} {value:.1f}" for part, value in medians.items() if part != "total")
        note += "" if figures is first else f"; {ratio:.2f} x {next(iter(runs))}"
        rows.append((title, name, medians["total"], "ms per env step", note))
    return rows


class Run:
    """
    A run that begins with a buffer of 5,000 rows.

    :param method: of the learning curves
    :param changes: arguments of the agent
    :param device: "cpu", whose processor time is measured, or "cuda"
    """

    def __init__(self, method: str, changes: dict[str, Any], device: str) -> None:
        self.now = time.process_time if device == "cpu" else time.perf_counter
        self.agent = speed_parts.running_agent(method, ROWS, device=device, **changes)
        self.spent: dict[str, float] = {}
        for verb in ("fit_weights", "fit_model", "imagine", "train_policy"):
            setattr(self.agent, verb, self._timed(verb, getattr(self.agent, verb)))

    def _timed(self, name: str, verb: Any) -> Any:
        def call(*args: Any, **kwargs: Any) -> Any:
            start = self.now()
            try:
                return verb(*args, **kwargs)
            finally:
                self.spent[name] = self.spent.get(name, 0.0) + self.now() - start

        return call

    def phase(self) -> dict[str, float]:
        """Continue for 250 env steps with one model phase; returns ms per env step, and the verbs' share of it."""
        self.spent.clear()
        start, steps = self.now(), self.agent.model_train_freq
        self.agent.learn(steps, reset_num_timesteps=False, log_interval=None)
        total = self.now() - start
        parts = {"weights": "fit_weights", "fit": "fit_model", "rollouts": "imagine", "updates": "train_policy"}
        figures = {name: 1e3 * self.spent.get(verb, 0.0) / steps for name, verb in parts.items()}
        return {"total": 1e3 * total / steps, **figures}


def tried(arguments: argparse.Namespace) -> list[tuple[str, str, float, str, str]]:
    """
    A row per variant of the double horizon's gradient steps, taking turns: the current one, with the hidden products in
    bfloat16 (PyTorch's autocast), and with networks compiled by ``torch.compile``.

    :param arguments: ``repeats``, number of runs of each
    """
    agents = {name: _stepping(name) for name in ("as they are", "bfloat16", "compiled critics", "compiled model")}
    times: dict[str, list[float]] = {name: [] for name in agents}
    for repeat in range(arguments.repeats + 1):
        for name, agent in agents.items():
            before, start = agent._n_updates, time.process_time()
            with th.autocast("cpu", th.bfloat16, enabled=name == "bfloat16"):
                agent.train(CALLS, agent.batch_size)
            if repeat:  # the first one compiles
                times[name].append(1e3 * (time.process_time() - start) / (agent._n_updates - before))
    usual = times["as they are"]
    rows = []
    for name, values in times.items():
        ratio = statistics.median(value / other for value, other in zip(values, usual, strict=True))
        note = "" if values is usual else f"{ratio:.2f} x as they are"
        rows.append(("gradient step of the double horizon, Hopper", name, statistics.median(values), "ms", note))
    return rows


def _stepping(name: str) -> MBPO:
    agent = speed_parts.running_agent("dhmbpo", 2_000)
    agent.learn(20, reset_num_timesteps=False, log_interval=None)
    if name == "compiled critics":
        for critics in (agent.policy.critic, agent.policy.critic_target):
            critics.values = th.compile(critics.values, dynamic=False)
    if name == "compiled model":
        agent.dynamics._predict = th.compile(agent.dynamics._predict, dynamic=False)
    return agent
