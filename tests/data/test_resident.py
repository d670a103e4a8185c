"""The copy on the device must equal the arrays after any sequence of writes."""

import gc
import pickle
from copy import deepcopy

import numpy as np
import pytest
import torch as th
from gymnasium import spaces
from hypothesis import given
from hypothesis import strategies as st

from sb3_tom.checkpoint.replay_state import replay_state, restore_replay
from sb3_tom.data import replay_buffer as buffers
from sb3_tom.data.replay_buffer import WeightedReplayBuffer
from sb3_tom.data.resident import ResidentRows


@given(
    capacity=st.integers(1, 40),
    written_before=st.integers(0, 90),
    pieces=st.lists(st.integers(0, 50), max_size=6),
)
def test_follows_a_ring(capacity: int, written_before: int, pieces: list[int]) -> None:
    arrays = [np.zeros((capacity, 2, 3), dtype=np.float32), np.zeros((capacity, 2), dtype=np.int64)]
    resident, n_added = ResidentRows(arrays, "cpu"), 0
    for number in [written_before, *pieces]:
        for _ in range(number):
            for array in arrays:
                array[n_added % capacity] = n_added + 1
            n_added += 1
        size = min(n_added, capacity)
        copies = resident.update(n_added, n_added % capacity, size)
        for copy, array in zip(copies, arrays, strict=True):
            assert copy.dtype == th.from_numpy(array).dtype
            np.testing.assert_array_equal(copy.numpy(), array[:size])


def test_sends_only_new_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    array = np.zeros((5000, 1), dtype=np.float32)
    resident, sent = ResidentRows([array], "cpu"), []
    resident.update(3000, 3000, 3000)
    monkeypatch.setattr(resident, "_send", lambda first, last: sent.append(last - first))
    for n_added in (3001, 3001, 3251, 4999, 5001, 5001):  # grows on its way, and wraps
        resident.update(n_added, n_added % 5000, min(n_added, 5000))
    assert sum(sent) == 5001 - 3000


class AwayFromTheCPU(WeightedReplayBuffer):
    """A buffer that believes to be on another device."""

    @property
    def device(self) -> th.device:
        return th.device("meta")

    @device.setter
    def device(self, value: th.device) -> None:
        pass


def test_the_buffer_uses_it_and_does_not_pickle_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sb3_tom.data.replay_buffer.ResidentRows", lambda arrays, device: ResidentRows(arrays, "cpu"))
    box = spaces.Box(-1, 1, (2,), dtype=np.float32)
    near, away = (kind(8, box, box, device="cpu", n_envs=2) for kind in (WeightedReplayBuffer, AwayFromTheCPU))
    for step in range(11):
        rows = np.full((2, 2), step, dtype=np.float32)
        for buffer in (near, away):
            buffer.policy_version = step
            buffer.add(rows, rows + 1, rows / 20, np.array([step, -step]), np.array([step % 3 == 0, False]), [{}, {}])
        for one, other in zip(near.transitions(), away.transitions(), strict=True):
            assert th.equal(one, other)
            assert one.shape == other.shape
    assert away in buffers._RESIDENT
    assert not any(isinstance(value, ResidentRows) for value in vars(away).values())  # pickles and checkpoints hold vars
    loaded = pickle.loads(pickle.dumps(away))
    assert loaded not in buffers._RESIDENT
    assert th.equal(loaded.transitions().observations, near.transitions().observations)


def test_a_buffer_that_is_gone_leaves_no_copy_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sb3_tom.data.replay_buffer.ResidentRows", lambda arrays, device: ResidentRows(arrays, "cpu"))
    box = spaces.Box(-1, 1, (2,), dtype=np.float32)
    gc.collect()  # buffers of tests before
    n_before, buffer = len(buffers._RESIDENT), AwayFromTheCPU(8, box, box)
    buffer.transitions()
    assert len(buffers._RESIDENT) == n_before + 1
    del buffer
    gc.collect()
    assert len(buffers._RESIDENT) == n_before


def test_rows_of_another_run_are_sent_anew() -> None:
    array = np.zeros((10, 1), dtype=np.float32)
    resident = ResidentRows([array], "cpu")
    array[:8] = 1.0
    resident.update(8, 8, 8)
    array[:5] = 2.0
    (copy,) = resident.update(5, 5, 5)
    np.testing.assert_array_equal(copy.numpy(), array[:5])


@pytest.mark.parametrize(("own", "other"), [(8, 5), (3, 7), (5, 5)])
def test_a_checkpoint_read_into_a_used_buffer_is_sent_anew(own: int, other: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """``load_checkpoint`` into an agent that has rows already, of a run that is less far, further, or as far."""
    monkeypatch.setattr("sb3_tom.data.replay_buffer.ResidentRows", lambda arrays, device: ResidentRows(arrays, "cpu"))
    box = spaces.Box(-100, 100, (2,), dtype=np.float32)
    buffers_of = [AwayFromTheCPU(8, box, box) for _ in range(2)]
    for buffer, n_rows, sign in zip(buffers_of, (own, other), (-1, 1), strict=True):
        for step in range(1, n_rows + 1):
            rows = np.full((1, 2), sign * step, dtype=np.float32)
            buffer.add(rows, rows, rows, np.zeros(1), np.zeros(1), [{}])
        buffer.transitions()
    restore_replay(buffers_of[0], deepcopy(replay_state(buffers_of[1])))
    assert buffers_of[0].transitions().observations[:, 0].tolist() == [float(step) for step in range(1, other + 1)]
