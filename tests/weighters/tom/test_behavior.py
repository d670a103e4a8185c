"""What the policy says of an action, against the actions of the buffer, as an input of TOM's networks."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch as th

from sb3_tom import MBPO, Transitions
from sb3_tom.contracts.context import Context
from sb3_tom.weighters.tom import behavior as behavior_module
from sb3_tom.weighters.tom.averaging import average_next
from sb3_tom.weighters.tom.behavior import BehaviorPolicy
from sb3_tom.weighters.tom.ratio import RatioWeighter
from tests.weighters.small import built, context, newest, transitions


def squashed(gain: th.Tensor, log_std: th.Tensor, n_rows: int, seed: int = 0) -> tuple[Transitions, th.Tensor]:
    """Rows of a squashed Gaussian policy, whose mean and log standard deviation depend on s, and their log-probabilities."""
    generator = th.Generator().manual_seed(seed)
    observations = 3.0 + 2.0 * th.randn(n_rows, gain.shape[1], generator=generator)
    units = (observations - 3.0) / 2.0
    normal = th.distributions.Normal(units @ gain.T, (units @ log_std.T - 1.0).exp())
    inner = normal.mean + normal.stddev * th.randn(n_rows, len(gain), generator=generator)
    actions = inner.tanh()
    log_prob = (normal.log_prob(inner) - th.log(1.0 - actions.square() + 1e-6)).sum(1, keepdim=True)
    flat = th.zeros(n_rows, 1)
    return Transitions(observations, actions, observations, flat, flat, th.zeros(n_rows, dtype=th.int64)), log_prob


def asked() -> Context:
    """The context of the other tests, whose policy can be asked for log-probabilities too."""

    def log_prob(observations: th.Tensor, actions: th.Tensor) -> th.Tensor:
        normal = th.distributions.Normal(0.5 * observations[:, :1], 0.3)
        inner = th.atanh(actions.clamp(-0.999, 0.999))
        return (normal.log_prob(inner) - th.log(1.0 - actions.square() + 1e-6)).sum(1, keepdim=True)

    return dataclasses.replace(context(), log_prob=log_prob)


def test_recovers_the_policy_that_filled_the_buffer() -> None:
    """On fresh rows, at most a twentieth of the divergence of a fit that does not see s is left."""
    gain, log_std = th.tensor([[0.5, -0.3, 0.0], [0.0, 0.4, 0.8]]), th.tensor([[0.3, 0.0, 0.0], [0.0, -0.3, 0.2]])
    data, _ = squashed(gain, log_std, 5000)
    fresh, expected = squashed(gain, log_std, 5000, seed=1)

    def divergence(sees: float) -> float:
        behavior = BehaviorPolicy(3, 2)
        rows = data._replace(observations=sees * data.observations)
        behavior.fit(rows, newest(rows), context())
        with th.no_grad():
            found = behavior.log_prob(sees * fresh.observations, fresh.actions)
        assert found.shape == (5000, 1)
        return float((expected - found).mean())

    assert divergence(1.0) < 0.05 * divergence(0.0)


def test_the_feature_is_the_log_ratio_on_a_logarithmic_scale() -> None:
    data = transitions(6000)
    behavior = BehaviorPolicy(3, 2)
    behavior.fit(data, newest(data, 10), context())
    own = behavior.log_prob(data.observations, data.actions)
    wanted = th.linspace(-2000.0, 20.0, 6000).unsqueeze(1)  # more than one chunk of rows

    def log_prob(observations: th.Tensor, actions: th.Tensor) -> th.Tensor:
        found = (data.observations[:, :1].T == observations[:, :1]).float().argmax(1)
        return own[found] + wanted[found]

    feature = behavior.log_ratio(data, Context(log_prob=log_prob))
    expected = wanted.sign() * wanted.abs().log1p()
    th.testing.assert_close(feature, expected, atol=1e-3, rtol=1e-3)


@pytest.mark.parametrize("is_foreign", [False, True])
def test_rows_of_one_policy_weigh_the_same_wherever_they_lie(is_foreign: bool) -> None:
    """A fit to the buffer alone would remember its rows: 500 others of the same policy would weigh twice as much."""
    gain, log_std = th.zeros(17, 45), th.zeros(17, 45)
    data, log_prob = squashed(gain, log_std, 2500)
    buffer, recent = (
        (data.rows(th.arange(2000)), data.rows(th.arange(2000, 2500))) if is_foreign else (data, newest(data, 500))
    )

    def policy(observations: th.Tensor, actions: th.Tensor) -> th.Tensor:
        normal = th.distributions.Normal(0.0, float(th.tensor(-1.0).exp()))
        return (normal.log_prob(actions.atanh()) - th.log(1.0 - actions.square() + 1e-6)).sum(1, keepdim=True)

    th.testing.assert_close(policy(data.observations, data.actions), log_prob, rtol=1e-3, atol=1e-3)
    ratio = RatioWeighter(policy_input=True)
    ratio.build(45, 17)
    view = dataclasses.replace(context(), log_prob=policy)
    ratio.fit(buffer, recent, buffer.observations[:1], view)
    found = ratio.discriminator.log_ratio(recent, view).exp().mean() / ratio.weights(buffer, view).mean()
    assert 0.85 <= float(found) <= 1.15


@pytest.mark.parametrize("mean", [0.0, 6.0])
def test_a_policy_compared_with_itself_has_a_ratio_of_one(mean: float) -> None:
    """Also at the bounds, where both densities have the same cut."""
    generator = th.Generator().manual_seed(0)
    data = transitions(4000)
    data = data._replace(actions=(mean + th.randn(4000, 2, generator=generator)).tanh())

    def log_prob(observations: th.Tensor, actions: th.Tensor) -> th.Tensor:
        inside = actions.clamp(-(1.0 - 2.0**-23), 1.0 - 2.0**-23)
        density = th.distributions.Normal(mean, 1.0).log_prob(inside.atanh())
        return (density - th.log(1.0 - inside.square() + 1e-6)).sum(1, keepdim=True)

    behavior = BehaviorPolicy(3, 2)
    behavior.fit(data, newest(data), context())
    feature = behavior.log_ratio(data, Context(log_prob=log_prob))
    assert float(feature.abs().mean()) < 0.15


def test_a_few_rows_have_none_held_out() -> None:
    data = transitions(30)
    behavior = BehaviorPolicy(3, 2)
    behavior.fit(data, newest(data, 10), context())
    assert bool(th.isfinite(behavior.log_prob(data.observations, data.actions)).all())


def test_both_networks_see_it() -> None:
    """The discriminator's input has one more column, and so does the average over s', which would lose it again."""
    data = transitions(400)
    tom = built(policy_input=True)
    view = asked()
    tom.fit(data, newest(data), data.observations[:5], view)
    column = tom.discriminator.policy_columns(data, view)
    assert column.shape == (400, 1)
    assert float(column.std()) > 0.01
    seen = tom.discriminator.features(data, column)
    assert th.equal(seen[:, -1:], column)
    assert seen.shape[1] == 3 + 2 + 3 + 1
    with th.no_grad():
        assert not th.equal(
            tom.discriminator(seen.expand(5, *seen.shape)), tom.discriminator(seen.flip(0).expand(5, *seen.shape))
        )
    assert built().discriminator.policy_columns(data, context()).shape == (400, 0)


def test_the_average_over_next_states_keeps_what_it_tells() -> None:
    generator = th.Generator().manual_seed(0)
    data = transitions(4000)
    wide = data._replace(observations=th.randn(4000, 40, generator=generator))
    known = th.randn(4000, 1, generator=generator)  # stands for a function of (s, a) that is hard to learn
    weights, rows = (1.3 * known.squeeze(1)).exp().double(), th.arange(4000)

    kept = average_next(weights, rows, wide, 400, context(), known)
    assert np.corrcoef(kept.log().numpy(), known.squeeze(1).numpy())[0, 1] > 0.98
    lost = average_next(weights, rows, wide, 400, context())
    assert float(lost.std()) < 0.3 * float(kept.std())


def test_needs_a_discriminator() -> None:
    with pytest.raises(ValueError, match=r"policy_input=True is not allowed with discriminator=False"):
        built(policy_input=True, discriminator=False)


@pytest.mark.parametrize("weighter", ["tom", "ratio"])
def test_an_agent_trains_with_it_and_resumes(weighter: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(behavior_module, "_STEPS", 20)
    settings = {"policy_input": True, "recent_size": 60, "discriminator_steps": 25}
    if weighter == "tom":
        settings |= {"q_steps": 10, "average_steps": 10}
    tiny = {"learning_starts": 80, "model_train_freq": 40, "update_to_data_ratio": 1, "policy_kwargs": {"net_arch": [16]}}
    tiny |= {"dynamics": "linear", "rollout_batch_size": 50}
    agent = MBPO("MlpPolicy", "Pendulum-v1", weighter=weighter, weighter_kwargs=settings, seed=0, device="cpu", **tiny)
    agent.learn(120)
    agent.save_checkpoint(tmp_path / "run.zip")
    agent.learn(80, reset_num_timesteps=False)
    other = MBPO.resume(tmp_path / "run.zip", "Pendulum-v1", device="cpu")
    other.learn(80, reset_num_timesteps=False)
    assert th.equal(agent.fit_weights(), other.fit_weights())
    assert float(agent.fit_weights().std()) > 0.0
