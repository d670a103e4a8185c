"""The pages of the learning curves agree with their table, and their commands can be started."""

import json
import re
import shlex
from pathlib import Path

import curves
import curves_ablations
import curves_jobs
import curves_page
import curves_stability
import pytest
from curves_jobs import is_finished
from marked_page import over_seeds

from sb3_tom.callbacks.tables import read_table

ROOT = Path(__file__).parents[2]
RESULTS = ROOT / "docs" / "results"
README = (ROOT / "README.md").read_text()


def test_table_holds_every_evaluation_and_where_it_came_from(tmp_path: Path) -> None:
    labels = {"task": "Hopper-v5", "seed": 0, "return_std": 1, "return_min": 0, "return_max": 0}
    labels |= {"episode_length_mean": 5, "n_updates": 5}
    for method, means in {"mbpo_tom": (1.0, 5.0), "sac": (2.0,)}.items():
        path = tmp_path / "Hopper-v5" / f"{method}_seed0.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps({"git_commit": "abc", "versions": {"torch": "2"}, "finished": method == "sac"}))
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
    meta = next(tmp_path.glob("*/*_seed*.json"))
    meta.write_text(json.dumps(json.loads(meta.read_text()) | {"continued": [{"git_commit": "earlier"}]}))
    assert {row["commit"] for row in read_table(curves_page.write_curves(tmp_path))} == {"abc", "earlier, abc"}
    text = curves_page.page_text(rows)
    assert "| `mbpo_tom` | 1 (1 interrupted) | 1.0 | 1.0 | 0 |" in text, "compared where the finished run ended"
    assert "Commits: `sac` abc; `mbpo_tom` abc." in text and "best" not in text


def runs(ends: dict[tuple[str, str], tuple[int, bool]], value: float = 1.0) -> list[dict[str, str]]:
    """Evaluations every 10 env steps, by method and seed."""
    return [
        {"task": "Hopper-v5", "method": method, "seed": seed, "env_step": str(step), "return_mean": str(value * step)}
        | {"finished": str(finished), "seconds": str(2 * step), "commit": "abcdefghij"}
        for (method, seed), (end, finished) in ends.items()
        for step in range(10, end + 1, 10)
    ]


def test_methods_are_compared_at_the_same_env_steps() -> None:
    """All at the last step that all finished runs have; at later ones where at least two methods have a run."""
    ends = {("a", "0"): (20, True), ("a", "1"): (40, True), ("b", "0"): (50, True), ("b", "1"): (40, False)}
    rows = runs(ends | {("c", "0"): (10, False)})
    assert curves_page.ends("Hopper-v5", rows) == [20, 40], "50 has one method, and 10 is an interrupted run's"
    assert curves_page.ends("InvertedPendulum-v5", rows) == [20], "runs end where they are solved"
    assert curves_page.table_at(rows, 20)[2:] == [
        "| `a` | 2 | 20.0 (20.0, 20.0) | 15.0 (15.0, 15.0) | 2000 |",
        "| `b` | 2 (1 interrupted) | 20.0 (20.0, 20.0) | 15.0 (15.0, 15.0) | 2000 |",
    ]
    assert curves_page.table_at(rows, 40)[2:] == [
        "| `a` | 1 | 40.0 | 25.0 | 2000 |",
        "| `b` | 2 (1 interrupted) | 40.0 (40.0, 40.0) | 25.0 (25.0, 25.0) | 2000 |",
    ]


def test_one_estimator_whatever_the_number_of_seeds() -> None:
    """The mean, also of four seeds beside two; values of the seeds where they are too few for an interval."""
    assert over_seeds([3.0]) == "3.0"
    assert over_seeds([3.0, 5.0, 100.0, 4.0]) == "28.0 (3.0, 5.0, 100.0, 4.0)"
    assert over_seeds([0.0, 2.0, 4.0, 6.0, 8.0, 10.0, 12.0]) == "6.0 [2.0, 10.0]"


def test_what_comes_later_changes_no_line() -> None:
    rows = runs({("a", "0"): (20, True), ("a", "1"): (20, True)})
    longer = rows + runs({("a", "2"): (60, True)}, value=700.0)[2:]
    assert curves_page.table_at(longer, 20) == curves_page.table_at(rows, 20)


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
    assert line == "Env step of the first evaluation of at least 9,300, by seed: `m` > 2,000, 1,000, 2,000."
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
    rows += runs_of(double, {("mbpo_tom_sharp", 0): (0.0,)}, finished="False")
    rows += runs_of(single, {("mbpo", 0): (1000.0,), ("mbpo_tom_ess", 0): (3.0, 960.0)})
    rows += runs_of("Hopper-v5", {("mbpo", 0): (1.0,)}) + runs_of("Reacher-v5", {("mbpo_tom_sharp", 0): (1.0,)})
    text = curves_ablations.page_text(curves_ablations.ablation_runs(rows))
    assert text.splitlines()[1:] == [
        f"| method | {double}, first evaluation of at least 9,300 | mean of its evaluations to 2,000 steps "
        f"| {single}, first evaluation of at least 950 |",
        "|---|---|---|---|",
        "| `mbpo` | 1,000 (0) | 9,305 (0) | 1,000 (0) |",
        "| `mbpo_tom_mask` | > 2,000 (0); 2,000 (1) | 150 (0); 4,750 (1) |  |",
        "| `mbpo_tom_ess` |  |  | 2,000 (0) |",
        "",
    ]
    curves_ablations.draw(curves_ablations.ablation_runs(rows), tmp_path / "ablations.png")
    assert len(read_table(tmp_path / "ablations_summary.csv")) == 5
    assert "mbpo_tom_mask" not in curves_page.page_text([row | {"seconds": "1", "commit": "abc"} for row in rows])
    assert "Nothing" in curves_ablations.page_text([])


def test_pages_agree_with_the_table() -> None:
    """`python benchmarks/curves.py page` has been run since the table changed, and every picture is there."""
    rows = read_table(RESULTS / "curves.csv")
    page = (RESULTS / "README.md").read_text()
    generated = page.partition(curves_page.BEGIN + "\n")[2].partition(curves_page.END)[0]
    assert generated == curves_page.page_text(rows)
    stability = page.partition(curves_stability.BEGIN + "\n")[2].partition(curves_stability.END)[0]
    assert stability == curves_stability.page_text(rows, RESULTS)
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


def test_the_table_that_the_readme_opens_with_is_that_of_the_curves() -> None:
    rows = read_table(RESULTS / "curves.csv")
    name, number = r"(?:`(DHMBPO|MBPO)` \(here\)|(CrossQ|SAC) \(.*?\))", r"([\d,]+)"
    lines = re.findall(rf"^\| {name} \| {number} \((\d) seeds?\) \| (.*?) \|", README, re.MULTILINE)
    assert len(lines) == 4
    for ours, theirs, mean, seeds, solved in lines:
        runs = [row for row in rows if row["method"] == (ours or theirs).lower()]
        late = [row for row in runs if row["task"] == "Hopper-v5" and 20_000 <= int(row["env_step"]) <= 25_000]
        returns = [float(row["return_mean"]) for row in late]
        assert (f"{sum(returns) / len(returns):,.0f}", str(len({row["seed"] for row in late}))) == (mean, seeds)
        curves = curves_page.curves_of([row for row in runs if row["task"] == "InvertedDoublePendulum-v5"])
        found = {curves_page.solved_text(curves_page.first_at_least(curve, 9_300.0), max(curve)) for curve in curves}
        assert found == set(re.findall(r"(?:> )?\d+,\d+", solved))
