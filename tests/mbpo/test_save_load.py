"""Round trips: everything that learns travels in the zip."""

import importlib
import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch as th
from stable_baselines3 import SAC
from stable_baselines3.common.buffers import ReplayBuffer
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.save_util import save_to_pkl

from sb3_tom import DHMBPO, DHMBPOTOM, MBPO, MBPOPMAC, MBPOTOM, Context, LinearDynamics, TOMWeighter, Transitions, Weighter
from sb3_tom.contracts.termination import Termination
from sb3_tom.data.replay_buffer import WeightedReplayBuffer
from sb3_tom.dynamics.mdn import MixtureDensityNetwork
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


@pytest.mark.parametrize("weighter", SMALL_WEIGHTERS)
@pytest.mark.parametrize("dynamics", SMALL_MODELS)
@pytest.mark.parametrize("steps", [0, 60, 90])
def test_round_trip(weighter: str, dynamics: str, steps: int, tmp_path: Path) -> None:
    if steps != 90 and weighter != "tom" and dynamics != "ensemble":
        pytest.skip("the moment of training is varied for some pairs only")
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


def test_another_weighter_is_refused_by_name(tmp_path: Path) -> None:
    small_agent(weighter="tom").save(tmp_path / "agent")
    with pytest.raises(ValueError, match=r"weighter=PMACWeighter.*saved with weighter=TOMWeighter"):
        MBPO.load(tmp_path / "agent", weighter="pmac")
    with pytest.raises(ValueError, match=r"dynamics=LinearDynamics.*saved with dynamics=ProbabilisticEnsemble"):
        MBPO.load(tmp_path / "agent", dynamics="linear")
    same = MBPO.load(tmp_path / "agent", weighter="tom", weighter_kwargs={**SMALL_WEIGHTERS["tom"], "uniform_mix": 0.25})
    assert same.weighter.uniform_mix == 0.25
    again = MBPOTOM.load(tmp_path / "agent")
    assert isinstance(again.weighter, TOMWeighter)
    assert again.weighter.recent_size == SMALL_WEIGHTERS["tom"]["recent_size"]
    with pytest.raises(ValueError, match=r"weighter=PMACWeighter.*saved with weighter=TOMWeighter"):
        MBPOPMAC.load(tmp_path / "agent")
    assert isinstance(MBPOPMAC.load(tmp_path / "agent", weighter="tom").weighter, TOMWeighter)


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


def test_naming_a_class_that_needs_arguments_keeps_those_of_the_file(tmp_path: Path) -> None:
    small_agent(weighter=Scaled, weighter_kwargs={"power": 0.5}).save(tmp_path / "agent")
    assert MBPO.load(tmp_path / "agent", weighter=Scaled).weighter.power == 0.5
    with pytest.raises(ValueError, match=r"weighter=PMACWeighter.*saved with weighter=Scaled"):
        MBPO.load(tmp_path / "agent", weighter="pmac")


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


def test_another_kind_of_termination_is_refused_by_name(tmp_path: Path) -> None:
    small_agent().learn(60).save(tmp_path / "agent")
    with pytest.raises(ValueError, match=r"termination_fn='never' is not allowed: .*from_sac"):
        MBPO.load(tmp_path / "agent", "Pendulum-v1", termination_fn="never")


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


def test_replay_buffer_round_trip(tmp_path: Path) -> None:
    agent = small_agent(weighter="pmac").learn(120)
    agent.save_replay_buffer(tmp_path / "buffer")
    other = small_agent(weighter="pmac")
    other.load_replay_buffer(tmp_path / "buffer")
    assert_same(tuple(agent.replay_buffer.transitions()), tuple(other.replay_buffer.transitions()))
    assert th.equal(agent.replay_buffer.row_weights(), other.replay_buffer.row_weights())
    assert other.policy_version >= int(other.replay_buffer.transitions().policy_version.max())
    other.learn(60)


def test_an_agent_with_a_larger_loaded_buffer_can_be_resumed(tmp_path: Path) -> None:
    small_agent(buffer_size=1000).learn(60).save_replay_buffer(tmp_path / "rows")
    agent = small_agent(buffer_size=500)
    agent.load_replay_buffer(tmp_path / "rows")
    agent.save_checkpoint(tmp_path / "run.zip")
    resumed = MBPO.resume(tmp_path / "run.zip", "Pendulum-v1")
    assert resumed.buffer_size == resumed.replay_buffer.buffer_size == 1000
    assert resumed.replay_buffer.n_transitions == 60


def test_a_sac_users_buffer_is_loaded_and_used(tmp_path: Path) -> None:
    sac = SAC("MlpPolicy", "Pendulum-v1", learning_starts=300, buffer_size=500, seed=0)
    sac.learn(250)
    sac.save_replay_buffer(tmp_path / "sac")
    agent = small_agent(weighter="tom")
    agent.load_replay_buffer(tmp_path / "sac")
    assert isinstance(agent.replay_buffer, WeightedReplayBuffer)
    assert agent.replay_buffer.n_transitions == 250
    np.testing.assert_array_equal(agent.replay_buffer.observations[:250, 0], sac.replay_buffer.observations[:250, 0])
    agent.learn(60)
    assert agent.replay_buffer.n_transitions == 310
    assert agent._n_updates > 0


