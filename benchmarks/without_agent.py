"""A context without an agent: only a source of randomness, for fits that need no more."""

import checkout  # noqa: F401
import torch as th

from sb3_tom import Context


def context_without_agent(generator: th.Generator) -> Context:
    """
    A context whose policy and values are not used.

    :param generator: source of randomness
    """
    return Context(lambda rows: (rows, rows), lambda rows, actions: rows, 0.99, 0, generator)
