"""Weighted fit of a dynamics model by gradient descent, with a budget that does not grow with the buffer."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch as th

from sb3_tom.common.chunks import rows_at_once
from sb3_tom.common.cuda_graphs import Step, recording
from sb3_tom.common.guards import check_magnitudes, magnitude
from sb3_tom.common.types import Context, Transitions
from sb3_tom.common.validation import check_integer, check_number
from sb3_tom.common.weights import WeightedDraw

if TYPE_CHECKING:
    from sb3_tom.dynamics.base import DynamicsModel
    from sb3_tom.objectives.base import Extras, ModelObjective

WEIGHTING = ("sample", "loss")
"""Rows drawn in proportion to their weights, or drawn uniformly with the weight as a factor of the loss."""


@dataclass(frozen=True)
class FitSettings:
    """
    Budget and early stopping of one model fit. An epoch is a fixed number of minibatches, whatever the size of the buffer.

    :param batch_size: rows of a minibatch, per member
    :param steps_per_epoch: minibatches between two looks at the held-out rows
    :param max_epochs: upper bound of epochs of one fit
    :param patience: epochs in a row without an improvement of any member after which the fit stops
    :param improvement: relative decrease of a member's held-out error that counts as one (MBPO: 1 %)
    :param holdout_ratio: share of the rows that is held out
    :param max_holdout: upper bound of held-out rows
    :raises ValueError: naming the setting, what came and what is allowed
    """

    batch_size: int = 256
    steps_per_epoch: int = 50
    max_epochs: int = 12
    patience: int = 5
    improvement: float = 0.01
    holdout_ratio: float = 0.2
    max_holdout: int = 5000

    def __post_init__(self) -> None:
        for name in ("batch_size", "steps_per_epoch", "max_epochs", "patience"):
            object.__setattr__(self, name, check_integer(name, getattr(self, name), 1))
        check_integer("max_holdout", self.max_holdout, 0)
        check_number("improvement", self.improvement, 0.0, 1.0, high_open=True)
        check_number("holdout_ratio", self.holdout_ratio, 0.0, 1.0, high_open=True)


class _BestMembers:
    """Remembers the best parameters of each member: of E > 1 members each parameter has E as its first axis."""

    def __init__(self, model: "DynamicsModel", improvement: float) -> None:
        self._parameters = list(model.parameters())
        self._improvement = improvement
        self.errors = th.empty(0)
        self._kept = [parameter.detach().clone() for parameter in self._parameters]

    @th.no_grad()
    def update(self, errors: th.Tensor) -> bool:
        """
        Keep the parameters of the members that are better than ever.

        :param errors: ``[E]`` held-out errors
        :return: whether any member improved
        """
        if self.errors.numel() == 0:
            self.errors = th.full_like(errors, th.inf)
        better = errors < self.errors - self._improvement * self.errors.abs().nan_to_num(posinf=0.0)
        for kept, parameter in zip(self._kept, self._parameters, strict=True):
            if better.numel() > 1:
                kept[better] = parameter[better]
            elif bool(better):
                kept.copy_(parameter)
        self.errors = th.where(better, errors, self.errors)
        return bool(better.any())

    @th.no_grad()
    def restore(self) -> None:
        """Put the best parameters back."""
        for kept, parameter in zip(self._kept, self._parameters, strict=True):
            parameter.copy_(kept)


def _split(data: Transitions, settings: FitSettings, generator: th.Generator) -> tuple[th.Tensor, th.Tensor]:
    """Random row numbers to train on and to hold out; too few rows to hold any out serve both purposes."""
    order = th.randperm(data.size, generator=generator, device=data.device)
    n_held = min(int(settings.holdout_ratio * data.size), settings.max_holdout)
    if n_held == 0:
        return order, order
    return order[n_held:], order[:n_held]


@th.no_grad()
def _held_out_errors(model: "DynamicsModel", pieces: list[Transitions], weights: th.Tensor) -> th.Tensor:
    """Weighted mean error of each member, ``[E]``; plain where all held-out weights vanish."""
    weights = th.where(weights.sum() > 0, weights, th.ones_like(weights))
    errors = th.cat([model.validation_error(piece) for piece in pieces], dim=-1)
    return (errors * weights).sum(-1) / weights.sum()


def fit_by_gradient(
    model: "DynamicsModel",
    optimizer: th.optim.Optimizer,
    data: Transitions,
    weights: th.Tensor,
    objective: "ModelObjective",
    context: Context,
    weighting: str,
    settings: FitSettings,
) -> tuple[th.Tensor, dict[str, float]]:
    """
    Minimise ``objective`` on weighted rows; each member draws its own minibatches. Stops when no member improves any more
    and restores the best parameters of each member.

    :param model: the model to fit; its normaliser is up to date
    :param optimizer: over the model's parameters
    :param data: N rows
    :param weights: ``[N]``, usable
    :param objective: what to minimise
    :param context: view of the agent
    :param weighting: one of :data:`WEIGHTING`
    :param settings: budget and early stopping
    :return: best held-out error per member ``[E]``; figures for the log
    :raises DivergenceError: if a step has overflowed; the model is then not usable
    """
    train_rows, held_rows = _split(data, settings, context.generator)
    held, held_weights = data.rows(held_rows), weights[held_rows]
    train_weights = weights[train_rows]
    if not bool(train_weights.sum() > 0):  # all of the weight fell into the held-out rows
        train_rows, train_weights = held_rows, held_weights
    draw = WeightedDraw(train_weights if weighting == "sample" else th.ones_like(train_weights))
    extras = objective.prepare(model, data, context)
    best = _BestMembers(model, settings.improvement)
    n_members = _held_out_errors(model, [data.rows(held_rows[:1])], held_weights[:1]).numel()
    held_pieces = held.split(rows_at_once(data.device, n_members))
    epoch, stale = 0, 0
    with _steps(model, optimizer, objective, tuple(extras), context, data.device) as step:
        while epoch < settings.max_epochs and stale < settings.patience:
            shape = (settings.steps_per_epoch, n_members, settings.batch_size)
            rows = train_rows[draw(shape, context.generator)]
            factors = weights[rows] if weighting == "loss" else None
            _run_epoch(step, data, rows, factors, extras)
            epoch += 1
            stale = 0 if best.update(_held_out_errors(model, held_pieces, held_weights)) else stale + 1
    # No member is lost silently: its best parameters would come back, but not the moments of its optimiser
    name = f"the norm of the weights of {type(model).__name__} at the end of its fit"
    check_magnitudes({name: float(magnitude(model.parameters()))})
    best.restore()
    figures = {
        "epochs": float(epoch),
        "gradient_steps": float(epoch * settings.steps_per_epoch),
        "validation_error": float(best.errors.mean()),
    }
    return best.errors, figures


@contextmanager
def _steps(
    model: "DynamicsModel",
    optimizer: th.optim.Optimizer,
    objective: "ModelObjective",
    extra_names: tuple[str, ...],
    context: Context,
    device: th.device,
) -> Iterator[Step]:
    """The objective's step as a function of tensors: the fields of a batch, weights ``[E, B]``, and the extras."""

    def step(*tensors: th.Tensor) -> list[th.Tensor]:
        n_fields = len(Transitions._fields)
        extras = dict(zip(extra_names, tensors[n_fields + 1 :], strict=True))
        objective.step(model, optimizer, Transitions(*tensors[:n_fields]), tensors[n_fields], extras, context)
        return []

    if not (objective.recordable and model.recordable):
        yield step
        return
    with recording(step, optimizer, f"fit of {type(model).__name__}", device) as recorded:
        yield recorded


def _run_epoch(step: Step, data: Transitions, rows: th.Tensor, factors: th.Tensor | None, extras: "Extras") -> None:
    """One optimiser step for each ``rows[i]`` of shape ``[E, B]``; the rows of an epoch are gathered at once."""
    if factors is None:
        factors = th.ones(rows.shape[1:], device=rows.device).expand(rows.shape)
    fields = [*data.rows(rows), factors, *(values[rows] for values in extras.values())]
    for tensors in zip(*fields, strict=True):
        step(*tensors)