def test_a_loaded_buffer_with_room_for_less_than_learning_starts_is_used(tmp_path: Path) -> None:
    sac = SAC("MlpPolicy", "Pendulum-v1", learning_starts=300, buffer_size=40, seed=0)
    sac.learn(60)
    sac.save_replay_buffer(tmp_path / "sac")
    agent = small_agent(learning_starts=50)
    agent.load_replay_buffer(tmp_path / "sac")
    agent.learn(60)
    assert agent.replay_buffer.n_transitions == 40
    assert agent._n_updates == 2 * 10


def test_a_buffer_of_other_envs_is_refused(tmp_path: Path) -> None:
    small_agent(make_vec_env("Pendulum-v1", 2)).learn(60).save_replay_buffer(tmp_path / "buffer")
    agent = small_agent()
    kept = agent.replay_buffer
    with pytest.raises(ValueError, match=r"n_envs=2.*allowed.*1"):
        agent.load_replay_buffer(tmp_path / "buffer")
    assert agent.replay_buffer is kept


def test_a_file_that_holds_no_buffer_is_refused(tmp_path: Path) -> None:
    save_to_pkl(tmp_path / "buffer", {"observations": np.zeros(3)})
    agent = small_agent()
    kept = agent.replay_buffer
    with pytest.raises(ValueError, match=r"path='.*buffer' is not allowed: it holds a dict; allowed: a file of save_replay"):
        agent.load_replay_buffer(tmp_path / "buffer")
    assert agent.replay_buffer is kept


def test_arguments_of_a_loaded_weighter_that_change_its_networks_are_named(tmp_path: Path) -> None:
    small_agent(weighter="tom").learn(60).save(tmp_path / "agent")
    with pytest.raises(ValueError, match=r"train_encoders.* is not allowed: the networks of the file are others"):
        MBPO.load(tmp_path / "agent", weighter_kwargs={**SMALL_WEIGHTERS["tom"], "train_encoders": False})


def test_a_loaded_weighter_that_scales_no_more_has_raw_inputs(tmp_path: Path) -> None:
    agent = small_agent(weighter="tom").learn(60)
    agent.save(tmp_path / "agent")
    loaded = MBPO.load(tmp_path / "agent", env=agent.env, weighter_kwargs={**SMALL_WEIGHTERS["tom"], "standardize": False})
    loaded.adopt_replay_buffer(agent.replay_buffer)
    loaded.fit_weights()
    for network in (loaded.weighter.dual, loaded.weighter.discriminator):
        assert bool((network.standardizer.std == 1.0).all() and (network.standardizer.mean == 0.0).all())


def test_a_buffer_size_that_the_number_of_envs_does_not_divide_stays(tmp_path: Path) -> None:
    agent = small_agent(make_vec_env("Pendulum-v1", 3)).learn(60)
    agent.save_replay_buffer(tmp_path / "buffer.pkl")
    agent.load_replay_buffer(tmp_path / "buffer.pkl")
    assert agent.buffer_size == 1000 and agent.replay_buffer.capacity == 999


def test_the_class_that_has_saved_an_agent_loads_it_whatever_its_plugs_are(tmp_path: Path) -> None:
    """The zoo's enjoy loads by the class, and has no argument for plugs."""
    kwargs = {"policy_kwargs": {"net_arch": [8]}, "device": "cpu"}
    DHMBPO("MlpPolicy", "Pendulum-v1", dynamics="linear", policy_update="sac", **kwargs).save(tmp_path / "agent")
    loaded = DHMBPO.load(tmp_path / "agent")
    assert isinstance(loaded.dynamics, LinearDynamics)
    loaded.save(tmp_path / "again")
    assert isinstance(DHMBPO.load(tmp_path / "again").dynamics, LinearDynamics)
    MBPO.load(tmp_path / "agent").save(tmp_path / "plain")
    for name in ("agent", "plain"):
        other = DHMBPOTOM if name == "agent" else DHMBPO
        with pytest.raises(ValueError, match=r"is not allowed: the file was saved with"):
            other.load(tmp_path / name)


SCRIPT = """
import sys
from sb3_tom import MBPO, Weighter
import torch as th

class Mine(Weighter):
    def __init__(self, power=1.0):
        super().__init__()
        self.power = power

    def weights(self, data, context):
        return th.full((data.size,), VALUE)

if sys.argv[1] == "save":
    MBPO("MlpPolicy", "Pendulum-v1", weighter=Mine, weighter_kwargs={"power": 3.0}, device="cpu").save(sys.argv[2])
else:
    for kwargs in ({"weighter": Mine}, {"weighter": Mine(3.0)}):
        weighter = MBPO.load(sys.argv[2], **kwargs).weighter
        assert type(weighter) is Mine and weighter.power == 3.0, weighter
"""


