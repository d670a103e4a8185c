"""The page of the verdict says what its tables say, and nothing that was not entered gets onto it."""

import json
from pathlib import Path
from typing import Any

import judge_page
import pytest
from judge_plan import SEEDS, STUDIES

from sb3_tom.callbacks.tables import read_table, write_table

RESULTS = Path(__file__).parents[2] / "docs" / "results"
STUDY = STUDIES["hopper"]


def entry(method: str, seed: int, spoilt: str = "") -> dict[str, str]:
    row = {"task": STUDY.task, "method": method, "seed": str(seed), "steps": "25000", "commit": "abcdefghij"}
    return row | {"entered": "now", "spoilt": spoilt}


def rows_of(method: str, seed: int, value: float) -> list[dict[str, str]]:
    labels = {"task": STUDY.task, "method": method, "seed": str(seed), "commit": "abc", "core_seconds": "250.0"}
    labels |= {"return_mean": str(value), "seconds": "500.0", "diverged": ""}
    return [labels | {"env_step": str(step), "n_updates": str(2 * step - 2_000)} for step in range(1_000, 25_001, 1_000)]


def text_of(spoilt: dict[int, str], values: dict[str, float], methods: tuple[str, ...] = tuple(STUDY.methods)) -> str:
    """The page of runs with these values, of which some seeds are spoilt for these methods."""
    seeds = (*SEEDS, *(SEEDS[-1] + 1 + k for k in range(len(spoilt))))
    rows = [row for method, value in values.items() for seed in seeds for row in rows_of(method, seed, value + seed)]
    entered = [entry(method, seed, spoilt.get(seed, "") * (method in methods)) for method in values for seed in seeds]
    return judge_page.page_text(rows, [*entered, entry("dhmbpo", 99)])


def test_a_page_of_known_runs() -> None:
    text = text_of({}, {"dhmbpo": 2_990.0, "dhmbpo_tom": 2_000.0})
    assert "14 of 15 entered runs are finished" in text and "Not finished: dhmbpo 99." in text
    lines = {line.split(" | ")[0]: line for line in text.splitlines()}
    assert "**yes**" in next(line for start, line in lines.items() if "hops on Hopper" in start)
    tom = next(line for start, line in lines.items() if "help the double horizon on Hopper" in start)
    assert "| -990 [-990, -990] of " in tom and "**no, it is worse**" in tom
    assert "| `dhmbpo` | 10, 11, 12, 13, 14, 15, 16 | 3003.0 [3001.0, 3005.0]: 3,000, 3,001," in text
    assert "| 20 | 10 | abc |" in text and "| DHMBPO, Hopper-v4, published | 8 others | - | " in text
    assert "## hopper_judges: Hopper-v5 to 15,000 env steps" in text
    assert text.count("Not run yet.") == len(STUDIES) - 1, "what stands beside a study's methods does not run it"


def test_a_spoilt_seed_is_shown_and_does_not_count() -> None:
    """What all runs together say stands beside, so that nobody need ask whether a seed was struck out for its result."""
    text = text_of({12: "the disk was full"}, {"dhmbpo": 2_990.0, "dhmbpo_tom": 2_000.0})
    assert "of -990, -990, -990, -990, -990, -990, -990; on all 8, those struck out too, -990 [-990, -990] |" in text
    assert "| `dhmbpo` | 10, 11, 13, 14, 15, 16, 17 |" in text
    line = next(line for line in text.splitlines() if line.startswith("Do not count: "))
    assert line.startswith("Do not count: dhmbpo 12 (3,002, 3,002, 3,002, 3,002), dhmbpo_tom 12 (")
    assert line.endswith("): the disk was full.")
    of_one = text_of({12: "the disk was full"}, {"dhmbpo": 2_990.0, "dhmbpo_tom": 2_000.0}, methods=("dhmbpo",))
    assert "dhmbpo_tom 12 (" in next(line for line in of_one.splitlines() if line.startswith("Do not count: "))


def test_a_spoilt_run_that_was_never_finished_is_named() -> None:
    entered = [entry("dhmbpo", 12, "the disk was full")]
    text = judge_page.page_text(rows_of("dhmbpo", 10, 2_000.0), [entry("dhmbpo", 10), *entered])
    assert "1 of 2 entered runs are finished; 1 of the others were struck out before." in text
    assert "Do not count: dhmbpo 12 (not finished): the disk was full." in text


