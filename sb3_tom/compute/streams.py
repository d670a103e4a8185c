"""Streams of random numbers that have nothing to do with each other."""

import numpy as np
import torch as th

STREAM = 0x7031
"""Any number: it tells the agent's own stream from others of the same seed."""


def stream_seed(seed: int) -> int:
    """
    The seed of the agent's own generator: torch's global stream, seeded alike, would repeat it number for number.

    :param seed: the user's
    """
    return int(np.random.SeedSequence((seed, STREAM)).generate_state(1, np.uint64)[0])


def own_generator(seed: int | None, device: th.device) -> th.Generator:
    """
    A generator of the agent's own.

    :param seed: the user's; None draws one from torch's global stream
    :param device: of the numbers
    """
    drawn = int(th.randint(2**62, (1,))) if seed is None else seed
    return th.Generator(device=device).manual_seed(stream_seed(drawn))
