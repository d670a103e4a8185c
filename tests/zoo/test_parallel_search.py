"""One search by several processes: a study in a real PostgreSQL, shared by two of the zoo's commands."""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest

pytest.importorskip("rl_zoo3", reason="rl_zoo3 is not installed: pip install 'sb3_tom[zoo]'")
pytest.importorskip("psycopg", reason="psycopg is not installed: pip install 'psycopg[binary]'")

import optuna
import psycopg

from sb3_tom.zoo.converters import convert_params
from tests.zoo.postgres import Server, find_binaries, postgres_server
from tests.zoo.small import experiment

ROOT = Path(__file__).parents[2]
BINARIES = find_binaries()
pytestmark = [
    pytest.mark.expensive,
    pytest.mark.skipif(BINARIES is None, reason="no PostgreSQL server (initdb, pg_ctl, postgres) on this machine"),
]


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    assert BINARIES is not None
    with postgres_server(BINARIES) as server:
        for name, value in server.environment.items():
            monkeypatch.setenv(name, value)
        yield server


def connect(server: Server) -> "psycopg.Connection[tuple[int]]":
    return psycopg.connect(server.url.replace("+psycopg", ""))


def test_server_asks_for_a_password_and_is_gone_afterwards(monkeypatch: pytest.MonkeyPatch) -> None:
    assert BINARIES is not None
    with postgres_server(BINARIES) as server:
        with pytest.raises(psycopg.OperationalError, match="password"):
            connect(server)
        for name, value in server.environment.items():
            monkeypatch.setenv(name, value)
        with connect(server) as connection:
            ((version,),) = connection.execute("SHOW server_version_num").fetchall()
            assert int(version) >= 100_000
            ((data,),) = connection.execute("SHOW data_directory").fetchall()
    with pytest.raises(psycopg.OperationalError, match="refused"):
        connect(server)
    assert not Path(data).exists()


def start_worker(server: Server, folder: Path) -> "subprocess.Popen[str]":
    options = f"--algo mbpo_pmac --env Pendulum-v1 -n 120 -f {folder} --storage {server.url} --study-name s --device cpu"
    search = "-optimize --n-trials 2 --n-startup-trials 4 --n-evaluations 1 --eval-episodes 1 --no-optim-plots"
    small = "-params learning_starts:100 buffer_size:1000 rollout_batch_size:200 dynamics:'linear'"
    command = [sys.executable, "-m", "sb3_tom.train", *f"{options} {search} {small}".split()]
    env = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(command, cwd=folder, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def test_two_processes_share_one_search(server: Server, tmp_path: Path) -> None:
    pytest.importorskip("pandas", reason="pandas is not installed: Optuna needs it for the report that the zoo writes")
    optuna.create_study(storage=server.url, study_name="s", direction="maximize")  # the tables, before both ask for them
    workers = [start_worker(server, tmp_path) for _ in range(2)]
    outputs = [worker.communicate(timeout=1800)[0] for worker in workers]
    assert [worker.returncode for worker in workers] == [0, 0], "\n".join(outputs)

    ran = [[int(number) for number in re.findall(r"Trial (\d+) (?:finished|pruned)", output)] for output in outputs]
    assert sorted(ran[0] + ran[1]) == [0, 1, 2, 3] and len(ran[0]) == len(ran[1]) == 2
    study = optuna.load_study(storage=server.url, study_name="s")
    allowed = {optuna.trial.TrialState.COMPLETE, optuna.trial.TrialState.PRUNED}
    assert len(study.trials) == 4 and {trial.state for trial in study.trials} <= allowed
    spans = sorted((trial.datetime_start, trial.datetime_complete) for trial in study.trials)
    assert any(second[0] < first[1] for first, second in pairwise(spans)), "the workers took turns"
    with connect(server) as connection:
        assert connection.execute("SELECT count(*) FROM trials").fetchall() == [(4,)]

    hyperparams = {"buffer_size": 10}
    manager = experiment(tmp_path, "mbpo_pmac", storage=server.url, study_name="s", trial_id=3, hyperparams=hyperparams)
    agent, _ = manager.setup_experiment()
    assert agent.weighter.alpha == convert_params(study.trials[3].params)["weighter_kwargs"]["alpha"]
