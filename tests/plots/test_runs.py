"""Which files belong to which run, and what they hold."""

import io
import json
import os
import pickle
import shutil
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("matplotlib", reason="matplotlib is not installed: pip install 'sb3_tom[plots]'")

from sb3_tom.plots import Run, read_runs
from sb3_tom.plots.__main__ import main
from tests.plots.tables import age_file, curve_file, error_file, log_files

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


def test_a_csv_file_that_is_no_text_does_not_keep_the_others_from_being_drawn(tmp_path: Path) -> None:
    curve_file(tmp_path / "a.csv", "tom", 0, {50: 9.0})
    (tmp_path / "sheet.csv").write_bytes("größe;1\n".encode("utf-16"))
    with pytest.warns(UserWarning, match=r"sheet\.csv cannot be read .*no CSV file.*; the file is left out"):
        assert labels(only(read_runs(tmp_path))) == ("t", "tom", "0")
    with pytest.raises(ValueError, match=r"sheet\.csv cannot be read"):
        read_runs(tmp_path / "sheet.csv")


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


@pytest.mark.parametrize("file", [age_file, partial(error_file, errors={10: 1.0, 20: 0.5})])
def test_rows_of_two_runs_in_one_file_are_refused(tmp_path: Path, file: Any) -> None:
    """As two runs leave them that were started at the same time with the same csv_path."""
    first, second = (file(tmp_path / name, seed=seed).read_text() for seed, name in enumerate(("first.csv", "second.csv")))
    assert len(read_runs(tmp_path)) == 2
    (tmp_path / "second.csv").unlink()
    for more, what in ((second, r"'seed': '1'.* is not of the run \['t', 'tom', '0'\]"), (first, "is there twice")):
        (tmp_path / "first.csv").write_text(first + more.partition("\n")[2])
        with pytest.raises(ValueError, match=rf"first\.csv.*row \d+, .*{what}"):
            read_runs(tmp_path / "first.csv")


def test_a_table_of_many_runs_beside_theirs_is_left_out(tmp_path: Path) -> None:
    """As benchmarks leave one in their folder of results."""
    texts = [curve_file(tmp_path / f"{seed}.csv", "tom", seed, {50: 9.0}).read_text() for seed in (0, 1)]
    (tmp_path / "all.csv").write_text(texts[0] + texts[1].partition("\n")[2])
    with pytest.warns(UserWarning, match=r"all\.csv cannot be read .*row .* is not of the run .*; the file is left out"):
        assert len(read_runs(tmp_path)) == 2


def test_the_last_row_of_a_log_that_was_cut_off_is_left_out(tmp_path: Path) -> None:
    """``2000,16`` may be the beginning of 1650.3."""
    path = tmp_path / "Hopper-v5" / "MBPO_1" / "progress.csv"
    path.parent.mkdir(parents=True)
    whole = f"{STEP},eval/mean_reward\n1000,1500.5\n2000,1650.3\n"
    for cut in (1, 4, 8):
        path.write_text(whole[:-cut])
        assert only(read_runs(path)).series == {"return_mean": {1000: 1500.5}}


def test_the_zoos_folders_with_an_id_of_their_own(tmp_path: Path) -> None:
    """``--uuid``: all have the number 1."""
    ids = ["9f1c2a3b-aaaa-4bbb-8ccc-0123456789ab", "12345678-aaaa-4bbb-8ccc-0123456789ab"]
    for one in ids:
        zoo_run(tmp_path / "mbpo_tom" / f"Hopper-v5_1_{one}", [10])
    runs = read_runs(tmp_path)
    assert {labels(run) for run in runs} == {("Hopper-v5", "mbpo_tom", f"1_{one}") for one in ids}


