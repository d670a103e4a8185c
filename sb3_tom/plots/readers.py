"""Reads the files of a run: those of this package's callbacks, SB3's loggers and evaluations, TensorBoard."""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from sb3_tom.callbacks.tables import check_fields, read_table
from sb3_tom.data.diagnostics import equal_bins
from sb3_tom.plots.statistics import Curve

LOGGED = {
    "eval/mean_reward": "return_mean",
    "eval/mean_ep_length": "episode_length_mean",
    "rollout/ep_rew_mean": "training_return",
    "weighter/effective_sample_size": "ess",
    "model/validation_error": "model_error",
    "model_error/global": "global_error",
    "model_error/local": "local_error",
}
"""From names in the log to names of series."""

LABELS = ("task", "method", "seed")
"""Columns that tell whose a file of a callback is."""

BY_AGE = "weight_by_age/"
"""Prefix of the mean weights by age in the log, see :func:`sb3_tom.data.diagnostics.weight_by_age`."""

PHASES, PROFILES = "weight by age", "compounding_error"
"""Names of the figures that are not curves over env steps."""

ROWS = f"{BY_AGE}rows"
STEP = "time/total_timesteps"
TABLES = ("return_mean", "cumulative_max", "episode_length_mean")
"""Columns of a learning curve that can be drawn."""


class Phase(NamedTuple):
    """
    Weights of one model phase by age.

    :param env_step: of the phase
    :param ages: middle ages of the bins in env steps, newest first
    :param weights: mean weight of each bin; 1 is uniform
    """

    env_step: int
    ages: list[float]
    weights: list[float]


class Content(NamedTuple):
    """
    Content of one file.

    :param series: curves by name
    :param phases: weights by age
    :param labels: task, method and seed, if the file has them
    :param profiles: compounding errors of the model by number of predicted steps, by env step
    """

    series: dict[str, Curve]
    phases: list[Phase]
    labels: tuple[str, str, str] | None = None
    profiles: dict[int, Curve] = {}  # noqa: RUF012  # never changed

    @property
    def figures(self) -> dict[str, dict[int, Any]]:
        """Everything by name, then by env step."""
        others: dict[str, dict[int, Any]] = {PHASES: {phase.env_step: phase for phase in self.phases}, PROFILES: self.profiles}
        return {**self.series, **{name: values for name, values in others.items() if values}}


class StrangeTableError(ValueError):
    """A CSV file is not of one run: it has the rows of several, or is no text. A folder may contain it beside runs."""


UNREAD = Content({}, [])
"""Of TensorBoard's files where TensorBoard is not installed."""


def read_callback_table(path: Path) -> Content | None:
    """
    Read a CSV file of :class:`LearningCurveCallback`, :class:`WeightByAgeCallback` or :class:`ModelErrorCallback`; None if it
    is another file, or has no row.

    :param path: the file
    :raises StrangeTableError: if it is no text, or has the rows of several runs, naming the first row of another run
    :raises ValueError: if its rows cannot be those of a run, or cannot be read below a run's header
    """
    try:
        rows = read_table(path)
    except ValueError as error:
        if is_table_of_a_run(path):  # its curve would be missing unnoticed
            raise
        raise StrangeTableError(str(error)) from error
    if not rows or not {*LABELS, "env_step"} <= set(rows[0]):
        return None
    columns = set(rows[0])
    if "return_mean" in columns:
        labels = _labels_of(rows, ("env_step",))
        return Content({name: {int(row["env_step"]): float(row[name]) for row in rows} for name in TABLES}, [], labels)
    if "horizon" in columns:
        labels = _labels_of(rows, ("env_step", "kind", "horizon"))
        return _model_errors(rows, labels)
    if not {"weight_mean", "policy_version"} <= columns:  # such as the table of a picture
        return None
    labels = _labels_of(rows, ("env_step", "policy_version", "age_bin"))
    phases: dict[int, Phase] = {}
    for row in rows:
        phase = phases.setdefault(int(row["policy_version"]), Phase(int(row["env_step"]), [], []))
        phase.ages.append((int(row["age_low"]) + int(row["age_high"])) / 2)
        phase.weights.append(float(row["weight_mean"]))
    return Content({"ess": {int(row["env_step"]): float(row["ess"]) for row in rows}}, list(phases.values()), labels)


def is_table_of_a_run(path: Path) -> bool:
    """
    Whether a file has the header of one of the callbacks' tables.

    :param path: any file
    """
    with path.open("rb") as file:
        return {*LABELS, "env_step"} <= set(file.readline().decode(errors="replace").strip().split(","))


