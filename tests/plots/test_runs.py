"""Which files belong to which run, and what they hold."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("matplotlib", reason="matplotlib is not installed: pip install 'sb3_tom[plots]'")

from sb3_tom.plots import Run, read_runs
from tests.plots.tables import age_file, curve_file, log_files

STEP = "time/total_timesteps"
CURVE = "task,method,seed,env_step,return_mean,cumulative_max,episode_length_mean\n"
ROWS = {
    100: {"eval/mean_reward": 1.0, "weighter/effective_sample_size": 0.5, "weight_by_age/00": 1.5, "weight_by_age/01": 0.5},
    200: {"eval/mean_reward": 2.0, "model/validation_error": 0.25},
}
ROWS[100]["weight_by_age/rows"] = 100.0


def only(runs: list[Run]) -> Run:
    (run,) = runs
    return run


def labels(run: Run) -> tuple[str, str, str]:
    return run.task, run.method, run.seed


@pytest.mark.parametrize("kind", ["csv", "tensorboard"])
def test_logs_of_sb3(tmp_path: Path, kind: str) -> None:
    if kind == "tensorboard":
        pytest.importorskip("tensorboard", reason="tensorboard is not installed: pip install tensorboard")
    folder = log_files(tmp_path / "Hopper-v5" / "MBPO_3", [kind], ROWS)
    run = only(read_runs(tmp_path))
    assert labels(run) == ("Hopper-v5", "MBPO", "3")
    assert run.series == {"return_mean": {100: 1.0, 200: 2.0}, "ess": {100: 0.5}, "model_error": {200: 0.25}}
    assert [tuple(phase) for phase in run.phases] == [(100, [24.5, 74.5], [1.5, 0.5])]
    assert labels(only(read_runs([folder], task="a", method="b"))) == ("a", "b", "3")


def test_folder_of_the_zoo(tmp_path: Path) -> None:
    folder = tmp_path / "logs" / "mbpo_tom" / "Hopper-v5_2"
    folder.mkdir(parents=True)
    arrays = {"timesteps": np.array([10, 20]), "results": np.array([[1.0, 3.0], [5.0, 6.0]]), "ep_lengths": np.ones((2, 2))}
    np.savez(folder / "evaluations.npz", **arrays)
    (folder / "0.monitor.csv").write_text('#{"t_start": 1.0, "env_id": "Hopper-v5"}\nr,l,t\n1.0,2,3.0\n')
    run = only(read_runs(tmp_path / "logs"))
    assert labels(run) == ("Hopper-v5", "mbpo_tom", "2")
    assert run.series == {"return_mean": {10: 2.0, 20: 5.5}, "episode_length_mean": {10: 1.0, 20: 1.0}}


def test_folder_of_the_zoo_with_an_env_without_a_version(tmp_path: Path) -> None:
    for algo in ("mbpo", "sac"):
        zoo_run(tmp_path / algo / "MyCart_1", [10], env="MyCart")
    assert {labels(run) for run in read_runs(tmp_path)} == {("MyCart", "mbpo", "1"), ("MyCart", "sac", "1")}


@pytest.mark.parametrize("is_started", [False, True])
def test_a_sweep_whose_runs_have_no_evaluation_yet(tmp_path: Path, is_started: bool) -> None:
    """Two attempts are one run; two sweeps are not, and another folder of that name is none."""
    rows = {step: {"rollout/ep_rew_mean": float(step)} for step in (100, 200)}
    for place in ("t/tom,a=_1_/seed_0", "t/tom,a=_1_/seed_3", "t/sac/seed_0"):
        for number in (1, 2):
            logged = rows if number == 1 else {300: rows[100]}
            folder = log_files(tmp_path / "a" / place / f"attempt_{number}", ["csv"], logged)
            spec = {"env": "my/t", "method": place.split("/")[1].replace("_", '"'), "seed": int(place[-1])}
            if is_started:
                (folder / "started.json").write_text(json.dumps({"spec": spec}))
    runs = read_runs(tmp_path / "a")
    task, method = ("my/t", 'tom,a="1"') if is_started else ("t", "tom,a=_1_")
    assert {labels(run) for run in runs} == {(task, method, "0"), (task, method, "3"), (task, "sac", "0")}
    assert all(run.series["training_return"] == {100: 100.0, 200: 200.0, 300: 100.0} for run in runs)
    curve_file(tmp_path / "a" / "t" / "sac" / "seed_0" / "learning_curve.csv", "sac", 0, {50: 9.0}, task=task)
    assert len(read_runs(tmp_path / "a")) == 3
    shutil.copytree(tmp_path / "a", tmp_path / "b")
    with pytest.raises(ValueError, match="of the same run"):
        read_runs(tmp_path)


def test_links_to_folders_are_followed_and_double_nothing(tmp_path: Path) -> None:
    runs, elsewhere = tmp_path / "runs", tmp_path / "elsewhere"
    zoo_run(runs / "mbpo" / "Hopper-v5_1", [10])
    zoo_run(elsewhere / "mbpo" / "Hopper-v5_2", [10, 20])
    log_files(runs / "tom" / "SAC_1", ["csv"], ROWS)
    curve_file(runs / "tom" / "learning_curve.csv", "tom", 7, {50: 9.0})
    (runs / "far").symlink_to(elsewhere)
    (runs / "a_link").symlink_to(runs / "tom" / "SAC_1")  # comes first by its name, but has no labelled file beside it
    (runs / "latest").symlink_to(runs / "mbpo" / "Hopper-v5_1")
    (runs / "latest.csv").symlink_to(runs / "tom" / "learning_curve.csv")
    (elsewhere / "loop").symlink_to(runs)
    (runs / "gone").symlink_to(tmp_path / "gone")
    expected = {("Hopper-v5", "mbpo", "1"), ("Hopper-v5", "mbpo", "2"), ("t", "tom", "7")}
    for paths in ([runs], [runs, runs / "latest"], sorted(runs.iterdir()), [runs / "latest.csv", runs]):
        found = read_runs([path for path in paths if path.exists()])
        assert len(found) == 3 and {labels(run) for run in found} == expected
    sources = {run.seed: run.sources["return_mean"][1].relative_to(runs) for run in read_runs(runs)}
    assert sources["1"] == Path("mbpo/Hopper-v5_1/evaluations.npz")
    assert sources["2"] == Path("far/mbpo/Hopper-v5_2/evaluations.npz")


def test_files_of_one_run_come_together_and_its_own_tables_count_first(tmp_path: Path) -> None:
    curve_file(tmp_path / "a" / "learning_curve.csv", "tom", 7, {50: 9.0})
    age_file(tmp_path / "a" / "weight_by_age.csv", 1, "tom", 7)
    for number in (1, 2):  # interrupted and continued: the later log overrides where both have a step
        rows = {step + 100 * (number - 1): figures for step, figures in ROWS.items()}
        log_files(tmp_path / "a" / f"MBPO_{number}", ["csv"], rows)
    run = only(read_runs(tmp_path))
    assert labels(run) == ("t", "tom", "7")
    assert run.series["return_mean"] == {50: 9.0} and run.series["ess"] == {100: 0.8}
    assert run.series["model_error"] == {200: 0.25, 300: 0.25}
    assert [phase.weights for phase in run.phases] == [[2.5, 1.5]]


def test_a_phase_that_a_resumed_run_made_again_counts_once(tmp_path: Path) -> None:
    curve_file(tmp_path / "learning_curve.csv", "tom", 7, {50: 9.0})
    for number in (1, 2):
        rows = {step: {**figures, "weight_by_age/00": float(number)} for step, figures in ROWS.items() if step == 100}
        log_files(tmp_path / f"attempt_{number}", ["csv"], rows)
    assert [(phase.env_step, phase.weights) for phase in only(read_runs(tmp_path)).phases] == [(100, [2.0, 0.5])]


def test_logs_beside_two_runs_keep_the_names_of_their_folders(tmp_path: Path) -> None:
    for seed in (0, 1):
        curve_file(tmp_path / f"{seed}.csv", "tom", seed, {50: 9.0})
    log_files(tmp_path / "SAC_1", ["csv"], ROWS)
    assert [run.method for run in read_runs(tmp_path)] == ["tom", "tom", "SAC"]


def test_a_table_of_many_runs_beside_theirs_is_left_out(tmp_path: Path) -> None:
    """As benchmarks leave one in their folder of results."""
    texts = [curve_file(tmp_path / f"{seed}.csv", "tom", seed, {50: 9.0}).read_text() for seed in (0, 1)]
    (tmp_path / "all.csv").write_text(texts[0] + texts[1].partition("\n")[2])
    with pytest.warns(UserWarning, match=r"all\.csv cannot be read .*row .* is not of the run .*; the file is left out"):
        assert len(read_runs(tmp_path)) == 2


def test_the_zoos_folders_with_an_id_of_their_own(tmp_path: Path) -> None:
    """``--uuid``: all have the number 1."""
    ids = ["9f1c2a3b-aaaa-4bbb-8ccc-0123456789ab", "12345678-aaaa-4bbb-8ccc-0123456789ab"]
    for one in ids:
        zoo_run(tmp_path / "mbpo_tom" / f"Hopper-v5_1_{one}", [10])
    runs = read_runs(tmp_path)
    assert {labels(run) for run in runs} == {("Hopper-v5", "mbpo_tom", f"1_{one}") for one in ids}


def test_the_same_figure_twice_is_refused(tmp_path: Path) -> None:
    files = [curve_file(tmp_path / f"{name}.csv", "mbpo", 0, {10: 1.0}) for name in "ab"]
    with pytest.raises(ValueError, match=r"a\.csv and .*b\.csv hold return_mean of the same run \(t, mbpo, seed 0\)"):
        read_runs(files)
    for name in "ab":
        log_files(tmp_path / name / "Hopper-v5" / "MBPO_1", ["csv"], ROWS)
    with pytest.raises(ValueError, match="of the same run"):
        read_runs([tmp_path / "a", tmp_path / "b"])


def zoo_run(folder: Path, steps: list[int], went_on_from: str = "", env: str = "Hopper-v5") -> None:
    """What ``rl_zoo3.train`` leaves."""
    (folder / env).mkdir(parents=True)
    ones = np.ones((len(steps), 2))
    np.savez(folder / "evaluations.npz", timesteps=np.array(steps), results=ones, ep_lengths=ones)
    agent = went_on_from or "''"
    text = f"!!python/object/apply:collections.OrderedDict\n- - - trained_agent\n    - {agent}\n  - - trial_id\n    - null\n"
    (folder / env / "args.yml").write_text(text)


def test_a_run_that_went_on_in_another_folder_is_one_run(tmp_path: Path) -> None:
    logs = tmp_path / "mbpo_tom"
    zoo_run(logs / "Hopper-v5_1", [10, 20])
    zoo_run(logs / "Hopper-v5_2", [10, 20], "elsewhere/mbpo_tom/Hopper-v5_1/Hopper-v5.zip")  # -i of an agent: another run
    zoo_run(logs / "Hopper-v5_3", [10, 20, 30], "logs/mbpo_tom/Hopper-v5_1/checkpoint_20_steps.zip")
    assert [run.seed for run in read_runs(tmp_path)] == ["2", "3"]
