"""The table and the picture of model errors hold the numbers of the files."""

from pathlib import Path

import model_error_page
import pytest

from sb3_tom.callbacks.model_error import ERROR_COLUMNS
from sb3_tom.callbacks.tables import RunTable, read_table

ROOT = Path(__file__).parents[2]


def table(path: Path, method: str, seed: int, factor: float) -> Path:
    """Errors that grow with the step, the horizon and ``factor``; the local one is twice the global one."""
    run = RunTable(path, ERROR_COLUMNS, {"task": "Hopper-v5", "method": method, "seed": seed})
    for step in (1000, 2000, 3000, 4000):
        figures = [("global", 1, 1.0), ("local", 1, 2.0), *(("compounding", h, 2.0 * h) for h in (1, 5, 20))]
        for kind, horizon, error in figures:
            row = (step, step // 250, kind, horizon, factor * error * step / 1000, 10)
            run.append(dict(zip(ERROR_COLUMNS, row, strict=True)))
    return path


def test_runs_beyond_the_first_steps_have_a_table_of_these_too(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(model_error_page, "FIRST", 2000)
    text = model_error_page.page_text([read_table(table(tmp_path / "run.csv", "mbpo", 0, 1.0))])
    first, whole = text.split("### ")[1:]
    assert first.startswith("Hopper-v5, to env step 2,000") and "| 2.000 | 4.000 | 2.00 |" in first
    assert whole.startswith("Hopper-v5, to env step 4,000") and "| 3.500 | 7.000 | 2.00 |" in whole


def test_numbers_of_the_page_and_the_picture(tmp_path: Path) -> None:
    folder = tmp_path / "Hopper-v5"
    paths = [table(folder / f"mbpo_seed{seed}_model_error.csv", "mbpo", seed, 1.0 + seed) for seed in (0, 1)]
    paths.append(table(folder / "mbpo_tom_seed0_model_error.csv", "mbpo_tom", 0, 0.5))
    table(folder / "mbpo_tom_mask_seed0_model_error.csv", "mbpo_tom_mask", 0, 9.0)  # of an ablation: not on the page
    (tmp_path / "model_error.md").write_text(f"hand\n{model_error_page.BEGIN}old{model_error_page.END}\nend\n")
    model_error_page.write_page(tmp_path)
    page = (tmp_path / "model_error.md").read_text()
    assert page.startswith("hand\n") and page.endswith("\nend\n") and "old" not in page
    # steps 3,000 and 4,000: mean 3.5; seeds of mbpo: factors 1 and 2
    assert "| `mbpo` | 2 | 5.250 | 10.500 | 2.00 | 52.500 | 210.000 |" in page
    assert "| `mbpo_tom` | 1 | 1.750 | 3.500 | 2.00 | 17.500 | 70.000 |" in page
    assert page.count("### Hopper-v5, to env step 4,000") == page.count("###") == 1
    assert "mbpo_tom_mask" not in page
    drawn = read_table(tmp_path / "model_error_summary.csv")
    final = {(row["method"], row["kind"], row["x"]): float(row["error"]) for row in drawn}
    assert final["mbpo", "compounding", "20"] == pytest.approx(1.5 * 40 * 4)
    assert final["mbpo_tom", "local", "4000"] == pytest.approx(4.0)


def test_another_table_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("task,x\nt,1\n")
    with pytest.raises(ValueError, match=r"a\.csv"):
        model_error_page.plot_model_error([path], tmp_path / "a.png")


def test_page_agrees_with_the_files() -> None:
    out = ROOT / "docs" / "results"
    runs = [rows for rows in map(model_error_page._read, model_error_page.paths_of_methods(out)) if rows]
    page = (out / "model_error.md").read_text()
    generated = page.partition(model_error_page.BEGIN + "\n")[2].partition(model_error_page.END)[0]
    assert generated == model_error_page.page_text(runs)
