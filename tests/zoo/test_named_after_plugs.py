"""Names of the zoo that follow from the table of axes: a class with a default each, file and search space of its backbone."""

import re
from pathlib import Path

import pytest

pytest.importorskip("rl_zoo3", reason="rl_zoo3 is not installed: pip install 'sb3_tom[zoo]'")

import optuna
from rl_zoo3.hyperparams_opt import HYPERPARAMS_SAMPLER
from rl_zoo3.utils import ALGOS

from sb3_tom import DHMBPO, MBPO
from sb3_tom.checkpoint import ResumeCallback
from sb3_tom.mbpo import variants
from sb3_tom.mbpo.axes import AXES, default_of
from sb3_tom.mbpo.variants import NAMED_AFTER_PLUGS
from sb3_tom.zoo.registration import ALGORITHMS, config_of
from sb3_tom.zoo.search import Search
from tests.mbpo.small import SMALL_MODELS
from tests.zoo.small import SMALL, experiment, train

SOME = ["mbpo_vagram", "mbpo_recall", "dhmbpo_recency", "dhmbpo_mnm"]


def test_every_weighter_and_objective_has_a_name() -> None:
    aliases = {
        f"{backbone}_{alias}"
        for backbone in ("mbpo", "dhmbpo")
        for axis in (AXES["weighter"], AXES["objective"])
        for alias in {*axis.aliases} - {axis.default}
    }
    assert {*NAMED_AFTER_PLUGS, *ALGORITHMS} - {"mbpo", "dhmbpo"} == aliases
    assert not {*NAMED_AFTER_PLUGS} & {*ALGORITHMS}
    listed = re.findall(r"\b(?:DH)?MBPO[A-Z]\w*", str(variants.__doc__))
    assert sorted(listed) == sorted(cls.__name__ for cls in NAMED_AFTER_PLUGS.values())


@pytest.mark.parametrize("name", NAMED_AFTER_PLUGS)
def test_a_name_is_a_class_with_a_default(name: str) -> None:
    cls = NAMED_AFTER_PLUGS[name]
    backbone, _, alias = name.partition("_")
    assert ALGOS[name] is cls is getattr(variants, cls.__name__) and cls.__mro__[1] is (DHMBPO if backbone[0] == "d" else MBPO)
    assert alias in {default_of(cls, "weighter"), default_of(cls, "objective")}
    assert config_of(name) == config_of(backbone) and HYPERPARAMS_SAMPLER[name] is HYPERPARAMS_SAMPLER[backbone]


@pytest.mark.parametrize("name", SOME)
def test_an_experiment_goes_on_from_its_own_files(name: str, tmp_path: Path) -> None:
    """Zips and checkpoints; the backbone refuses them, whose name means something else."""
    backbone, _, alias = name.partition("_")
    small = {**SMALL, "dynamics_kwargs": SMALL_MODELS["smooth" if backbone == "dhmbpo" else "ensemble"]}
    manager, agent = train(tmp_path, algo=name, hyperparams=small)
    plugs = {type(agent.weighter).__name__.lower(), type(agent.objective).__name__.lower()}
    assert type(agent) is NAMED_AFTER_PLUGS[name] and plugs & {f"{alias}weighter", f"{alias}objective"}
    path = str(Path(manager.save_path) / "Pendulum-v1.zip")
    assert type(type(agent).load(path)) is type(agent)
    with pytest.raises(ValueError, match=f"--algo {backbone} means .* but .* was saved with"):
        experiment(tmp_path, backbone, trained_agent=path, hyperparams=small).setup_experiment()
    again, _ = experiment(tmp_path, name, trained_agent=path, hyperparams=small).setup_experiment()
    assert type(again) is type(agent) and type(again.objective) is type(agent.objective)
    agent.learn(30, ResumeCallback(tmp_path / "checkpoints", 30))
    assert type(type(agent).resume(tmp_path / "checkpoints", "Pendulum-v1", learning_rate=3e-4)) is type(agent)


def test_a_search_knows_them() -> None:
    assert Search("mbpo_vagram", "Pendulum-v1", 100).algo == "mbpo_vagram"
    trial = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0)).ask()
    assert "weighter_kwargs" not in HYPERPARAMS_SAMPLER["dhmbpo_recency"](trial, 1, 1, {})
