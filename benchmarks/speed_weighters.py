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
    """
    rows = []
    for weighter in WEIGHTERS:
        parts = {n_rows: part(weighter, n_rows) for n_rows in (FEW, arguments.rows)}
        spent: dict[int, list[float]] = {n_rows: [] for n_rows in parts}
        for number in range(arguments.repeats + 1):
            for n_rows, call in parts.items():
                start = time.process_time()
                call()
                spent[n_rows] += [time.process_time() - start] if number else []  # the first copies the rows
        for n_rows, seconds in spent.items():
            rows.append((f"weights of {n_rows} rows, processor time", weighter, statistics.median(seconds), "s", ""))
    return rows
