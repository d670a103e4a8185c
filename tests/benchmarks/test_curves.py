"""The runner of learning curves: settings of the YAML files, stopped anywhere."""

import json
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import curves
import curves_jobs
import curves_sweep
import pytest
import yaml
from curves_jobs import Job, is_finished
from curves_kinds import Method
from curves_methods import ABLATIONS, CHI2_SHARP_ABLATIONS, METHODS, MODEL_FREE, OFFICIAL_PARTS, TASKS, VARIANTS

from sb3_tom.callbacks.tables import read_table
from sb3_tom.weighters.tom.settings import PRESETS, tom_settings
from tests.sweep.small import without_seconds

ROOT = Path(__file__).parents[2]


def job(method: str, task: str = "Hopper-v5", **changes: Any) -> Job:
    return Job(**{"task": task, "method": method, "seed": 0, "steps": 100, "eval_freq": 50, "overrides": {}, **changes})


@pytest.mark.parametrize(("method", "file", "weighter"), [
    ("mbpo", "mbpo", "uniform"),
    ("mbpo_pmac", "mbpo_pmac", "pmac"),
    ("mbpo_tom", "mbpo_tom", "tom"),
    ("mbpo_tom_sharp", "mbpo_tom", "tom"),
    ("mbpo_survive", "mbpo", "uniform"),
    ("mbpo_recency", "mbpo", "recency"),
    ("mbpo_error", "mbpo", "error"),
    ("mbpo_ratio", "mbpo", "ratio"),
    ("dhmbpo_recency", "dhmbpo", "recency"),
    ("mbpo_pdml", "mbpo", "pdml"),
    ("mbpo_per", "mbpo", "per"),
    ("mbpo_recall", "mbpo", "recall"),
    ("mbpo_maper", "mbpo", "maper"),
    ("mbpo_value", "mbpo", "value"),
    ("dhmbpo_pdml", "dhmbpo", "pdml"),
    ("dhmbpo_value", "dhmbpo", "value"),
    ("mbpo_vagram", "mbpo", "uniform"),
    ("mbpo_mnm", "mbpo", "uniform"),
    ("mbpo_confidence", "mbpo", "uniform"),
    ("dhmbpo_confidence", "dhmbpo", "uniform"),
    ("dhmbpo_stop", "dhmbpo", "uniform"),
    ("dhmbpo_tom_confidence", "dhmbpo_tom", "tom"),
    ("dhmbpo_tom_stop", "dhmbpo_tom", "tom"),
])  # fmt: skip
def test_settings_are_those_of_the_yaml_file(method: str, file: str, weighter: str) -> None:
    entry = yaml.safe_load((ROOT / "hyperparams" / f"{file}.yml").read_text())["Walker2d-v5"]
    kwargs = job(method, "Walker2d-v5").agent_kwargs()
    assert kwargs.pop("weighter") == weighter
    expected = {name: value for name, value in entry.items() if name not in ("policy", "n_timesteps")}
    assert {name: kwargs[name] for name in expected} == expected
    changed = set(kwargs) - set(expected)
    parts = {
        "mbpo_tom_sharp": {"weighter_kwargs"},
        "mbpo_survive": {"objective", "objective_kwargs"},
        "mbpo_vagram": {"objective"},
        "mbpo_mnm": {"objective"},
    }
    judges = {"confidence": {"confidence"}, "stop": {"rollout_stop"}}
    assert changed == parts.get(method, judges.get(method.rpartition("_")[2], set()))


def test_a_stop_of_mbpo_comes_with_rollouts_that_can_be_stopped() -> None:
    stopped, plain = (job(method, "Hopper-v5").agent_kwargs() for method in ("mbpo_stop", "mbpo"))
    changed = {name: value for name, value in stopped.items() if value != plain.get(name)}
    assert changed == {"rollout_stop": "quantile", "rollout_schedule": 10, "rollout_batch_size": 10_000}


@pytest.mark.parametrize("method", [*METHODS, *VARIANTS])
def test_every_method_makes_an_agent_of_its_settings(method: str) -> None:
    if method in MODEL_FREE:
        pytest.importorskip("sbx", reason="sbx is not installed: pip install sbx-rl")
    agent = curves_jobs.make_agent(job(method, "InvertedDoublePendulum-v5", overrides={"buffer_size": 2000}))
    assert agent.learning_starts == (5_000 if method == "dhmbpo_random_5000" else 500)
    if method.startswith("mbpo"):
        assert (agent.update_to_data_ratio, agent.target_entropy) == (10 if method == "mbpo_fast" else 20, -0.5)


