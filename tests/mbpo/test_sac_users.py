"""What users of SB3's SAC do with an agent besides training it: parameters of others, policies and hooks of their own."""

from pathlib import Path
from typing import Any

import pytest
import torch as th
from gymnasium import spaces
from stable_baselines3 import SAC
from stable_baselines3.common.distributions import SquashedDiagGaussianDistribution
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor

from sb3_tom import DHMBPO, MBPO
from sb3_tom.checks.guards import DivergenceError
from sb3_tom.data.replay_buffer import WeightedReplayBuffer
from sb3_tom.policy_updates.standardized_features import StandardizedFeatures
from tests.mbpo.small import small_agent

TINY: dict[str, Any] = {"rollout_batch_size": 20, "dynamics": "linear", "update_to_data_ratio": 1}
SMALL_DH: dict[str, Any] = {"policy_kwargs": {"net_arch": [8]}, "learning_starts": 20, "buffer_size": 300, "device": "cpu"}
SMALL_DH |= {"dynamics": "linear"}


class Quiet(MBPO):
    """Overrides SB3's empty hook, as subclasses of SAC may, without a call of the one above."""

    def _on_step(self) -> None:
        return None


def test_phases_and_schedules_go_on_in_a_subclass_with_an_on_step_of_its_own() -> None:
    settings: dict[str, Any] = {"learning_starts": 20, "model_train_freq": 25, "buffer_size": 300, "device": "cpu"}
    settings |= {"policy_kwargs": {"net_arch": [8]}, **TINY}
    agents = [cls("MlpPolicy", "Pendulum-v1", seed=0, **settings).learn(100) for cls in (MBPO, Quiet)]
    assert [(one.policy_version, one._env_steps, one._since_phase) for one in agents] == [(4, 100, 4)] * 2


def cloned(agent: Any) -> th.Tensor:
    """Clone another actor's actions by an optimiser of one's own; return them."""
    observations = th.rand(64, 3, generator=th.Generator().manual_seed(0)) * 2 - 1
    wanted = th.tanh(observations @ th.tensor([[1.0], [-2.0], [0.5]]))
    optimizer = th.optim.Adam(agent.actor.parameters(), 1e-2)
    for _ in range(150):
        optimizer.zero_grad()
        (agent.actor(observations, deterministic=True) - wanted).square().mean().backward()
        optimizer.step()
    return observations


@pytest.mark.parametrize("way", ["policy", "all of another agent's"])
def test_pretrained_parameters_of_another_agent_survive_the_first_scale(way: str) -> None:
    """By SB3's own call; they are no longer those that the agent was made with."""
    teacher, agent = (DHMBPO("MlpPolicy", "Pendulum-v1", seed=seed, learning_rate=0.0, **SMALL_DH) for seed in (0, 1))
    observations = cloned(teacher)
    parameters = teacher.get_parameters()
    if way == "policy":
        agent.set_parameters({"policy": parameters["policy"]}, exact_match=False)
    else:
        agent.set_parameters(parameters)
    before = agent.actor(observations, deterministic=True).detach()
    agent.learn(30)
    assert float(agent.actor.features_extractor.std.max()) != 1.0, "the scale was set"
    assert float((agent.actor(observations, deterministic=True) - before).square().mean().sqrt()) < 0.05


def test_a_file_of_a_new_agent_is_of_a_new_one(tmp_path: Path) -> None:
    """Its networks start over with the first scale, as they would have without the file."""
    agent = DHMBPO("MlpPolicy", "Pendulum-v1", seed=0, learning_rate=0.0, **SMALL_DH)
    agent.save(tmp_path / "new")
    loaded = DHMBPO.load(tmp_path / "new", env="Pendulum-v1", device="cpu")
    kept = [parameter.clone() for parameter in loaded.actor.latent_pi.parameters()]
    loaded.learn(30)
    assert all(map(th.equal, loaded.actor.latent_pi.parameters(), kept)), "a trained one's first layer would be rescaled"


def test_parameters_of_another_agent_are_copied_and_count_as_its_steps() -> None:
    first = small_agent(**TINY, gamma=0.9).learn(100)
    second = small_agent(**TINY, gamma=0.9, seed=5).learn(60)
    assert second.update_counter.reached(second._updates_made()) == 1.0
    second.set_parameters(first.get_parameters())
    assert second._updates_made() != 60 - 51 and second.update_counter.reached(second._updates_made()) == 1.0
    moments = [state["exp_avg"].clone() for state in first.critic.optimizer.state.values()]
    second.learn(40, reset_num_timesteps=False)
    assert second.update_counter.reached(second._updates_made()) == 1.0
    now = [state["exp_avg"] for state in first.critic.optimizer.state.values()]
    assert all(map(th.equal, moments, now)), "the first one's optimiser is its own"


class Deep(StandardizedFeatures):
    """Features after the standardised ones: the first layers do not follow the scale of the observations."""

    def __init__(self, observation_space: spaces.Box) -> None:
        super().__init__(observation_space)
        self.net = th.nn.Linear(self.features_dim, self.features_dim)

    def forward(self, observations: th.Tensor) -> th.Tensor:
        return self.net(super().forward(observations))


class Nested(BaseFeaturesExtractor):
    """Holds standardised features within."""

    def __init__(self, observation_space: spaces.Box) -> None:
        super().__init__(observation_space, features_dim=3)
        self.inner = StandardizedFeatures(observation_space)

    def forward(self, observations: th.Tensor) -> th.Tensor:
        return self.inner(observations)


