r"""
Errors of the dynamics model, for all past policies and for the current one (Wang et al. 2022, PMAC, Fig. 1 and 3).

The error of a predicted next observation is the root mean square over its dimensions, each in units of its standard deviation
in the replay buffer (the paper does not name the units of its curves; a dimension that never varied counts as no error),
averaged over transitions:

- **global**: one-step error on rows of the replay buffer, drawn uniformly: the visits of all past policies;
- **local**: the same on new episodes of the current policy in a separate environment;
- **compounding**: h-step error on those episodes: the model continues from its own predictions with the *real* actions, so
  that the two trajectories differ by the model only.

A prediction is the mean of the model's sampled next observations, ``n_samples`` of each.
"""

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import gymnasium as gym
import numpy as np
import torch as th
from stable_baselines3.common.callbacks import BaseCallback

from sb3_tom.callbacks.evaluation import Every, check_eval_env, make_eval_envs, preserved_random_state
from sb3_tom.callbacks.labels import run_labels
from sb3_tom.callbacks.tables import RunTable
from sb3_tom.checks.validation import check_integer
from sb3_tom.contracts.dynamics import DynamicsModel
from sb3_tom.contracts.types import Transitions
from sb3_tom.data.moments import moments_of

ERROR_COLUMNS = ("env_step", "policy_version", "kind", "horizon", "error", "transitions")
"""Columns of model errors after the labels task, method and seed; ``kind`` is "global", "local" or "compounding"."""


class Episode(NamedTuple):
    """
    A real episode of T steps.

    :param observations: ``[T + 1, O]``, from the first to the last
    :param actions: ``[T, A]`` in [-1, 1]
    """

    observations: th.Tensor
    actions: th.Tensor


@th.no_grad()
def predict(
    model: DynamicsModel, observations: th.Tensor, actions: th.Tensor, n_samples: int, generator: th.Generator
) -> th.Tensor:
    """
    Mean of the model's next observations.

    :param model: fitted
    :param observations: ``[B, O]``
    :param actions: ``[B, A]``
    :param n_samples: samples of each
    :param generator: source of randomness
    :return: ``[B, O]``
    """
    n_rows = observations.shape[0]
    drawn, _ = model.sample(observations.repeat(n_samples, 1), actions.repeat(n_samples, 1), generator)
    return drawn.view(n_samples, n_rows, -1).mean(0)


def error_scale(data: Transitions) -> th.Tensor:
    """
    The unit of the errors of each dimension.

    :param data: N rows
    :return: standard deviation of each dimension ``[O]``, infinite (no error counts) where it has not varied yet: the cart of
        InvertedDoublePendulum-v5 feels no constraint until it first hits one, and any prediction would be far off zero
    """
    scale = moments_of(data, "observations").varying().float()
    return th.where(scale > 0.0, scale, th.inf)


def scaled_error(predicted: th.Tensor, real: th.Tensor, scale: th.Tensor) -> th.Tensor:
    """
    Root of the mean square over dimensions, in units of ``scale``.

    :param predicted: ``[B, O]``
    :param real: ``[B, O]``
    :param scale: ``[O]``
    :return: ``[B]``
    """
    return ((predicted - real) / scale).square().mean(-1).sqrt()


def compounding_errors(
    model: DynamicsModel,
    episodes: Sequence[Episode],
    horizon: int,
    scale: th.Tensor,
    n_samples: int,
    generator: th.Generator,
) -> list[th.Tensor]:
    """
    Errors of open-loop predictions from every step of the episodes, all at once.

    :param model: fitted
    :param episodes: real episodes
    :param horizon: steps to predict
    :param scale: ``[O]``, unit of the error
    :param n_samples: samples of each prediction
    :param generator: source of randomness
    :return: for each h from 1 to ``horizon`` the errors ``[B_h]`` of all starts with h steps of their episode left
    """
    observations = th.cat([episode.observations for episode in episodes])
    # The row after an episode's last observation has no action; a row of zeros keeps both tensors in step.
    actions = th.cat([th.cat([episode.actions, th.zeros_like(episode.actions[:1])]) for episode in episodes])
    left = th.cat([th.arange(len(episode.actions), -1, -1, device=observations.device) for episode in episodes])
    rows = th.where(left >= 1)[0]
    predicted, errors = observations[rows], []
    for step in range(1, horizon + 1):
        remain = left[rows] >= step
        rows, predicted = rows[remain], predicted[remain]
        if rows.numel() == 0:
            errors += [predicted.new_zeros(0)] * (horizon + 1 - step)
            break
        predicted = predict(model, predicted, actions[rows + step - 1], n_samples, generator)
        errors.append(scaled_error(predicted, observations[rows + step], scale))
    return errors


def model_errors(
    agent: Any, episodes: Sequence[Episode], horizon: int, n_global: int, n_samples: int, generator: th.Generator
) -> dict[tuple[str, int], th.Tensor]:
    """
    The three errors of an agent's dynamics model, see this module.

    :param agent: its model and its replay buffer
    :param episodes: real episodes of its policy
    :param horizon: maximum number of steps of the compounding error
    :param n_global: rows of the replay buffer for the global error
    :param n_samples: samples of each prediction
    :param generator: source of randomness
    :return: errors ``[rows]`` by kind ("global", "local" or "compounding") and horizon; one that no episode has is left out
    """
    data = agent.replay_buffer.transitions()
    scale = error_scale(data)
    chosen = data.rows(th.randperm(data.size, generator=generator, device=data.device)[:n_global])
    predicted = predict(agent.dynamics, chosen.observations, chosen.actions, n_samples, generator)
    ahead = compounding_errors(agent.dynamics, episodes, horizon, scale, n_samples, generator)
    errors = {("global", 1): scaled_error(predicted, chosen.next_observations, scale), ("local", 1): ahead[0]}
    return errors | {("compounding", step): values for step, values in enumerate(ahead, 1) if values.numel()}


