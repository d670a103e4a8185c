"""The double horizon's update: what it changes, what it must not touch, and that it finds what is best in a known world."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch as th
from stable_baselines3 import SAC
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.vec_env import VecNormalize

from sb3_tom import DHMBPO, MBPO
from sb3_tom.contracts.types import Batch
from sb3_tom.policy_updates.double_horizon.path import roll
from sb3_tom.policy_updates.double_horizon.policies import DoubleHorizonPolicy, LayerNormCritics, StandardizedFeatures
from sb3_tom.policy_updates.double_horizon.update import DoubleHorizonUpdate
from tests.mbpo.small import SMALL_NETWORK, small_agent
from tests.mbpo.test_mbpo import Corridor
from tests.mbpo.toys import Trust
from tests.policy_updates.double_horizon.cases import GAMMA, UNITS, context, make_sac, make_world, parts_of, starts

TINY: dict[str, Any] = {
    "learning_starts": 50,
    "buffer_size": 1000,
    "seed": 0,
    "policy_kwargs": {"net_arch": [16, 16]},
    "dynamics_kwargs": {"n_members": 2, **SMALL_NETWORK},
    "rollout_batch_size": 20,
    "model_train_freq": 25,
    "batch_size": 16,
    "device": "cpu",
}


class Fixed:
    """The same minibatch again and again."""

    units = UNITS

    def __init__(self, observations: th.Tensor, confidence: th.Tensor | None = None) -> None:
        rows = th.zeros(len(observations), 1, dtype=observations.dtype)
        self.batch = Batch(observations, rows, observations, rows, rows, confidence)

    def raw(self, n_batches: int, batch_size: int) -> Any:
        return iter([self.batch] * n_batches)

    __call__ = raw


def made(**settings: Any) -> DoubleHorizonUpdate:
    update = DoubleHorizonUpdate(**settings)
    update.build(3, 2)
    return update


def run(agent: SAC, world: Any, n_steps: int = 1, **settings: Any) -> dict[str, float]:
    return made(**settings).update(parts_of(agent), Fixed(starts()), world, context(), n_steps, 40)


def test_model_and_targets_get_no_gradient_and_stay_trainable() -> None:
    agent, world = make_sac(tau=0.0), make_world()
    before = {name: value.clone() for name, value in agent.critic_target.state_dict().items()}
    run(agent, world, 3)
    untouched = [*world.model.parameters(), *agent.critic_target.parameters()]
    assert all(parameter.grad is None for parameter in untouched)
    assert all(parameter.requires_grad for parameter in (*world.model.parameters(), *agent.critic.parameters()))
    th.testing.assert_close(agent.critic_target.state_dict(), before, rtol=0.0, atol=0.0)


def test_what_a_user_has_frozen_stays_frozen() -> None:
    agent, world = make_sac(), make_world()
    world.model.slopes.requires_grad_(False)
    run(agent, world)
    assert not world.model.slopes.requires_grad


def test_the_critics_step_gives_the_actor_no_gradient_and_is_that_of_autograd() -> None:
    """Against the loss written down for one critic after the other."""
    agent, world, update = make_sac(learning_rate=0.0), make_world(0.6), made(n_target_critics=5)
    batches, parts = Fixed(starts()), parts_of(agent)
    path = update._roll(parts, batches.batch, batches, world, context())
    update._update_critics(parts, path, batches.batch, batches, context(1))
    assert all(parameter.grad is None for parameter in agent.actor.parameters())
    found = {name: parameter.grad.clone() for name, parameter in agent.critic.named_parameters()}
    agent.critic.zero_grad(set_to_none=True)
    alpha = agent.log_ent_coef.detach().exp()
    with th.no_grad():
        q = th.stack(agent.critic_target(path.observations[5], path.actions[5])).amin(0)
        target = path.rewards[0] + GAMMA**5 * path.alive[5] * (q - alpha * path.log_probs[5])
        for t in range(1, 5):
            target += GAMMA**t * path.alive[t] * (path.rewards[t] - alpha * path.log_probs[t])
    values = agent.critic(path.observations[0].detach(), path.actions[0].detach())
    sum(th.nn.functional.mse_loss(value, target) for value in values).backward()
    th.testing.assert_close(found, {name: parameter.grad for name, parameter in agent.critic.named_parameters()})


def test_a_row_without_confidence_has_no_say_in_the_critics() -> None:
    losses = []
    for trust in (th.ones(40, 1), th.cat([th.ones(20, 1), th.zeros(20, 1)]), None):
        agent, update = make_sac(learning_rate=0.0), made()
        batches = Fixed(starts(), None if trust is None else trust.double())
        path = update._roll(parts_of(agent), batches.batch, batches, make_world(), context())
        losses.append(float(update._update_critics(parts_of(agent), path, batches.batch, batches, context(1))["critic_loss"]))
    assert losses[0] == losses[2] > losses[1] > 0.0


def test_the_actors_norm_is_clipped_where_asked() -> None:
    moves = []
    for limit in (None, 1e-12):
        agent = make_sac(policy_kwargs={"optimizer_class": th.optim.SGD}, learning_rate=1e-3)
        before = th.nn.utils.parameters_to_vector(agent.actor.parameters()).clone()
        figures = run(agent, make_world(), max_grad_norm=limit)
        moves.append(float((th.nn.utils.parameters_to_vector(agent.actor.parameters()) - before).norm()))
        assert figures["actor_grad_norm"] > 1e-3  # before it was clipped
    assert moves[0] == pytest.approx(1e-3 * figures["actor_grad_norm"], rel=1e-6) and moves[1] < 1e-14


def test_the_temperature_goes_where_sb3s_goes() -> None:
    """Too little entropy raises it, too much lowers it."""
    for target, sign in ((50.0, 1.0), (-50.0, -1.0)):
        agent = make_sac(target_entropy=target)
        before = float(agent.log_ent_coef)
        run(agent, make_world(), 3)
        assert sign * (float(agent.log_ent_coef) - before) > 5e-4


def test_a_fixed_temperature_stays() -> None:
    figures = run(make_sac(ent_coef=0.2), make_world())
    assert figures["ent_coef"] == pytest.approx(0.2) and "ent_coef_loss" not in figures


@pytest.mark.parametrize("critics", [DoubleHorizonPolicy, "MlpPolicy"])
def test_it_finds_the_best_action_of_a_known_world(critics: Any) -> None:
    """Rewards are highest where the first entry of s' is 0; the push to get there is known, no critic has a say."""
    agent, world = make_sac(policy=critics, learning_rate=3e-3, ent_coef=1e-3), make_world()
    world = world._replace(reward_fn=lambda _o, _a, after: -(after[:, :1] ** 2))
    begin = 0.1 * starts(256)
    update = made(horizon=1, n_target_critics=1)
    parts = parts_of(agent)._replace(gamma=1e-6)
    update.update(parts, Fixed(begin), world, context(), 400, 256)
    with th.no_grad():
        actions = agent.actor(begin, deterministic=True)
        grid = th.linspace(-1, 1, 81, dtype=th.float64)
        options = th.stack(
            [
                world.model.normalizer.raw_outcomes(
                    world.model(begin, th.stack([a.expand(len(begin)), actions[:, 1]], 1)).mean[0], begin
                )[0][:, 0].square()
                for a in grid
            ]
        )
        reached = world.model.normalizer.raw_outcomes(world.model(begin, actions).mean[0], begin)[0][:, 0].square()
    assert float(reached.mean()) < 1.2 * float(options.amin(0).mean()) + 1e-3


