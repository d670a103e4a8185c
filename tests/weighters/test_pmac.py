"""PMAC against Algorithm 1 of its paper, run literally."""

from statistics import median_low

import numpy as np
import pytest
import torch as th
from hypothesis import given
from hypothesis import strategies as st

from sb3_tom.data.weights import usable_weights
from sb3_tom.weighters.pmac import PMACWeighter, pmac_weights
from tests.weighters.small import context, transitions


def algorithm_1(rows_of_block: list[int], capacity: int, alpha: float) -> tuple[np.ndarray, np.ndarray]:
    """
    Collect block after block into a ring, and after each update the weights of all policies as Algorithm 1 says. At the end a
    block with less than half of the median block's rows, which the paper does not have, loses weight in proportion.

    :return: policy version and weight of each row that the ring still holds, oldest first; the weights have mean 1
    """
    ring: list[int] = []
    weights: list[float] = []
    for version, n_rows in enumerate(rows_of_block):
        ring = (ring + [version] * n_rows)[-capacity:]
        if version == 0:
            weights = [1.0]
            continue
        weights = [alpha * weight for weight in weights]
        weights.append((1 - alpha) / alpha * sum(weights))
        assert sum(weights) == pytest.approx(1.0)  # the paper's remark
    held = np.array(ring)
    counts = [ring.count(version) for version in range(1, len(weights)) if version in ring]
    for version in range(1, len(weights)):
        if 0 < 2 * ring.count(version) < median_low(counts):
            weights[version] *= 2 * ring.count(version) / median_low(counts)
    per_row = np.array([weights[version] / ring.count(version) for version in ring])
    return held, per_row / per_row.mean()


@given(
    rows_of_block=st.lists(st.integers(1, 7), min_size=1, max_size=25),
    capacity=st.integers(1, 60),
    alpha=st.floats(0.05, 0.99),
    shuffle=st.integers(0, 2**31),
)
def test_is_algorithm_1(rows_of_block: list[int], capacity: int, alpha: float, shuffle: int) -> None:
    versions, expected = algorithm_1(rows_of_block, capacity, alpha)
    order = np.random.default_rng(shuffle).permutation(len(versions))  # where the ring begins does not matter
    weights = pmac_weights(th.as_tensor(versions[order]), len(rows_of_block) - 1, alpha)
    np.testing.assert_allclose(weights.numpy(), expected[order], rtol=1e-9)


def test_shares_of_the_paper() -> None:
    """Block of age j has the share (1 - alpha) alpha^j, block 0 what is left: alpha^k."""
    versions = th.arange(23).repeat_interleave(5)
    shares = pmac_weights(versions, 22, 0.9).view(23, 5).sum(1) / 115
    expected = 0.1 * 0.9 ** np.arange(22, -1, -1.0)
    expected[0] = 0.9**22
    np.testing.assert_allclose(shares, expected, rtol=1e-12)
    assert float(shares[-7:].sum()) > 0.5 > float(shares[-6:].sum())  # half of it on the newest 6.6 blocks


def test_a_block_that_was_cut_short_counts_by_its_rows() -> None:
    """As after a load, or an interrupt in a model phase: by Algorithm 1 a single row would have a tenth of all weight."""
    versions = th.cat([th.zeros(1000), *[th.full((250,), float(k)) for k in range(1, 6)], th.full((1,), 6.0)]).long()
    weights = pmac_weights(versions, 6, 0.9)
    whole = pmac_weights(versions[:-1], 6, 0.9)
    assert float(weights[-1]) < 3 * float(whole[-1]) and float(weights.mean()) == pytest.approx(1.0)
    assert th.allclose(weights[:-1] / weights[0], whole / whole[0])
    regular = th.cat([th.zeros(1000), *[th.full((245 + 7 * (k % 2),), float(k)) for k in range(1, 6)]]).long()
    shares = th.zeros(6, dtype=th.float64).index_add(0, regular, pmac_weights(regular, 5, 0.9)) / len(regular)
    assert th.allclose(shares[1:] / shares[5], th.tensor([0.9**k for k in (4, 3, 2, 1, 0)], dtype=th.float64))


def test_the_newest_block_may_be_empty() -> None:
    """A policy that has collected nothing yet takes no share; ages count from it all the same."""
    versions = th.tensor([3, 3, 4])
    ours, one_later = pmac_weights(versions, 4, 0.8), pmac_weights(versions, 5, 0.8)
    np.testing.assert_allclose(ours, one_later, rtol=1e-12)
    assert float(ours[2] / ours[0]) == pytest.approx(2 / 0.8)


def test_old_rows_only() -> None:
    """0.9 ** 100,000 is 0 in float64; the ratios are still those of the blocks."""
    weights = pmac_weights(th.tensor([1, 2, 2]), 100_000, 0.9)
    np.testing.assert_allclose(weights, 3 * np.array([0.9, 0.5, 0.5]) / 1.9, rtol=1e-9)


def test_through_the_contract() -> None:
    """Block 0 alone is uniform; normalising for use changes nothing; a million rows are no work."""
    data, weighter = transitions(1000), PMACWeighter()
    weighter.build(3, 2)
    assert th.equal(
        weighter.weights(data._replace(policy_version=th.zeros(1000, dtype=th.long)), context()), th.ones(1000).double()
    )
    versions = th.arange(1_000_000) // 250
    many = transitions(1)._replace(observations=th.zeros(1_000_000, 1), policy_version=versions)
    weights = weighter.weights(many, context(policy_version=4000))
    np.testing.assert_allclose(usable_weights(weights, weighter, 1_000_000), weights, rtol=1e-6, atol=1e-30)
    assert float(weights[-250:].sum() / weights.sum()) == pytest.approx(0.1 * 0.9 / 0.9, rel=1e-9)


@pytest.mark.parametrize("alpha", [0.0, 1.0, -0.1, 1.5, float("nan"), "0.9", True, None])
def test_alpha_is_checked(alpha: object) -> None:
    with pytest.raises(ValueError, match=r"alpha=.*\(0, 1\)"):
        PMACWeighter(alpha=alpha)
