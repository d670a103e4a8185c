"""PDML against loops over blocks and states with whole matrices."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch as th
from hypothesis import given
from hypothesis import strategies as st

from sb3_tom.contracts.context import Context
from sb3_tom.contracts.types import Transitions
from sb3_tom.data.weights import usable_weights
from sb3_tom.weighters.pdml import PDMLWeighter, distance_bound, superfluous
from tests.weighters.small import context, transitions

OBS, ACT = 3, 2
NUMBERS = OBS * ACT + ACT


class Policy:
    """Linear in the observation; counts how often any of them is asked."""

    asked = 0

    def __init__(self, numbers: th.Tensor) -> None:
        self.numbers = numbers

    def gaussian(self, observations: th.Tensor) -> tuple[th.Tensor, th.Tensor]:
        Policy.asked += 1
        mean = observations @ self.numbers[: OBS * ACT].view(OBS, ACT)
        return mean, self.numbers[OBS * ACT :].expand(len(observations), ACT)

    def state(self) -> th.Tensor:
        return self.numbers.clone()

    def restore(self, state: th.Tensor) -> None:
        self.numbers = state


def numbers(version: int) -> th.Tensor:
    """Of the policy at the end of a block: it wanders."""
    steps = 0.1 * th.randn(version + 1, NUMBERS, generator=th.Generator().manual_seed(3))
    return steps.sum(0)


def at(version: int) -> Context:
    """The view of an agent whose policy is that at the end of a block, in which the next phase begins."""
    return replace(context(policy_version=version), snapshot=lambda: Policy(numbers(version)))


def rows_of(versions: list[int]) -> Transitions:
    return transitions(len(versions), OBS, ACT)._replace(policy_version=th.tensor(versions))


def phase(weighter: PDMLWeighter, data: Transitions, version: int) -> th.Tensor:
    """A model phase in which the agent's version rises to the next one."""
    view = at(version)
    weighter.fit(data, data, data.observations, view)
    weights = weighter.weights(data, view)
    weighter.end_phase(data, replace(view, policy_version=version + 1))
    return weights


def built(**arguments: Any) -> PDMLWeighter:
    weighter = PDMLWeighter(**arguments)
    weighter.build(OBS, ACT)
    return weighter


def naive_distance(now: tuple[th.Tensor, th.Tensor], past: tuple[th.Tensor, th.Tensor]) -> float:
    """The divergence of Gaussians with covariance matrices, state by state."""
    distances = []
    for row in range(len(now[0])):
        means = [part[0][row].double().numpy() for part in (now, past)]
        covariances = [np.diag(np.exp(2.0 * part[1][row].double().numpy())) for part in (now, past)]
        inverse, gap = np.linalg.inv(covariances[1]), means[1] - means[0]
        divergence = 0.5 * (
            np.trace(inverse @ covariances[0])
            + gap @ inverse @ gap
            - len(gap)
            + np.log(np.linalg.det(covariances[1]) / np.linalg.det(covariances[0]))
        )
        distances.append(np.sqrt(0.5 * max(divergence, 0.0)))
    return float(np.mean(distances))


def naive_weights(versions: list[int], states: th.Tensor, now: int, arguments: dict[str, float]) -> np.ndarray:
    """As the authors' code, with a list of blocks: distances of all but warm-up and newest, then these two."""
    blocks = sorted(set(versions) - {0, now})
    current = Policy(numbers(now)).gaussian(states)
    weights = {
        block: 1.0 / max(naive_distance(current, Policy(numbers(block)).gaussian(states)), arguments["min_distance"])
        for block in blocks
    }
    newest = max(weights.values())
    if 0 in versions:
        weights[0] = arguments["warmup_share"] * weights[blocks[0]]
    share = arguments["newest_share"]
    weights[now] = max(newest, sum(weights.values()) * share / (1.0 - share))
    per_row = np.array([weights[version] for version in versions])
    return per_row / per_row.mean()


