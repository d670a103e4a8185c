"""Minibatches: the configured share of real rows, exactly, and every row what it should be."""

import pytest
import torch as th

from sb3_tom.contracts.types import Transitions
from sb3_tom.data.batches import CHUNK, MixedBatches
from sb3_tom.data.imagined import ImaginedBuffer
from sb3_tom.policy_updates.sac.sb3_update import _AsReplayBuffer


def rows(n_rows: int, sign: float) -> Transitions:
    """Real rows have positive numbers, imagined ones negative; all fields of a row carry its number."""
    number = sign * th.arange(1, n_rows + 1, dtype=th.float32).unsqueeze(1)
    return Transitions(number.repeat(1, 3), number.repeat(1, 2), number.repeat(1, 3), number, number * 0, number[:, 0].long())


def make_batches(n_imagined: int, real_ratio: float) -> MixedBatches:
    imagined = ImaginedBuffer(max(n_imagined, 1), 3, 2, "cpu")
    if n_imagined:
        imagined.add(rows(n_imagined, -1.0), th.ones(n_imagined, dtype=th.bool))
    return MixedBatches(rows(37, 1.0), imagined, real_ratio, th.Generator().manual_seed(0))


@pytest.mark.parametrize(("real_ratio", "n_real"), [(0.0, 0), (0.05, 12), (0.5, 128), (0.999, 255), (1.0, 256)])
def test_share_of_real_rows_is_exact(real_ratio: float, n_real: int) -> None:
    batches = list(make_batches(1000, real_ratio)(CHUNK + 7, 256))
    assert len(batches) == CHUNK + 7
    for batch in batches:
        assert batch.observations.shape == (256, 3)
        assert int((batch.rewards > 0).sum()) == n_real
        number = batch.rewards
        assert th.equal(batch.observations, number.repeat(1, 3))
        assert th.equal(batch.actions, number.repeat(1, 2))
        assert th.equal(batch.next_observations, number.repeat(1, 3))


def test_without_imagined_rows_all_are_real() -> None:
    batch = next(make_batches(0, 0.05)(1, 64))
    assert batch.observations.shape[0] == 64
    assert bool((batch.rewards > 0).all())


def test_real_rows_alone_whatever_the_share() -> None:
    batches = list(make_batches(1000, 0.0).real(3, 64))
    assert len(batches) == 3 and all(bool((batch.rewards > 0).all()) and len(batch.rewards) == 64 for batch in batches)


def test_rows_are_drawn_uniformly() -> None:
    counts = th.zeros(38)
    for batch in make_batches(0, 1.0)(400, 256):
        counts += th.bincount(batch.rewards.long().flatten(), minlength=38)
    expected = 400 * 256 / 37
    deviation = (counts[1:] - expected) / expected**0.5
    assert float(deviation.abs().max()) < 4.5  # 37 Poisson counts


def test_sb3_gets_its_own_type() -> None:
    sample = _AsReplayBuffer(make_batches(10, 0.5)).sample(8)
    assert sample.dones.shape == (8, 1)
    assert sample.discounts is None
    assert int((sample.rewards > 0).sum()) == 4


def test_batches_are_drawn_by_their_own_generator() -> None:
    before, drawn = th.get_rng_state(), []
    for _ in range(2):
        batches = make_batches(50, 0.5)
        drawn.append([next(rows(1, 16)).rewards for rows in (batches, batches.raw, batches.real)])
    assert all(map(th.equal, *drawn)) and th.equal(th.get_rng_state(), before)
