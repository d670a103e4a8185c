"""VaGraM's coefficients against finite differences, what its loss moves, and what no unit changes."""

from typing import Any

import numpy as np
import pytest
import torch as th
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.vec_env import VecNormalize

from sb3_tom import MBPO, Context, DynamicsModel, Transitions
from sb3_tom.contracts.dynamics import Prediction
from sb3_tom.dynamics.holdout import split_rows
from sb3_tom.objectives import vagram
from sb3_tom.objectives.vagram import VaGraMObjective, clip_factors, squared_gradients
from tests.compute.tape import taped
from tests.dynamics.cases import built, make_data
from tests.mbpo.small import small_agent

SCALES = [0.5, 2.0, 10.0, 0.1]
"""Of the reward and of three dimensions."""


class Fixed(DynamicsModel):
    """A model that says what it is told, or zeros."""

    def __init__(self, mean: th.Tensor | None = None, log_var: th.Tensor | None = None) -> None:
        super().__init__()
        self.said = Prediction(mean, log_var)

    def forward(self, observations: th.Tensor, actions: th.Tensor) -> Prediction:
        zeros = th.zeros(1, len(observations), len(SCALES))
        return Prediction(zeros, zeros) if self.said.mean is None else self.said

    def targets(self, batch: Transitions) -> th.Tensor:
        return th.cat([batch.rewards, batch.next_observations], dim=-1)

    def target_scales(self) -> th.Tensor:
        return th.tensor(SCALES)

    def regularization(self) -> th.Tensor:
        return th.zeros(())

    def log_likelihood(self, batch: Transitions) -> th.Tensor:
        raise NotImplementedError

    validation_error = sample = fit = log_likelihood  # type: ignore[assignment]


def toy_values(observations: Any, actions: Any, xp: Any = th) -> list[Any]:
    """Four critics, the last two the targets, that have nothing in common; of the action, too."""
    first, second, third = (observations[..., index] for index in range(3))
    action = actions[..., 0]
    return [
        xp.sin(first) * second + action * third,
        3.0 * first - second**2 * action,
        -5.0 * first + 0.1 * third**3 + action**2,
        xp.exp(-(third**2)) - 2.0 * second,
    ]


def toy_context(scale: Any = 1.0, reward_scale: float = 1.0) -> Context:
    """Critics of observations that are ``scale`` times as large, paid ``reward_scale`` times as much."""

    def critics(which: slice) -> Any:
        return lambda observations, actions: reward_scale * th.stack(toy_values(observations / scale, actions)[which])

    def mean_action(observations: th.Tensor) -> th.Tensor:
        return th.tanh((observations / scale).sum(-1, keepdim=True))

    def refuse(*_: th.Tensor) -> Any:
        raise AssertionError("nothing is random in value gradients")

    generator = th.Generator().manual_seed(0)
    return Context(refuse, critics(slice(2)), 0.99, 1, generator, target_values=critics(slice(2, 4)), mean_action=mean_action)


def objective_of(**arguments: Any) -> VaGraMObjective:
    objective = VaGraMObjective(**{"clip_quantile": 1.0, "plain_fits": 0, **arguments})
    objective.build(3, 2)
    return objective


def unit_data(n_rows: int) -> Transitions:
    data = make_data(n_rows)
    return data._replace(next_observations=data.next_observations / th.tensor([1.0, 20.0, 0.05]))


def by_finite_differences(following: th.Tensor) -> np.ndarray:
    """Mean over critics of the squared derivative ``[N, 3]``, row by row and dimension by dimension, the action held."""
    result = np.zeros(following.shape)
    for row, state in enumerate(following.double().numpy()):
        action = np.tanh(state.sum(keepdims=True))
        for dim in range(3):
            step = np.eye(3)[dim] * 1e-6
            above, below = (np.array(toy_values(state + sign * step, action, np)) for sign in (1, -1))
            result[row, dim] = (((above - below) / 2e-6) ** 2).mean()
    return result


def test_coefficients_are_those_of_finite_differences() -> None:
    data = unit_data(9)
    with th.no_grad():  # a fit may be within it
        coefficients = objective_of().prepare(Fixed(), data, toy_context())["coefficients"].double().numpy()
    expected = np.concatenate([np.ones((9, 1)), by_finite_differences(data.next_observations)], axis=1) * np.square(SCALES)
    np.testing.assert_allclose(coefficients, expected / expected.mean(), rtol=2e-4, atol=1e-7)
    assert not any(field.requires_grad for field in data)


