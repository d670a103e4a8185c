"""The double horizon's update: what it changes, what it must not touch, and that it finds what is best in a known world."""

from contextlib import nullcontext
from typing import Any

import numpy as np
import pytest
import torch as th
from stable_baselines3 import SAC
from stable_baselines3.common.torch_layers import FlattenExtractor

from sb3_tom import DHMBPO
from sb3_tom.policy_updates.double_horizon.path import path_value, roll
from sb3_tom.policy_updates.double_horizon.policies import DoubleHorizonPolicy
from sb3_tom.policy_updates.double_horizon.update import DoubleHorizonUpdate
from tests.mbpo.small import small_agent
from tests.policy_updates.double_horizon.cases import (
    GAMMA,
    PLUGS,
    TINY,
    UNITS,
    Fixed,
    context,
    made,
    make_sac,
    make_world,
    parts_of,
    starts,
    step_of,
)


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
    agent, world = make_sac(learning_rate=0.0), make_world(0.6)
    step = step_of(agent, world, context(), n_target_critics=5)
    path = step.roll(starts())
    step.fit_critics(path, None)
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


@pytest.mark.parametrize("plugs", PLUGS)
def test_a_path_has_its_say_in_the_critics_by_its_confidence(plugs: str) -> None:
    """Against the loss path by path; one that is stopped before its first step has none."""
    agent, world = make_sac(learning_rate=0.0), make_world(0.6)._replace(**PLUGS[plugs])
    step = step_of(agent, world, context(), n_target_critics=5)
    path = step.roll(starts())
    found = step.fit_critics(path, None)
    alpha, total = agent.log_ent_coef.detach().exp(), 0.0
    with th.no_grad():
        last = th.stack(agent.critic_target(path.observations[5], path.actions[5])).amin(0)
        target = path_value(path, last, GAMMA, alpha, first_entropy=False)
        for value in agent.critic(path.observations[0], path.actions[0]):
            for row in range(40):
                trust = 1.0 if path.weights is None else float(path.weights[row])
                total += trust * float(value[row] - target[row]) ** 2 / 40
    assert float(found["critic_loss"]) == pytest.approx(total, rel=1e-10)
    assert ("path_stopped_share" in found) == ("rollout_stop" in PLUGS[plugs])
    if "rollout_stop" in PLUGS[plugs]:
        assert float(found["path_stopped_share"]) == pytest.approx(float((path.length < 5).double().mean()))
        assert 0.0 < float((path.length == 0).double().mean()) < 0.5
    assert ("path_confidence_mean" in found) == ("confidence" in PLUGS[plugs])
    if "confidence" in PLUGS[plugs]:
        trusts = path.confidence
        assert float(found["path_confidence_mean"]) == pytest.approx(float(trusts.mean()))
        size = float(trusts.sum()) ** 2 / float(trusts.square().sum()) / 40
        assert float(found["path_confidence_effective_share"]) == pytest.approx(size)
        assert size < 0.99


def test_the_norms_of_actor_and_critics_are_clipped_where_asked() -> None:
    moves, norms = [], []
    for limit in (None, 1e-4):
        agent = make_sac(policy_kwargs={"optimizer_class": th.optim.SGD}, learning_rate=1e-3)
        agent.max_grad_norm = limit
        before = [th.nn.utils.parameters_to_vector(one.parameters()).clone() for one in (agent.actor, agent.critic)]
        figures = run(agent, make_world())
        after = [th.nn.utils.parameters_to_vector(one.parameters()) for one in (agent.actor, agent.critic)]
        moves.append([float((new - old).detach().norm()) for new, old in zip(after, before, strict=True)])
        norms.append(figures["actor_grad_norm"])  # before it was clipped
    assert min(norms) > 1e-3 and moves[0][0] == pytest.approx(1e-3 * norms[0], rel=1e-6)
    assert moves[0][1] > 1e-6
    assert moves[1] == pytest.approx([1e-7, 1e-7], rel=1e-3)


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


def test_the_temperatures_loss_is_sb3s_on_the_first_actions() -> None:
    agent, world = make_sac(), make_world(0.6)
    coefficient = -1.3
    agent.log_ent_coef.data.fill_(coefficient)
    parts = parts_of(agent)
    path = roll(agent.actor, world, starts(), 5, UNITS, context())
    figures = made().update(parts, Fixed(starts()), world, context(), 1, 40)
    expected = -(coefficient * (path.log_probs[0] + parts.target_entropy)).mean()
    assert figures["ent_coef_loss"] == pytest.approx(float(expected), rel=1e-6)
    assert figures["ent_coef"] == pytest.approx(np.exp(coefficient), rel=1e-6)


