"""The TOM weighter: presets, repeatability, nasty data, state."""

import io
from typing import Any

import pytest
import torch as th

from sb3_tom import Context, TOMWeighter, Transitions
from sb3_tom.weighters import functional
from sb3_tom.weighters.settings import PRESETS

SMALL: dict[str, Any] = {
    "recent_size": 30,
    "discriminator_steps": 20,
    "q_steps": 20,
    "q_batch_size": 32,
    "discriminator_batch_size": 32,
}


def rows(n_rows: int, scale: float = 1.0, seed: int = 0) -> Transitions:
    generator = th.Generator().manual_seed(seed)
    observations = th.randn(n_rows, 3, generator=generator) * scale
    actions = th.rand(n_rows, 2, generator=generator) * 2 - 1
    terminated = (th.rand(n_rows, 1, generator=generator) < 0.1).float()
    return Transitions(observations, actions, observations + 0.1, actions[:, :1], terminated, th.arange(n_rows) // 10)


def context(seed: int = 0) -> Context:
    generator = th.Generator().manual_seed(seed)

    def policy(observations: th.Tensor) -> tuple[th.Tensor, th.Tensor]:
        noise = th.randn(len(observations), 2, generator=generator)
        return (noise + observations[:, :2]).tanh(), noise[:, :1]

    return Context(policy, lambda observations, actions: actions.t(), 0.99, 9, generator)


def weigh(weighter: TOMWeighter, data: Transitions, seed: int = 0) -> th.Tensor:
    shared = context(seed)
    recent = data.rows(th.arange(max(data.size - weighter.recent_size, 0), data.size))
    weighter.fit(data, recent, data.observations[:5], shared)
    return weighter.weights(data, shared)


def make(seed: int = 0, **arguments: Any) -> TOMWeighter:
    th.manual_seed(seed)
    weighter = TOMWeighter(**{**SMALL, **arguments})
    weighter.build(3, 2)
    return weighter


VARIANTS = [
    {},
    {"divergence": "kl"},
    {"preset": "official"},
    {"preset": "official", "divergence": "kl"},
    {"discriminator": False},
    {"terminal": "mask"},
    {"nonnegative": True, "mass_shift": False},
    {"occupancy_gamma": 0.5, "n_actions": 2, "pool_size": None},
]


@pytest.mark.parametrize("arguments", VARIANTS, ids=str)
@pytest.mark.parametrize("scale", [1.0, 0.0, 1e4])
def test_weights_are_usable_on_nasty_data(arguments: dict[str, Any], scale: float) -> None:
    weights = weigh(make(**arguments), rows(200, scale))
    assert weights.shape == (200,)
    assert bool(th.isfinite(weights).all())
    assert bool((weights >= 0).all())
    assert bool((weights > 0).any())


@pytest.mark.parametrize("arguments", VARIANTS, ids=str)
def test_equal_generators_give_equal_weights(arguments: dict[str, Any]) -> None:
    first, second = weigh(make(**arguments), rows(200)), weigh(make(**arguments), rows(200))
    assert th.equal(first, second)
    assert not th.equal(first, weigh(make(**arguments), rows(200), seed=1))


@pytest.mark.parametrize("preset", PRESETS)
def test_before_recent_is_full_weights_are_one(preset: str) -> None:
    weighter = make(preset=preset)
    before = {name: value.clone() for name, value in weighter.state_dict().items()}
    assert th.equal(weigh(weighter, rows(29)), th.ones(29, dtype=th.float64))
    assert all(th.equal(before[name], value) for name, value in weighter.state_dict().items())
    assert float(weigh(weighter, rows(31)).std()) > 0


@pytest.mark.parametrize("arguments", VARIANTS, ids=str)
def test_state_travels_exactly(arguments: dict[str, Any]) -> None:
    weighter, data = make(**arguments), rows(150)
    weigh(weighter, data)
    file = io.BytesIO()
    th.save(weighter.state_dict(), file)
    file.seek(0)
    other = make(seed=5, **arguments)
    other.load_state_dict(th.load(file, weights_only=True))
    assert th.equal(weighter.weights(data, context(3)), other.weights(data, context(3)))
    assert all(value.is_floating_point() for value in weighter.state_dict().values())


def test_the_variant_without_discriminator_marks_recent_rows_wherever_they_are() -> None:
    weighter, data = make(discriminator=False), rows(100)
    order = th.randperm(100, generator=th.Generator().manual_seed(0))
    weighter.fit(data.rows(order), data.rows(th.arange(70, 100)), data.observations[:5], context())
    assert th.equal(weighter.log_ratio(data.rows(order), context()), (order >= 70).float())


def test_official_preset_has_the_released_choices() -> None:
    released = PRESETS["official"]
    assert (released.buffer_label, released.gradient_penalty, released.train_encoders) == (0.1, 10.0, False)
    assert (released.terminal, released.q_persistent, released.n_actions, released.standardize) == ("mask", True, 1, False)
    weighter = make(preset="official")
    frozen = [parameter.clone() for parameter in weighter.discriminator.encoder.parameters()]
    trained = {id(p) for group in weighter.discriminator_optimizer.param_groups for p in group["params"]}
    assert not trained & {id(parameter) for parameter in weighter.discriminator.encoder.parameters()}
    assert frozen


def test_released_loss_and_weights_use_different_conjugates() -> None:
    y = th.tensor([-3.0, -1.0, 0.0, 2.0], requires_grad=True)
    released = functional.RELEASED_TERMS["chi2"](y) * 4
    corrected = functional.chi2_conjugate(y).sum()
    (slope,) = th.autograd.grad(released, y)
    (own_slope,) = th.autograd.grad(corrected, y)
    assert slope.tolist() == [-2.0, 0.0, 1.0, 3.0]  # negative where the weight is zero
    th.testing.assert_close(own_slope[[0, 2, 3]], functional.chi2_derivative(y.detach())[[0, 2, 3]])
    assert functional.chi2_conjugate(th.tensor(-5.0)) == -0.5


@pytest.mark.parametrize("name", functional.DIVERGENCES)
def test_conjugates_by_a_grid_search(name: str) -> None:
    """f_*(y) = max over x >= 0 of x y - f(x), and its maximiser is the derivative."""
    grid = th.linspace(0, 30, 300_001, dtype=th.float64)
    f = 0.5 * (grid - 1) ** 2 if name == "chi2" else th.xlogy(grid, grid) - grid + 1
    for y in (-4.0, -1.0, -0.3, 0.0, 0.7, 2.5):
        value, place = (grid * y - f).max(0)
        point = th.tensor(y, dtype=th.float64)
        assert float(functional.DIVERGENCES[name].conjugate(point)) == pytest.approx(float(value), abs=1e-6)
        assert float(functional.DIVERGENCES[name].derivative(point)) == pytest.approx(float(grid[place]), abs=2e-4)


@pytest.mark.parametrize("terminal", functional.TERMINAL)
@pytest.mark.parametrize("name", functional.DIVERGENCES)
def test_best_shift_fulfils_the_mass_identity(name: str, terminal: str) -> None:
    generator = th.Generator().manual_seed(0)
    y = th.randn(500, generator=generator, dtype=th.float64) * 3
    terminated = (th.rand(500, generator=generator) < 0.2).double()
    mass = functional.mass_coefficients(terminated, 0.95, terminal)
    derivative = functional.DIVERGENCES[name].derivative
    weights = derivative(y - functional.best_shift(y, mass, derivative) * mass)
    assert float((weights * mass).mean()) == pytest.approx(1.0, rel=1e-9)
    if terminal == "restart" and name == "kl":
        th.testing.assert_close(weights, 500 * y.softmax(0))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("divergence", "js"),
        ("preset", "paper"),
        ("q_steps", 0),
        ("q_learning_rate", "1e-3"),
        ("buffer_label", 0.5),
        ("terminal", "absorb"),
        ("max_weight", 0.5),
        ("uniform_mix", 1.5),
        ("n_actions", True),
        ("temperature", 2.0),
        ("standardize", 1),
        ("ratio_bound", 0),
    ],
)
def test_bad_arguments_are_named(name: str, value: object) -> None:
    with pytest.raises(ValueError, match=rf"{name}=.*allowed"):
        TOMWeighter(**{name: value})  # type: ignore[arg-type]