@pytest.mark.parametrize(
    ("rewards", "gamma", "scale"),
    [(0.0, 0.99, 1.0), (1e-3, 0.99, 1.0), (1.0, 0.99, 100.0), (-1.0, 0.99, 100.0), (50.0, 0.9, 500.0), (1.0, 1.0, 1000.0)],
)
def test_the_critics_scale_is_that_of_the_first_rewards_for_ever(rewards: float, gamma: float, scale: float) -> None:
    agent, update = make_sac(), made(critic_warmup=0)
    data: Any = small_agent(dynamics="linear").learn(60).replay_buffer.transitions()
    parts, batches = parts_of(agent)._replace(gamma=gamma), Fixed(starts())
    for factor in (1.0, 7.0):
        rows = data._replace(rewards=th.full_like(data.rewards, factor * rewards))
        update.end_phase(parts, rows, batches, make_world(), context())
        assert float(agent.critic.scale) == float(agent.critic_target.scale) == pytest.approx(scale, rel=1e-4)
    agent = make_sac()
    made(critic_scale=3.0, critic_warmup=0).end_phase(parts_of(agent), data, batches, make_world(), context())
    assert float(agent.critic.scale) == 3.0


def test_the_scale_goes_where_the_networks_go() -> None:
    """Into another agent, and back when a step diverges; a second scale would multiply trained values."""
    agent = DHMBPO("MlpPolicy", "Pendulum-v1", **TINY).learn(80)
    rows, scale = agent.replay_buffer.transitions(), float(agent.critic.scale)
    assert scale > 1.0
    other = DHMBPO.from_sac(agent, "Pendulum-v1", policy_update="double_horizon", dynamics="smooth")
    other.replay_buffer.rewards *= 3
    made(critic_warmup=0).end_phase(parts_of(other), rows, Fixed(rows.observations), make_world(), context())
    assert float(other.critic.scale) == float(other.critic_target.scale) == scale
    untrained = DHMBPO("MlpPolicy", "Pendulum-v1", **TINY)
    untrained.policy.load_state_dict(DHMBPO("MlpPolicy", "Pendulum-v1", **TINY).policy.state_dict())
    untrained.learn(80)
    assert float(untrained.critic.scale) == scale


