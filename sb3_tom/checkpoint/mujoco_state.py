"""The state of a MuJoCo simulation with all that decides what it does next."""

from typing import Any

import numpy as np

from sb3_tom.checkpoint.codec import State
from sb3_tom.checkpoint.fits import check_array, check_form

_ASSETS = ("mesh_", "tex_", "hfield_", "skin_", "flex_")
"""Beginnings of the names of arrays of ``mjModel`` that are large and that no reset draws."""


def save_mujoco(env: Any) -> State:
    """
    MuJoCo's full integration state, warm start and time included, and what it derived from it in the last step: some
    environments read positions of bodies before the next step, where recomputed ones would be one substep newer. And the
    numbers of the model, which ``reset_model`` may draw anew: masses, friction, gravity.

    :param env: unwrapped, of Gymnasium's MuJoCo environments
    """
    import mujoco

    kind = mujoco.mjtState.mjSTATE_INTEGRATION
    integration = np.empty(mujoco.mj_stateSize(env.model, kind))
    mujoco.mj_getState(env.model, env.data, integration, kind)
    # Arrays of the present contacts, whose sizes change, are empty in new data; every step makes them anew
    new = _mujoco_arrays(mujoco.MjData(env.model))
    arrays = {name: value for name, value in _mujoco_arrays(env.data).items() if name in new and new[name].size}
    derived = {name: value.copy() for name, value in arrays.items()}
    return {"integration": integration, "derived": derived, "model": _model_numbers(env.model)}


def _model_arrays(model: Any) -> list[np.ndarray]:
    """All arrays of real numbers of ``mjModel`` and of its options, not copied, but for meshes and pictures."""
    found = [(name, value) for name, value in _mujoco_arrays(model).items() if not name.startswith(_ASSETS)]
    return [value for _, value in sorted([*found, *_mujoco_arrays(model.opt).items()], key=lambda one: one[0])]


def _model_options(model: Any) -> list[str]:
    """Names of the options that are single real numbers."""
    return sorted(name for name in dir(model.opt) if isinstance(getattr(model.opt, name), float))


def _model_numbers(model: Any) -> np.ndarray:
    """In one array: a file has room for each, but no need of two hundred names."""
    options = [getattr(model.opt, name) for name in _model_options(model)]
    return np.concatenate([*(value.reshape(-1).astype(np.float64) for value in _model_arrays(model)), options])


def _restore_model(model: Any, numbers: Any) -> None:
    """Of a model with as many numbers: another release of MuJoCo may have others."""
    if not isinstance(numbers, np.ndarray) or numbers.shape != _model_numbers(model).shape or numbers.dtype != np.float64:
        return
    arrays, options = _model_arrays(model), _model_options(model)
    ends = np.cumsum([value.size for value in arrays])
    for value, part in zip(arrays, np.split(numbers, ends)[:-1], strict=True):
        value[...] = part.reshape(value.shape)
    for name, number in zip(options, numbers[ends[-1] :], strict=True):
        setattr(model.opt, name, float(number))


def _mujoco_arrays(data: Any) -> dict[str, np.ndarray]:
    """
    All arrays of real numbers of ``mjData`` or ``mjModel``, not copied. Those of whole numbers are places in its memory,
    which MuJoCo trusts: each step makes those of ``mjData`` anew, and none comes from a file.
    """
    values = ((name, getattr(data, name, None)) for name in dir(data) if not name.startswith("_"))
    return {name: value for name, value in values if isinstance(value, np.ndarray) and value.dtype.kind == "f"}


def restore_mujoco(env: Any, state: State) -> None:
    """
    The inverse of :func:`save_mujoco`.

    :param env: of the same class, after a reset
    :param state: from :func:`save_mujoco`
    :raises ValueError: if it is of another model
    """
    import mujoco

    kind = mujoco.mjtState.mjSTATE_INTEGRATION
    check_form(state, {"integration": np.ndarray, "derived": dict}, "the state of MuJoCo")
    check_array("the state of MuJoCo", state["integration"], (mujoco.mj_stateSize(env.model, kind),), "f")
    _restore_model(env.model, state.get("model"))  # older checkpoints do not hold it
    mujoco.mj_setState(env.model, env.data, state["integration"], kind)
    for name, value in _mujoco_arrays(env.data).items():
        saved = state["derived"].get(name)
        if isinstance(saved, np.ndarray) and saved.shape == value.shape and saved.dtype == value.dtype:
            value[...] = saved
