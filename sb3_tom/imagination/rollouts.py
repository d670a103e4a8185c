"""Branched rollouts: short imagined continuations of real states under the current policy (MBPO, arXiv:1906.08253, Alg. 2)."""

import torch as th

from sb3_tom.checks.guards import DivergenceError, check_magnitudes, magnitude
from sb3_tom.compute.chunks import rows_at_once
from sb3_tom.contracts.context import Context
from sb3_tom.contracts.types import Transitions
from sb3_tom.data.imagined import ImaginedBuffer
from sb3_tom.imagination.world import World

_RETURNS = 10_000
"""Maximum number of rollouts for the quantiles of returns in the log."""


@th.no_grad()
def branched_rollouts(
    world: World,
    start_observations: th.Tensor,
    length: int,
    context: Context,
    imagined: ImaginedBuffer,
) -> dict[str, float]:
    """
    Roll the policy out in the model from each start and store every transition up to and including a termination. Figures are
    those of the stored rows; rollouts continue from, and end by, the transitions before the objective relabels them.

    :param world: model, termination and reward
    :param start_observations: ``[B, O]`` real observations
    :param length: steps of each rollout at most
    :param context: view of the agent
    :param imagined: the buffer to store them in
    :return: figures for the log: mean length, share of terminations, mean reward, the 5 % and 95 % quantiles of the returns
        of rollouts that no stop has cut short (``return_low``, ``return_high``; missing if all were), and those of the
        world's stop and confidence, if it has them
    :raises DivergenceError: if a prediction is not usable
    """
    alive_steps = th.zeros((), device=start_observations.device)
    ends, largest_state, largest_reward = alive_steps.clone(), alive_steps.clone(), alive_steps.clone()
    judged = _Judged(world, context)
    returns, whole = [], []
    for observations in start_observations.split(rows_at_once(start_observations.device)):
        alive = th.ones(observations.shape[0], 1, dtype=th.bool, device=observations.device)
        returns.append(th.zeros(observations.shape[0], 1, device=observations.device))
        whole.append(alive)
        for _ in range(length):
            batch = world.step(observations, context)
            judged.begin(batch)
            alive, before = judged.going_on(batch, alive), alive
            whole[-1] = whole[-1] & (alive | ~before)
            stored = world.relabel(batch, context)
            imagined.add(stored, alive.squeeze(1), judged.confidence(batch, alive))
            alive_steps += alive.sum()
            returns[-1] += stored.rewards * alive
            largest_state = th.maximum(largest_state, magnitude([batch.next_observations], th.inf))
            largest_reward = th.maximum(largest_reward, magnitude([stored.rewards], th.inf))
            ends += (stored.terminated * alive).sum()
            alive = alive & (batch.terminated == 0)
            observations = th.where(alive, batch.next_observations, observations)
    model = type(world.model).__name__
    check_magnitudes(
        {
            f"the largest entry of the next observations that {model} predicts": float(largest_state),
            f"the largest imagined reward ({model if world.reward_fn is None else 'reward_fn'})": float(largest_reward),
        }
    )
    return {
        "length": float(alive_steps / start_observations.shape[0]),
        "terminated_share": float(ends / alive_steps.clamp(min=1.0)),
        "reward_mean": float(th.cat(returns).sum() / alive_steps.clamp(min=1.0)),
        **_range(th.cat(returns)[:_RETURNS], th.cat(whole)[:_RETURNS]),
        **judged.figures(alive_steps, start_observations.shape[0]),
    }


def _range(returns: th.Tensor, whole: th.Tensor) -> dict[str, float]:
    """Quantiles of the returns ``[B, 1]`` of whole rollouts, if there is one."""
    counted = returns[whole]
    if len(counted) == 0:
        return {}
    low, high = th.quantile(counted, th.tensor([0.05, 0.95], device=returns.device)).tolist()
    return {"return_low": low, "return_high": high}


class _Judged:
    """Evaluates the world's stop and confidence, and sums their results for the log."""

    def __init__(self, world: World, context: Context) -> None:
        self._world, self._context = world, context
        self._begun = False
        self._stopped: th.Tensor | float = 0.0
        self._confidences: list[th.Tensor] = []  # sum, sum of squares and minimum of each step

    def begin(self, batch: Transitions) -> None:
        """Pass the first transitions of a round to the stop, once, before it is evaluated."""
        if not self._begun:
            self._world.begin(batch, self._context)
        self._begun = True

    def going_on(self, batch: Transitions, alive: th.Tensor) -> th.Tensor:
        """Which rollouts ``[B, 1]`` keep this transition and go on: those that are alive and do not stop."""
        stops = self._world.stops(batch, self._context)
        if stops is None:
            return alive
        self._stopped = self._stopped + (stops & alive).sum()
        return alive & ~stops

    def confidence(self, batch: Transitions, alive: th.Tensor) -> th.Tensor | None:
        """Confidence ``[B, 1]``, or None if all count the same."""
        confidence = self._world.trust(batch, self._context)
        if confidence is not None:
            counted = confidence * alive
            self._confidences.append(th.stack([counted.sum(), counted.square().sum(), confidence.min()]))
        return confidence

    def figures(self, n_rows: th.Tensor, n_rollouts: int) -> dict[str, float]:
        """
        Figures for the log: share of stopped rollouts, mean confidence, and its effective sample size as a share of the rows.

        :raises DivergenceError: if a confidence is not usable
        """
        figures: dict[str, float] = {}
        if self._world.rollout_stop is not None:
            figures["stopped_share"] = float(self._stopped) / n_rollouts
        if self._confidences:
            sums = th.stack(self._confidences)
            total, squares, rows = (float(value) for value in (*sums[:, :2].sum(0), n_rows))
            name = type(self._world.confidence).__name__
            check_magnitudes({f"the sum of what {name} says": total})
            if float(sums[:, 2].min()) < 0.0:
                raise DivergenceError(f"{name} returned a negative confidence; allowed: at least 0")
            figures["confidence_mean"] = total / max(rows, 1.0)
            figures["confidence_effective_share"] = total**2 / (squares * rows) if squares > 0.0 else 0.0
        return figures
