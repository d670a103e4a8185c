"""What objectives and models return to a fit, checked against their contracts by shape, without a host read."""

import torch as th

from sb3_tom.contracts.context import Context
from sb3_tom.contracts.dynamics import DynamicsModel
from sb3_tom.contracts.objective import Extras, ModelObjective
from sb3_tom.contracts.types import Transitions


def prepared(objective: ModelObjective, model: DynamicsModel, data: Transitions, context: Context) -> Extras:
    """
    What the objective prepares for a fit.

    :param objective: the agent's
    :param model: the model before the fit
    :param data: N rows
    :param context: view of the agent
    :return: tensors ``[N, ...]`` by name, constants for the fit
    :raises ValueError: if it is something else, naming the objective
    """
    extras = objective.prepare(model, data, context)
    if isinstance(extras, dict) and all(isinstance(it, th.Tensor) and it.shape[:1] == (data.size,) for it in extras.values()):
        return {name: it.detach() for name, it in extras.items()}  # a graph would be gone after the first minibatch
    came = {name: getattr(it, "shape", it) for name, it in extras.items()} if isinstance(extras, dict) else repr(extras)
    raise ValueError(
        f"{type(objective).__name__}.prepare returned {came}; allowed: a dict of tensors of {data.size} rows, as the data has"
    )


def held_errors(
    objective: ModelObjective, model: DynamicsModel, batch: Transitions, extras: Extras, n_members: int
) -> th.Tensor | None:
    """
    The objective's errors on held-out rows.

    :param objective: the agent's
    :param model: the model that is fitted
    :param batch: held-out rows, fields ``[B, ...]``
    :param extras: the same rows of what was prepared
    :param n_members: E
    :return: ``[E, B]``, or None if there is no such error
    :raises ValueError: if it is something else, naming the objective
    """
    errors = objective.validation_error(model, batch, extras)
    allowed = (n_members, batch.size)
    if errors is None or (isinstance(errors, th.Tensor) and errors.shape == allowed):
        return errors
    came = getattr(errors, "shape", errors)
    raise ValueError(f"{type(objective).__name__}.validation_error returned {came}; allowed: a tensor of {allowed}, or None")


def check_members(model: DynamicsModel, n_members: int) -> None:
    """
    Check that the members are the first axis of each parameter: else the best ones of each member could not be kept.

    :param model: the model to fit
    :param n_members: E
    :raises ValueError: naming the parameter
    """
    for name, parameter in model.named_parameters():
        if n_members > 1 and parameter.shape[:1] != (n_members,):
            raise ValueError(
                f"{type(model).__name__}.{name} has the shape {tuple(parameter.shape)}; allowed: the {n_members} members first"
            )
