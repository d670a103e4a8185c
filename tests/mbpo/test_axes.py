"""One row in the table of axes is all that a new kind of plug takes; and what the row drives."""

import inspect
from typing import Any

import pytest
import torch as th

from sb3_tom import MBPO, MBPOPMAC, MBPOTOM
from sb3_tom.contracts.plug import Plug
from sb3_tom.contracts.resolve import Axis
from sb3_tom.mbpo import axes
from sb3_tom.mbpo.axes import AXES, default_of
from sb3_tom.mbpo.plugs import Plugs, implied_by, merge_specs, requested_in, specs_of
from sb3_tom.zoo.checks import check_hyperparams
from tests.mbpo.small import small_agent
from tests.mbpo.toys import Remembering


class Toy(Plug):
    """A contract of a new axis, and its only plug."""

    def __init__(self, size: int = 3) -> None:
        super().__init__()
        self.size = size

    def build(self, observation_dim: int, action_dim: int) -> None:
        self.gain = th.nn.Parameter(th.ones(self.size, observation_dim))
        self.gain_optimizer = th.optim.Adam([self.gain])


class Other(Toy):
    """Another one."""


ROW = Axis(Toy, {"toy": f"{__name__}:Toy", "other": f"{__name__}:Other"}, "toy", "toy_part")


class ToyMBPO(MBPO):
    """MBPO with one argument more in its signature (two, with the keyword arguments)."""

    def __init__(self, policy: Any, env: Any, *, toy: Any = None, toy_part_kwargs: Any = None, **kwargs: Any) -> None:
        set_up = kwargs.pop("_init_setup_model", True)
        super().__init__(policy, env, _init_setup_model=False, **kwargs)
        self._plug_specs |= {"toy": ("toy" if toy is None else toy, toy_part_kwargs)}
        if set_up:
            self._setup_model()


parameters = [*inspect.signature(MBPO).parameters.values(), *list(inspect.signature(ToyMBPO).parameters.values())[2:4]]
ToyMBPO.__init__.__signature__ = inspect.Signature(  # type: ignore[attr-defined]  # for checkpoints and YAML checks
    [inspect.Parameter("self", inspect.Parameter.POSITIONAL_OR_KEYWORD), *parameters]
)
TINY: dict[str, Any] = {"dynamics": "linear", "policy_kwargs": {"net_arch": [8]}, "learning_starts": 20, "seed": 0}


@pytest.fixture(autouse=True)
def _with_the_row(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(AXES, "toy", ROW)


def test_a_row_builds_saves_loads_and_resumes(tmp_path: Any) -> None:
    agent = ToyMBPO("MlpPolicy", "Pendulum-v1", toy_part_kwargs={"size": 5}, rollout_batch_size=20, **TINY)
    assert type(agent.toy_part) is Toy and agent.toy_part.gain.shape == (5, 3)
    agent.learn(30)
    agent.toy_part.gain.data.mul_(2.0)
    agent.save(tmp_path / "agent")
    loaded = ToyMBPO.load(tmp_path / "agent", env="Pendulum-v1")
    assert th.equal(loaded.toy_part.gain, agent.toy_part.gain)
    assert "toy_part.gain_optimizer" in loaded.get_parameters()
    agent.save_checkpoint(tmp_path / "run.zip")
    assert th.equal(ToyMBPO.resume(tmp_path / "run.zip", "Pendulum-v1").toy_part.gain, agent.toy_part.gain)
    with pytest.raises(ValueError, match=r"toy=Other is not allowed: the file was saved with toy=Toy"):
        ToyMBPO.load(tmp_path / "agent", toy="other")
    smaller = ToyMBPO("MlpPolicy", "Pendulum-v1", rollout_batch_size=20, **TINY)
    with pytest.raises(ValueError, match=r"toy_part_kwargs=None \(the run has \{'size': 5\}\)"):
        smaller.load_checkpoint(tmp_path / "run.zip")


def test_a_row_checks_what_users_write() -> None:
    with pytest.raises(ValueError, match=r"^toy='tiy' is unknown; allowed: one of \['other', 'toy'\], a subclass"):
        ToyMBPO("MlpPolicy", "Pendulum-v1", toy="tiy", **TINY)
    with pytest.raises(ValueError, match=r"toy_part_kwargs=.*do not fit Toy"):
        ToyMBPO("MlpPolicy", "Pendulum-v1", toy_part_kwargs={"seize": 2}, **TINY)


def test_a_row_is_known_in_yaml_files() -> None:
    settings = {"n_timesteps": 10, "policy": "MlpPolicy"}
    check_hyperparams(settings | {"toy": "other", "toy_part_kwargs": {"size": 2}}, ToyMBPO, lambda key: "here")
    with pytest.raises(ValueError, match=r"here: the key toi='other' is unknown; did you mean toy"):
        check_hyperparams(settings | {"toi": "other"}, ToyMBPO, lambda key: "here")


@pytest.mark.parametrize("argument", [name for name in AXES if name != "toy"])
def test_the_signature_has_both_arguments_of_each_row(argument: str) -> None:
    defaults = {name: parameter.default for name, parameter in inspect.signature(MBPO).parameters.items()}
    assert defaults[AXES[argument].kwargs_argument] is None
    assert defaults[argument] in (None, AXES[argument].default)


@pytest.mark.parametrize("argument", [name for name in AXES if name != "toy"])
def test_every_alias_names_a_plug_of_its_contract(argument: str) -> None:
    for alias in AXES[argument].aliases:
        specs = specs_of({argument: alias}, MBPO) | {"toy": ("toy", None)}
        assert isinstance(Plugs(specs).by_part[AXES[argument].part], AXES[argument].contract)


def test_classes_have_defaults_of_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(AXES, "toy")
    assert [default_of(cls, "weighter") for cls in (MBPO, MBPOPMAC, MBPOTOM)] == ["uniform", "pmac", "tom"]
    assert [default_of(cls, "policy_update") for cls in (MBPO, MBPOTOM)] == ["sac", "sac"]
    assert implied_by(MBPO) == {} and implied_by(MBPOTOM) == {"weighter": "tom"}
    kwargs: dict[str, Any] = {"weighter": "pmac", "gamma": 0.9, "termination_kwargs": {}}
    assert requested_in(kwargs) == {"weighter": "pmac", "termination_kwargs": {}} and kwargs == {"gamma": 0.9}


def test_what_a_file_holds_is_merged_with_what_load_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(AXES, "toy")
    saved = specs_of({"weighter": "pmac", "weighter_kwargs": {"alpha": 0.5}}, MBPO)
    assert (
        merge_specs(saved, {}, MBPO) == merge_specs(saved, {"weighter": "pmac"}, MBPO) == saved
    )  # the name alone changes nothing
    assert merge_specs(saved, {"weighter_kwargs": {"alpha": 0.7}}, MBPO)["weighter"] == ("pmac", {"alpha": 0.7})
    assert merge_specs(saved, {"termination_fn": "never"}, MBPO)["termination_fn"] == ("never", None)


def test_an_agent_keeps_its_own_plugs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(AXES, "toy")
    agent = small_agent(weighter=Remembering, weighter_kwargs=None)
    assert agent.plugs.by_part["weighter"] is agent.weighter and agent.confidence is None
    assert set(agent.plugs.by_part) == {axis.part for axis in axes.AXES.values()}
    assert agent.plug_arguments()["weighter"] is Remembering and agent.plug_arguments()["dynamics_kwargs"]
