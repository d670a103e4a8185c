"""Transitions: six fields make one, and a seventh says where a time limit cut."""

import torch as th

from sb3_tom import Transitions
from tests.mbpo.small import small_agent
from tests.mbpo.test_mbpo import Corridor


def make(n_rows: int, *leading: int) -> Transitions:
    shape = (*leading, n_rows)
    fields = [th.rand(*shape, width) for width in (3, 2, 3, 1)]
    return Transitions(*fields, (th.rand(*shape, 1) < 0.5).float(), th.arange(n_rows).expand(shape))


def test_six_fields_make_transitions_that_nothing_has_cut() -> None:
    for rows in (make(5), make(5, 2)):
        assert rows.truncated.shape == rows.terminated.shape and not bool(rows.truncated.any())
        assert rows.truncated.dtype == rows.terminated.dtype
    cut = th.ones(5, 1)
    assert Transitions(*make(5)[:6], cut).truncated is cut
    assert make(5)._replace(truncated=cut).truncated is cut


def test_it_goes_with_its_rows() -> None:
    rows = make(6)._replace(truncated=th.arange(6.0).unsqueeze(1))
    assert rows.rows(th.tensor([4, 1])).truncated.flatten().tolist() == [4.0, 1.0]
    assert [part.truncated.flatten().tolist() for part in rows.split(4)] == [[0.0, 1.0, 2.0, 3.0], [4.0, 5.0]]
    assert type(rows.rows(th.tensor([0]))) is type(rows.split(4)[0]) is type(rows._replace()) is Transitions


def test_the_buffer_says_where_a_time_limit_cut() -> None:
    """Episodes of the corridor are cut after seven steps; a termination is no cut."""
    cut = small_agent(Corridor(limit=7), learning_starts=1000).learn(45).replay_buffer.transitions()
    assert th.where(cut.truncated.flatten() > 0)[0].tolist() == [6, 13, 20, 27, 34, 41]
    ended = small_agent(Corridor(limit=1000, ends=True), learning_starts=1000).learn(60).replay_buffer.transitions()
    assert bool(ended.terminated.any()) and not bool(ended.truncated.any())
