"""Rings against naive lists."""

import numpy as np
import pytest
import torch as th
from gymnasium import spaces
from hypothesis import given, settings
from hypothesis import strategies as st
from stable_baselines3.common.buffers import ReplayBuffer

from sb3_tom.contracts.context import Context
from sb3_tom.contracts.types import Transitions
from sb3_tom.data.imagined import ImaginedBuffer
from sb3_tom.data.replay_buffer import WeightedReplayBuffer

OBSERVATION_SPACE = spaces.Box(-np.inf, np.inf, (2,), np.float64)
ACTION_SPACE = spaces.Box(-1.0, 1.0, (1,), np.float32)


def fill(buffer: ReplayBuffer, n_steps: int, seed: int, lengths: int = 5) -> list[list[dict]]:
    """Episodes of random length with distinct observations; returns a list of rows per step, one dict per env."""
    rng = np.random.default_rng(seed)
    n_envs = buffer.n_envs
    counter = 0
    observations = np.zeros((n_envs, 2))
    fresh = np.ones(n_envs, dtype=bool)
    steps = []
    for _ in range(n_steps):
        for env in np.flatnonzero(fresh):
            counter += 1
            observations[env] = [counter, -counter]
        next_observations = np.zeros_like(observations)
        for env in range(n_envs):
            counter += 1
            next_observations[env] = [counter, -counter]
        ends = rng.random(n_envs) < 1 / lengths
        timeouts = ends & (rng.random(n_envs) < 0.5)
        actions = rng.uniform(-1, 1, (n_envs, 1)).astype(np.float32)
        rewards = rng.normal(size=n_envs)
        buffer.policy_version = counter // 20
        infos = [{"TimeLimit.truncated": bool(timeout)} for timeout in timeouts]
        buffer.add(observations, next_observations, actions, rewards, ends, infos)
        steps.append(
            [
                {
                    "observation": observations[env].copy(),
                    "next": next_observations[env].copy(),
                    "terminated": float(ends[env] and not timeouts[env]),
                    "version": counter // 20,
                    "start": bool(fresh[env]),
                }
                for env in range(n_envs)
            ]
        )
        observations, fresh = next_observations.copy(), ends
    return steps


@settings(max_examples=40, deadline=None)
@given(before=st.integers(0, 60), after=st.integers(0, 60), n_envs=st.integers(1, 3), capacity=st.integers(3, 40))
def test_rows_of_the_present_rule(before: int, after: int, n_envs: int, capacity: int) -> None:
    buffer = WeightedReplayBuffer(capacity, OBSERVATION_SPACE, ACTION_SPACE, "cpu", n_envs)
    fill(buffer, before, 0)
    assert buffer.n_of_rule == buffer.n_transitions
    buffer.begin_rule()
    assert buffer.n_of_rule == buffer.transitions_of_rule().size == 0
    steps = fill(buffer, after, 1)[-buffer.buffer_size :]
    expected = [row["next"].tolist() for step in steps for row in step]
    found = buffer.transitions_of_rule().next_observations
    assert buffer.n_of_rule == len(expected)
    assert sorted(found.tolist()) == sorted(expected)
    if after < buffer.size():
        assert found.tolist() == expected  # oldest first


@settings(max_examples=40, deadline=None)
@given(n_steps=st.integers(1, 60), n_envs=st.integers(1, 3), capacity=st.integers(1, 40), seed=st.integers(0, 1000))
def test_rows_against_a_list(n_steps: int, n_envs: int, capacity: int, seed: int) -> None:
    buffer = WeightedReplayBuffer(capacity, OBSERVATION_SPACE, ACTION_SPACE, "cpu", n_envs, n_start_observations=7)
    steps = fill(buffer, n_steps, seed)
    kept = steps[-buffer.buffer_size :]
    data = buffer.transitions()
    assert data.size == buffer.n_transitions == len(kept) * n_envs
    newest = data.rows(buffer.newest_rows(buffer.n_transitions))  # in time order, whatever the ring's position
    rows = [row for step in kept for row in step]
    np.testing.assert_array_equal(newest.observations.numpy(), np.array([row["observation"] for row in rows], np.float32))
    np.testing.assert_array_equal(newest.next_observations.numpy(), np.array([row["next"] for row in rows], np.float32))
    assert newest.terminated.flatten().tolist() == [row["terminated"] for row in rows]
    assert newest.policy_version.tolist() == [row["version"] for row in rows]
    starts = [row["observation"] for step in steps for row in step if row["start"]][-7:]
    found = sorted(buffer.start_observations()[:, 0].tolist())
    assert found == sorted(float(start[0]) for start in starts)
    assert data.observations.dtype == data.rewards.dtype == th.float32


