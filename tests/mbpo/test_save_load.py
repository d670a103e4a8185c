"""Round trips: everything that learns travels in the zip."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch as th

from sb3_tom import MBPO, Context, Transitions, Weighter
from tests.mbpo.small import SMALL_MODELS, SMALL_WEIGHTERS, small_agent


def assert_same(left: Any, right: Any, path: str = "") -> None:
    """Equal nests of dicts, lists and tensors."""
    if isinstance(left, th.Tensor):
        assert th.equal(left, right), path
    elif isinstance(left, dict):
        assert left.keys() == right.keys(), path
        for key in left:
            assert_same(left[key], right[key], f"{path}/{key}")
    elif isinstance(left, list | tuple):
        assert len(left) == len(right), path
        for index, (one, other) in enumerate(zip(left, right, strict=True)):
            assert_same(one, other, f"{path}/{index}")
    else:
        assert left == right, path


PAIRS = [
    (weighter, model) for weighter in SMALL_WEIGHTERS for model in SMALL_MODELS if weighter == "tom" or model == "ensemble"
]
"""Each plug beside the one of the other kind that keeps the most; no plug knows another."""


@pytest.mark.parametrize(("weighter", "dynamics"), PAIRS)
@pytest.mark.parametrize("steps", [0, 60, 90])
def test_round_trip(weighter: str, dynamics: str, steps: int, tmp_path: Path) -> None:
    agent = small_agent(weighter=weighter, dynamics=dynamics)
    if steps:
        agent.learn(steps)
    agent.save(tmp_path / "agent")
    loaded = MBPO.load(tmp_path / "agent")
    assert_same(agent.get_parameters(), loaded.get_parameters())
    assert type(loaded.weighter) is type(agent.weighter)
    assert loaded.policy_version == agent.policy_version == loaded.replay_buffer.policy_version
    observations = th.randn(7, 3)
    actions = th.rand(7, 1) * 2 - 1
    for one, other in zip(
        agent.dynamics.sample(observations, actions, th.Generator().manual_seed(1)),
        loaded.dynamics.sample(observations, actions, th.Generator().manual_seed(1)),
        strict=True,
    ):
        assert th.equal(one, other)
    np.testing.assert_array_equal(*(one.predict(observations.numpy(), deterministic=True)[0] for one in (agent, loaded)))
    loaded.set_env(agent.env)
    loaded.learn(60, reset_num_timesteps=False)


def test_a_continued_agent_keeps_its_model_until_it_has_data(tmp_path: Path) -> None:
    agent = small_agent().learn(80)
    agent.save(tmp_path / "agent")
    loaded = MBPO.load(tmp_path / "agent", env=agent.env)
    loaded.learn(30, reset_num_timesteps=False)  # fewer rows than learning_starts in the empty buffer
    assert_same(agent.dynamics.state_dict(), loaded.dynamics.state_dict())


class Scaled(Weighter):
    """A user's weighter with a hyperparameter and something learned."""

    def __init__(self, power: float) -> None:
        super().__init__()
        self.power = power

    def build(self, observation_dim: int, action_dim: int) -> None:
        self.register_buffer("calls", th.zeros(()))

    def weights(self, data: Transitions, context: Context) -> th.Tensor:
        self.calls += 1
        return data.actions[:, 0].abs() ** self.power


@pytest.mark.parametrize("source", ["load", "from_sac"])
def test_a_learning_rate_that_is_given_anew_holds_before_the_first_learn(source: str, tmp_path: Path) -> None:
    """The optimisers that come along have the old one."""
    agent = small_agent().learn(60)
    agent.save(tmp_path / "agent")
    if source == "load":
        other = MBPO.load(tmp_path / "agent", "Pendulum-v1", learning_rate=1e-5)
        other.adopt_replay_buffer(agent.replay_buffer)
    else:
        other = MBPO.from_sac(agent, "Pendulum-v1", learning_rate=1e-5)
    other.train_policy(1)
    optimizers = (other.actor.optimizer, other.critic.optimizer, other.ent_coef_optimizer)
    assert [one.param_groups[0]["lr"] for one in optimizers] == [1e-5] * 3


@pytest.mark.parametrize("dynamics", ["ensemble", "mdn"])
@pytest.mark.parametrize("way", ["load", "resume"])
def test_options_of_optimisers_that_are_given_anew_hold(way: str, dynamics: str, tmp_path: Path) -> None:
    """The file's optimisers bring their own learning rates and weight decays along."""
    agent = small_agent(weighter="tom", dynamics=dynamics).learn(60)
    agent.save(tmp_path / "agent")
    agent.save_checkpoint(tmp_path / "run.zip")
    options = {
        "dynamics_kwargs": {**SMALL_MODELS[dynamics], "learning_rate": 1e-5, "weight_decay": 0.5},
        "weighter_kwargs": {**SMALL_WEIGHTERS["tom"], "discriminator_weight_decay": 0.7, "q_weight_decay": 0.6},
    }
    load, path = (MBPO.load, tmp_path / "agent") if way == "load" else (MBPO.resume, tmp_path / "run.zip")
    other = load(path, "Pendulum-v1", **options)
    other.learn(60, reset_num_timesteps=False)
    *layers, bounds = other.dynamics.optimizer.param_groups
    assert {group["lr"] for group in (*layers, bounds)} == {1e-5}
    assert {group["weight_decay"] for group in layers} == {0.5} and bounds["weight_decay"] == 0.0
    assert other.weighter.discriminator_optimizer.param_groups[0]["weight_decay"] == 0.7
    assert [group["weight_decay"] for group in other.weighter.dual_optimizer.param_groups] == [0.6, 0.0]


def test_an_instance_of_a_users_class_travels(tmp_path: Path) -> None:
    weighter = Scaled(0.5)
    agent = small_agent(weighter=weighter, weighter_kwargs=None).learn(80)
    assert agent.weighter is weighter
    agent.save(tmp_path / "agent")
    loaded = MBPO.load(tmp_path / "agent")
    assert loaded.weighter.power == 0.5
    assert float(loaded.weighter.calls) == float(weighter.calls) > 0


def test_saved_tensors_need_no_code(tmp_path: Path) -> None:
    import io
    import zipfile

    agent = small_agent(weighter="tom").learn(80)
    agent.save(tmp_path / "agent.zip")
    with zipfile.ZipFile(tmp_path / "agent.zip") as archive:
        names = [name for name in archive.namelist() if name.endswith(".pth")]
        assert {"dynamics.pth", "dynamics.optimizer.pth", "weighter.pth", "termination.pth"} <= set(names)
        for name in names:
            th.load(io.BytesIO(archive.read(name)), weights_only=True)


def test_the_zip_holds_no_data_and_no_imagination(tmp_path: Path) -> None:
    agent = small_agent().learn(80)
    agent.save(tmp_path / "agent.zip")
    loaded = MBPO.load(tmp_path / "agent.zip")
    assert loaded.imagined.size == 0
    assert loaded.replay_buffer.n_transitions == 0
