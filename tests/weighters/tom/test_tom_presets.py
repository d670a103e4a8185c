"""TOMWeighter's arguments and presets, and the released code's choices that the official preset repeats."""

import copy
from dataclasses import fields
from typing import Any

import pytest
import torch as th

from sb3_tom.weighters.tom import settings as settings_module
from sb3_tom.weighters.tom.discriminator import TransitionDiscriminator
from sb3_tom.weighters.tom.networks import reinitialize
from sb3_tom.weighters.tom.settings import PRESETS, TOMSettings
from sb3_tom.weighters.tom.weighter import TOMWeighter
from tests.weighters.small import built, context, fit_and_weigh, newest, transitions


def test_the_documented_table_is_the_presets() -> None:
    lines = str(settings_module.__doc__).splitlines()
    edge = next(line for line in lines if line.startswith("=="))
    ends = [position for position in range(len(edge)) if edge[position : position + 2] == "= "]
    columns = [slice(0, ends[0] + 1), slice(ends[0] + 1, ends[1] + 1), slice(ends[1] + 1, ends[2] + 1)]
    first, last = (position for position, line in enumerate(lines) if line == edge and lines[position - 1] != "")
    table = {row[0]: row[1:] for row in ([line[column].strip() for column in columns] for line in lines[first + 1 : last])}
    expected = {
        field.name: [repr(getattr(PRESETS[name], field.name)).replace("'", '"') for name in ("default", "official")]
        for field in fields(TOMSettings)
    }
    assert table == expected


def test_an_argument_replaces_one_value_of_the_preset() -> None:
    tom = TOMWeighter(preset="official", buffer_label=0.0, max_weight=None)
    assert tom.settings == settings_module.tom_settings("official", {"buffer_label": 0.0, "max_weight": None})
    assert tom.settings.gradient_penalty == 10.0
    assert (tom.max_weight, tom.recent_size, tom.uniform_mix, tom.ess_floor) == (None, 1000, 0.0, 0.0)


