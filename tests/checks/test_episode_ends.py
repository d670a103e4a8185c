"""The last observation of an episode, by every route that it can get lost on."""

from functools import partial
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium import spaces
from stable_baselines3 import SAC
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.vec_env import DummyVecEnv, SubprocVecEnv, VecEnvWrapper, VecNormalize

from sb3_tom import MBPO
from sb3_tom.callbacks.model_error import play_episode
from sb3_tom.checkpoint.env_state import env_state, restore_env
from sb3_tom.checks.episode_ends import EpisodeEnds
from sb3_tom.envs import CopiedObservations
from sb3_tom.envs.copied import with_copied_observations
from tests.mbpo.small import small_agent

TINY: dict[str, Any] = {"dynamics": "linear", "policy_kwargs": {"net_arch": [8]}, "learning_starts": 1000}
"""What is stored is the matter: nothing is trained."""


class Drift(gym.Env):
    """Starts near 0, drifts by 0.5 and a bit of the action, and ends beyond 3; perhaps it writes into one array."""

    observation_space = spaces.Box(-np.inf, np.inf, (2,), np.float32)
    action_space = spaces.Box(-1.0, 1.0, (1,), np.float32)

    def __init__(self, in_place: bool = True, constant: bool = False) -> None:
        self.in_place, self.constant = in_place, constant
        self.array, self.state = np.zeros(2, np.float32), np.zeros(2)

    def _observation(self) -> np.ndarray:
        self.array[:] = 0.0 if self.constant else self.state
        return self.array if self.in_place else self.array.copy()

    def reset(self, *, seed: int | None = None, options: dict | None = None) -> Any:
        super().reset(seed=seed)
        self.state = self.np_random.uniform(-0.1, 0.1, 2)
        return self._observation(), {}

    def step(self, action: np.ndarray) -> Any:
        self.state = self.state + 0.5 + 0.1 * float(action[0])
        return self._observation(), 1.0, bool(self.state[0] > 3.0), False, {}


class RoundTrip(gym.Env):
    """Starts at 0, goes round a ring, and ends when it is back at 0."""

    observation_space = spaces.Box(-1.0, 1.0, (2,), np.float32)
    action_space = spaces.Box(-1.0, 1.0, (1,), np.float32)

    def reset(self, *, seed: int | None = None, options: dict | None = None) -> Any:
        super().reset(seed=seed)
        self.place = 0
        return self._observation(), {}

    def _observation(self) -> np.ndarray:
        angle = 2 * np.pi * (self.place % 5) / 5
        return np.array([np.cos(angle), np.sin(angle)], np.float32)

    def step(self, action: np.ndarray) -> Any:
        self.place += 1
        return self._observation(), 1.0, self.place == 5, False, {}


class Forgetful(VecEnvWrapper):
    """Resets by itself and drops what it has replaced."""

    def reset(self) -> Any:
        return self.venv.reset()

    def step_wait(self) -> Any:
        observations, rewards, dones, infos = self.venv.step_wait()
        for info in infos:
            info.pop("terminal_observation", None)
        return observations, rewards, dones, infos


def ends_of(agent: MBPO) -> np.ndarray:
    rows = agent.replay_buffer.transitions()
    return rows.next_observations[rows.terminated.flatten() > 0.5].numpy()[:, 0]


@pytest.mark.parametrize("wrapped", [False, True], ids=["bare", "in a Monitor"])
def test_an_env_that_writes_into_one_array_ends_where_it_ends(wrapped: bool) -> None:
    agent = small_agent(Monitor(Drift()) if wrapped else Drift(), **TINY).learn(80)
    assert len(ends_of(agent)) > 5 and (ends_of(agent) > 3.0).all()
    agent.set_env(Drift())
    agent.learn(80, reset_num_timesteps=False)
    assert (ends_of(agent) > 3.0).all()


@pytest.mark.parametrize("normalize", [False, True])
@pytest.mark.parametrize("kind", [DummyVecEnv, partial(SubprocVecEnv, start_method="fork")], ids=["Dummy", "Subproc"])
def test_in_somebody_elses_vectorised_env_it_is_one_error_at_the_third_end(kind: Any, normalize: bool) -> None:
    env = kind([Drift])
    env = VecNormalize(env) if normalize else env
    with pytest.raises(ValueError, match=r"^at 3 ends in a row the last observation of an episode is missing.*CopiedObs"):
        small_agent(env, **TINY).learn(80)
    env.close()
    mended = kind([lambda: CopiedObservations(Drift())])
    assert (ends_of(small_agent(VecNormalize(mended) if normalize else mended, **TINY).learn(80)) > 3.0).all()
    mended.close()


def test_a_terminal_observation_that_is_dropped_is_missed_at_once() -> None:
    agent = small_agent(Forgetful(DummyVecEnv([lambda: Drift(in_place=False)])), **TINY)
    with pytest.raises(ValueError, match=r"^env 0: the last observation of an episode is missing"):
        agent.learn(80)
    assert len(ends_of(agent)) == 0


