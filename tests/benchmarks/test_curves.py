"""The runner of learning curves: settings of the YAML files, stopped anywhere, pages that agree with their table."""

import json
import re
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import curves
import curves_ablations
import curves_jobs
import curves_page
import pytest
import yaml
from curves_jobs import Job, is_finished
from curves_methods import ABLATIONS, METHODS, OFFICIAL_PARTS, TASKS

from sb3_tom.common.tables import read_table
from sb3_tom.weighters.settings import PRESETS, tom_settings

ROOT = Path(__file__).parents[2]
RESULTS = ROOT / "docs" / "results"


def job(method: str, task: str = "Hopper-v5", **changes: Any) -> Job:
    return Job(**{"task": task, "method": method, "seed": 0, "steps": 100, "eval_freq": 50, "overrides": {}, **changes})


@pytest.mark.parametrize(("method", "file", "weighter"), [
    ("mbpo", "mbpo", "uniform"),
    ("mbpo_pmac", "mbpo_pmac", "pmac"),
    ("mbpo_tom", "mbpo_tom", "tom"),
    ("mbpo_tom_kl", "mbpo_tom", "tom"),
    ("mbpo_survive", "mbpo", "uniform"),
])  # fmt: skip
def test_settings_are_those_of_the_yaml_file(method: str, file: str, weighter: str) -> None:
    entry = yaml.safe_load((ROOT / "hyperparams" / f"{file}.yml").read_text())["Walker2d-v5"]
    kwargs = job(method, "Walker2d-v5").agent_kwargs()
    assert kwargs.pop("weighter") == weighter
    expected = {name: value for name, value in entry.items() if name not in ("policy", "n_timesteps")}
    assert {name: kwargs[name] for name in expected} == expected
    changed = set(kwargs) - set(expected)
    assert changed == {"mbpo_tom_kl": {"weighter_kwargs"}, "mbpo_survive": {"objective", "objective_kwargs"}}.get(
        method, set()
    )


@pytest.mark.parametrize("method", [*METHODS, *ABLATIONS])
def test_every_method_makes_an_agent_of_its_settings(method: str) -> None:
    agent = curves_jobs.make_agent(job(method, "InvertedDoublePendulum-v5", overrides={"buffer_size": 2000}))
    assert agent.learning_starts == 500
    if method.startswith("mbpo"):
        assert (agent.update_to_data_ratio, agent.target_entropy) == (20, -0.5)


@pytest.mark.parametrize("task", TASKS)
def test_every_task_makes_an_env_and_an_agent(task: str) -> None:
    agent = curves_jobs.make_agent(job("mbpo", task, overrides={"buffer_size": 100}))
    assert agent.observation_space == curves_jobs.make_env(job("mbpo", task))().observation_space
    if task in ("Ant-v5", "Humanoid-v5"):
        assert agent.observation_space.shape[0] == {"Ant-v5": 27, "Humanoid-v5": 45}[task], "the papers' observations"


def test_model_free_methods_keep_their_defaults_but_for_the_warm_up() -> None:
    assert job("sac").agent_kwargs() == job("crossq").agent_kwargs() == {"learning_starts": 1000}


def test_ablations_change_one_part_each() -> None:
    plain = job("mbpo_tom").agent_kwargs()
    for method in ABLATIONS:
        kwargs = job(method).agent_kwargs()
        base = plain if "_tom" in method else job("mbpo").agent_kwargs()
        assert {name: kwargs.get(name) for name in base if name != "weighter" or method != "mbpo_tom_ratio"} != kwargs
        changed = {name for name in kwargs if kwargs[name] != base.get(name)}
        assert len(changed) == 1 or changed == {"objective", "objective_kwargs"}, method


def test_the_official_presets_parts_make_it_up() -> None:
    parts = {**OFFICIAL_PARTS["official_ratio"], **OFFICIAL_PARTS["official_dual"]}
    assert tom_settings("default", parts) != PRESETS["official"]
    assert tom_settings("default", {**parts, "standardize": False, "anneal": False}) == PRESETS["official"]


def meta(path: Path, **changes: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"finished": True, "steps": 100, "solved_step": None, "overrides": {}, **changes}))


