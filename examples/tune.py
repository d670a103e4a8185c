"""
Search hyperparameters with Optuna in your own script, with the search spaces of the RL Zoo commands.

Start it several times with the same storage, and the processes share the search. One file on a shared disk is enough for a
few of them; for several machines use a database: ``--storage postgresql+psycopg://user@host/database``. With several
seeds per trial there is a command: ``python -m sb3_tom.tune``.
"""

import argparse
from typing import Any

import gymnasium as gym
import optuna
from optuna.trial import TrialState
from rl_zoo3.callbacks import TrialEvalCallback
from stable_baselines3.common.monitor import Monitor

from sb3_tom import MBPO
from sb3_tom.checks.guards import DivergenceError
from sb3_tom.zoo.samplers import BUDGET, SAMPLERS
from sb3_tom.zoo.storages import open_storage


def objective(trial: optuna.Trial, task: str, steps: int, n_evaluations: int) -> float:
    """Mean return of the last evaluation. A trial that falls behind or diverges is pruned."""
    env = gym.make(task)
    trial.set_user_attr(BUDGET, steps)  # determines the range of the rollout schedule
    sampled = SAMPLERS["mbpo_tom"](trial, env.action_space.shape[0], 1, {})
    settings: dict[str, Any] = {"learning_starts": steps // 10, **sampled}
    agent = MBPO("MlpPolicy", env, weighter="tom", **settings)
    eval_freq = max(steps // n_evaluations, 1)
    evaluation = TrialEvalCallback(Monitor(gym.make(task)), trial, n_eval_episodes=5, eval_freq=eval_freq)
    try:
        agent.learn(steps, callback=evaluation)
    except DivergenceError as error:  # any other error would meet the next trial too, and ends the search
        raise optuna.TrialPruned(f"diverged: {error}") from error
    if evaluation.is_pruned:
        raise optuna.TrialPruned()
    return float(evaluation.last_mean_reward)


def main() -> None:
    """Search, and print the best trial so far."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--env", default="Pendulum-v1")
    parser.add_argument("--steps", type=int, default=5000, help="env steps of a trial")
    parser.add_argument("--evaluations", type=int, default=5, help="of a trial; the pruner looks at each")
    parser.add_argument("--trials", type=int, default=20)
    parser.add_argument("--storage", default="search.log")
    parser.add_argument("--study", default="mbpo_tom")
    arguments = parser.parse_args()
    study = optuna.create_study(
        storage=open_storage(arguments.storage, retries=0),
        study_name=arguments.study,
        direction="maximize",
        pruner=optuna.pruners.MedianPruner(n_startup_trials=5),
        load_if_exists=True,
    )
    study.optimize(
        lambda trial: objective(trial, arguments.env, arguments.steps, arguments.evaluations),
        n_trials=arguments.trials,
        gc_after_trial=True,
    )
    is_any_complete = bool(study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,)))
    best = f"best mean return {study.best_value:.1f} with {study.best_params}" if is_any_complete else "none is complete"
    print(f"{len(study.trials)} trials; {best}")


if __name__ == "__main__":
    main()
