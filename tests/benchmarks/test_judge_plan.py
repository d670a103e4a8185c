"""What a claim needs to be true, on runs whose verdict is known."""

import judge
import numpy as np
import pytest
from curves_methods import METHODS, TASKS, VARIANTS
from judge_plan import CLAIMS, HOPPER, PUBLISHED, SEEDS, STUDIES
from judge_rules import AsPublished, Better, BetterSomewhere, Reaches, Runs, differences, published_mean, window_mean

from sb3_tom.plots.statistics import LEAST_SEEDS

BETTER = Better("a is better", "us", HOPPER, "a", "b", (0, 100))


def flat(values: dict[str, list[float]]) -> dict[str, Runs]:
    """Runs that stay at one return."""
    runs = {method: {10 + k: {50: value, 100: value} for k, value in enumerate(ones)} for method, ones in values.items()}
    return {HOPPER: runs}


def test_a_run_counts_by_its_mean_over_the_window_ends_included() -> None:
    curve = {1: 100.0, 2: 1.0, 3: 2.0, 4: 3.0, 5: 100.0}
    assert window_mean(curve, (2, 4)) == 2.0
    assert np.isnan(window_mean(curve, (6, 9)))


def test_methods_are_compared_on_the_seeds_that_both_have() -> None:
    runs = {"a": {10: {50: 3.0}, 12: {50: 5.0}}, "b": {12: {50: 1.0}, 13: {50: 0.0}}}
    assert differences(runs, "a", "b", (0, 100)).tolist() == [4.0]
    assert differences(runs, "a", "nobody", (0, 100)).tolist() == []


@pytest.mark.parametrize(
    ("gains", "word"),
    [
        ([1.0, 1.1, 0.9, 1.0, 1.2, 0.8, 1.0], "yes"),
        ([-1.0, -1.1, -0.9, -1.0, -1.2, -0.8, -1.0], "no, it is worse"),
        ([5.0, -1.1, 0.9, -1.0, 1.2, -0.8, 1.0], "not shown"),
        ([0.0] * 7, "not shown"),
        ([1.0] * 6, "too few seeds yet"),
        ([], "too few seeds yet"),
    ],
)
def test_better_is_what_the_interval_of_the_differences_says(gains: list[float], word: str) -> None:
    """Seeds differ by far more than methods do: only a comparison seed by seed sees it."""
    base = [1000.0 * k for k in range(len(gains))]
    verdict = BETTER.verdict(flat({"a": [b + g for b, g in zip(base, gains, strict=True)], "b": base}))
    assert (verdict.word, verdict.seeds) == (word, len(gains))


def test_the_interval_is_students() -> None:
    """1 to 7: mean 4, standard error 2.160 / sqrt(7), quantile of six degrees of freedom 2.447."""
    verdict = BETTER.verdict(flat({"a": [float(k) for k in range(1, 8)], "b": [0.0] * 7}))
    assert verdict.evidence.startswith("+4 [+2, +6]")
    assert 4 - 2.447 * 2.160 / 7**0.5 == pytest.approx(2.0, abs=0.01)


@pytest.mark.parametrize(
    ("gains", "word"),
    [
        ({"b": 1.0, "c": 0.0}, "yes"),
        ({"b": 1.0, "c": -1.0}, "no"),
        ({"b": 0.0, "c": 0.0}, "not shown"),
        ({"b": 1.0}, "too few seeds yet"),
    ],
)
def test_no_harm_and_one_gain(gains: dict[str, float], word: str) -> None:
    others = [Better("", "us", HOPPER, "a", other, (0, 100)) for other in ("b", "c")]
    base = [5.0 + k for k in range(7)]
    runs = flat({"a": base, **{name: [value - gain for value in base] for name, gain in gains.items()}})
    assert BetterSomewhere("a helps", "us", tuple(others)).verdict(runs).word == word