@pytest.mark.parametrize(("reduction", "plugs"), [("mean", "no plugs"), ("min", "no plugs"), ("mean", "both")])
@pytest.mark.parametrize("weight_actor", [False, True])
def test_the_actors_step_climbs_the_value_of_a_naive_loop(reduction: str, plugs: str, weight_actor: bool) -> None:
    """Rewards, entropies and the critics at the end; masked where an episode has ended or a path is stopped."""
    agent, world = make_sac(), make_world(limit=0.5)._replace(**PLUGS[plugs])
    settings = {"actor_reduction": reduction, "horizon": 3, "weight_actor": weight_actor}
    parts, begin = parts_of(agent), starts()
    for group in agent.actor.optimizer.param_groups:
        group["lr"] = 0.0
    path = roll(agent.actor, world, begin, 3, UNITS, context())
    step_of(agent, world, context(), **settings).improve_actor(path)
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
            steps = float(path.length[row]) if step == 3 and path.length is not None else step
            factor = GAMMA**steps * float(path.alive[step][row]) / len(begin)
            factor *= float(path.weights[row]) if weight_actor and path.weights is not None else 1.0
            total = total - factor * (gain - alpha * path.log_probs[step][row]).sum()
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
    begin = starts()
    seen: set[float] = set()
    for seed in range(30):
        step = step_of(agent, world, context(seed), horizon=0)
        seen.add(round(float(step.fit_critics(step.roll(begin), None)["target_mean"]), 9))
    assert seen == {1.0, 2.0, 4.0, 8.0}  # 16 is never the least of two
    step = step_of(agent, world, context(), horizon=0, n_target_critics=5)
    assert float(step.fit_critics(step.roll(begin), None)["target_mean"]) == 1.0


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


def test_a_path_has_no_one_noise_of_gsde() -> None:
    with pytest.raises(ValueError, match=r"^use_sde=True is not allowed with policy_update='double_horizon'"):
        DHMBPO("MlpPolicy", "Pendulum-v1", use_sde=True, **TINY)
    with pytest.raises(ValueError, match=r"policy_kwargs .*shared features"):
        DHMBPO("MlpPolicy", "Pendulum-v1", **{**TINY, "policy_kwargs": {"share_features_extractor": True}})


def test_a_sampling_that_a_user_patches_in_later_is_refused_too() -> None:
    agent = DHMBPO("MlpPolicy", "Pendulum-v1", **TINY).learn(55)
    sample = agent.actor.action_log_prob
    agent.actor.action_log_prob = lambda observations: sample(observations)
    for verb in (lambda: agent.train_policy(1), agent.end_phase):
        with pytest.raises(ValueError, match="sampling is patched are not allowed with policy_update='double_horizon'"):
            verb()


@pytest.mark.parametrize(
    ("settings", "n_critics", "message"),
    [
        ({"n_target_critics": 9}, 3, r"n_target_critics=9 is not allowed with 3 critics; allowed: at most as many"),
        ({"critic_scale": 50.0}, 3, r"critic_scale=50.0 is not allowed with ContinuousCritic.*allowed: 'auto'"),
        ({"n_target_critics": 3}, 3, None),
        ({}, 1, None),
    ],
)
def test_settings_without_an_effect_on_the_critics_are_refused(
    settings: dict[str, Any], n_critics: int, message: str | None
) -> None:
    kwargs: dict[str, Any] = {"policy_update": "double_horizon", "policy_update_kwargs": settings, "dynamics": "linear"}
    with nullcontext() if message is None else pytest.raises(ValueError, match=message):
        small_agent(policy_kwargs={"net_arch": [8], "n_critics": n_critics}, **kwargs)
    DHMBPO("MlpPolicy", "Pendulum-v1", **TINY, policy_update_kwargs={"critic_scale": 50.0, "n_target_critics": 5})


def test_a_part_of_a_network_may_be_left_out_of_some_steps() -> None:
    """Its parameters have no gradient there."""

    class Sometimes(FlattenExtractor):
        calls = 0

        def __init__(self, space: Any) -> None:
            super().__init__(space)
            self.branch = th.nn.Linear(3, 3)

        def forward(self, observations: th.Tensor) -> th.Tensor:
            self.calls += self.training
            seen = super().forward(observations)
            return seen + self.branch(seen) if self.calls // 40 % 2 == 0 else seen

    kwargs = {"net_arch": [8], "features_extractor_class": Sometimes}
    assert DHMBPO("MlpPolicy", "Pendulum-v1", **{**TINY, "policy_kwargs": kwargs}).learn(80)._n_updates > 0


@pytest.mark.parametrize(
    "wrong",
    [{"horizon": -1}, {"horizon": 1.5}, {"actor_reduction": "max"}, {"critic_scale": 0.0}, {"critic_scale": "big"},
     {"critic_warmup": -1}, {"n_target_critics": 0}, {"weight_actor": "yes"}, {"real_critic_coef": -0.1}],
)  # fmt: skip
def test_bad_settings_are_named(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=rf"^{next(iter(wrong))}=.* is not allowed; allowed: "):
        DoubleHorizonUpdate(**wrong)
