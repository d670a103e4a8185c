"""Fits by VaGraM: what no unit changes, the noise beside the mean, the first fits, agents that learn with it."""

from typing import Any

import numpy as np
import pytest
import torch as th
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.vec_env import VecNormalize

from sb3_tom import MBPO, Context, DynamicsModel, Transitions
from sb3_tom.dynamics.holdout import split_rows
from sb3_tom.objectives.vagram import VaGraMObjective, squared_gradients
from tests.compute.tape import taped
from tests.dynamics.cases import built, make_data
from tests.mbpo.small import small_agent
from tests.objectives.vagram_cases import Fixed, looking_at, objective_of, toy_context, unit_data

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
    extras = objective.prepare(model, data, Context())
    plain = (model.targets(data) - 1.0).square().mean(-1).unsqueeze(0)
    th.testing.assert_close(objective.validation_error(model, data, extras), plain)
    later = objective_of(plain_fits=2)
    later.load_state_dict(objective.state_dict())
    assert th.equal(later.prepare(model, data, Context())["coefficients"], th.ones(30, 4))
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
