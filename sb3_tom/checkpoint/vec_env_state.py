"""The state of a vectorised environment: its wrappers, its buffers, and each environment, also in other processes."""

from collections.abc import Sequence
from functools import partial
from typing import Any

from stable_baselines3.common.vec_env import DummyVecEnv, SubprocVecEnv, VecEnv, VecEnvWrapper

from sb3_tom.checkpoint.attributes import attributes_state, restore_attributes
from sb3_tom.checkpoint.codec import State
from sb3_tom.checkpoint.env_state import env_state, restore_env
from sb3_tom.checkpoint.fits import check_form
from sb3_tom.checkpoint.reading import MALFORMED
from sb3_tom.envs.moves import MOVES
from sb3_tom.envs.workers import ask, layers_of

_FIXED = ("num_envs", "metadata", "render_mode", "reset_infos", "results_writer", "step_wait", *MOVES)
"""
Attributes of all layers without a state. The methods are those that :mod:`sb3_tom.envs.vec_normalize` and
:mod:`sb3_tom.envs.moves` replace.
"""
_OF_WRAPPERS = (*_FIXED, "venv", "class_attributes")
_OVERWRITTEN = ("actions", "buf_infos", "buf_obs", "buf_dones", "buf_rews")
"""Those that the next step writes before it reads; a wrapper of the user's may mean something else by such a name."""
_OF_ENVS = (*_FIXED, *_OVERWRITTEN, "envs", "keys", "waiting", "closed", "remotes", "work_remotes", "processes")


def _skipped(layer: VecEnv) -> tuple[str, ...]:
    """Attributes of a layer that are not read."""
    return _OF_WRAPPERS if isinstance(layer, VecEnvWrapper) else _OF_ENVS


def _errand(state: State | None, wrapper: Any) -> bool:
    """
    Save or restore an environment in its process.

    :param state: state to restore, after which the wrapper's attribute ``sb3_tom_state`` says what does not fit, if anything;
        None: save, to the same attribute
    :param wrapper: the outermost
    :return: True
    """
    if state is None:
        wrapper.sb3_tom_state = env_state(wrapper)
        return True
    wrapper.sb3_tom_state = None
    try:
        restore_env(wrapper, state)
    except MALFORMED as error:  # here it would end the process, which could not say why
        wrapper.sb3_tom_state = str(error) if isinstance(error, ValueError) else repr(error)
    return True


def _send(env: VecEnv, state: State | None, index: int) -> bool:
    """Run :func:`_errand` in a worker; False if the environment has no wrapper and it was not run."""
    return ask(env, partial(_errand, state), [index])[0]


def vec_env_state(env: VecEnv) -> State:
    """
    State of a vectorised environment.

    :param env: a ``DummyVecEnv`` or ``SubprocVecEnv``, wrapped or not; any other resumes at an episode boundary
    """
    layers = []
    for layer in layers_of(env):
        state, unknown = attributes_state(layer, _skipped(layer))
        layers.append({"class": type(layer).__qualname__, "state": state, "unknown": unknown})
    return {"layers": layers, "envs": _env_states(env.unwrapped)}


def _env_states(env: VecEnv) -> list[State]:
    if isinstance(env, DummyVecEnv):
        return [env_state(one) for one in env.envs]
    if isinstance(env, SubprocVecEnv):
        sent = [_send(env, None, index) for index in range(env.num_envs)]
        lost: State = {"boundary": "an env without a wrapper in another process cannot be read", "generator": None}
        return [env.get_attr("sb3_tom_state", [index])[0] if done else lost for index, done in enumerate(sent)]
    return [{"boundary": f"{type(env).__qualname__} cannot be read", "generator": None}] * env.num_envs


def boundary_reasons(state: State) -> list[str]:
    """
    Reasons why a run with this state resumes at an episode boundary; empty if it resumes within its episodes.

    :param state: from :func:`vec_env_state`
    """
    reasons = [one["boundary"] for one in state["envs"] if "boundary" in one]
    reasons += [f"{one['class']} has attributes {one['unknown']}" for one in state["layers"] if one["unknown"]]
    return list(dict.fromkeys(reasons))


def _nested(names: Sequence[str]) -> str:
    return "(".join(names) + ")" * (len(names) - 1)


def restore_vec_env(env: VecEnv, state: State) -> Any:
    """
    The inverse of :func:`vec_env_state`.

    :param env: made like the saved one
    :param state: from :func:`vec_env_state`
    :return: None; at an episode boundary the first observations of new episodes, in all environments
    :raises ValueError: if it is not made like the saved one
    """
    layers = [*layers_of(env)]
    check_form(state, {"layers": list, "envs": list}, "the env's state")
    names = [type(layer).__qualname__ for layer in layers]
    saved = [layer["class"] for layer in state["layers"]]
    if names != saved or env.num_envs != len(state["envs"]):
        raise ValueError(
            f"env={_nested(names)} with {env.num_envs} envs is not allowed; "
            f"allowed: as the run had it, {_nested(saved):.200} with {len(state['envs'])} envs"
        )
    env.reset()  # creates attributes that exist only after a reset
    for layer, saved_layer in zip(layers, state["layers"], strict=True):
        restore_attributes(layer, saved_layer["state"], _skipped(layer))
    for index, one in enumerate(state["envs"]):
        _restore_one(env.unwrapped, index, one)
    return env.reset() if boundary_reasons(state) else None


def _restore_one(env: VecEnv, index: int, state: State) -> None:
    if isinstance(env, DummyVecEnv):
        restore_env(env.envs[index], state)
    elif isinstance(env, SubprocVecEnv):
        if _send(env, state, index):
            wrong = env.get_attr("sb3_tom_state", [index])[0]
        else:  # what is at an episode's boundary has nothing to restore but a generator
            unread = "an env without a wrapper in another process cannot be restored; allowed: the same wrappers as in the run"
            wrong = None if "boundary" in state else unread
        if wrong is not None:
            raise ValueError(wrong)