def test_offline_a_phase_ends_too() -> None:
    agent = DHMBPO("MlpPolicy", "Pendulum-v1", **TINY)
    agent.adopt_replay_buffer(DHMBPO("MlpPolicy", "Pendulum-v1", **TINY).learn(60).replay_buffer)
    agent.fit_weights()
    agent.fit_model()
    agent.imagine()
    agent.end_phase()
    assert float(agent.critic.scale) > 1.0
    agent.train_policy(3)


@pytest.mark.parametrize("reduction", ["mean", "min"])
def test_the_actors_step_climbs_the_value_of_a_naive_loop(reduction: str) -> None:
    """Rewards, entropies and the critics at the end; masked where an episode has ended."""
    agent, world, settings = make_sac(), make_world(limit=0.5), {"actor_reduction": reduction, "horizon": 3}
    parts, begin, update = parts_of(agent), starts(), made(**settings)
    for group in agent.actor.optimizer.param_groups:
        group["lr"] = 0.0
    path = roll(agent.actor, world, begin, 3, UNITS, context())
    update._update_actor(parts, path, Fixed(begin))
    found = [parameter.grad.clone() for parameter in agent.actor.parameters()]
    path, alpha = roll(agent.actor, world, begin, 3, UNITS, context()), parts.log_ent_coef.detach().exp()
    total = th.zeros((), dtype=th.float64)
    for row in range(len(begin)):
        for step in range(4):
            if step < 3:
                gain = path.rewards[step][row]
            else:
                values = th.stack([value[row] for value in agent.critic(path.observations[3], path.actions[3])])
                gain = values.mean(0) if reduction == "mean" else values.min(0).values
            alive = float(path.alive[step][row])
            total = total - GAMMA**step * alive * (gain - alpha * path.log_probs[step][row]).sum() / len(begin)
    assert 0.1 < float(path.alive[-1].mean()) < 0.9
    expected = th.autograd.grad(total, list(agent.actor.parameters()))
    for one, other in zip(found, expected, strict=True):
        th.testing.assert_close(one, other)


def test_the_target_is_the_least_of_as_many_critics_as_are_drawn() -> None:
    """Targets that say 1, 2, 4, 8 and 16 everywhere: each pair shows in the value, and pairs differ between steps."""
    agent, world = make_sac(), make_world()
    with th.no_grad():
        agent.critic_target.layers[-1].weight.zero_()
        agent.critic_target.layers[-1].bias[:, 0, 0] = th.tensor([1.0, 2.0, 4.0, 8.0, 16.0], dtype=th.float64)
    parts, begin = parts_of(agent), starts()
    seen: set[float] = set()
    for seed in range(30):
        source, update = context(seed), made(horizon=0)
        path = roll(agent.actor, world, begin, 0, UNITS, source)
        seen.add(round(float(update._update_critics(parts, path, Fixed(begin).batch, Fixed(begin), source)["target_mean"]), 9))
    assert seen == {1.0, 2.0, 4.0, 8.0}  # 16 is never the least of two
    alone = made(horizon=0, n_target_critics=5)._update_critics(parts, path, Fixed(begin).batch, Fixed(begin), source)
    assert float(alone["target_mean"]) == 1.0


def test_targets_move_by_tau() -> None:
    agent = make_sac(tau=0.3)
    before = [parameter.detach().clone() for parameter in agent.critic_target.parameters()]
    run(agent, make_world())
    for old, target, critic in zip(before, agent.critic_target.parameters(), agent.critic.parameters(), strict=True):
        th.testing.assert_close(target, old + 0.3 * (critic - old))


def test_nothing_is_asked_about_states_after_an_end() -> None:
    """A reward that has no value beyond the end, as a user's function may have none."""
    world, begin = make_world(limit=0.2), starts()
    begin = begin[begin[:, 0] < 0.2]
    world = world._replace(reward_fn=lambda here, actions, after: (0.2 - here[:, :1]).sqrt() + 0.0 * after[:, :1])
    path = roll(make_sac().actor, world, begin, 5, UNITS, context())
    assert 0.0 < float(path.alive[-1].mean()) < 1.0
    assert all(bool(th.isfinite(values).all()) for values in (*path.rewards, *path.observations))


