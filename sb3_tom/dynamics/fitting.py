"""Weighted fit of a dynamics model by gradient descent; its cost does not grow with the buffer."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch as th

from sb3_tom.checks.guards import check_magnitudes, magnitude
from sb3_tom.checks.validation import check_bool, check_integer, check_number
from sb3_tom.compute.chunks import evenly, rows_at_once
from sb3_tom.compute.cuda_graphs import Step, recording
from sb3_tom.contracts.context import Context
from sb3_tom.contracts.dynamics import DynamicsModel
from sb3_tom.contracts.objective import Extras, ModelObjective
from sb3_tom.contracts.plug import figures_of
from sb3_tom.contracts.types import Transitions
from sb3_tom.data.weights import WeightedDraw
from sb3_tom.dynamics.holdout import hash_to_unit_interval, split_rows
from sb3_tom.dynamics.returned import check_members, held_errors, prepared

WEIGHTING = ("sample", "loss")
"""Draw rows in proportion to their weights, or uniformly with the weight as a factor of the loss."""


GATHERED = 2**21
"""Numbers that are gathered at once: 8 MB, most of an epoch where observations are short."""

FIRST = 8
"""Upper bound of a first fit in multiples of ``max_epochs``; on 1,000 random rows early stopping ends it before."""


@dataclass(frozen=True)
class FitSettings:
    """
    Budget and early stopping of one model fit. An epoch is a fixed number of minibatches, whatever the size of the buffer.

    :param batch_size: rows of a minibatch, per member
    :param steps_per_epoch: minibatches between two evaluations of the held-out rows
    :param max_epochs: maximum number of epochs of one fit
    :param first_max_epochs: maximum number of epochs of a model's first fit; None: eight times ``max_epochs``
    :param patience: number of epochs in a row without an improvement of any member after which the fit stops
    :param improvement: relative decrease of a member's held-out error that counts as an improvement (MBPO: 1 %)
    :param holdout_ratio: probability that a row is held out; a row's choice is the same in all fits
    :param max_holdout: maximum number of held-out rows, on average
    :param bootstrap: each member has a weight of its own for each row, drawn from an exponential distribution of mean 1 and
        the same in all fits (the Bayesian bootstrap, Rubin 1981; the code of DHMBPO, Kubo et al. 2025)
    :param keep_start: a warm-started fit may keep the parameters that it began with, and keeps those of the lowest held-out
        error; ``improvement`` is for ``patience`` alone. False, as in MBPO's code: those of the last epoch that improved, at
        least of the first one, so that repeated fits to the same few rows get worse and worse
    :raises ValueError: naming the setting, what came and what is allowed
    """

    batch_size: int = 256
    steps_per_epoch: int = 50
    max_epochs: int = 12
    first_max_epochs: int | None = None
    patience: int = 5
    improvement: float = 0.01
    holdout_ratio: float = 0.2
    max_holdout: int = 5000
    bootstrap: bool = False
    keep_start: bool = False

    def __post_init__(self) -> None:
        for name in ("batch_size", "steps_per_epoch", "max_epochs", "patience"):
            object.__setattr__(self, name, check_integer(name, getattr(self, name), 1))
        if self.first_max_epochs is not None:
            object.__setattr__(self, "first_max_epochs", check_integer("first_max_epochs", self.first_max_epochs, 1))
        check_integer("max_holdout", self.max_holdout, 0)
        check_bool("bootstrap", self.bootstrap)
        check_bool("keep_start", self.keep_start)
        check_number("improvement", self.improvement, 0.0, 1.0, high_open=True)
        check_number("holdout_ratio", self.holdout_ratio, 0.0, 1.0, high_open=True)

    def cap(self, is_first: bool) -> int:
        """
        Maximum number of epochs.

        :param is_first: whether it is the model's first fit
        """
        if is_first:
            return FIRST * self.max_epochs if self.first_max_epochs is None else self.first_max_epochs
        return self.max_epochs


class _BestMembers:
    """Keeps the best parameters of each member; for E > 1 members E is the first axis of each parameter."""

    def __init__(self, model: DynamicsModel, settings: FitSettings) -> None:
        self._parameters = list(model.parameters())
        self._settings = settings
        self.errors: th.Tensor | None = None  # [E], of the kept parameters; None before the first errors
        self._improved: th.Tensor | None = None  # [E], when they last improved
        self._kept = [parameter.detach().clone() for parameter in self._parameters]

    @th.no_grad()
    def update(self, errors: th.Tensor | None) -> bool:
        """
        Keep the parameters of the members that are the best so far (see :attr:`FitSettings.keep_start`).

        :param errors: ``[E]`` held-out errors; None if the objective has none
        :return: whether any member improved; True without errors
        """
        if errors is None:
            return True
        if self.errors is None or self._improved is None:
            self.errors = self._improved = th.full_like(errors, th.inf)
        least = self._settings.improvement * self._improved.abs().nan_to_num(posinf=0.0)
        improves = errors < self._improved - least
        better = errors < self.errors if self._settings.keep_start else improves
        for kept, parameter in zip(self._kept, self._parameters, strict=True):
            if better.numel() > 1:
                kept[better] = parameter[better]
            elif bool(better):
                kept.copy_(parameter)
        self.errors = th.where(better, errors, self.errors)
        self._improved = th.where(improves, errors, self._improved)
        return bool(improves.any())

    @th.no_grad()
    def restore(self) -> None:
        """Restore the best parameters; without errors the last ones stay."""
        if self.errors is None:
            return
        for kept, parameter in zip(self._kept, self._parameters, strict=True):
            parameter.copy_(kept)


class _HeldRows:
    """
    Held-out rows, and the error of each member on them.

    :param model: the model that is fitted
    :param objective: defines the error
    :param data: N rows
    :param extras: what the objective prepared for them
    :param rows: numbers of the held-out rows
    :param weights: of the held-out rows
    """

    def __init__(
        self,
        model: DynamicsModel,
        objective: ModelObjective,
        data: Transitions,
        extras: Extras,
        rows: th.Tensor,
        weights: th.Tensor,
    ) -> None:
        self._model, self._objective = model, objective
        # A plain mean if all held-out weights are 0
        self._weights = th.where(weights.sum() > 0, weights, th.ones_like(weights))
        with th.no_grad():
            self.n_members = model.validation_error(data.rows(rows[:1])).shape[0]
        size = rows_at_once(data.device, self.n_members)
        self._data, self._extras, self._rows = data, extras, rows
        self._pieces = [self._piece(some) for some in rows.split(size)]
        self._n_at_once = size
        check_members(model, self.n_members)

    def _piece(self, rows: th.Tensor) -> tuple[Transitions, Extras]:
        return self._data.rows(rows), {name: values[rows] for name, values in self._extras.items()}

    @th.no_grad()
    def errors(self) -> th.Tensor | None:
        """The objective's errors ``[E]``; None if it has none."""
        errors = [held_errors(self._objective, self._model, *piece, self.n_members) for piece in self._pieces]
        known = [error for error in errors if error is not None]
        return self._mean(known) if len(known) == len(errors) else None

    @th.no_grad()
    def own_errors(self) -> th.Tensor:
        """The model's own errors ``[E]``."""
        return self._mean([self._model.validation_error(rows) for rows, _ in self._pieces])

    @th.no_grad()
    def figures(self, context: Context) -> dict[str, float]:
        """The objective's metrics, on one chunk of rows that is spread evenly over the held-out ones."""
        places = evenly(len(self._rows), self._n_at_once, self._rows.device)
        said = self._objective.figures(self._model, *self._piece(self._rows[places]), context)
        return figures_of(self._objective, said, "figures")

    def _mean(self, errors: list[th.Tensor]) -> th.Tensor:
        return (th.cat(errors, dim=-1) * self._weights).sum(-1) / self._weights.sum()


