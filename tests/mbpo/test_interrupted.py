"""What is left after a callback, an error or the user has ended `learn` in the middle, and goes on with another call."""

import copy
from collections.abc import Callable
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch as th
from stable_baselines3.common.callbacks import BaseCallback, StopTrainingOnMaxEpisodes

from sb3_tom import MBPO
from sb3_tom.checks.guards import DivergenceError
from tests.mbpo.small import small_agent


class Counting(gym.Env[np.ndarray, np.ndarray]):
    """Observes the number of the episode and of the step; episodes terminate after ten."""

    observation_space = gym.spaces.Box(-np.inf, np.inf, (2,))
    action_space = gym.spaces.Box(-1.0, 1.0, (1,))
    episode, steps, fault = -1, 0, -1

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[np.ndarray, dict[str, Any]]:
        super().reset(seed=seed)
        self.episode, self.step_number = self.episode + 1, 0
        return self._observe(), {}

    def step(self, action: np.ndarray) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        self.step_number, self.steps = self.step_number + 1, self.steps + 1
        return self._observe(), np.nan if self.steps == self.fault else 1.0, self.step_number == 10, False, {}

    def _observe(self) -> np.ndarray:
        return np.array([self.episode, self.step_number], np.float32)


class Interrupting(BaseCallback):
    def _on_step(self) -> bool:
        if self.num_timesteps == 13:
            raise KeyboardInterrupt
        return True


def interrupted(agent: MBPO, method: str, error: type[BaseException]) -> Callable[[], None]:
    """Let the next call of a method fail at its end; the returned function takes that back."""
    original = getattr(agent, method)

    def fail(*args: Any, **kwargs: Any) -> None:
        original(*args, **kwargs)
        raise error

    setattr(agent, method, fail)
    return lambda: delattr(agent, method)


@pytest.mark.parametrize("ended_by", ["callback", "divergence", "user"])
def test_what_is_stored_has_occurred(ended_by: str) -> None:
    env = Counting()
    agent = small_agent(env, learning_starts=1000)
    if ended_by == "callback":
        for number in range(3):
            agent.learn(1000, callback=StopTrainingOnMaxEpisodes(1), reset_num_timesteps=number == 0)
    elif ended_by == "divergence":
        env.fault = 15
        with pytest.raises(DivergenceError):
            agent.learn(100)
    else:
        with pytest.raises(KeyboardInterrupt):
            agent.learn(100, callback=Interrupting())
    agent.learn(30, reset_num_timesteps=False)
    rows = agent.replay_buffer.transitions()
    assert rows.size > 35
    assert bool((rows.next_observations - rows.observations == th.tensor([0.0, 1.0])).all())


@pytest.mark.parametrize("verb", ["fit", "end_phase"])
@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError])
def test_a_phase_that_was_interrupted_is_repeated(verb: str, error: type[BaseException]) -> None:
    agent = small_agent("Pendulum-v1").learn(60)
    before = {name: value.clone() for name, value in agent.dynamics.state_dict().items()}
    restore = interrupted(agent.dynamics if verb == "fit" else agent.weighter, verb, error)
    with pytest.raises(error):
        agent.learn(60, reset_num_timesteps=False)
    restore()
    if verb == "fit":
        assert all(th.equal(value, before[name]) for name, value in agent.dynamics.state_dict().items()), "half a fit is none"
    assert agent.imagined.is_due
    done = agent.policy_version
    agent.learn(2, reset_num_timesteps=False)
    assert not agent.imagined.is_due and agent.policy_version > done


def test_a_first_fit_that_was_interrupted_is_still_the_first() -> None:
    agent = small_agent("Pendulum-v1", dynamics_kwargs={"n_members": 2, "n_elites": 2, "net_arch": (8,), "steps_per_epoch": 2})
    restore = interrupted(agent.dynamics, "fit", KeyboardInterrupt)
    with pytest.raises(KeyboardInterrupt):
        agent.learn(60)
    restore()
    assert not agent.dynamics.is_fitted


def test_gradient_steps_that_were_not_made_are_not_counted() -> None:
    agent = small_agent("Pendulum-v1").learn(60)
    made = agent._n_updates
    restore = interrupted(agent.policy_update, "update", KeyboardInterrupt)
    with pytest.raises(KeyboardInterrupt):
        agent.train_policy(500)
    restore()
    assert agent._n_updates == made


