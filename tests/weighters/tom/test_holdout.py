"""Held-out rows, and the parameters that are best on them."""

import copy

import pytest
import torch as th
from hypothesis import given
from hypothesis import strategies as st

from sb3_tom.weighters.tom.holdout import BLOCK, BestState, hold_out
from tests.weighters.small import built, context, newest, transitions


@given(n_rows=st.integers(1, 2_000), ratio=st.floats(0.0, 0.99), seed=st.integers(0, 3))
def test_rows_are_split_in_whole_blocks(n_rows: int, ratio: float, seed: int) -> None:
    fitted, held = hold_out(n_rows, ratio, th.Generator().manual_seed(seed))
    assert sorted(fitted.tolist() + held.tolist()) == list(range(n_rows))
    assert set((fitted // BLOCK).tolist()).isdisjoint((held // BLOCK).tolist())
    assert len(set((held // BLOCK).tolist())) == int(ratio * -(-n_rows // BLOCK))


@pytest.mark.parametrize("n_envs", [4, 16, 64])
def test_neighbours_of_a_trajectory_stay_together_with_several_environments(n_envs: int) -> None:
    n_steps = 300
    fitted, held = hold_out(n_steps * n_envs, 0.2, th.Generator().manual_seed(0), n_envs)
    assert len(held) == BLOCK * int(0.2 * n_envs * n_steps / BLOCK)
    is_held = th.zeros(n_steps * n_envs, dtype=th.bool).index_fill(0, held, True).view(n_steps, n_envs)
    assert int((is_held[1:] != is_held[:-1]).sum()) <= 2 * len(held) / BLOCK, "only the ends of blocks have fitted neighbours"
    assert len(fitted) + len(held) == n_steps * n_envs


def test_the_best_of_several_states_comes_back() -> None:
    module = th.nn.Linear(2, 1)
    values = iter([3.0, 1.0, 2.0, th.nan])
    states = []
    best = BestState(module, lambda: th.tensor(next(values)))
    for step in (10, 20, 30):
        with th.no_grad():
            module.weight.add_(1.0)
        states.append(copy.deepcopy(module.state_dict()))
        best.offer(step)
    assert [float(value) for value in best.restore()] == [1.0, 10.0]
    for name, value in module.state_dict().items():
        assert th.equal(value, states[0][name])


@pytest.mark.parametrize("divergence", ["chi2", "kl"])
def test_weights_of_a_long_descent_do_not_fall_on_a_few_rows(divergence: str) -> None:
    """On pure noise any Q but 0 is overfitting: a long descent without held-out rows loses most of the rows."""
    data, sizes = transitions(400), {}
    for ratio in (0.0, 0.5):
        tom = built(
            divergence=divergence,
            q_steps=800,
            q_learning_rate=3e-3,
            q_holdout_ratio=ratio,
            max_weight=None,
            average_next=False,
            gradient_penalty=0.0,  # it pulls R's slope to 1 where there is nothing to tell
            folds=1,
            buffer_label=0.1,
            discriminator_weight_decay=1e-3,
        )
        tom.fit(data, newest(data, 60), data.observations[:5], context())
        weights = tom.weights(data, context())
        sizes[ratio] = float(weights.sum() ** 2 / (weights.square().sum() * data.size))
    assert sizes[0.5] > 0.6 > 0.3 > sizes[0.0]


def test_the_kept_step_is_logged() -> None:
    tom, data = built(q_holdout_ratio=0.0), transitions(400)
    figures = tom.fit(data, newest(data, 60), data.observations[:5], context())
    assert "dual_best_step" not in figures
    figures = built(q_holdout_ratio=0.5).fit(data, newest(data, 60), data.observations[:5], context())
    assert 0 <= figures["dual_best_step"] <= tom.settings.q_steps
    assert figures["dual_loss_held_out"] <= figures["dual_ratio_held_out"], "the descent begins where R alone counts"
