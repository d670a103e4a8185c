"""SB3's own callbacks, as its users write them: each of them with both ways in which a policy learns."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch as th
from stable_baselines3.common.callbacks import (
    BaseCallback,
    CheckpointCallback,
    EvalCallback,
    StopTrainingOnNoModelImprovement,
    StopTrainingOnRewardThreshold,
)
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.vec_env import VecNormalize

from sb3_tom import DHMBPO, MBPO
from tests.checkpoint.equal import assert_equal
from tests.mbpo.small import SMALL_MODELS
from tests.mbpo.test_mbpo import Corridor

TINY: dict[str, Any] = {
    "learning_starts": 20,
    "batch_size": 16,
    "buffer_size": 1000,
    "policy_kwargs": {"net_arch": [8]},
    "rollout_batch_size": 20,
    "model_train_freq": 20,
    "update_to_data_ratio": 1,
    "seed": 0,
    "device": "cpu",
}

both = pytest.mark.parametrize("algorithm", [MBPO, DHMBPO])


def tiny(algorithm: type[MBPO], env: Any = None, **kwargs: Any) -> MBPO:
    dynamics = SMALL_MODELS["smooth" if algorithm is DHMBPO else "ensemble"]
    return algorithm("MlpPolicy", Corridor() if env is None else env, **{**TINY, "dynamics_kwargs": dynamics, **kwargs})


class Plain(Corridor):
    """Every episode has the same return, whatever the actions are."""

    def step(self, action: np.ndarray):
        observation, _, *rest = super().step(action)
        return observation, 1.0, *rest


class Rising(Plain):
    """The k-th episode of an instance has the return -7, 0, 7, 7, ...: better twice, then no more."""

    returns = (-1.0, 0.0, 1.0)

    played = 0

    def step(self, action: np.ndarray):
        observation, _, terminated, truncated, info = super().step(action)
        reward = self.returns[min(self.played, 2)]
        self.played += truncated
        return observation, reward, terminated, truncated, info


class Remember(BaseCallback):
    """Parameters of the agent at each step."""

    def __init__(self) -> None:
        super().__init__()
        self.parameters: dict[int, Any] = {}

    def _on_step(self) -> bool:
        state = {name: value.clone() for name, value in self.model.policy.state_dict().items()}
        self.parameters[self.num_timesteps] = state
        return True


@both
def test_the_best_model_is_saved_and_plays_as_it_did(algorithm: type[MBPO], tmp_path: Path) -> None:
    """The start and the corridor are the same in each episode: an evaluation repeats exactly."""
    memory = Remember()
    best, log = tmp_path / "best", tmp_path / "log"
    evaluation = EvalCallback(
        Monitor(Corridor()), eval_freq=15, n_eval_episodes=2, best_model_save_path=str(best), log_path=str(log), verbose=0
    )
    agent = tiny(algorithm).learn(90, callback=[memory, evaluation])
    saved = np.load(log / "evaluations.npz")
    means = saved["results"].mean(axis=1)
    assert saved["timesteps"].tolist() == [15, 30, 45, 60, 75, 90]
    assert len(set(means.tolist())) > 1 and evaluation.best_mean_reward == means.max()
    loaded = algorithm.load(best / "best_model.zip")
    step = int(saved["timesteps"][means.argmax()])
    assert loaded.num_timesteps == step
    assert_equal(dict(loaded.policy.state_dict()), memory.parameters[step])
    mean, std = evaluate_policy(loaded, make_vec_env(Corridor, 1), 3)
    assert (mean, std) == (means.max(), 0.0)
    assert agent._n_updates > 0


@both
@pytest.mark.parametrize(("threshold", "steps"), [(6.9, 30), (7.1, 90)])
@pytest.mark.filterwarnings("ignore:health/")  # of an env so small that nothing can be learned
def test_training_stops_at_a_threshold(algorithm: type[MBPO], threshold: float, steps: int) -> None:
    """Returns are 7. What has stopped goes on with another ``learn``."""
    stop = StopTrainingOnRewardThreshold(threshold, verbose=0)
    agent = tiny(algorithm, Plain())
    evaluation = EvalCallback(Monitor(Plain()), callback_on_new_best=stop, eval_freq=30, n_eval_episodes=1, verbose=0)
    agent.learn(90, callback=evaluation)
    assert agent.num_timesteps == steps
    updates = agent._n_updates
    agent.learn(25, reset_num_timesteps=False)
    assert agent.num_timesteps == steps + 25 and agent._n_updates == updates + 25


@both
@pytest.mark.parametrize("min_evals", [0, 5])
def test_training_stops_where_nothing_improves(algorithm: type[MBPO], min_evals: int) -> None:
    """
    Evaluations are -7, 0, 7, 7, 7, 7, ...: the fourth is the first without improvement, and two are allowed. SB3 counts none
    among the first ``min_evals``.
    """
    stop = StopTrainingOnNoModelImprovement(max_no_improvement_evals=2, min_evals=min_evals, verbose=0)
    evaluation = EvalCallback(Monitor(Rising()), callback_after_eval=stop, eval_freq=10, n_eval_episodes=1, verbose=0)
    agent = tiny(algorithm).learn(200, callback=evaluation)
    assert agent.num_timesteps == 10 * (6 if min_evals == 0 else min_evals + 3)


@both
def test_checkpoints_hold_agent_rows_and_normalisation(algorithm: type[MBPO], tmp_path: Path) -> None:
    """Two envs: SB3's ``save_freq`` calls are twice as many env steps, and callbacks come before a step's rows are kept."""
    env = VecNormalize(make_vec_env(Corridor, 2))
    memory = Remember()
    saving = CheckpointCallback(20, str(tmp_path), save_replay_buffer=True, save_vecnormalize=True)
    agent = tiny(algorithm, env).learn(100, callback=[memory, saving])
    assert {path.name for path in tmp_path.glob("*.zip")} == {"rl_model_40_steps.zip", "rl_model_80_steps.zip"}
    counts = []
    for step in (40, 80):
        restored = VecNormalize.load(str(tmp_path / f"rl_model_vecnormalize_{step}_steps.pkl"), make_vec_env(Corridor, 2))
        counts.append(restored.obs_rms.count)
        loaded = algorithm.load(tmp_path / f"rl_model_{step}_steps.zip", env=restored)
        loaded.load_replay_buffer(tmp_path / f"rl_model_replay_buffer_{step}_steps.pkl")
        assert loaded.num_timesteps == step and loaded.replay_buffer.n_transitions == step - 2
        assert_equal(dict(loaded.policy.state_dict()), memory.parameters[step])
    rows = loaded.replay_buffer.transitions()
    assert th.equal(rows.observations, agent.replay_buffer.transitions().observations[:78])
    assert counts[1] - counts[0] == 40 and env.obs_rms.count - counts[1] == 20
    loaded.learn(30, reset_num_timesteps=False)
    assert loaded.num_timesteps == 110 and loaded._n_updates > agent._n_updates - 20


@both
def test_the_progress_bar_counts_and_changes_nothing(algorithm: type[MBPO], monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("tqdm", "rich"):
        pytest.importorskip(name, reason=f"{name} is not installed: pip install 'sb3_tom[extra]'")
    from stable_baselines3.common import callbacks

    bars: list[Any] = []

    class Bar(callbacks.tqdm):
        def close(self) -> None:
            bars.append((self.n, self.total))
            super().close()

    monkeypatch.setattr(callbacks, "tqdm", Bar)
    shown = tiny(algorithm).learn(60, progress_bar=True)
    assert (60, 60) in bars
    assert_equal(shown.get_parameters(), tiny(algorithm).learn(60).get_parameters())


def test_a_tensorboard_folder_has_the_name_of_the_class(tmp_path: Path) -> None:
    """So that runs of several agents can share a ``tensorboard_log``, as those of SB3's do."""
    for kind, name, folder in ((MBPO, None, "MBPO_1"), (DHMBPO, None, "DHMBPO_1"), (DHMBPO, "second", "second_1")):
        agent = kind("MlpPolicy", Corridor(), tensorboard_log=str(tmp_path), **TINY)
        agent.learn(1, tb_log_name=name)
        assert (tmp_path / folder).is_dir()