def fit_by_gradient(
    model: DynamicsModel,
    optimizer: th.optim.Optimizer,
    data: Transitions,
    weights: th.Tensor,
    objective: ModelObjective,
    context: Context,
    weighting: str,
    settings: FitSettings,
) -> tuple[th.Tensor, dict[str, float]]:
    """
    Minimise ``objective`` on weighted rows; each member draws its own minibatches. Stops when no member improves any more
    and restores the best parameters of each member (:class:`FitSettings`), unless the objective has no held-out error.

    :param model: the model to fit; its normaliser is up to date
    :param optimizer: over the model's parameters
    :param data: N rows
    :param weights: ``[N]``, usable
    :param objective: what to minimise
    :param context: view of the agent
    :param weighting: one of :data:`WEIGHTING`
    :param settings: budget and early stopping
    :return: best held-out error per member ``[E]``; figures for the log
    :raises DivergenceError: if a step has overflowed; the model is not usable then
    """
    arrivals = context.arrivals(data)
    train_rows, held_rows = split_rows(arrivals, settings.holdout_ratio, settings.max_holdout)
    train_weights = weights[train_rows]
    if not bool(train_weights.sum() > 0):  # all weight is on held-out rows
        train_rows, train_weights = held_rows, weights[held_rows]
    draw = WeightedDraw(train_weights if weighting == "sample" else th.ones_like(train_weights))
    extras = prepared(objective, model, data, context)
    best = _BestMembers(model, settings)
    held = _HeldRows(model, objective, data, extras, held_rows, weights[held_rows])
    is_first = not optimizer.state  # it has never stepped
    if settings.keep_start and not is_first:
        best.update(held.errors())
    cap = settings.cap(is_first)
    epoch, stale = 0, 0
    with _steps(model, optimizer, objective, tuple(extras), context, data.device) as step:
        while epoch < cap and stale < settings.patience:
            shape = (settings.steps_per_epoch, held.n_members, settings.batch_size)
            rows = train_rows[draw(shape, context.generator)]
            factors = weights[rows] if weighting == "loss" else None
            if settings.bootstrap:
                own = bootstrap_factors(arrivals[rows])
                factors = own if factors is None else factors * own
            _run_epoch(step, data, rows, factors, extras)
            epoch += 1
            stale = 0 if best.update(held.errors()) else stale + 1
    # Restoring would hide a diverged member: its best parameters come back, but not the moments of its optimiser
    name = f"the norm of the weights of {type(model).__name__} at the end of its fit"
    check_magnitudes({name: float(magnitude(model.parameters()))})
    best.restore()
    errors = best.errors if best.errors is not None else held.own_errors()
    figures = {
        "epochs": float(epoch),
        "cap_reached": float(stale < settings.patience),
        "gradient_steps": float(epoch * settings.steps_per_epoch),
        "validation_error": float(errors.mean()),
    }
    return errors, figures | held.figures(context)


