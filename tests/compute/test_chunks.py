import pytest
import torch as th

from sb3_tom import Transitions
from sb3_tom.compute.chunks import evenly, joined, rows_at_once


@pytest.mark.parametrize(("passes", "expected"), [(1, 4096), (7, 585), (10_000, 1)])
def test_fewer_rows_where_each_is_seen_several_times(passes: int, expected: int) -> None:
    assert rows_at_once(th.device("cpu"), passes) == expected
    assert rows_at_once(th.device("meta"), passes) > expected


@pytest.mark.parametrize("n_rows", [1, 3, 7, 10])
def test_pieces_are_the_rows(n_rows: int) -> None:
    rows = Transitions(*(th.arange(7 * width).view(7, width) for width in (3, 2, 3, 1, 1)), th.arange(7))
    pieces = rows.split(n_rows)
    assert [piece.size for piece in pieces[:-1]] == [n_rows] * (len(pieces) - 1)
    assert all(th.equal(th.cat(parts), whole) for parts, whole in zip(zip(*pieces, strict=True), rows, strict=True))


def test_what_pieces_gave_is_joined_in_order() -> None:
    whole = th.randn(11, 2, dtype=th.float64)
    assert th.equal(joined(iter(whole.split(4)), 11), whole)
    assert joined([whole], 11).data_ptr() != whole.data_ptr()
    with pytest.raises(AssertionError):
        joined(whole.split(4), 12)


@pytest.mark.parametrize(("n_rows", "expected"), [(1, [0]), (4, [0, 1, 2, 3]), (5, [0, 1, 2, 3]), (11, [0, 2, 5, 8])])
def test_some_rows_come_evenly_from_all(n_rows: int, expected: list[int]) -> None:
    assert evenly(n_rows, 4, th.device("cpu")).tolist() == expected
