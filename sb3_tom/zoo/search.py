"""Hyperparameter search with several seeds per trial, since a single run may be luck; pruned by Wilcoxon's test."""

import json
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import optuna
from optuna.storages import BaseStorage, fail_stale_trials
from optuna.study import MaxTrialsCallback, StudyDirection
from optuna.trial import TrialState
from rl_zoo3.hyperparams_opt import HYPERPARAMS_SAMPLER
from rl_zoo3.utils import ALGOS, get_callback_list
from stable_baselines3 import HerReplayBuffer
from stable_baselines3.common.callbacks import BaseCallback, EvalCallback

from sb3_tom.checks.guards import DivergenceError
from sb3_tom.checks.validation import check_choice, check_integer, check_integers
from sb3_tom.mbpo.mbpo import MBPO
from sb3_tom.zoo.runs import make_manager, zoo_hyperparams
from sb3_tom.zoo.samplers import BUDGET, FIXED, SETTINGS, without_fixed
from sb3_tom.zoo.storages import without_password
from sb3_tom.zoo.trials import check_budget, store_fixed, training_command, warn_of_replaced

COUNTED = (TrialState.COMPLETE, TrialState.PRUNED, TrialState.RUNNING)
"""States of trials that count for ``n_trials``; the trial of a killed worker is queued again as another."""

ZOO_COMMAND = "command"
"""User attribute of each study that ``rl_zoo3.train -optimize`` has made, or gone on with."""

SAMPLED = "sampled"
"""User attribute of a trial: the arguments of its agents that it sampled, without those that are fixed."""


class _Returns(BaseCallback):
    """
    Collects the results of an :class:`EvalCallback`, and stops after ``n_evaluations``: algorithms that collect whole rollouts
    would exceed the run's env steps, the more, the longer the sampled rollouts are.
    """

    def __init__(self, n_evaluations: int) -> None:
        super().__init__()
        self.n_evaluations = n_evaluations
        self.values: list[float] = []

    def _on_step(self) -> bool:
        assert isinstance(self.parent, EvalCallback)
        self.values.append(float(self.parent.last_mean_reward))
        return len(self.values) < self.n_evaluations


