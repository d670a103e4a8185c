"""What a plug sees where there is no agent: nothing but a source of randomness, for fits that ask for no more."""

import checkout  # noqa: F401
import torch as th

from sb3_tom import Context


def context_without_agent(generator: th.Generator) -> Context:
    """
    A context with a policy and values that nobody asks.

    :param generator: source of randomness
    """
    return Context(lambda rows: (rows, rows), lambda rows, actions: rows, 0.99, 0, generator)
