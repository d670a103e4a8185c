"""What a search may go on with, what is fixed for all of its trials, and which runs are long enough for one."""

import shlex
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("rl_zoo3", reason="rl_zoo3 is not installed: pip install 'sb3_tom[zoo]'")

import optuna
import rl_zoo3.train
from optuna.storages import BaseStorage, InMemoryStorage

from sb3_tom.zoo.search import Search, report, search
from sb3_tom.zoo.storages import open_storage
from tests.zoo.test_search import known

pytestmark = pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning")


@pytest.mark.parametrize("direction", ["maximize", "minimize"])
def test_a_study_that_something_else_has_made_is_refused(direction: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Such as one of ``rl_zoo3.train -optimize``, or of ``optuna create-study`` without ``--direction``."""
    storage = InMemoryStorage()
    other = optuna.create_study(storage=storage, study_name="s", direction=direction)
    if direction == "maximize":
        other.optimize(lambda trial: 1000.0, n_trials=1)
    what = {"maximize": "its trials are not all of this search", "minimize": "it does not maximize one value"}[direction]
    with pytest.raises(ValueError, match=f"study_name='s' is not allowed: .*{what}; allowed: .* another name"):
        search(known(monkeypatch), storage, "s", 2)
    assert other.user_attrs == {}


def test_a_worker_that_another_overtakes_is_not_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """The other one begins between two reads of this one: it marks the study, then runs a trial."""
    objective, storage = known(monkeypatch), InMemoryStorage()
    read = storage.get_all_trials

    def overtaken(*args: Any, **kwargs: Any) -> Any:
        trials = read(*args, **kwargs)
        monkeypatch.setattr(storage, "get_all_trials", read)
        search(objective, storage, "s", 1)
        return trials

    monkeypatch.setattr(storage, "get_all_trials", overtaken)
    assert len(search(objective, storage, "s", 2).trials) == 2


class Stopped(Search):
    """Makes the agents of its runs, and does not train them."""

    made: list[Any]

    def run_all(
        self, monkeypatch: pytest.MonkeyPatch, n_trials: int, storage: BaseStorage | None = None, best: int = 0
    ) -> optuna.Study:
        def learn(agent: Any, n_timesteps: int, callbacks: list[Any], which: str) -> None:
            callbacks[-1].callback.values.append(2.0 if len(type(self).made) == best else 1.0)
            type(self).made.append(agent)

        monkeypatch.setattr(Stopped, "made", [], raising=False)
        monkeypatch.setattr("sb3_tom.zoo.search._learn", learn)
        return search(self, storage or InMemoryStorage(), "s", n_trials)


@pytest.mark.parametrize(
    ("algo", "fixed"),
    [
        ("dhmbpo", {"gamma": 0.9, "batch_size": 32, "rollout_schedule": 3, "model_train_freq": 333, "learning_rate": 0.005}),
        ("sac", {"gamma": 0.9, "batch_size": 32, "learning_rate": 0.005}),
    ],
)
def test_what_is_fixed_is_not_sampled(algo: str, fixed: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    objective = Stopped(algo, "Pendulum-v1", 60, (0,), 1, 1, hyperparams={"buffer_size": 500, **fixed})
    study = objective.run_all(monkeypatch, 3)
    for agent in objective.made:
        values = {**{name: getattr(agent, name) for name in fixed}, "learning_rate": agent.lr_schedule(1)}
        assert values == fixed
    taus = [agent.tau for agent in objective.made]
    assert taus == [trial.params["tau"] for trial in study.trials] and len(set(taus)) == 3, "others are"
    assert "\n    gamma: 0.9 (fixed)\n" in report(study, 1)


def test_a_noise_that_is_fixed_is_not_sampled(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its name is not that of the argument that the zoo makes of it."""
    noise = {"noise_type": "normal", "noise_std": 0.7, "buffer_size": 500}
    objective = Stopped("td3", "Pendulum-v1", 60, (0,), 1, 1, hyperparams=noise)
    objective.run_all(monkeypatch, 8)  # a third of them would draw none
    assert [agent.action_noise._sigma.tolist() for agent in objective.made] == [[0.7]] * 8


def test_a_value_of_the_file_that_is_fixed_makes_another_study(monkeypatch: pytest.MonkeyPatch) -> None:
    storage, objective = InMemoryStorage(), known(monkeypatch)
    search(objective, storage, "s", 1)
    same = replace(objective, hyperparams={"update_to_data_ratio": objective._hyperparams["update_to_data_ratio"]})
    with pytest.raises(ValueError, match=r"fixed=\['update_to_data_ratio'\] is not allowed: the study 's' has None"):
        search(same, storage, "s", 2)


def test_runs_that_would_not_train_are_refused() -> None:
    """From the YAML file, from ``-params``, and from the class."""
    for objective, starts in (
        (Search("mbpo_tom", "Hopper-v5", 5000), 5000),
        (Search("mbpo", "Pendulum-v1", 60, hyperparams={"learning_starts": 70}), 70),
        (Search("sac", "Pendulum-v1", 100), 100),
    ):
        with pytest.raises(ValueError, match=f"n_timesteps=.* with learning_starts={starts} .*; allowed: more than {starts}"):
            objective.prepare()
    Search("mbpo_tom", "Hopper-v5", 5000, hyperparams={"learning_starts": 4999}).prepare()
    Search("ppo", "Pendulum-v1", 60).prepare()


def test_the_best_trials_arguments_are_those_of_its_agents(monkeypatch: pytest.MonkeyPatch) -> None:
    """A fixed mapping that trials replace, and what Optuna sampled for a fixed argument, had no effect."""
    fixed = {"buffer_size": 500, "tau": 0.5, "gamma": 0.9, "dynamics_kwargs": {"n_members": 3}}
    objective = Stopped("dhmbpo", "Pendulum-v1", 60, (0,), 1, 1, hyperparams=fixed)
    with pytest.warns(UserWarning, match="trials do not have"):
        said = report(objective.run_all(monkeypatch, 1), 1)
    lines = dict(line.strip().split(": ", 1) for line in said.splitlines()[2:])
    assert lines["tau"] == "0.5 (fixed)" and lines["gamma"] == "0.9 (fixed)" and "one_minus_gamma" not in lines
    assert lines["dynamics_kwargs"].startswith("{'net_arch': [") and not lines["dynamics_kwargs"].endswith("(fixed)")


@pytest.mark.parametrize(
    ("algo", "fixed", "searched"),
    [
        ("dhmbpo", {"dynamics": "linear"}, {"policy_update_kwargs"}),
        ("mbpo", {"dynamics": "mdn"}, {"dynamics_kwargs"}),
        ("mbpo_tom", {"weighter": "pmac", "dynamics": "linear"}, set()),
        ("mbpo_tom", {"weighter": "tom"}, {"dynamics_kwargs", "weighter_kwargs"}),
    ],
)
def test_what_is_sampled_for_a_plug_is_not_given_to_another(
    algo: str, fixed: dict[str, Any], searched: set[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    objective = Stopped(algo, "Pendulum-v1", 60, (0,), 1, 1, hyperparams={"buffer_size": 4_000, **fixed})
    trial = objective.run_all(monkeypatch, 1).trials[0]
    names = {"dynamics_kwargs", "policy_update_kwargs", "weighter_kwargs"}
    assert names.intersection(trial.user_attrs["sampled"]) == searched


def test_a_plug_of_the_file_is_fixed_too(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    lines = ("Pendulum-v1:", "  n_timesteps: 60", "  policy: MlpPolicy", "  buffer_size: 500", "  dynamics: linear")
    (tmp_path / "mine.yml").write_text("\n".join(lines))
    objective = Stopped("mbpo", "Pendulum-v1", 60, (0,), 1, 1, {"learning_starts": 20}, str(tmp_path / "mine.yml"))
    assert "dynamics_kwargs" not in objective.run_all(monkeypatch, 1).trials[0].user_attrs["sampled"]


@pytest.mark.parametrize("best", [0, 2])
@pytest.mark.parametrize("algo", ["mbpo", "sac"])
def test_the_report_ends_with_the_command_that_trains_the_best_trial(
    algo: str, best: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the zoo makes of it is the trial's agent, also where a mapping that was fixed was replaced."""
    fixed = {"buffer_size": 4_000, "learning_starts": 20, "gamma": 0.9}
    fixed |= {"dynamics_kwargs": {"n_members": 3}} if algo == "mbpo" else {}
    objective, storage = Stopped(algo, "Pendulum-v1", 60, (0,), 1, 1, hyperparams=fixed), str(tmp_path / "a search.log")
    study = objective.run_all(monkeypatch, 3, open_storage(storage), best)
    *_, line = report(study, 1, storage, ["--device", "cpu"]).splitlines()
    if (algo, best) == ("sac", 0):
        assert line == "train it: by -params, since the RL Zoo ignores --trial-id 0"
        return
    words = shlex.split(line.removeprefix("train it: "))
    assert words[:9] == ["python", "-m", "rl_zoo3.train", "--algo", algo, "--env", "Pendulum-v1", "-n", "60"]
    assert words[9:15] == ["--storage", storage, "--study-name", "s", "--trial-id", "2"] or best == 0
    agents: list[Any] = []
    monkeypatch.setattr("rl_zoo3.exp_manager.ExperimentManager.learn", lambda manager, agent: agents.append(agent))
    monkeypatch.setattr("rl_zoo3.exp_manager.ExperimentManager.save_trained_model", lambda manager, agent: None)
    monkeypatch.setattr(sys, "argv", [*words[2:], "-f", str(tmp_path), "--eval-freq", "-1"])
    rl_zoo3.train.train()
    expected, (made,) = objective.made[best], agents
    for name in ("gamma", "tau", "batch_size", "buffer_size", "learning_starts"):
        assert getattr(made, name) == getattr(expected, name), name
    assert made.lr_schedule(1) == expected.lr_schedule(1)
    assert made.policy.net_arch == expected.policy.net_arch
    if algo == "mbpo":
        assert made.plug_arguments() == expected.plug_arguments()


def test_no_command_names_a_proxy_for_an_algorithm_that_the_zoo_loads_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    for algo in ("mbpo", "sac"):
        objective = Stopped(algo, "Pendulum-v1", 60, (0,), 1, 1, hyperparams={"learning_starts": 20})
        said = report(objective.run_all(monkeypatch, 2, best=1), 1, "grpc://host:13000")
        assert ("--storage grpc://host:13000" in said) == (algo == "mbpo")
        assert said.endswith("train it: by -params, since the RL Zoo reads no proxy") == (algo == "sac")


@pytest.mark.parametrize(
    ("storage", "shown"),
    [
        ("postgresql://me:secret@host/database", "postgresql://me:***@host/database"),
        ("postgresql://host/database?user=me&password=secret", "postgresql://host/database?user=me&password=***"),
    ],
)
def test_no_password_is_in_the_command(storage: str, shown: str, monkeypatch: pytest.MonkeyPatch) -> None:
    study = Stopped("mbpo", "Pendulum-v1", 60, (0,), 1, 1, hyperparams={"learning_starts": 20}).run_all(monkeypatch, 2, best=1)
    said = report(study, 1, storage)
    assert f"--storage '{shown}' --study-name s --trial-id 1" in said and "secret" not in said