def test_a_tight_clip_is_no_fault() -> None:
    """What the policy sees of the end and of the next start is equal then; what is stored is not."""
    env = VecNormalize(DummyVecEnv([lambda: Drift(in_place=False)]), clip_obs=1e-6)
    assert (ends_of(small_agent(env, **TINY).learn(80)) > 3.0).all()


def test_an_env_that_never_changes_may_end_where_it_starts() -> None:
    small_agent(DummyVecEnv([lambda: Drift(constant=True)]), **TINY).learn(80)


def test_two_ends_by_chance_are_no_fault() -> None:
    ends, start, end = EpisodeEnds(), np.zeros((1, 2)), np.ones((1, 2))
    chance = [(end, start, {"terminal_observation": start[0]})] * 2
    for before, after, info in [*chance, (start, start, {"terminal_observation": end[0]}), *chance, *chance]:
        ends.check(before, after, np.array([True]), [info])


def test_an_env_may_end_where_all_its_episodes_start(tmp_path: Any) -> None:
    """It is said once: with other starts it would be a fault, of which these tell nothing."""
    with pytest.warns(UserWarning, match="at 3 ends in a row .* is equal to the first one of the next") as warned:
        agent = small_agent(RoundTrip(), **TINY).learn(80)
    assert len([one for one in warned if "ends in a row" in str(one.message)]) == 1
    assert len(ends_of(agent)) == 16 and (ends_of(agent) == 1.0).all()
    agent.save_replay_buffer(tmp_path / "rows")
    with pytest.warns(UserWarning, match="in the replay buffer, at all of its 15 ends"):
        small_agent(RoundTrip(), **TINY).load_replay_buffer(tmp_path / "rows")


def test_each_of_several_envs_may_end_where_it_always_starts() -> None:
    ends, starts = EpisodeEnds(), np.array([[0.0, 0.0], [0.5, 0.5]])
    infos = [{"terminal_observation": start} for start in starts]
    with pytest.warns(UserWarning, match="at 3 ends in a row"):
        for _ in range(3):
            ends.check(np.ones((2, 2)), starts, np.array([True, True]), infos)
    with pytest.raises(ValueError, match="the last observation of an episode is missing"):
        ends.check(np.ones((2, 2)), starts[::-1], np.array([True, True]), infos[::-1])


def test_the_first_other_start_tells_that_ends_are_missing() -> None:
    ends, before = EpisodeEnds(), np.ones((1, 2))
    starts = [np.full((1, 2), value) for value in (0.0, 0.0, 0.0, 0.0, 0.5)]
    with pytest.warns(UserWarning, match="at 3 ends in a row"):
        for start in starts[:-1]:
            ends.check(before, start, np.array([True]), [{"terminal_observation": start[0]}])
    with pytest.raises(ValueError, match=r"^at 5 ends in a row the last observation of an episode is missing"):
        ends.check(before, starts[-1], np.array([True]), [{"terminal_observation": starts[-1][0]}])


@pytest.mark.parametrize("route", ["load_replay_buffer", "from_sac"])
def test_rows_of_another_run_are_looked_at_too(route: str, tmp_path: Any) -> None:
    """SB3's SAC stores the starts as ends, without a word."""
    sac = SAC("MlpPolicy", Drift(), learning_starts=200, buffer_size=100, policy_kwargs={"net_arch": [8]}).learn(90)
    with pytest.raises(ValueError, match=r"^the replay buffer is not allowed: at all of its \d+ ends the last observation"):
        if route == "from_sac":
            MBPO.from_sac(sac, Drift(), dynamics="linear")
        else:
            sac.save_replay_buffer(tmp_path / "rows")
            small_agent(Drift(), **TINY).load_replay_buffer(tmp_path / "rows")


def test_a_fresh_episode_of_such_an_env_is_one() -> None:
    """The model's errors are measured on it."""
    agent = small_agent(Drift(), **TINY)
    episode = play_episode(agent, Drift(), seed=0)
    steps = np.diff(episode.observations[:, 0].numpy())
    assert (steps > 0.35).all() and float(episode.observations[-1, 0]) > 3.0


def test_the_wrapper_is_put_on_once_and_checkpoints_do_not_see_it() -> None:
    env = with_copied_observations(gym.make("Pendulum-v1"))
    assert with_copied_observations(env) is env
    assert with_copied_observations(Monitor(env)).env is env
    assert with_copied_observations(3) == 3
    env.reset(seed=0)
    plain = gym.make("Pendulum-v1")
    plain.reset(seed=1)
    restore_env(plain, env_state(env))
    restore_env(env, env_state(plain))
    assert (plain.unwrapped.state == env.unwrapped.state).all()
