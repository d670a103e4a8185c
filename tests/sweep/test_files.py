"""The folder of a sweep: replaced in one step, claimed by one spec, locked by one process, summed up in one table."""

import errno
import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

pytest.importorskip("rl_zoo3", reason="rl_zoo3 is not installed: pip install 'sb3_tom[zoo]'")

from sb3_tom.callbacks.tables import read_table
from sb3_tom.sweep.files import claim, only_one, read_result, replace_file, steps_of, write_sweep_table
from tests.sweep.small import small_run

ROOT = Path(__file__).parents[2]
FULL = """
import resource, sys
from pathlib import Path
from sb3_tom.sweep.files import replace_file
resource.setrlimit(resource.RLIMIT_FSIZE, (100, resource.RLIM_INFINITY))
replace_file(Path(sys.argv[1]), "new" * 1000)
"""


def test_a_full_disk_leaves_the_old_file(tmp_path: Path) -> None:
    replace_file(tmp_path / "folder" / "file", "old")
    words = [sys.executable, "-c", FULL, str(tmp_path / "folder" / "file")]
    result = subprocess.run(words, cwd=ROOT, capture_output=True, text=True)
    assert result.returncode != 0 and "File too large" in result.stderr
    assert [path.name for path in (tmp_path / "folder").iterdir()] == ["file"]
    assert (tmp_path / "folder" / "file").read_text() == "old"


def test_a_folder_is_claimed_once_and_goes_on(tmp_path: Path) -> None:
    runs = [small_run("sac"), small_run("mbpo")]
    claim(tmp_path / "out", runs)
    before = (tmp_path / "out" / "sweep.json").read_text()
    claim(tmp_path / "out", [small_run("sac"), small_run("mbpo")])
    assert (tmp_path / "out" / "sweep.json").read_text() == before
    assert list(json.loads(before)["runs"]) == [run.name for run in runs]


def test_another_spec_is_refused_by_the_folders_name_and_what_differs(tmp_path: Path) -> None:
    sac, mbpo = small_run("sac"), small_run("mbpo")
    claim(tmp_path, [sac, mbpo])
    others = {
        "n_timesteps=300, not 400": [replace(sac, n_timesteps=400), mbpo],
        'hyperparams=.*not {"tau": 0.5}': [replace(sac, hyperparams={"tau": 0.5}), mbpo],
        f"it has a run {mbpo.name}": [sac],
        "it has no run .*seed_7": [sac, mbpo, replace(sac, seed=7)],
    }
    for difference, runs in others.items():
        with pytest.raises(ValueError, match=f"out='{tmp_path}' is of another sweep: .*{difference}.*or another folder"):
            claim(tmp_path, runs)


def test_a_folder_that_holds_something_else_is_refused(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(ValueError, match=r"holds thesis\.tex, but no sweep\.json"):
        claim(tmp_path, [small_run("sac")])


def test_what_a_killed_claim_has_left_is_in_nobodys_way(tmp_path: Path) -> None:
    for name in ("lock", "sweep.json.partial"):
        (tmp_path / name).write_text("{")
    claim(tmp_path, [small_run("sac")])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["lock", "sweep.json"]
    claim(tmp_path, [small_run("sac")])


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", "null"])
def test_a_spoiled_spec_is_named(tmp_path: Path, text: str) -> None:
    (tmp_path / "sweep.json").write_text(text)
    with pytest.raises(ValueError, match=rf"out='{tmp_path}' is not allowed: sweep\.json cannot be read"):
        claim(tmp_path, [small_run("sac")])


def test_only_one_process_at_a_time(tmp_path: Path) -> None:
    lock = tmp_path / "lock"
    with (
        only_one(lock, 0.0, "it"),
        pytest.raises(BlockingIOError, match="it is being run by another"),
        only_one(lock, 0.2, "it"),
    ):
        pass
    with only_one(lock, 0.0, "it"):
        pass


def test_a_file_that_has_the_locks_name_stays_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "lock").write_text("somebody's")
    with pytest.raises(ValueError, match=r"holds notes, but no sweep\.json"), only_one(tmp_path / "lock", 0.0, "it"):
        (tmp_path / "notes").write_text("more of it")
        claim(tmp_path, [small_run("sac")])
    assert (tmp_path / "lock").read_text() == "somebody's"


def test_steps_that_another_machine_replaces_while_they_are_read_stop_nobody(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stale(path: Path) -> str:
        raise OSError(errno.ESTALE, "Stale file handle")

    replace_file(tmp_path / "steps.txt", "7")
    assert steps_of(tmp_path) == 7
    monkeypatch.setattr(Path, "read_text", stale)
    assert steps_of(tmp_path) == 0


def test_the_table_has_a_row_per_run_with_its_last_evaluation(tmp_path: Path) -> None:
    runs = [small_run("sac"), small_run("mbpo")]
    folder = tmp_path / runs[0].name
    replace_file(folder / "steps.txt", "250")
    curve = "env_step,return_mean,return_std,cumulative_max,episode_length_mean,n_updates,seconds"
    replace_file(folder / "learning_curve.csv", f"{curve}\n100,9,1,9,10,49,2.5\n200,7,2,9,8,149,5.5\n300,1")
    states = {runs[0].name: "failed", runs[1].name: "waiting"}
    write_sweep_table(tmp_path, runs, states, {runs[0].name: "OSError: full, at last"})
    first, second = read_table(tmp_path / "table.csv")
    assert (first["method"], first["state"], first["error"]) == ("sac", "failed", "OSError: full, at last")
    figures = {"env_steps": "250", "evaluated_at": "200", "return_mean": "7", "cumulative_max": "9", "seconds": "5.5"}
    assert {name: first[name] for name in figures} == figures
    assert (second["state"], second["env_steps"], second["return_mean"], second["error"]) == ("waiting", "0", "", "")


def test_what_is_not_there_yet(tmp_path: Path) -> None:
    assert (read_result(tmp_path), steps_of(tmp_path)) == ({}, 0)
    (tmp_path / "result.json").touch()
    assert read_result(tmp_path) == {}
