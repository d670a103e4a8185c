"""``python -m sb3_tom.sweep`` from its words to its pictures, with an engine that trains in this process."""

import re
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml

pytest.importorskip("rl_zoo3", reason="rl_zoo3 is not installed: pip install 'sb3_tom[zoo]'")

import sb3_tom.sweep.__main__ as command
from sb3_tom.sweep.cluster import connected, run_there
from sb3_tom.sweep.run import Outcome
from sb3_tom.sweep.spec import RunSpec, make_runs
from tests.sweep.small import ENV, MBPO, InThisProcess, attempts, results, small_words


@pytest.fixture
def connections(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """What the command asked the engine for, each time."""
    asked: list[dict[str, Any]] = []

    @contextmanager
    def connected(**resources: Any) -> Iterator[InThisProcess]:
        asked.append(resources)
        yield InThisProcess()

    monkeypatch.setattr(command, "connected", connected)
    return asked


def test_from_a_file_to_a_picture_and_on(tmp_path: Path, connections: list[Any], capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "sweep.yml").write_text(yaml.safe_dump({**small_words(n_timesteps=200), "cpus": 2, "retries": 0}))
    words = ["--out", str(tmp_path / "out"), "--file", str(tmp_path / "sweep.yml")]
    assert command.main(words) == 0
    before = results(tmp_path / "out")
    assert [row["state"] for row in before["table"]] == ["done"] * 4 and len(before) == 1 + 4
    assert all(row["env_steps"] == row["evaluated_at"] == "200" for row in before["table"])
    assert "4/4 runs done; 800/800 steps" in capsys.readouterr().out
    assert connections == [{"cpus": 2, "gpus": 0, "n_jobs": None, "address": None, "num_threads": 1}]
    assert command.main([*words, "--n-jobs", "1", "--address", "auto", "--retries", "7"]) == 0
    assert results(tmp_path / "out") == before
    assert all(attempts(folder) == 1 for folder in (tmp_path / "out" / ENV).glob("*/*"))
    assert command.main([*words[:2], "--out", str(tmp_path / "twin"), *words[2:]]) == 0
    assert results(tmp_path / "twin") == before

    pytest.importorskip("matplotlib", reason="matplotlib is not installed: pip install 'sb3_tom[plots]'")
    from sb3_tom.plots import draw_curves, read_runs

    runs = read_runs(tmp_path / "out")
    assert sorted((run.task, run.method, run.seed) for run in runs) == [
        (ENV, method, seed) for method in ("mbpo", "sac") for seed in ("0", "1")
    ]
    assert all(list(run.series["return_mean"]) == [100, 200] for run in runs)
    assert draw_curves(runs, tmp_path / "curves.png").exists()


def test_the_words_of_the_command_line_come_before_the_files(tmp_path: Path) -> None:
    (tmp_path / "sweep.yml").write_text("{env: Hopper-v5, algo: sac, seed: [0, 1], n_timesteps: 50, n_jobs: 4}")
    given = {"env": [ENV], "seed": [3], "params": ["tau:0.5", "policy_kwargs:{net_arch: [8]}", "gamma:9e-1"], "cpus": None}
    words, resources = command.read_words(tmp_path / "sweep.yml", {**given, "grid": ["learning_rate:[1e-3, 'lin_1e-3']"]})
    assert words.pop("params") == {"tau": 0.5, "policy_kwargs": {"net_arch": [8]}, "gamma": 0.9}
    assert words.pop("grid") == {"learning_rate": [0.001, "lin_1e-3"]}
    assert words == {"env": [ENV], "algo": "sac", "seed": [3], "n_timesteps": 50}
    assert resources == {"cpus": 1, "gpus": 0, "retries": 3, "n_jobs": 4, "address": None}


def test_mappings_are_written_as_in_the_zoo() -> None:
    """``dict(...)`` of literals, without running code; other Python stays a string, which the zoo evaluates or refuses."""
    said = ["weighter_kwargs:dict(divergence='chi2', q_net=dict(a=[1]))", "policy_kwargs:dict(activation_fn=nn.SiLU)"]
    said += ["a:dict(b={'c': nn.SiLU})", "b:dict(**{'c': 1})", "c:dict()", "d: {a: 1}", "e:'dict(a=1)'"]
    words, _ = command.read_words(None, {"params": said})
    assert words["params"] == {
        "weighter_kwargs": {"divergence": "chi2", "q_net": {"a": [1]}},
        "policy_kwargs": "dict(activation_fn=nn.SiLU)",
        "a": "dict(b={'c': nn.SiLU})",
        "b": "dict(**{'c': 1})",
        "c": {},
        "d": {"a": 1},
        "e": "dict(a=1)",
    }


def test_the_command_line_says_what_a_file_says() -> None:
    said = ["--out", "x", "--env", ENV, "--algo", "mbpo", "--seed", "0", "1", "--n-timesteps", "90", "--eval-freq", "30"]
    said += [
        "--eval-episodes",
        "2",
        "--save-freq",
        "45",
        "--device",
        "cpu",
        "--num-threads",
        "2",
        "--gym-packages",
        "gymnasium",
    ]
    given = vars(command._parser().parse_args([*said, "--params", *(f"{name}:{value!r}" for name, value in MBPO.items())]))
    words, _ = command.read_words(None, {name: value for name, value in given.items() if name not in ("out", "file")})
    expected = {"env": ENV, "algo": "mbpo", "seed": [0, 1], "n_timesteps": 90, "eval_freq": 30, "eval_episodes": 2}
    expected |= {"save_freq": 45, "device": "cpu", "num_threads": 2, "gym_packages": "gymnasium", "params": MBPO}
    assert make_runs(words) == make_runs(expected)


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (["--algo", "mbpo", "--params", "weighter_kwargs:dict(a=f)"], "weighter_kwargs='dict(a=f)' is not allowed"),
        (["--params", "tau"], "params='tau' is not allowed; allowed: NAME:VALUE"),
        (["--params", "tau:{"], "params='tau:{' is not allowed"),
        (["--params", "tau:{[]: 1}"], "params='tau:{[]: 1}' is not allowed"),
        (["--params", "tau:2020-13-45"], "params='tau:2020-13-45' is not allowed"),
        (["--gym-packages", ".relative"], "gym_packages='.relative' cannot be imported"),
        (["--grid", "tau:0.1"], "grid.tau=0.1 is not allowed"),
        (["--cpus", "0"], "cpus=0 is not allowed"),
        (["--gpus", "-1"], "gpus=-1.0 is not allowed"),
        (["--retries", "-1"], "retries=-1 is not allowed"),
        (["--n-jobs", "0"], "n_jobs=0 is not allowed"),
        (["--file", "missing.yml"], "file='missing.yml' cannot be read"),
        (["--env", "Hoper-v5"], "env='Hoper-v5' is not allowed"),
    ],
)
def test_what_is_wrong_is_one_line(
    words: list[str], named: str, tmp_path: Path, connections: list[Any], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit, match="2"):
        command.main(["--out", str(tmp_path / "out"), "--env", ENV, "--algo", "sac", *words])
    assert named in capsys.readouterr().err and connections == [] and not (tmp_path / "out").exists()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_stops_the_sweep_with_one_line(
    number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Ctrl-C, or SIGTERM of Slurm: while an engine is there whose handler ends the process, as Ray's does."""

    def stop(run: RunSpec, folder: Path) -> Outcome:
        signal.raise_signal(number)
        return Outcome("done")

    @contextmanager
    def connected(**resources: Any) -> Iterator[InThisProcess]:
        before = signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(number))
        yield InThisProcess(stop)
        signal.signal(signal.SIGTERM, before)

    monkeypatch.setattr(command, "connected", connected)
    before = signal.getsignal(signal.SIGTERM)
    interrupt = signal.signal(signal.SIGINT, signal.default_int_handler)  # it is ignored where the tests run in the background
    try:
        assert command.main(["--out", str(tmp_path / "out"), "--env", ENV, "--algo", "sac"]) == 130
    finally:
        signal.signal(signal.SIGTERM, before)
        signal.signal(signal.SIGINT, interrupt)
    assert f"stopped; the same command goes on with {tmp_path / 'out'}\n" in capsys.readouterr().out
    assert [row["state"] for row in results(tmp_path / "out")["table"]] == ["waiting"]


