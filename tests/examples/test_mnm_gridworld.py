"""Mismatched No More on tables: its bound over random tasks, its best model, and each figure's claim."""

import csv
import runpy
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

FOLDER = Path(__file__).parents[2] / "examples"


@pytest.fixture
def example(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Names of both files."""
    monkeypatch.syspath_prepend(str(FOLDER))
    return SimpleNamespace(**runpy.run_path(str(FOLDER / "mnm_tables.py")) | runpy.run_path(str(FOLDER / "mnm_gridworld.py")))


def random_task(example: Any, rng: np.random.Generator) -> tuple[Any, np.ndarray, np.ndarray]:
    """A task, a policy and a model that goes wherever the world goes, of any kind."""
    n_states, n_actions = rng.integers(2, 6), rng.integers(1, 4)
    concentrations = rng.choice([0.1, 1.0, 10.0], 2)
    first, second = (rng.dirichlet(np.full(n_states, one), (n_states, n_actions)) for one in concentrations)
    transitions, model = 0.999 * first + 0.001 * second, 0.999 * second + 0.001 * first
    rewards = np.exp(rng.choice([0.1, 1.0, 3.0]) * rng.normal(size=(n_states, n_actions)))
    task = example.MDP(transitions, rewards, rng.dirichlet(np.ones(n_states)), rng.uniform(0.1, 0.99))
    return task, rng.dirichlet(np.ones(n_actions), n_states), model


def test_the_bound_holds_for_any_model_and_policy(example: Any) -> None:
    """Theorem 3.1, with Eq. 3. Not with Eq. 5: of those rewards the discounted sum is above the log return again and again."""
    rng, gaps, excesses = np.random.default_rng(0), [], 0
    for _ in range(500):
        task, policy, model = random_task(example, rng)
        lucky = example.best_model(task, rng.normal(size=len(task.start)))
        log_return = np.log(example.expected_return(task, policy))
        for one in (model, lucky, task.transitions):
            gaps.append(log_return - example.objective(task, policy, one, example.mnm_rewards(task)))
            excesses += example.objective(task, policy, one, example.approximate_rewards(task)) > log_return
    assert min(gaps) >= -1e-9 and min(gaps) < 0.01  # never violated, and not by far
    assert excesses > 50


def test_vmbpo_believes_in_luck(example: Any) -> None:
    """Its best objective of a policy is above the true return, by Jensen's inequality; with the true model it is that."""
    rng = np.random.default_rng(1)
    for _ in range(100):
        task, policy, _ = random_task(example, rng)
        truth = example.expected_return(task, policy)
        plain = example.vmbpo_rewards(task)
        assert example.objective(task, policy, task.transitions, plain) == pytest.approx(truth)
        values = np.zeros(len(task.start))
        for _ in range(3_000):
            values = (policy * example.backup(task, values, plain)).sum(1)
        model = example.best_model(task, values)
        believed = example.objective(task, policy, model, plain)
        assert believed == pytest.approx(float(task.start @ values), rel=1e-4)
        assert believed >= truth * (1.0 - 1e-9)


def test_no_other_model_is_better_than_the_best(example: Any) -> None:
    """Eq. 9 under the best classifier, with gamma V: the expected value of the next state and the logits."""
    rng = np.random.default_rng(2)
    for _ in range(200):
        task, _, other = random_task(example, rng)
        values = 3.0 * rng.normal(size=len(task.start))
        best = example.best_model(task, values)

        def worth(model: np.ndarray, task: Any = task, values: np.ndarray = values) -> np.ndarray:
            return (model * (task.gamma * values + np.log(task.transitions) - np.log(model))).sum(2)

        for step in (0.01, 0.3, 1.0):
            assert (worth(best) >= worth((1.0 - step) * best + step * other) - 1e-12).all()
        np.testing.assert_allclose(worth(best), example.backup(task, values, np.zeros_like(task.rewards)), atol=1e-9)


def test_rewards_have_to_be_above_zero(example: Any) -> None:
    task = example.windy()
    with pytest.raises(ValueError, match="rewards=0 is not allowed: MnM takes their logarithm; allowed: rewards above 0"):
        example.mnm_rewards(task._replace(rewards=0.0 * task.rewards))


def test_vmbpo_takes_a_risk_that_does_not_pay(example: Any) -> None:
    """By hand: left is 5 + 0.9 * 9 / 0.1 = 86; right is 81.03, the solution of m = 5 + 0.9 r, r = 10 + 0.45 (m + r)."""
    figures = {row["what"]: row["value"] for row in example.risk()}
    assert figures == {"best goes left": 86.0, "MnM goes left": 86.0, "VMBPO goes right": pytest.approx(81.034, abs=1e-3)}


def test_the_classifier_keeps_away_from_what_the_model_does_not_know(example: Any) -> None:
    figures = {row["what"]: row["value"] for row in example.coarse()}
    assert figures["with the classifier's term"] == pytest.approx(1.0) and figures["without"] < 0.01
    model = example.coarse_model(example.walled(), 9)
    np.testing.assert_allclose(model.sum(2), 1.0)
    cell = 0 * 9 + 3  # beside the wall: its block of nine has three cells that cannot go right
    assert model[cell, 0, cell] == pytest.approx(1 / 3) and model[cell, 0, cell + 1] == pytest.approx(2 / 3)


def test_beliefs_of_value_iteration(example: Any) -> None:
    courses: dict[str, list[float]] = {}
    for row in example.bound(30):
        courses.setdefault(row["what"], []).append(row["value"])
    assert (np.array(courses["MnM's objective"]) <= courses["log return of MnM's policy"]).all()
    assert (np.array(courses["VMBPO's objective"][5:]) > courses["log return of VMBPO's policy"][5:]).all()


def test_the_example_writes_its_figures(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason="matplotlib is not installed: pip install 'sb3_tom[plots]'")
    monkeypatch.syspath_prepend(str(FOLDER))
    monkeypatch.setattr(sys, "argv", ["mnm_gridworld.py", "--seeds", "2", "--updates", "400", "--out", str(tmp_path)])
    runpy.run_path(str(FOLDER / "mnm_gridworld.py"), run_name="__main__")
    with (tmp_path / "figures.csv").open() as file:
        panels = {row["panel"] for row in csv.DictReader(file)}
    assert panels == {"learning", "reuse, a goal nearby", "reuse, a goal elsewhere", "bound", "risk", "coarse"}
    assert (tmp_path / "figures.png").stat().st_size > 10_000


def test_committed_figures_say_what_the_page_says() -> None:
    """Means over the course of learning: what the page calls faster has to be ahead there."""
    with (FOLDER.parent / "docs" / "results" / "mnm_gridworld" / "figures.csv").open() as file:
        rows = [*csv.DictReader(file)]

    def mean(panel: str, what: str) -> float:
        return float(np.mean([float(row["value"]) for row in rows if (row["panel"], row["what"]) == (panel, what)]))

    first = {name: mean("learning", name) for name in ("Q-learning", "MnM", "VMBPO")}
    assert first["MnM"] > first["Q-learning"] + 0.05 and first["VMBPO"] < first["Q-learning"] - 0.2
    nearby = [mean("reuse, a goal nearby", name) for name in ("MnM's for the first task", "true dynamics")]
    elsewhere = [mean("reuse, a goal elsewhere", name) for name in ("MnM's for the first task", "true dynamics")]
    assert nearby[0] > nearby[1] and elsewhere[0] > elsewhere[1] - 0.02
