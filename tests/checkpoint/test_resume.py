"""A run that goes on from any of its checkpoints equals the run that was never interrupted, bit for bit."""

import copy
import random
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch as th
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.noise import OrnsteinUhlenbeckActionNoise
from stable_baselines3.common.vec_env import DummyVecEnv, SubprocVecEnv, VecMonitor, VecNormalize

from sb3_tom import MBPO
from sb3_tom.checkpoint import ResumeCallback, latest_checkpoint
from tests.checkpoint.equal import assert_equal
from tests.checkpoint.runs import STEPS, checkpoints, final_state, make_agent
from tests.mbpo.small import small_agent
from tests.objectives.mnm_cases import Paid


def disturb() -> None:
    """What another process would have in its global streams."""
    random.seed(9)
    np.random.seed(9)
    th.manual_seed(9)


def assert_resumes(folder: Path, make: Any, save_freq: int = 70, which: slice = slice(1, 2)) -> dict[str, Any]:
    """Run with checkpoints, go on from some of them, and return the state at the end of the run."""
    reference = final_state(make().learn(STEPS, callback=ResumeCallback(folder, save_freq, keep=100)))
    files = checkpoints(folder)
    assert len(files) == 2 + (STEPS - 1) // save_freq
    for file in files[which]:
        disturb()
        resumed = make()
        resumed.load_checkpoint(file)
        found = final_state(resumed.learn(STEPS))
        if file is files[-1]:  # nothing is left to log, and the next ``learn`` begins another log
            found["log"] = reference["log"]
        assert_equal(found, reference, file.name)
    return reference


def test_resumed_from_anywhere_equals_uninterrupted(tmp_path: Path) -> None:
    """Before training, within it, and at its end; and saving does not change the run."""

    def make() -> MBPO:
        return make_agent("Hopper-v5", 2, "tom")

    reference = assert_resumes(tmp_path, make, save_freq=45, which=slice(None))
    assert_equal(final_state(make().learn(STEPS)), reference)


def test_what_the_log_has_collected_comes_back(tmp_path: Path) -> None:
    class Once(BaseCallback):
        def _on_step(self) -> bool:
            if self.num_timesteps == 20:
                self.logger.record("mine/figure", 3.0)
            return True

    make_agent().learn(STEPS, callback=[Once(), ResumeCallback(tmp_path, 70)])
    resumed = make_agent()
    resumed.load_checkpoint(checkpoints(tmp_path)[0])
    assert resumed.learn(STEPS).logger.name_to_value["mine/figure"] == 3.0


PENDULUM = "InvertedPendulum-v5"
SETTINGS: list[dict[str, Any]] = [
    {"weighter": "pmac", "dynamics": "mdn", "use_sde": True, "sde_sample_freq": 7, "buffer_size": 100},
    {"env": PENDULUM, "dynamics": "linear", "termination_fn": "learned", "train_freq": (1, "episode")},
    {"noise": True, "n_envs": 2, "ent_coef": 0.1, "learning_rate": lambda progress: 1e-3 * progress, "seed": None},
    {"env": PENDULUM, "normalized": True, "weighter": "pmac", "dynamics": "linear"},
    {"weighter": "pdml", "n_envs": 2, "buffer_size": 60},
    {"env": PENDULUM, "normalized": True, "weighter": "pdml", "use_sde": True},
    {"weighter": "per", "n_envs": 2, "buffer_size": 60},
    {"weighter": "recall", "dynamics": "linear"},
    {"env": PENDULUM, "normalized": True, "weighter": "maper", "buffer_size": 60},
    {"weighter": "value", "dynamics": "mdn"},
    {"objective": "vagram", "objective_kwargs": {"plain_fits": 2}, "real_ratio": (50, 150, 1.0, 0.1)},
    {"env": PENDULUM, "normalized": True, "objective": "vagram", "objective_kwargs": {"plain_fits": 1}, "dynamics": "mdn"},
    {"objective": "mnm", "objective_kwargs": {"likelihood_fits": 1, "classifier_steps": 8, "net_arch": (16, 16)}},
    {
        "env": Paid,
        "normalized": True,
        "dynamics": "smooth",
        "objective": "mnm",
        "objective_kwargs": {"likelihood_fits": 1, "classifier_steps": 2, "net_arch": (16,), "augmented_reward": True},
    },
    {"policy": "LayerNormPolicy", "dynamics": "linear", "policy_kwargs": {"net_arch": [16, 16], "dropout_rate": 0.2}},
    {"dynamics": "linear", "policy_kwargs": {"net_arch": [16, 16], "activation_fn": th.nn.SiLU, "n_critics": 3}},
    {"env": PENDULUM, "wrapped": True, "rollout_schedule": (0, 120, 1, 4), "imagined_capacity": 150},
    {"n_envs": 2, "confidence": "inverse_std", "rollout_stop": "quantile", "rollout_schedule": 4},
    {"env": PENDULUM, "normalized": True, "confidence": "inverse_std", "rollout_stop": "quantile", "rollout_schedule": 4},
]