def test_a_run_that_diverged_is_named() -> None:
    rows = rows_of("dhmbpo", 10, 2_000.0)
    for row in rows[3:]:
        row |= {"return_mean": "0", "diverged": "1"}
    text = judge_page.page_text(rows, [entry("dhmbpo", 10)])
    assert "Diverged, and count 0 from there on: dhmbpo 10 (before 4,000)." in text
    assert "Diverged" not in judge_page.page_text(rows_of("dhmbpo", 10, 2_000.0), [entry("dhmbpo", 10)])


def test_a_picture_of_all_seeds(tmp_path: Path) -> None:
    rows = [row for seed in SEEDS for row in rows_of("dhmbpo", seed, 100.0 * seed)]
    judge_page.draw("hopper", STUDY, judge_page.runs_of(rows)[STUDY.task], rows, tmp_path)
    assert (tmp_path / "hopper.png").stat().st_size > 1_000
    judge_page.draw("pendulum", STUDY, {}, [], tmp_path)
    assert not (tmp_path / "pendulum.png").exists()


@pytest.fixture
def left(tmp_path: Path) -> Any:
    """Leaves the files of a run of three evaluations."""

    def leave(commit: str = "abcdefghij", steps: tuple[int, ...] = (50, 100), **changes: Any) -> Path:
        meta = {"task": STUDY.task, "method": "dhmbpo", "seed": 10, "steps": 100, "eval_freq": 50, "git_commit": commit}
        meta |= {"finished": True, "core_seconds": 7.5, **changes}
        folder = tmp_path / "judging" / STUDY.task
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "dhmbpo_seed10.json").write_text(json.dumps(meta))
        labels = dict.fromkeys(judge_page.READ, "3") | {"task": STUDY.task, "method": "dhmbpo", "seed": "10"}
        write_table(folder / "dhmbpo_seed10.csv", judge_page.READ, [labels | {"env_step": step} for step in steps])
        return tmp_path / "judging"

    return leave


def test_results_are_those_of_entered_runs(left: Any) -> None:
    known = [entry("dhmbpo", 10) | {"steps": "100"}]
    rows = judge_page.gather(left(), known)
    assert [(row["env_step"], row["return_mean"], row["core_seconds"], row["commit"]) for row in rows] == [
        (step, "3", "7.5", "abcdefg") for step in ("50", "100")
    ]
    assert judge_page.gather(left(finished=False), known) == []
    for entered in ([], [known[0] | {"steps": "200"}], [known[0] | {"commit": "other"}]):
        with pytest.raises(SystemExit, match=r"Hopper-v5 dhmbpo seed 10 in .* is no run of judging.csv"):
            judge_page.gather(left(), entered)


def test_an_evaluation_that_is_missing_is_an_error_or_a_divergence(left: Any) -> None:
    known = [entry("dhmbpo", 10) | {"steps": "100"}]
    with pytest.raises(SystemExit, match="seed 10 is finished, and has no evaluation at 50"):
        judge_page.gather(left(steps=(100,)), known)
    folder = left(steps=(50,), diverged="DivergenceError: nan")
    path = folder / STUDY.task / "dhmbpo_seed10.json"
    path.write_text(
        json.dumps({name: value for name, value in json.loads(path.read_text()).items() if name != "core_seconds"})
    )
    rows = judge_page.gather(folder, known)
    assert [(row["env_step"], row["return_mean"], row["diverged"]) for row in rows] == [("50", "3", ""), ("100", "0", "1")]
    assert {(row["seed"], row["method"], row["core_seconds"]) for row in rows} == {("10", "dhmbpo", "")}


def test_the_page_is_that_of_its_tables() -> None:
    between = (RESULTS / "judging.md").read_text().partition(judge_page.BEGIN)[2].partition(judge_page.END)[0]
    rows, entered = (read_table(RESULTS / name) for name in ("judging_curves.csv", "judging.csv"))
    assert between == "\n" + judge_page.page_text(rows, entered)
    gathered = judge_page.gather(RESULTS / "judging", entered)
    assert rows == [{name: str(value) for name, value in row.items()} for row in gathered]
