"""What a fit says about itself: the measurement runs, and units alone change no error."""

import model_fit
import pytest


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = {"SAME": 60, "FRESH": 80, "FIRST": 60, "EVERY": 20, "LAST": 100, "REFITS": 3}
    for name, value in sizes.items():
        monkeypatch.setattr(model_fit, name, value)
    budget = {"max_epochs": 2, "first_max_epochs": 2, "steps_per_epoch": 5, "batch_size": 32}
    monkeypatch.setattr(model_fit, "MODEL", {"n_members": 3, "n_elites": 2, "net_arch": (16,), **budget})


def test_ratios_of_later_fits_are_in_units_of_the_first() -> None:
    rows = model_fit.held_out(seed=0)
    assert [row["fit"] for row in rows] == [0, 1, 2] and rows[0]["ratio"] == 1.0
    first, last = rows[0], rows[2]
    expected = (last["held_out"] / last["fresh"]) / (first["held_out"] / first["fresh"])
    assert last["ratio"] == pytest.approx(expected)


def test_units_alone_change_no_error() -> None:
    rows = model_fit.units(seed=0)
    assert [row["rows"] for row in rows] == [80, 100]
    for row in rows:
        assert row["with_new_units"] == pytest.approx(row["before"], rel=1e-3)
        assert row["ratio"] == row["with_new_units"] / row["before"]
