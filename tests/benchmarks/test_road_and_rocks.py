"""The offline experiment: its data, that only the model teaches the policy, and a page that agrees with its tables."""

from pathlib import Path

import numpy as np
import pytest
import road_and_rocks as experiment
import road_and_rocks_page as page
import torch as th
from road_and_rocks import DATASETS, Data

from sb3_tom.callbacks.tables import read_table, write_table
from sb3_tom.envs.road_and_rocks import START, on_road

RESULTS = Path(__file__).parents[2] / "docs" / "results"


@pytest.fixture(autouse=True)
def _small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(experiment, "N_RANDOM", 500)


def test_the_buffer_covers_the_map_and_the_footprint_is_the_last_trajectory() -> None:
    agent = experiment.make_agent("uniform", DATASETS["paper"], 0)
    footprint = experiment.fill(agent, DATASETS["paper"], 0)
    data = agent.replay_buffer.transitions()
    assert on_road(data.observations[:500]).float().mean() == pytest.approx(0.15, abs=0.06)
    assert bool(on_road(footprint.observations).all())
    assert th.equal(footprint.observations, data.observations[-footprint.size :])
    assert float(footprint.terminated.sum()) == 1.0 == float(footprint.terminated[-1])
    starts = agent.replay_buffer.start_observations()
    assert starts.shape == (5, 2)
    assert float((starts - th.tensor(START)).abs().max()) <= 0.05, "random places are no starts of the task"


def test_fewer_and_wrong_rows() -> None:
    for data, size in ((Data(experts=1, footprint=10), 10), (Data(footprint=8, wrong=0.5), 8)):
        agent = experiment.make_agent("uniform", data, 0)
        footprint = experiment.fill(agent, data, 0)
        assert footprint.size == size
        ends = np.flatnonzero(agent.replay_buffer.dones[: agent.replay_buffer.size()])
        random_rows = agent.replay_buffer.transitions().observations[: ends[-data.experts - 1] + 1]
        wrong = sum(bool((random_rows == row).all(1).any()) for row in footprint.observations)
        assert wrong == round(data.wrong * size)


def test_a_run_leaves_its_files_and_never_learns_from_real_transitions(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(experiment, "EVAL_FREQ", 50)
    batches = []
    original = experiment.MBPO.train_policy
    monkeypatch.setattr(experiment.MBPO, "train_policy", lambda agent, steps: (batches.append(agent), original(agent, 2))[1])
    experiment.run("paper", "ratio", 0, tmp_path, 100)
    rows = read_table(tmp_path / "paper_ratio_seed0.csv")
    assert [row["env_step"] for row in rows] == ["0", "50", "100"]
    assert batches and all(agent.real_ratio == 0.0 and agent.num_timesteps == 0 for agent in batches)
    (figures,) = read_table(tmp_path / "paper_ratio_seed0_figures.csv")
    assert float(figures["road_weight"]) > 1.0 > float(figures["rocks_weight"])
    assert np.loadtxt(tmp_path / "paper_ratio_seed0_map.csv", delimiter=",").shape == (20, 20)


def test_map_of_weights() -> None:
    agent = experiment.make_agent("uniform", DATASETS["paper"], 0)
    experiment.fill(agent, DATASETS["paper"], 0)
    places = agent.replay_buffer.transitions().observations
    weights = (places[:, 1] > 0.9).float() * 3.0  # the northern edge
    grid = experiment.weight_map(agent, weights)
    assert np.nanmin(grid[0]) == np.nanmax(grid[0]) == 3.0
    assert np.nanmax(grid[1:]) == 0.0


def test_tables_keep_the_methods_that_have_no_runs_here(tmp_path: Path) -> None:
    def leave_run(name: str, data: str, method: str, value: float) -> None:
        labels = {"data": data, "method": method, "seed": 0, "env_step": 0}
        for part, column in (("", "return_mean"), ("_figures", "ess")):
            path = runs / f"{name}{part}.csv"
            write_table(path, [*labels, column], [labels | {column: value}])
        np.savetxt(runs / f"{name}_map.csv", np.full((2, 2), value), delimiter=",")

    runs, out = tmp_path / "runs", tmp_path / "out"
    runs.mkdir()
    leave_run("few_tom_seed0", "few", "tom", 1.0)
    leave_run("few_ratio_seed0", "few", "ratio", 2.0)
    page.collect(runs, out)
    for path in runs.iterdir():
        path.unlink()
    leave_run("few_tom_seed0", "few", "tom", 3.0)
    leave_run("paper_tom_seed0", "paper", "tom", 4.0)
    page.collect(runs, out)
    for name, column, n_rows in (("curves", "return_mean", 1), ("figures", "ess", 1), ("maps", "weight", 4)):
        rows = read_table(out / f"{name}.csv")
        found = [(row["data"], row["method"], float(row[column])) for row in rows]
        assert found[::n_rows] == [("few", "ratio", 2.0), ("few", "tom", 3.0), ("paper", "tom", 4.0)]
        assert len(found) == 3 * n_rows


def test_page_agrees_with_its_tables() -> None:
    """`python benchmarks/road_and_rocks.py page` has been run since the tables changed."""
    curves, figures = (read_table(RESULTS / "road_and_rocks" / f"{name}.csv") for name in ("curves", "figures"))
    text = (RESULTS / "road_and_rocks.md").read_text()
    assert text.partition(page.MARKER)[2] == page.tables(curves, figures)
    for name in ("curves.png", "maps.png"):
        assert (RESULTS / "road_and_rocks" / name).exists()
        assert f"(road_and_rocks/{name})" in text
