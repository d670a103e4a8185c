"""Processor time of the weights of few and of many rows, by the weighters that evaluate networks on all of them."""

import argparse
import statistics
import time

import speed_parts
from growth_rows import NEW, MadeRows, add_new, fill, make_agent

WEIGHTERS = ("recall", "value", "per", "error", "maper", "tom")
FEW = 10_000


def part(weighter: str, n_rows: int) -> speed_parts.Part:
    """
    The weights of synthetic rows of Hopper's sizes, by ``MBPO``'s default networks; the model is fitted to the first rows.

    :param weighter: one of :data:`WEIGHTERS`
    :param n_rows: number of rows
    """
    sizes = speed_parts.OBSERVATIONS, speed_parts.ACTIONS
    agent, rows = make_agent(weighter, n_rows, *sizes), MadeRows(*sizes)
    fill(agent.replay_buffer, rows, FEW - NEW)
    agent.fit_model()
    fill(agent.replay_buffer, rows, n_rows - NEW)
    add_new(agent, rows)
    return agent.fit_weights


def table(arguments: argparse.Namespace) -> list[tuple[str, str, float, str, str]]:
    """
    A row per weighter and size: the median of calls, in which the sizes take turns.

    :param arguments: ``rows``, number of the many; ``repeats``, number of calls
    :raises SystemExit: if the many are not more than the few
    """
    if arguments.rows <= FEW:
        raise SystemExit(f"--rows={arguments.rows} is not allowed with --sections weighters; allowed: more than {FEW}")
    rows = []
    for weighter in WEIGHTERS:
        parts = {f"weights of {size} rows, processor time": part(weighter, size) for size in (FEW, arguments.rows)}
        times = speed_parts.paired_times(parts, arguments.repeats, time.process_time)
        rows += [(title, weighter, statistics.median(seconds), "s", "") for title, seconds in times.items()]
    return rows