def test_the_scale_multiplies_what_the_critics_say() -> None:
    agent = make_sac()
    observations, actions = starts(), th.zeros(40, 2, dtype=th.float64)
    one = th.stack(agent.critic(observations, actions))
    agent.critic.scale.fill_(50.0)
    th.testing.assert_close(th.stack(agent.critic(observations, actions)), 50.0 * one)
    fresh = DoubleHorizonPolicy(agent.observation_space, agent.action_space, lambda _: 1e-3)
    assert float(th.stack(fresh.critic(observations.float(), actions.float())).abs().max()) == 0.0
    assert fresh.critic.n_critics == 5 and fresh.critic(observations.float(), actions.float())[0].shape == (40, 1)


def test_each_critic_is_the_network_that_it_says() -> None:
    """One critic after the other, layer by layer, with SB3's own modules."""
    agent = make_sac()
    observations, actions = starts(), th.rand(40, 2, dtype=th.float64)
    for number, value in enumerate(agent.critic(observations, actions)):
        hidden = th.cat([agent.critic.features_extractor(observations), actions], 1)
        for place, layer in enumerate(agent.critic.layers):
            hidden = hidden if place == 0 else th.nn.functional.layer_norm(th.nn.functional.silu(hidden), (16,))
            hidden = hidden @ layer.weight[number] + layer.bias[number]
        th.testing.assert_close(value, hidden)


def test_a_path_has_no_one_noise_of_gsde() -> None:
    with pytest.raises(ValueError, match=r"^use_sde=True is not allowed with policy_update='double_horizon'"):
        DHMBPO("MlpPolicy", "Pendulum-v1", use_sde=True, **TINY)
    with pytest.raises(ValueError, match=r"policy_kwargs .*shared features"):
        DHMBPO("MlpPolicy", "Pendulum-v1", **{**TINY, "policy_kwargs": {"share_features_extractor": True}})


@pytest.mark.parametrize(
    "wrong",
    [{"horizon": -1}, {"horizon": 1.5}, {"actor_reduction": "max"}, {"critic_scale": 0.0}, {"critic_scale": "big"},
     {"critic_warmup": -1}, {"n_target_critics": 0}, {"max_grad_norm": 0.0}],
)  # fmt: skip
def test_bad_settings_are_named(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=rf"^{next(iter(wrong))}=.* is not allowed; allowed: "):
        DoubleHorizonUpdate(**wrong)


def test_dhmbpo_is_the_whole_recipe_and_a_user_keeps_what_he_gave() -> None:
    agent = DHMBPO("MlpPolicy", "Pendulum-v1")
    names = (
        "batch_size",
        "tau",
        "update_to_data_ratio",
        "real_ratio",
        "rollout_schedule",
        "rollout_batch_size",
        "rollout_freq",
    )
    assert [getattr(agent, name) for name in names] == [128, 0.01, 2.0, 0.0, 20, 256, 10]
    assert type(agent.policy) is DoubleHorizonPolicy and agent.ent_coef == "auto_0.1" and agent.dynamics.clamp is None
    assert agent.critic.n_critics == 5 and agent.dynamics.n_members == agent.dynamics.n_elites == 4
    own = MBPO("MlpPolicy", "Pendulum-v1", policy_update="double_horizon", batch_size=64, rollout_schedule=3)
    assert (own.batch_size, own.rollout_schedule, own.tau, own.critic.n_critics) == (64, 3, 0.01, 2)
    with pytest.warns(UserWarning, match="update_to_data_ratio=20 is more than this policy update is made for") as warned:
        MBPO("MlpPolicy", "Pendulum-v1", policy_update="double_horizon", update_to_data_ratio=20)
    assert len(warned) == 1


SETTINGS: dict[str, dict[str, Any]] = {
    "plain": {},
    "SB3's critics": {"policy_kwargs": {"net_arch": [16], "n_critics": 2, "features_extractor_class": StandardizedFeatures}},
    "tom": {"weighter": "tom", "weighter_kwargs": {"recent_size": 40, "discriminator_steps": 10, "q_steps": 10}},
    "pmac, confidence": {"weighter": "pmac", "confidence": Trust},
    "ensemble": {"dynamics": "ensemble", "dynamics_kwargs": {"n_members": 3, "n_elites": 2, **SMALL_NETWORK}},
    "mdn": {"dynamics": "mdn", "dynamics_kwargs": {"n_components": 3, **SMALL_NETWORK}},
    "fixed temperature, no learned reward": {"ent_coef": 0.1, "reward_fn": lambda _o, _a, after: after[:, :1]},
}


