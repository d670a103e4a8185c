"""Which plugs an agent from a file has, and which it may be given: the file's, others of their class, or none that fits."""

import importlib
import os
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
import torch as th

from sb3_tom import DHMBPO, DHMBPOTOM, MBPO, MBPOPMAC, MBPOTOM, LinearDynamics, TOMWeighter
from sb3_tom.contracts.termination import Termination
from sb3_tom.dynamics.mdn import MixtureDensityNetwork
from tests.mbpo.small import SMALL_MODELS, SMALL_WEIGHTERS, small_agent
from tests.mbpo.test_save_load import Scaled


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


def test_naming_a_class_that_needs_arguments_keeps_those_of_the_file(tmp_path: Path) -> None:
    small_agent(weighter=Scaled, weighter_kwargs={"power": 0.5}).save(tmp_path / "agent")
    assert MBPO.load(tmp_path / "agent", weighter=Scaled).weighter.power == 0.5
    with pytest.raises(ValueError, match=r"weighter=PMACWeighter.*saved with weighter=Scaled"):
        MBPO.load(tmp_path / "agent", weighter="pmac")


def test_another_kind_of_termination_is_refused_by_name(tmp_path: Path) -> None:
    small_agent().learn(60).save(tmp_path / "agent")
    with pytest.raises(ValueError, match=r"termination_fn='never' is not allowed: .*from_sac"):
        MBPO.load(tmp_path / "agent", "Pendulum-v1", termination_fn="never")


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
