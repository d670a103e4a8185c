"""The learned head: on a synthetic border, and on real terminations of Hopper that it has not seen."""

import io
from copy import deepcopy
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch as th

from sb3_tom.contracts.context import Context
from sb3_tom.contracts.types import Transitions
from sb3_tom.terminations import LearnedTermination

ACTIONS, STATES = 2, 6


def synthetic(rows: int, seed: int, limit: float = 1.0) -> Transitions:
    """
    Six coordinates, the first two of which decide: a transition is terminal if |x0| > limit or x1 < -limit. Coordinates have
    different units, one is constant, and one step is a hundredth of the range, as in simulated robots.
    """
    generator = th.Generator().manual_seed(seed)
    units = th.tensor([1.0, 1.0, 100.0, 0.01, 1.0, 0.0])
    spread = th.tensor([0.6, 0.6, 1.0, 1.0, 1.0, 0.0])
    next_states = th.randn(rows, STATES, generator=generator) * spread
    terminated = (next_states[:, 0].abs() > limit) | (next_states[:, 1] < -limit)
    states = (next_states - 0.01 * th.randn(rows, STATES, generator=generator)) * units
    actions = 2.0 * th.rand(rows, ACTIONS, generator=generator) - 1.0
    flags = terminated.float().unsqueeze(1)
    return Transitions(states, actions, next_states * units, th.zeros(rows, 1), flags, th.zeros(rows, dtype=th.long))


def built(observation_dim: int = STATES, action_dim: int = ACTIONS, **kwargs: Any) -> LearnedTermination:
    termination = LearnedTermination(**kwargs)
    termination.build(observation_dim, action_dim)
    return termination


def predict(termination: LearnedTermination, rows: Transitions) -> th.Tensor:
    result = termination(rows.observations, rows.actions, rows.next_observations)
    assert result.dtype == th.bool and result.shape == rows.terminated.shape
    return result


def counts(termination: LearnedTermination, rows: Transitions) -> np.ndarray:
    """Hits, misses and false alarms."""
    said, truth = predict(termination, rows), rows.terminated > 0.5
    return np.array([(said & truth).sum(), (~said & truth).sum(), (said & ~truth).sum()], dtype=float)


def test_synthetic_border_is_found_on_held_out_rows(context: Context) -> None:
    termination = built(first_gradient_steps=600)
    figures = termination.fit(synthetic(4000, seed=0), context)
    hits, misses, false_alarms = counts(termination, synthetic(4000, seed=1))
    assert hits / (hits + misses) > 0.93 and hits / (hits + false_alarms) > 0.93
    assert abs(figures["recall"] - figures["precision"]) < 0.01, "as many terminations are predicted as there are"
    assert figures["terminal_share"] == pytest.approx(0.137, abs=0.02)


@pytest.mark.parametrize("limit", [1.0, 1.9], ids=["common", "rare"])
def test_threshold_makes_imagined_terminations_as_frequent_as_real_ones(limit: float, context: Context) -> None:
    """Batches hold as many terminal rows as others, so an uncorrected logit would end far too many episodes."""
    termination = built(first_gradient_steps=600)
    termination.fit(synthetic(6000, seed=0, limit=limit), context)
    fresh = synthetic(20000, seed=1, limit=limit)
    real, said = fresh.terminated.mean(), predict(termination, fresh).float().mean()
    assert float(real) < (0.2 if limit == 1.0 else 0.003)
    assert float(said / real) == pytest.approx(1.0, abs=0.1 if limit == 1.0 else 0.5)


@pytest.mark.parametrize("n_terminal", [1, 2, 5])
def test_each_of_a_few_terminal_rows_is_recalled(n_terminal: int, context: Context) -> None:
    """They are far from all others: as many are predicted as there are, the least terminal of them included."""
    rows = synthetic(500, seed=0, limit=100.0)
    rows.next_observations[:n_terminal] = 20.0 + th.arange(float(n_terminal)).view(-1, 1)
    rows.terminated[:n_terminal] = 1.0
    termination = built(first_gradient_steps=300)
    figures = termination.fit(rows, context)
    assert figures["recall"] == figures["precision"] == 1.0
    assert th.equal(predict(termination, rows), rows.terminated > 0.5)


@pytest.mark.parametrize("n_terminal", [3, 40])
def test_a_tie_is_on_the_side_that_is_nearer(n_terminal: int, context: Context) -> None:
    """Terminal rows that cannot be told from one, or from fifty others."""
    for n_other in (1, 50):
        rows = synthetic(500, seed=0, limit=100.0)
        rows.observations[: n_terminal + n_other] = rows.observations[0]
        rows.actions[: n_terminal + n_other] = rows.actions[0]
        rows.next_observations[: n_terminal + n_other] = 20.0
        rows.terminated[:n_terminal] = 1.0
        termination = built(first_gradient_steps=300)
        figures = termination.fit(rows, context)
        assert figures["recall"] == float(n_other < n_terminal)


