"""Runs that are saved and resumed within a test."""

from pathlib import Path
from typing import Any

from stable_baselines3.common.env_util import make_vec_env

from sb3_tom import MBPO
from sb3_tom.checkpoint.run_state import run_state
from tests.mbpo.small import small_agent

STEPS = 120


def make_agent(env: str = "Pendulum-v1", n_envs: int = 1, weighter: str = "uniform", **kwargs: Any) -> MBPO:
    """A small agent with its own vectorised env."""
    return small_agent(make_vec_env(env, n_envs), weighter=weighter, **kwargs)


def final_state(agent: MBPO) -> dict[str, Any]:
    """Everything that a checkpoint would hold, without times on the wall clock."""
    state = run_state(agent, None)
    state["agent"]["objects"].pop("remaining_time")
    attributes = state["agent"]["attributes"]
    attributes["ep_info_buffer"] = [
        {name: value for name, value in info.items() if name != "t"} for info in attributes["ep_info_buffer"] or ()
    ]
    for part in (state["env"], *state["env"]["envs"]):
        for layer in part.get("layers", part.get("wrappers", ())):
            for name in ("t_start", "episode_times"):
                layer["state"].pop(name, None)
    state["random"].pop("observation_space")  # nobody seeds it or draws from it
    state.pop("seconds")
    state["log"] = _without_times(state["log"])
    return state


def _without_times(log: Any) -> Any:
    """What a logger holds, but for figures of the wall clock."""
    if not isinstance(log, dict):
        return log
    kept = {name: value for name, value in log.items() if not (str(name).startswith("time/") or "seconds" in str(name))}
    return {name: _without_times(value) for name, value in kept.items()}


def checkpoints(folder: Path) -> list[Path]:
    """The files of a folder, the oldest first."""
    return sorted(folder.glob("*.zip"), key=lambda path: int(path.stem.split("_")[1]))