@pytest.mark.parametrize("address", ["127.0.0.1:1", "127.0.0.1", "local", "[::1]:x"])
def test_a_cluster_that_is_not_there_is_named_at_once(address: str) -> None:
    settings = {"cpus": 1, "gpus": 0, "num_threads": 1, "n_jobs": None}
    with pytest.raises(ValueError, match=re.escape(f"address={address!r} is not allowed")), connected(address, **settings):
        pass


class Ray(SimpleNamespace):
    """A Ray of some machines that runs nothing."""

    def __init__(self, *machines: dict[str, float]) -> None:
        nodes = [{"Alive": True, "Resources": machine} for machine in machines]
        nodes.append({"Alive": False, "Resources": {"CPU": 64.0, "GPU": 8.0}})
        total = {name: sum(machine.get(name, 0.0) for machine in machines) for name in ("CPU", "GPU")}
        nothing: Any = lambda *_, **__: None  # noqa: E731
        super().__init__(init=nothing, nodes=lambda: nodes, cluster_resources=lambda: {k: v for k, v in total.items() if v})
        self.remote, self.is_down = (lambda **_: nothing), False

    def shutdown(self) -> None:
        self.is_down = True


def test_gpus_that_this_machine_lacks_are_refused_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ray would wait for them forever."""
    for gpus, has, said in (1, {"CPU": 2.0}, "gpus=1 .*finds 0"), (1.5, {"CPU": 2.0, "GPU": 1.0}, r"gpus=1\.5 .*at most 1"):
        ray = Ray(has)
        monkeypatch.setitem(sys.modules, "ray", ray)
        with pytest.raises(ValueError, match=f"{said}"), connected(None, None, gpus=gpus):
            pass
        assert ray.is_down
    with connected(None, None, gpus=0.5):
        pass


def test_a_cluster_without_a_machine_for_a_run_is_said(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """It may get one; the machines together do not count, nor do those that are lost."""
    monkeypatch.setitem(sys.modules, "ray", Ray({"CPU": 2.0}, {"CPU": 1.0, "GPU": 1.0}))
    for cpus, gpus, said in (1, 1, ""), (3, 0, "cpus=3 and gpus=0"), (2, 0.5, "cpus=2 and gpus=0.5"):
        with connected("auto", None, cpus, gpus):
            pass
        line = f"no machine of the cluster has {said}: runs wait until one joins that has\n"
        assert capsys.readouterr().out == (line if said else "")


def test_a_machine_that_lacks_the_sweeps_folder_says_so(tmp_path: Path) -> None:
    (run,) = make_runs({"env": ENV, "algo": "sac"})
    outcome = run_there(run, tmp_path / "out")
    assert (outcome.state, outcome.is_final) == ("failed", True) and f"out='{tmp_path}/out' is not there" in outcome.error
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "text", ["[1]", "{envs: Hopper-v5}", "{env: [}", "!!python/object/apply:os.getcwd []", "{1: 2}", "seed: 2020-13-45"]
)
def test_a_file_that_is_no_sweep_is_named_and_runs_no_code(text: str, tmp_path: Path) -> None:
    (tmp_path / "sweep.yml").write_text(text)
    with pytest.raises(ValueError, match=r"file='.*sweep\.yml'"):
        command.read_words(tmp_path / "sweep.yml", {})


@pytest.mark.parametrize("name", ["params", "grid"])
@pytest.mark.parametrize("entry", ["{gamma: 0.99}", "3", "[gamma]", "null"])
def test_an_entry_of_a_list_that_is_no_pair_is_named(name: str, entry: str, tmp_path: Path) -> None:
    (tmp_path / "sweep.yml").write_text(f"{{env: {ENV}, algo: sac, {name}: [{entry}]}}")
    allowed = re.escape("is not allowed; allowed: NAME:VALUE, or in a file a mapping of names to values")
    with pytest.raises(ValueError, match=f"^{name}=.* {allowed}"):
        command.read_words(tmp_path / "sweep.yml", {})


def test_a_folder_of_another_sweep_is_refused_by_name(
    tmp_path: Path, connections: list[Any], capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["--out", str(tmp_path), "--env", ENV, "--algo", "ppo", "--params", "n_steps:64", "batch_size:64", "n_envs:1"]
    assert command.main([*words, "--n-timesteps", "64"]) == 0
    before = results(tmp_path)
    with pytest.raises(SystemExit, match="2"):
        command.main([*words, "--n-timesteps", "128"])
    assert f"out='{tmp_path}' is of another sweep: {ENV}/ppo/seed_0 has n_timesteps=64, not 128" in capsys.readouterr().err
    assert results(tmp_path) == before


def test_a_run_that_failed_is_in_the_exit_code_and_in_the_table(tmp_path: Path, connections: list[Any]) -> None:
    words = ["--out", str(tmp_path), "--env", ENV, "--algo", "mbpo", "--n-timesteps", "100", "--params", "real_ratio:2"]
    assert command.main(words) == 1
    (row,) = results(tmp_path)["table"]
    assert row["state"] == "failed" and "real_ratio=2" in row["error"]
