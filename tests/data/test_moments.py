"""Moments of blocks, put together, are those of all rows; those that a buffer knows are those of what it holds now."""

import pickle
from typing import Any

import numpy as np
import pytest
import torch as th
from gymnasium import spaces
from hypothesis import given
from hypothesis import strategies as st

from sb3_tom.contracts.types import Transitions
from sb3_tom.data import moments
from sb3_tom.data.moments import BLOCK, CHANGES, StoredRows, moments_of, moments_of_columns
from sb3_tom.data.replay_buffer import WeightedReplayBuffer
from sb3_tom.weighters.tom.folds import NumberedRows

FIELDS = ("observations", "actions", "next_observations", "rewards", CHANGES)


def columns(n_rows: int, seed: int = 0) -> th.Tensor:
    """A plain column, one far from 0, a tiny one, a drifting one, and one with a single entry that differs."""
    random = np.random.default_rng(seed)
    drawn = random.standard_normal((n_rows, 5))
    drawn[:, 1] = 1e6 + 3.0 * drawn[:, 1]
    drawn[:, 2] *= 1e-9
    drawn[:, 3] += np.arange(n_rows)
    drawn[:, 4] = 0.1
    drawn[n_rows // 2, 4] = 7.0
    return th.from_numpy(drawn.astype(np.float32))


@pytest.mark.parametrize("n_rows", [1, 2, BLOCK - 1, BLOCK, BLOCK + 1, 5 * BLOCK + 17])
def test_blocks_are_the_formula(n_rows: int) -> None:
    rows = columns(n_rows)
    found, exact = moments_of_columns(n_rows, lambda some: rows[some]), rows.numpy().astype(np.longdouble)
    np.testing.assert_allclose(found.mean, exact.mean(0).astype(float), rtol=1e-13, atol=1e-18)
    np.testing.assert_allclose(found.std, exact.std(0).astype(float), rtol=1e-11, atol=1e-18)
    np.testing.assert_array_equal(found.low, rows.numpy().min(0))
    np.testing.assert_array_equal(found.high, rows.numpy().max(0))
    assert found.mean.dtype == found.std.dtype == th.float64


@pytest.mark.parametrize("value", [0.0, 0.1, -1e6, 1e-30, 3.7e17])
def test_what_never_varies_has_no_spread_in_any_number_of_blocks(value: float) -> None:
    rows = th.full((7 * BLOCK + 3, 2), value)
    found = moments_of_columns(len(rows), lambda some: rows[some])
    assert th.equal(found.mean, rows[0].double()) and th.equal(found.std, th.zeros(2).double())
    assert th.equal(found.varying(), th.zeros(2).double()) and th.equal(found.scale, th.ones(2).double())
    assert th.equal(found.magnitude, rows[0].abs())


def test_columns_stand_side_by_side() -> None:
    buffer = filled(50, 1)
    data = buffer.transitions()
    found = moments_of(data, "rewards", CHANGES)
    exact = th.cat([data.rewards, data.next_observations - data.observations], dim=1).double()
    th.testing.assert_close(found.mean, exact.mean(0))
    th.testing.assert_close(found.std, exact.std(0, correction=0))


def write(buffer: WeightedReplayBuffer, n_positions: int, random: np.random.Generator) -> None:
    for _ in range(n_positions):
        observations, after = (random.standard_normal((buffer.n_envs, 2)).astype(np.float32) for _ in range(2))
        fields: Any = random.uniform(-1, 1, (buffer.n_envs, 1)), random.standard_normal(buffer.n_envs)
        buffer.add(observations, after, *fields, np.zeros(buffer.n_envs), [{}] * buffer.n_envs)


def filled(n_positions: int, n_envs: int, capacity: int = 60) -> WeightedReplayBuffer:
    box = spaces.Box(-1, 1, (2,), dtype=np.float32), spaces.Box(-1, 1, (1,), dtype=np.float32)
    buffer = WeightedReplayBuffer(capacity * n_envs, *box, device="cpu", n_envs=n_envs)
    write(buffer, n_positions, np.random.default_rng(0))
    return buffer


@pytest.fixture
def short_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(moments, "BLOCK", 8)


def assert_known_is_true(buffer: WeightedReplayBuffer) -> None:
    data = buffer.transitions()
    assert isinstance(data, StoredRows) and data.known is not None
    for name in FIELDS:
        known, anew = moments_of(data, name), moments_of(Transitions(*data), name)
        assert all(th.equal(one, other) for one, other in zip(known, anew, strict=True)), name


@given(
    n_envs=st.integers(1, 3),
    pieces=st.lists(st.integers(0, 70), min_size=1, max_size=6),
    looks=st.lists(st.booleans(), min_size=6, max_size=6),
)
def test_a_ring_knows_what_it_holds_bit_for_bit(n_envs: int, pieces: list[int], looks: list[bool]) -> None:
    """After any sequence of writes, of which some are looked at; also where it has closed."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(moments, "BLOCK", 8)
        buffer, random = filled(5, n_envs), np.random.default_rng(1)
        for number, look in zip(pieces, looks, strict=False):
            write(buffer, number, random)
            if look:
                assert_known_is_true(buffer)
        assert_known_is_true(buffer)


@pytest.mark.usefixtures("short_blocks")
def test_only_new_blocks_are_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    buffer, looked_at, original = filled(40, 1), [], moments._Block.of
    monkeypatch.setattr(moments._Block, "of", lambda rows: (looked_at.append(len(rows)), original(rows))[1])
    for n_new, expected in ((0, [8] * 5), (0, []), (3, [3]), (2, [5]), (10, [8, 7]), (5, [8, 4]), (1, [8])):
        write(buffer, n_new, np.random.default_rng(2))
        looked_at.clear()
        moments_of(buffer.transitions(), "observations")
        assert looked_at == expected


@pytest.mark.usefixtures("short_blocks")
def test_rows_written_by_hand_are_seen_once_copies_are_forgotten() -> None:
    buffer = filled(40, 1)
    moments_of(buffer.transitions(), "rewards")
    buffer.rewards[3] = 100.0
    buffer.forget_copies()
    assert float(moments_of(buffer.transitions(), "rewards").high) == 100.0


@pytest.mark.usefixtures("short_blocks")
def test_a_buffer_that_begins_anew_is_looked_at_anew() -> None:
    buffer = filled(40, 1)
    moments_of(buffer.transitions(), "rewards")
    buffer.reset()
    write(buffer, 11, np.random.default_rng(3))
    assert_known_is_true(buffer)
    loaded = pickle.loads(pickle.dumps(buffer))
    write(loaded, 20, np.random.default_rng(4))
    assert_known_is_true(loaded)
    assert_known_is_true(buffer)


def test_what_is_made_of_stored_rows_knows_nothing_of_them() -> None:
    data = filled(40, 1).transitions()
    moments_of(data, "rewards")
    numbered = NumberedRows.of(data)
    assert numbered.known is data.known  # these are all rows
    others: list[Any] = [
        data.rows(th.arange(3)),
        data.split(40)[0],
        data._replace(rewards=data.rewards + 1.0),
        numbered.rows(th.arange(40)),
        numbered.split(40)[0],
    ]
    for other in others:
        assert getattr(other, "known", None) is None
        assert float(moments_of(other, "rewards").high) == float(other.rewards.max())
