"""The code in docs/resume.md and the example run as they stand, with agents of the size of a test."""

import re
import runpy
import sys
from pathlib import Path
from typing import Any

import pytest

import sb3_tom
from sb3_tom.checkpoint import env_state, latest_checkpoint
from tests.mbpo.small import SMALL_MODELS, SMALL_WEIGHTERS

ROOT = Path(__file__).parents[2]
SMALL: dict[str, Any] = {
    "learning_starts": 50,
    "batch_size": 16,
    "buffer_size": 500,
    "policy_kwargs": {"net_arch": [8]},
    "weighter_kwargs": SMALL_WEIGHTERS["tom"],
    "dynamics_kwargs": SMALL_MODELS["linear"],
    "dynamics": "linear",
    "rollout_batch_size": 50,
    "model_train_freq": 50,
    "update_to_data_ratio": 0.1,
}


@pytest.fixture(autouse=True)
def _small(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    class MBPO(sb3_tom.MBPO):
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            super().__init__(*args, **{**kwargs, **SMALL})

        def learn(self, total_timesteps: float, *args: Any, **kwargs: Any) -> Any:
            return super().learn(total_timesteps / 100, *args, **kwargs)

    MBPO.__init__.__signature__ = __import__("inspect").signature(sb3_tom.MBPO.__init__)  # type: ignore[attr-defined]
    monkeypatch.setattr(sb3_tom, "MBPO", MBPO)
    monkeypatch.setattr(env_state, "_ADAPTERS", dict(env_state._ADAPTERS))
    monkeypatch.chdir(tmp_path)


def test_the_guide_runs(tmp_path: Path) -> None:
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "resume.md").read_text(encoding="utf-8"), re.DOTALL)
    assert len(blocks) == 4
    names: dict[str, Any] = {}
    code = [block.replace("save_freq=1_000", "save_freq=40") for block in blocks]
    exec(compile(code[0], "docs/resume.md", "exec"), names)
    assert names["agent"].num_timesteps == 100
    newest = latest_checkpoint("runs/pendulum")
    assert newest is not None and newest.name == "checkpoint_100_steps.zip"
    newest.unlink()
    for block in code[:3]:  # now the script finds a run to go on with
        exec(compile(block, "docs/resume.md", "exec"), names)
    assert names["agent"].num_timesteps == 110
    exec(compile(code[3], "docs/resume.md", "exec"), names)
    assert "boundary" not in env_state.env_state(names["Drift"]())


def test_the_example_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys, "argv", ["resume.py", "--steps", "10000", "--save-freq", "40", "--folder", "run"])
    runpy.run_path(str(ROOT / "examples" / "resume.py"), run_name="__main__")
    latest_checkpoint("run").unlink()  # type: ignore[union-attr]
    runpy.run_path(str(ROOT / "examples" / "resume.py"), run_name="__main__")
    words = capsys.readouterr().out
    assert "begins" in words and "goes on after 80 env steps" in words
    first, second = re.findall(r"100 env steps done, (\d+) gradient steps", words)
    assert first == second
