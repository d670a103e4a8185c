"""How the learned head is trained: its learning rate, its penalty, and which rows it sees."""

import pytest
import torch as th

from sb3_tom.contracts.context import Context
from sb3_tom.contracts.types import Transitions
from sb3_tom.terminations import learned
from tests.terminations.test_termination_learned import built, synthetic


def with_terminal(data: Transitions, n_terminal: int) -> Transitions:
    """The first rows are terminal, the others are not."""
    return data._replace(terminated=(th.arange(data.size) < n_terminal).float().unsqueeze(1))


def test_hard_rows_are_drawn_more_often() -> None:
    """The network calls one in a hundred of the other rows terminal: half of the draws are of these."""
    termination = built()
    termination._logits_of = lambda rows, indices: th.where(indices % 100 == 99, 30.0, -30.0)  # type: ignore[method-assign]
    rows = learned._RowsByClass(with_terminal(synthetic(1000, seed=0), 50), th.Generator().manual_seed(0))
    drawn = termination._draw_hard(rows, (100, 100))
    assert 0.4 < float((drawn % 100 == 99).float().mean()) < 0.6


def test_the_learning_rate_falls_to_zero_within_each_fit(context: Context, monkeypatch: pytest.MonkeyPatch) -> None:
    rates: list[float] = []
    monkeypatch.setattr(learned, "set_learning_rate", lambda _, rate: rates.append(rate))
    built(first_gradient_steps=4, learning_rate=1e-2).fit(synthetic(500, seed=0), context)
    assert rates == pytest.approx([1e-2, 7.5e-3, 5e-3, 2.5e-3])


def test_the_lasso_falls_with_the_square_root_of_the_terminal_rows() -> None:
    penalties = []
    for n_terminal in (1, 100):
        losses = []
        for lasso in (0.0, 4.0):
            th.manual_seed(0)
            termination = built(first_gradient_steps=1, group_lasso=lasso)
            context = Context(generator=th.Generator().manual_seed(0))
            losses.append(termination.fit(with_terminal(synthetic(1000, seed=0), n_terminal), context)["loss"])
        penalties.append(losses[1] - losses[0])
    assert penalties[0] == pytest.approx(10.0 * penalties[1], rel=1e-3)
