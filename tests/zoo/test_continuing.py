"""What the RL Zoo goes on with: its zips, checkpoints, normalised envs, and whose arguments hold then."""

import os
from pathlib import Path

import pytest
import torch as th
import yaml

pytest.importorskip("rl_zoo3", reason="rl_zoo3 is not installed: pip install 'sb3_tom[zoo]'")

from sb3_tom import MBPOTOM, UniformWeighter
from sb3_tom.policy_updates.double_horizon.update import DoubleHorizonUpdate
from tests.checkpoint.equal import assert_equal
from tests.zoo.small import SMALL, experiment, train

pytestmark = pytest.mark.filterwarnings("ignore:.*trials do not have")  # what makes agents small has a test of its own


def test_train_with_checkpoints_then_continue(tmp_path: Path) -> None:
    arguments = {"divergence": "chi2", "recent_size": 30, "q_steps": 3, "discriminator_steps": 3, "average_steps": 50}
    hyperparams = {**SMALL, "weighter_kwargs": arguments}
    manager, agent = train(tmp_path, hyperparams=hyperparams, save_freq=25, save_replay_buffer=True)
    assert type(agent) is MBPOTOM and agent.policy_version > 0 and agent._n_updates > 0
    assert {"rl_model_25_steps.zip", "rl_model_50_steps.zip", "replay_buffer.pkl"} <= set(os.listdir(manager.save_path))
    assert {"checkpoint_50_steps.zip", "checkpoint_60_steps.zip"} <= set(os.listdir(manager.save_path))
    continued, loaded = train(tmp_path, trained_agent=f"{manager.save_path}/Pendulum-v1.zip", n_timesteps=30)
    assert continued.save_path != manager.save_path
    # -i without weighter arguments goes on with those of the file, and with its model and its data
    assert loaded.weighter.settings.divergence == "chi2" and loaded.weighter.recent_size == 30
    assert loaded.replay_buffer.n_transitions == 60 + 30
    assert loaded._n_updates > agent._n_updates and loaded.policy_version > agent.policy_version


def test_a_checkpoint_of_the_zoo_is_resumed(tmp_path: Path) -> None:
    """``-i checkpoint_N_steps.zip`` with the same arguments (another seed is of no consequence) ends as the first run did."""
    kwargs = {"algo": "mbpo_pmac", "hyperparams": {**SMALL, "n_envs": 2}, "save_freq": 40, "n_timesteps": 90, "seed": 1}
    kwargs |= {"eval_freq": 70, "n_eval_episodes": 1}
    manager, agent = train(tmp_path, **kwargs)
    names = sorted(name for name in os.listdir(manager.save_path) if name.startswith("checkpoint"))
    assert names == ["checkpoint_80_steps.zip", "checkpoint_90_steps.zip"]
    continued, resumed = train(tmp_path, **{**kwargs, "seed": 2}, trained_agent=f"{manager.save_path}/checkpoint_80_steps.zip")
    # The only evaluation, and so the best, is of before
    best = [Path(one.save_path) / "best_model.zip" for one in (manager, continued)]
    assert best[0].read_bytes() == best[1].read_bytes()
    assert (resumed.num_timesteps, resumed.seed) == (90, 1)
    assert_equal(resumed.get_parameters(), agent.get_parameters())


def test_normalised_envs_are_evaluated_saved_and_continued(tmp_path: Path) -> None:
    hyperparams = {**SMALL, "normalize": True}
    manager, agent = train(tmp_path, algo="mbpo", hyperparams=hyperparams, eval_freq=30, n_eval_episodes=1)
    assert agent.get_vec_normalize_env() is not None and agent._n_updates > 0
    assert "best_model.zip" in os.listdir(manager.save_path)
    trained = f"{manager.save_path}/Pendulum-v1.zip"
    _, loaded = train(tmp_path, algo="mbpo", hyperparams=hyperparams, trained_agent=trained, n_timesteps=30)
    assert loaded.get_vec_normalize_env().obs_rms.count > agent.get_vec_normalize_env().obs_rms.count