def test_without_tensorboard(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """One line, and only where nothing else tells of the run."""
    monkeypatch.setitem(sys.modules, "tensorboard.backend.event_processing.event_accumulator", None)
    folder = tmp_path / "Hopper-v5" / "MBPO_1"
    folder.mkdir(parents=True)
    (folder / "events.out.tfevents.1").touch()
    for path in (tmp_path, folder / "events.out.tfevents.1"):
        with pytest.raises(SystemExit, match="2"):
            main(["curves", str(path), "--out", str(tmp_path / "a.png")])
        assert f"{folder} holds TensorBoard files; to read them: pip install tensorboard" in capsys.readouterr().err
    curve_file(folder.parent / "curve.csv", "tom", 0, {10: 1.0})
    with pytest.warns(UserWarning, match="holds TensorBoard files.*the other files of the run are drawn"):
        assert labels(only(read_runs(tmp_path))) == ("t", "tom", "0")
    curve_file(folder.parent / "other.csv", "tom", 1, {10: 1.0})
    with pytest.raises(ValueError, match="pip install tensorboard"):  # whose of the two the log is nobody knows
        read_runs(tmp_path)
    log_files(folder, ["csv"], ROWS)
    with pytest.warns(UserWarning, match="holds TensorBoard files"):
        assert len(read_runs(tmp_path)) == 3


def test_the_same_figure_twice_is_refused(tmp_path: Path) -> None:
    files = [curve_file(tmp_path / f"{name}.csv", "mbpo", 0, {10: 1.0}) for name in "ab"]
    with pytest.raises(ValueError, match=r"a\.csv and .*b\.csv hold return_mean of the same run \(t, mbpo, seed 0\)"):
        read_runs(files)
    for name in "ab":
        log_files(tmp_path / name / "Hopper-v5" / "MBPO_1", ["csv"], ROWS)
    with pytest.raises(ValueError, match="of the same run"):
        read_runs([tmp_path / "a", tmp_path / "b"])


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("none.csv", None, "no such file or folder"),
        ("notes.txt", "x\n", "is no file that can be drawn"),
        ("other.csv", "a,b\n1,2\n", "is no file that can be drawn"),
        ("bad.csv", "task,method,seed,env_step,return_mean\nt,m,0,ten,1\n", r"bad\.csv cannot be read as \*\.csv"),
        ("few.csv", f"{CURVE}t,m,0,10,1,1,1\nt,m,0,2\nt,m,0,30,1,1,1\n", r"few\.csv cannot be read.*row 2 has fewer values"),
        ("more.csv", f"{CURVE}t,m,0,10,1,1,1,1\n", r"more\.csv cannot be read.*row 1 has more values"),
        ("large.csv", f"{CURVE}{'x' * 200_000}\n", r"large\.csv cannot be read as \*\.csv.*field larger than"),
        ("progress.csv", f"{STEP},eval/mean_reward\n1,2,3\n", r"progress\.csv cannot be read.*row 1 has more values"),
        ("progress.csv", f"{STEP},eval/mean_reward\ninf,2\n", r"progress\.csv cannot be read as progress\.csv: OverflowErr"),
        ("progress.csv", f"{STEP},weight_by_age/rows\n1,5\n", r"progress\.csv cannot be read as progress\.csv: ZeroDivision"),
        ("seeds.csv", f"{CURVE}t,m,0,10,1,1,1\nt,m,1,10,9,9,1\n", r"seeds\.csv cannot be read.*row 2, .*'seed': '1'.* not of"),
        ("twice.csv", f"{CURVE}t,m,0,10,1,1,1\nt,m,0,10,9,9,1\n", r"twice\.csv cannot be read.*row 2, .*is there twice"),
    ],
)
def test_what_cannot_be_read_is_named(tmp_path: Path, name: str, text: str | None, message: str) -> None:
    path = tmp_path / name
    if text is not None:
        path.write_text(text)
    with pytest.raises(ValueError, match=message) as caught:
        read_runs(path)
    assert name in str(caught.value)


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


class Bomb:
    """Leaves a mark when it is unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.mark),)


def test_no_pickle_in_evaluations_is_opened(tmp_path: Path) -> None:
    ones = np.ones((1, 2))
    np.savez(tmp_path / "evaluations.npz", timesteps=np.array([Bomb(tmp_path / "mark")]), results=ones, ep_lengths=ones)
    with pytest.raises(ValueError, match=r"evaluations\.npz cannot be read as evaluations\.npz"):
        read_runs(tmp_path)
    assert not (tmp_path / "mark").exists()


def saved(save: Callable[..., None], *arrays: Any, **named: Any) -> bytes:
    """The bytes of a file of numpy's."""
    file = io.BytesIO()
    save(file, *arrays, **named)
    return file.getvalue()


PICKLED = pickle.dumps({"timesteps": [1]})
NUMBER_ALONE = saved(np.savez, timesteps=np.array(1), results=np.ones((1, 1)), ep_lengths=np.ones((1, 1)))
PACKED = saved(np.savez_compressed, timesteps=np.arange(2000), results=np.ones((2000, 1)), ep_lengths=np.ones((2000, 1)))
DAMAGED = PACKED[:300] + b"\xff" * 100 + PACKED[400:]


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 cut off", PICKLED, saved(np.save, np.ones(3)), NUMBER_ALONE, DAMAGED])
def test_a_spoiled_file_of_evaluations_is_named(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "evaluations.npz").write_bytes(content)
    with pytest.raises(ValueError, match=r"evaluations\.npz cannot be read as evaluations\.npz"):
        read_runs(tmp_path)


def test_a_damaged_curve_of_a_run_is_an_error(tmp_path: Path) -> None:
    """Left out, it would be missing from a mean over seeds."""
    for seed in (0, 1):
        curve_file(tmp_path / f"{seed}.csv", "tom", seed, {50: 9.0})
    with (tmp_path / "1.csv").open("ab") as file:
        file.write(b"t,tom,1,\xff\xff\n")
    with pytest.raises(ValueError, match=r"1\.csv .*no CSV file"):
        read_runs(tmp_path)
