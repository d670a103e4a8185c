"""
The state of a run: an agent between two collections of transitions, its env, noise, clock, log, callbacks and random streams.

It is restored in two steps. :func:`~sb3_tom.checkpoint.agent_state.restore_agent` restores the agent. SB3's ``learn`` then
starts its clock, resets the noise, may reset the env and initialises the callbacks; :func:`restore_moment` undoes that before
the next collection.
"""

import time
import warnings
from typing import Any

from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.noise import ActionNoise, VectorizedActionNoise

from sb3_tom.checkpoint.agent_state import agent_state
from sb3_tom.checkpoint.arguments import constructor_arguments
from sb3_tom.checkpoint.attributes import attributes_state, restore_attributes
from sb3_tom.checkpoint.callback_state import callbacks_state, restore_callbacks
from sb3_tom.checkpoint.codec import State
from sb3_tom.checkpoint.fits import check_form, explained
from sb3_tom.checkpoint.log_state import log_state, restore_log
from sb3_tom.checkpoint.random_state import random_state, restore_random
from sb3_tom.checkpoint.reading import Archive
from sb3_tom.checkpoint.vec_env_state import boundary_reasons, restore_vec_env, vec_env_state
from sb3_tom.checks.validation import check_number

MOMENT = ("_last_obs", "_last_original_obs", "_last_episode_starts", "_num_timesteps_at_start")
"""Attributes of the agent that the beginning of ``learn`` changes."""

EPISODES = ("ep_info_buffer", "ep_success_buffer")
"""Attributes that SB3 creates together, in the first ``learn``."""

WITHIN = ("_last_obs", "_last_episode_starts", *EPISODES)
"""Attributes that are set once ``learn`` has begun."""


def run_state(agent: Any, callback: BaseCallback | None) -> State:
    """
    The complete state of a run.

    :param agent: an MBPO between two collections of transitions
    :param callback: made by ``learn`` from the user's; None outside ``learn``
    :return: values that refer to the agent's memory: write them before training continues
    """
    arguments, others = constructor_arguments(agent)
    return {
        "class": type(agent).__qualname__,
        "arguments": arguments,
        "other_arguments": others,
        "agent": agent_state(agent),
        "env": vec_env_state(agent.env),
        "noise": _noise_state(agent.action_noise),
        "seconds": (time.time_ns() - agent.start_time) / 1e9 if agent.start_time else 0.0,
        "log": log_state(agent),
        "in_learn": callback is not None,
        "callbacks": {} if callback is None else callbacks_state(callback),
        "random": random_state(agent),
    }


_FORM: dict[str, Any] = {
    "class": str,
    "arguments": dict,
    "other_arguments": list,
    "agent": dict,
    "env": dict,
    "noise": list,
    "seconds": (int, float),
    "log": dict,
    "in_learn": bool,
    "callbacks": dict,
    "random": dict,
}


def outline_of_run(archive: Archive) -> State:
    """
    The outline of a run's state.

    :param archive: the open checkpoint
    :raises ValueError: naming the file, if it does not hold a run
    """
    with explained(archive.path):
        state = archive.outline()
        check_form(state, _FORM, "the run")
    return state


def moment_of(state: State) -> State:
    """
    The small part of a run's state that :func:`restore_moment` needs.

    :param state: from :func:`run_state`
    :raises ValueError: if it was saved within ``learn`` but has no last observation
    """
    attributes = {name: state["agent"]["attributes"][name] for name in MOMENT}
    if state["in_learn"] and any(state["agent"]["attributes"][name] is None for name in WITHIN):
        raise ValueError(f"it was saved within learn, but holds no last observation: one of {WITHIN} is None")
    if len({state["agent"]["attributes"][name] is None for name in EPISODES}) > 1:
        raise ValueError(f"it holds only one of {EPISODES}")
    parts = ("env", "noise", "seconds", "log", "in_learn", "callbacks", "random")
    return {"attributes": attributes, **{name: state[name] for name in parts}}


def restore_moment(agent: Any, state: State, callback: BaseCallback | None) -> None:
    """
    Restore env, noise, clock, log, callbacks and random streams.

    :param agent: restored by :func:`~sb3_tom.checkpoint.agent_state.restore_agent`, with its env
    :param state: from :func:`moment_of`
    :param callback: made by ``learn`` from the user's; None before ``learn``
    :raises ValueError: if the env is not made like the run's
    """
    for name, value in state["attributes"].items():  # checked by restore_agent
        setattr(agent, name, value)
    _restore_env(agent, state["env"])
    _restore_noise(agent, state["noise"])
    if callback is not None:
        agent.start_time = time.time_ns() - int(check_number("seconds", state["seconds"], 0.0, 1e12) * 1e9)
        restore_log(agent, state["log"])
        strangers = restore_callbacks(callback, state["callbacks"])
        if strangers:
            warnings.warn(f"The run had no callback of the kind {', '.join(strangers)}: it begins anew.", stacklevel=2)
    restore_random(agent, state["random"])


def _restore_env(agent: Any, state: State) -> None:
    observations = restore_vec_env(agent.env, state)
    if observations is None or agent._last_obs is None:
        return
    agent._last_obs, agent._last_episode_starts[:] = observations, True
    if agent._vec_normalize_env is not None:
        agent._last_original_obs = agent._vec_normalize_env.get_original_obs()
    reasons = "; ".join(boundary_reasons(state))
    warnings.warn(
        f"The run goes on with new episodes, not in the middle of its old ones: {reasons}. It is a valid continuation, with "
        "the statistics of the wrappers that can be read, but not the same as without the interruption.",
        stacklevel=2,
    )


def _noise_state(noise: ActionNoise | None) -> list[State]:
    return [attributes_state(one, ("noises",))[0] for one in _noises(noise)]


def _restore_noise(agent: Any, states: list[State]) -> None:
    noise = agent.action_noise
    # `learn` gives each env its own noise: a run saved after that has more parts than an agent before it
    if noise is not None and len(states) > len(_noises(noise)) and agent.env.num_envs > 1:
        noise = agent.action_noise = VectorizedActionNoise(noise, agent.env.num_envs)
    if len(states) == 1 and isinstance(noise, VectorizedActionNoise):  # saved before the first `learn`
        noise = agent.action_noise = noise.base_noise
    if len(states) != len(_noises(noise)):
        raise ValueError(f"action_noise={noise!r} is not allowed; allowed: the run's, which had {len(states)} parts")
    for one, state in zip(_noises(noise), states, strict=True):
        restore_attributes(one, state, ("noises",))


def _noises(noise: ActionNoise | None) -> list[ActionNoise]:
    return [] if noise is None else [noise, *getattr(noise, "noises", [])]


def remaining_steps(agent: Any, total_timesteps: int) -> int:
    """
    Env steps that are left of the interrupted call of ``learn``.

    :param agent: whose run was loaded
    :param total_timesteps: argument of the user
    :raises ValueError: if the run has done more
    """
    assert agent._num_timesteps_at_start is not None
    done, asked = agent.num_timesteps - agent._num_timesteps_at_start, agent._total_timesteps - agent._num_timesteps_at_start
    if total_timesteps < min(done, asked):
        raise ValueError(
            f"total_timesteps={total_timesteps} is not allowed: the resumed run has done {done} of this call's env steps; "
            f"allowed: the number that it was begun with, {asked}, or a greater one"
        )
    return max(total_timesteps - done, 0)