def test_large_data_come_in_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    data = unit_data(20)
    whole = objective_of(clip_quantile=0.7).prepare(Fixed(), data, toy_context())["coefficients"]
    monkeypatch.setattr(vagram, "rows_at_once", lambda *_: 3)
    pieces = objective_of(clip_quantile=0.7).prepare(Fixed(), data, toy_context())["coefficients"]
    th.testing.assert_close(pieces, whole)


def test_the_loss_moves_each_mean_by_its_coefficient_and_each_variance_by_the_likelihood() -> None:
    data, generator = unit_data(10), th.Generator().manual_seed(1)
    batch = Transitions(*(field.unflatten(0, (2, 5)) for field in data))
    mean, log_var = (th.randn(2, 5, 4, generator=generator).requires_grad_() for _ in range(2))
    weights, coefficients = (th.rand(shape, generator=generator) for shape in ((2, 5), (2, 5, 4)))
    model = Fixed(mean, log_var)
    extras = {"coefficients": coefficients, "emphasis": th.full((2, 5, 1), 3.0)}
    objective_of().loss(model, batch, weights, extras).backward()
    errors = (mean - model.targets(batch)).detach()
    share = weights.unsqueeze(-1) / (5 * 4)
    th.testing.assert_close(mean.grad, share * 3.0 * 2.0 * coefficients * errors)
    th.testing.assert_close(log_var.grad, share * (1.0 - errors.square() / log_var.detach().exp()))
    held = objective_of().validation_error(model, batch, extras)
    th.testing.assert_close(held.detach(), (coefficients * errors.square()).mean(-1))


def looking_at(*dims: int) -> Context:
    """Critics that are functions of some dimensions only."""

    def values(observations: th.Tensor, actions: th.Tensor) -> th.Tensor:
        seen = th.stack([observations[:, dim].sin() for dim in dims], -1) if dims else 0.0 * observations
        return th.stack([seen.sum(-1), 7.0 - 2.0 * seen.sum(-1)])

    generator = th.Generator().manual_seed(0)
    return Context(
        lambda observations: pytest.fail("asked"), values, 0.99, 1, generator,
        target_values=values, mean_action=lambda observations: observations[:, :2],
    )  # fmt: skip


def test_what_no_critic_sees_has_no_weight() -> None:
    data = unit_data(50)
    coefficients = objective_of().prepare(Fixed(), data, looking_at(0, 2))["coefficients"]
    assert bool((coefficients[:, 2] == 0.0).all()) and bool((coefficients[:, [0, 1, 3]] > 0.0).all())
    assert float(coefficients.mean()) == pytest.approx(1.0)


@pytest.mark.parametrize("quantile", [0.95, 1.0])
def test_of_a_constant_value_the_error_of_the_reward_is_left(quantile: float) -> None:
    data = unit_data(50)
    extras = objective_of(clip_quantile=quantile).prepare(Fixed(), data, looking_at())
    assert th.equal(extras["coefficients"], th.tensor([4.0, 0.0, 0.0, 0.0]).expand(50, -1))
    mean = th.zeros(1, 50, 4)
    held = objective_of().validation_error(Fixed(mean, mean), data, extras)
    th.testing.assert_close(held, data.rewards.square().t())


def test_the_clip_bounds_rows_by_the_quantile_of_all() -> None:
    data, context = unit_data(40), toy_context()
    free = objective_of().prepare(Fixed(), data, context)["coefficients"]
    bound = objective_of(clip_quantile=0.9).prepare(Fixed(), data, context)["coefficients"]
    free, bound = free / free[:1, :1], bound / bound[:1, :1]  # in units of the reward's, which no clip touches
    norms, clipped = free[:, 1:].sum(-1), bound[:, 1:].sum(-1)
    limit = norms.sort().values[35]
    assert int((norms > limit).sum()) == 4
    th.testing.assert_close(clipped, norms.clamp(max=float(limit)))
    th.testing.assert_close(bound[:, 1:] / clipped.unsqueeze(-1), free[:, 1:] / norms.unsqueeze(-1))  # the same direction


def test_a_quantile_of_zero_gradients_is_no_nan() -> None:
    assert clip_factors(th.tensor([[0.0], [0.0], [3.0]]), 0.5).flatten().tolist() == [1.0, 1.0, 0.0]
    assert clip_factors(th.tensor([[0.0], [2.0], [8.0]]), 0.6).flatten().tolist() == [1.0, 1.0, 0.25]


