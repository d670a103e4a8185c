"""A search with several seeds per trial: which seeds run, when a trial ends early, and where studies may be kept."""

import socket
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("rl_zoo3", reason="rl_zoo3 is not installed: pip install 'sb3_tom[zoo]'")

import optuna
from optuna.storages import InMemoryStorage, JournalStorage, RDBStorage
from optuna.trial import TrialState
from rl_zoo3.hyperparams_opt import HYPERPARAMS_SAMPLER
from rl_zoo3.utils import ALGOS
from stable_baselines3.common.callbacks import BaseCallback

from sb3_tom import tune
from sb3_tom.checks.guards import DivergenceError
from sb3_tom.zoo.search import Search, report, search
from sb3_tom.zoo.storages import open_storage, serve
from tests.zoo.small import SMALL

pytestmark = pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning")
SEEDS = (3, 5, 7, 11, 13, 17)


class Known(Search):
    """Runs nothing: what a run brings is known. Seeds differ by far more than trials."""

    better = (0.0, -1.0, 1.0, -1.0)
    ran: list[tuple[int, int]]

    def _run(self, trial: optuna.Trial, seed: int, sampled: Any) -> float:
        self.ran.append((trial.number, seed))
        return 100.0 * seed + self.better[trial.number]


def known(monkeypatch: pytest.MonkeyPatch) -> Known:
    monkeypatch.setattr(Known, "ran", [], raising=False)
    return Known("mbpo", "Pendulum-v1", 100, SEEDS)


def test_a_trial_that_is_worse_on_each_seed_ends_early(monkeypatch: pytest.MonkeyPatch) -> None:
    """
    Wilcoxon's test cannot say less than 1/16 before. Optuna goes on beyond where seeds that are good for any trial came first,
    and the mean so far is above the best trial's.
    """
    objective = known(monkeypatch)
    study = search(objective, InMemoryStorage(), "s", 4)

    def first_below(number: int, best: float) -> int:
        values = [100.0 * seed + Known.better[number] for trial, seed in objective.ran if trial == number]
        return next(count for count in range(4, 7) if sum(values[:count]) / count < best)

    expected = [6, first_below(1, study.trials[0].value), 6, first_below(3, study.trials[2].value)]
    assert [len(trial.intermediate_values) for trial in study.trials] == expected and expected[1] == 4
    assert study.trials[0].value == pytest.approx(100.0 * sum(SEEDS) / 6)
    assert study.trials[2].intermediate_values == {seed: 100.0 * seed + 1.0 for seed in SEEDS}
    orders = [[seed for trial, seed in objective.ran if trial == number] for number in (0, 2)]
    assert sorted(orders[0]) == sorted(orders[1]) == [*SEEDS] and orders[0] != orders[1]
    assert f"s: 4 complete; {expected.count(6)} with all of 6 seeds\nbest trial 2: " in report(study, 6)


def test_a_trial_that_was_lost_goes_on_with_the_seeds_that_it_lacks(monkeypatch: pytest.MonkeyPatch) -> None:
    objective, storage = known(monkeypatch), InMemoryStorage()
    study = optuna.create_study(storage=storage, study_name="s", direction="maximize")
    study.add_trial(optuna.create_trial(state=TrialState.WAITING, intermediate_values={7: -5.0, 3: 20.0}))
    trial = search(objective, storage, "s", 1).trials[0]
    assert sorted(seed for _, seed in objective.ran) == [5, 11, 13, 17]
    assert trial.intermediate_values == {7: -5.0, 3: 20.0, **{seed: 100.0 * seed for seed in (5, 11, 13, 17)}}
    assert trial.value == pytest.approx((15.0 + 100.0 * (5 + 11 + 13 + 17)) / 6)