@settings(max_examples=30, deadline=None)
@given(n_rows=st.integers(1, 50), n_envs=st.integers(1, 3), seed=st.integers(0, 100))
def test_newest_rows_are_the_last_ones(n_rows: int, n_envs: int, seed: int) -> None:
    buffer = WeightedReplayBuffer(10 * n_envs, OBSERVATION_SPACE, ACTION_SPACE, "cpu", n_envs)
    steps = fill(buffer, 17, seed)
    rows = [row for step in steps[-10:] for row in step][-n_rows:]
    found = buffer.transitions().observations[buffer.newest_rows(n_rows)]
    np.testing.assert_array_equal(found.numpy(), np.array([row["observation"] for row in rows], np.float32))


@settings(max_examples=60, deadline=None)
@given(n_steps=st.lists(st.integers(1, 15), min_size=1, max_size=4), n_envs=st.integers(1, 3), capacity=st.integers(3, 30))
def test_when_rows_came_against_a_list(n_steps: list[int], n_envs: int, capacity: int) -> None:
    """Each row keeps its number, which a list counts, until it is overwritten; other data are numbered as they come."""
    buffer = WeightedReplayBuffer(capacity, OBSERVATION_SPACE, ACTION_SPACE, "cpu", n_envs)
    came: list[dict] = []
    for seed, part in enumerate(n_steps):
        came += [row for step in fill(buffer, part, seed) for row in step]
        data, context = buffer.transitions(), Context(n_envs=n_envs, arrival=buffer.arrival)
        numbers = context.arrivals(data).tolist()
        assert sorted(numbers) == list(range(len(came) - data.size, len(came)))
        expected = np.array([came[number]["next"] for number in numbers], np.float32)
        np.testing.assert_array_equal(data.next_observations.numpy(), expected)
        some = data.rows(th.arange(data.size - 1))
        assert context.arrivals(some).tolist() == list(range(data.size - 1))


def test_rows_of_a_plain_buffer_come_before_those_of_the_agent() -> None:
    plain = ReplayBuffer(6, OBSERVATION_SPACE, ACTION_SPACE, "cpu", 1)
    fill(plain, 8, 0)
    buffer = WeightedReplayBuffer.from_replay_buffer(plain)
    assert buffer.arrival == (6, 2, 6)
    fill(buffer, 1, 1)
    assert buffer.arrival == (6, 3, 7)


def test_an_overwritten_row_has_weight_one() -> None:
    buffer = WeightedReplayBuffer(8, OBSERVATION_SPACE, ACTION_SPACE, "cpu", 2)
    fill(buffer, 4, 0)
    buffer.set_row_weights(th.arange(8.0))
    assert buffer.row_weights().tolist() == list(range(8))
    fill(buffer, 1, 1)  # the ring wraps: both envs of position 0
    assert buffer.row_weights().tolist() == [1.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0]


def test_an_env_reset_between_two_learns_is_a_start() -> None:
    buffer = WeightedReplayBuffer(10, OBSERVATION_SPACE, ACTION_SPACE, "cpu", 1)

    def add(first: float, second: float) -> None:
        one, two = np.full((1, 2), first), np.full((1, 2), second)
        buffer.add(one, two, np.zeros((1, 1)), np.zeros(1), np.zeros(1), [{}])

    add(0.0, 1.0)
    add(1.0, 2.0)
    add(5.0, 6.0)  # the env was reset although no episode ended
    assert buffer.start_observations()[:, 0].tolist() == [0.0, 5.0]