def test_never_terminates_before_a_terminal_row_was_seen_and_says_so(context: Context) -> None:
    termination = built()
    rows = synthetic(500, seed=0, limit=100.0)
    before = deepcopy(termination.state_dict())
    assert termination.fit(rows, context) == {"terminal_share": 0.0}
    assert all(th.equal(before[name], value) for name, value in termination.state_dict().items())
    far = rows.next_observations * 1e6
    assert not termination(rows.observations, rows.actions, far).any()
    assert not termination(rows.observations, rows.actions, far * float("nan")).any()


def test_always_terminates_while_all_rows_are_terminal_and_learns_from_the_first_that_is_not(context: Context) -> None:
    """Tasks of one step: without it the critics would bootstrap past every end."""
    rows = synthetic(2000, seed=0)
    ends = rows._replace(terminated=th.ones_like(rows.terminated))
    termination, direct = built(first_gradient_steps=300), built(first_gradient_steps=300)
    direct.load_state_dict(termination.state_dict())
    assert termination.fit(ends, context) == {"terminal_share": 1.0}
    assert bool(predict(termination, ends).all())
    restored = built(first_gradient_steps=300)
    restored.load_state_dict(termination.state_dict())
    assert bool(predict(restored, ends).all())
    context.generator.manual_seed(3)
    termination.fit(rows, context)
    context.generator.manual_seed(3)
    direct.fit(rows, context)
    assert th.equal(predict(termination, rows), predict(direct, rows)), "as if it were its first fit"
    assert 0 < int(predict(termination, rows).sum()) < rows.size


def test_keeps_what_it_knows_when_terminal_rows_have_left_the_buffer(context: Context) -> None:
    termination = built(first_gradient_steps=300)
    termination.fit(synthetic(2000, seed=0), context)
    before = predict(termination, synthetic(1000, seed=1))
    termination.fit(synthetic(500, seed=2, limit=100.0), context)
    assert th.equal(predict(termination, synthetic(1000, seed=1)), before)


def test_rows_that_are_not_finite_terminate(context: Context) -> None:
    termination = built(first_gradient_steps=100)
    rows = synthetic(1000, seed=0)
    termination.fit(rows, context)
    broken = rows.next_observations.clone()
    broken[:, 0] = float("nan")
    assert termination(rows.observations, rows.actions, broken).all()


