"""The pictures draw the numbers of the files and nothing else, and the tables beside them hold what is drawn."""

import csv
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("scipy", reason="scipy is not installed: pip install 'sb3_tom[plots]'")

from sb3_tom import plots
from sb3_tom.callbacks.weight_by_age import WeightByAgeCallback
from sb3_tom.plots.__main__ import main
from tests.mbpo.small import small_agent
from tests.plots.tables import age_file, curve_file, error_file, lines, log_files, saved_figures


@pytest.fixture
def figures(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    return saved_figures(monkeypatch)


def table(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_seeds_and_their_summary(tmp_path: Path, figures: list[Any]) -> None:
    files = [
        curve_file(tmp_path / "a.csv", "mbpo", 0, {10: 1.0, 20: 5.0, 30: 3.0}),
        curve_file(tmp_path / "b.csv", "mbpo", 1, {10: 3.0, 20: 7.0}),
        curve_file(tmp_path / "c.csv", "sac", 0, {10: 2.0, 20: 2.0}),
        curve_file(tmp_path / "d.csv", "sac", 0, {10: 9.0}, task="u"),
    ]
    out = plots.plot_learning_curves(files, tmp_path / "new" / "curves.png")
    assert out.read_bytes().startswith(b"\x89PNG")
    first, second = figures[0].axes
    assert lines(first) == {"mbpo (mean of 2 seeds)": [(10, 2.0), (20, 6.0)], "sac (1 seed)": [(10, 2.0), (20, 2.0)]}
    assert lines(second) == {"sac (1 seed)": [(10, 9.0)]}
    seeds = [list(line.get_ydata()) for line in first.lines if line.get_label().startswith("_")]
    assert seeds == [[1.0, 5.0, 3.0], [5.0, 3.0], [3.0, 7.0]], "where one seed goes on alone, its line is drawn again"
    assert (first.get_title(), first.get_ylabel()) == ("t", "mean return of an evaluation")
    rows = table(tmp_path / "new" / "curves_summary.csv")
    assert [tuple(row.values()) for row in rows] == [
        ("t", "mbpo", "10", "2", "2", "nan", "nan"),
        ("t", "mbpo", "20", "2", "6", "nan", "nan"),
        ("t", "sac", "10", "1", "2", "nan", "nan"),
        ("t", "sac", "20", "1", "2", "nan", "nan"),
        ("u", "sac", "10", "1", "9", "nan", "nan"),
    ]


def test_seven_seeds_have_an_interval(tmp_path: Path, figures: list[Any]) -> None:
    for n_seeds in (6, 7):
        files = [curve_file(tmp_path / f"{seed}.csv", "mbpo", seed, {10: 2.0 * seed, 20: 1.0}) for seed in range(n_seeds)]
        plots.plot_learning_curves(files, tmp_path / f"{n_seeds}.png")
        label = {6: "mbpo (mean of 6 seeds)", 7: "mbpo (mean of 7 seeds, 95 %)"}[n_seeds]
        assert lines(figures[-1].axes[0]) == {label: [(10, n_seeds - 1.0), (20, 1.0)]}
        assert len(figures[-1].axes[0].collections) == (n_seeds == 7), "the band"
    first, second = table(tmp_path / "7_summary.csv")
    half = 2.446912 * (112 / 6) ** 0.5 / 7**0.5  # Student's quantile of six degrees of freedom; the variance of 0, 2, ..., 12
    assert (float(first["low"]), float(first["high"])) == pytest.approx((6.0 - half, 6.0 + half), rel=1e-4)
    assert (second["low"], second["high"]) == ("1", "1")


def test_the_maximum_has_its_name(tmp_path: Path, figures: list[Any]) -> None:
    file = curve_file(tmp_path / "a.csv", "mbpo", 0, {10: 5.0, 20: 1.0})
    plots.plot_learning_curves([file], tmp_path / "curves.png", "cumulative_max")
    (axes,) = figures[0].axes
    assert lines(axes) == {"mbpo (1 seed)": [(10, 5.0), (20, 5.0)]}
    assert "cumulative maximum" in axes.get_ylabel()
    with pytest.raises(ValueError, match="column='seconds'"):
        plots.plot_learning_curves([file], tmp_path / "curves.png", "seconds")


@pytest.mark.parametrize(("errors", "scale"), [((4.0, 0.5), "log"), ((0.5, -1.0), "linear")])
def test_model_error_is_on_a_log_scale_where_it_can_be(
    tmp_path: Path, figures: list[Any], errors: tuple[float, float], scale: str
) -> None:
    rows = {step: {"model/validation_error": error} for step, error in zip((100, 200), errors, strict=True)}
    main(["model-error", str(log_files(tmp_path / "MBPO_1", ["csv"], rows)), "--out", str(tmp_path / "e.png")])
    (axes,) = figures[0].axes
    assert axes.get_yscale() == scale and lines(axes) == {"MBPO (1 seed)": [(100, errors[0]), (200, errors[1])]}


def test_errors_of_the_model(tmp_path: Path, figures: list[Any]) -> None:
    first, second = {1000: 4.0, 2000: 1.0}, {1000: 2.0, 2000: 3.0}
    files = [error_file(tmp_path / f"{seed}.csv", seed, errors) for seed, errors in enumerate((first, second))]
    for kind, factor in ("global", 1), ("local", 2):
        main([f"{kind}-error", *map(str, files), "--out", str(tmp_path / "e.png")])
        (points,) = lines(figures[-1].axes[0]).values()
        assert points == [(1000, 3.0 * factor), (2000, 2.0 * factor)]
    main(["compounding-error", *map(str, files), "--out", str(tmp_path / "e.png")])
    assert figures[-1].axes[0].get_xlabel() == "predicted steps"
    assert list(lines(figures[-1].axes[0]).values()) == [[(1, 4.0), (2, 8.0), (3, 12.0)]]  # of the last evaluation
    assert figures[-1].axes[0].get_title() == "t, at 2,000 env steps"
    assert table(tmp_path / "e_summary.csv")[2]["predicted_step"] == "3"


def test_compounding_errors_are_compared_at_one_env_step(tmp_path: Path, figures: list[Any]) -> None:
    """A run that is not as far yet has a younger model; its own last evaluation would be compared with the others' last."""
    files = [error_file(tmp_path / "0.csv", 0, {1000: 1.0, 5000: 0.1}), error_file(tmp_path / "1.csv", 1, {1000: 3.0})]
    main(["compounding-error", *map(str, files), "--out", str(tmp_path / "e.png")])
    assert list(lines(figures[-1].axes[0]).values()) == [[(1, 4.0), (2, 8.0), (3, 12.0)]]
    assert {row["env_step"] for row in table(tmp_path / "e_summary.csv")} == {"1000"}
    error_file(tmp_path / "2.csv", 2, {3000: 1.0})
    with pytest.raises(ValueError, match="the runs of t share no env step at which they have compounding errors"):
        plots.plot_learning_curves(tmp_path, tmp_path / "f.png", "compounding_error")


def test_a_method_looks_the_same_in_all_panels_and_like_no_other(tmp_path: Path, figures: list[Any]) -> None:
    files = [curve_file(tmp_path / f"{k}.csv", f"m{k:02d}", 0, {10: 1.0, 20: 2.0}) for k in range(12)]
    files.append(curve_file(tmp_path / "u.csv", "m11", 0, {10: 1.0, 20: 2.0}, task="u"))
    plots.plot_learning_curves(files, tmp_path / "curves.png")
    looks = [{line.get_label(): (line.get_color(), line.get_linestyle()) for line in axes.lines} for axes in figures[0].axes]
    assert len(set(looks[0].values())) == 12
    assert looks[1] == {"m11 (1 seed)": looks[0]["m11 (1 seed)"]}


@pytest.mark.parametrize(("method", "shown"), [("_mine", "mine"), ("a$x_1$", r"a\$x_1\$")])
def test_every_method_is_in_the_legend_as_it_is_written(tmp_path: Path, figures: list[Any], method: str, shown: str) -> None:
    plots.plot_learning_curves(curve_file(tmp_path / "a.csv", method, 0, {10: 1.0}), tmp_path / "a.png")
    assert [text.get_text() for text in figures[0].axes[0].get_legend().get_texts()] == [f"{shown} (1 seed)"]
    assert table(tmp_path / "a_summary.csv")[0]["method"] == method


def test_weight_by_age(tmp_path: Path, figures: list[Any]) -> None:
    plots.plot_weight_by_age(age_file(tmp_path / "w.csv"), tmp_path / "w.png", n_phases=3)
    drawn = lines(figures[0].axes[0])
    assert list(drawn) == ["step 100 (ESS 0.80)", "step 1,100 (ESS 0.80)", "step 2,000 (ESS 0.80)"]
    assert drawn["step 2,000 (ESS 0.80)"] == [(2.0, 21.5), (7.0, 20.5)]
    assert list(table(tmp_path / "w_summary.csv")[-1].values()) == ["t", "tom", "0", "2000", "7", "20.5"]


def test_many_runs_are_drawn_in_rows(tmp_path: Path, figures: list[Any]) -> None:
    plots.plot_weight_by_age([age_file(tmp_path / f"{seed}.csv", 1, "tom", seed) for seed in range(6)], tmp_path / "w.png")
    titles = [axes.get_title() for axes in figures[0].axes]
    assert titles == [f"t, tom, seed {seed}" for seed in range(6)]
    assert [axes.get_subplotspec().rowspan.start for axes in figures[0].axes] == [0, 0, 0, 0, 1, 1]


def test_a_message_does_not_list_every_file(tmp_path: Path) -> None:
    files = [age_file(tmp_path / f"{seed}.csv", 1, "tom", seed) for seed in range(5)]
    with pytest.raises(ValueError, match=r"nothing holds return_mean: .*0\.csv, .*1\.csv, .*2\.csv and 2 more$"):
        plots.plot_learning_curves(files, tmp_path / "a.png")
    with pytest.raises(ValueError, match=r"nothing holds return_mean: no run was found$"):
        plots.draw_curves([], tmp_path / "a.png")


def test_nothing_to_draw(tmp_path: Path) -> None:
    ages, curve = age_file(tmp_path / "w.csv", 1), curve_file(tmp_path / "a.csv", "mbpo", 0, {10: 1.0})
    for draw, file in (plots.plot_learning_curves, ages), (plots.plot_weight_by_age, curve):
        with pytest.raises(ValueError, match=rf"nothing holds .*{file.name}"):
            draw([file], tmp_path / "a.png")
    other = curve_file(tmp_path / "b.csv", "mbpo", 1, {20: 1.0})
    with pytest.raises(ValueError, match="share an env step"):
        plots.plot_learning_curves([curve, other], tmp_path / "a.png")
    assert not (tmp_path / "a.png").exists()


def test_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = curve_file(tmp_path / "a.csv", "mbpo", 0, {10: 1.0})
    main(["curves", str(file), "--out", str(tmp_path / "a.png")])
    assert capsys.readouterr().out == f"{tmp_path / 'a.png'}\n" and (tmp_path / "a.png").exists()
    for wrong, message in (tmp_path / "none.csv", "no such file"), (file, "nothing holds weight by age"):
        with pytest.raises(SystemExit):
            main(["weights", str(wrong), "--out", str(tmp_path / "b.png")])
        assert message in capsys.readouterr().err


def test_a_picture_does_not_replace_a_table(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    curve, ages = curve_file(tmp_path / "a.csv", "mbpo", 0, {10: 1.0}), age_file(tmp_path / "w.csv", 1)
    before = curve.read_bytes(), ages.read_bytes(), sorted(tmp_path.iterdir())
    for command, file in ("curves", curve), ("weights", ages):
        with pytest.raises(SystemExit, match="2"):
            main([command, str(file), "--out", str(file)])
        assert f"out='{file}' is not allowed; allowed: a name that ends in .png" in capsys.readouterr().err
    assert (curve.read_bytes(), ages.read_bytes(), sorted(tmp_path.iterdir())) == before
    for name in ("b.PNG", "b"):
        main(["curves", str(curve), "--out", str(tmp_path / name)])
        assert (tmp_path / name).read_bytes().startswith(b"\x89PNG")


def test_everything_of_a_real_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """From TensorBoard files alone; and what the log holds of the weights is what the callback computes by itself."""
    pytest.importorskip("tensorboard", reason="tensorboard is not installed: pip install tensorboard")
    settings = {"learning_starts": 50, "model_train_freq": 50, "tensorboard_log": str(tmp_path / "InvertedPendulum-v5")}
    agent = small_agent("InvertedPendulum-v5", "pmac", **settings)
    agent.learn(150, WeightByAgeCallback(tmp_path / "ages.csv"), log_interval=1)
    (run,) = plots.read_runs(tmp_path / "InvertedPendulum-v5")
    (table,) = plots.read_runs(tmp_path / "ages.csv")
    by_age = {phase.ages[-1]: phase for phase in table.phases}  # the oldest age tells the phase; the log's step comes later
    assert len(run.phases) >= 2 and max(run.phases[-1].weights) > 2 * min(run.phases[-1].weights)
    for phase in run.phases:
        same = by_age[phase.ages[-1]]
        assert phase.weights == pytest.approx(same.weights, rel=1e-4) and phase.ages == same.ages
    main(["all", str(tmp_path / "InvertedPendulum-v5"), "--out", str(tmp_path / "out")])
    names = {"weight_by_age", "effective_sample_size", "model_error"}
    assert {path.name for path in (tmp_path / "out").iterdir()} == {
        f"{name}{end}" for name in names for end in (".png", "_summary.csv")
    }
    assert "not drawn (no data): curves, global-error, local-error, compounding-error\n" in capsys.readouterr().out


def test_what_is_not_there_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = curve_file(tmp_path / "a.csv", "mbpo", 0, {10: 1.0})
    main(["all", str(file), "--out", str(tmp_path / "out")])
    without = "weights, ess, model-error, global-error, local-error, compounding-error"
    picture = tmp_path / "out" / "learning_curves.png"
    assert capsys.readouterr().out == f"not drawn (no data): {without}\n{picture}\n"


def test_too_few_seeds_for_an_interval_are_said_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for method, n_seeds in {"sac": 1, "mbpo": 5, "tom": 7}.items():
        for seed in range(n_seeds):
            curve_file(tmp_path / method / f"{seed}.csv", method, seed, {10: 1.0 + seed})
    line = "5 seeds: no interval below 7 (docs/plots.md)"
    for paths, said in (["sac"], []), (["tom"], []), (["sac", "mbpo", "tom"], [line]):
        words = [str(tmp_path / name) for name in paths]
        main(["curves", *words, "--out", str(tmp_path / "a.png")])
        assert capsys.readouterr().out.splitlines() == [*said, str(tmp_path / "a.png")]
        main(["all", *words, "--out", str(tmp_path / "out")])
        assert [line for line in capsys.readouterr().out.splitlines() if "interval" in line] == said


def test_pictures_may_lie_in_the_folder_that_is_read(tmp_path: Path) -> None:
    curve_file(tmp_path / "a.csv", "mbpo", 0, {10: 1.0, 20: 2.0})
    age_file(tmp_path / "w.csv", 2)
    for _ in range(2):  # what was drawn before is no run
        main(["all", str(tmp_path), "--out", str(tmp_path / "plots")])
    main(["curves", str(tmp_path), "--out", str(tmp_path / "curves.png")])
    with pytest.raises(SystemExit):
        main(["curves", str(tmp_path), "--out", str(tmp_path / "plots")])
