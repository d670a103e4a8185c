"""Trackers of experiments, without a network: what SB3's logger says is what they keep."""

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from stable_baselines3.common.logger import HumanOutputFormat, KVWriter, Logger

from sb3_tom import DHMBPO, MBPO
from tests.checkpoint.equal import assert_equal
from tests.mbpo.test_sb3_callbacks import both, tiny


class Kept(KVWriter):
    """All numbers that were logged, by step."""

    def __init__(self) -> None:
        self.values: dict[int, dict[str, float]] = {}

    def write(self, key_values: dict[str, Any], key_excluded: dict[str, Any], step: int = 0) -> None:
        numbers = {name: float(value) for name, value in key_values.items() if isinstance(value, int | float | np.number)}
        self.values.setdefault(step, {}).update(numbers)

    def close(self) -> None:
        pass


@both
def test_mlflow_keeps_what_is_logged(algorithm: type[MBPO], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The output format of SB3's guide, a store of files, and the parameters that SB3's users write by hand."""
    mlflow = pytest.importorskip("mlflow", reason="mlflow is not installed: pip install mlflow-skinny")
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")

    class MLflowOutputFormat(KVWriter):
        def write(self, key_values: dict[str, Any], key_excluded: dict[str, Any], step: int = 0) -> None:
            for name, value in key_values.items():
                if (
                    "mlflow" not in (key_excluded[name] or ())
                    and isinstance(value, np.ScalarType)
                    and not isinstance(value, str)
                ):
                    mlflow.log_metric(name, value, step)

        def close(self) -> None:
            pass

    kept, agent = Kept(), tiny(algorithm)
    mlflow.set_tracking_uri(tmp_path.as_uri())
    mlflow.set_experiment("sb3_tom")
    with mlflow.start_run() as run:
        agent.set_logger(Logger(None, [kept, MLflowOutputFormat(), HumanOutputFormat(sys.stdout)]))
        agent.learn(84, log_interval=4)
    client = mlflow.tracking.MlflowClient(tmp_path.as_uri())
    assert {"train/critic_loss", "model/epochs", "rollout/ep_rew_mean"} <= set(kept.values[84])
    for name in kept.values[84]:
        history = {metric.step: metric.value for metric in client.get_metric_history(run.info.run_id, name)}
        assert history == {step: values[name] for step, values in kept.values.items() if name in values}, name


@pytest.mark.parametrize("algorithm", [DHMBPO])
def test_wandb_runs_offline(algorithm: type[MBPO], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """W&B's own callback for SB3: the configuration, the model and a run that can be uploaded later."""
    wandb = pytest.importorskip("wandb", reason="wandb is not installed: pip install wandb")
    from wandb.integration.sb3 import WandbCallback

    monkeypatch.setenv("WANDB_SILENT", "true")
    run = wandb.init(mode="offline", dir=str(tmp_path), project="sb3_tom", sync_tensorboard=True)
    try:
        agent = tiny(algorithm, tensorboard_log=str(tmp_path / "tb"))
        callback = WandbCallback(model_save_path=str(tmp_path / "model"), gradient_save_freq=1)
        agent.learn(84, callback=callback, log_interval=4)
        config = dict(run.config)
    finally:
        run.finish()
    assert (config["algo"], config["update_to_data_ratio"], config["seed"]) == (algorithm.__name__, 1, 0)
    assert_equal(algorithm.load(tmp_path / "model" / "model.zip").get_parameters(), agent.get_parameters())
    (record,) = tmp_path.glob("wandb/offline-run-*/*.wandb")
    content = record.read_bytes()
    for name in ("train/critic_loss", "model/epochs", "rollout/ep_rew_mean", "gradients/actor.mu.weight"):
        assert name.encode() in content, name
