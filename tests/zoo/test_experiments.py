"""Experiments through the RL Zoo's own manager: what reaches the plugs, bad values, diverged trials."""

import argparse
from pathlib import Path
from typing import Any

import gymnasium
import pytest

pytest.importorskip("rl_zoo3", reason="rl_zoo3 is not installed: pip install 'sb3_tom[zoo]'")

import optuna
import yaml

from sb3_tom import MBPO, PMACWeighter
from sb3_tom.checks.guards import DivergenceError
from sb3_tom.zoo.checks import HyperparameterError
from tests.zoo.small import SMALL, experiment

pytestmark = pytest.mark.filterwarnings("ignore:.*trials do not have")  # what makes agents small has a test of its own

YAML = """
default: &default
  policy: 'MlpPolicy'
  n_timesteps: !!float 60
  buffer_size: 1000
  policy_kwargs: {{net_arch: [8]}}
  dynamics_kwargs: {{net_arch: [8]}}
Pendulum-v1:
  <<: *default
  {line}
"""


@pytest.mark.parametrize("algo", ["mbpo", "dhmbpo"])
@pytest.mark.parametrize("weighter", ["recency", "error", "ratio", "pdml", "per", "recall", "maper", "value"])
def test_every_short_name_is_a_value_of_weighter(algo: str, weighter: str, tmp_path: Path) -> None:
    entry: dict[str, Any] = {"weighter": weighter}
    if weighter == "ratio":
        entry["weighter_kwargs"] = {"recent_size": 30, "discriminator_steps": 3}
    if weighter == "pdml":
        entry["model_train_freq"] = 10  # it knows nothing in its first two phases
    agent = _learned(tmp_path, algo, entry)
    assert (type(agent.weighter).__name__.lower(), agent.num_timesteps) == (f"{weighter}weighter", 60)
    assert float(agent.replay_buffer.row_weights().std()) > 0.0


@pytest.mark.parametrize("algo", ["mbpo", "dhmbpo_pmac"])
def test_what_judges_the_imagined_is_a_hyperparameter(algo: str, tmp_path: Path) -> None:
    entry = {"confidence": "inverse_std", "confidence_kwargs": {"factor": 2}, "rollout_stop": "quantile"}
    agent = _learned(tmp_path, algo, entry | {"rollout_stop_kwargs": {"quantile": 0.8}})
    assert (agent.confidence.factor, agent.rollout_stop.quantile) == (2.0, 0.8)
    assert len(agent.rollout_stop.quantiles) >= 2


def _learned(folder: Path, algo: str, entry: dict[str, Any]) -> Any:
    """The agent that the zoo trains with these hyperparameters of a file."""
    manager = experiment(folder, algo, hyperparams={}, n_timesteps=0)
    manager.config = str(folder / "mine.yml")
    entry = {**SMALL, "policy": "MlpPolicy", "n_timesteps": 60, **entry}
    Path(manager.config).write_text(yaml.safe_dump({"Pendulum-v1": _plain(entry)}))
    agent, _ = manager.setup_experiment()
    manager.learn(agent)
    return agent


def _plain(value: Any) -> Any:
    """Lists for tuples: what YAML can say."""
    if isinstance(value, dict):
        return {key: _plain(entry) for key, entry in value.items()}
    return list(value) if isinstance(value, tuple) else value


def test_an_instance_of_a_plug_is_no_hyperparameter(tmp_path: Path) -> None:
    with pytest.raises(HyperparameterError, match=r"weighter=a PMACWeighter is not allowed: the zoo saves .* as YAML"):
        experiment(tmp_path, hyperparams={**SMALL, "weighter": PMACWeighter()}).setup_experiment()


def test_params_of_the_command_line_reach_the_plugs(tmp_path: Path) -> None:
    hyperparams = {**SMALL, "weighter": "pmac", "weighter_kwargs": {"alpha": 0.5}}
    agent, _ = experiment(tmp_path, hyperparams=hyperparams).setup_experiment()
    assert isinstance(agent.weighter, PMACWeighter) and agent.weighter.alpha == 0.5


@pytest.mark.parametrize("given", [None, {"include_cfrc_ext_in_observation": True}])
def test_all_of_the_zoos_envs_have_the_observations_of_the_training_env(tmp_path: Path, given: dict[str, Any] | None) -> None:
    manager = experiment(tmp_path, env="Ant-v5", eval_freq=10, env_kwargs=given, args=argparse.Namespace(env_kwargs=given))
    agent, _ = manager.setup_experiment()
    (callback,) = manager.callbacks
    expected = (27,) if given is None else (105,)
    assert agent.observation_space.shape == callback.eval_env.observation_space.shape == expected
    # What enjoy and record_video read; the latter looks at the saved arguments of the command line only
    saved = yaml.unsafe_load((Path(manager.params_path) / "args.yml").read_text())["env_kwargs"]
    assert gymnasium.make("Ant-v5", **saved).observation_space.shape == expected