@pytest.mark.parametrize("verb", ["fit_model", "imagine", "train_policy"])
def test_a_run_is_not_saved_within_train(verb: str, tmp_path: Any) -> None:
    """A handler of a signal and another thread may try to."""
    agent = small_agent("Pendulum-v1").learn(30)
    original = getattr(agent, verb)

    def saved(*args: Any) -> Any:
        agent.save_checkpoint(tmp_path / "run.zip")
        return original(*args)

    setattr(agent, verb, saved)
    with pytest.raises(ValueError, match="save_checkpoint is not allowed in the middle of a step"):
        agent.learn(60, reset_num_timesteps=False)
    assert not (tmp_path / "run.zip").exists()


def test_a_model_that_was_never_fitted_imagines_nothing() -> None:
    agent = small_agent("Pendulum-v1").learn(30)
    with pytest.raises(ValueError, match=r"imagine\(\) is not allowed with a model that was never fitted"):
        agent.imagine()
    assert agent.imagined.is_due and agent.imagined.size == 0


def test_the_rate_of_the_critics_warm_up_is_the_one_of_this_call() -> None:
    rates = []
    agent = small_agent("Pendulum-v1").learn(60)
    agent.lr_schedule = lambda _: 1e-6
    original = agent.policy_update.end_phase

    def recorded(parts: Any, *args: Any) -> Any:
        rates.append(parts.policy.critic.optimizer.param_groups[0]["lr"])
        return original(parts, *args)

    agent.policy_update.end_phase = recorded  # type: ignore[method-assign]
    agent.end_phase()
    assert rates == [1e-6]


class Copying(BaseCallback):
    """Copies the agent, as callbacks do that keep the best one."""

    copied: MBPO

    def _on_step(self) -> bool:
        if self.num_timesteps == 60:
            self.copied = copy.deepcopy(self.model)
        return True


def test_an_agent_may_be_copied_within_learn() -> None:
    callback = Copying()
    small_agent("Pendulum-v1").learn(70, callback=callback)
    assert callback.copied.num_timesteps == 60
    callback.copied.learn(10, reset_num_timesteps=False)
    assert callback.copied.num_timesteps == 70


class CopyingAtEnd(Copying):
    """Copies after a step was stored."""

    def _on_step(self) -> bool:
        return True

    def _on_rollout_end(self) -> None:
        if self.num_timesteps == 65:  # in the middle of an episode
            self.copied = copy.deepcopy(self.model)


def test_a_copy_after_a_step_goes_on_with_the_episode() -> None:
    callback = CopyingAtEnd()
    small_agent(Counting(), learning_starts=1000).learn(70, callback=callback)
    callback.copied.learn(5, reset_num_timesteps=False)
    rows = callback.copied.replay_buffer.transitions()
    assert rows.size == 70 and th.equal(rows.observations[65], rows.next_observations[64])


def test_a_copy_of_a_step_stores_what_has_occurred(tmp_path: Any) -> None:
    """The step that it was made in is not in its buffer, and its envs have made it."""
    callback = Copying()
    small_agent(Counting(), learning_starts=1000).learn(70, callback=callback)
    callback.copied.save_checkpoint(tmp_path / "copy.zip")
    callback.copied.learn(15, reset_num_timesteps=False)
    rows = callback.copied.replay_buffer.transitions()
    assert (rows.next_observations - rows.observations).unique(dim=0).tolist() == [[0.0, 1.0]]


def test_a_round_of_rollouts_that_was_interrupted_is_repeated() -> None:
    agent = small_agent("Pendulum-v1", rollout_freq=10).learn(60)
    rounds, restore = list(agent.imagined.made_at), interrupted(agent.termination, "forward", KeyboardInterrupt)
    with pytest.raises(KeyboardInterrupt):
        agent.learn(20, reset_num_timesteps=False)
    restore()
    assert agent.imagined.made_at == rounds and agent._since_rollouts >= 10
    agent.learn(1, reset_num_timesteps=False)
    assert len(agent.imagined.made_at) == len(rounds) + 1


def test_an_interrupted_fit_does_not_age_the_rows_to_come() -> None:
    agent = small_agent("Pendulum-v1", dynamics="linear", learning_starts=60).learn(60)
    restore = interrupted(agent, "_record", KeyboardInterrupt)
    with pytest.raises(KeyboardInterrupt):
        agent.fit_model()
    restore()
    assert agent.replay_buffer.policy_version == agent.policy_version == 0
