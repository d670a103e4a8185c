"""A folder for the Hugging Face hub: its figures, its files, and that the zoo and SB3 take it back."""

import argparse
import json
import re
import shutil
import sys
import zipfile
from importlib.metadata import PackageNotFoundError
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch as th
import yaml

pytest.importorskip("rl_zoo3", reason="rl_zoo3 is not installed: pip install 'sb3_tom[zoo]'")

from rl_zoo3.wrappers import TimeFeatureWrapper
from stable_baselines3 import SAC
from stable_baselines3.common.vec_env import DummyVecEnv, VecNormalize

import sb3_tom
from sb3_tom import MBPOTOM
from sb3_tom.card import main
from sb3_tom.sweep.run import Outcome, run
from sb3_tom.sweep.spec import make_runs
from sb3_tom.zoo import upload, versions
from tests.sweep.small import MBPO, small_run, small_words
from tests.zoo.small import SMALL, train

pytestmark = pytest.mark.filterwarnings("ignore:.*trials do not have", "ignore:.*replay buffer")

ENV = "Pendulum-v1"
SETTINGS = {
    **SMALL,
    "normalize": "{'norm_obs': True, 'norm_reward': True}",
    "env_wrapper": [{"rl_zoo3.wrappers.TimeFeatureWrapper": {"max_steps": 200}}],
    "n_envs": 2,
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of a run with all that an evaluation has to bring back: a wrapper, arguments of the env, VecNormalize."""
    typed = {"policy_kwargs": {"activation_fn": th.nn.ReLU}}  # -params leaves classes in args.yml
    args = argparse.Namespace(algo="mbpo_tom", env=ENV, env_kwargs={"g": 5.0}, hyperparams=typed)
    kwargs: dict[str, Any] = {"hyperparams": dict(SETTINGS), "eval_freq": 20, "n_eval_episodes": 1, "seed": 3}
    settings = {**kwargs, "env_kwargs": {"g": 5.0}, "eval_env_kwargs": {"g": 5.0}, "args": args}
    manager, _ = train(tmp_path_factory.mktemp("logs"), **settings)
    return Path(manager.save_path)


@pytest.fixture(scope="module")
def uploaded(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("uploads") / "mine"
    main(["--folder", str(folder), "--out", str(out), "-n", "3", "--seed", "7"])
    return out


def results(out: Path) -> dict[str, Any]:
    read = json.loads((out / "results.json").read_text())
    return {name: value for name, value in read.items() if name != "eval_datetime"}


def card(out: Path) -> tuple[dict[str, Any], str]:
    """Front matter and text."""
    empty, head, text = (out / "README.md").read_text().split("---\n", 2)
    assert empty == ""
    return yaml.safe_load(head), text


def test_the_figures_are_those_of_episodes_played_by_hand(uploaded: Path) -> None:
    """The agent and the statistics of the folder, in an env that is put together here."""
    agent = MBPOTOM.load(uploaded / "mbpo_tom-Pendulum-v1.zip")
    env = TimeFeatureWrapper(gym.make(ENV, g=5.0), max_steps=200)
    normalizer = VecNormalize.load(str(uploaded / "vec_normalize.pkl"), DummyVecEnv([lambda: env]))  # for its spaces alone
    returns = []
    for episode in range(3):
        observation, _ = env.reset(seed=7 if episode == 0 else None)
        rewards, is_over = [], False
        while not is_over:
            action, _ = agent.predict(normalizer.normalize_obs(observation), deterministic=True)
            observation, reward, terminated, truncated, _ = env.step(action)
            rewards.append(float(reward))
            is_over = terminated or truncated
        returns.append(sum(rewards))
    measured = results(uploaded)
    assert measured["episode_rewards"] == pytest.approx(returns, rel=1e-4)
    assert measured["mean_reward"] == pytest.approx(np.mean(returns), rel=1e-4)
    assert measured["std_reward"] == pytest.approx(np.std(returns), rel=1e-3)
    assert measured["episode_lengths"] == [200, 200, 200] and len(set(returns)) == 3
    assert (measured["n_eval_episodes"], measured["seed"], measured["is_deterministic"]) == (3, 7, True)


def test_the_card_has_the_measured_figures(uploaded: Path) -> None:
    head, text = card(uploaded)
    measured = results(uploaded)
    figures = f"{measured['mean_reward']:.2f} +/- {measured['std_reward']:.2f}"
    assert head["library_name"] == "stable-baselines3" and {ENV, "reinforcement-learning", "sb3_tom"} <= set(head["tags"])
    ((name, result),) = [(entry["name"], *entry["results"]) for entry in head["model-index"]]
    assert name.lower() == "mbpo_tom"  # as rl_zoo3.utils.get_hf_trained_models looks for it
    assert result["dataset"]["name"] == ENV and result["task"]["type"] == "reinforcement-learning"
    assert [(metric["type"], metric["value"]) for metric in result["metrics"]] == [("mean_reward", figures)]
    assert f"| mean reward | {figures} " in text and "3, deterministic actions, seed 7" in text
    assert "'g': 5.0" in text and "'update_to_data_ratio': 1" in text and "60 environment steps, seed 3" in text
    assert "\npython -m rl_zoo3.train --algo mbpo_tom --env Pendulum-v1 -n 60 --seed 3 -f logs/\n" in text
    assert "The agent sees observations in the units of `vec_normalize.pkl`" in text


def test_the_hubs_own_reader_takes_the_card(uploaded: Path) -> None:
    hub = pytest.importorskip("huggingface_hub", reason="huggingface_hub is not installed: pip install huggingface_hub")
    data = hub.ModelCard.load(uploaded / "README.md").data
    (result,) = data.eval_results
    assert (data.library_name, data.model_name, result.dataset_name) == ("stable-baselines3", "MBPO_TOM", ENV)
    assert result.metric_value == card(uploaded)[0]["model-index"][0]["results"][0]["metrics"][0]["value"]


def test_the_same_command_gives_the_same_figures(folder: Path, uploaded: Path, tmp_path: Path) -> None:
    (tmp_path / "again").mkdir()  # an empty folder is as good as none
    main(["--folder", str(folder), "--out", str(tmp_path / "again"), "-n", "3", "--seed", "7"])
    assert results(tmp_path / "again") == results(uploaded)
    main(["--folder", str(folder), "--out", str(tmp_path / "drawn"), "-n", "2", "--seed", "7", "--stochastic", "--best"])
    drawn = results(tmp_path / "drawn")
    assert not drawn["is_deterministic"] and drawn["episode_rewards"] != results(uploaded)["episode_rewards"][:2]
    assert (tmp_path / "drawn" / "mbpo_tom-Pendulum-v1.zip").read_bytes() == (folder / "best_model.zip").read_bytes()
    assert " environment steps (the best evaluation of its run), seed 3" in card(tmp_path / "drawn")[1]


def test_the_zoo_takes_it_back(
    folder: Path, uploaded: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """``rl_zoo3.load_from_hub``, from this folder in place of the hub, then ``rl_zoo3.enjoy``: its first episode is ours."""
    hub = pytest.importorskip("rl_zoo3.load_from_hub")
    monkeypatch.setattr(hub, "load_from_hub", lambda repo_id, filename: str(uploaded / filename))
    hub.download_from_hub("mbpo_tom", hub.EnvironmentName(ENV), 0, str(tmp_path), "somebody")
    back = tmp_path / "mbpo_tom" / f"{ENV}_1"
    for name in (f"{ENV}.zip", f"{ENV}/config.yml", f"{ENV}/args.yml", f"{ENV}/vecnormalize.pkl", "evaluations.npz"):
        assert (back / name).read_bytes() == (folder / name).read_bytes(), name
    from rl_zoo3.enjoy import enjoy

    words = f"enjoy --algo mbpo_tom --env {ENV} -f {tmp_path} --no-render -n 200 --seed 7 --device cpu"
    monkeypatch.setattr(sys, "argv", words.split())
    enjoy()
    assert f"Episode Reward: {results(uploaded)['episode_rewards'][0]:.2f}\n" in capsys.readouterr().out


def test_a_run_of_a_sweep_of_any_algorithm(tmp_path: Path) -> None:
    assert run(small_run("sac"), tmp_path / "run") == Outcome("done")
    out = tmp_path / "deep" / "out"
    main(["--folder", str(tmp_path / "run"), "--out", str(out), "-n", "2"])
    head, text = card(out)
    assert head["model-index"][0]["name"] == "SAC" and "sb3_tom" not in (*head["tags"], *text.split("`"))
    assert SAC.load(out / "sac-InvertedPendulum-v5.zip").num_timesteps == 300
    assert not (out / "vec_normalize.pkl").exists()
    assert "learning_curve.csv" in zipfile.ZipFile(out / "train_eval_metrics.zip").namelist()
    assert json.loads((out / "sac-InvertedPendulum-v5" / "data").read_text())["batch_size"] == 16


def test_a_normalised_run_of_a_sweep(tmp_path: Path) -> None:
    """The zip and the statistics are not where the settings are; the last attempt's settings hold."""
    scaled = "{'norm_obs': False, 'norm_reward': True}"
    (spec,) = make_runs(small_words(algo={"mine": {"algo": "mbpo", "params": {**MBPO, "normalize": scaled}}}, seed=[1]))
    assert run(spec, tmp_path / "run") == Outcome("done")
    shutil.copytree(tmp_path / "run" / "attempt_1", tmp_path / "run" / "attempt_10")
    (tmp_path / "run" / "attempt_1").rename(tmp_path / "run" / "attempt_9")
    (tmp_path / "run" / "attempt_9" / spec.env / "config.yml").write_text("of: another attempt")
    main(["--folder", str(tmp_path / "run"), "--out", str(tmp_path / "out"), "-n", "1"])
    statistics = tmp_path / "run" / spec.env / "vecnormalize.pkl"
    assert (tmp_path / "out" / "vec_normalize.pkl").read_bytes() == statistics.read_bytes()
    assert card(tmp_path / "out")[0]["model-index"][0]["name"] == "MBPO"
    text = card(tmp_path / "out")[1]
    assert "'update_to_data_ratio': 1" in text and "The agent sees observations in the units" not in text
    names = zipfile.ZipFile(tmp_path / "out" / "train_eval_metrics.zip").namelist()
    assert {"learning_curve.csv", "attempt_9/progress.csv", "attempt_10/progress.csv"} <= set(names), "each has its part"


def refused(capsys: pytest.CaptureFixture[str], *words: object) -> str:
    with pytest.raises(SystemExit) as stopped:
        main([str(word) for word in words])
    assert stopped.value.code == 2
    return capsys.readouterr().err.splitlines()[-1]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--algo", "nope"], "algo='nope' is not allowed"),
        (["--algo", "sac"], "algo='sac': .*Pendulum-v1.zip cannot be loaded"),
        (["--env", "CartPole-v1"], "env='CartPole-v1' is not allowed"),
        (["-n", "0"], "n_eval_episodes=0 is not allowed"),
        (["--seed", "-1"], "seed=-1 is not allowed"),
        (["--gym-packages", "no_such_module"], "gym_packages=.*no_such_module"),
    ],
)
def test_bad_arguments_are_named(
    words: list[str], message: str, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "new" / "out"
    assert re.search(message, refused(capsys, "--folder", folder, "--out", out, *words))
    assert not out.exists()


def test_a_run_without_a_best_agent_says_what_there_is(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """As every run of a sweep, although it has ended."""
    shutil.copytree(folder, tmp_path / "run")
    (tmp_path / "run" / "best_model.zip").unlink()
    said = refused(capsys, "--folder", tmp_path / "run", "--out", tmp_path / "out", "--best")
    assert "it has no best_model.zip; allowed: a run of rl_zoo3.train with evaluations, or its last agent" in said


def test_a_package_that_is_missing_is_not_blamed_on_the_users_own(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "huggingface_sb3", None)
    message = refused(capsys, "--folder", folder, "--out", tmp_path / "out", "--gym-packages", "json")
    assert "huggingface_sb3" in message and "pip install 'sb3_tom[zoo]'" in message and "gym_packages" not in message


def test_the_card_of_packages_that_only_lie_on_the_path(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(package: str) -> str:
        raise PackageNotFoundError(package)

    monkeypatch.setattr(versions, "version", missing)
    main(["--folder", str(folder), "--out", str(tmp_path / "out"), "-n", "1"])
    assert f"sb3_tom {sb3_tom.__version__}, gymnasium not installed" in card(tmp_path / "out")[1]


def test_folders_that_are_no_runs_are_named(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out"
    assert "folder='/nowhere' is not allowed: there is no */config.yml" in refused(
        capsys, "--folder", "/nowhere", "--out", out
    )
    params = tmp_path / "run" / ENV
    params.mkdir(parents=True)
    for name in ("config.yml", "args.yml"):
        (params / name).write_bytes((folder / ENV / name).read_bytes())
    begun = ["--folder", tmp_path / "run", "--out", out]
    assert f"it has no {ENV}.zip" in refused(capsys, *begun) and "it has no best_model" in refused(capsys, *begun, "--best")
    (tmp_path / "run" / f"{ENV}.zip").write_bytes((folder / f"{ENV}.zip").read_bytes())
    assert "env='Pendulum-v1' cannot be made" in refused(capsys, *begun)  # without statistics
    (params / "args.yml").write_text("env: Pendulum-v1")
    assert "algo is missing" in refused(capsys, *begun)
    assert not out.exists()


def test_yaml_runs_no_code(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    params = tmp_path / "run" / ENV
    params.mkdir(parents=True)
    (params / "args.yml").write_bytes((folder / ENV / "args.yml").read_bytes())
    call = f"!!python/object/apply:os.mkdir ['{tmp_path}/x']"
    (params / "config.yml").write_text(f"n_timesteps: {call}")
    (tmp_path / "run" / f"{ENV}.zip").touch()
    message = refused(capsys, "--folder", tmp_path / "run", "--out", tmp_path / "out")
    assert "config.yml cannot be read" in message and not (tmp_path / "x").exists()


def test_nothing_is_overwritten(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine.txt").write_text("mine")
    (tmp_path / "file").write_text("mine")
    (tmp_path / "link").symlink_to(tmp_path / "elsewhere")
    for name in ("full", "file", "link"):
        assert "it is there already" in refused(capsys, "--folder", folder, "--out", tmp_path / name)
    assert [path.name for path in (tmp_path / "full").iterdir()] == ["mine.txt"]
    assert (tmp_path / "file").read_text() == "mine" and sorted(path.name for path in tmp_path.iterdir()) == [
        "file",
        "full",
        "link",
    ]


def test_half_a_folder_is_never_left(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def full(*_: Any) -> str:
        raise OSError("No space left on device")

    monkeypatch.setattr(upload, "model_card", full)
    message = refused(capsys, "--folder", folder, "--out", tmp_path / "out", "-n", "1")
    assert "No space left on device" in message and list(tmp_path.iterdir()) == []