def test_each_critic_has_its_own_gradient_and_keeps_none() -> None:
    layer = th.nn.Linear(3, 2)
    context = looking_at(0)

    def values(observations: th.Tensor, actions: th.Tensor) -> th.Tensor:
        return layer(observations).t()

    opposite = Context(
        context.policy, values, 0.99, 1, context.generator,
        target_values=lambda *asked: -values(*asked), mean_action=context.mean_action,
    )  # fmt: skip
    squares = squared_gradients(th.randn(4, 3), opposite)
    th.testing.assert_close(squares, layer.weight.detach().square().mean(0).expand(4, -1))  # and not 0, their signed mean's
    assert layer.weight.grad is None and not squares.requires_grad


FIT: dict[str, Any] = {"max_epochs": 3, "first_max_epochs": 3, "steps_per_epoch": 20}


def fitted(kind: str, data: Transitions, context: Context, n_fits: int = 2, **arguments: Any) -> DynamicsModel:
    """A plain fit, then those by value."""
    model, objective = built(kind, **FIT), objective_of(**{"plain_fits": 1, "clip_quantile": 0.9, **arguments})
    for _ in range(n_fits):
        model.fit(data, th.ones(data.size), objective, context)
    return model


@pytest.mark.parametrize("kind", ["ensemble", "smooth", "mdn"])
def test_units_change_nothing_of_what_is_learned(kind: str) -> None:
    """Scales that are powers of two are exact: all networks are the same to the last bit."""
    data, scale = unit_data(200), th.tensor([2.0, 64.0, 0.125])
    data = data._replace(observations=data.observations / th.tensor([1.0, 20.0, 0.05]))
    scaled = data._replace(
        observations=data.observations * scale, next_observations=data.next_observations * scale, rewards=data.rewards * 8.0
    )
    one = fitted(kind, data, toy_context())
    two = fitted(kind, scaled, toy_context(scale, 8.0))
    for (name, parameter), other in zip(one.named_parameters(), two.parameters(), strict=True):
        assert th.equal(parameter, other), name


@pytest.mark.parametrize("plain_fits", [0, 1])
@pytest.mark.parametrize("n_rows", [40, 12_000])
def test_the_emphasis_is_one_over_the_error_at_the_beginning(n_rows: int, plain_fits: int) -> None:
    data, objective = unit_data(n_rows), objective_of(plain_fits=plain_fits)
    extras = objective.prepare(Fixed(), data, toy_context())
    error = float(objective.validation_error(Fixed(), data, extras).mean())
    assert extras["emphasis"].shape == (n_rows, 1) and bool((extras["emphasis"] == extras["emphasis"][0]).all())
    assert float(extras["emphasis"][0]) == pytest.approx(1.0 / error, rel=1e-4 if n_rows == 40 else 0.1)


def test_without_any_error_there_is_an_emphasis() -> None:
    data = unit_data(40)
    right = Fixed(Fixed().targets(data).unsqueeze(0), th.zeros(1, 40, 4))
    assert bool((objective_of().prepare(right, data, toy_context())["emphasis"] == 1.0).all())


def error_after_fits(kind: str) -> float:
    """The mean squared error in unit scale, by plain fits to a system without noise."""
    data, scale = make_data(1000), th.tensor([1.0, 20.0, 0.05])
    change = th.sin(data.observations / scale) + data.actions[:, :1]
    data = data._replace(next_observations=data.observations + scale * change, rewards=change[:, :1])
    model, objective = built(kind, learning_rate=5e-3, **FIT), objective_of(plain_fits=8)
    for _ in range(8):
        model.fit(data, th.ones(data.size), objective, toy_context())
    with th.no_grad():
        return float((model.targets(data) - model(data.observations, data.actions).mean).square().mean())


