"""What all tests share: one torch thread, and seeds, so that a test alone gives what it gives in the suite."""

import random
from collections.abc import Iterator

import numpy as np
import pytest
import torch as th
from hypothesis import settings

# Continuous integration runs two processes on two busy cores: a deadline per example would measure the machine.
settings.register_profile("sb3_tom", deadline=None, derandomize=True, print_blob=True)
settings.load_profile("sb3_tom")


@pytest.fixture(autouse=True, scope="session")
def _one_thread() -> None:
    """Bitwise repeatability across machines with other numbers of cores, and no oversubscription."""
    th.set_num_threads(1)


@pytest.fixture(autouse=True)
def _seeded() -> Iterator[None]:
    random.seed(0)
    np.random.seed(0)
    th.manual_seed(0)
    yield
