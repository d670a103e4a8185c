"""Weighters on a curated buffer: its rows and their order, the figures, and a page that is that of the table."""

from pathlib import Path
from typing import Any

import curated_buffer
import numpy as np
import pytest
from curated_buffer import COLUMNS, MATCHES, N_BINS, TRUTH, figures
from curated_buffer_data import curated_buffer as make_buffer
from curated_buffer_data import policy_rows
from curves_jobs import Job, make_env
from run_checkpoints import same_backbone

from sb3_tom import MBPO
from sb3_tom.callbacks.tables import read_table
from sb3_tom.checkpoint import ResumeCallback

RESULTS = Path(__file__).parents[2] / "docs" / "results"
TINY: dict[str, Any] = {"dynamics": "linear", "rollout_batch_size": 20, "learning_starts": 30}
SETTINGS = {"tom": {"discriminator_steps": 5, "q_steps": 5, "average_steps": 50, "recent_size": 50}}


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The last checkpoint of a short run, whose episodes have 50 steps."""
    folder = tmp_path_factory.mktemp("runs") / "Reacher-v5" / "mbpo_seed3" / "checkpoints"
    agent = MBPO(
        "MlpPolicy",
        "Reacher-v5",
        buffer_size=200,
        policy_kwargs={"net_arch": [8]},
        model_train_freq=30,
        update_to_data_ratio=1,
        seed=3,
        **TINY,
    )
    agent.learn(100, callback=ResumeCallback(folder, 50))
    return folder / "checkpoint_100_steps.zip"


def test_random_rows_come_before_the_run(checkpoint: Path) -> None:
    env = make_env(Job("Reacher-v5", "mbpo", 0, 0, 0, {}))()
    driver = MBPO.resume(checkpoint, env, device="cpu")
    own = driver.replay_buffer.transitions()
    buffer = make_buffer(driver, env)
    rows = buffer.transitions()
    assert rows.size == 200
    for found, expected in zip(rows, own, strict=True):
        assert (found[100:] == expected).all()
    assert (rows.policy_version[:100] == 0).all()
    assert rows.policy_version[-1] > 1
    assert rows.truncated[[49, 99]].all(), "episodes end after 50 steps"
    assert rows.truncated[:100].sum() == 2
    continues = (rows.observations[1:] == rows.next_observations[:-1]).all(1)
    assert (continues == (rows.truncated[:-1] == 0).squeeze(1)).all()
    assert len(buffer.start_observations()) == 2 + 2
    assert abs(float(rows.actions[:100].mean())) < 0.15 and float(rows.actions[:100].abs().max()) > 0.95


def test_fresh_rows_are_the_policys_with_its_noise(checkpoint: Path) -> None:
    env = make_env(Job("Reacher-v5", "mbpo", 0, 0, 0, {}))()
    driver = MBPO.resume(checkpoint, env, device="cpu")
    rows, returns = policy_rows(driver, env, 150)
    assert len(returns) == 2 and rows.size == 150
    assert returns[0] == pytest.approx(float(rows.rewards[:50].sum()), rel=1e-3)
    again, _ = policy_rows(driver, env, 150)
    assert (again.actions == rows.actions).all()
    mean = driver.predict(rows.observations.numpy(), deterministic=True)[0]
    assert np.abs(driver.policy.scale_action(mean) - rows.actions.numpy()).mean() > 0.05


def test_each_weighter_is_asked_once(checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def small(job: Job) -> dict[str, Any]:
        name = job.method.removeprefix("mbpo_")
        return TINY | {"weighter": name, "weighter_kwargs": SETTINGS.get(name, {})}

    monkeypatch.setattr(Job, "agent_kwargs", small)
    monkeypatch.setattr(curated_buffer, "N_FOOTPRINT", 60)
    table = tmp_path / "out" / "curated_buffer.csv"
    curated_buffer.run([checkpoint], ["recency"], table, n_fresh=400)
    first = {row["method"]: row for row in read_table(table)}
    asked, measure = [], curated_buffer.measure

    def measured(path: Path, names: list[str], n_fresh: int) -> Any:
        asked.extend(names)
        return measure(path, names, n_fresh)

    monkeypatch.setattr(curated_buffer, "measure", measured)
    curated_buffer.run([checkpoint], ["recency", "pmac", "tom_fresh"], table, n_fresh=400)
    assert asked == ["pmac", "tom_fresh"]
    rows = {row["method"]: row for row in read_table(table)}
    assert list(rows) == [TRUTH, MATCHES, "tom_fresh", "pmac", "recency"]
    assert rows["recency"] == first["recency"] and rows["truth"] == first["truth"]
    for row in rows.values():
        means = np.array(row["bins"].split(), dtype=float)
        assert len(means) == N_BINS and means.mean() == pytest.approx(1.0, abs=0.02)
    ages = np.array(rows["recency"]["bins"].split(), dtype=float)
    assert (np.diff(ages) >= 0).all() and ages[-1] > ages[0]
    assert 0.0 < float(rows["truth"]["rank_rows"]) < 1.0, "of both halves of the fresh rows"


def test_the_settings_are_the_runs() -> None:
    """Of runs with changed settings too, as the page's commands name them."""
    job = same_backbone(Path("Hopper-v5/dhmbpo_gamma_0995_seed0/checkpoints/checkpoint_25000_steps.zip"), "tom", {"tau": 0.1})
    assert job.compared.weighter == "tom" and job.compared.agent.endswith("DHMBPO")
    assert (job.agent_kwargs()["gamma"], job.agent_kwargs()["tau"]) == (0.995, 0.1)
    job = same_backbone(Path("Hopper-v5/dhmbpo_pdml_seed0/checkpoints/checkpoint_25000_steps.zip"), "pmac", {})
    assert job.agent_kwargs()["weighter"] == "pmac"