def bootstrap_factors(arrivals: th.Tensor) -> th.Tensor:
    """
    Row weights of :attr:`FitSettings.bootstrap`, computed from member and insertion number, so that they need not be stored.

    :param arrivals: ``[..., E, B]`` int64, insertion numbers of the rows of E members
    :return: ``[..., E, B]`` float32, at least 0, of mean 1 over rows
    """
    members = th.arange(1, arrivals.shape[-2] + 1, device=arrivals.device).unsqueeze(1)
    # Hashed twice: hashing the sum once would give a member the draws of another member's neighbouring rows
    mixed = (hash_to_unit_interval(arrivals) * 2.0**32).long() + members * 0x9E3779B1
    return (-th.log1p(-hash_to_unit_interval(mixed))).float()


@contextmanager
def _steps(
    model: DynamicsModel,
    optimizer: th.optim.Optimizer,
    objective: ModelObjective,
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


def _run_epoch(step: Step, data: Transitions, rows: th.Tensor, factors: th.Tensor | None, extras: Extras) -> None:
    """One optimiser step for each ``rows[i]`` of shape ``[E, B]``; the rows of several steps are gathered at once."""
    if factors is None:
        factors = th.ones(rows.shape[1:], device=rows.device).expand(rows.shape)
    width = sum(values[0].numel() for values in (*data, *extras.values()))
    at_once = max(1, GATHERED // (width * rows[0].numel()))
    for some, their_factors in zip(rows.split(at_once), factors.split(at_once), strict=True):
        fields = [*data.rows(some), their_factors, *(values[some] for values in extras.values())]
        for tensors in zip(*fields, strict=True):
            step(*tensors)