@pytest.mark.parametrize("first", [0, 1, 3])
@pytest.mark.parametrize("newest_share", [0.0, 0.02, 0.6])
@pytest.mark.parametrize("warmup_share", [0.0, 0.05, 1.0])
def test_weights_are_those_of_a_loop(first: int, newest_share: float, warmup_share: float) -> None:
    """Blocks of different sizes, in any order; the oldest have left the buffer, or not."""
    arguments = {"newest_share": newest_share, "warmup_share": warmup_share, "min_distance": 0.2}
    weighter = built(n_states=2_000, **arguments)
    versions = [version for version in range(8) for _ in range(5 + 3 * version % 7) if version >= first]
    for version in range(7):
        phase(weighter, rows_of([row for row in range(version + 1) for _ in range(4)]), version)
    data = rows_of(versions).rows(th.randperm(len(versions)))
    versions = data.policy_version.tolist()
    view = at(7)
    weighter.fit(data, data, data.observations, view)
    drawn = th.randint(data.size, (2_000,), generator=at(7).generator)
    expected = naive_weights(versions, data.observations[drawn], 7, arguments)
    found = usable_weights(weighter.weights(data, view), weighter, data.size)
    np.testing.assert_allclose(found, expected, rtol=1e-4)


@pytest.mark.parametrize("scale", [1e-8, 1e-3, 1.0, 30.0])
def test_distances_are_those_of_whole_matrices(scale: float) -> None:
    """The same to the last digits that matrices have; where these fail, close to 0."""
    now, past = [(th.randn(40, 4), 0.5 * th.randn(40, 4)) for _ in range(2)]
    past = tuple(one + scale * other for one, other in zip(now, past, strict=True))
    expected = naive_distance(now, past)
    assert float(distance_bound(now, past)) == pytest.approx(expected, rel=1e-3, abs=1e-7)
    assert float(distance_bound(now, now)) == 0.0


def test_a_distance_is_an_upper_bound_of_the_total_variation() -> None:
    """By integration, before tanh, which changes no total variation."""
    grid = th.linspace(-30.0, 30.0, 200_001, dtype=th.float64)
    for mean, log_std in ((0.1, 0.0), (1.0, 0.3), (0.0, -1.0), (3.0, 1.0), (0.01, 0.0)):
        densities = [th.distributions.Normal(m, np.exp(s)).log_prob(grid).exp() for m, s in ((0.0, 0.0), (mean, log_std))]
        variation = float(0.5 * th.trapezoid((densities[0] - densities[1]).abs(), grid))
        parts = [(th.tensor([[m]]), th.tensor([[s]])) for m, s in ((0.0, 0.0), (mean, log_std))]
        found = float(distance_bound(*parts))
        assert variation <= found * (1.0 + 1e-6)
        assert found < 3.0 * variation


def test_nothing_is_known_of_the_first_two_phases() -> None:
    weighter = built()
    assert th.equal(phase(weighter, rows_of([0] * 10), 0), th.ones(10).double())
    assert th.equal(phase(weighter, rows_of([0] * 10 + [1] * 5), 1), th.ones(15).double())
    assert weighter.blocks.tolist() == [1]
    assert len(phase(weighter, rows_of([0] * 10 + [1] * 5 + [2] * 5), 2).unique()) > 1


def test_rows_of_a_policy_that_was_given_up_have_the_next_ones_weight() -> None:
    weighter = built(n_policies=4)
    for version in range(40):
        phase(weighter, rows_of([*range(version + 1)]), version)
    data, kept = rows_of([*range(41)]), weighter.blocks.tolist()
    view = at(40)
    weighter.fit(data, data, data.observations, view)
    weights = weighter.weights(data, view)
    assert len(kept) == 4 and (kept[0], kept[-1]) == (1, 39)
    for version in range(1, 40):
        stands_for_it = min(block for block in kept if block >= version)
        assert float(weights[version]) == float(weights[stands_for_it])
    assert len(weights[kept].unique()) == 4