def test_pdml_weighs_with_the_policies_of_its_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(curated_buffer, "N_FOOTPRINT", 60)
    folder = tmp_path / "Reacher-v5" / "mbpo_pdml_seed3" / "checkpoints"
    changes: dict[str, Any] = TINY | {"buffer_size": 200, "policy_kwargs": {"net_arch": [8]}, "update_to_data_ratio": 1}
    agent = MBPO("MlpPolicy", "Reacher-v5", model_train_freq=20, weighter="pdml", seed=3, **changes)
    agent.learn(200, callback=ResumeCallback(folder, 100))
    table = tmp_path / "curated_buffer.csv"
    curated_buffer.run([folder / "checkpoint_200_steps.zip"], ["pdml"], table, n_fresh=400)
    row = next(row for row in read_table(table) if row["method"] == "pdml")
    own = agent.fit_weights().double().numpy()
    run = np.array(row["bins"].split(), dtype=float)[N_BINS // 2 :]
    by_bins = np.array([part.mean() for part in np.array_split(own, N_BINS // 2)])
    assert np.corrcoef(run, by_bins)[0, 1] > 0.95 and run.std() > 0.1, "at other states, and with more rows of the warm-up"


def test_runs_without_pdml_have_no_line_of_it(checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(curated_buffer, "measure", lambda path, names, n_fresh: pytest.fail("nothing is missing"))
    known = {name: "1" for name in COLUMNS} | {"task": "Reacher-v5", "run": "mbpo_seed3", "env_step": "100"}
    table = tmp_path / "curated_buffer.csv"
    curated_buffer.write_table(table, COLUMNS, [known | {"method": name} for name in (TRUTH, MATCHES)])
    curated_buffer.run([checkpoint], ["pdml"], table, n_fresh=400)


def test_figures_of_known_weights() -> None:
    truth = np.concatenate([np.zeros(500), np.linspace(0.1, 3.0, 500)])
    same = figures(truth / truth.mean(), truth)
    assert [same[name] for name in curated_buffer.FIGURES] == ["1.000"] * 4
    assert float(same["random"]) == 0.0
    upside = figures(np.concatenate([np.zeros(500), np.linspace(3.0, 0.1, 500)]), truth)
    assert [upside[name] for name in ("run_rows", "run_bins")] == ["-1.000", "-1.000"]
    assert float(upside["rank_rows"]) > 0.0, "random rows are still told from the others"
    flat = figures(np.ones(1000), truth)
    assert (flat["rank_rows"], flat["ess"], flat["random"]) == ("0.000", "1.000", "0.500")
    assert flat["bins"].split() == ["1"] * N_BINS


def test_the_page_has_a_line_per_method(tmp_path: Path) -> None:
    line = {name: "0.5" for name in COLUMNS} | {"task": "Hopper-v5", "run": "a", "env_step": "1000", "rows": "2000"}
    bins = " ".join(["0.5"] * 75 + ["1.5"] * 25)
    rows = [line | {"method": method, "bins": bins, "return": "3000"} for method in (TRUTH, MATCHES, "tom")]
    curated_buffer.draw(rows, tmp_path / "curated_buffer.png")
    drawn = read_table(tmp_path / "curated_buffer_summary.csv")
    assert len(drawn) == 300 and drawn[-1]["weight"] == "1.5"
    text = curated_buffer.page_text(rows)
    assert "### Hopper-v5, a\n" in text and "After 1,000 env steps, mean return with noise 3000; 2,000 rows" in text
    assert "| `tom` | 0.50 | 0.50 | 0.50 | 0.50 | 0.50 | 0.50 | 1.00 |" in text, "the last is of the bins themselves"


def test_the_page_is_that_of_the_table() -> None:
    page = (RESULTS / "curated_buffer.md").read_text()
    between = page.partition(curated_buffer.BEGIN + "\n")[2].partition(curated_buffer.END)[0]
    table = RESULTS / "curated_buffer.csv"
    assert between == curated_buffer.page_text(read_table(table) if table.exists() else [])