def test_what_counts_as_finished(tmp_path: Path) -> None:
    path = tmp_path / "Hopper-v5" / "mbpo_seed0.json"
    assert not is_finished(job("mbpo"), tmp_path)
    meta(path)
    assert is_finished(job("mbpo"), tmp_path)
    assert is_finished(job("mbpo", steps=50), tmp_path)
    assert not is_finished(job("mbpo", steps=200), tmp_path), "a longer run is wanted"
    meta(path, solved_step=75)
    assert is_finished(job("mbpo", steps=200), tmp_path), "it ended where it was solved"
    meta(path, finished=False)
    assert not is_finished(job("mbpo"), tmp_path)
    meta(path, overrides={"gamma": 0.9})
    with pytest.raises(SystemExit, match="gamma"):
        is_finished(job("mbpo"), tmp_path)


def test_a_finished_run_is_not_begun_anew(tmp_path: Path) -> None:
    """A clone has the results, but not the checkpoints."""
    out, runs = tmp_path / "out", tmp_path / "runs"
    meta(out / "Hopper-v5" / "mbpo_seed0.json")
    with pytest.raises(SystemExit, match=r"mbpo_seed0.json is finished, and .*runs has no checkpoint"):
        curves_jobs.run_all([job("mbpo", steps=200)], out, runs, 1, model_error=False)
    (runs / "Hopper-v5" / "mbpo_seed0" / "checkpoints").mkdir(parents=True)
    (runs / "Hopper-v5" / "mbpo_seed0" / "checkpoints" / "checkpoint_100_steps.zip").touch()
    curves_jobs.check_kept(job("mbpo", steps=200), out, runs)
    meta(out / "Hopper-v5" / "mbpo_seed0.json", finished=False)
    curves_jobs.check_kept(job("mbpo", steps=200), out, tmp_path / "elsewhere")


TINY = {
    "learning_starts": 50,
    "dynamics": "linear",
    "update_to_data_ratio": 1,
    "rollout_batch_size": 50,
    "model_train_freq": 25,
    "buffer_size": 1000,
    "policy_kwargs": {"net_arch": [8]},
}


def words(tmp_path: Path, *more: str) -> list[str]:
    command = [sys.executable, str(ROOT / "benchmarks" / "curves.py"), "job", "--task", "Reacher-v5", "--method", "mbpo_pmac"]
    command += ["--seed", "3", "--steps", "300", "--eval-freq", "30", "--kwargs", json.dumps(TINY), *more]
    return [*command, "--out", str(tmp_path / "out"), "--runs", str(tmp_path / "runs")]


def without_seconds(path: Path) -> list[dict[str, str]]:
    return [{name: value for name, value in row.items() if name != "seconds"} for row in read_table(path)]


