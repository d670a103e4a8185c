"""Samplers and converters for Optuna."""

import copy
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("rl_zoo3", reason="rl_zoo3 is not installed: pip install 'sb3_tom[zoo]'")

import optuna
import yaml

from sb3_tom import MBPO
from sb3_tom.imagination.schedules import rollout_schedule
from sb3_tom.weighters.tom.settings import tom_settings
from sb3_tom.zoo.converters import convert_params
from sb3_tom.zoo.registration import ALGORITHMS
from sb3_tom.zoo.samplers import BUDGET, DEFAULT_BUDGET, SAMPLERS
from tests.zoo.small import experiment

ROOT = Path(__file__).parents[2]
FIXED: dict[str, Any] = {
    "learning_rate": 3e-4,
    "one_minus_gamma": 0.01,
    "tau": 0.005,
    "batch_size_pow": 8,
    "policy_arch": "small",
    "target_entropy": -0.5,
    "update_to_data_ratio": 15,
    "real_ratio": 0.1,
    "rollout_ramp_start": 6_000,
    "rollout_ramp_steps": 12_000,
    "rollout_end_length": 7,
    "model_train_freq": 125,
    "dynamics_layers": 3,
    "dynamics_width": 100,
    "dynamics_learning_rate": 2e-3,
    "weighter_alpha": 0.8,
    "weighter_divergence": "chi2",
    "weighter_recent_size": 500,
    "weighter_max_weight": 20.0,
    "weighter_uniform_mix": 0.25,
    "weighter_ratio_bound": 4.0,
    "weighter_buffer_label": 0.0,
    "weighter_gradient_penalty": 0.0,
    "weighter_q_learning_rate": 5e-4,
}
WEIGHTERS: dict[str, dict[str, Any] | None] = {
    "mbpo": None,
    "mbpo_pmac": {"alpha": 0.8},
    "mbpo_tom": {
        "divergence": "chi2",
        "recent_size": 500,
        "max_weight": 20.0,
        "uniform_mix": 0.25,
        "ratio_bound": 4.0,
        "buffer_label": 0.0,
        "gradient_penalty": 0.0,
        "q_learning_rate": 5e-4,
    },
}


def sample(trial: Any, algo: str, n_actions: int = 3) -> dict[str, Any]:
    return SAMPLERS[algo](trial, n_actions, 1, {"using_her_replay_buffer": False, "her_kwargs": {}})


@pytest.mark.parametrize("algo", WEIGHTERS)
def test_suggested_values_become_these_arguments(algo: str) -> None:
    trial = optuna.trial.FixedTrial(FIXED)
    expected = {
        "learning_rate": 3e-4,
        "gamma": pytest.approx(0.99),
        "tau": 0.005,
        "batch_size": 256,
        "policy_kwargs": {"net_arch": [64, 64]},
        "target_entropy": -0.5,
        "update_to_data_ratio": 15,
        "real_ratio": 0.1,
        "rollout_schedule": [6_000, 18_000, 1, 7],
        "model_train_freq": 125,
        "dynamics_kwargs": {"net_arch": [100, 100, 100], "learning_rate": 2e-3},
    }
    weighter = {} if WEIGHTERS[algo] is None else {"weighter_kwargs": WEIGHTERS[algo]}
    assert sample(trial, algo) == {**expected, **weighter}


@pytest.mark.parametrize("algo", WEIGHTERS)
def test_suggested_values_of_the_double_horizon(algo: str) -> None:
    own = {"batch_size_pow": 7, "update_to_data_ratio": 3, "rollout_length": 12}
    own |= {"policy_update_horizon": 4, "policy_update_critic_warmup": 100}
    sampled = sample(optuna.trial.FixedTrial({**FIXED, **own}), f"dh{algo}")
    expected = sample(optuna.trial.FixedTrial(FIXED), algo)
    expected.pop("real_ratio")
    expected |= {"batch_size": 128, "update_to_data_ratio": 3, "rollout_schedule": 12}
    assert sampled == expected | {"policy_update_kwargs": {"horizon": 4, "critic_warmup": 100}}


@pytest.mark.parametrize("algo", ALGORITHMS)
def test_random_trials_are_rebuilt_from_their_stored_parameters(algo: str) -> None:
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    for _ in range(30):
        trial = study.ask()
        sampled = sample(trial, algo)
        stored = json.loads(json.dumps(trial.params))  # what a journal or a database keeps
        assert convert_params(stored) == sampled
        assert yaml.safe_load(yaml.safe_dump(sampled)) == sampled  # the zoo saves a run's arguments so
        rollout_schedule(sampled["rollout_schedule"])
        assert -3.0 <= sampled["target_entropy"] <= 0.0 and 0.97 <= sampled["gamma"] <= 0.999


