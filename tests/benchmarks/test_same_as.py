"""The proof that a refactoring changes no number must notice one that does."""

import math
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import same_as
import same_as_cases
import torch as th
from same_as_cases import CASES, Case, trained
from same_as_compare import compare
from same_as_record import Record, is_time, load_values
from same_as_side import run_case
from stable_baselines3.common.logger import Logger

TINY = trained(
    steps=45,
    learning_starts=20,
    model_train_freq=20,
    rollout_batch_size=20,
    weighter="pmac",
    dynamics_kwargs={"n_members": 2, "n_elites": 1, "net_arch": (8,), "max_epochs": 1, "steps_per_epoch": 2},
)


def values(**others: object) -> dict[str, np.ndarray]:
    """What a record might hold, with some values replaced."""
    record = Record()
    record.note("log/000/train", {"loss": 0.5, "rate": math.nan})
    record.note("agent", {"weights": th.arange(6.0).reshape(2, 3), "steps": 7, "kind": "tom", "nothing": None})
    return record.values | {name: np.asarray(value) for name, value in others.items()}


def test_equal_records_are_the_same() -> None:
    comparison = compare(values(), values())
    assert comparison.is_same()
    assert comparison.n_names == 6


def test_one_bit_differs() -> None:
    new = values()
    new["agent/weights"][1, 2] = np.nextafter(np.float32(5.0), np.float32(6.0))
    comparison = compare(new, values())
    assert not comparison.is_same(allow_added=True)
    report = "differs in 1 of 6 names, first agent/weights[1, 2]: 5.0000005 here, 5.0 there (1 of 6 entries)"
    assert comparison.report() == report


@pytest.mark.parametrize(
    ("name", "new"),
    [
        ("log/000/train/loss", -0.5),
        ("log/000/train/loss", math.nan),
        ("log/000/train/rate", 1.0),
        ("agent/steps", 8),
        ("agent/steps", 7.0),
        ("agent/kind", "pmac"),
        ("agent/nothing", 0.0),
        ("agent/weights", np.arange(6.0).reshape(2, 3)),
        ("agent/weights", np.arange(6, dtype=np.float32)),
    ],
)
def test_another_value_type_or_shape_differs(name: str, new: object) -> None:
    comparison = compare(values(**{name: new}), values())
    assert list(comparison.differing) == [name]


def test_signs_of_zeros_differ_and_those_of_nan_do_not() -> None:
    assert not compare({"a": np.array(0.0)}, {"a": np.array(-0.0)}).is_same()
    assert compare({"a": np.array([math.nan, 1.0])}, {"a": np.array([-math.nan, 1.0])}).is_same()


def test_the_first_difference_is_the_first_that_was_noted() -> None:
    new = values(**{"agent/kind": "pmac", "log/000/train/loss": 0.25})
    assert compare(new, values()).report() == "differs in 2 of 6 names, first log/000/train/loss: 0.25 here, 0.5 there"


def test_a_missing_name_is_a_difference() -> None:
    new = values()
    del new["agent/steps"]
    comparison = compare(new, values())
    assert not comparison.is_same(allow_added=True)
    assert comparison.report() == "differs in 1 of 6 names, first agent/steps: missing here, 7 there"


def test_an_added_name_is_a_difference_unless_it_is_allowed() -> None:
    new = values(**{"log/000/train/new": 1.0, "log/001/train/new": 2.0})
    comparison = compare(new, values())
    assert not comparison.is_same()
    assert comparison.is_same(allow_added=True)
    assert comparison.report() == "has 2 names more: log/*/train/new"


def test_judging_records_on_the_disk(tmp_path: Path) -> None:
    """Through the files of both sides: same, added, and no record."""
    records = [Record(), Record()]
    for name, record in zip(same_as.SIDES, records, strict=True):
        record.note("loss", 0.5)
        (tmp_path / name).mkdir()
    records[0].note("added", 1)
    for name, record in zip(same_as.SIDES, records, strict=True):
        record.save(tmp_path / name / "case.npz")
    assert same_as.judge(tmp_path, "case", False) == ("differs", "has 1 names more: added")
    assert same_as.judge(tmp_path, "case", True) == ("same", "same in 1 names; added: added")
    (tmp_path / "there" / "other.error").write_text("TypeError: no such argument")
    (tmp_path / "here" / "process.txt").write_text("Traceback\nMemoryError\n")
    expected = "failed here: its process died: MemoryError; there: TypeError: no such argument"
    assert same_as.judge(tmp_path, "other", True) == ("failed", expected)


def test_times_are_left_out() -> None:
    record = Record()
    logger = Logger(None, [record])
    for name in ("model/seconds", "time/fps", "time/eta", "time/time_elapsed", "time/another", "time/episodes", "train/loss"):
        logger.record(name, 1)
    logger.dump(3)
    assert list(record.values) == ["log/000/time/episodes", "log/000/train/loss", "log/000/step"]
    assert is_time("0/fit/seconds")
    assert not is_time("train/time_scale")


