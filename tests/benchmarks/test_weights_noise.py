"""The benchmarks of TOM's weights against known answers: their figures, and the tables of their pages."""

import math

import pytest
import torch as th
from dual_solved import page_text as dual_page
from weights_noise import N_NEWEST, N_ROWS, EpisodicSystem, moved
from weights_noise import page_text as noise_page


def test_weights_of_the_noise_itself_are_seen_and_others_are_not() -> None:
    noise = th.randn(N_ROWS, 3, generator=th.Generator().manual_seed(0))
    other = th.rand(N_ROWS, generator=th.Generator().manual_seed(1))
    assert float(moved(other, noise)["square"]) < 4.0
    tilted = moved((0.5 * noise[:, 0]).exp(), noise)
    assert float(tilted["shift"]) == pytest.approx(0.5 / 3**0.5, rel=0.1), "exp(c x) moves the mean of a normal x by c"
    assert float(tilted["ess"]) == pytest.approx(math.exp(-(0.5**2)), rel=0.1)
    assert float(tilted["square"]) == pytest.approx(0.5**2 * N_ROWS * float(tilted["ess"]) / 3, rel=0.2)
    assert float(moved(th.ones(N_ROWS), noise)["ess"]) == 1.0


def test_the_noise_of_the_system_is_what_its_rows_have() -> None:
    system = EpisodicSystem(4, 2, 0)
    data, noise, starts = system.rollouts(0.3)
    expected = data.observations @ system.drift + data.actions @ system.push + 0.1 * noise
    th.testing.assert_close(data.next_observations, expected, atol=1e-5, rtol=0.0)
    assert int(data.truncated.sum()) == len(starts) == N_ROWS // 500
    own = [
        system.actions(part, 1, shift)[:, 0]
        for part, shift in ((data.observations[:-N_NEWEST], 0.0), (data.observations[-N_NEWEST:], 0.3))
    ]
    th.testing.assert_close(data.actions.mean(0), th.cat(own).mean(0), atol=0.02, rtol=0.0)
    th.testing.assert_close(data.actions[-N_NEWEST:].mean(0), own[1].mean(0), atol=0.06, rtol=0.0)


def test_pages() -> None:
    labels = {"size": "Hopper", "data": "one policy", "weighter": "tom"}
    rows = [{**labels, "seed": str(s), "ess": "0.5", "newest": "2", "shift": "0.1", "square": str(s)} for s in (1, 2)]
    assert "| 11 + 3 | one policy | `tom` | 2 | 1.50 | 0.100 | 0.50 | 2.00 |" in noise_page(rows)
    row = {"task": "Hopper-v5", "error": "of the state", "seed": "0", "ess_ratio": "0.5", "ess": "0.9", "left": "0.25"}
    assert "| Hopper-v5 | of the state | 1 | 0.50 | 0.90 | 0.25 |" in dual_page([row])
