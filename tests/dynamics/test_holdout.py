"""Held-out rows are the same in each fit, whatever is added and overwritten, and otherwise as good as drawn at random."""

from typing import Any

import numpy as np
import pytest
import torch as th
from hypothesis import given, settings
from hypothesis import strategies as st

from sb3_tom.contracts.dynamics import DynamicsModel
from sb3_tom.contracts.types import Transitions
from sb3_tom.data.replay_buffer import WeightedReplayBuffer
from sb3_tom.dynamics.holdout import hash_to_unit_interval, split_rows
from sb3_tom.objectives.likelihood import LikelihoodObjective
from tests.data.test_buffers import ACTION_SPACE, OBSERVATION_SPACE, fill
from tests.dynamics.cases import built, make_context, make_data
from tests.mbpo.small import small_agent
from tests.weighters.small import context


def fmix32(number: int) -> int:
    """MurmurHash3's finaliser with Python's integers."""
    number &= 0xFFFFFFFF
    number = (number ^ (number >> 16)) * 0x85EBCA6B % 2**32
    number = (number ^ (number >> 13)) * 0xC2B2AE35 % 2**32
    return number ^ (number >> 16)


def test_figures_are_those_of_the_published_function() -> None:
    assert (fmix32(0), fmix32(1)) == (0, 0x514E28B7)
    numbers = [0, 1, 2, 77, 10**6, 2**31, 2**32 - 1, 2**32, 2**40 + 3, -1, -77]
    assert hash_to_unit_interval(th.tensor(numbers)).tolist() == [fmix32(number) / 2**32 for number in numbers]


def test_figures_are_as_good_as_random() -> None:
    """Uniform, and no two of neighbouring steps, or of one env of several, go together."""
    found = hash_to_unit_interval(th.arange(200_000)).numpy()
    counts, _ = np.histogram(found, bins=100, range=(0.0, 1.0))
    assert ((counts - 2000) ** 2 / 2000).sum() < 150  # chi2 of 99 degrees of freedom: beyond it in one of 1,400 cases
    for lag in (1, 2, 3, 4, 8, 16, 50, 1000):
        assert abs(np.corrcoef(found[lag:], found[:-lag])[0, 1]) < 0.01
        assert abs(found[::lag].mean() - 0.5) < 4.0 * 0.2887 / len(found[::lag]) ** 0.5


@pytest.mark.parametrize(("n_rows", "most"), [(200, 5000), (20_000, 5000), (200_000, 5000), (1000, 50)])
def test_the_share_is_held_out(n_rows: int, most: int) -> None:
    train, held = split_rows(th.arange(n_rows), 0.2, most)
    expected = min(0.2 * n_rows, most)
    assert held.numel() == pytest.approx(expected, abs=4.0 * expected**0.5)
    assert th.cat([train, held]).sort().values.tolist() == list(range(n_rows))


@pytest.mark.parametrize(("n_rows", "share", "most"), [(1, 0.2, 5000), (3, 1e-9, 5000), (100, 0.0, 5000), (100, 0.2, 0)])
def test_too_few_rows_serve_both_purposes(n_rows: int, share: float, most: int) -> None:
    train, held = split_rows(th.arange(5, 5 + n_rows), share, most)
    assert train.tolist() == held.tolist() == list(range(n_rows))


@settings(max_examples=60, deadline=None)
@given(
    parts=st.lists(st.integers(1, 40), min_size=2, max_size=6),
    n_envs=st.integers(1, 3),
    capacity=st.integers(20, 120),
    most=st.integers(5, 60),
)
def test_no_row_is_held_out_after_it_was_trained_on(parts: list[int], n_envs: int, capacity: int, most: int) -> None:
    """A ring that fills, closes and is overwritten; rows are known by what they hold."""
    buffer = WeightedReplayBuffer(capacity, OBSERVATION_SPACE, ACTION_SPACE, "cpu", n_envs)
    trained: set[tuple[float, ...]] = set()
    for seed, n_steps in enumerate(parts):
        fill(buffer, n_steps, seed)
        data, view = buffer.transitions(), context()
        view = type(view)(**{**vars(view), "n_envs": n_envs, "arrival": buffer.arrival})
        train, held = split_rows(view.arrivals(data), 0.3, most)
        if th.equal(train, held):
            continue
        named = th.cat([data.actions, data.rewards], dim=1)  # random, so that each row has its own
        assert not trained & set(map(tuple, named[held].tolist()))
        trained |= set(map(tuple, named[train].tolist()))


class Sees(LikelihoodObjective):
    """Notes the rows that a fit trains on and those that it is judged by."""

    def __init__(self) -> None:
        super().__init__()
        self.trained: set[float] = set()
        self.held: set[float] = set()

    def loss(self, model: Any, batch: Transitions, *rest: Any) -> th.Tensor:
        self.trained |= set(batch.rewards.flatten().tolist())
        return super().loss(model, batch, *rest)

    def validation_error(self, model: Any, batch: Transitions, extras: Any) -> th.Tensor | None:
        self.held |= set(batch.rewards.flatten().tolist())
        return super().validation_error(model, batch, extras)


@pytest.mark.parametrize("dynamics", ["ensemble", "smooth", "mdn"])
@pytest.mark.parametrize("buffer_size", [1000, 120])
def test_the_phases_of_an_agent_hold_out_the_same_rows(dynamics: str, buffer_size: int) -> None:
    """Also the offline verbs, which fit the same data again."""
    sees = Sees()
    agent = small_agent("Pendulum-v1", dynamics=dynamics, objective=sees, buffer_size=buffer_size, update_to_data_ratio=0.1)
    agent.learn(300)
    for _ in range(3):
        agent.fit_model()
    assert len(sees.held) > 20 and len(sees.trained) > 100
    assert not sees.held & sees.trained


def test_another_seed_draws_other_minibatches_of_the_same_rows() -> None:
    data, seen = make_data(200), []
    for seed in (0, 1):
        model, sees = built("ensemble"), Sees()
        model.fit(data, th.ones(data.size), sees, context(seed))
        seen.append((sees.held, model.layers[0].weight))
    assert seen[0][0] == seen[1][0] and not th.equal(seen[0][1], seen[1][1])


def test_a_row_that_has_all_weight_is_trained_on_though_it_is_held_out() -> None:
    data, seen = make_data(10), set()
    held = int(split_rows(make_context().arrivals(data), 0.2, 5_000)[1][0])
    weights = th.zeros(10)
    weights[held] = 10.0

    class Spy(LikelihoodObjective):
        def loss(self, model: DynamicsModel, batch: Transitions, *args: Any) -> th.Tensor:
            seen.update(batch.rewards.flatten().tolist())
            return super().loss(model, batch, *args)

    model = built("ensemble", max_epochs=2, steps_per_epoch=20)
    model.fit(data, weights, Spy(), make_context())
    assert seen == {float(data.rewards[held])}
