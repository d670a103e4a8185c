"""TOMWeighter: state, repeatability, and what it does with difficult data."""

import copy
import io
from dataclasses import replace
from typing import Any

import pytest
import torch as th

from sb3_tom.contracts.context import Context
from sb3_tom.contracts.types import Transitions
from sb3_tom.data.moments import moments_of_columns
from sb3_tom.data.weights import usable_weights
from sb3_tom.weighters.tom import averaging, discriminator, dual, weighter
from sb3_tom.weighters.tom.networks import Standardizer
from sb3_tom.weighters.tom.weighter import TOMWeighter
from tests.weighters.small import VARIANTS, built, context, fit_and_weigh, newest, transitions


@pytest.mark.parametrize("arguments", VARIANTS, ids=str)
def test_state_survives_a_round_trip(arguments: dict[str, Any]) -> None:
    """All of it is float tensors that load with weights_only, and gives the same weights, number for number."""
    tom, data = built(**arguments), transitions(200)
    tom.fit(data, newest(data, 60), data.observations[:5], context())
    file = io.BytesIO()
    th.save(tom.state_dict(), file)
    file.seek(0)
    state = th.load(file, weights_only=True)
    assert all(value.is_floating_point() for value in state.values())
    other = built(**arguments)
    other.load_state_dict(state)
    assert th.equal(other.weights(data, context(3)), tom.weights(data, context(3)))


def test_optimisers_survive_a_round_trip() -> None:
    """A loaded weighter goes on as the saved one would, also where Q is persistent."""
    tom, data = built(preset="official"), transitions(400)
    assert sorted(tom.optimizers()) == ["discriminator_optimizer", "dual_optimizer"]
    tom.fit(data, newest(data), data.observations[:5], context())
    other = built(preset="official")
    other.load_state_dict(tom.state_dict())
    for name, optimizer in other.optimizers().items():
        optimizer.load_state_dict(copy.deepcopy(tom.optimizers()[name].state_dict()))
    assert th.equal(fit_and_weigh(other, data, context(1)), fit_and_weigh(tom, data, context(1)))


@pytest.mark.parametrize("persistent", [False, True])
def test_new_phase_in_place(persistent: bool) -> None:
    """Parameters stay the same objects; unless Q is persistent, a phase does not depend on those before it."""
    tom, data = built(q_persistent=persistent), transitions(400)
    before = [id(parameter) for parameter in tom.parameters()]
    fit_and_weigh(tom, transitions(400, seed=1), context(5))
    again = fit_and_weigh(tom, data, context())
    assert [id(parameter) for parameter in tom.parameters()] == before
    fresh = built(q_persistent=persistent)
    assert th.equal(fit_and_weigh(fresh, data, context()), again) is not persistent


@pytest.mark.parametrize("arguments", VARIANTS, ids=str)
def test_randomness_comes_from_the_context_only(arguments: dict[str, Any]) -> None:
    """The same seed of the context gives the same weights, another seed others, and torch's own state is not touched."""
    data, quick = transitions(200), {"q_persistent": False, "q_steps": 5, "discriminator_steps": 5, "average_next": False}
    quick |= arguments
    th.manual_seed(0)
    tom = built(**quick)
    state = th.get_rng_state()
    first = fit_and_weigh(tom, data, context())
    assert th.equal(th.get_rng_state(), state)
    assert th.equal(fit_and_weigh(built(**quick), data, context()), first)
    assert not th.equal(fit_and_weigh(tom, data, context(seed=1)), first)


def test_a_copy_is_independent() -> None:
    tom, data = built(), transitions(400)
    twin = copy.deepcopy(tom)
    fit_and_weigh(twin, data, context())
    assert not bool(tom.ready)
    assert {id(value) for value in twin.parameters()}.isdisjoint(id(value) for value in tom.parameters())
    optimised = {id(value) for group in twin.dual_optimizer.param_groups for value in group["params"]}
    assert optimised == {id(value) for value in twin.dual.parameters()}


@pytest.mark.parametrize("n_rows", [1, 49, 50, 120])
def test_a_footprint_of_any_size_is_learned_from(n_rows: int) -> None:
    tom, data, view = built(recent_size=50), transitions(400), context()
    assert th.equal(tom.weights(data, view), th.ones(400, dtype=th.float64)), "not fitted yet"
    assert set(tom.fit(data, newest(data, n_rows), data.observations[:5], view)) >= {"discriminator_loss", "dual_loss"}
    assert float(tom.weights(data, view).std()) > 0.0