def test_a_record_refuses_what_it_cannot_compare() -> None:
    record = Record()
    with pytest.raises(TypeError, match="a/function is a function"):
        record.note("a", {"function": values})
    record.note("b", 1)
    with pytest.raises(ValueError, match="b was noted before"):
        record.note("b", 1)


def test_a_case_leaves_a_complete_record_and_the_same_bytes_again(tmp_path: Path) -> None:
    for name in ("one", "two"):
        run_case(TINY).save(tmp_path / f"{name}.npz")
    assert (tmp_path / "one.npz").read_bytes() == (tmp_path / "two.npz").read_bytes()
    left = load_values(tmp_path / "one.npz")
    expected = ["num_timesteps", "n_updates", "policy_version", "generator", "predict", "sample", "start_observations"]
    expected += ["log_ent_coef", "random/torch", "random/python", "random/numpy/0", "kinds/weighter"]
    expected += [f"imagined/{name}" for name in ("size", "rows", "position", "capacity")]
    arrays = ("observations", "next_observations", "actions", "rewards", "dones", "timeouts", "terminated", "weights")
    expected += [f"replay_buffer/{name}" for name in (*arrays, "policy_versions", "pos", "full")]
    expected += ["parameters/policy/actor.mu.weight", "parameters/critic.optimizer/state/0/exp_avg"]
    expected += ["parameters/ent_coef_optimizer/state/0/step", "parameters/dynamics/layers.0.weight"]
    expected += ["parameters/dynamics.optimizer/state/0/exp_avg_sq", "rest_of_log/train/actor_loss"]
    assert [name for name in expected if f"agent/{name}" not in left] == []
    assert left["agent/policy_version"] == 2
    assert len(left["agent/replay_buffer/observations"]) == 45
    assert left["agent/parameters/dynamics/layers.0.weight"].any()
    assert not [name for name in left if "seconds" in name or "fps" in name]


def test_another_number_in_a_plug_is_noticed() -> None:
    def rate(rate: float) -> Case:
        network = {"net_arch": (8,), "max_epochs": 1, "steps_per_epoch": 2, "n_members": 2, "n_elites": 1}
        small = {"learning_starts": 20, "rollout_batch_size": 20, "update_to_data_ratio": 0.5}
        return trained(steps=25, dynamics_kwargs=network | {"learning_rate": rate}, **small)

    comparison = compare(run_case(rate(1e-3)).values, run_case(rate(1.0001e-3)).values)
    assert "agent/parameters/dynamics/layers.0.weight" in comparison.differing


def test_cases_use_only_what_stays_where_it_is() -> None:
    """The package's modules may move between the two commits."""
    for path in Path(same_as_cases.__file__).parent.glob("same_as*.py"):
        lines = [line.split() for line in path.read_text().splitlines()]
        modules = {words[1] for words in lines if words[:1] in (["from"], ["import"]) and words[1].startswith("sb3_tom")}
        assert modules <= {"sb3_tom", "sb3_tom.checkpoint", "sb3_tom.envs"}


def test_every_weighter_and_model_has_a_case() -> None:
    assert {"uniform", "pmac", "tom", "tom_official", "tom_chi2", "ratio", "mdn", "linear", "resumed"} <= CASES.keys()


def test_a_commit_that_is_none_is_named() -> None:
    with pytest.raises(SystemExit, match="no-such-commit is no commit of"):
        same_as.commit_of("no-such-commit")


def test_the_worktree_is_gone_after_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    repository, path = tmp_path / "repository", tmp_path / "there"
    repository.mkdir()
    (repository / "file").touch()
    monkeypatch.setattr(same_as, "ROOT", repository)
    same_as.git("init", "--quiet")
    same_as.git("add", "file")
    same_as.git("-c", "user.name=a", "-c", "user.email=a@b.c", "commit", "--quiet", "-m", "First")
    with pytest.raises(RuntimeError), same_as.worktree(same_as.commit_of("HEAD"), path):
        assert (path / "file").exists()
        raise RuntimeError
    assert not path.exists()
    assert str(path) not in same_as.git("worktree", "list")


@pytest.mark.expensive
def test_a_commit_is_the_same_as_itself(tmp_path: Path) -> None:
    words = [sys.executable, same_as.__file__, "HEAD", "--cases", "uniform", "resumed", "--keep", str(tmp_path)]
    result = subprocess.run(words, capture_output=True, text=True)
    changed = same_as.git("status", "--porcelain", "--", "sb3_tom")
    assert changed or result.returncode == 0, result.stdout + result.stderr
    assert {path.name for path in (tmp_path / "there").glob("*.npz")} == {"uniform.npz", "resumed.npz"}
