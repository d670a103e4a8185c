"""
Weights against known answers. A null says whether weights are made up, and passes also with a weighter that knows nothing:
beside each stands the same with a difference that has to be seen.
"""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch as th
import weights_truth
from weights_truth import BEFORE, DATA, SIZES, fitted_weights, measure
from weights_truth_data import SPREAD, Known, LinearSystem, Policy, linear_system

from sb3_tom.callbacks.tables import read_table
from sb3_tom.weighters.tom.weighter import TOMWeighter

RESULTS = Path(__file__).parents[2] / "docs" / "results"
SEEDS = range(5)
NULLS = ("Humanoid-v5, one policy", "Hopper-v5, one policy", "HalfCheetah-v5, one policy, episodes of 100 steps")


def test_the_page_is_that_of_the_table() -> None:
    page = (RESULTS / "weights_truth.md").read_text()
    between = page.partition(weights_truth.BEGIN + "\n")[2].partition(weights_truth.END)[0]
    assert between == weights_truth.page_text(read_table(RESULTS / "weights_truth.csv"))


def test_run_measures_what_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []

    def few(seed: int) -> weights_truth.Known:
        asked.append(seed)
        return linear_system(2, 1, "shift", seed, n_rows=1200)

    monkeypatch.setattr(weights_truth, "DATA", {"few rows": few})
    monkeypatch.setattr(
        weights_truth, "VARIANTS", {"one": {"discriminator_steps": 5}, "two": {"folds": 1, "discriminator_steps": 5}}
    )
    table = tmp_path / "weights_truth.csv"
    weights_truth.run(["few rows"], ["one"], [0], table)
    weights_truth.run(["few rows"], ["one", "two"], [0, 1], table)
    weights_truth.run(["few rows"], ["one", "two"], [0, 1], table)
    assert [(row["variant"], row["seed"]) for row in read_table(table)] == [
        ("one", "0"),
        ("two", "0"),
        ("one", "1"),
        ("two", "1"),
    ]
    assert asked == [0, 0, 1]


def test_ratio_by_formula_is_that_of_the_rows() -> None:
    """E_D[f d^pi / d^D] is the mean of f over the policy's own rows, for f = 1, states, actions and their squares."""
    known = linear_system(3, 2, "shift", 0, n_rows=40_000, n_recent=20_000)
    weights = np.exp(known.log_ratio)
    assert weights.mean() == pytest.approx(1.0, abs=0.03)
    columns = th.cat([known.data.observations, known.data.actions], dim=1).numpy()
    for power in (1, 2):
        expected = (columns[20_000:] ** power).mean(0)
        np.testing.assert_allclose((weights[:, None] * columns**power).mean(0), expected, atol=0.05)
        assert np.abs((columns**power).mean(0) - expected).max() > 0.1 or power == 2


@pytest.mark.parametrize("kind", ["shift", "gain"])
@pytest.mark.parametrize("size", SIZES)
def test_policies_are_as_far_apart_as_they_should_be(kind: str, size: int) -> None:
    known = linear_system(size, SIZES[size], kind, 1, n_rows=4000, n_recent=400)
    ratio = np.exp(known.log_ratio)
    log_p_over_q = np.log(0.9 * ratio / (1 - 0.1 * ratio))  # of p to the first policy's q, where d^D = 0.9 q + 0.1 p
    assert log_p_over_q[:3600].std() == pytest.approx(SPREAD, rel=0.15)


def test_states_are_stationary() -> None:
    rng = np.random.default_rng(0)
    system, policy = LinearSystem(3, 2, rng), Policy(0.1 * rng.normal(size=(2, 3)), np.array([0.3, -0.2]))
    states = np.array([step[0] for step in system.run(policy, 30_000, rng)])
    mean, covariance = system.stationary(policy)
    np.testing.assert_allclose(states.mean(0), mean, atol=0.03)
    np.testing.assert_allclose(np.cov(states.T), covariance, atol=0.03)


def test_a_quick_null_with_its_power() -> None:
    """The first policy's rows alone have weights of 1; with the second one's its rows weigh nearly what they should."""
    both = linear_system(45, 17, "shift", 0, n_rows=6000)
    alone = both._replace(data=both.data.rows(th.arange(5000)), log_ratio=None)
    made_up, seen = measure(alone, 0, {}), measure(both, 0, {})
    assert 0.85 <= made_up["newest"] <= 1.15
    assert made_up["ess"] >= 0.85
    assert seen["newest"] >= 0.7 * np.exp(both.log_ratio[-1000:]).mean()
    assert measure(alone, 0, BEFORE)["newest"] > 1.15, "the test can fail"