def _labels_of(rows: Sequence[Mapping[str, str]], place: Sequence[str]) -> tuple[str, str, str]:
    """
    Labels of the run whose rows these are. If two runs were started with one file at the same time, both have written to it.

    :param rows: at least one
    :param place: columns that together tell the rows of a run apart
    :raises StrangeTableError: naming the first row with other labels
    :raises ValueError: naming the first row that is there twice
    """
    check_fields(rows)
    first, places = [rows[0][name] for name in LABELS], set()
    for number, row in enumerate(rows, 1):
        labels, where = [row[name] for name in LABELS], tuple(row[name] for name in place)
        if labels != first or where in places:
            found = dict(zip((*LABELS, *place), (*labels, *where), strict=True))
            what = "is there twice" if labels == first else f"is not of the run {first} of row 1"
            kind = ValueError if labels == first else StrangeTableError
            raise kind(f"row {number}, {found}, {what}; allowed: the rows of one run in a file")
        places.add(where)
    task, method, seed = first
    return task, method, seed


def _model_errors(rows: Sequence[Mapping[str, str]], labels: tuple[str, str, str]) -> Content:
    """One-step errors by env step; compounding errors by env step and number of predicted steps."""
    series: dict[str, Curve] = {}
    profiles: dict[int, Curve] = {}
    for row in rows:
        step, error = int(row["env_step"]), float(row["error"])
        if row["kind"] == "compounding":
            profiles.setdefault(step, {})[int(row["horizon"])] = error
        else:
            series.setdefault(f"{row['kind']}_error", {})[step] = error
    return Content(series, [], labels, profiles)


def read_progress(path: Path) -> Content:
    """
    Read SB3's ``progress.csv``.

    :param path: the file
    :raises ValueError: if a row has not the header's fields
    """
    columns: dict[str, Curve] = {}
    rows = read_table(path)
    check_fields(rows)
    for row in (row for row in rows if row.get(STEP)):
        for name, text in row.items():
            if text and (name in LOGGED or name.startswith(BY_AGE)):
                columns.setdefault(name, {})[int(float(row[STEP]))] = float(text)
    return _content(columns)


def read_tensorboard(folder: Path) -> Content:
    """
    Read all TensorBoard files of one folder.

    :param folder: the folder
    :return: their content; :data:`UNREAD` if TensorBoard is not installed
    """
    try:
        from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    except ImportError:
        return UNREAD
    events = EventAccumulator(str(folder), size_guidance={"scalars": 0})
    events.Reload()
    names = [name for name in events.Tags()["scalars"] if name in LOGGED or name.startswith(BY_AGE)]
    return _content({name: _written(events.Scalars(name)) for name in names})


def _written(events: Iterable[Any]) -> Curve:
    """Values by step. A step that is not above the last one is of a run that went on: what it had from there on was lost."""
    curve: Curve = {}
    last = -1
    for event in events:
        if event.step <= last:
            curve = {step: value for step, value in curve.items() if step < event.step}
        last = event.step
        curve[last] = float(event.value)
    return curve


def read_evaluations(path: Path) -> Content:
    """
    Read ``evaluations.npz`` of SB3's ``EvalCallback``, which the RL Zoo writes.

    :param path: the file
    """
    with np.load(path, allow_pickle=False) as arrays:
        steps = [int(step) for step in arrays["timesteps"]]
        means = {"return_mean": arrays["results"].mean(1), "episode_length_mean": arrays["ep_lengths"].mean(1)}
    return Content({name: dict(zip(steps, values.tolist(), strict=True)) for name, values in means.items()}, [])


def _content(columns: Mapping[str, Curve]) -> Content:
    """Curves and weights by age from a logger's columns."""
    series = {LOGGED[name]: _finite(curve) for name, curve in columns.items() if name in LOGGED}
    bins = sorted(name for name in columns if name.startswith(BY_AGE) and name != ROWS)
    phases = [
        _phase(step, rows, [columns[name][step] for name in bins if step in columns[name]])
        for step, rows in columns.get(ROWS, {}).items()
    ]
    return Content({name: curve for name, curve in series.items() if curve}, phases)


def _finite(curve: Curve) -> Curve:
    return {step: value for step, value in sorted(curve.items()) if math.isfinite(value)}


def _phase(env_step: int, rows: float, weights: list[float]) -> Phase:
    bins = equal_bins(int(rows), len(weights))
    return Phase(env_step, [(low + high - 1) / 2 for low, high in bins], weights)


READERS: dict[str, Callable[[Path], Content | None]] = {
    "*.csv": read_callback_table,
    "evaluations.npz": read_evaluations,
    "progress.csv": read_progress,
    "events.out.tfevents.*": lambda path: read_tensorboard(path.parent),
}
"""Readers by the pattern of a file's name; if several files of a run have the same figure, the first kind is used."""


def kind_of(path: Path) -> str | None:
    """
    The kind of a file by its name, a key of :data:`READERS`; None if it is not read.

    :param path: a file
    """
    return max(filter(path.match, READERS), key=len, default=None)  # of "*.csv" and "progress.csv" the name
