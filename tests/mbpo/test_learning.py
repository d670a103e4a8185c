"""Learning to a threshold on real MuJoCo: minutes for each (``make expensive``)."""

from pathlib import Path

import pytest

from sb3_tom import MBPO
from sb3_tom.callbacks.learning_curve import LearningCurveCallback

TASK = "InvertedPendulum-v5"
SOLVED = 950.0
"""Mean return of ten episodes, of at most 1000."""


@pytest.mark.expensive
@pytest.mark.parametrize("weighter", ["uniform", "pmac", "tom"])
def test_inverted_pendulum_is_solved(weighter: str, tmp_path: Path) -> None:
    """Within 6,000 env steps, as in docs/results; SB3's SAC is at about 100 there."""
    agent = MBPO(
        "MlpPolicy",
        TASK,
        weighter=weighter,
        learning_starts=500,
        update_to_data_ratio=10.0,
        target_entropy=-0.05,
        seed=0,
    )
    curve = LearningCurveCallback(TASK, tmp_path / "curve.csv", 250, reward_threshold=SOLVED, verbose=1)
    agent.learn(6_000, callback=curve)
    assert curve.solved_step is not None, (tmp_path / "curve.csv").read_text()