def make_of(settings: dict[str, Any]) -> MBPO:
    settings = dict(settings)
    if settings.pop("noise", False):
        settings["action_noise"] = OrnsteinUhlenbeckActionNoise(np.zeros(1), np.full(1, 0.1))
    if settings.pop("wrapped", False):
        venv = VecMonitor(DummyVecEnv([lambda: gym.wrappers.RescaleAction(gym.make(settings["env"]), -1.0, 1.0)] * 2))
        return small_agent(**{**settings, "env": venv})
    if settings.pop("normalized", False):
        return small_agent(**{**settings, "env": VecNormalize(make_vec_env(settings["env"], 2))})
    return make_agent(**settings)


@pytest.mark.parametrize("settings", SETTINGS, ids="-".join)
def test_settings_resume(settings: dict[str, Any], tmp_path: Path) -> None:
    assert_resumes(tmp_path, lambda: make_of(settings))


def test_envs_in_other_processes_resume(tmp_path: Path) -> None:
    agents: list[MBPO] = []

    def make() -> MBPO:
        kwargs = {"vec_env_cls": SubprocVecEnv, "vec_env_kwargs": {"start_method": "fork"}}
        agents.append(small_agent(make_vec_env("Pendulum-v1", 2, **kwargs)))
        return agents[-1]

    try:
        assert_resumes(tmp_path, make)
    finally:
        for agent in agents:
            agent.env.close()


def test_a_finished_run_has_nothing_left(tmp_path: Path) -> None:
    make_agent().learn(80, callback=ResumeCallback(tmp_path, 1000))
    agent = MBPO.resume(tmp_path, "Pendulum-v1")
    before = final_state(agent)["agent"]["parameters"]
    agent.learn(80, callback=ResumeCallback(tmp_path, 1000))
    assert agent.num_timesteps == 80
    assert_equal(agent.get_parameters(), before)


def test_a_greater_total_trains_longer(tmp_path: Path) -> None:
    make_agent().learn(80, callback=ResumeCallback(tmp_path, 1000))
    agent = MBPO.resume(tmp_path, "Pendulum-v1")
    with pytest.raises(ValueError, match=r"total_timesteps=70 is not allowed.*80"):
        agent.learn(70)
    agent.load_checkpoint(tmp_path)
    assert agent.learn(100).num_timesteps == 100
    assert agent.learn(10, reset_num_timesteps=False).num_timesteps == 110
    assert agent.learn(10).num_timesteps == 10