@given(n_policies=st.integers(3, 20), n_phases=st.integers(1, 300), ring=st.integers(2, 400))
def test_the_cost_does_not_depend_on_the_length_of_the_run(n_policies: int, n_phases: int, ring: int) -> None:
    """At most so many policies, none of rows that are gone; those that are kept are at ages in proportion."""
    weighter = built(n_policies=n_policies, n_states=1)
    policy = Policy(th.zeros(NUMBERS))
    for version in range(1, n_phases + 1):
        data = rows_of([*range(max(1, version - ring), version + 1)])
        weighter.end_phase(data, replace(context(policy_version=version + 1), snapshot=lambda: policy))
    blocks = weighter.blocks.tolist()
    assert len(blocks) == len(weighter.policies) == len(weighter.distances) <= n_policies
    assert blocks == sorted(set(blocks)) and blocks[-1] == n_phases and blocks[0] >= max(1, n_phases - ring)
    assert ring < n_phases or len(blocks) == min(n_policies, n_phases)
    Policy.asked = 0
    weighter.fit(data, data, data.observations, replace(context(), snapshot=lambda: Policy(th.zeros(NUMBERS))))
    assert Policy.asked == len(blocks) + 1


def test_kept_policies_are_at_ages_in_geometric_progression() -> None:
    blocks = th.zeros(0, dtype=th.int64)
    for block in range(1, 2_001):
        blocks = th.cat([blocks, th.tensor([block])])
        if len(blocks) > 24:
            blocks = blocks[th.arange(25) != superfluous(blocks)]
    ages = (2_001 - blocks).double()
    assert int(ages[0]) == 2_000 and int(ages[-1]) == 1
    gaps = (ages[:-1] - 1.0) / ages[1:]  # neighbours have 1 at most
    assert float(gaps.max()) < 2.5, ages


def test_a_policy_without_rows_of_its_own_changes_nothing() -> None:
    """Offline, a model can be fitted twice to the same rows."""
    weighter, data = built(), rows_of([0, 0, 1, 1])
    phase(weighter, data, 1)
    before = weighter.policies.clone()
    phase(weighter, data, 1)
    assert th.equal(weighter.policies, before) and weighter.blocks.tolist() == [1]


def test_a_policy_that_did_not_learn_is_no_division_by_zero() -> None:
    weighter = built(min_distance=1e-300)
    same = replace(at(0), snapshot=lambda: Policy(th.zeros(NUMBERS)))
    for version in range(4):
        data, view = rows_of([*range(version + 1)]), replace(same, policy_version=version)
        weighter.fit(data, data, data.observations, view)
        weights = weighter.weights(data, view)
        assert bool(th.isfinite(usable_weights(weights, weighter, data.size)).all())
        weighter.end_phase(data, replace(view, policy_version=version + 1))
    assert weights.tolist() == pytest.approx([0.05, 1.0, 1.0, 1.0])


def test_rows_of_another_run_are_as_little_known_as_the_warm_up() -> None:
    """Their versions are older than that of the first policy which was kept: it is not theirs."""
    foreign, known = built(warmup_share=0.05), built(warmup_share=0.05)
    for version in (6, 7, 8):
        weights = phase(foreign, rows_of([3] * 8 + [4] * 8 + [*range(6, version + 1)] * 4), version)
        expected = phase(known, rows_of([0] * 16 + [*range(6, version + 1)] * 4), version)
        assert th.equal(weights, expected)
    assert foreign.blocks.tolist() == [6, 7, 8] and weights[0] < 0.1 * weights[16:].min()


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("n_policies", (2, 2.5)),
        ("n_states", (0, None)),
        ("newest_share", (1.0, -0.1)),
        ("warmup_share", (1.1, True)),
        ("min_distance", (0.0, "1")),
    ],
)
def test_arguments_are_checked(name: str, values: tuple[object, ...]) -> None:
    for value in values:
        with pytest.raises(ValueError, match=rf"{name}=.* is not allowed; allowed: an? (number in|integer)"):
            PDMLWeighter(**{name: value})
