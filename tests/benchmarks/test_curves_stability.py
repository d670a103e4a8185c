"""Collapses are counted, and the signs before them found."""

from pathlib import Path

import pytest
from curves_signs import SIGNS, SignsCallback
from curves_stability import collapses, page_text
from stable_baselines3.common.logger import Logger

from sb3_tom import MBPO
from sb3_tom.callbacks.tables import read_table, write_table


@pytest.mark.parametrize(("values", "fallen"), [
    ([100.0], []),
    ([100.0, 49.0, 49.0], [20, 30]),
    ([100.0, 51.0, 200.0, 99.0], [40]),
    ([100.0, 60.0, 60.0, 60.0, 60.0, 60.0, 40.0], []),  # the best is six evaluations ago
    ([100.0, 60.0, 60.0, 60.0, 60.0, 40.0], [60]),
])  # fmt: skip
def test_a_collapse_is_less_than_half_of_the_best_of_five(values: list[float], fallen: list[int]) -> None:
    assert collapses({10 * (number + 1): value for number, value in enumerate(values)}) == fallen


def test_tables_count_collapses_and_compare_signs_before_them(tmp_path: Path) -> None:
    labels = {"task": "Hopper-v5", "method": "dhmbpo", "seed": "1"}
    returns = {10: 100.0, 20: 200.0, 30: 50.0, 40: 60.0}
    rows = [labels | {"env_step": str(step), "return_mean": str(value), "finished": "True"} for step, value in returns.items()]
    signs = [{"env_step": step} | {name: "" for name in SIGNS} | {"train/target_mean": 10.0 * step} for step in returns]
    (tmp_path / "Hopper-v5").mkdir()
    write_table(tmp_path / "Hopper-v5" / "dhmbpo_seed1_signs.csv", ("env_step", *SIGNS), signs)
    text = page_text(rows, tmp_path)
    assert "| Hopper-v5 | `dhmbpo` | 1 | 40 | 2 of 3 (67%) | 2 of 3 (67%) | 0 |" in text
    other = [row | {"seed": "2"} for row in rows[:3]]
    assert "| Hopper-v5 | `dhmbpo` | 2 | 30 | 2 of 4 (50%) | 3 of 5 (60%) | 0 |" in page_text(rows + other, tmp_path)
    assert "median before a collapse (2) | before any other evaluation (1)" in text
    assert "| `train/target_mean` | 250 | 100 |" in text and "critic_loss" not in text


def test_signs_are_the_last_logged_ones_and_go_on_from_a_checkpoint(tmp_path: Path) -> None:
    agent = MBPO("MlpPolicy", "Pendulum-v1", learning_starts=50)
    logger = Logger(None, [])
    agent.set_logger(logger)
    callback = SignsCallback(tmp_path / "signs.csv", 2, "Pendulum-v1", "mbpo")
    callback.init_callback(agent)
    callback.on_training_start({}, {})
    for step, target in ((1, 3.0), (2, None), (3, 5.0), (4, None)):
        agent.num_timesteps = step
        if target is not None:
            logger.record("train/target_mean", target)
        callback.on_step()
        logger.dump(step)
    rows = read_table(tmp_path / "signs.csv")
    assert [(row["env_step"], row["train/target_mean"], row["model/validation_error"]) for row in rows] == [
        ("2", "3", ""),
        ("4", "5", ""),
    ]
    state = callback.state_dict() | {"rows": 1}
    callback.load_state_dict(state)
    assert [row["env_step"] for row in read_table(tmp_path / "signs.csv")] == ["2"] and callback.last == state["last"]