def test_a_quick_ratio_by_formula() -> None:
    figures = measure(linear_system(4, 2, "shift", 0), 0, {})
    assert figures["rank"] >= 0.95
    assert 0.8 <= figures["slope"] <= 1.2


def test_a_changed_gain_is_seen_with_the_policy_as_an_input() -> None:
    """A gain changes no mean: a thousand rows do not show it to a network, but the policy itself tells it."""
    known = linear_system(17, 6, "gain", 0, n_rows=6000)
    assert measure(known, 0, {"policy_input": True})["rank"] >= 0.75
    assert measure(known, 0, {})["rank"] <= 0.5, "the test can fail"
    alone = known._replace(data=known.data.rows(th.arange(5000)), log_ratio=None)
    made_up = measure(alone, 0, {"policy_input": True})
    assert 0.85 <= made_up["newest"] <= 1.15
    assert made_up["ess"] >= 0.85


def over_seeds(name: str) -> Callable[[str], np.ndarray]:
    found = [measure(DATA[name](seed), seed, {}) for seed in SEEDS]
    return lambda column: np.array([figures[column] for figures in found])


@pytest.mark.expensive
@pytest.mark.parametrize("name", NULLS)
def test_one_policy_has_weights_of_one(name: str) -> None:
    column = over_seeds(name)
    assert 0.93 <= column("newest").mean() <= 1.07
    assert ((column("newest") >= 0.85) & (column("newest") <= 1.15)).all(), column("newest")
    assert np.median(column("ess")) >= 0.85


@pytest.mark.expensive
def test_one_policy_has_weights_of_one_where_whole_episodes_stay_in_a_fold() -> None:
    """HalfCheetah's episodes differ as wholes: in the body's mean angle for example."""
    whole = weights_truth.VARIANTS["whole_episodes"]
    found = [measure(DATA["HalfCheetah-v5, one policy, five episodes"](seed), seed, whole) for seed in range(10)]
    newest = np.array([figures["newest"] for figures in found])
    assert 0.93 <= newest.mean() <= 1.07
    assert ((newest >= 0.85) & (newest <= 1.15)).all(), newest
    assert np.median([figures["ess"] for figures in found]) >= 0.85
    seen = measure(DATA["HalfCheetah-v5, mean action + 0.3, five episodes"](0), 0, whole)
    assert seen["newest"] >= 0.7 * 4


@pytest.mark.expensive
def test_toms_weights_are_flat_over_the_time_in_whole_episodes() -> None:
    """With a learned log-ratio. Where the footprint is one episode, seed 3's differs from the others."""

    def quarters(known: Known, seed: int, **arguments: int) -> th.Tensor:
        weights = fitted_weights(TOMWeighter(**arguments), known, seed, known.data.observations[::1000])
        return weights.view(-1, 4, 250).mean((0, 2))

    data = DATA["HalfCheetah-v5, one policy, five episodes"]
    for seed in SEEDS:
        flat = quarters(data(seed), seed, **weights_truth.VARIANTS["whole_episodes"])
        assert ((flat >= 0.8) & (flat <= 1.25)).all(), (seed, flat)
    tilted = quarters(data(3)._replace(n_recent=1000), 3)
    assert tilted[0] < 0.8 and tilted[3] > 1.25, "the test can fail"


@pytest.mark.expensive
@pytest.mark.parametrize("task", ["Humanoid-v5", "Hopper-v5", "HalfCheetah-v5"])
def test_another_policy_is_seen(task: str) -> None:
    assert over_seeds(f"{task}, mean action + 0.3")("newest").min() >= 7.0


@pytest.mark.expensive
@pytest.mark.parametrize(("size", "rank"), [(4, 0.95), (17, 0.9), (45, 0.75)])
def test_ratio_of_a_shifted_mean_action(size: int, rank: float) -> None:
    column = over_seeds(f"shift, {size} dimensions")
    assert np.median(column("rank")) >= rank
    if size <= 17:
        assert 0.8 <= np.median(column("slope")) <= 1.2