def nasty(kind: str) -> Transitions:
    data = transitions(400)
    if kind == "constant":
        return data._replace(observations=data.observations * 0 + 3.3, next_observations=data.next_observations * 0 + 3.3)
    if kind == "huge":
        return data._replace(observations=data.observations * 1e30, next_observations=data.next_observations * 1e30)
    if kind == "one outlier":
        data.next_observations[17] = -3e38
        return data
    if kind == "all terminal":
        return data._replace(terminated=th.ones(400, 1))
    if kind == "equal rows":
        return data.rows(th.zeros(400, dtype=th.long))
    return newest(data)  # as many rows as recent ones


@pytest.mark.parametrize("kind", ["constant", "huge", "one outlier", "all terminal", "equal rows", "only recent"])
@pytest.mark.parametrize("arguments", VARIANTS, ids=str)
def test_weights_are_usable_whatever_the_data(kind: str, arguments: dict[str, Any]) -> None:
    tom, data, view = built(**arguments), nasty(kind), context()
    weights = fit_and_weigh(tom, data, view)
    assert usable_weights(weights, tom, data.size).shape == (data.size,)


def constant_weights(value: float, monkeypatch: pytest.MonkeyPatch) -> tuple[TOMWeighter, Transitions]:
    tom, data, view = built(), transitions(400), context()
    tom.fit(data, newest(data), data.observations[:5], view)
    monkeypatch.setattr(tom.dual, "weights", lambda data, *rest: th.full((data.size,), value).double())
    return tom, data


def test_weights_that_are_all_zero_count_alike_with_a_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    tom, data = constant_weights(0.0, monkeypatch)
    with pytest.warns(UserWarning, match="TOM's weights are 0 for all rows"):
        assert th.equal(tom.weights(data, context()), th.ones(400, dtype=th.float64))


def test_weights_that_are_not_finite_are_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    tom, data = constant_weights(float("nan"), monkeypatch)
    with pytest.raises(ValueError, match=r"TOMWeighter.weights returned values that are not finite"):
        usable_weights(tom.weights(data, context()), tom, data.size)


@pytest.mark.parametrize("arguments", VARIANTS, ids=str)
def test_equal_rows_get_equal_weights(arguments: dict[str, Any]) -> None:
    """Up to the noise of the policy's actions at s', which is none here."""
    tom, data, view = built(**arguments), nasty("equal rows"), context()
    tom.fit(data, newest(data), data.observations[:5], view)
    weights = tom.weights(data, replace(view, policy=lambda rows: (th.tanh(rows[:, :2]), rows[:, :1])))
    th.testing.assert_close(weights, weights[:1].expand_as(weights), rtol=1e-4, atol=0.0)


def test_after_a_divergence_weights_are_one_and_the_next_phase_is_sound() -> None:
    tom, data, view = built(preset="official"), transitions(400), context()
    with th.no_grad():
        tom.dual.head.weight.fill_(th.nan)
    figures = tom.fit(data, newest(data), data.observations[:5], view)
    assert figures["diverged"] == 1.0
    assert th.equal(tom.weights(data, view), th.ones(400, dtype=th.float64))
    assert tom.fit(data, newest(data), data.observations[:5], view)["diverged"] == 0.0
    assert not th.equal(tom.weights(data, view), th.ones(400, dtype=th.float64))


def test_no_gradient_into_the_policy() -> None:
    asked: list[bool] = []
    view = context()

    def policy(observations: th.Tensor) -> tuple[th.Tensor, th.Tensor]:
        actions, log_prob = view.policy(observations)
        asked.append(actions.requires_grad)
        return actions, log_prob

    data = transitions(400)
    fit_and_weigh(built(), data, Context(policy, view.values, 0.99, 0, view.generator))
    assert asked
    assert not any(asked)


