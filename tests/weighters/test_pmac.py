"""PMAC against Algorithm 1, run literally, with a ring that forgets."""

import numpy as np
import pytest
import torch as th
from hypothesis import given, settings
from hypothesis import strategies as st

from sb3_tom import PMACWeighter, UniformWeighter
from sb3_tom.weighters.pmac import pmac_weights


def algorithm_1(versions: np.ndarray, current: int, alpha: float) -> np.ndarray:
    """One weight per policy; old ones decay, the new one gets (1 - alpha) / alpha of their sum; then evicted ones drop out."""
    weights = [1.0]
    for _ in range(current):
        weights = [alpha * weight for weight in weights]
        weights.append((1 - alpha) / alpha * sum(weights))
    total = sum(weights[version] for version in set(versions.tolist()))
    rows = np.array([weights[version] / (versions == version).sum() for version in versions])
    return rows / total * len(versions)


@settings(max_examples=60, deadline=None)
@given(
    blocks=st.lists(st.integers(0, 9), min_size=1, max_size=12),
    capacity=st.integers(1, 40),
    alpha=st.floats(0.05, 0.97),
)
def test_against_algorithm_1_under_ring_wrap(blocks: list[int], capacity: int, alpha: float) -> None:
    ring = np.full(capacity, -1)
    position = 0
    for version, size in enumerate(blocks):
        for _ in range(size):
            ring[position % capacity] = version
            position += 1
    versions = ring[ring >= 0]
    if len(versions) == 0:
        return
    found = pmac_weights(th.as_tensor(versions), len(blocks) - 1, alpha).numpy()
    np.testing.assert_allclose(found, algorithm_1(versions, len(blocks) - 1, alpha), rtol=1e-9)


def test_shares_of_the_paper() -> None:
    versions = th.tensor([0, 0, 0, 1, 2, 2])
    weights = pmac_weights(versions, 2, 0.9) / 6
    assert weights[:3].sum() == pytest.approx(0.81)
    assert weights[3] == pytest.approx(0.09)
    assert weights[4:].sum() == pytest.approx(0.1)


def test_one_block_is_uniform() -> None:
    assert th.equal(pmac_weights(th.full((5,), 3), 7, 0.5), th.ones(5, dtype=th.float64))


@pytest.mark.parametrize("alpha", [0.0, 1.0, -0.1, "0.9", None, True, float("nan")])
def test_bad_alpha_is_named(alpha: object) -> None:
    with pytest.raises(ValueError, match=r"alpha=.*allowed"):
        PMACWeighter(alpha)  # type: ignore[arg-type]


def test_uniform_weights_are_one() -> None:
    from tests.weighters.test_tom import context, rows

    assert th.equal(UniformWeighter().weights(rows(7), context()).float(), th.ones(7))
