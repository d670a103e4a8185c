"""A trial trains with what it samples and with what is fixed; ``--trial-id`` trains with the same."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("rl_zoo3", reason="rl_zoo3 is not installed: pip install 'sb3_tom[zoo]'")

import optuna

from sb3_tom import MBPO
from sb3_tom.dynamics.ensemble import ProbabilisticEnsemble
from sb3_tom.zoo.checks import HyperparameterError
from sb3_tom.zoo.samplers import SAMPLERS
from sb3_tom.zoo.search import Search, search
from sb3_tom.zoo.storages import open_storage
from sb3_tom.zoo.trials import sampled_mappings
from tests.zoo.small import experiment

pytestmark = pytest.mark.filterwarnings("ignore:.*trials do not have")

BASE = {"buffer_size": 4000, "learning_starts": 20}
NAMES = ("gamma", "update_to_data_ratio", "batch_size", "tau")


class Narrow(ProbabilisticEnsemble):
    """Takes nothing that is sampled for its base."""

    def __init__(self, width: int = 8) -> None:
        super().__init__(net_arch=[width])


@pytest.fixture
def searched(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., list[MBPO]]:
    """Agents of the trials of the zoo's search, which do not learn."""
    agents: list[MBPO] = []

    def learn(agent: MBPO, steps: int, callback: list[Any]) -> None:
        agents.append(agent)
        callback[0].last_mean_reward = 0.0

    def run(algo: str, fixed: dict[str, Any], n_trials: int = 1, storage: str = "") -> list[MBPO]:
        monkeypatch.setattr(MBPO, "learn", learn)
        study = {"storage": storage or str(tmp_path / "s.log"), "study_name": "s", "n_trials": n_trials}
        manager = experiment(
            tmp_path, algo, hyperparams=fixed, optimize_hyperparameters=True, n_evaluations=1, no_optim_plots=True, **study
        )
        manager.setup_experiment()
        manager.hyperparameters_optimization()
        return agents

    return run


def settings(agent: MBPO) -> dict[str, Any]:
    """All that a search may sample, as the agent has it."""
    found = {name: getattr(agent, name) for name in NAMES} | agent.plug_arguments()
    return found | {"net_arch": agent.policy.net_arch, "rollout_schedule": agent.rollout_schedule}


@pytest.mark.parametrize(
    ("algo", "fixed"),
    [
        ("mbpo", {}),
        ("mbpo", {"dynamics": "linear", "dynamics_kwargs": {"ridge": 1.0}}),
        ("mbpo", {"dynamics_kwargs": {"n_members": 3, "n_elites": 3, "net_arch": [9]}}),
        ("mbpo", {"policy_kwargs": {"net_arch": [9]}}),
        ("mbpo", {"gamma": 0.98, "update_to_data_ratio": 7}),
        ("mbpo", {"dynamics": f"{__name__}:Narrow", "dynamics_kwargs": {"width": 6}}),
        ("mbpo_tom", {"weighter": "pmac"}),
        ("dhmbpo", {"policy_update": "sac"}),
    ],
    ids=str,
)
def test_a_trial_is_trained_again_as_it_was(
    algo: str, fixed: dict[str, Any], searched: Callable[..., list[MBPO]], tmp_path: Path
) -> None:
    """With the search's own ``-params``; a mapping that the trial had replaced there does not replace the trial's."""
    trials = searched(algo, {**BASE, **fixed}, n_trials=2)
    study = {"storage": str(tmp_path / "s.log"), "study_name": "s", "trial_id": 1}
    again, _ = experiment(tmp_path, algo, hyperparams={**BASE, **fixed}, **study).setup_experiment()
    assert settings(again) == settings(trials[1])


def test_what_was_fixed_and_is_forgotten_is_named(searched: Callable[..., list[MBPO]], tmp_path: Path) -> None:
    """The trial has a sampled value for it, too, that no agent ever had."""
    searched("mbpo", {**BASE, "gamma": 0.98}, n_trials=2)
    study = {"storage": str(tmp_path / "s.log"), "study_name": "s"}
    with pytest.warns(UserWarning, match=r"trial 1 had \['gamma'\] by -params: give them again"):
        again, _ = experiment(tmp_path, "mbpo", hyperparams=BASE, trial_id=1, **study).setup_experiment()
    assert again.gamma == 0.99, "the file's"