@pytest.mark.parametrize("kind", ["ensemble", "mdn"])
def test_the_noise_does_not_drown_the_mean(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without an emphasis the gradients of small variances outweigh those of small errors, and a model stops learning."""
    error = error_after_fits(kind)
    monkeypatch.setattr(VaGraMObjective, "_level", lambda *_: th.ones(()))
    assert error < 0.5 * error_after_fits(kind)


@pytest.mark.parametrize("kind", ["ensemble", "mdn"])
def test_the_model_knows_what_is_valued_and_how_little_it_knows_of_the_rest(kind: str) -> None:
    """What is valued is known better than the rest, and the variances tell both."""
    data = make_data(1000)
    model = fitted(kind, data, looking_at(0), n_fits=20, plain_fits=0)
    with th.no_grad():
        mean, log_var = model(data.observations, data.actions)
        squares = (model.targets(data) - mean).square()
        calibration = (squares / log_var.exp()).mean((0, 1))
    errors = squares.mean((0, 1))
    assert float(errors[:2].max()) < float(errors[2:].min()), errors
    assert 0.6 < float(calibration.min()) and float(calibration.max()) < 1.7, calibration


def test_its_own_error_of_held_out_rows_decides() -> None:
    data, context, objective = make_data(300), looking_at(1), objective_of()
    model = built("ensemble", **FIT)
    figures = model.fit(data, th.ones(300), objective, context)
    held = split_rows(th.arange(300), 0.2, 5000)[1]
    extras = {name: values[held] for name, values in objective.prepare(model, data, context).items()}
    with th.no_grad():
        errors = objective.validation_error(model, data.rows(held), extras).mean(-1)
    assert sorted(model.elites.tolist()) == sorted(errors.argsort()[:2].tolist())
    assert figures["validation_error"] == pytest.approx(float(errors.sort().values[:2].mean()), rel=1e-5)


def test_the_first_fits_are_plain_and_counted_across_files() -> None:
    objective, data, model = objective_of(plain_fits=2), unit_data(30), Fixed(th.ones(1, 30, 4), th.zeros(1, 30, 4))
    refused = Context(*[None] * 5)  # type: ignore[arg-type]
    extras = objective.prepare(model, data, refused)
    plain = (model.targets(data) - 1.0).square().mean(-1).unsqueeze(0)
    th.testing.assert_close(objective.validation_error(model, data, extras), plain)
    later = objective_of(plain_fits=2)
    later.load_state_dict(objective.state_dict())
    assert th.equal(later.prepare(model, data, refused)["coefficients"], th.ones(30, 4))
    assert float(later.prepare(model, data, toy_context())["coefficients"].std()) > 0.0


def test_recorded_steps_are_the_eager_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    eager = fitted("ensemble", make_data(200), looking_at(0, 1)).state_dict()
    with taped(monkeypatch) as tape:
        recorded = fitted("ensemble", make_data(200), looking_at(0, 1)).state_dict()
    assert tape.recordings == 2
    th.testing.assert_close(recorded, eager, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("normalized", [False, True])
@pytest.mark.parametrize("dynamics", ["ensemble", "mdn"])
def test_an_agent_learns_with_it(dynamics: str, normalized: bool) -> None:
    """Two phases by value after a plain one; the gradients are those of the critics, in the env's own units."""
    env: Any = make_vec_env("Pendulum-v1", 2)
    env = VecNormalize(env) if normalized else env
    kwargs = {"objective": "vagram", "objective_kwargs": {"plain_fits": 1}, "real_ratio": (50, 100, 1.0, 0.1)}
    agent = small_agent(env, dynamics=dynamics, **kwargs).learn(104)
    assert int(agent.objective.n_fits) == agent._context().policy_version == 3
    data = agent.replay_buffer.transitions()
    squares = squared_gradients(data.next_observations, agent._context())
    seen, obs_scale, unit = data.next_observations.double(), 1.0, 1.0
    if normalized:
        obs_scale = th.as_tensor(np.sqrt(env.obs_rms.var + env.epsilon))
        seen = ((seen - th.as_tensor(env.obs_rms.mean)) / obs_scale).clamp(-10.0, 10.0)
        unit = float(np.sqrt(env.ret_rms.var + env.epsilon))
    seen = seen.float().requires_grad_()
    actions = agent.actor(seen, deterministic=True).detach()
    expected = th.zeros(data.size, 3, dtype=th.float64)
    for networks in (agent.critic, agent.critic_target):
        for values in networks(seen, actions):
            (gradient,) = th.autograd.grad(values.sum(), seen, retain_graph=True)
            expected += (unit * gradient.double() / obs_scale).square() / 4.0
    th.testing.assert_close(squares.double(), expected, rtol=1e-4, atol=1e-8)
    assert bool((squares > 0.0).any())


def test_by_its_name_and_who_refuses_it() -> None:
    agent = MBPO("MlpPolicy", "Pendulum-v1", objective="vagram", objective_kwargs={"plain_fits": 7}, buffer_size=100)
    assert (agent.objective.plain_fits, agent.objective.is_likelihood) == (7, False)
    with pytest.raises(ValueError, match="LinearDynamics cannot be fitted with objective=VaGraMObjective"):
        MBPO("MlpPolicy", "Pendulum-v1", objective="vagram", dynamics="linear", buffer_size=100)
    for arguments in ({"clip_quantile": 0.0}, {"clip_quantile": 1.1}, {"plain_fits": -1}, {"plain_fits": "a"}):
        ((name, _),) = arguments.items()
        with pytest.raises(ValueError, match=f"{name}="):
            VaGraMObjective(**arguments)  # type: ignore[arg-type]