def test_the_divergence_is_the_presets_unless_it_is_given() -> None:
    assert [TOMWeighter(preset=name).settings for name in PRESETS] == list(PRESETS.values())
    assert TOMWeighter("chi2").settings == settings_module.tom_settings("default", {"divergence": "chi2"})
    assert TOMWeighter("kl", "official").settings == settings_module.tom_settings("official", {"divergence": "kl"})


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"divergence": "js"}, r"divergence='js' is not allowed; allowed: one of \['chi2', 'kl'\]"),
        ({"preset": "paper"}, r"preset='paper' is not allowed; allowed: one of \['default', 'official'\]"),
        ({"learning_rate": 1e-3}, "learning_rate=0.001 is not an argument of TOMWeighter; allowed: .*q_learning_rate"),
        ({"q_learning_rate": "3e-4"}, "q_learning_rate='3e-4' is not allowed"),
        ({"q_learning_rate": 0.0}, "q_learning_rate=0.0 is not allowed"),
        ({"q_steps": 0}, "q_steps=0 is not allowed"),
        ({"q_steps": True}, "q_steps=True is not allowed"),
        ({"discriminator": 1}, "discriminator=1 is not allowed; allowed: True or False"),
        ({"discriminator_arch": ()}, "discriminator_arch=.* at least 1 integers"),
        ({"q_arch": "64"}, "q_arch='64' is not allowed"),
        ({"buffer_label": 0.5}, "buffer_label=0.5 is not allowed"),
        ({"pool_size": 0}, "pool_size=0 is not allowed"),
        ({"block_steps": 0}, "block_steps=0 is not allowed"),
        ({"block_steps": 100, "folds": 1}, "block_steps=100 is not allowed with folds=1"),
        ({"block_steps": 100, "discriminator": False}, "block_steps=100 is not allowed with discriminator=False"),
        ({"block_steps": 201}, "block_steps=201 is not allowed with recent_size=1000 and folds=5; allowed: at most 200"),
        ({"max_weight": 0.5}, "max_weight=0.5 is not allowed"),
        ({"uniform_mix": 1.5}, "uniform_mix=1.5 is not allowed"),
        ({"terminal": "absorb"}, "terminal='absorb' is not allowed"),
        ({"occupancy_gamma": 1.5}, "occupancy_gamma=1.5 is not allowed"),
        ({"occupancy_gamma": 1.0, "terminal": "mask"}, r"occupancy_gamma=1.0 is not allowed with terminal='mask'"),
        ({"nonnegative": True}, "nonnegative=True is not allowed with mass_shift=True"),
    ],
)
def test_bad_arguments(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        TOMWeighter(**arguments)


def test_a_discount_of_one_needs_restarts() -> None:
    data, view = transitions(200), context(gamma=1.0)
    with pytest.raises(ValueError, match=r"gamma=1.0 is not allowed with terminal='mask'"):
        fit_and_weigh(built(terminal="mask"), data, view)
    assert float(fit_and_weigh(built(), data, view).mean()) == pytest.approx(1.0)


def test_official_discriminator_keeps_its_encoders() -> None:
    """Three encoders of 128, a joint layer of 256; the optimiser learns only what comes after the encoders."""
    tom, data, view = built(preset="official"), transitions(200), context()
    shapes = {name: tuple(value.shape) for name, value in tom.discriminator.named_parameters() if "weight" in name}
    assert sorted(shapes.values()) == [(1, 256), (128, 2), (128, 3), (128, 3), (256, 384)]
    untrained = TransitionDiscriminator(3, 2, tom.settings)
    reinitialize(untrained, copy.deepcopy(view.generator))
    tom.fit(data, newest(data), data.observations[:5], view)
    initial, trained = untrained.state_dict(), tom.discriminator.state_dict()
    changed = {name for name in initial if not th.equal(initial[name], trained[name])}
    assert changed == {name for name in initial if name.startswith("head")}


def test_default_learns_its_first_layer() -> None:
    tom = built()
    assert len(tom.discriminator_optimizer.param_groups[0]["params"]) == len(list(tom.discriminator.parameters()))


def test_what_the_discriminators_see() -> None:
    data = transitions(200)
    raw = built(preset="official").discriminator.features(data, data.actions[:, :0])
    assert th.equal(raw, th.cat([data.observations, data.actions, data.next_observations], dim=1))
    tom = built()
    tom.fit(data, newest(data), data.observations[:5], context())
    seen = tom.discriminator.features(data, data.actions[:, :0])
    delta = data.next_observations - data.observations
    expected = th.cat([data.observations, data.actions, delta], dim=1)
    th.testing.assert_close(seen, ((expected - expected.mean(0)) / expected.std(0, correction=0)).clamp(-10, 10))


@pytest.mark.parametrize("label", [0.0, 0.1])
def test_logit_of_a_discriminator(label: float) -> None:
    """On two values with the frequencies p and q the logit goes to log((p + label q) / ((1 - label) q))."""
    share_recent, share_buffer = th.tensor([0.2, 0.8]), th.tensor([0.6, 0.4])
    data, recent = (
        transitions(1000)._replace(observations=th.cat([th.zeros(round(1000 * float(share[0])), 3), th.ones(1000, 3)])[:1000])
        for share in (share_buffer, share_recent)
    )
    plain = {"actions": th.zeros(1000, 2), "next_observations": th.zeros(1000, 3)}
    data, recent = data._replace(**plain), recent._replace(**plain)
    tom = built(
        folds=1,  # of these two trajectories a fold is no sample
        buffer_label=label,
        delta_input=False,
        discriminator_weight_decay=0.0,
        discriminator_steps=400,
        discriminator_batch_size=512,
        discriminator_learning_rate=1e-2,
        discriminator_arch=(16,),
    )
    tom.discriminator.fit(data, recent, tom.discriminator_optimizer, context())
    logits = tom.discriminator.log_ratio(data.rows(th.tensor([0, 999])), context())
    expected = ((share_recent + label * share_buffer) / ((1 - label) * share_buffer)).log()
    th.testing.assert_close(logits, expected, atol=0.1, rtol=0.0)


def test_gradient_penalty() -> None:
    """For the linear function f(x) = g.x it is (|g| - 1)^2, wherever it is evaluated."""
    tom = built(preset="official", discriminator_arch=(4,), separate_encoders=False)
    tom.discriminator.forward = lambda features: features @ th.tensor([3.0, 0, 0, 0, 0, 0, 0, 4.0])  # type: ignore[method-assign]
    ours, theirs = th.randn(2, 16, 8)
    penalty = tom.discriminator._gradient_penalty(ours, theirs, th.rand(16, 1))
    assert float(penalty) == pytest.approx(16.0, rel=1e-5)


def test_ratio_is_bounded() -> None:
    tom, data = built(ratio_bound=0.01, discriminator_steps=100), transitions(200)
    data = data._replace(observations=data.observations + (th.arange(200) >= 150).float().unsqueeze(1))
    tom.fit(data, newest(data), data.observations[:5], context())
    assert float(tom.log_ratio(data, context()).abs().max()) == pytest.approx(0.01)


@pytest.mark.parametrize("divergence", ["chi2", "kl"])
def test_official_loss_and_weight_differ_and_default_ones_do_not(divergence: str) -> None:
    """The gradient of the loss in the log-ratio is the weight, unless the released terms are used."""
    y = th.tensor([-2.5, -0.3, 1.2], requires_grad=True)
    for preset, consistent in (("default", True), ("official", False)):
        dual = built(preset=preset, divergence=divergence).dual
        (gradient,) = th.autograd.grad(dual._conjugate_mean(y), y)
        assert th.allclose(3 * gradient, dual.divergence.derivative(y.detach())) is consistent


def test_without_discriminator_recent_rows_have_ratio_one() -> None:
    """Decided by the values of a row, wherever in the ring it is; rows that differ in one entry are others."""
    data = transitions(400)
    order = th.randperm(400)
    tom, view = built(discriminator=False), context()
    tom.fit(data.rows(order), newest(data), data.observations[:5], view)
    assert th.equal(tom.log_ratio(data.rows(order), view), (order >= 350).float())
    other = data.rows(th.arange(350, 400))
    for name in ("observations", "actions", "next_observations"):
        column = getattr(other, name).clone()
        column[:, 0] += 1e-3
        assert tom.log_ratio(other._replace(**{name: column}), view).sum() == 0
    signed_zero = other._replace(observations=other.observations * 0.0)
    tom.footprint.remember(signed_zero)
    assert tom.footprint.contains(other._replace(observations=-other.observations.abs() * 0.0)).all()