@pytest.mark.parametrize(
    ("method", "kinds", "n_critics"),
    [
        ("mbpo", ["Linear", "ReLU"], 2),
        ("mbpo_silu", ["Linear", "SiLU"], 2),
        ("mbpo_5critics", ["Linear", "ReLU"], 5),
        ("mbpo_layer_norm", ["Linear", "LayerNorm", "ReLU"], 2),
        ("mbpo_dropout", ["Linear", "Dropout", "LayerNorm", "ReLU"], 2),
        ("mbpo_fast", ["Linear", "ReLU"], 2),
    ],
)
def test_policies_are_what_their_names_say(method: str, kinds: list[str], n_critics: int, tmp_path: Path) -> None:
    agent = curves_jobs.make_agent(job(method, overrides={"buffer_size": 2000}))
    networks = agent.critic.q_networks
    assert [[type(part).__name__ for part in network] for network in networks] == [[*kinds, *kinds, "Linear"]] * n_critics
    dropped = [part.p for part in agent.critic.modules() if type(part).__name__ == "Dropout"]
    assert dropped == ([0.01] * 4 if method == "mbpo_dropout" else [])
    curves_jobs.write_json(tmp_path / "meta.json", curves_jobs.describe(job(method), model_error=False))
    meta = json.loads((tmp_path / "meta.json").read_text())
    assert meta["policy"] == ("LayerNormPolicy" if "LayerNorm" in kinds else "MlpPolicy")
    kept = {"mbpo_silu": {"activation_fn": "SiLU"}, "mbpo_5critics": {"n_critics": 5}, "mbpo_dropout": {"dropout_rate": 0.01}}
    assert meta["agent_kwargs"].get("policy_kwargs") == kept.get(method)


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


def test_earlier_defaults_have_the_same_parts_changed() -> None:
    earlier = {"divergence": "chi2", "buffer_label": 0.0, "gradient_penalty": 0.0}

    def of(part: str) -> Method:
        return CHI2_SHARP_ABLATIONS[f"mbpo_tom_chi2_sharp_{part}"]

    assert METHODS["mbpo_tom_chi2_sharp"] == Method(weighter="tom", weighter_kwargs=earlier)
    assert of("mask").weighter_kwargs == {**earlier, "terminal": "mask"}
    assert of("official_ratio").weighter_kwargs["buffer_label"] == 0.1, "the part decides"
    assert of("starts").weighter_kwargs == of("survive").weighter_kwargs == earlier
    assert of("starts").changes == ABLATIONS["mbpo_tom_starts"].changes and of("survive").survive


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
    for steps in (100, 200):  # a longer run would replace what the other settings gave
        with pytest.raises(SystemExit, match=r"gamma.*: choose another --out and --runs"):
            is_finished(job("mbpo", steps=steps), tmp_path)


def test_a_finished_run_is_not_begun_anew(tmp_path: Path) -> None:
    """A clone has the results, but not the checkpoints."""
    out, runs = tmp_path / "out", tmp_path / "runs"
    meta(out / "Hopper-v5" / "mbpo_seed0.json")
    with pytest.raises(SystemExit, match=r"mbpo_seed0.json is finished, and .*runs has no checkpoint"):
        curves_sweep.run_all([job("mbpo", steps=200)], out, runs, 1)
    (runs / "Hopper-v5" / "mbpo_seed0" / "checkpoints").mkdir(parents=True)
    (runs / "Hopper-v5" / "mbpo_seed0" / "checkpoints" / "checkpoint_100_steps.zip").touch()
    curves_jobs.check_kept(job("mbpo", steps=200), out, runs)
    meta(out / "Hopper-v5" / "mbpo_seed0.json", finished=False)
    curves_jobs.check_kept(job("mbpo", steps=200), out, tmp_path / "elsewhere")


def test_a_run_does_not_go_on_without_its_results(tmp_path: Path) -> None:
    """Its curve would begin in the middle."""
    checkpoints = tmp_path / "runs" / "Hopper-v5" / "mbpo_seed0" / "checkpoints"
    checkpoints.mkdir(parents=True)
    (checkpoints / "checkpoint_100_steps.zip").touch()
    with pytest.raises(SystemExit, match=r"has a checkpoint of Hopper-v5 mbpo_seed0.*: choose another --runs"):
        curves_sweep.run_all([job("mbpo")], tmp_path / "other", tmp_path / "runs", 1)


def test_a_continued_run_keeps_the_code_of_its_parts(tmp_path: Path) -> None:
    path = tmp_path / "run.json"
    first = {"git_commit": "a", "versions": {"torch": "2"}, "started": "then", "steps": 100}
    path.write_text(json.dumps(first | {"task": "Hopper-v5"}))
    assert curves_jobs.earlier_code(path) == [first]
    second = {**first, "git_commit": "b", "steps": 200}
    path.write_text(json.dumps(second | {"continued": [first]}))
    assert curves_jobs.earlier_code(path) == [first, second]


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


def test_command_line() -> None:
    parsed = curves.parse_arguments("run --task Hopper-v5 --method all mbpo_tom_sharp --seed 0 1 --steps 7000".split())
    jobs = curves.make_jobs(parsed)
    assert [(job.method, job.seed) for job in jobs] == [(m, s) for s in (0, 1) for m in (*METHODS, "mbpo_tom_sharp")]
    assert {(job.steps, job.eval_freq) for job in jobs} == {(7000, 1000)}


def test_each_run_of_the_command_line_is_one_job() -> None:
    parsed = curves.parse_arguments("run --task Hopper-v5 --method all papers --seed 0 0".split())
    names = [job.name for job in curves.make_jobs(parsed)]
    assert len(names) == len(set(names))
    for words in ("--steps 500", "--steps 0", "--eval-freq 0", "--steps -5"):  # no evaluation
        with pytest.raises(SystemExit, match=r"--eval-freq \d+ is not allowed with --steps"):
            curves.make_jobs(curves.parse_arguments(f"run --task Hopper-v5 {words}".split()))
    with pytest.raises(SystemExit):  # a group is no single job
        curves.parse_arguments("job --task Hopper-v5 --method papers --seed 0".split())
