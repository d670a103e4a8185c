"""What counts as usable, and backups."""

import numpy as np
import pytest
import torch as th

from sb3_tom.checks.guards import LIMIT, Backup, DivergenceError, check_losses, check_magnitudes, check_rows, magnitude
from sb3_tom.weighters.tom.footprint import Footprint
from tests.weighters.small import transitions

BAD = [np.nan, np.inf, -np.inf, 1e30, -1e30]


def test_it_is_a_value_error() -> None:
    assert issubclass(DivergenceError, ValueError)


@pytest.mark.parametrize("bad", BAD)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_first_bad_row_is_named(bad: float, dtype: type) -> None:
    rows = np.zeros((3, 4), dtype)
    check_rows("the observation", rows + LIMIT)
    rows[1, 2] = bad
    with pytest.raises(DivergenceError, match=r"^the observation of env 1, entry 2, is (nan|-?inf|-?1e\+30); allowed"):
        check_rows("the observation", rows)
    with pytest.raises(DivergenceError, match=r"^the reward of env 1 is"):
        check_rows("the reward", rows[:, 2])


def test_half_precision_cannot_hold_the_limit_itself() -> None:
    check_rows("the observation", np.full((2, 3), 6e4, np.float16))
    with pytest.raises(DivergenceError, match="of env 1, entry 0, is inf"):
        check_rows("the observation", np.array([[1.0], [np.inf]], np.float16))


def test_rows_without_entries_are_usable() -> None:
    check_rows("the observation", np.zeros((3, 0)))


@pytest.mark.parametrize("bad", BAD)
@pytest.mark.parametrize("place", [0, 500, -1])
def test_one_bad_entry_shows_in_the_magnitude(bad: float, place: int) -> None:
    tensors = [th.zeros(3), th.randn(40, 30), th.zeros(())]
    assert float(magnitude(tensors)) == pytest.approx(float(tensors[1].norm()))
    tensors[1].view(-1)[place] = bad
    with pytest.raises(DivergenceError, match=r"^the critic is (nan|inf|1e\+30)"):
        check_magnitudes({"a": 0.0, "the critic": float(magnitude(tensors))})


def test_losses_are_judged_by_what_they_are() -> None:
    """The critics' loss is a square of values; no other figure may be that large, and what is no loss is not looked at."""
    check_losses({"critic_loss": 0.99 * LIMIT**2, "actor_loss": -LIMIT, "epochs": np.inf})
    for name, bad in (("actor_loss", 1e20), ("validation_error", 1e20), ("dual_loss", np.nan), ("critic_loss", 1.1e38)):
        with pytest.raises(DivergenceError, match=rf"^train/{name} is .*; allowed: finite numbers of at most 1e\+"):
            check_losses({"epochs": 1.0, name: bad}, "train/{}".format)
    for bad in (np.nan, np.inf, -np.inf):
        with pytest.raises(DivergenceError, match=r"^critic_loss is -?(nan|inf)"):
            check_losses({"critic_loss": bad})


def test_the_largest_entry_is_not_the_norm() -> None:
    tensors = [th.full((1000, 3), 0.5 * LIMIT), th.zeros(2)]
    check_magnitudes({"an entry": float(magnitude(tensors, th.inf))})
    for bad in BAD:
        tensors[0][7, 1] = bad
        with pytest.raises(DivergenceError):
            check_magnitudes({"an entry": float(magnitude(tensors, th.inf))})


def test_a_backup_restores_weights_buffers_and_optimisers() -> None:
    network = th.nn.Sequential(th.nn.Linear(3, 3), th.nn.BatchNorm1d(3))
    optimizer = th.optim.Adam(network.parameters())

    def step() -> None:
        optimizer.zero_grad()
        network(th.arange(12.0).view(4, 3)).square().sum().backward()
        optimizer.step()

    fresh = Backup([network], [optimizer])
    start = [tensor.clone() for tensor in network.state_dict().values()]
    step()
    after_one = [tensor.clone() for tensor in network.state_dict().values()]
    backup = Backup([network], [optimizer])
    step()
    after_two = [tensor.clone() for tensor in network.state_dict().values()]
    with th.no_grad():
        network[0].weight.fill_(th.nan)
    for _ in range(2):  # a backup can be used more than once
        backup.restore()
        assert all(map(th.equal, network.state_dict().values(), after_one))
        step()  # the optimiser's moments are those of then, too
        assert all(map(th.equal, network.state_dict().values(), after_two))
    fresh.restore()
    assert all(map(th.equal, network.state_dict().values(), start))
    assert not optimizer.state


class Counter(th.nn.Module):
    """Counts in its extra state, as a plug that anneals something may."""

    def __init__(self) -> None:
        super().__init__()
        self.seen = {"fits": 0}

    def get_extra_state(self) -> dict[str, int]:
        return self.seen

    def set_extra_state(self, state: dict[str, int]) -> None:
        self.seen = state


def test_a_backup_restores_extra_state() -> None:
    network = th.nn.Sequential(th.nn.Linear(3, 3), Counter())
    backup = Backup([network])
    for _ in range(2):  # and holds a state of its own
        network[1].seen["fits"] += 1
        backup.restore()
        assert network[1].seen == {"fits": 0}


def test_a_buffer_that_was_replaced_is_put_back() -> None:
    """TOM's footprint takes a new tensor, of another number of rows, in every model phase."""
    rows = transitions(30)
    footprint = Footprint(3, 2)
    empty = Backup([footprint])
    footprint.remember(rows.rows(th.arange(10)))
    backup = Backup([footprint])
    footprint.remember(rows.rows(th.arange(10, 30)))
    backup.restore()
    assert footprint.contains(rows).tolist() == [True] * 10 + [False] * 20
    empty.restore()
    assert not footprint.contains(rows).any()
