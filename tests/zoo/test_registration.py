"""What the RL Zoo knows of sb3_tom, and what it keeps of others."""

import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

pytest.importorskip("rl_zoo3", reason="rl_zoo3 is not installed: pip install 'sb3_tom[zoo]'")

import rl_zoo3
import rl_zoo3.exp_manager
import rl_zoo3.hyperparams_opt
import rl_zoo3.train
import rl_zoo3.utils

import _sb3_tom_zoo_hook as hook
from sb3_tom import DHMBPO, DHMBPOPMAC, DHMBPOTOM, MBPO, MBPOPMAC, MBPOTOM
from sb3_tom.mbpo.axes import default_of
from sb3_tom.mbpo.variants import NAMED_AFTER_PLUGS
from sb3_tom.zoo.command import run_command
from sb3_tom.zoo.registration import MODULES, hyperparams_folder, register
from tests.zoo.small import experiment

NAMES = {
    "mbpo": MBPO,
    "mbpo_pmac": MBPOPMAC,
    "mbpo_tom": MBPOTOM,
    "dhmbpo": DHMBPO,
    "dhmbpo_pmac": DHMBPOPMAC,
    "dhmbpo_tom": DHMBPOTOM,
}


class Manager:
    """As much of the zoo's ExperimentManager as the registration touches."""

    def __init__(self, args: Any, algo: str, env_id: str, config: str | None = None) -> None:
        self.algo = algo
        self.config = config

    def read_hyperparameters(self) -> str:
        return "read"

    def setup_experiment(self) -> str:
        raise TypeError("theirs")

    def objective(self, trial: Any) -> float:
        return float("nan")

    def create_callbacks(self) -> str:
        return "created"

    def _load_pretrained_agent(self, hyperparams: Any, env: Any) -> str:
        return "loaded"

    def _save_config(self, saved: Any) -> str:
        return "saved"

    def hyperparameters_optimization(self) -> str:
        return "searched"

    def load_trial(self, storage: str, study_name: str, trial_id: int | None = None, convert: bool = True) -> str:
        return "trial"


def fake_module(name: str, **contents: Any) -> ModuleType:
    module = ModuleType(name)
    vars(module).update(contents)
    return module


def test_zoo_knows_classes_samplers_and_converters() -> None:
    assert {name: rl_zoo3.ALGOS[name] for name in NAMES} == NAMES
    for table in (rl_zoo3.hyperparams_opt.HYPERPARAMS_SAMPLER, rl_zoo3.hyperparams_opt.HYPERPARAMS_CONVERTER):
        assert set(NAMES) <= set(table)
    assert [algorithm.default_weighter for algorithm in NAMES.values()] == ["uniform", "pmac", "tom"] * 2
    assert [default_of(algorithm, "policy_update") for algorithm in NAMES.values()] == ["sac"] * 3 + ["double_horizon"] * 3
    assert hook.TARGETS == MODULES


def test_registering_again_changes_nothing() -> None:
    manager = rl_zoo3.exp_manager.ExperimentManager
    before = dict(vars(manager)), dict(rl_zoo3.ALGOS)
    for name in hook.TARGETS:
        hook.register(sys.modules[name])
    assert (dict(vars(manager)), dict(rl_zoo3.ALGOS)) == before


def test_names_that_are_taken_stay_as_they_are() -> None:
    class Other:
        pass

    taken = {"mbpo": Other, "sac": Other}
    register(fake_module("rl_zoo3.utils", ALGOS=taken))
    assert taken == {**NAMES, **NAMED_AFTER_PLUGS, "mbpo": Other, "sac": Other}
    tables = {"HYPERPARAMS_SAMPLER": {"mbpo": Other}, "HYPERPARAMS_CONVERTER": {"mbpo_tom": Other}}
    search = fake_module("rl_zoo3.hyperparams_opt", **tables)
    register(search)
    assert search.HYPERPARAMS_SAMPLER["mbpo"] is search.HYPERPARAMS_CONVERTER["mbpo_tom"] is Other
    assert set(search.HYPERPARAMS_SAMPLER) == set(search.HYPERPARAMS_CONVERTER) == {*NAMES, *NAMED_AFTER_PLUGS}


def test_only_our_algorithms_are_treated_otherwise() -> None:
    manager: Any = type("Copy", (Manager,), dict(vars(Manager)))
    register(fake_module("rl_zoo3.exp_manager", ExperimentManager=manager, ALGOS={**NAMES, "mbpo": Manager, "sac": Manager}))
    assert manager(None, "mbpo_tom", "X").config == str(hyperparams_folder() / "mbpo_tom.yml")
    assert manager(None, "mbpo_tom", "X", config="mine.yml").config == "mine.yml"
    for name in ("sac", "mbpo"):  # here a class of somebody else
        other = manager(None, algo=name, env_id="X")
        assert other.config is None
        assert (other.read_hyperparameters(), other._load_pretrained_agent({}, None)) == ("read", "loaded")
        assert other.create_callbacks() == "created" and other._save_config({}) == "saved"
        assert (other.hyperparameters_optimization(), other.load_trial("s", "t", 1)) == ("searched", "trial")
        assert other.objective(None) != other.objective(None)  # not a number, and not pruned
        with pytest.raises(TypeError, match=r"^theirs$"):
            other.setup_experiment()


def test_another_module_is_refused() -> None:
    with pytest.raises(KeyError, match=r"rl_zoo3\.plots"):
        register(fake_module("rl_zoo3.plots"))


def test_a_subclass_under_its_own_name_has_its_own_config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(rl_zoo3.ALGOS, "mine", type("Mine", (MBPOTOM,), {}))
    assert Path(experiment(tmp_path, algo="mine").config).parent != hyperparams_folder()
    assert Path(experiment(tmp_path, algo="mbpo").config) == hyperparams_folder() / "mbpo.yml"


@pytest.mark.parametrize("command", [rl_zoo3.train.train, lambda: run_command("train")], ids=["rl_zoo3", "sb3_tom"])
def test_commands_offer_the_algorithms(
    command: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["train", "--algo", "nonsense"])
    with pytest.raises(SystemExit):
        command()
    message = capsys.readouterr().err
    assert "invalid choice: 'nonsense'" in message
    assert [name for name in (*NAMES, "sac", "ppo") if name not in message] == []


def test_fallback_without_the_zoo_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "rl_zoo3.utils", None)
    with pytest.raises(SystemExit, match=r"pip install 'sb3_tom\[zoo\]'"):
        run_command("enjoy")