def play_episode(agent: Any, env: gym.Env, seed: int, deterministic: bool = False) -> Episode:
    """
    Play one episode with an agent's policy. Sets torch's global seed and resets gSDE's noise.

    :param agent: SB3's; with ``VecNormalize`` its policy gets normalised observations
    :param env: of the agent's task, in its own units; nothing else steps it
    :param seed: of the first state and of the actions
    :param deterministic: use the mean action
    :return: the episode, in the env's units, on the agent's device
    """
    th.manual_seed(seed)
    if agent.use_sde:
        agent.actor.reset_noise()
    normalizer = agent.get_vec_normalize_env()
    observation, _ = env.reset(seed=seed)
    observations, actions, over = [np.array(observation)], [], False  # copies: an env may write into one array
    while not over:
        seen = observation if normalizer is None else normalizer.normalize_obs(observation)
        action, _ = agent.predict(seen, deterministic=deterministic)
        actions.append(agent.policy.scale_action(action))
        observation, _, terminated, truncated, _ = env.step(action)
        observations.append(np.array(observation))
        over = terminated or truncated
    tensors = (th.as_tensor(np.array(values), dtype=th.float32, device=agent.device) for values in (observations, actions))
    return Episode(*tensors)


@contextmanager
def _preserved_noise(agent: Any) -> Iterator[None]:
    """Restore gSDE's noise after the block, so that training is not changed."""
    distribution = agent.actor.action_dist
    names = ("exploration_mat", "exploration_matrices") if agent.use_sde else ()
    kept = {name: getattr(distribution, name) for name in names}
    try:
        yield
    finally:
        for name, noise in kept.items():
            setattr(distribution, name, noise)


class ModelErrorCallback(BaseCallback):
    """
    Every ``eval_freq`` env steps write the model's global, local and compounding error (see this module) to a CSV file. The
    model is the one of the latest model phase of this training. Training is the same with and without this callback.

    :param eval_env: environment id, or a function that makes a new environment with each call; closed at the end of training
    :param csv_path: the file; a resumed agent keeps its earlier rows
    :param eval_freq: env steps (all training envs together) between evaluations; the paper's: 1,000
    :param horizon: maximum number of steps of the compounding error
    :param n_episodes: new episodes of the current policy; the paper's: 10
    :param n_global: rows of the replay buffer for the global error
    :param n_samples: samples of each prediction
    :param deterministic: play new episodes with mean actions; by default with sampled ones, as in training
    :param seed: of the new episodes' first states
    :param method: label of the method; default: the agent's class and its plugs, ``mbpo_tom``
    :param task: label of the task; default: the environment's id, or its class's name if it has none
    :raises ValueError: naming the argument, what came and what is allowed
    """

    def __init__(
        self,
        eval_env: str | Callable[[], gym.Env],
        csv_path: str | os.PathLike[str],
        eval_freq: int = 1000,
        *,
        horizon: int = 20,
        n_episodes: int = 10,
        n_global: int = 5000,
        n_samples: int = 8,
        deterministic: bool = False,
        seed: int = 20_000,
        method: str | None = None,
        task: str | None = None,
        verbose: int = 0,
    ) -> None:
        super().__init__(verbose)
        check_eval_env(eval_env)
        self.eval_env, self.csv_path = eval_env, csv_path
        self.eval_freq = check_integer("eval_freq", eval_freq, 1)
        self.horizon = check_integer("horizon", horizon, 1)
        self.n_episodes = check_integer("n_episodes", n_episodes, 1)
        self.n_global = check_integer("n_global", n_global, 1)
        self.n_samples = check_integer("n_samples", n_samples, 1)
        self.deterministic, self.seed = deterministic, check_integer("seed", seed, 0)
        self.method, self.task = method, task

    def _on_training_start(self) -> None:
        if not hasattr(self.model, "dynamics"):
            raise ValueError(f"ModelErrorCallback needs an agent with a dynamics model; {type(self.model).__name__} has none")
        (self._env,) = make_eval_envs(self.eval_env, self.model)
        self.table = RunTable(self.csv_path, ERROR_COLUMNS, run_labels(self, self._env), self.num_timesteps)
        self._is_due = Every(self.eval_freq, self.num_timesteps)

    def _on_step(self) -> bool:
        # Before the first model phase there is no model
        if self._is_due(self.num_timesteps) and self._agent.imagined.size > 0:
            with preserved_random_state(), _preserved_noise(self._agent):
                self.table.append(*self._rows())
        return True

    def _on_training_end(self) -> None:
        self._env.close()

    @property
    def _agent(self) -> Any:
        return self.model

    def _rows(self) -> list[dict[str, Any]]:
        """One row for the global and one for the local error, one for each horizon."""
        generator = th.Generator(device=self.model.device).manual_seed(self.num_timesteps)
        numbers = range(self.seed, self.seed + self.n_episodes)
        episodes = [play_episode(self._agent, self._env, number, self.deterministic) for number in numbers]
        errors = model_errors(self._agent, episodes, self.horizon, self.n_global, self.n_samples, generator)
        common = {"env_step": self.num_timesteps, "policy_version": int(self._agent.policy_version)}
        for kind in ("global", "local"):
            self.logger.record(f"model_error/{kind}", float(errors[kind, 1].mean()))
        return [
            common | {"kind": kind, "horizon": step, "error": float(values.mean()), "transitions": values.numel()}
            for (kind, step), values in errors.items()
        ]
