"""The steps of a model phase: weights, fit, rollouts. Each stores its results in its arguments and returns figures."""

import time
from typing import NamedTuple

import torch as th

from sb3_tom.contracts.context import Context
from sb3_tom.contracts.plug import figures_of, only_reads
from sb3_tom.contracts.types import Transitions
from sb3_tom.contracts.weighter import Weighter
from sb3_tom.data.diagnostics import weight_figures
from sb3_tom.data.imagined import ImaginedBuffer
from sb3_tom.data.replay_buffer import WeightedReplayBuffer
from sb3_tom.data.weights import WeightedDraw
from sb3_tom.imagination.rollouts import branched_rollouts
from sb3_tom.imagination.schedules import Window
from sb3_tom.imagination.world import World
from sb3_tom.mbpo.weighing import weigh

Figures = dict[str, float]


class Rollouts(NamedTuple):
    """
    A round of rollouts.

    :param length: steps of each rollout
    :param number: number of rollouts
    :param env_step: current env step
    :param window: how long rows are kept
    :param capacity: maximum number of rows kept; None: no limit
    """

    length: int
    number: int
    env_step: int
    window: Window
    capacity: int | None


def weigh_rows(weighter: Weighter, buffer: WeightedReplayBuffer, recent: Transitions | None, context: Context) -> Figures:
    """
    Weigh the real transitions; the weights are stored in the buffer.

    :param weighter: is fitted
    :param buffer: of N rows
    :param recent: on-policy sample; None: the newest rows
    :param context: view of the agent
    """
    started = time.monotonic()
    weights, figures = weigh(weighter, buffer, recent, context)
    buffer.set_row_weights(weights)
    newest = buffer.newest_rows(weighter.recent_size)
    return {**figures, **weight_figures(weights, newest), "seconds": time.monotonic() - started}


def fit_world(world: World, buffer: WeightedReplayBuffer, weights: th.Tensor, weighting: str, context: Context) -> Figures:
    """
    Fit the dynamics model to weighted real transitions, and a learned termination.

    :param world: its model and its termination are fitted
    :param buffer: of N rows
    :param weights: ``[N]``, usable
    :param weighting: "sample" or "loss"
    :param context: view of the agent
    """
    started, data = time.monotonic(), buffer.transitions()
    with only_reads(world.model, {**data._asdict(), "weights": weights}):
        fit = world.model.fit(data, weights, world.objective, context, weighting)
    if not world.model.is_fitted:
        name = type(world.model).__name__
        raise ValueError(
            f"{name}.is_fitted is False after {name}.fit; allowed: True then. By default it is whether the model's optimisers "
            "have state: a model without optimisers, or whose optimisers keep none, overrides it"
        )
    ended = buffer.transitions_of_rule()
    with only_reads(world.termination, ended._asdict()):
        ending = world.termination.fit(ended, context)
    figures = figures_of(world.model, fit)
    figures |= {f"termination_{name}": value for name, value in figures_of(world.termination, ending).items()}
    figures["seconds"] = time.monotonic() - started
    return figures


def imagine_rollouts(
    world: World,
    buffer: WeightedReplayBuffer,
    weights: th.Tensor,
    imagined: ImaginedBuffer,
    rollouts: Rollouts,
    context: Context,
) -> Figures:
    """
    Make branched rollouts from real states and store them.

    :param world: the imagined env
    :param buffer: of N rows
    :param weights: ``[N]``, by which starts are drawn
    :param imagined: the buffer to store them in
    :param rollouts: number, length and storage
    :param context: view of the agent
    :raises ValueError: if the model was never fitted
    """
    if not world.model.is_fitted:
        raise ValueError("imagine() is not allowed with a model that was never fitted; allowed: after fit_model()")
    started, length = time.monotonic(), rollouts.length
    made_at, figures = _make_room(imagined, rollouts)
    draw = WeightedDraw(weights)
    # No more rollouts than fit at full length: else the first steps of all would be overwritten
    number = max(1, min(rollouts.number, imagined.capacity // length))
    starts = buffer.transitions().observations[draw((number,), context.generator)]
    figures |= branched_rollouts(world, starts, length, context, imagined)
    imagined.is_due, imagined.made_at = False, made_at
    return figures | {"scheduled_length": float(length), "seconds": time.monotonic() - started}


def _make_room(imagined: ImaginedBuffer, rollouts: Rollouts) -> tuple[list[int], Figures]:
    """
    Resize the buffer for this round and the earlier ones within the window. Returns the env steps of these rounds, how many
    rounds at full length there is room for, and how many there are.
    """
    made_at = rollouts.window.within(imagined.made_at, rollouts.env_step)
    asked, rows = len(made_at), rollouts.number * rollouts.length
    needed = asked * rows
    imagined.resize(needed if rollouts.capacity is None else min(needed, rollouts.capacity))
    return made_at, {"phases_asked": float(asked), "phases_kept": imagined.capacity / rows}