@dataclass(frozen=True)
class Search:
    """
    Optuna's objective: the mean over seeds of the mean return of a run's evaluations, with the zoo's hyperparameters and
    search spaces. Each seed's value is reported under the seed, so that ``WilcoxonPruner`` compares equal seeds. A trial that
    it stops has the mean of the seeds so far, as Optuna recommends; one that diverges is pruned.

    :param algo: name in the zoo, of this package, SB3 or contrib
    :param env: id of the env
    :param n_timesteps: env steps of a run
    :param seeds: of the runs of a trial, in an order of its own
    :param n_evaluations: number of evaluations of a run, at equal distances
    :param eval_episodes: episodes of an evaluation, on a separate env, with deterministic actions if the zoo uses them
    :param hyperparams: fixed ones, which override those of the YAML file and sampled ones; of mappings
        (``dynamics_kwargs``), those of the YAML file only
    :param config: YAML file; None: the algorithm's own
    :param device: for PyTorch
    :raises ValueError: naming the argument, what came and what is allowed
    """

    algo: str
    env: str
    n_timesteps: int
    seeds: Sequence[int] = (0, 1, 2, 3)
    n_evaluations: int = 5
    eval_episodes: int = 5
    hyperparams: Mapping[str, Any] = field(default_factory=dict)
    config: str | None = None
    device: str = "auto"

    def __post_init__(self) -> None:
        check_choice("algo", self.algo, sorted(HYPERPARAMS_SAMPLER))
        check_integers("seeds", self.seeds, 0, 1)
        if len(set(self.seeds)) < len(self.seeds):
            raise ValueError(f"seeds={[*self.seeds]} is not allowed; allowed: each seed once")
        check_integer("n_evaluations", self.n_evaluations, 1)
        check_integer("eval_episodes", self.eval_episodes, 1)
        check_integer("n_timesteps", self.n_timesteps, self.n_evaluations)

    def __call__(self, trial: optuna.Trial) -> float:
        """
        Run the missing seeds of a trial; that of a killed worker already has some.

        :param trial: Optuna's
        :return: mean over the seeds
        :raises optuna.TrialPruned: if a run diverges
        """
        trial.set_user_attr(BUDGET, self.n_timesteps)
        sampler = HYPERPARAMS_SAMPLER[self.algo]
        store_fixed(trial, self.hyperparams, self._hyperparams, ALGOS[self.algo], sampler)
        sampled = sampler(trial, self._manager.n_actions, self._manager.n_envs, self._additional)
        warn_of_replaced(f"{self._manager.config}, {self.env}", self._manager._hyperparams, sampled)
        # The zoo has made an object of a fixed noise
        noise = {"action_noise"} if "noise_type" in self.hyperparams else set()
        sampled = without_fixed(sampled, {*self.hyperparams, *noise})
        trial.set_user_attr(SAMPLED, json.loads(json.dumps(sampled, default=str)))
        returns = dict(trial.study.get_trials(deepcopy=False)[trial.number].intermediate_values)
        for seed in np.random.default_rng(trial.number).permutation(self.seeds).tolist():
            if seed in returns:
                continue
            returns[seed] = self._run(trial, seed, sampled)
            trial.report(returns[seed], seed)
            if trial.should_prune():
                break
        return float(np.mean([*returns.values()]))

    def prepare(self) -> None:
        """
        Read the YAML file and make an env now, rather than in the first trial.

        :raises ValueError: naming file, env and hyperparameter, or ``n_timesteps``, if no run would get to train
        """
        check_budget(self.n_timesteps, self._manager._hyperparams, ALGOS[self.algo])

    @property
    def settings(self) -> dict[str, Any]:
        """All settings that a trial's value depends on, JSON-able."""
        names = ("algo", "env", "n_timesteps", "n_evaluations", "eval_episodes")
        settings = {name: getattr(self, name) for name in names}
        settings |= {"seeds": sorted(self.seeds), "hyperparams": self._hyperparams}
        if self.hyperparams:  # of two equal values, trials may replace that of the file
            settings[FIXED] = sorted(self.hyperparams)
        plain: dict[str, Any] = json.loads(json.dumps(settings, default=str))
        return plain

    @cached_property
    def _hyperparams(self) -> dict[str, Any]:
        return zoo_hyperparams(self.algo, self.env, self.config, self.hyperparams)

    @cached_property
    def _manager(self) -> Any:
        """The zoo's manager, which reads YAML files and makes envs."""
        with tempfile.TemporaryDirectory() as folder:  # required, but a search writes no logs
            manager = make_manager(
                self.algo,
                self.env,
                log_folder=folder,
                n_timesteps=self.n_timesteps,
                hyperparams=dict(self.hyperparams),
                eval_env_kwargs=self._hyperparams.get("env_kwargs"),
                optimize_hyperparameters=True,
                device=self.device,
                config=self.config,
            )
            manager.setup_experiment()
        return manager

    @property
    def _additional(self) -> dict[str, Any]:
        """Additional arguments of the zoo's samplers for algorithms with HER."""
        fixed = self._manager._hyperparams
        return {
            "using_her_replay_buffer": fixed.get("replay_buffer_class") == HerReplayBuffer,
            "her_kwargs": fixed.get("replay_buffer_kwargs", {}),
        }

    def _run(self, trial: optuna.Trial, seed: int, sampled: Mapping[str, Any]) -> float:
        """Mean of the evaluations of one run."""
        manager, returns = self._manager, _Returns(self.n_evaluations)
        manager.seed = seed
        arguments = {**manager._hyperparams, **sampled}
        if "gamma" in arguments:  # as the zoo does with that of its file
            manager.normalize_kwargs = {**manager.normalize_kwargs, "gamma": arguments["gamma"]}
        env, eval_env = manager.create_envs(manager.n_envs, no_log=True), manager.create_envs(1, eval_env=True)
        evaluation = EvalCallback(
            eval_env,
            callback_after_eval=returns,
            n_eval_episodes=self.eval_episodes,
            eval_freq=max(self.n_timesteps // self.n_evaluations // manager.n_envs, 1),
            deterministic=bool(manager.deterministic_eval),
            verbose=0,
        )
        try:
            agent = ALGOS[self.algo](env=env, seed=seed, device=self.device, **arguments)
            callbacks = [*get_callback_list({"callback": manager.specified_callbacks}), evaluation]
            _learn(agent, self.n_timesteps, callbacks, f"seed {seed}")
        finally:
            env.close()
            eval_env.close()
        if len(returns.values) < self.n_evaluations:
            raise ValueError(
                f"n_evaluations={self.n_evaluations} is not allowed: a run ended after {len(returns.values)} of them, by a "
                f"callback of the file or with n_timesteps={self.n_timesteps}; allowed: as many as all runs reach"
            )
        if not np.isfinite(returns.values).all():
            raise optuna.TrialPruned(f"diverged: seed {seed} has the mean returns {returns.values}")
        return float(np.mean(returns.values))


def _learn(agent: Any, n_timesteps: int, callbacks: list[BaseCallback], which: str) -> None:
    """Train; sampled hyperparameters may diverge, for which SB3 raises these errors, and this package one of its own."""
    diverged = DivergenceError if isinstance(agent, MBPO) else (AssertionError, ValueError)
    try:
        agent.learn(n_timesteps, callback=callbacks)
    except diverged as error:
        raise optuna.TrialPruned(f"diverged: {which}: {error}") from error


def search(objective: Search, storage: BaseStorage, study_name: str, n_trials: int, p_threshold: float = 0.1) -> optuna.Study:
    """
    Continue or begin a study until it has ``n_trials`` trials, those of other processes included.

    :param objective: of each trial
    :param storage: see :func:`~sb3_tom.zoo.storages.open_storage`
    :param study_name: name of the study
    :param n_trials: number of trials of the whole study
    :param p_threshold: see ``optuna.pruners.WilcoxonPruner``: a trial ends early if it is worse than the best one with a
        p-value below this. With 0.1 that needs four seeds
    :return: the study
    :raises ValueError: naming what differs, if the study has other settings than the objective, or is not of such a search
    """
    study = optuna.create_study(
        storage=storage,
        study_name=study_name,
        direction="maximize",
        sampler=optuna.samplers.TPESampler(),
        pruner=optuna.pruners.WilcoxonPruner(p_threshold=p_threshold),
        load_if_exists=True,
    )
    _check_same(study, objective.settings)
    fail_stale_trials(study)
    if len(study.get_trials(deepcopy=False, states=COUNTED)) < n_trials:
        study.optimize(objective, callbacks=[MaxTrialsCallback(n_trials, states=COUNTED)], gc_after_trial=True)
    return study


def _check_same(study: optuna.Study, settings: dict[str, Any]) -> None:
    """Refuse a study with other settings, or of something else, whose values are not comparable."""
    # Before the attribute, which another worker sets before its first trial; trials that a user has queued wait
    is_begun = any(trial.state != TrialState.WAITING for trial in study.get_trials(deepcopy=False))
    is_ours = SETTINGS in study.user_attrs
    has_others = ZOO_COMMAND in study.user_attrs or (is_begun and not is_ours)
    if study.directions != [StudyDirection.MAXIMIZE] or has_others:
        what = "its trials are not all of this search" if has_others else "it does not maximize one value"
        raise ValueError(
            f"study_name={study.study_name!r} is not allowed: the storage has such a study, but {what}; "
            "allowed: a study of this search, or another name"
        )
    if not is_ours:
        study.set_user_attr(SETTINGS, settings)
    had = study.user_attrs[SETTINGS]
    for name in {**settings, **had}:
        if had.get(name) != settings.get(name):
            raise ValueError(
                f"{name}={settings.get(name)!r} is not allowed: the study {study.study_name!r} has {had.get(name)!r}; "
                "allowed: what it was begun with, or another study name"
            )


def report(study: optuna.Study, n_seeds: int, storage: str = "", others: Sequence[str] = ()) -> str:
    """
    Summary of a study, with the best trial of those that ran all their seeds.

    :param study: with at least one trial
    :param n_seeds: number of seeds of a complete trial
    :param storage: its name, for the command that trains the best trial; empty: no command
    :param others: further words of that command
    """
    states = {state: sum(trial.state == state for trial in study.trials) for state in TrialState}
    counts = ", ".join(f"{count} {state.name.lower()}" for state, count in states.items() if count)
    whole = [
        trial for trial in study.trials if trial.state == TrialState.COMPLETE and len(trial.intermediate_values) == n_seeds
    ]
    lines = [f"{study.study_name}: {counts}; {len(whole)} with all of {n_seeds} seeds"]
    if whole:
        best = max(whole, key=lambda trial: trial.values[0])
        lines += [f"best trial {best.number}: {best.values[0]:.1f}, of which seeds {best.intermediate_values}"]
        sampled, settings = best.user_attrs.get(SAMPLED, best.params), study.user_attrs.get(SETTINGS, {})
        lines += [f"    {name}: {value}" for name, value in sampled.items()]
        fixed = [name for name in settings.get(FIXED, ()) if name not in sampled]
        lines += [f"    {name}: {settings['hyperparams'][name]} (fixed)" for name in fixed]
        if storage and settings:
            words = ("--storage", without_password(storage), "--study-name", study.study_name)
            lines += [f"train it: {training_command(settings, sampled, best.number, words, others)}"]
    return "\n".join(lines)
