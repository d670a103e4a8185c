"""One policy in all rows: its true weights are 1, at each time of an episode."""

from typing import NamedTuple

import pytest
import torch as th

from sb3_tom.contracts.context import Context
from sb3_tom.contracts.types import Transitions
from sb3_tom.weighters.tom.weighter import TOMWeighter

N_ROWS = 10_000
SPREAD = th.tensor([[0.005, 0.05, 0.05]])
"""Standard deviation of the noise of each state."""


class NoRatio(TOMWeighter):
    """TOM with the true log-ratio, 0."""

    def fit_log_ratio(self, data: Transitions, recent: Transitions, context: Context) -> dict[str, th.Tensor]:
        return {}

    def log_ratio(self, data: Transitions, context: Context) -> th.Tensor:
        return th.zeros(data.size)


class Episodes(NamedTuple):
    """Rows of one policy, the time in its episode ``[N]`` of each, the states that episodes began with, and the policy."""

    data: Transitions
    time: th.Tensor
    starts: th.Tensor
    context: Context


def episodes(seed: int, terminating: bool) -> Episodes:
    """
    Episodes of 1,000 steps, which a time limit cuts, or which a jump may end before: after 200 steps in the mean. The first of
    three states decays within 200 steps, so that early states differ from late ones.
    """
    generator = th.Generator().manual_seed(seed)

    def sampler(observations: th.Tensor, n_actions: int) -> th.Tensor:
        noise = th.randn(len(observations), n_actions, 2, generator=generator)
        return th.tanh(0.5 * observations[:, None, 1:] + 0.5 * noise)

    rows, times, starts, time = [], [], [], 0
    decay, offset = th.tensor([[0.995, 0.9, 0.8]]), th.tensor([[2.0, 0.0, 0.0]])
    state = offset
    for _ in range(N_ROWS):
        if time == 0:
            state = offset + 0.3 * th.randn(1, 3, generator=generator)
            starts.append(state)
        action = sampler(state, 1)[:, 0]
        push = th.cat([0.05 * action.sum(1, keepdim=True), 0.3 * action], dim=1)
        after = decay * state + push * 0.3 + SPREAD * th.randn(1, 3, generator=generator)
        ended = terminating and float(th.rand((), generator=generator)) < 0.005
        cut = not ended and time == 999
        rows.append((state, action, after, th.zeros(1, 1), th.full((1, 1), float(ended)), th.full((1, 1), float(cut))))
        times.append(time)
        time = 0 if ended or cut else time + 1
        state = after
    observations, actions, following, rewards, terminated, truncated = (th.cat(field) for field in zip(*rows, strict=True))
    versions = th.zeros(N_ROWS, dtype=th.long)
    data = Transitions(observations, actions, following, rewards, terminated, versions, truncated)

    def policy(observations: th.Tensor) -> tuple[th.Tensor, th.Tensor]:
        return sampler(observations, 1)[:, 0], th.zeros(len(observations), 1)

    context = Context(policy, policy_version=1, generator=generator, action_sampler=sampler)
    return Episodes(data, th.tensor(times), th.cat(starts), context)


def quarters(tom: TOMWeighter, given: Episodes) -> th.Tensor:
    """Mean weights ``[4]`` of four equally large groups of rows: the earliest in their episode, ..., the latest."""
    tom.build(3, 2)
    tom.fit(given.data, given.data.rows(th.arange(N_ROWS - 1000, N_ROWS)), given.starts, given.context)
    weights = th.as_tensor(tom.weights(given.data, given.context))
    weights = weights / weights.mean()
    return weights[given.time.argsort(stable=True)].view(4, -1).mean(1)


def is_flat(values: th.Tensor) -> bool:
    return bool(((values >= 0.8) & (values <= 1.25)).all())


@pytest.mark.parametrize("terminating", [False, True])
def test_one_policy_weighs_alike_at_all_times(terminating: bool) -> None:
    assert is_flat(quarters(NoRatio(), episodes(0, terminating)))


def test_a_discounted_flow_bends_the_weights() -> None:
    """The test above can fail: with the agent's discount, the first steps of an episode are the most visited."""
    values = quarters(NoRatio(occupancy_gamma=0.99), episodes(0, terminating=False))
    assert values[0] > 1.4, values
    assert not is_flat(values), values


@pytest.mark.expensive
@pytest.mark.parametrize("terminating", [False, True])
@pytest.mark.parametrize("seed", range(1, 5))
def test_one_policy_weighs_alike_at_all_times_in_other_data(seed: int, terminating: bool) -> None:
    assert is_flat(quarters(NoRatio(), episodes(seed, terminating)))
