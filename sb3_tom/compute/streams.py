"""Independent streams of random numbers."""

import numpy as np
import torch as th

STREAM = 0x7031
"""An arbitrary number that separates the agent's stream from others of the same seed."""


def stream_seed(seed: int) -> int:
    """
    Seed of the agent's own generator: seeded with the user's, it would repeat torch's global stream number for number.

    :param seed: the user's
    """
    return int(np.random.SeedSequence((seed, STREAM)).generate_state(1, np.uint64)[0])


def own_generator(seed: int | None, device: th.device) -> th.Generator:
    """
    The agent's own generator.

    :param seed: the user's; None draws one from torch's global stream
    :param device: of the generator
    """
    drawn = int(th.randint(2**62, (1,))) if seed is None else seed
    return th.Generator(device=device).manual_seed(stream_seed(drawn))