BAD = {
    "learning_rate: 3e-4": r"learning_rate='3e-4' is a string.*allowed: learning_rate: !!float 3e-4$",
    "learning_rate: 'cosine_1'": r"learning_rate='cosine_1' is not allowed; allowed: a number, or 'lin_'",
    "tau: 5e-3": r"tau='5e-3' is a string.*!!float 5e-3$",
    "weighter_kwargs: {divergence: 'kl', max_weight: 1e1}": r"weighter_kwargs.max_weight='1e1' is a string",
    "n_timesteps: 1e5": r"n_timesteps='1e5' is a string.*!!float 1e5$",
    "n_timesteps: many": r"n_timesteps='many' is not allowed; allowed: an integer of at least 1$",
    "n_envs: 0": r"n_envs=0 is not allowed; allowed: an integer of at least 1$",
    "rollout_schedule: [0, 100, 1]": r"rollout_schedule=\[0, 100, 1\] is not allowed; allowed: a length",
    "train_freq: [1, 'step', 2]": r"train_freq=\(1, 'step', 2\) is not allowed",
    "env_kwargs: {gravity: 1}": r"unexpected keyword argument 'gravity'",
    "real_ration: 0.1": r"the key real_ration=0\.1 is unknown; did you mean real_ratio\? allowed: \[",
    "seed: 1": r"the key seed=1 is not allowed: the zoo takes it from the command line$",
    "real_ratio: 1.5": r"real_ratio=1\.5 is not allowed; allowed: a number in \[0, 1\]$",
    "policy_kwargs: 'dict('": r"policy_kwargs='dict\(' cannot be evaluated: SyntaxError: '\(' was never",
    "weighter_kwargs: 'dict(divergence=1)'": r"weighter_kwargs='dict\(divergence=1\)' is not allowed; allowed: a mapping",
    "weighter_kwargs: {divergense: 'kl'}": r"divergense='kl' is not an argument of TOMWeighter; allowed:",
    "policy_kwargs: 'dict(activation_fn=nn.Relu)'": r"policy_kwargs='.*' cannot be evaluated: Attr.*no attribute 'Relu'",
    "policy_kwargs: '[64, 64]'": r"policy_kwargs='\[64, 64\]' is not allowed; allowed: a mapping",
    "policy: 1": r"policy=1 is not allowed; allowed: 'MlpPolicy', or the path of a class$",
    "policy: 'no_such.Policy'": r"policy='no_such\.Policy' cannot be imported: No module named 'no_such'; allowed: the",
    "env_wrapper: [{gymnasium.wrappers.NoSuch: {a: 1}}]": r"env_wrapper='gymnasium\.wrappers\.NoSuch' cannot be imported",
    "callback: 'Nothing'": r"callback='Nothing' cannot be imported: Empty module name; allowed: the path of a class",
    "normalize: 'yes'": r"normalize='yes' cannot be evaluated: NameError",
    "env_kwargs: 'dict(g=9.0)'": r"env_kwargs='dict\(g=9\.0\)' is not allowed; allowed: a mapping$",
    "env_kwargs: {g: 1e1}": r"env_kwargs\.g='1e1' is a string.*allowed: env_kwargs\.g: !!float 1e1$",
    "monitor_kwargs: [1]": r"monitor_kwargs=\[1\] is not allowed; allowed: a mapping$",
    "noise_type: 'brown'": r"noise_type='brown' is not allowed; allowed: one of \['normal', 'ornstein-uhlenbeck'\]",
    "confidence: inverse": r"confidence='inverse' is unknown; allowed: one of \['inverse_std'\], a subclass or instance of",
    "rollout_stop: 1": r"rollout_stop=1 is not allowed; allowed: one of \['quantile'\], a subclass or instance of",
    "dynamics_kwargs: {n_member: 3}": r"dynamics_kwargs=.*unexpected keyword argument 'n_member'",
}


@pytest.mark.parametrize("line", BAD, ids=str)
def test_bad_values_end_in_one_error_with_file_env_and_key(tmp_path: Path, line: str) -> None:
    path = tmp_path / "mine.yml"
    path.write_text(YAML.format(line=line))
    manager = experiment(tmp_path, config=str(path), hyperparams=None, n_timesteps=-1)
    with pytest.raises(HyperparameterError, match=BAD[line]) as caught:
        manager.setup_experiment()
    assert str(caught.value).startswith(f"{path}, Pendulum-v1: ")
    assert str(caught.value).count(str(path)) == 1


