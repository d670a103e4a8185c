"""Cross-fitting: no row is weighed by a network that has seen it; what is learned is believed as far as held-out rows say."""

import copy
import math

import numpy as np
import pytest
import torch as th
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import minimize

from sb3_tom.contracts.context import Context
from sb3_tom.contracts.types import Transitions
from sb3_tom.weighters.tom.calibration import Logits, calibrate
from sb3_tom.weighters.tom.folds import NumberedRows, OtherFolds, block_length, folds_of, grouped, places
from sb3_tom.weighters.tom.ratio import RatioWeighter
from sb3_tom.weighters.tom.weighter import TOMWeighter
from tests.weighters.small import QUICK, built, context, newest, transitions


def folds(n_rows: int, block: int, n_envs: int, n_folds: int) -> th.Tensor:
    return folds_of(th.arange(n_rows), th.tensor(float(block)), th.tensor(float(n_envs)), n_folds)


@given(n_steps=st.integers(1, 400), block=st.integers(1, 60), n_envs=st.integers(1, 9), n_folds=st.integers(2, 7))
def test_neighbours_of_a_trajectory_are_in_the_same_fold(n_steps: int, block: int, n_envs: int, n_folds: int) -> None:
    dealt = folds(n_steps * n_envs, block, n_envs, n_folds).view(n_steps, n_envs)
    for start in range(0, n_steps, block):
        assert (dealt[start : start + block] == dealt[start]).all()
    assert 0 <= int(dealt.min()) <= int(dealt.max()) < n_folds
    counts = dealt.flatten().bincount(minlength=n_folds)
    assert int(counts.max() - counts.min()) <= block * n_envs


@pytest.mark.parametrize(
    ("n_recent", "n_envs"), [(1000, 1), (1000, 2), (1000, 3), (1000, 4), (1000, 16), (50, 1), (50, 4), (10, 1)]
)
def test_each_fold_has_rows_of_the_newest(n_recent: int, n_envs: int) -> None:
    """Wherever a phase begins."""
    dealt = folds(4000, block_length(n_recent, 5, n_envs), n_envs, 5)
    for end in range(n_recent, 4001, n_envs):
        assert len(dealt[end - n_recent : end].unique()) == 5


@pytest.mark.parametrize(("n_envs", "least"), [(1, 200), (2, 125), (4, 125), (5, 200), (8, 125), (32, 31)])
def test_blocks_are_as_long_as_the_envs_allow(n_envs: int, least: int) -> None:
    """The envs are in different folds already; in short blocks rows are recognised by their neighbours in other folds."""
    assert block_length(1000, 5, n_envs) == least


def test_blocks_may_be_whole_episodes() -> None:
    assert block_length(5000, 5, 1, 1000) == 1000
    assert block_length(5000, 5, 1, 700) == 700
    assert block_length(5000, 5, 2, 1000) == 625, "no longer than leaves each fold rows of recent"


@pytest.mark.parametrize("n_envs", [1, 8])
def test_one_policy_in_several_slow_envs_has_no_newer_rows(n_envs: int) -> None:
    """States with a memory of 50 steps: rows of a fold must not be neighbours of the rows that its network has learned."""
    generator = np.random.default_rng(0)
    n_steps, decay = 4_000 // n_envs, math.exp(-1 / 50)
    noise = generator.normal(size=(n_steps, n_envs, 3)) * (1 - decay**2) ** 0.5
    states = np.zeros((n_steps + 1, n_envs, 3))
    states[0] = generator.normal(size=(n_envs, 3))
    for step in range(n_steps):
        states[step + 1] = decay * states[step] + noise[step]
    before, after = (th.as_tensor(part.reshape(-1, 3), dtype=th.float32) for part in (states[:-1], states[1:]))
    zeros = th.zeros(len(before), 1)
    actions = th.as_tensor(generator.uniform(-1, 1, (len(before), 1)), dtype=th.float32)
    data = Transitions(before, actions, after, zeros, zeros, th.zeros(len(before), dtype=th.int64))
    weighter = RatioWeighter()
    th.manual_seed(0)
    weighter.build(3, 1)
    seen = Context(generator=th.Generator().manual_seed(0), n_envs=n_envs)
    weighter.fit(data, data.rows(th.arange(len(before) - 1000, len(before))), before[:1], seen)
    weights = weighter.weights(data, seen)
    assert float(weights[-1000:].mean() / weights.mean()) < 1.15


def test_a_given_block_counts_as_one_independent_observation() -> None:
    data = transitions(600)
    for settings, labels in (({}, [0, 1, 2, 3, 4, 5, 6, 7]), ({"block_steps": 20}, [0, 0, 0, 0, 1, 1, 1, 1])):
        tom = built(recent_size=100, **settings)
        tom.fit(data, newest(data, 100), data.observations[:1], context())
        assert tom.discriminator.blocks.tolist() == [20.0, 1.0]
        part = tom.discriminator._part(th.zeros(8, 1), th.arange(0, 40, 5))
        assert part.blocks[part.valid].sort().values.tolist() == labels


