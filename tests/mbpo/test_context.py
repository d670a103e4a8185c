"""What plugs may ask of the agent beside samples and values: given actions, mean actions, a frozen policy, the model."""

from pathlib import Path
from typing import Any

import pytest
import torch as th
from stable_baselines3 import SAC
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.vec_env import VecNormalize

from sb3_tom import MBPO
from sb3_tom.contracts.context import Context
from sb3_tom.mbpo.context import make_context
from tests.mbpo.small import SMALL_MODELS, small_agent
from tests.policy_updates.sac.test_policy_update import OwnPolicy


def plain_sac(**kwargs: Any) -> SAC:
    env = VecNormalize(make_vec_env("Pendulum-v1"))
    agent = SAC("MlpPolicy", env, policy_kwargs={"net_arch": [16]}, seed=0, device="cpu", buffer_size=100, **kwargs)
    env.obs_rms.mean += 0.5
    return agent


def context_of(agent: SAC) -> Context:
    return make_context(agent, th.Generator().manual_seed(0))


@pytest.mark.parametrize("use_sde", [False, True])
def test_probabilities_of_given_actions_are_those_of_the_samples(use_sde: bool) -> None:
    """A view needs no more than SB3's own SAC."""
    agent = plain_sac(use_sde=use_sde)
    context, observations = context_of(agent), 2.0 * th.randn(500, 3)
    with th.no_grad():
        actions, expected = context.policy(observations)
        found = context.log_prob(observations, actions)
        unsaturated = actions.abs() < 0.99  # 1 - a^2 loses digits beside 1
        th.testing.assert_close(found[unsaturated], expected[unsaturated], rtol=1e-3, atol=1e-3)
        assert int(unsaturated.sum()) > 250
        assert bool(th.isfinite(context.log_prob(observations, th.ones(500, 1))).all())


def test_probabilities_integrate_to_one() -> None:
    context = context_of(plain_sac())
    grid = th.linspace(-1.0, 1.0, 20_001).unsqueeze(1)
    with th.no_grad():
        density = context.log_prob(th.tensor([[0.3, -0.2, 1.0]]).expand(len(grid), 3), grid).exp().flatten()
    assert float(th.trapezoid(density, grid.flatten())) == pytest.approx(1.0, abs=2e-3)


def test_mean_actions_are_what_the_agent_predicts() -> None:
    agent = plain_sac()
    observations = th.randn(50, 3)
    predicted, _ = agent.predict(agent.env.normalize_obs(observations.numpy()), deterministic=True)
    with th.no_grad():
        actions = context_of(agent).mean_action(observations)
    th.testing.assert_close(2.0 * actions, th.from_numpy(predicted), rtol=1e-5, atol=1e-5)  # torques of Pendulum: [-2, 2]


@pytest.mark.parametrize("use_sde", [False, True])
def test_a_snapshot_stays_what_it_was(use_sde: bool) -> None:
    agent = plain_sac(use_sde=use_sde)
    context, observations = context_of(agent), th.randn(20, 3)
    snapshot = context.snapshot()
    with th.no_grad():
        before = snapshot.mean_action(observations)
        actions, _ = snapshot(observations)
        log_prob = snapshot.log_prob(observations, actions)
        assert th.equal(before, context.mean_action(observations))
        for parameter in agent.actor.parameters():
            parameter.add_(0.1)
        agent.env.obs_rms.mean += 3.0
        assert th.equal(snapshot.mean_action(observations), before)
        assert th.equal(snapshot.log_prob(observations, actions), log_prob)
        assert not th.allclose(context_of(agent).mean_action(observations), before)
    assert agent.actor.optimizer is not None, "the optimiser was taken away"
    assert all(parameter.requires_grad for parameter in agent.actor.parameters())


def test_the_model_is_there_to_read() -> None:
    agent = small_agent().learn(80)
    model, rows = agent._context().model, agent.replay_buffer.transitions().rows(th.arange(5))
    assert th.equal(model.validation_error(rows), agent.dynamics.validation_error(rows))
    assert th.equal(model.targets(rows), agent.dynamics.targets(rows))
    for verb in ("fit", "parameters", "load_state_dict", "requires_grad_", "to"):
        assert not hasattr(model, verb), verb