def test_rows_of_the_current_policy_weigh_more() -> None:
    """A drifting behaviour: the newest tenth is around +1, the rest moved there from -1; the policy's own rows must win."""
    generator = th.Generator().manual_seed(0)
    place = th.linspace(-1, 1, 2000).unsqueeze(1)
    place[-200:] = 1.0
    observations = place + 0.3 * th.randn(2000, 1, generator=generator)
    actions = 0.1 * th.randn(2000, 1, generator=generator)
    following = place + 0.3 * th.randn(2000, 1, generator=generator)
    zeros = th.zeros(2000, 1)
    data = Transitions(observations, actions, following, zeros, zeros, th.zeros(2000, dtype=th.long))

    def stay(seen: th.Tensor) -> tuple[th.Tensor, th.Tensor]:
        return 0.1 * th.randn(seen.shape, generator=generator), zeros[: len(seen)]

    view = Context(stay, context().values, 0.9, 0, generator)
    tom = TOMWeighter(recent_size=200, discriminator_steps=200, q_steps=200)
    tom.build(1, 1)
    tom.fit(data, newest(data, 200), 1.0 + 0.3 * th.randn(50, 1, generator=generator), view)
    weights = tom.weights(data, view)
    assert float(weights[-200:].mean()) > 1.5
    assert float(weights[:500].mean()) < 0.3


def test_standardizer() -> None:
    columns = th.stack([th.full((100,), 1e6) + th.arange(100.0), th.full((100,), 0.1), th.arange(100.0) * 1e-9], dim=1)
    scale = Standardizer(3)
    assert th.equal(scale(columns), columns)  # until it is fitted
    scale.fit(moments_of_columns(100, lambda rows: columns[rows]))
    out = scale(columns)
    expected = (th.arange(100.0) - 49.5) / th.arange(100.0).std(correction=0)
    th.testing.assert_close(out[:, 0], expected, atol=1e-2, rtol=0.0)
    th.testing.assert_close(out[:, 1], th.zeros(100), atol=1e-6, rtol=0.0)
    th.testing.assert_close(out[:, 2], expected, atol=1e-4, rtol=0.0)
    assert float(scale(columns * 1e9).max()) == 10.0


@pytest.mark.parametrize("anneal", [True, False])
def test_learning_rates_fall_to_zero_if_they_are_annealed(anneal: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    rates: dict[str, list[float]] = {"discriminator": [], "dual": []}
    for module, found in zip((discriminator, dual), rates.values(), strict=True):
        monkeypatch.setattr(module, "set_learning_rate", lambda _, rate, *factors, found=found: found.append(rate))
    tom, data = built(anneal=anneal, discriminator_steps=4, q_steps=4, q_learning_rate=1e-3), transitions(200)
    tom.fit(data, newest(data), data.observations[:5], context())
    for name, first in (("discriminator", tom.settings.discriminator_learning_rate), ("dual", 1e-3)):
        assert rates[name] == pytest.approx([first * (1.0 - step / 4 * anneal) for step in range(4)]), name


def test_the_discriminators_weight_decay_is_that_of_the_settings() -> None:
    """Also where a loaded file had another."""
    tom, data = built(discriminator_weight_decay=0.02, discriminator_steps=1), transitions(200)
    tom.discriminator_optimizer.param_groups[0]["weight_decay"] = 0.5
    tom.discriminator.fit(data, newest(data), tom.discriminator_optimizer, context())
    assert tom.discriminator_optimizer.param_groups[0]["weight_decay"] == 0.02


def test_held_out_rows_are_blocks_of_each_env(monkeypatch: pytest.MonkeyPatch) -> None:
    """In the fit of Q and in the mean over s' alike: neighbours of a row would give it away."""
    counted = []
    for module, name in ((dual, "hold_out"), (averaging, "random_folds")):
        split = getattr(module, name)
        monkeypatch.setattr(module, name, lambda *args, split=split: (counted.append(args[-1]), split(*args))[1])
    tom = built(discriminator=False, q_steps=1, average_steps=1)
    fit_and_weigh(tom, transitions(600), replace(context(), n_envs=3))
    assert counted == [3, 3]


def test_weights_are_clipped_before_they_are_averaged(monkeypatch: pytest.MonkeyPatch) -> None:
    tom, data, given = built(max_weight=10.0), transitions(300), []
    tom.ready.fill_(1.0)
    raw = th.ones(300, dtype=th.float64).index_fill(0, th.tensor([7]), 1e6)
    monkeypatch.setattr(tom.dual, "weights", lambda *_: raw)
    monkeypatch.setattr(weighter, "average_next", lambda weights, *_: given.append(weights) or weights)
    tom.weights(data, context())
    assert float(given[0].max()) == pytest.approx(10.0 * float(raw.mean()))
