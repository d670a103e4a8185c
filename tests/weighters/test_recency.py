"""Recency against a loop over the transitions as they came, and the numbers of DR.Q."""

import numpy as np
import pytest
import torch as th
from hypothesis import given
from hypothesis import strategies as st
from stable_baselines3.common.env_util import make_vec_env

from sb3_tom.contracts.context import Arrival
from sb3_tom.weighters.recency import RecencyWeighter
from tests.mbpo.small import small_agent
from tests.weighters.small import context, transitions


def faded(n_steps: int, n_envs: int, capacity: int, decay: float, floor: float) -> np.ndarray:
    """
    A ring that fades all that it holds whenever something is stored, as DR.Q's code does.

    :return: weights ``[N]`` in row order
    """
    ring = np.full((capacity, n_envs), np.nan)
    for step in range(n_steps):
        for _ in range(n_envs):
            ring *= decay
        ring[step % capacity] = 1.0
    rows = ring[: min(n_steps, capacity)]
    return np.maximum(rows, floor).reshape(-1)


@given(
    n_steps=st.integers(1, 60),
    n_envs=st.integers(1, 4),
    capacity=st.integers(1, 25),
    decay=st.floats(0.5, 1.0),
    floor=st.floats(0.0, 1.0),
)
def test_is_a_ring_that_fades(n_steps: int, n_envs: int, capacity: int, decay: float, floor: float) -> None:
    expected = faded(n_steps, n_envs, capacity, decay, floor)
    oldest = (n_steps % capacity) * n_envs if n_steps >= capacity else 0
    view = context()
    view = type(view)(**{**vars(view), "n_envs": n_envs, "arrival": Arrival(len(expected), oldest, n_steps * n_envs)})
    found = RecencyWeighter(decay, floor).weights(transitions(len(expected)), view)
    assert found.dtype == th.float64
    np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-300)


@pytest.mark.parametrize("n_envs", [1, 3])
def test_a_full_buffer_of_an_agent(n_envs: int) -> None:
    """The ring has closed: the newest rows weigh most wherever they are, those of one env step alike."""
    decay = 0.9
    env = make_vec_env("Pendulum-v1", n_envs)
    kwargs = {"weighter_kwargs": {"decay": decay, "floor": 0.0}, "buffer_size": 60, "learning_starts": 200}
    agent = small_agent(env, "recency", **kwargs).learn(90)
    weights = agent.fit_weights()[agent.replay_buffer.newest_rows(60)]  # oldest first
    steps = weights.view(-1, n_envs)
    assert bool((steps == steps[:, :1]).all())
    np.testing.assert_allclose(steps[1:, 0] / steps[:-1, 0], decay**-n_envs, rtol=1e-5)


def test_the_defaults_are_those_of_the_paper() -> None:
    weights = RecencyWeighter().weights(transitions(1)._replace(observations=th.zeros(40_000, 1)), context())
    assert float(weights[-1]) == 1.0
    assert float(weights[-1 - 6931]) == pytest.approx(0.5, rel=1e-4)
    assert weights[: 40_000 - 23_025].unique().tolist() == [0.1]
    assert float(weights[-1 - 23_024]) > 0.1
    assert bool((weights[1:] >= weights[:-1]).all())


@pytest.mark.parametrize(("name", "value"), [("decay", 0.0), ("decay", 1.1), ("floor", -0.1), ("floor", 1.1), ("floor", None)])
def test_arguments_are_checked(name: str, value: object) -> None:
    with pytest.raises(ValueError, match=rf"{name}=.* is not allowed; allowed: a number in"):
        RecencyWeighter(**{name: value})