@pytest.mark.parametrize("n_steps", [6, 15])
def test_a_plain_sb3_buffer_is_converted(n_steps: int) -> None:
    plain = ReplayBuffer(20, OBSERVATION_SPACE, ACTION_SPACE, "cpu", 2)
    own = WeightedReplayBuffer(20, OBSERVATION_SPACE, ACTION_SPACE, "cpu", 2)
    fill(plain, n_steps, 3)
    fill(own, n_steps, 3)
    converted = WeightedReplayBuffer.from_replay_buffer(plain)
    expected = own.transitions()
    for name, field in converted.transitions()._asdict().items():
        if name != "policy_version":
            assert th.equal(field, getattr(expected, name)), name
    assert th.equal(converted.row_weights(), th.ones(converted.n_transitions))
    assert converted.transitions().policy_version.sum() == 0
    assert (converted.pos, converted.full) == (plain.pos, plain.full)
    # Where no other start is kept the oldest row counts as one, since what came before it is unknown
    assert set(converted.start_observations()[:, 0].tolist()) <= set(expected.observations[:, 0].tolist())
    assert converted.start_observations().shape[0] >= 1


@pytest.mark.parametrize(("n_steps", "starts"), [(8, [0.0, 5.0]), (11, [5.0, 10.0]), (13, [5.0, 10.0])])
def test_the_oldest_row_of_a_full_ring_is_no_start(n_steps: int, starts: list[float]) -> None:
    """Episodes of five steps, a ring of ten rows; it goes on in the middle of the first of them after 11 and 13."""
    plain = ReplayBuffer(10, OBSERVATION_SPACE, ACTION_SPACE, "cpu", 1)
    for step in range(n_steps):
        here, there = np.full((1, 2), float(step)), np.full((1, 2), step + 1.0)
        plain.add(here, there, np.zeros((1, 1)), np.zeros(1), np.array([step % 5 == 4]), [{}])
    found = WeightedReplayBuffer.from_replay_buffer(plain).start_observations()[:, 0]
    assert sorted(found.tolist()) == starts


def test_memory_optimisation_is_refused() -> None:
    with pytest.raises(ValueError, match="optimize_memory_usage=True"):
        WeightedReplayBuffer(10, OBSERVATION_SPACE, ACTION_SPACE, "cpu", 1, optimize_memory_usage=True)


def imagined_rows(first: int, n_rows: int) -> Transitions:
    numbers = th.arange(first, first + n_rows, dtype=th.float32).unsqueeze(1)
    return Transitions(
        numbers.repeat(1, 2), -numbers, numbers.repeat(1, 2) + 0.5, numbers * 10, numbers * 0, numbers[:, 0].long()
    )


@settings(max_examples=40, deadline=None)
@given(
    capacity=st.integers(1, 12),
    parts=st.lists(st.tuples(st.integers(1, 15), st.booleans()), min_size=1, max_size=6),
    resized=st.integers(1, 20),
)
def test_imagined_ring_against_a_list(capacity: int, parts: list[tuple[int, bool]], resized: int) -> None:
    ring = ImaginedBuffer(capacity, 2, 1, "cpu")
    naive: list[float] = []
    first = 0
    for n_rows, every_other in parts:
        keep = th.arange(n_rows) % 2 == 0 if every_other else th.ones(n_rows, dtype=th.bool)
        ring.add(imagined_rows(first, n_rows), keep)
        naive = (naive + [float(first + row) for row in range(n_rows) if keep[row]])[-capacity:]
        first += n_rows
    assert contents(ring) == sorted(naive)
    ring.resize(resized)
    assert contents(ring) == sorted(naive[-resized:])
    ring.add(imagined_rows(first, 1), th.ones(1, dtype=th.bool))
    assert contents(ring) == sorted([*naive[-resized:], float(first)][-resized:])


def contents(ring: ImaginedBuffer) -> list[float]:
    observations, actions, next_observations, rewards, _ = ring.gather(th.arange(ring.size))
    assert th.equal(actions, -observations[:, :1])
    assert th.equal(next_observations, observations + 0.5)
    assert th.equal(rewards, observations[:, :1] * 10)
    return sorted(observations[:, 0].tolist())


def test_a_second_fit_to_the_same_rows_begins_no_new_block() -> None:
    buffer = WeightedReplayBuffer(5, OBSERVATION_SPACE, ACTION_SPACE, "cpu")
    fill(buffer, 1, seed=0)
    assert [buffer.next_version() for _ in range(3)] == [1, 1, 1]
    buffer.add(np.zeros((1, 2)), np.zeros((1, 2)), np.zeros((1, 1)), np.zeros(1), np.zeros(1), [{}])
    assert buffer.next_version() == 2