@pytest.mark.parametrize("reset", [True, False])
def test_between_two_calls_of_learn(reset: bool, tmp_path: Path) -> None:
    """A checkpoint by hand: learn means in the new process what it would have meant in the old one."""
    agent = make_agent().learn(80)
    agent.save_checkpoint(tmp_path / "by_hand.zip")
    disturb()
    resumed = MBPO.resume(tmp_path / "by_hand.zip", "Pendulum-v1")
    resumed.save_checkpoint(tmp_path / "again.zip")
    second = MBPO.resume(tmp_path / "again.zip", "Pendulum-v1")
    state = final_state_after(resumed, reset)
    assert_equal(final_state_after(second, reset), state)
    fresh = make_agent().learn(80)
    assert_equal(final_state_after(fresh, reset), state)


def test_noise_of_several_envs_before_the_first_call_of_learn(tmp_path: Path) -> None:
    agent = make_agent(n_envs=2, action_noise=OrnsteinUhlenbeckActionNoise(np.zeros(1), np.full(1, 0.1)))
    agent.save_checkpoint(tmp_path / "new.zip")
    reference = copy.deepcopy(final_state(agent.learn(60)))
    agent.load_checkpoint(tmp_path / "new.zip")
    assert_equal(final_state(agent.learn(60)), reference)


def test_noise_of_several_envs_between_two_calls_of_learn(tmp_path: Path) -> None:
    """Inside of ``learn`` SB3 gives each env a noise of its own; a checkpoint by hand holds these."""

    def noise() -> OrnsteinUhlenbeckActionNoise:
        return OrnsteinUhlenbeckActionNoise(np.zeros(1), np.ones(1))

    agent = make_agent(n_envs=2, action_noise=noise()).learn(80)
    agent.save_checkpoint(tmp_path / "by_hand.zip")
    resumed = MBPO.resume(tmp_path / "by_hand.zip", make_vec_env("Pendulum-v1", 2), action_noise=noise())
    state = final_state_after(resumed, reset=False)
    fresh = make_agent(n_envs=2, action_noise=noise()).learn(80)
    assert_equal(final_state_after(fresh, reset=False), state)


def final_state_after(agent: MBPO, reset: bool) -> dict[str, Any]:
    return final_state(agent.learn(60, reset_num_timesteps=reset))


class Unknown(gym.Env[np.ndarray, np.ndarray]):
    """An env that nobody has registered."""

    observation_space = gym.spaces.Box(-10.0, 10.0, (2,))
    action_space = gym.spaces.Box(-1.0, 1.0, (1,))

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[np.ndarray, dict[str, Any]]:
        super().reset(seed=seed)
        self.steps = 0
        return self.np_random.uniform(-1, 1, 2).astype(np.float32), {}

    def step(self, action: np.ndarray) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        self.steps += 1
        return self.np_random.uniform(-1, 1, 2).astype(np.float32), float(action[0]), False, self.steps == 25, {}


def test_an_unknown_env_goes_on_with_a_new_episode(tmp_path: Path) -> None:
    small_agent(Unknown()).learn(110, callback=ResumeCallback(tmp_path, 1000))
    finals = []
    for _ in range(2):
        disturb()
        agent = small_agent(Unknown())
        agent.load_checkpoint(tmp_path)
        starts = agent.replay_buffer._n_starts
        with pytest.warns(UserWarning, match=r"new episodes.*Unknown has no adapter") as caught:
            agent.learn(140)
        assert len(caught) == 1
        assert agent.replay_buffer._n_starts == starts + 2  # the new episode, and the one after its 25 steps
        finals.append(final_state(agent))
    assert_equal(finals[0], finals[1])


def test_latest(tmp_path: Path) -> None:
    assert latest_checkpoint(tmp_path / "nothing") is None
    make_agent().learn(60, callback=ResumeCallback(tmp_path, 20, keep=2))
    assert [path.name for path in checkpoints(tmp_path)] == ["checkpoint_40_steps.zip", "checkpoint_60_steps.zip"]
    assert latest_checkpoint(tmp_path) == tmp_path / "checkpoint_60_steps.zip"