@pytest.mark.parametrize("dynamics", SMALL_MODELS)
def test_a_model_says_whether_it_was_fitted(dynamics: str, tmp_path: Path) -> None:
    agent = small_agent(dynamics=dynamics).learn(40)
    context = agent._context()
    assert context.model.is_fitted is False
    agent.save(tmp_path / "unfitted")
    agent.fit_model()
    assert context.model.is_fitted is True
    agent.save(tmp_path / "fitted")
    for name in ("fitted", "unfitted"):
        assert MBPO.load(tmp_path / name, "Pendulum-v1")._context().model.is_fitted is (name == "fitted")


@pytest.mark.parametrize("n_envs", [1, 2])
def test_rows_are_numbered_as_they_came(n_envs: int) -> None:
    agent = small_agent(make_vec_env("Pendulum-v1", n_envs), buffer_size=30, learning_starts=100).learn(48)
    data, context = agent.replay_buffer.transitions(), agent._context()
    numbers = context.arrivals(data)
    assert numbers.sort().values.tolist() == list(range(18, 48))
    oldest_first = agent.replay_buffer.newest_rows(30)
    assert numbers[oldest_first].tolist() == list(range(18, 48))


def test_what_is_not_there_says_so() -> None:
    context = Context()
    state, pair = th.zeros(1, 3), (th.zeros(1, 3), th.zeros(1, 1))
    for ask, arguments in (
        (context.snapshot, ()),
        (context.policy, (state,)),
        (context.mean_action, (state,)),
        (context.values, pair),
        (context.target_values, pair),
    ):
        with pytest.raises(ValueError, match="this context was made without that part of an agent; allowed: "):
            ask(*arguments)
    own = small_agent(policy_kwargs={"net_arch": [8]})._context(lambda observations: (observations, observations))
    with pytest.raises(ValueError, match="without that part"):
        own.log_prob(th.zeros(1, 3), th.zeros(1, 1))


def test_the_actor_of_a_user_is_not_asked_for_what_it_may_not_know() -> None:
    agent = SAC(OwnPolicy, "Pendulum-v1", buffer_size=10, device="cpu")
    with pytest.raises(ValueError, match="log-probability of an action of OwnActor is not known; allowed: SB3's Actor"):
        context_of(agent).log_prob(th.zeros(1, 3), th.zeros(1, 1))
    with pytest.raises(ValueError, match="the Gaussian of OwnActor is not known; allowed: SB3's Actor"):
        context_of(agent).snapshot().gaussian(th.zeros(1, 3))


def test_a_sampling_that_a_user_has_patched_is_the_one_of_rollouts() -> None:
    """As it is that of the policy's update."""
    agent = small_agent(dynamics="linear").learn(60)
    agent.actor.action_log_prob = lambda seen: (th.full((len(seen), 1), 0.25), th.zeros(len(seen)))
    context = agent._context()
    assert context.policy(th.randn(4, 3))[0].flatten().tolist() == [0.25] * 4
    assert context.sample_actions(th.randn(4, 3), 2).flatten().tolist() == [0.25] * 8
    agent.imagined.clear()
    agent.imagine()
    assert bool((agent.imagined.gather(th.arange(agent.imagined.size))[1] == 0.25).all())
    with pytest.raises(
        ValueError, match="log-probability of an action of Actor is not known; allowed: SB3's Actor, not patched"
    ):
        context.log_prob(th.zeros(1, 3), th.zeros(1, 1))


def test_the_entropy_coefficient_is_the_one_that_is_used() -> None:
    agent = plain_sac()
    assert float(context_of(agent).ent_coef) == pytest.approx(float(agent.log_ent_coef.exp()))
    agent.ent_coef_optimizer, agent.ent_coef_tensor = None, th.tensor(0.0123)
    assert float(context_of(agent).ent_coef) == pytest.approx(0.0123)
    assert float(context_of(plain_sac(ent_coef=0.3)).ent_coef) == pytest.approx(0.3)


