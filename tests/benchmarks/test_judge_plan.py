"""What a claim needs to be true, on runs whose verdict is known; the page is that of its tables."""

import dataclasses
from pathlib import Path

import judge
import judge_page
import numpy as np
import pytest
from curves_methods import METHODS, TASKS, VARIANTS
from judge_plan import CLAIMS, LATE, SEEDS, STUDIES, Better, Reaches, Runs, differences, window_mean

from sb3_tom.callbacks.tables import read_table
from sb3_tom.plots.statistics import LEAST_SEEDS

ROOT = Path(__file__).parents[2]
BETTER = Better("a is better", "us", "Hopper-v5", "a", "b", (0, 100))


def flat(values: dict[str, list[float]]) -> Runs:
    """Runs that stay at one return."""
    return {method: {10 + k: {50: value, 100: value} for k, value in enumerate(ones)} for method, ones in values.items()}


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
    claim = Reaches("a hops", "us", "Hopper-v5", "a", (((0, 100), 1_800.0),), 1_500.0)
    assert claim.verdict(flat({"a": returns})).word == word


def test_every_window_of_a_claim_about_returns_counts() -> None:
    claim = Reaches("a is early and late", "us", "Hopper-v5", "a", (((0, 50), 5.0), ((51, 100), 10.0)))
    runs = {"a": {seed: {50: 5.0, 100: 10.0} for seed in SEEDS}}
    assert claim.verdict(runs).word == "yes"
    runs["a"][10] = {50: 4.0, 100: 10.0}
    assert claim.verdict(runs).word == "no"


def test_the_plan_can_be_run_and_decides_its_claims() -> None:
    seeds: dict[tuple[str, str], set[int]] = {}
    for study in STUDIES.values():
        assert study.task in TASKS and set(study.methods) <= {*METHODS, *VARIANTS}
        assert min(study.seeds) >= judge.FIRST_SEED
        assert all(low < high <= study.steps for low, high in study.windows)
        for method in study.methods:
            before = seeds.setdefault((study.task, method), set(study.seeds))
            assert before == set(study.seeds), "a run is of one study"
    for claim in CLAIMS:
        methods = [claim.method] + ([claim.other] if isinstance(claim, Better) else [])
        for method in methods:
            assert len(seeds[claim.task, method]) >= LEAST_SEEDS, f"{claim.text}: {method}"


def test_the_command_line_takes_a_study_or_a_part_of_it() -> None:
    whole = judge.make_jobs(judge.parse_arguments(["run", "--study", "walker"]))
    study = STUDIES["walker"]
    assert [(job.seed, job.method) for job in whole] == [(seed, method) for seed in study.seeds for method in study.methods]
    assert {(job.task, job.steps, job.eval_freq) for job in whole} == {("Walker2d-v5", 25_000, 1_000)}
    (job,) = judge.make_jobs(judge.parse_arguments("run --study hopper --method dhmbpo --seed 17".split()))
    assert (job.method, job.seed, job.eval_freq) == ("dhmbpo", 17, 1_000)
    with pytest.raises(SystemExit):
        judge.parse_arguments("run --study hopper --method mbpo".split())


def test_a_page_of_known_runs(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    labels = {"task": "Hopper-v5", "commit": "abc", "seconds": "2.0"}
    rows = [
        labels | {"method": method, "seed": str(seed), "env_step": str(step), "return_mean": str(value + seed)}
        for method, value in (("dhmbpo", 2_990.0), ("dhmbpo_tom", 2_000.0))
        for seed in SEEDS
        for step in (10_000, 18_000, 20_000, 25_000)
    ]
    text = judge_page.page_text(rows, [{}] * 15)
    assert "14 of 15 entered runs are finished" in text
    lines = {line.split(" | ")[0]: line for line in text.splitlines()}
    assert "**yes**" in next(line for start, line in lines.items() if "hops on Hopper" in start)
    tom = next(line for start, line in lines.items() if "help the double horizon on Hopper" in start)
    assert "| -990 [-990, -990] of " in tom and "**no, it is worse**" in tom
    assert "| `dhmbpo` | 10-16 (7) | 3003.0 [3001.0, 3005.0]: 3,000, 3,001," in text
    assert text.count("Not run yet.") == sum(
        study.task != "Hopper-v5" or "dhmbpo" not in study.methods for study in STUDIES.values()
    )
    one = dataclasses.replace(STUDIES["hopper"], windows=(LATE,))
    judge_page.draw("hopper", one, judge_page.runs_of(rows)["Hopper-v5"], tmp_path)
    assert (tmp_path / "hopper.png").stat().st_size > 1_000


def test_the_page_is_that_of_its_tables() -> None:
    results = ROOT / "docs" / "results"
    between = (results / "judging.md").read_text().partition(judge_page.BEGIN)[2].partition(judge_page.END)[0]
    rows, entered = (list(read_table(results / name)) for name in ("judging_curves.csv", "judging.csv"))
    assert between == "\n" + judge_page.page_text(rows, entered)
    assert rows == [{name: str(value) for name, value in row.items()} for row in judge_page.gather(results / "judging")]
