"""Saves and restores a MuJoCo simulation, with everything that influences its later steps."""

from typing import Any

import numpy as np

from sb3_tom.checkpoint.codec import State
from sb3_tom.checkpoint.fits import check_array, check_form

_ASSETS = ("mesh_", "tex_", "hfield_", "skin_", "flex_", "wrap_")
"""Prefixes of arrays of ``mjModel`` that are large and that no reset randomises."""


def save_mujoco(env: Any) -> State:
    """
    MuJoCo's full integration state, warm start and time included, and the quantities derived from it in the last step: some
    environments read body positions before the next step, and recomputed ones would be one substep newer. Also the numbers of
    the model, such as masses, friction and gravity, which ``reset_model`` may randomise.

    :param env: one of Gymnasium's MuJoCo environments, unwrapped
    """
    import mujoco

    kind = mujoco.mjtState.mjSTATE_INTEGRATION
    integration = np.empty(mujoco.mj_stateSize(env.model, kind))
    mujoco.mj_getState(env.model, env.data, integration, kind)
    # Arrays of contacts, whose sizes change, are empty in new data; every step recomputes them
    new = _mujoco_arrays(mujoco.MjData(env.model))
    arrays = {name: value for name, value in _mujoco_arrays(env.data).items() if name in new and new[name].size}
    derived = {name: value.copy() for name, value in arrays.items()}
    return {"integration": integration, "derived": derived, "model": _model_numbers(env.model)}


def _model_arrays(model: Any) -> list[np.ndarray]:
    """All float arrays of ``mjModel`` and of its options, in the order of their names, not copied; without ``_ASSETS``."""
    found = [(name, value) for name, value in _mujoco_arrays(model).items() if not name.startswith(_ASSETS)]
    return [value for _, value in sorted([*found, *_mujoco_arrays(model.opt).items()], key=lambda one: one[0])]


def _model_options(model: Any) -> list[str]:
    """Names of the options that are single floats."""
    return sorted(name for name in dir(model.opt) if isinstance(getattr(model.opt, name), float))


def _model_numbers(model: Any) -> np.ndarray:
    """These arrays and options in one float64 array, a single entry of the checkpoint instead of two hundred."""
    options = [getattr(model.opt, name) for name in _model_options(model)]
    return np.concatenate([*(value.reshape(-1).astype(np.float64) for value in _model_arrays(model)), options])


def _restore_model(model: Any, numbers: Any) -> None:
    """Set these arrays and options; skipped if a model has other sizes, as in another release of MuJoCo."""
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
    All float arrays of ``mjData``, ``mjModel`` or its options, not copied. Integer arrays are indices into MuJoCo's memory,
    which it does not check: each step recomputes those of ``mjData``, and none is read from a file.
    """
    values = ((name, getattr(data, name, None)) for name in dir(data) if not name.startswith("_"))
    return {name: value for name, value in values if isinstance(value, np.ndarray) and value.dtype.kind == "f"}


def restore_mujoco(env: Any, state: State) -> None:
    """
    The inverse of :func:`save_mujoco`.

    :param env: of the same class, after a reset
    :param state: from :func:`save_mujoco`
    :raises ValueError: if it does not fit the model
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