@pytest.mark.parametrize("text", ["", "Pendulum-v1:", "Pendulum-v1: [1, 2]", "- Pendulum-v1"])
def test_a_file_without_hyperparameters_is_named(tmp_path: Path, text: str) -> None:
    path = tmp_path / "mine.yml"
    path.write_text(text)
    with pytest.raises(HyperparameterError, match=r"mine\.yml, Pendulum-v1: .*; allowed: a mapping of hyperparameters"):
        experiment(tmp_path, config=str(path), hyperparams=None).setup_experiment()


@pytest.mark.parametrize("missing", ["policy", "n_timesteps"])
def test_missing_keys_are_named(tmp_path: Path, missing: str) -> None:
    path = tmp_path / "mine.yml"
    lines = {"policy": "policy: 'MlpPolicy'", "n_timesteps": "n_timesteps: 10"}
    path.write_text("Pendulum-v1:\n  " + "\n  ".join(line for key, line in lines.items() if key != missing))
    with pytest.raises(HyperparameterError, match=f"mine.yml, Pendulum-v1: the key {missing} is missing$"):
        experiment(tmp_path, config=str(path), hyperparams=None).setup_experiment()


def test_bad_values_of_the_command_line_are_not_blamed_on_the_file_alone(tmp_path: Path) -> None:
    with pytest.raises(HyperparameterError, match=r"mbpo_tom.yml with -params \['tua'\], Pendulum-v1: the key tua=1 is unk"):
        experiment(tmp_path, hyperparams={"tua": 1}).setup_experiment()


def test_other_algorithms_keep_their_errors(tmp_path: Path) -> None:
    with pytest.raises(TypeError, match="real_ration") as caught:
        experiment(tmp_path, algo="sac", hyperparams={"real_ration": 0.1}).setup_experiment()
    assert "Pendulum-v1" not in str(caught.value)


def optimizing(folder: Path, **kwargs: Any) -> Any:
    manager = experiment(folder, optimize_hyperparameters=True, n_evaluations=1, **kwargs)
    assert manager.setup_experiment() is None
    return manager


@pytest.mark.parametrize("error", [DivergenceError, ValueError, AssertionError])
def test_diverged_trials_are_pruned_and_other_errors_end_the_search(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: type[Exception]
) -> None:
    """The zoo takes each of them for a divergence, and would prune all trials that are left."""

    def fail(agent: MBPO, *args: Any, **kwargs: Any) -> None:
        raise error("weights of shape [3]")

    monkeypatch.setattr(MBPO, "fit_weights", fail)
    study = optuna.create_study(direction="maximize")
    manager = optimizing(tmp_path, hyperparams={**SMALL, "buffer_size": 4000})
    if error is DivergenceError:
        study.optimize(manager.objective, n_trials=2)
        assert [trial.state for trial in study.trials] == [optuna.trial.TrialState.PRUNED] * 2
    else:
        with pytest.raises(HyperparameterError, match=r"mbpo_tom\.yml .*, Pendulum-v1, trial 0: weights of shape \[3\]"):
            study.optimize(manager.objective, n_trials=2)


def test_a_search_whose_trials_would_not_train_is_refused(tmp_path: Path) -> None:
    manager = optimizing(tmp_path, hyperparams={**SMALL, "learning_starts": 60})
    with pytest.raises(ValueError, match="n_timesteps=60 is not allowed: with learning_starts=60 no run would train"):
        manager.hyperparameters_optimization()


def test_a_search_with_a_plug_that_is_not_there_names_file_and_env(tmp_path: Path) -> None:
    manager = optimizing(tmp_path, hyperparams={**SMALL, "weighter": "tmo"})
    with pytest.raises(HyperparameterError, match=r"mbpo_tom\.yml .*, Pendulum-v1, trial 0: weighter='tmo'"):
        optuna.create_study().optimize(manager.objective, n_trials=1)


def test_a_trial_that_falls_behind_is_pruned_and_the_search_goes_on(tmp_path: Path) -> None:
    """By the zoo's own pruner, at the second of six evaluations: before that it waits."""
    manager = optimizing(tmp_path, hyperparams={**SMALL, "buffer_size": 4000}, n_timesteps=60, n_eval_episodes=1)
    manager.n_evaluations = 6
    study = optuna.create_study(direction="maximize", pruner=manager._create_pruner("median"))
    perfect = optuna.trial.create_trial(value=0.0, intermediate_values=dict.fromkeys(range(1, 7), 0.0))
    study.add_trials([perfect, perfect])
    study.optimize(manager.objective, n_trials=2)
    assert [trial.state for trial in study.trials[2:]] == [optuna.trial.TrialState.PRUNED] * 2
    assert [list(trial.intermediate_values) for trial in study.trials[2:]] == [[1, 2], [1, 2]]