def test_a_trial_that_is_not_there_or_of_another_search_is_named(searched: Any, tmp_path: Path) -> None:
    searched("mbpo", BASE)
    study: dict[str, Any] = {"storage": str(tmp_path / "s.log"), "study_name": "s"}
    with pytest.raises(HyperparameterError, match=r"trial_id=5 is not allowed; allowed: 0 to 0, of 's'"):
        experiment(tmp_path, "mbpo", hyperparams=BASE, trial_id=5, **study).setup_experiment()
    loaded = optuna.load_study(storage=open_storage(study["storage"]), study_name="s")
    loaded.enqueue_trial({"lr": 0.1})
    loaded.tell(loaded.ask({"lr": optuna.distributions.FloatDistribution(0.0, 1.0)}), 1.0)
    with pytest.raises(HyperparameterError, match=r"the trial has no 'one_minus_gamma'; allowed: a trial of a search for mb"):
        experiment(tmp_path, "mbpo", hyperparams=BASE, trial_id=1, **study).setup_experiment()


def test_the_zoos_search_and_ours_share_no_study(
    searched: Callable[..., list[MBPO]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A value of theirs is the last evaluation of one run, ours a mean over seeds."""
    ours, theirs = str(tmp_path / "ours.log"), str(tmp_path / "theirs.log")
    objective = Search("mbpo", "Pendulum-v1", 60, (0, 1), 1, 1, hyperparams=BASE)
    monkeypatch.setattr(Search, "__call__", lambda self, trial: 0.0)
    search(objective, open_storage(ours), "s", 1)
    with pytest.raises(HyperparameterError, match=r"study_name='s' is not allowed: python -m sb3_tom.tune has made it"):
        searched("mbpo", BASE, storage=ours)
    study = optuna.load_study(storage=open_storage(ours), study_name="s")
    assert len(study.trials) == 1 and "command" not in study.user_attrs, "nothing was written"
    searched("mbpo", BASE, storage=theirs)
    with pytest.raises(ValueError, match="its trials are not all of this search"):
        search(objective, open_storage(theirs), "s", 3)
    study.set_user_attr("command", "python -m rl_zoo3.train --algo sac -optimize")  # whose study it has become
    with pytest.raises(ValueError, match="its trials are not all of this search"):
        search(objective, open_storage(ours), "s", 3)


def test_what_a_search_space_samples_of_mappings() -> None:
    verbosity = optuna.logging.get_verbosity()
    model, tom = {"net_arch", "learning_rate"}, sampled_mappings(SAMPLERS["mbpo_tom"])
    assert sampled_mappings(SAMPLERS["mbpo"]) == {"dynamics_kwargs": model, "policy_kwargs": {"net_arch"}}
    assert {"divergence", "recent_size"} < tom["weighter_kwargs"] and tom["dynamics_kwargs"] == model
    assert sampled_mappings(SAMPLERS["dhmbpo"])["policy_update_kwargs"] == {"horizon", "critic_warmup"}
    assert optuna.logging.get_verbosity() == verbosity


@pytest.mark.parametrize(("kwargs", "lost"), [({"ridge": 1.0}, False), ({}, True)])
def test_only_what_trials_replace_is_said_to_be_lost(
    kwargs: dict[str, Any], lost: bool, searched: Callable[..., list[MBPO]], recwarn: pytest.WarningsRecorder
) -> None:
    fixed = {"dynamics": "linear", "dynamics_kwargs": kwargs} if kwargs else {"policy_kwargs": {"net_arch": [9]}}
    (agent,) = searched("mbpo", {**BASE, **fixed})
    said = [str(one.message) for one in recwarn if "trials do not have" in str(one.message)]
    assert bool(said) is lost and all("'policy_kwargs': {'net_arch': [9]}" in text for text in said)
    assert agent.plug_arguments().get("dynamics_kwargs") == kwargs or lost


@pytest.mark.parametrize("budget", [2_000, 5_000, 100_000])
def test_tom_weighs_within_a_trial(budget: int) -> None:
    """It waits for ``recent_size`` rows."""
    for seed in range(20):
        trial = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=seed)).ask()
        trial.set_user_attr("n_timesteps", budget)
        size = SAMPLERS["mbpo_tom"](trial, 1, 1, {})["weighter_kwargs"]["recent_size"]
        assert 500 <= size <= min(max(budget // 5, 500), 4_000)