def test_newest_rows_find_themselves_also_among_equal_ones() -> None:
    data = transitions(400)
    data = data.rows(th.arange(400) % 70)  # each row five or six times
    assert th.equal(places(newest(data, 150), data), th.arange(250, 400))


def test_rows_that_the_buffer_lacks_have_no_place() -> None:
    data = transitions(400, observation_dim=30)  # not all columns are in the key
    assert (places(transitions(20, observation_dim=30, seed=1), data) == -1).all()
    order = th.randperm(400)[:50]
    rows = data.rows(order)
    assert th.equal(places(rows, data), order)
    for name in ("observations", "actions", "next_observations"):
        for column in range(getattr(rows, name).shape[1]):
            changed = getattr(rows, name).clone()
            changed[:, column] += 1e-3
            assert (places(rows._replace(**{name: changed}), data) == -1).all()


@given(sizes=st.lists(st.integers(0, 30), min_size=2, max_size=6).filter(lambda sizes: sum(sizes) > 0), seed=st.integers(0, 9))
def test_draws_are_from_the_other_folds(sizes: list[int], seed: int) -> None:
    dealt = th.arange(len(sizes)).repeat_interleave(th.tensor(sizes))
    dealt = dealt[th.randperm(len(dealt), generator=th.Generator().manual_seed(seed))]
    drawn = OtherFolds(dealt, len(sizes)).draw(3, 200, th.Generator().manual_seed(seed))
    assert drawn.shape == (3, len(sizes), 200)
    for fold, rows in enumerate(drawn.unbind(1)):
        others = (dealt != fold).nonzero().squeeze(1)
        allowed = others if len(others) else th.arange(len(dealt))
        assert th.isin(rows, allowed).all()
        if len(allowed) <= 30:
            assert set(rows.flatten().tolist()) == set(allowed.tolist()), "each of them is drawn"


@given(dealt=st.lists(st.integers(0, 4), min_size=1, max_size=60))
def test_groups_hold_each_row_once(dealt: list[int]) -> None:
    groups = grouped(th.tensor(dealt), 5)
    assert sorted(groups.rows[groups.valid].tolist()) == list(range(len(dealt)))
    for fold in range(5):
        assert all(dealt[row] == fold for row in groups.rows[fold][groups.valid[fold]].tolist())


def test_rows_keep_their_numbers() -> None:
    rows = NumberedRows.of(transitions(10)).rows(th.tensor([7, 3, 5]))
    assert th.equal(rows.numbers, th.tensor([7, 3, 5]))
    parts = rows.split(2)
    assert [part.numbers.tolist() for part in parts if isinstance(part, NumberedRows)] == [[7, 3], [5]]
    assert th.equal(parts[1].observations, transitions(10).observations[5:6])


def test_no_network_is_trained_on_rows_that_it_weighs() -> None:
    """Each row's observation is its number, so that the batches tell which rows they hold."""
    data = transitions(600, observation_dim=1)._replace(observations=th.arange(600.0).unsqueeze(1))
    tom = built(observation_dim=1, standardize=False, recent_size=100, discriminator_steps=40)
    seen: list[th.Tensor] = []
    loss = tom.discriminator._loss

    def recorded(ours: th.Tensor, theirs: th.Tensor) -> th.Tensor:
        seen.append(th.cat([ours, theirs], dim=1)[:, :, 0].long())
        return loss(ours, theirs)

    tom.discriminator._loss = recorded  # type: ignore[method-assign]
    tom.discriminator.fit(data, newest(data, 100), tom.discriminator_optimizer, context())
    own = tom.discriminator._folds(th.stack(seen)).unbind(1)
    assert all(bool((of_network != fold).all()) for fold, of_network in enumerate(own))
    assert int((th.stack(seen) >= 500).sum()) > 0.5 * th.stack(seen).numel()


def test_the_dual_hands_the_numbers_on() -> None:
    class Watching(TOMWeighter):
        def log_ratio(self, data: Transitions, context: Context) -> th.Tensor:
            assert isinstance(data, NumberedRows)
            asked.append(data.numbers)
            assert th.equal(data.observations, rows.observations[data.numbers])
            return super().log_ratio(data, context)

    asked: list[th.Tensor] = []
    rows = transitions(400)
    for arguments in ({}, {"pool_size": None}, {"pool_size": 100, "q_holdout_ratio": 0.3}):
        tom = Watching(**{**QUICK, **arguments})
        tom.build(3, 2)
        tom.fit(rows, newest(rows), rows.observations[:5], context())
        asked.clear()
        tom.weights(rows, context())
        numbers, n_rows = th.cat(asked), tom.settings.pool_size or 400
        if n_rows < 400:  # the mean over s' is learned from so many rows
            assert len(numbers) == n_rows and 0 <= int(numbers.min()) and int(numbers.max()) < 400
        else:
            assert th.equal(numbers, th.arange(400))