def test_returns_that_are_not_numbers_are_pruned(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    manager = optimizing(tmp_path)
    monkeypatch.setattr(MBPO, "learn", lambda agent, steps, callback: setattr(callback[0], "last_mean_reward", float("nan")))
    study = optuna.create_study(direction="maximize")
    study.optimize(manager.objective, n_trials=1)
    assert [trial.state for trial in study.trials] == [optuna.trial.TrialState.PRUNED]


def test_a_search_says_what_its_trials_leave_out(tmp_path: Path) -> None:
    manager = optimizing(tmp_path, hyperparams={**SMALL, "weighting": "rows", "weighter_kwargs": {"preset": "official"}})
    with pytest.warns(UserWarning, match=r"trials do not have .*'weighter_kwargs': \{'preset': 'official'\}"):
        with pytest.raises(HyperparameterError):
            optuna.create_study().optimize(manager.objective, n_trials=1)


@pytest.mark.parametrize(("algo", "named"), [("mbpo", False), ("dhmbpo", True)])
def test_a_search_leaves_alone_what_it_does_not_sample(algo: str, named: bool, tmp_path: Path) -> None:
    manager = optimizing(tmp_path, algo=algo, hyperparams={**SMALL, "weighting": "rows", "policy_update_kwargs": {"a": 1}})
    with pytest.warns(UserWarning, match="trials do not have") as caught, pytest.raises(HyperparameterError):
        optuna.create_study().optimize(manager.objective, n_trials=1)
    assert ("'policy_update_kwargs': " in str(caught[0].message)) is named


def test_a_search_space_of_the_backbone_leaves_the_plugs_of_a_name_alone(tmp_path: Path) -> None:
    small = {**SMALL, "weighting": "rows", "weighter_kwargs": {"a": 1}, "policy_update_kwargs": {"b": 2}}
    manager = optimizing(tmp_path, algo="dhmbpo_recency", hyperparams=small)
    with pytest.warns(UserWarning, match="trials do not have") as caught, pytest.raises(HyperparameterError):
        optuna.create_study().optimize(manager.objective, n_trials=1)
    said = str(caught[0].message).partition("trials do not have")[2]
    assert "policy_update_kwargs" in said and "weighter_kwargs" not in said


def test_a_search_leaves_alone_what_is_fixed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By ``-params``; what the file has is sampled."""
    agents: list[MBPO] = []

    def learn(agent: MBPO, steps: int, callback: list[Any]) -> None:
        agents.append(agent)
        callback[0].last_mean_reward = 0.0

    monkeypatch.setattr(MBPO, "learn", learn)
    study = optuna.create_study()
    manager = optimizing(tmp_path, hyperparams={"buffer_size": 4000, "gamma": 0.9, "update_to_data_ratio": 7})
    study.optimize(manager.objective, n_trials=2)
    assert [(agent.gamma, agent.update_to_data_ratio) for agent in agents] == [(0.9, 7)] * 2
    assert agents[0].tau == study.trials[0].params["tau"] != agents[1].tau
    assert "gamma" not in study.trials[0].user_attrs and "batch_size" in study.trials[0].user_attrs


def test_bad_values_stop_a_search_with_one_error(tmp_path: Path) -> None:
    manager = optimizing(tmp_path, hyperparams={**SMALL, "weighting": "rows"})
    study = optuna.create_study()
    with pytest.raises(HyperparameterError, match=r"mbpo_tom.yml with -params .*, Pendulum-v1, trial 0: weighting='rows'"):
        study.optimize(manager.objective, n_trials=2)
    assert len(study.trials) == 1


def test_an_env_that_returns_nan_prunes_its_trial(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No stand-in: the guard's own error, raised while rows are collected, reaches the zoo's objective."""
    from gymnasium.envs.classic_control.pendulum import PendulumEnv

    original, calls = PendulumEnv.step, []

    def step(env: Any, action: Any) -> Any:
        calls.append(1)
        observation, reward, *rest = original(env, action)
        return (observation, float("nan") if len(calls) == 10 else reward, *rest)

    monkeypatch.setattr(PendulumEnv, "step", step)
    study = optuna.create_study(direction="maximize")
    study.optimize(optimizing(tmp_path, hyperparams={**SMALL, "buffer_size": 4000}).objective, n_trials=1)
    assert [trial.state for trial in study.trials] == [optuna.trial.TrialState.PRUNED]
    assert len(calls) == 10