@pytest.mark.parametrize(
    ("returns", "word"),
    [
        ([2000.0] * 7, "yes"),
        ([1600.0] * 7, "no"),  # the mean is too low
        ([9000.0] + [1400.0] * 6, "no"),  # one seed alone makes the mean
        ([2500.0] * 5 + [100.0] * 2, "yes"),  # five of seven
        ([4000.0] * 4 + [100.0] * 3, "no"),  # four of seven
        ([2000.0] * 6, "too few seeds yet"),
    ],
)
def test_returns_are_reached_by_the_mean_and_by_two_thirds_of_the_seeds(returns: list[float], word: str) -> None:
    claim = Reaches("a hops", "us", HOPPER, "a", (0, 100), 1_800.0, 1_500.0)
    assert claim.verdict(flat({"a": returns})).word == word


def test_a_published_curve_is_averaged_as_a_run_is() -> None:
    """DHMBPO on Hopper: 164.2 at 5,000, 594.7 at 10,000, 1,348.0 at 15,000; it says nothing of what is before."""
    curve = "DHMBPO", "Hopper-v4"
    assert published_mean(*curve, [5_000, 10_000]) == pytest.approx((164.2 + 594.7) / 2)
    assert published_mean(*curve, [6_000]) == pytest.approx(164.2 + (594.7 - 164.2) / 5)
    assert published_mean(*curve, [10_000, 12_500, 15_000]) == pytest.approx((594.7 + (594.7 + 1348.0) / 2 + 1348.0) / 3)
    assert np.isnan(published_mean(*curve, range(2_000, 10_001, 1_000)))
    assert np.isnan(published_mean(*curve, [10_000_000]))


@pytest.mark.parametrize(
    ("shift", "spread", "word"),
    [(0.1, 100.0, "yes"), (-60.0, 100.0, "not shown"), (-60.0, 10.0, "no"), (-500.0, 100.0, "no")],
)
def test_a_replica_is_as_published_and_less_is_not(shift: float, spread: float, word: str) -> None:
    """Seven seeds evenly about the published mean, moved; the interval's half width is 2.0 of the spacing."""
    steps = range(0, 25_001, 1_000)
    mean = published_mean("DHMBPO", "Hopper-v4", range(5_000, 25_001, 1_000))
    runs = {10 + k: dict.fromkeys(steps, mean + shift + spread * (k - 3) / 3) for k in range(7)}
    claim = AsPublished("a is as published", "them", HOPPER, "a", ("DHMBPO", "Hopper-v4"), PUBLISHED)
    assert claim.verdict({HOPPER: {"a": runs}}).word == word
    assert claim.verdict({HOPPER: {"a": {10: runs[10]}}}).word == "too few seeds yet"


def test_the_plan_can_be_run_and_decides_its_claims() -> None:
    seeds: dict[tuple[str, str], set[int]] = {}
    for study in STUDIES.values():
        assert study.task in TASKS and {*study.methods, *study.beside} <= {*METHODS, *VARIANTS}
        assert min(study.seeds) >= 10, "seeds below choose"
        assert study.seeds == study.judged(()) and all(low < high <= study.steps for low, high in study.windows)
        for method in study.methods:
            assert (study.task, method) not in seeds, "a run is of one study"
            seeds[study.task, method] = set(study.seeds)
    for study in STUDIES.values():
        assert all(set(study.seeds) <= seeds[study.task, method] for method in study.beside)
    for claim in CLAIMS:
        for task, method in claim.needs:
            assert len(seeds[task, method]) >= LEAST_SEEDS, f"{claim.text}: {method}"


def test_the_next_seed_takes_the_place_of_what_is_spoilt() -> None:
    study = STUDIES["hopper_mbpo"]
    assert study.judged(()) == (10, 11, 12)
    assert study.judged({11, 13}) == (10, 12, 14)


def test_the_command_line_takes_a_study_or_a_part_of_it() -> None:
    whole = judge.make_jobs(judge.parse_arguments(["run", "--study", "walker"]))
    study = STUDIES["walker"]
    assert [(job.seed, job.method) for job in whole] == [(seed, method) for seed in study.seeds for method in study.methods]
    assert {(job.task, job.steps, job.eval_freq) for job in whole} == {("Walker2d-v5", 25_000, 1_000)}
    (job,) = judge.make_jobs(judge.parse_arguments("run --study hopper --method dhmbpo --seed 16".split()))
    assert (job.method, job.seed, job.eval_freq) == ("dhmbpo", 16, 1_000)
    assert SEEDS == tuple(range(10, 17))