@pytest.mark.parametrize("features", [Deep, Nested])
@pytest.mark.parametrize("update", ["sac", "double_horizon"])
def test_standardised_features_that_no_first_layer_follows_are_refused(features: type, update: str) -> None:
    kwargs = {"net_arch": [8], "features_extractor_class": features}
    with pytest.raises(ValueError, match=r"features_extractor_class=\w+ is not allowed within another extractor"):
        small_agent(policy_kwargs=kwargs, policy_update=update, dynamics="linear")


def test_a_compiled_network_with_standardised_features_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its wrapper hides it: the critic would keep the scale 1 while the actor and the target get theirs."""
    # th.compile turns the validation of distributions off for the whole process
    monkeypatch.setattr(th.distributions.Distribution, "_validate_args", th.distributions.Distribution._validate_args)
    agent = DHMBPO("MlpPolicy", "Pendulum-v1", **SMALL_DH)
    agent.policy.critic = th.compile(agent.policy.critic)
    with pytest.raises(ValueError, match=r"a network that th.compile has wrapped.*compiled in place"):
        agent.learn(30)


def test_a_policy_in_shared_memory_stays_there() -> None:
    """Another process that evaluates it would see some layers of now and some of then."""
    agent = small_agent(**TINY)
    agent.policy.share_memory()
    agent.learn(60)
    assert agent._updates_made() > 0 and all(parameter.is_shared() for parameter in agent.policy.parameters())


def test_another_bound_of_the_squashed_density_is_used() -> None:
    """SB3's update takes it from the distribution."""

    def trained(epsilon: float) -> th.Tensor:
        agent = small_agent(**TINY)
        agent.actor.action_dist = SquashedDiagGaussianDistribution(1, epsilon=epsilon)
        agent.learn(80)
        return th.cat([parameter.detach().flatten() for parameter in agent.actor.parameters()])

    assert not th.equal(trained(0.1), trained(1e-6))


def test_a_policy_that_was_replaced_is_the_one_that_is_put_back() -> None:
    agent = small_agent(**TINY).learn(60)
    other = small_agent(**TINY, seed=7)
    agent.policy = other.policy
    agent._create_aliases()
    agent.train_policy(2)
    with th.no_grad():
        agent.actor.mu.weight.fill_(th.nan)
    with pytest.raises(DivergenceError, match="the agent is left in a sound earlier state"):
        agent.train_policy(2)
    assert all(bool(parameter.isfinite().all()) for parameter in agent.policy.parameters())


@pytest.mark.parametrize("name", ["sample", "_get_samples"])
def test_a_buffer_that_draws_minibatches_its_own_way_is_refused(name: str) -> None:
    mine = type("Mine", (WeightedReplayBuffer,), {name: lambda self, *args, **kwargs: None})
    with pytest.raises(ValueError, match=r"replay_buffer_class=Mine is not allowed: it overrides one of .*allowed: a weigh"):
        small_agent(replay_buffer_class=mine)


@pytest.mark.parametrize("steps", [-1, 1.5, "2"])
def test_numbers_of_gradient_steps_are_checked(steps: Any) -> None:
    agent = small_agent(**TINY).learn(30)
    with pytest.raises(ValueError, match=rf"^gradient_steps={steps!r} is not allowed"):
        agent.train_policy(steps)


def test_a_temperature_that_was_changed_since_is_that_of_the_warm_start(tmp_path: Path) -> None:
    sac = SAC("MlpPolicy", "Pendulum-v1", policy_kwargs={"net_arch": [8]}, ent_coef=0.2, learning_starts=5).learn(10)
    sac.ent_coef_tensor = th.tensor(0.01)  # annealed by a callback
    sac.save(tmp_path / "sac")
    for source in (sac, tmp_path / "sac"):
        agent = MBPO.from_sac(source, "Pendulum-v1", dynamics="linear")
        assert float(agent.ent_coef_tensor) == pytest.approx(0.01) and agent.ent_coef_optimizer is None
    learned = SAC("MlpPolicy", "Pendulum-v1", policy_kwargs={"net_arch": [8]}, learning_starts=5).learn(10)
    learned.ent_coef_optimizer, learned.ent_coef_tensor = None, th.tensor(0.05)  # fixed by hand
    assert float(MBPO.from_sac(learned, "Pendulum-v1", dynamics="linear").ent_coef_tensor) == pytest.approx(0.05)


@pytest.mark.parametrize("optimizer", [th.optim.Adam, th.optim.AdamW, th.optim.SGD])
def test_a_warm_start_has_the_options_of_its_optimisers_that_were_asked_for(optimizer: type) -> None:
    sac = SAC("MlpPolicy", "Pendulum-v1", policy_kwargs={"net_arch": [8]}, learning_starts=5).learn(30)
    kwargs = {"net_arch": [8], "optimizer_class": optimizer, "optimizer_kwargs": {"weight_decay": 0.03}}
    agent = MBPO.from_sac(sac, "Pendulum-v1", policy_kwargs=kwargs, dynamics="linear", learning_starts=5)
    for network in (agent.actor, agent.critic):
        assert type(network.optimizer) is optimizer and network.optimizer.param_groups[0]["weight_decay"] == 0.03
        assert bool(network.optimizer.state) is (optimizer is th.optim.Adam), "moments of the same class are kept"
    agent.learn(30)
    with pytest.raises(ValueError, match=r"networks of the SAC agent do not fit: .*allowed: its own policy, policy_kwargs"):
        MBPO.from_sac(sac, "Pendulum-v1", policy_kwargs={"net_arch": [9]}, dynamics="linear")
