"""Shared by the tests of the termination functions."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch as th

from sb3_tom.contracts.context import Context
from sb3_tom.contracts.types import Transitions


@pytest.fixture(autouse=True)
def _own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """MuJoCo writes a log of unstable simulations into the working directory."""
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def context() -> Context:
    """A view without policy and critics, which terminations do not use."""
    return Context(generator=th.Generator().manual_seed(0))


@pytest.fixture
def make_transitions() -> Callable[..., Transitions]:
    """Rows from next observations and terminal flags; the rest is derived from them."""

    def make(next_observations: th.Tensor, terminated: th.Tensor, action_dim: int = 1) -> Transitions:
        rows = next_observations.shape[0]
        observations = next_observations - 0.01
        actions = th.zeros(rows, action_dim)
        flags = terminated.reshape(rows, 1).float()
        return Transitions(observations, actions, next_observations, th.zeros(rows, 1), flags, th.zeros(rows, dtype=th.long))

    return make