def test_a_trial_that_was_lost_after_its_last_seed_is_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    objective, storage = known(monkeypatch), InMemoryStorage()
    study = optuna.create_study(storage=storage, study_name="s", direction="maximize")
    study.add_trial(optuna.create_trial(state=TrialState.WAITING, intermediate_values=dict.fromkeys(SEEDS, 4.0)))
    assert "1 with all of 6 seeds\nbest trial 0: 4.0" in report(search(objective, storage, "s", 1), 6) and objective.ran == []


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *[("env", "InvertedPendulum-v5"), ("n_timesteps", 200), ("seeds", (3, 5)), ("n_evaluations", 4)],
        *[("eval_episodes", 6), ("hyperparams", {"gamma": 0.5})],
    ],
)
def test_trials_of_other_runs_are_not_of_the_same_study(name: str, value: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    storage = InMemoryStorage()
    study = search(known(monkeypatch), storage, "s", 1)
    with pytest.raises(ValueError, match=rf"{name}=.* is not allowed: the study 's' has .*; allowed: what it was begun with"):
        search(replace(known(monkeypatch), **{name: value}), storage, "s", 2)
    assert len(study.trials) == 1
    assert len(search(replace(known(monkeypatch), seeds=SEEDS[::-1], device="cpu"), storage, "s", 2).trials) == 2


def test_a_study_goes_on_until_it_has_so_many_trials(monkeypatch: pytest.MonkeyPatch) -> None:
    objective, storage = known(monkeypatch), InMemoryStorage()
    assert [len(search(objective, storage, "s", total).trials) for total in (2, 2, 3)] == [2, 2, 3]


def small_search(algo: str = "mbpo", **kwargs: Any) -> Search:
    return Search(algo, "Pendulum-v1", 60, (0, 1), **{"n_evaluations": 2, "eval_episodes": 1, "hyperparams": SMALL, **kwargs})


def test_a_real_trial(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its value is the mean over seeds of the mean of a run's evaluations; the same again is the same."""
    storage = InMemoryStorage()
    rate: Any = lambda trial, *_: {"learning_rate": trial.suggest_float("learning_rate", 1e-4, 1e-3)}  # noqa: E731
    monkeypatch.setitem(HYPERPARAMS_SAMPLER, "mbpo", rate)
    objective = small_search()
    study = search(objective, storage, "s", 1)
    values = study.trials[0].intermediate_values
    assert study.best_value == pytest.approx(sum(values.values()) / 2) and values[0] != values[1]
    study.enqueue_trial(study.trials[0].params)
    again = search(small_search(), storage, "s", 2).trials[1]
    assert again.intermediate_values == values


class Counts(BaseCallback):
    """A callback of a YAML file."""

    steps = 0

    def _on_step(self) -> bool:
        type(self).steps += 1
        return True


def test_a_run_has_the_callbacks_of_its_file_and_no_step_more_than_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """PPO alone would make whole rollouts, and be evaluated the more often, the longer they are."""
    monkeypatch.setattr(Counts, "steps", 0)
    monkeypatch.setitem(HYPERPARAMS_SAMPLER, "ppo", lambda *_: {"n_steps": 100, "batch_size": 50})
    fixed = {"callback": f"{__name__}.Counts", "n_envs": 1}
    study = search(Search("ppo", "Pendulum-v1", 60, (0,), 2, 1, hyperparams=fixed), InMemoryStorage(), "s", 1)
    assert study.trials[0].state == TrialState.COMPLETE and Counts.steps == 60


class Ends(BaseCallback):
    """Ends a run after 20 steps."""

    def _on_step(self) -> bool:
        return self.n_calls < 20


def test_a_run_that_ends_before_its_last_evaluation_ends_the_search() -> None:
    """Its value would be that of an early part of the curve; without an evaluation the search would never end."""
    for n_evaluations, reached in (2, 0), (6, 2):
        fixed = {"callback": f"{__name__}.Ends", "learning_starts": 10}
        objective = Search("sac", "Pendulum-v1", 60, (0,), n_evaluations, 1, hyperparams=fixed)
        with pytest.raises(ValueError, match=rf"n_evaluations={n_evaluations} .* a run ended after {reached} of them"):
            search(objective, InMemoryStorage(), "s", 1)


def test_rewards_are_normalised_by_the_sampled_discount(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in the run that is trained of the trial afterwards."""
    agents = []

    def learn(agent: Any, n_timesteps: int, callbacks: list[BaseCallback], which: str) -> None:
        agents.append(agent)
        callbacks[-1].callback.values.append(1.0)  # type: ignore[attr-defined]

    monkeypatch.setattr("sb3_tom.zoo.search._learn", learn)
    for more in ({}, {"gamma": 0.9}):
        fixed = {"normalize": True, "learning_starts": 10, "buffer_size": 500, **more}
        search(Search("mbpo", "Pendulum-v1", 60, (0,), 1, 1, hyperparams=fixed), InMemoryStorage(), "s", 2)
    assert [agent.get_vec_normalize_env().gamma for agent in agents] == [agent.gamma for agent in agents]
    assert len({agent.gamma for agent in agents}) == 3


def test_what_a_trial_replaces_of_the_fixed_hyperparameters_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    objective = replace(
        known(monkeypatch), hyperparams={"tau": 0.1, "dynamics_kwargs": {"n_members": 2}, "weighter_kwargs": {}}
    )
    with pytest.warns(UserWarning, match=r"trials do not have \{'dynamics_kwargs': \{'n_members': 2\}\}: what they sample"):
        search(objective, InMemoryStorage(), "s", 1)


@pytest.mark.parametrize("algo", ["sac", "mbpo"])
def test_the_arguments_of_the_env_are_those_of_its_evaluation_too(algo: str) -> None:
    objective = Search(algo, "Pendulum-v1", 60, hyperparams={"env_kwargs": {"g": 3.0}})
    for is_eval in (False, True):
        env = objective._manager.create_envs(1, eval_env=is_eval, no_log=True)
        assert env.envs[0].unwrapped.g == 3.0


@pytest.mark.parametrize(("algo", "error"), [("mbpo", DivergenceError), ("sac", ValueError), ("sac", AssertionError)])
def test_a_trial_that_diverges_is_pruned(algo: str, error: type[Exception], monkeypatch: pytest.MonkeyPatch) -> None:
    """SB3 has no error of its own for it."""

    def diverge(agent: Any, n_timesteps: int, callback: Any) -> None:
        assert agent.seed in (0, 1)
        raise error("the critic is not finite")

    monkeypatch.setattr(ALGOS[algo], "learn", diverge)
    hyperparams = SMALL if algo == "mbpo" else {}
    trial = search(small_search(algo, hyperparams=hyperparams), InMemoryStorage(), "s", 1).trials[0]
    assert trial.state == TrialState.PRUNED and not trial.intermediate_values


def test_an_error_that_no_other_trial_would_be_spared_ends_the_search(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(agent: Any, n_timesteps: int, callback: Any) -> None:
        raise ValueError("augmented_reward=True is not allowed where the env pays -3")

    monkeypatch.setattr(ALGOS["mbpo"], "learn", refuse)
    with pytest.raises(ValueError, match="augmented_reward=True is not allowed"):
        search(small_search(), InMemoryStorage(), "s", 3)


@pytest.mark.parametrize(
    ("name", "value"),
    [("algo", "mpbo"), ("seeds", []), ("seeds", [1, 1]), ("seeds", [-1]), ("n_evaluations", 0), ("n_timesteps", 3)],
)
def test_bad_arguments_are_named(name: str, value: Any) -> None:
    good: dict[str, Any] = {"algo": "mbpo", "env": "Pendulum-v1", "n_timesteps": 100}
    with pytest.raises(ValueError, match=rf"{name}.*=.* is not allowed; allowed: "):
        Search(**{**good, name: value})


def test_storages_by_their_names(tmp_path: Path) -> None:
    assert isinstance(open_storage(str(tmp_path / "new" / "search.log")), JournalStorage)
    database = open_storage(f"sqlite:///{tmp_path}/search.db", retries=1, heartbeat=7)
    assert isinstance(database, RDBStorage) and database.get_heartbeat_interval() == 7 and database.grace_period == 14
    with pytest.raises(ValueError, match=r"storage='search.db' is not allowed; allowed: FILE.log, grpc://HOST:PORT or a data"):
        open_storage("search.db")
    with pytest.raises(ValueError, match="storage='localhost' is not allowed; allowed: HOST:PORT"):
        open_storage("grpc://localhost")
    with pytest.raises(ValueError, match="serve='localhost:0' is not allowed; allowed: HOST:PORT"):
        serve("search.log", "localhost:0")
    with pytest.raises(ValueError, match="heartbeat=0 is not allowed"):
        open_storage("search.log", heartbeat=0)


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("sqlite:///{folder}/none/x.db", "unable to open database file"),
        ("sqlite:///{folder}/text.db", "file is not a database"),
        ("nosuch://somewhere", "Can't load plugin"),
        ("postgresql+nosuch://me:secret@localhost/x", "storage='postgresql\\+nosuch://me:\\*\\*\\*@localhost/x'"),
        ("postgresql+nosuch://me:sec/secret@localhost/x", "storage='postgresql\\+nosuch://me:\\*\\*\\*@localhost/x'"),
        ("postgresql+nosuch://me:secret:s@localhost/x", "storage='postgresql\\+nosuch://me:\\*\\*\\*@localhost/x'"),
        ("nosuch://me@host/x", "storage='nosuch://me@host/x'"),
        ("://", "Could not parse"),
        ("{folder}/text.db/search.log", "File exists|Not a directory"),
        ("{folder}/folder.log", "Is a directory"),
        ("grpc://127.0.0.1:1", "timeout"),
    ],
)
def test_a_storage_that_cannot_be_opened_is_one_line(tmp_path: Path, name: str, reason: str) -> None:
    (tmp_path / "text.db").write_text("no database at all, but a text of some length" * 20)
    (tmp_path / "folder.log").mkdir()
    with pytest.raises(ValueError, match=reason) as caught:
        open_storage(name.format(folder=tmp_path), heartbeat=1)
    text = str(caught.value)
    assert text.startswith("storage=") and "cannot be opened" in text and "\n" not in text and "secret" not in text


def test_a_proxys_port_that_is_taken_is_named(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(ValueError, match=f"serve='{address}' is not allowed: .*; allowed: a free port"):
            serve(f"sqlite:///{tmp_path}/search.db", address)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("--algo mpbo", "algo='mpbo' is not allowed"),
        ("--env Pendulm-v1", "env='Pendulm-v1' is not allowed: Environment `Pendulm` doesn't exist"),
        ("--storage here", "storage='here' is not allowed"),
        ("-params real_rato:0.5", "real_rato"),
        ("-conf missing.yml", "config='missing.yml' cannot be read"),
        ("--gym-packages no_such_module", "gym_packages='no_such_module' cannot be imported"),
    ],
)
def test_the_command_names_what_is_wrong(given: str, said: str, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    with pytest.raises(SystemExit) as caught:
        tune.main(["--storage", f"{tmp_path}/search.log", "--algo", "mbpo", *given.split()])
    assert caught.value.code == 2 and said in capsys.readouterr().err


def test_the_command_imports_packages_that_register_envs(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    registered = "gymnasium.register('Registered-v0', 'gymnasium.envs.classic_control:PendulumEnv')"
    (tmp_path / "package_of_envs.py").write_text(f"import gymnasium\n{registered}\n")
    monkeypatch.syspath_prepend(tmp_path)
    command = ["--storage", f"{tmp_path}/search.log", "--algo", "mbpo", "--env", "Registered-v0", "-params", "real_rato:0.5"]
    for package, said in ([], "env='Registered-v0' is not allowed"), (["--gym-packages", "package_of_envs"], "real_rato"):
        with pytest.raises(SystemExit):
            tune.main([*command, *package])
        assert said in capsys.readouterr().err