@pytest.mark.parametrize("budget", [None, 30_000, 125_000, 5_000])
def test_rollout_parameters_live_within_the_budget(budget: int | None) -> None:
    """In every trial rollouts reach their end length, and spend at least a tenth of the env steps at it."""
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    steps = DEFAULT_BUDGET if budget is None else budget
    starts, ends = [], []
    for _ in range(300):
        trial = study.ask()
        if budget is not None:
            trial.set_user_attr(BUDGET, budget)
        start, end, *lengths = sample(trial, "mbpo")["rollout_schedule"]
        schedule = rollout_schedule([start, end, *lengths])
        assert [schedule(step) for step in (0, steps - steps // 10)] == lengths
        starts.append(start / steps)
        ends.append(end / steps)
    assert min(starts) == 0 and max(starts) == pytest.approx(0.4)  # and the space is not a point
    assert min(ends) == pytest.approx(0.1) and max(ends) == pytest.approx(0.9)


def test_the_zoo_tells_the_sampler_its_budget(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    manager = experiment(
        tmp_path, n_timesteps=2_000, optimize_hyperparameters=True, n_evaluations=1, hyperparams={"buffer_size": 4000}
    )
    manager.setup_experiment()
    monkeypatch.setattr(MBPO, "learn", lambda agent, steps, callback: setattr(callback[0], "last_mean_reward", 0.0))
    study = optuna.create_study(direction="maximize")
    study.optimize(manager.objective, n_trials=3)
    for trial in study.trials:
        assert trial.user_attrs[BUDGET] == 2_000
        assert 200 <= trial.params["rollout_ramp_start"] + trial.params["rollout_ramp_steps"] <= 1_800


def test_arguments_of_two_trials_share_nothing() -> None:
    params = {name: value for name, value in FIXED.items() if not name.startswith("weighter_")}
    first, second = convert_params(params), convert_params(params)
    kept = copy.deepcopy(second)
    first["policy_kwargs"]["net_arch"].append(1)
    first["rollout_schedule"][0] = first["dynamics_kwargs"]["net_arch"][0] = 0
    assert second == convert_params(params) == kept


@pytest.mark.parametrize("algo", ALGORITHMS)
def test_agent_of_a_trial(algo: str, tmp_path: Path) -> None:
    trial = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=1)).ask()
    sampled = sample(trial, algo, n_actions=1)
    agent, _ = experiment(tmp_path, algo, hyperparams={"buffer_size": 4000, **sampled}).setup_experiment()
    for name in {"gamma", "batch_size", "real_ratio", "update_to_data_ratio"} & set(sampled):
        assert getattr(agent, name) == sampled[name], name
    for name, value in sampled.get("policy_update_kwargs", {}).items():
        assert getattr(agent.policy_update.settings, name) == value, name
    assert agent.gradient_steps == -1
    assert list(agent.dynamics.net_arch) == sampled["dynamics_kwargs"]["net_arch"]
    for name, value in sampled.get("weighter_kwargs", {}).items():
        settings = getattr(agent.weighter, "settings", agent.weighter)
        assert getattr(settings, name, None) == value or getattr(agent.weighter, name) == value


@pytest.mark.expensive
def test_search_with_a_journal_then_train_its_trial(tmp_path: Path) -> None:
    """``python -m sb3_tom.train -optimize``, as a user would, but short; then the zoo loads trial 1."""
    pytest.importorskip("pandas", reason="pandas is not installed: Optuna needs it for the report that the zoo writes")
    storage = str(tmp_path / "journal.log")
    options = f"--algo mbpo_tom --env Pendulum-v1 -n 200 --seed 0 -f {tmp_path} --storage {storage} --study-name s"
    search = "-optimize --n-trials 2 --n-startup-trials 1 --n-evaluations 2 --eval-episodes 1 --no-optim-plots"
    small = "-params learning_starts:100 buffer_size:4000 rollout_batch_size:200"
    command = [sys.executable, "-m", "sb3_tom.train", *f"{options} {search} {small}".split()]
    env = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    result = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True, timeout=3600)
    assert result.returncode == 0, result.stdout + result.stderr
    backend = optuna.storages.JournalStorage(optuna.storages.journal.JournalFileBackend(storage))
    study = optuna.load_study(storage=backend, study_name="s")
    states = [trial.state for trial in study.trials]
    assert states[0] is optuna.trial.TrialState.COMPLETE and len(states) == 2
    assert set(states) <= {optuna.trial.TrialState.COMPLETE, optuna.trial.TrialState.PRUNED}
    manager = experiment(tmp_path, storage=storage, study_name="s", trial_id=1, hyperparams={"buffer_size": 4000})
    expected = convert_params(study.trials[1].params)
    _, read = manager.read_hyperparameters()
    assert {name: read[name] for name in expected} == expected
    agent, _ = manager.setup_experiment()
    assert agent.weighter.settings == tom_settings("default", expected["weighter_kwargs"])