def test_budget_does_not_depend_on_the_number_of_rows(context: Context, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sb3_tom.terminations.learned.SAMPLE_SIZE", 1000)
    for rows in (300, 30_000):
        termination = built(first_gradient_steps=40, gradient_steps=15)
        steps, largest = [], []
        termination.optimizer.register_step_post_hook(lambda *_, steps=steps: steps.append(1))
        termination.first_layer.register_forward_hook(lambda *io, seen=largest: seen.append(io[1][0].numel()))
        termination.fit(synthetic(rows, seed=0), context)
        assert len(steps) == 40
        termination.fit(synthetic(rows, seed=0), context)
        assert len(steps) == 55
        assert max(largest) <= 8192 * (2 * STATES + ACTIONS)


def test_renewing_the_normaliser_does_not_change_the_function(context: Context) -> None:
    """Between two model phases the data move; the warm-started network must not forget for that."""
    termination = built(first_gradient_steps=200, learning_rate=3e-3)
    termination.fit(synthetic(2000, seed=0), context)
    fresh = synthetic(500, seed=1)
    features = th.cat((fresh.next_observations, fresh.next_observations - fresh.observations, fresh.actions), dim=1)
    before, old_scale = termination._logits(features), termination.scale.clone()
    moved = synthetic(2000, seed=2)
    moved = moved._replace(observations=3.0 * moved.observations + 1.0, next_observations=3.0 * moved.next_observations + 1.0)
    termination.learning_rate = 1e-12
    termination.fit(moved, context)
    assert (termination.scale / old_scale)[0] > 2.0
    assert th.allclose(termination._logits(features), before, rtol=1e-3, atol=1e-3)


def test_later_fits_improve_on_the_first(context: Context) -> None:
    few, many = synthetic(300, seed=0), synthetic(4000, seed=5)
    termination = built(first_gradient_steps=300, gradient_steps=100)
    termination.fit(few, context)
    first = counts(termination, synthetic(4000, seed=1))
    for _ in range(6):
        termination.fit(many, context)
    last = counts(termination, synthetic(4000, seed=1))
    assert last[1:].sum() < 0.6 * first[1:].sum()


def test_same_seed_same_network(context: Context) -> None:
    states = []
    for _ in range(2):
        th.manual_seed(3)
        termination = built(first_gradient_steps=30)
        context.generator.manual_seed(5)
        termination.fit(synthetic(500, seed=0), context)
        states.append(termination.state_dict())
    assert all(th.equal(states[0][name], states[1][name]) for name in states[0])


def test_draws_come_from_the_context_alone(context: Context) -> None:
    termination = built(first_gradient_steps=20)
    before = th.get_rng_state()
    termination.fit(synthetic(500, seed=0), context)
    assert th.equal(th.get_rng_state(), before)


def test_state_is_float_and_complete_and_the_optimizer_resumes(context: Context) -> None:
    rows = synthetic(1000, seed=0)
    termination = built(first_gradient_steps=60, gradient_steps=20)
    termination.fit(rows, context)
    assert list(termination.optimizers()) == ["optimizer"]
    file = io.BytesIO()
    th.save((termination.state_dict(), termination.optimizer.state_dict()), file)
    file.seek(0)
    state, optimizer_state = th.load(file, weights_only=True)
    assert all(value.dtype == th.float32 for value in state.values())
    loaded = built(first_gradient_steps=60, gradient_steps=20)
    loaded.load_state_dict(state)
    loaded.optimizer.load_state_dict(optimizer_state)
    assert th.equal(predict(loaded, rows), predict(termination, rows))
    for each in (termination, loaded):
        context.generator.manual_seed(9)
        each.fit(rows, context)
    resumed, expected = loaded.state_dict(), termination.state_dict()
    assert all(th.equal(resumed[name], expected[name]) for name in expected)


@pytest.mark.parametrize(
    "kwargs",
    [
        {"hidden_sizes": ()},
        {"hidden_sizes": "64"},
        {"hidden_sizes": (0,)},
        {"learning_rate": "3e-4"},
        {"learning_rate": 0.0},
        {"gradient_steps": 0},
        {"first_gradient_steps": 1.5},
        {"batch_size": True},
        {"batch_size": 1},
        {"group_lasso": -1.0},
        {"group_lasso": float("nan")},
    ],
)
def test_bad_arguments_are_named(kwargs: dict[str, Any]) -> None:
    (name, value), *_ = kwargs.items()
    with pytest.raises(ValueError, match=name) as caught:
        LearnedTermination(**kwargs)
    assert repr(value) in str(caught.value) or "hidden_sizes[0]" in str(caught.value)


def hopper_episodes(rows: int, seed: int) -> tuple[Transitions, th.Tensor]:
    """
    Rows of Hopper as a training run meets them (random actions, held random actions, timid ones, noisy linear policies; one
    of these per episode), and the number of the episode of each row.
    """
    env, rng = gym.make("Hopper-v5"), np.random.default_rng(seed)
    collected: list[tuple[np.ndarray, np.ndarray, np.ndarray, bool]] = []
    episodes: list[int] = []
    while len(collected) < rows:
        kind, gains, held = rng.integers(4), 0.25 * rng.normal(size=(3, 11)), rng.uniform(-1.0, 1.0, 3)
        offset, episode = 0.5 * rng.uniform(-1.0, 1.0, 3), len(collected)
        observation, done, step = env.reset(seed=int(rng.integers(2**31)))[0], False, 0
        while not done:
            noise = rng.uniform(-1.0, 1.0, 3)
            held = noise if step % 5 == 0 else held
            linear = np.clip(gains @ observation + offset + 0.1 * noise, -1.0, 1.0)
            action = (noise, held, 0.3 * noise, linear)[kind]
            next_observation, _, terminated, truncated, _ = env.step(action)
            collected.append((observation, action, next_observation, terminated))
            episodes.append(episode)
            observation, done, step = next_observation, terminated or truncated, step + 1
    columns = [th.as_tensor(np.array(column), dtype=th.float32) for column in zip(*collected, strict=True)]
    size = len(collected)
    fields = (*columns[:3], th.zeros(size, 1), columns[3].reshape(size, 1), th.zeros(size, dtype=th.long))
    return Transitions(*fields), th.tensor(episodes)


def test_real_terminations_of_hopper_on_held_out_episodes(context: Context) -> None:
    """Two folds of whole episodes, about 5,000 rows each: the warm-up of an agent. No rule is used."""
    rows, episodes = hopper_episodes(10_000, seed=0)
    folds = [rows.rows(th.isin(episodes, episodes.unique()[parity::2]).nonzero().squeeze(1)) for parity in (0, 1)]
    total = np.zeros(3)
    for train, held_out in (folds, folds[::-1]):
        termination = built(11, 3)
        termination.fit(train, context)
        total += counts(termination, held_out)
    hits, misses, false_alarms = total
    assert hits + misses > 300
    assert hits / (hits + misses) >= 0.9
    assert hits / (hits + false_alarms) >= 0.8