@pytest.mark.parametrize("use_sde", [False, True])
def test_the_gaussian_is_what_tanh_makes_actions_of(use_sde: bool) -> None:
    """Oracle: SB3's own distribution."""
    agent, observations = plain_sac(use_sde=use_sde), th.randn(30, 3)
    seen = th.as_tensor(agent.env.normalize_obs(observations.numpy()), dtype=th.float32)
    with th.no_grad():
        mean, log_std = context_of(agent).snapshot().gaussian(observations)
        agent.actor.action_log_prob(seen)
        own = agent.actor.action_dist.distribution
        th.testing.assert_close(mean, own.mean, rtol=1e-5, atol=1e-5)
        th.testing.assert_close(log_std.exp(), own.stddev, rtol=1e-5, atol=1e-5)
        th.testing.assert_close(mean.tanh(), context_of(agent).mean_action(observations), rtol=1e-4, atol=1e-4)


def test_observations_that_are_not_normalised_are_not_clipped_either() -> None:
    """``VecNormalize`` of rewards alone has a bound that it does not use."""
    env = VecNormalize(make_vec_env("Pendulum-v1"), norm_obs=False)
    agent, observations = SAC("MlpPolicy", env, buffer_size=10, device="cpu"), 100.0 * th.randn(20, 3)
    with th.no_grad():
        then = context_of(agent).snapshot()
        expected = then.gaussian(observations)
        then.restore(then.state())
        for found, one in zip(then.gaussian(observations), expected, strict=True):
            th.testing.assert_close(found, one, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("use_sde", [False, True])
@pytest.mark.parametrize("normalized", [False, True])
def test_a_snapshot_becomes_another_one(use_sde: bool, normalized: bool) -> None:
    """Networks, exploration and the units of ``VecNormalize`` alike; and the agent stays as it is."""
    agent, observations = plain_sac(use_sde=use_sde), th.randn(20, 3)
    if not normalized:
        agent = SAC("MlpPolicy", "Pendulum-v1", use_sde=use_sde, buffer_size=10, device="cpu")
    with th.no_grad():
        then = context_of(agent).snapshot()
        state, expected = then.state(), then.gaussian(observations)
        for parameter in agent.actor.parameters():
            parameter.add_(0.1)
        if normalized:
            agent.env.obs_rms.mean += 3.0
            agent.env.obs_rms.var *= 2.0
        now = {name: value.clone() for name, value in agent.policy.state_dict().items()}
        later = context_of(agent).snapshot()
        assert not th.allclose(later.gaussian(observations)[0], expected[0])
        later.restore(state)
        for found, one in zip(later.gaussian(observations), expected, strict=True):
            th.testing.assert_close(found, one, rtol=1e-6, atol=1e-6)
        assert th.equal(later.state(), state) and state.dtype == th.float32
        later.restore(th.zeros_like(state))
        th.testing.assert_close(then.gaussian(observations), expected, rtol=0.0, atol=0.0)
    assert all(th.equal(now[name], value) for name, value in agent.policy.state_dict().items())


def test_values_are_not_drawn_while_a_policy_update_trains_the_critics() -> None:
    """Minibatches are relabelled in the middle of an update, when dropout is on."""
    policy_kwargs = {"net_arch": [16, 16], "dropout_rate": 0.5}
    agent = small_agent(policy="LayerNormPolicy", policy_kwargs=policy_kwargs)
    context, rows = agent._context(), (th.randn(20, 3), th.rand(20, 1))
    expected = [values(*rows) for values in (context.values, context.target_values)]
    agent.policy.set_training_mode(True)
    assert not th.equal(*(th.cat(agent.critic(*rows)) for _ in range(2))), "dropout is on"
    for values, known in zip((context.values, context.target_values), expected, strict=True):
        assert th.equal(values(*rows), known)
    assert agent.critic.training


def test_a_distribution_that_a_user_has_patched_is_the_one_of_rollouts() -> None:
    agent = small_agent(dynamics="linear").learn(60)
    patched = lambda mean, log_std: (th.full_like(mean, 0.125), mean[:, 0])  # noqa: E731
    agent.actor.action_dist.log_prob_from_params = patched
    assert agent._context().policy(th.randn(4, 3))[0].flatten().tolist() == [0.125] * 4