@pytest.mark.parametrize("name", SETTINGS)
def test_it_resumes_bit_for_bit(name: str, tmp_path: Path) -> None:
    kwargs = {**TINY, **SETTINGS[name]}
    whole = DHMBPO("MlpPolicy", "Pendulum-v1", **kwargs).learn(80)
    whole.save_checkpoint(tmp_path / "run.zip")
    whole.learn(60, reset_num_timesteps=False)
    resumed = DHMBPO("MlpPolicy", "Pendulum-v1", **kwargs)
    resumed.load_checkpoint(tmp_path / "run.zip")
    resumed.learn(60, reset_num_timesteps=False)
    assert whole._n_updates == resumed._n_updates > 100
    th.testing.assert_close(resumed.get_parameters(), whole.get_parameters(), rtol=0.0, atol=0.0, equal_nan=True)
    assert th.equal(resumed.imagined._rows[:50], whole.imagined._rows[:50])


@pytest.mark.parametrize("env", ["several", "normalised", "ends"])
def test_it_trains_in_all_kinds_of_envs(env: str) -> None:
    envs: dict[str, Any] = {
        "several": lambda: make_vec_env("Pendulum-v1", 3),
        "normalised": lambda: VecNormalize(make_vec_env("Pendulum-v1", 2)),
        "ends": lambda: Corridor(limit=20, ends=True),
    }
    agent = DHMBPO("MlpPolicy", envs[env](), **TINY).learn(200)
    assert agent._n_updates > 200 and agent.imagined.size > 0
    for verb in (agent.fit_weights, agent.fit_model, agent.imagine, lambda: agent.train_policy(2)):
        verb()
    assert all(bool(th.isfinite(parameter).all()) for parameter in agent.policy.parameters())


def test_under_vec_normalize_paths_start_in_the_envs_units() -> None:
    env = VecNormalize(make_vec_env("Pendulum-v1", 2))
    agent = DHMBPO("MlpPolicy", env, **TINY).learn(100)
    context = agent._context()
    batches = agent._batches(context)
    batch = next(batches.raw(1, 16))
    path = agent.policy_update._roll(parts_of(agent), batch, batches, agent._world, context)
    known = agent.imagined.gather(th.arange(agent.imagined.size))[0]
    assert bool(th.isin(path.observations[0], known).all()) and not th.allclose(
        batches.units.observations(path.observations[0]), path.observations[0]
    )
    assert float(path.rewards[0].abs().max()) <= env.clip_reward


def test_inputs_are_scaled_by_the_policy_itself(tmp_path: Path) -> None:
    """What is saved predicts from the env's own observations."""
    agent = DHMBPO("MlpPolicy", "Pendulum-v1", **TINY).learn(80)
    rows = agent.replay_buffer.transitions().observations
    features = agent.actor.features_extractor
    assert isinstance(agent.critic, LayerNormCritics) and isinstance(features, StandardizedFeatures)
    assert float((features.std / rows.std(0, correction=0) - 1.0).abs().max()) < 0.3  # of the last model phase
    agent.save(tmp_path / "agent")
    loaded = DHMBPO.load(tmp_path / "agent")
    for one in (loaded.actor, loaded.critic, loaded.critic_target):
        assert th.equal(one.features_extractor.mean, features.mean) and th.equal(one.features_extractor.std, features.std)
    actions = [one.predict(rows[:5].numpy(), deterministic=True)[0] for one in (loaded, agent)]
    np.testing.assert_array_equal(*actions)
    assert float(loaded.critic.scale) == float(agent.critic.scale) and float(loaded.critic.scaled) == 1.0
    with pytest.raises(ValueError, match="policy_update=DoubleHorizonUpdate is not allowed: the file was saved with"):
        small_agent(dynamics="smooth", dynamics_kwargs=SMALL_NETWORK).save(tmp_path / "sac")
        DHMBPO.load(tmp_path / "sac")


@pytest.mark.expensive
def test_it_learns_the_inverted_pendulum(tmp_path: Path) -> None:
    """From 500 random steps to a pole that stands for the whole episode, within 2,500 env steps."""
    from sb3_tom.callbacks import LearningCurveCallback

    curve = LearningCurveCallback("InvertedPendulum-v5", tmp_path / "curve.csv", 250, reward_threshold=950.0)
    DHMBPO("MlpPolicy", "InvertedPendulum-v5", learning_starts=500, seed=0, device="cpu").learn(2_500, callback=curve)
    assert curve.solved_step is not None