def normal_rows(n_rows: int, shift: float) -> tuple[Logits, Logits]:
    """Of N(shift, 1) and N(0, 1), whose log-ratio is shift x - shift^2 / 2; each row is a block."""
    generator = th.Generator().manual_seed(0)
    ours, theirs = (th.randn(n_rows, generator=generator) + mean for mean in (shift, 0.0))
    ours, theirs = (shift * x - shift**2 / 2 for x in (ours, theirs))
    return Logits(ours, th.arange(n_rows)), Logits(theirs, n_rows + th.arange(n_rows))


def test_calibration_undoes_a_wrong_slope_and_offset() -> None:
    ours, theirs = normal_rows(20_000, 1.3)
    found = calibrate(*(part._replace(values=0.25 * part.values - 3.0) for part in (ours, theirs)))
    assert float(found.slope) == pytest.approx(4.0, rel=0.05)
    assert float(found.offset) == pytest.approx(12.0, rel=0.05)
    assert float(found.recent) == pytest.approx(1.3**2 / 2, rel=0.1)


@pytest.mark.parametrize("label", [0.0, 0.1])
def test_calibration_minimises_the_cross_entropy(label: float) -> None:
    ours, theirs = normal_rows(2_000, 2.0)
    found = calibrate(ours, theirs, label)

    def loss(line: np.ndarray) -> float:
        a, b = (line[0] * part.values.double().numpy() + line[1] for part in (ours, theirs))
        return float(np.logaddexp(0, -a).mean() + np.logaddexp(0, b).mean() - label * b.mean())

    best = minimize(loss, np.array([1.0, 0.0]))
    assert float(found.cross_entropy) == pytest.approx(best.fun, abs=1e-4)
    assert float(found.slope) == pytest.approx(best.x[0], rel=0.05)


@pytest.mark.parametrize(("label", "flat"), [(0.0, 0.0), (0.1, math.log(1.1 / 0.9))])
def test_logits_that_say_nothing_or_the_contrary_give_the_same_ratio_everywhere(label: float, flat: float) -> None:
    ours, theirs = normal_rows(500, 0.0)
    noise = [part._replace(values=th.randn(500, generator=th.Generator().manual_seed(8))) for part in (ours, theirs)]
    swapped = [part._replace(values=-part.values) for part in normal_rows(500, 1.0)]
    for pair in (noise, swapped):
        found = calibrate(pair[0], pair[1], label)
        assert float(found.slope) == 0.0
        assert float(found.offset) == pytest.approx(flat, abs=1e-6)


def test_neighbours_are_no_evidence_of_their_own() -> None:
    """The same logits fifty times are as little as once."""
    ours, theirs = normal_rows(12, 1.0)
    repeated = [Logits(part.values.repeat(50), part.blocks.repeat(50)) for part in (ours, theirs)]
    alone = [part._replace(blocks=th.arange(600) + 600 * number) for number, part in enumerate(repeated)]
    assert float(calibrate(*repeated).slope) == pytest.approx(float(calibrate(ours, theirs).slope), abs=1e-3)
    assert float(calibrate(*alone).slope) > float(calibrate(*repeated).slope)


def test_a_single_network_of_before_takes_the_place_of_all() -> None:
    """Agents that were saved before there were folds load, and have the log-ratio that they had."""
    data = transitions(400)
    old = built(folds=1)
    old.fit(data, newest(data), data.observations[:5], context())
    saved, optimizer = copy.deepcopy(old.state_dict()), old.discriminator_optimizer.state_dict()
    new = built()
    new.load_state_dict(saved)
    new.discriminator_optimizer.load_state_dict(optimizer)
    for rows in (data, NumberedRows.of(data)):
        th.testing.assert_close(new.log_ratio(rows, context()), old.log_ratio(data, context()))
    assert new.fit(data, newest(data), data.observations[:5], context())["diverged"] == 0.0


def test_the_fit_stops_where_held_out_rows_get_no_better() -> None:
    data = transitions(2000)
    figures = built(discriminator_steps=400).fit(data, newest(data, 200), data.observations[:5], context())
    assert figures["discriminator_steps"] < 400, "there is nothing to learn"
    moved = data._replace(observations=data.observations + (th.arange(2000) >= 1800).float().unsqueeze(1))
    other = built(discriminator_steps=400).fit(moved, newest(moved, 200), moved.observations[:5], context())
    assert other["discriminator_calibrated_loss"] < 1.2 < 1.37 < figures["discriminator_calibrated_loss"]


@pytest.mark.parametrize(("observation_dim", "action_dim"), [(40, 1), (100, 2)])
def test_newest_rows_find_themselves_in_a_ring_although_observations_are_equal(observation_dim: int, action_dim: int) -> None:
    """One-hot states, of which the key has few columns; the newest rows are not the last of the ring."""
    generator = th.Generator().manual_seed(0)
    states = th.eye(observation_dim)[th.randint(observation_dim, (2000,), generator=generator)]
    actions = 2.0 * th.rand(2000, action_dim, generator=generator) - 1.0
    zeros = th.zeros(2000, 1)
    data = Transitions(states, actions, states.roll(1, 0), zeros, zeros, zeros.squeeze(1).long())
    numbers = th.arange(600, 800)
    assert th.equal(places(data.rows(numbers), data), numbers)
