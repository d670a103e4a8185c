"""Logs of a run that was interrupted and went on are one curve; logs of another run are not its."""

import warnings
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("matplotlib", reason="matplotlib is not installed: pip install 'sb3_tom[plots]'")

import json

from sb3_tom.plots import read_runs
from tests.plots.tables import curve_file, log_files
from tests.plots.test_runs import labels, only, zoo_run

RETURN = "rollout/ep_rew_mean"


def logged(folder: Path, value: float, *steps: int, kind: str = "csv") -> Path:
    return log_files(folder, [kind], {step: {RETURN: value} for step in steps})


def test_logs_of_another_algorithm_are_not_of_the_labelled_run(tmp_path: Path) -> None:
    """Both with one ``tensorboard_log``."""
    curve_file(tmp_path / "p" / "curve.csv", "mbpo", 0, {50: 9.0})
    logged(tmp_path / "p" / "MBPO_1", 1.0, 100, 200)
    assert only(read_runs(tmp_path)).series["training_return"] == {100: 1.0, 200: 1.0}
    logged(tmp_path / "p" / "SAC_1", 5.0, 150, 700)
    runs = {labels(run): run.series for run in read_runs(tmp_path)}
    assert set(runs) == {("t", "mbpo", "0"), ("p", "MBPO", "1"), ("p", "SAC", "1")}
    assert runs["p", "SAC", "1"] == {"training_return": {150: 5.0, 700: 5.0}}


def test_runs_of_the_zoo_beside_a_table_stay_themselves(tmp_path: Path) -> None:
    curve_file(tmp_path / "mbpo_tom" / "mine.csv", "tom", 0, {50: 9.0})
    for number in (1, 2, 3):
        zoo_run(tmp_path / "mbpo_tom" / f"Hopper-v5_{number}", [10, 20])
    logged(tmp_path / "mbpo_tom" / "Hopper-v5_2", 3.0, 15)
    expected = {("t", "tom", "0"), *(("Hopper-v5", "mbpo_tom", str(number)) for number in (1, 2, 3))}
    assert {labels(run) for run in read_runs(tmp_path)} == expected
    (tmp_path / "mbpo_tom" / "Hopper-v5_2" / "evaluations.npz").unlink()
    assert {labels(run) for run in read_runs(tmp_path)} == expected, "the log alone is of that task too"


@pytest.mark.parametrize("kind", ["csv", "tensorboard"])
def test_what_was_lost_by_an_interruption_is_not_drawn(tmp_path: Path, kind: str) -> None:
    """The second process logs at other steps than the first did."""
    if kind == "tensorboard":
        pytest.importorskip("tensorboard", reason="tensorboard is not installed: pip install tensorboard")
    curve_file(tmp_path / "curve.csv", "mbpo", 0, {50: 9.0})
    logged(tmp_path / "MBPO_1", 1.0, 100, 200, 300, 400, kind=kind)
    logged(tmp_path / "MBPO_2", 2.0, 250, 350, kind=kind)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert only(read_runs(tmp_path)).series["training_return"] == {100: 1.0, 200: 1.0, 250: 2.0, 350: 2.0}


def test_what_only_the_first_process_has_logged_is_lost_too(tmp_path: Path) -> None:
    curve_file(tmp_path / "curve.csv", "mbpo", 0, {50: 9.0})
    log_files(tmp_path / "MBPO_1", ["csv"], {step: {RETURN: 1.0, "model/validation_error": 0.5} for step in (100, 200, 300)})
    logged(tmp_path / "MBPO_2", 2.0, 150, 250)
    series = only(read_runs(tmp_path)).series
    assert series["model_error"] == {100: 0.5} and series["training_return"] == {100: 1.0, 150: 2.0, 250: 2.0}


def test_a_folder_that_was_logged_to_twice(tmp_path: Path) -> None:
    """TensorBoard: ``MBPO.load`` and ``learn(reset_num_timesteps=False)`` go on in the same folder."""
    pytest.importorskip("tensorboard", reason="tensorboard is not installed: pip install tensorboard")
    folder = tmp_path / "t" / "MBPO_1"
    logged(folder, 1.0, 100, 200, 300, 400, kind="tensorboard")
    (first,) = folder.iterdir()
    first.rename(folder / "events.out.tfevents.1000000000.host")
    logged(folder, 2.0, 250, 350, kind="tensorboard")
    assert only(read_runs(tmp_path)).series["training_return"] == {100: 1.0, 200: 1.0, 250: 2.0, 350: 2.0}
    files = sorted(folder.iterdir())
    assert len(files) == 2 and only(read_runs(files)).series["training_return"][350] == 2.0


def test_a_run_that_was_made_again_is_drawn_alone(tmp_path: Path) -> None:
    curve_file(tmp_path / "curve.csv", "mbpo", 0, {50: 9.0})
    logged(tmp_path / "MBPO_1", 1.0, 100, 200, 300)
    logged(tmp_path / "MBPO_2", 2.0, 90, 190)
    with pytest.warns(UserWarning, match=r"MBPO_2.* begins before .*MBPO_1.*: the run was made again"):
        assert only(read_runs(tmp_path)).series["training_return"] == {90: 2.0, 190: 2.0}


@pytest.mark.parametrize("has_curve", [False, True])
def test_the_tenth_attempt_comes_after_the_second(tmp_path: Path, has_curve: bool) -> None:
    """And one that began anew leaves nothing of those before it."""
    seed = tmp_path / "Hopper-v5" / "mbpo" / "seed_3"
    if has_curve:
        curve_file(seed / "learning_curve.csv", "mbpo", 3, {50: 9.0}, task="Hopper-v5")
    for number, steps in {1: (50, 60), 2: (100, 200), 10: (180, 280)}.items():
        folder = logged(seed / f"attempt_{number}", float(number), *steps)
        begun = {"from": "the start" if number < 10 else "checkpoint_170_steps.zip"}
        (folder / "started.json").write_text(json.dumps(begun | {"spec": dict(env="Hopper-v5", method="mbpo", seed=3)}))
    run = only(read_runs(tmp_path))
    assert labels(run) == ("Hopper-v5", "mbpo", "3")
    assert run.series["training_return"] == {100: 2.0, 180: 10.0, 280: 10.0}


def test_a_run_that_has_no_row_yet_does_not_keep_the_others_from_being_drawn(tmp_path: Path) -> None:
    """As ``runs/*/learning_curve.csv`` finds it while a sweep is running."""
    files = [curve_file(tmp_path / f"{seed}.csv", "mbpo", seed, {10: 1.0}) for seed in (0, 1)]
    files[1].write_text(files[1].read_text().partition("\n")[0] + "\n")
    with pytest.warns(UserWarning, match=r"1\.csv has no row yet; the others are drawn"):
        assert labels(only(read_runs(files))) == ("t", "mbpo", "0")
    with pytest.raises(ValueError, match=r"1\.csv has no row yet"):
        read_runs(files[1])
    assert np.isfinite(only(read_runs(tmp_path)).series["return_mean"][10])