@pytest.mark.expensive
def test_a_killed_run_goes_on_and_ends_as_if_it_had_not_been(tmp_path: Path) -> None:
    """SIGKILL in the middle, the same command again: the same curve, weights by age and model errors, row by row."""
    names = [f"mbpo_pmac_seed3{part}.csv" for part in ("", "_weight_by_age")]
    subprocess.run(words(tmp_path / "whole"), check=True, cwd=ROOT, capture_output=True)
    process = subprocess.Popen(words(tmp_path / "killed"), cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    curve = tmp_path / "killed" / "out" / "Reacher-v5" / names[0]
    deadline = time.monotonic() + 300
    while time.monotonic() < deadline and not (curve.exists() and len(read_table(curve)) >= 4):
        assert process.poll() is None, process.stdout.read()
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not json.loads(curve.with_suffix(".json").read_text())["finished"]
    again = subprocess.run(words(tmp_path / "killed"), check=True, cwd=ROOT, capture_output=True, text=True)
    assert "step 30:" not in again.stdout, "it went on, it did not begin anew"
    assert json.loads(curve.with_suffix(".json").read_text())["finished"]
    for name in names:
        whole = without_seconds(tmp_path / "whole" / "out" / "Reacher-v5" / name)
        assert without_seconds(curve.with_name(name)) == whole
        assert len(whole) >= 10


def test_table_holds_every_evaluation_and_where_it_came_from(tmp_path: Path) -> None:
    labels = {"task": "Hopper-v5", "seed": 0, "return_std": 1, "return_min": 0, "return_max": 0}
    labels |= {"episode_length_mean": 5, "n_updates": 5}
    for method, means in {"mbpo_tom": (1.0, 5.0), "sac": (2.0,)}.items():
        path = tmp_path / "Hopper-v5" / f"{method}_seed0.json"
        meta(path, git_commit="abc", versions={"torch": "2"}, finished=method == "sac")
        lines = ["task,method,seed,env_step,return_mean,return_std,return_min,return_max,cumulative_max,seconds"]
        lines += [f"Hopper-v5,{method},0,{1000 * (k + 1)},{mean},1,0,0,{mean},{k}" for k, mean in enumerate(means)]
        path.with_suffix(".csv").write_text("\n".join(lines) + "\n")
    rows = read_table(curves_page.write_curves(tmp_path))
    assert [(row["method"], row["env_step"], row["return_mean"], row["finished"]) for row in rows] == [
        ("sac", "1000", "2.0", "True"),
        ("mbpo_tom", "1000", "1.0", "False"),
        ("mbpo_tom", "2000", "5.0", "False"),
    ]
    assert {(row["commit"], row["versions"]) for row in rows} == {("abc", "torch 2")}
    text = curves_page.page_text(rows)
    assert "| `mbpo_tom` | 1 (1 interrupted) | 2,000 | 5.0 | 3.0 | 5.0 |" in text


def test_intervals_of_seeds() -> None:
    rows = [
        {"task": "t", "method": "m", "seed": str(seed), "env_step": str(step), "return_mean": str(value), "seconds": "1"}
        | {"finished": "True"}
        for seed, values in enumerate([(1.0, 3.0), (2.0, 5.0), (3.0, 100.0), (0.0, 4.0)])
        for step, value in zip((10, 20), values, strict=True)
    ]
    line = curves_page.method_line("m", [*rows, {**rows[0], "env_step": "30", "return_mean": "7"}])
    assert line.startswith("| `m` | 4 | 20 | 4.5 ["), "middle two of 3, 4, 5, 100 at the last common step"


def test_longer_runs_have_a_line_of_their_own() -> None:
    ends = {"0": (10, True), "1": (30, True), "2": (20, False), "3": (40, True)}
    rows = [
        {"task": "Hopper-v5", "method": "m", "seed": seed, "env_step": str(step), "return_mean": "1", "seconds": "1"}
        | {"finished": str(finished)}
        for seed, (end, finished) in ends.items()
        for step in range(10, end + 1, 10)
    ]
    groups = curves_page.by_length("Hopper-v5", rows)
    assert [sorted({row["seed"] for row in group}) for group in groups] == [["0", "1", "2", "3"], ["1", "3"], ["3"]]
    lines = [curves_page.method_line("m", group) for group in groups]
    assert [line.split(" | ")[1:3] for line in lines] == [["4 (1 interrupted)", "10"], ["2", "30"], ["1", "40"]]
    assert len(curves_page.by_length("InvertedPendulum-v5", rows)) == 1, "runs end where they are solved"


def test_what_the_runs_beyond_the_first_steps_of_hopper_do() -> None:
    values = [0.0] * 10 + [100.0, 2500.0, 400.0, 500.0, 600.0, 700.0]
    rows = [
        {"task": "Hopper-v5", "method": "m", "seed": seed, "env_step": str(1000 * (k + 1)), "return_mean": str(value)}
        for seed, end in (("0", 16), ("1", 10))
        for k, value in enumerate(values[:end])
    ]
    line = curves_page.late_line("Hopper-v5", rows)
    assert line.endswith("mean of the last five: `m` 800, 940.")
    assert curves_page.late_line("Reacher-v5", rows) == curves_page.late_line("Hopper-v5", rows[16:]) == ""


def test_when_a_run_first_reaches_what_counts_as_solved() -> None:
    rows = [
        {"method": "m", "seed": seed, "env_step": str(1000 * (k + 1)), "return_mean": str(value)}
        for seed, values in (("0", (9000.0, 9299.0)), ("1", (9300.0, 0.0)), ("2", (0.0, 9400.0)))
        for k, value in enumerate(values)
    ]
    line = curves_page.solved_line("InvertedDoublePendulum-v5", rows)
    assert line == "Env step of the first evaluation of at least 9,300, by seed: `m` -, 1,000, 2,000."
    assert "at which a run ends: " in curves_page.solved_line("InvertedPendulum-v5", rows)
    assert curves_page.solved_line("Reacher-v5", rows) == ""


def runs_of(task: str, curves: dict[tuple[str, int], tuple[float, ...]], finished: str = "True") -> list[dict[str, str]]:
    return [
        {"task": task, "method": method, "seed": str(seed), "env_step": str(1000 * (k + 1)), "return_mean": str(value)}
        | {"finished": finished}
        for (method, seed), values in curves.items()
        for k, value in enumerate(values)
    ]


def test_ablations_are_a_table_of_their_own(tmp_path: Path) -> None:
    double, single = "InvertedDoublePendulum-v5", "InvertedPendulum-v5"
    rows = runs_of(
        double,
        {
            ("sac", 0): (1.0, 2.0),
            ("mbpo_tom_mask", 1): (100.0, 9400.0, 5000.0),
            ("mbpo", 0): (9300.0, 9310.0, 10.0),
            ("mbpo_tom_mask", 0): (100.0, 200.0),
        },
    )
    rows += runs_of(double, {("mbpo_tom_kl", 0): (0.0,)}, finished="False")
    rows += runs_of(single, {("mbpo", 0): (1000.0,), ("mbpo_tom_ess", 0): (3.0, 960.0)})
    rows += runs_of("Hopper-v5", {("mbpo", 0): (1.0,)}) + runs_of("Reacher-v5", {("mbpo_tom_kl", 0): (1.0,)})
    text = curves_ablations.page_text(curves_ablations.ablation_runs(rows))
    assert text.splitlines()[1:] == [
        f"| method | {double}, first evaluation of at least 9,300 | mean of its evaluations to 2,000 steps "
        f"| {single}, first evaluation of at least 950 |",
        "|---|---|---|---|",
        "| `mbpo` | 1,000 (0) | 9,305 (0) | 1,000 (0) |",
        "| `mbpo_tom_mask` | - (0); 2,000 (1) | 150 (0); 4,750 (1) |  |",
        "| `mbpo_tom_ess` |  |  | 2,000 (0) |",
        "",
    ]
    curves_ablations.draw(curves_ablations.ablation_runs(rows), tmp_path / "ablations.png")
    assert len(read_table(tmp_path / "ablations_summary.csv")) == 5
    assert "mbpo_tom_mask" not in curves_page.page_text([row | {"seconds": "1"} for row in rows])
    assert "Nothing" in curves_ablations.page_text([])


def test_pages_agree_with_the_table() -> None:
    """`python benchmarks/curves.py page` has been run since the table changed, and every picture is there."""
    rows = read_table(RESULTS / "curves.csv")
    page = (RESULTS / "README.md").read_text()
    generated = page.partition(curves_page.BEGIN + "\n")[2].partition(curves_page.END)[0]
    assert generated == curves_page.page_text(rows)
    ablations = page.partition(curves_ablations.BEGIN + "\n")[2].partition(curves_ablations.END)[0]
    assert ablations == curves_ablations.page_text(curves_ablations.ablation_runs(rows))
    for task in {row["task"] for row in rows}:
        assert (RESULTS / task / "learning_curves.png").exists()


def documented_commands() -> list[list[str]]:
    """The ``curves.py run`` lines of all pages, as words."""
    text = "\n".join(path.read_text() for path in (ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))))
    lines = re.findall(r"^(?:nohup )?python benchmarks/curves\.py (run .*)$", text, flags=re.MULTILINE)
    return [shlex.split(line, comments=True) for line in lines]


@pytest.mark.parametrize("words", documented_commands(), ids=" ".join)
def test_commands_of_the_pages_start_in_a_clone(words: list[str], tmp_path: Path) -> None:
    """What is there is finished, and what is not can be begun: no command stops at a shorter run without a checkpoint."""
    for job in curves.make_jobs(curves.parse_arguments(words)):
        if not is_finished(job, RESULTS):
            curves_jobs.check_kept(job, RESULTS, tmp_path)


def test_the_pages_have_commands() -> None:
    assert len(documented_commands()) >= 7


def test_command_line() -> None:
    parsed = curves.parse_arguments("run --task Hopper-v5 --method all mbpo_tom_kl --seed 0 1 --steps 7000".split())
    jobs = curves.make_jobs(parsed)
    assert [(job.method, job.seed) for job in jobs] == [(m, s) for s in (0, 1) for m in (*METHODS, "mbpo_tom_kl")]
    assert {(job.steps, job.eval_freq) for job in jobs} == {(7000, 1000)}
