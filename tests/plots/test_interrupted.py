"""A run of the zoo that went on in another folder is one run; no other one of its name is left out."""

import os
from collections import OrderedDict
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("matplotlib", reason="matplotlib is not installed: pip install 'sb3_tom[plots]'")
pytest.importorskip("yaml", reason="PyYAML is not installed: pip install 'sb3_tom[plots]'")

import yaml

from sb3_tom.plots import read_runs


def zoo_run(folder: Path, steps: list[int], trained_agent: str = "", log_folder: str | None = None) -> Path:
    """What ``rl_zoo3.train`` leaves."""
    (folder / "Hopper-v5").mkdir(parents=True)
    ones = np.ones((len(steps), 2))
    np.savez(folder / "evaluations.npz", timesteps=np.array(steps), results=ones, ep_lengths=ones)
    logs = str(folder.parent.parent) if log_folder is None else log_folder
    arguments = OrderedDict([("algo", "mbpo_tom"), ("log_folder", logs), ("seed", 1), ("trained_agent", trained_agent)])
    (folder / "Hopper-v5" / "args.yml").write_text(yaml.dump(arguments))
    return folder


def drawn(*paths: Path) -> list[Path]:
    """Folders of the runs that are left."""
    return [run.sources["return_mean"][1].parent for run in read_runs(paths)]


@pytest.mark.parametrize("logs", ["logs", "my runs " * 12 + "é", "it's"])
def test_the_same_log_folder(tmp_path: Path, logs: str) -> None:
    root = tmp_path / logs / "mbpo_tom"
    zoo_run(root / "Hopper-v5_1", [10, 20])
    zoo_run(root / "Hopper-v5_2", [10, 20], f"{root}/Hopper-v5_1/Hopper-v5.zip")  # -i of an agent: another run
    zoo_run(root / "Hopper-v5_3", [10, 20, 30], f"{root}/Hopper-v5_1/checkpoint_20_steps.zip")
    assert drawn(tmp_path) == [root / "Hopper-v5_2", root / "Hopper-v5_3"]


@pytest.mark.parametrize("is_moved", [False, True])
@pytest.mark.parametrize("is_relative", [False, True])
def test_another_log_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_relative: bool, is_moved: bool) -> None:
    """``-i old/... -f new``: both folders have one name, and the run that went on is never the one that is left out."""
    before = tmp_path / "before"
    place = "" if is_relative else f"{before}/"
    half = zoo_run(before / "old" / "mbpo_tom" / "Hopper-v5_1", [10, 20])
    checkpoint = f"{place}old/mbpo_tom/Hopper-v5_1/checkpoint_20_steps.zip"
    whole = zoo_run(before / "new" / "mbpo_tom" / "Hopper-v5_1", [10, 20, 30], checkpoint, f"{place}new")
    if is_moved:
        before.rename(tmp_path / "after")
        half, whole = (tmp_path / "after" / path.relative_to(before) for path in (half, whole))
    else:
        monkeypatch.chdir(before)
    new, old = whole.parent.parent, half.parent.parent
    assert drawn(new) == drawn(new, old) == drawn(old, new) == [whole]
    assert drawn(old) == [half]
    assert drawn(Path(os.path.relpath(new)), Path(os.path.relpath(old))) == [Path(os.path.relpath(whole))]


def test_another_run_of_the_same_name_stays(tmp_path: Path) -> None:
    other = zoo_run(tmp_path / "new" / "mbpo_tom" / "Hopper-v5_1", [10, 20])
    checkpoint = f"{tmp_path}/old/mbpo_tom/Hopper-v5_1/checkpoint_20_steps.zip"
    whole = zoo_run(tmp_path / "new" / "mbpo_tom" / "Hopper-v5_2", [10, 20, 30], checkpoint)
    assert drawn(tmp_path) == [other, whole], "also where the interrupted run is not there any more"
    zoo_run(tmp_path / "old" / "mbpo_tom" / "Hopper-v5_1", [10, 20])
    assert drawn(tmp_path) == [other, whole]


@pytest.mark.parametrize("text", ["", "[1]", "a: b", "- - - trained_agent\n    - [", "x"])
def test_arguments_of_another_form_say_nothing(tmp_path: Path, text: str) -> None:
    folder = zoo_run(tmp_path / "mbpo_tom" / "Hopper-v5_1", [10])
    (folder / "Hopper-v5" / "args.yml").write_text(text)
    assert drawn(tmp_path) == [folder]


def test_arguments_make_no_objects(tmp_path: Path) -> None:
    folder = zoo_run(tmp_path / "mbpo_tom" / "Hopper-v5_1", [10])
    call = f"!!python/object/apply:os.mkdir ['{tmp_path}/x']"
    (folder / "Hopper-v5" / "args.yml").write_text(f"- - - trained_agent\n    - {call}\n")
    assert drawn(tmp_path) == [folder] and not (tmp_path / "x").exists()