def test_continuing_starts_from_the_saved_parameters(tmp_path: Path) -> None:
    manager, agent = train(tmp_path, algo="mbpo")
    loaded, _ = experiment(tmp_path, algo="mbpo", trained_agent=f"{manager.save_path}/Pendulum-v1.zip").setup_experiment()
    for name, saved in agent.dynamics.state_dict().items():
        assert th.equal(saved, loaded.dynamics.state_dict()[name]), name


def test_continuing_under_another_name_does_not_change_the_weighter_silently(tmp_path: Path) -> None:
    manager, _ = train(tmp_path, n_timesteps=10)
    with pytest.raises(ValueError, match=r"--algo mbpo means weighter='uniform', but .* was saved with TOMWeighter"):
        experiment(tmp_path, algo="mbpo", trained_agent=f"{manager.save_path}/Pendulum-v1.zip").setup_experiment()
    manager, _ = train(tmp_path, algo="mbpo", n_timesteps=10)
    path = f"{manager.save_path}/Pendulum-v1.zip"
    with pytest.raises(ValueError, match=r"weighter=TOMWeighter is not allowed: the file was saved with weighter=Uniform"):
        experiment(tmp_path, trained_agent=path).setup_experiment()
    with pytest.raises(ValueError, match=r"weighter=PMACWeighter is not allowed: the file was saved with weighter=Uniform"):
        experiment(tmp_path, trained_agent=path, hyperparams={**SMALL, "weighter": "pmac"}).setup_experiment()
    confirmed, _ = experiment(tmp_path, trained_agent=path, hyperparams={**SMALL, "weighter": "uniform"}).setup_experiment()
    assert isinstance(confirmed.weighter, UniformWeighter)


def test_continuing_under_another_name_does_not_change_the_policy_update_silently(tmp_path: Path) -> None:
    manager, _ = train(tmp_path, algo="dhmbpo", n_timesteps=10)
    path = f"{manager.save_path}/Pendulum-v1.zip"
    with pytest.raises(ValueError, match=r"--algo mbpo means policy_update='sac', but .* was saved with DoubleHorizonUpdate"):
        experiment(tmp_path, algo="mbpo", trained_agent=path).setup_experiment()
    named = {**SMALL, "policy_update": "double_horizon"}
    confirmed, _ = experiment(tmp_path, algo="mbpo", trained_agent=path, hyperparams=named).setup_experiment()
    assert isinstance(confirmed.policy_update, DoubleHorizonUpdate)


def test_arguments_of_plugs_come_from_the_file_that_is_continued(tmp_path: Path) -> None:
    manager, _ = train(tmp_path, n_timesteps=10, hyperparams={**SMALL, "dynamics_kwargs": None})
    path, other = f"{manager.save_path}/Pendulum-v1.zip", {**SMALL["dynamics_kwargs"], "net_arch": [5]}
    files = experiment(tmp_path, trained_agent=path, hyperparams={})
    files.config = str(tmp_path / "mine.yml")
    entry = {"policy": "MlpPolicy", "n_timesteps": 10, "dynamics_kwargs": other}
    (tmp_path / "mine.yml").write_text(yaml.safe_dump({"Pendulum-v1": entry}))
    with pytest.warns(UserWarning, match=r"mine\.yml, Pendulum-v1: not used are \['dynamics_kwargs'\], but those of .*\.zip"):
        agent, _ = files.setup_experiment()  # the arguments of the YAML file would not fit
    assert agent.dynamics.n_members == 7
    config = yaml.unsafe_load(Path(files.params_path, "config.yml").read_text())
    assert config["dynamics_kwargs"] is None and config["policy"] == "MlpPolicy", "what the agent has"
    with pytest.raises(ValueError, match=r"dynamics_kwargs.* is not allowed: the networks of the file are others"):
        experiment(tmp_path, trained_agent=path, hyperparams={"dynamics_kwargs": other}).setup_experiment()
