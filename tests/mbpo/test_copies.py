"""A model phase makes nothing that is as large as the rows: it looks at them in blocks, and gathers what a minibatch takes."""

from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch as th
from gymnasium import spaces
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from sb3_tom import MBPO
from sb3_tom.data.replay_buffer import WeightedReplayBuffer
from tests.mbpo.small import small_agent

N_ROWS, WIDTH, ACTIONS = 32_000, 100, 2
FIELD = 4 * N_ROWS * WIDTH
"""Bytes of the observations."""
SHARE = 0.35
"""Of them, that anything which is made may take: pieces of 4,096 rows of both observations are a quarter."""
TOM = {
    "discriminator_steps": 26,
    "q_steps": 3,
    "average_steps": 50,
    "pool_size": 300,
    "recent_size": 200,
    "discriminator_batch_size": 32,
}
NETWORK = {"net_arch": (16,), "batch_size": 32, "steps_per_epoch": 5, "max_epochs": 1, "first_max_epochs": 1}


class Unmoved(gym.Env[np.ndarray, np.ndarray]):
    observation_space = spaces.Box(-np.inf, np.inf, (WIDTH,), np.float32)
    action_space = spaces.Box(-1.0, 1.0, (ACTIONS,), np.float32)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[np.ndarray, dict[str, Any]]:
        return np.zeros(WIDTH, np.float32), {}


class Largest(TorchDispatchMode):
    """Remembers the operation whose result takes the most bytes of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.n_bytes, self.name = 0, ""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        given = {leaf.untyped_storage().data_ptr() for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, th.Tensor)}
        for leaf in tree_leaves(result):
            if isinstance(leaf, th.Tensor) and leaf.untyped_storage().data_ptr() not in given:
                n_bytes = leaf.untyped_storage().nbytes()
                self.n_bytes, self.name = max((self.n_bytes, self.name), (n_bytes, f"{func} {tuple(leaf.shape)}"))
        return result


def fill(buffer: WeightedReplayBuffer) -> None:
    random = np.random.default_rng(0)
    for name in ("observations", "next_observations", "actions", "rewards"):
        array = getattr(buffer, name)[:N_ROWS]
        array[:] = random.uniform(-1.0, 1.0, array.shape)
    buffer.terminated[:N_ROWS, 0] = buffer.dones[:N_ROWS, 0] = np.arange(N_ROWS) % 50 == 49
    buffer.pos = buffer._n_added = N_ROWS
    buffer._find_starts()


def phase(**settings: Any) -> Largest:
    termination = {"termination_fn": "learned", "termination_kwargs": {"first_gradient_steps": 2}}
    agent: MBPO = small_agent(Unmoved(), buffer_size=N_ROWS + 10, rollout_batch_size=20, **termination, **settings)
    fill(agent.replay_buffer)
    with Largest() as largest:
        agent.fit_weights()
        agent.fit_model()
        agent.imagine()
        agent.end_phase()
    return largest


def test_a_copy_would_be_seen() -> None:
    data = th.zeros(N_ROWS, WIDTH)
    for make in (lambda: data.double(), lambda: data[th.arange(N_ROWS)], lambda: th.cat([data, data[:, :1]], 1)):
        with Largest() as largest:
            make()
        assert largest.n_bytes >= FIELD
    with Largest() as largest:
        data.view(-1), data.split(7), data[5:]
    assert largest.n_bytes == 0


@pytest.mark.filterwarnings("ignore:health/")
@pytest.mark.parametrize(
    ("weighter", "kwargs"),
    [
        ("pmac", {}),
        ("recency", {}),
        ("error", {}),
        ("ratio", TOM),
        ("tom", TOM),
        ("tom", TOM | {"average_next": False, "gradient_penalty": 1.0}),
        ("tom", TOM | {"pool_size": None, "discriminator": False, "divergence": "chi2"}),
        ("tom", TOM | {"preset": "official", "standardize": True}),
    ],
    ids=str,
)
def test_no_weighter_copies_the_rows(weighter: str, kwargs: dict[str, Any]) -> None:
    largest = phase(weighter=weighter, weighter_kwargs=kwargs, dynamics_kwargs={"n_members": 2, "n_elites": 1, **NETWORK})
    assert 0 < largest.n_bytes < SHARE * FIELD, largest.name


@pytest.mark.filterwarnings("ignore:health/")
@pytest.mark.parametrize(
    ("dynamics", "kwargs"),
    [
        ("ensemble", {"n_members": 2, "n_elites": 1, "predict": "next", **NETWORK}),
        ("smooth", {"n_members": 2, **NETWORK}),
        ("mdn", {"n_components": 1, **NETWORK}),
        ("linear", {}),
    ],
)
def test_no_model_copies_the_rows(dynamics: str, kwargs: dict[str, Any]) -> None:
    largest = phase(dynamics=dynamics, dynamics_kwargs=kwargs)
    assert 0 < largest.n_bytes < SHARE * FIELD, largest.name