def test_a_class_of_a_script_is_the_one_that_the_script_has_now(tmp_path: Path) -> None:
    """Files hold a copy of it, whose code is older."""
    for verb, value in (("save", "1.0"), ("load", "2.0")):
        (tmp_path / "script.py").write_text(SCRIPT.replace("VALUE", value))
        command = [sys.executable, str(tmp_path / "script.py"), verb, str(tmp_path / "agent.zip")]
        subprocess.run(command, check=True, env={**os.environ, "OMP_NUM_THREADS": "1"})


class Locked(Scaled):
    """Cannot be copied."""

    def __init__(self) -> None:
        super().__init__(1.0)
        self.lock = threading.Lock()


def test_an_instance_that_cannot_be_copied_is_refused_by_name() -> None:
    with pytest.raises(ValueError, match=r"weighter=an instance of Locked is not allowed.*pickle '_thread.lock'.*the class"):
        small_agent(weighter=Locked(), weighter_kwargs=None)  # type: ignore[arg-type]
    small_agent(weighter=Locked, weighter_kwargs=None)  # type: ignore[arg-type]


class Beyond(Termination):
    """Has an argument."""

    def __init__(self, limit: float) -> None:
        super().__init__()
        self.limit = limit

    def forward(self, observations: th.Tensor, actions: th.Tensor, next_observations: th.Tensor) -> th.Tensor:
        return next_observations[:, :1] > self.limit


class Nowhere(Beyond):
    """Has none."""

    def __init__(self) -> None:
        super().__init__(float("inf"))


def test_another_termination_gets_no_arguments_of_the_files(tmp_path: Path) -> None:
    small_agent(termination_fn=Beyond, termination_kwargs={"limit": 2.0}).save(tmp_path / "agent")
    assert MBPO.load(tmp_path / "agent", termination_fn=Beyond, termination_kwargs={"limit": 3.0}).termination.limit == 3.0
    assert MBPO.load(tmp_path / "agent", termination_fn=Nowhere).termination.limit == float("inf")


def test_an_agent_from_a_file_whose_model_has_no_gradient_predicts_and_does_not_train(tmp_path: Path) -> None:
    """Older versions allowed a mixture with the double horizon."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(MixtureDensityNetwork, "is_reparameterised", True)
        kwargs = {"dynamics_kwargs": SMALL_MODELS["mdn"], "learning_starts": 20, "rollout_batch_size": 8, "device": "cpu"}
        DHMBPO("MlpPolicy", "Pendulum-v1", dynamics="mdn", **kwargs).save(tmp_path / "agent")
    loaded = DHMBPO.load(tmp_path / "agent", env="Pendulum-v1")
    assert loaded.predict(np.zeros(3, np.float32))[0].shape == (1,)
    with pytest.raises(ValueError, match="its next observations are not differentiable in all that they depend on"):
        loaded.learn(25)


def test_actions_in_the_envs_own_scale_are_refused(tmp_path: Path) -> None:
    """Demonstrations that were not scaled: the model would believe in pushes of half their effect."""
    agent = small_agent(buffer_size=20)
    demonstrations = ReplayBuffer(20, agent.observation_space, agent.action_space, "cpu")
    for action in (-2.0, 1.5):
        demonstrations.add(np.zeros(3), np.ones(3), np.full(1, action), np.zeros(1), np.zeros(1), [{}])
    save_to_pkl(tmp_path / "demonstrations.pkl", demonstrations)
    with pytest.raises(ValueError, match=r"actions are up to 2 and not allowed.*allowed: \[-1, 1\].*scale_action"):
        agent.load_replay_buffer(tmp_path / "demonstrations.pkl")


def test_a_file_with_code_of_a_missing_module_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "of_a_simulator.py").write_text("def pays(observations, actions, after):\n    return after[:, :1]\n")
    with monkeypatch.context() as patch:
        patch.syspath_prepend(str(tmp_path))
        pays = importlib.import_module("of_a_simulator").pays
        small_agent(reward_fn=pays).save(tmp_path / "agent")
    del sys.modules["of_a_simulator"]
    with pytest.raises(ValueError, match=r"needs the module 'of_a_simulator', which is missing here.*agent\.policy\.save"):
        MBPO.load(tmp_path / "agent")
    assert MBPO.load(tmp_path / "agent", custom_objects={"reward_fn": None}).reward_fn is None


def test_a_policy_is_not_trained_through_a_model_that_was_never_fitted(tmp_path: Path) -> None:
    small_agent(buffer_size=200).learn(60).save_replay_buffer(tmp_path / "rows.pkl")
    agent = DHMBPO("MlpPolicy", "Pendulum-v1", buffer_size=200, rollout_batch_size=8, device="cpu")
    agent.load_replay_buffer(tmp_path / "rows.pkl")
    for train in (agent.end_phase, lambda: agent.train_policy(2)):
        with pytest.raises(ValueError, match=r"a model that was never fitted.*allowed: after fit_model\(\)"):
            train()
