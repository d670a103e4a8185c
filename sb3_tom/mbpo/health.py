"""Signs that training goes wrong though all numbers are finite: logged as ``health/...``, with one warning each."""

import warnings
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch as th

from sb3_tom.checks.guards import CRITIC_LOSS, LARGEST_SQUARE, LIMIT, DivergenceError
from sb3_tom.checks.validation import check_number
from sb3_tom.compute.chunks import rows_at_once
from sb3_tom.contracts.types import RewardFunction, Transitions
from sb3_tom.data.replay_buffer import WeightedReplayBuffer
from sb3_tom.imagination.world import column, known_rewards
from sb3_tom.mbpo.causes import LARGE, largest_entry, time_limit
from sb3_tom.mbpo.situation import Situation

LEAST_EFFECTIVE_ROWS = 100.0
"""Fewer rows do not determine a model of a few dimensions."""

NEWEST = 1000
"""Number of newest real rows for the check of the termination."""

NEWEST_IF_RARE = 10_000
"""The same where fewer than :data:`LEAST_MISTAKES` of them terminated."""

LEAST_MISTAKES = 10
"""Minimum number of wrong terminations for a warning."""

ROWS_EVALUATED = 10_000
"""Rows of which a ``reward_fn`` is asked for its returns, with each round of rollouts."""

STEPS_LOOKED_AT = 100_000
"""Imagined returns are compared with those of at most this many newest steps of each env."""

ENTROPY_PER_ACTION = 10.0
"""Generous bound of an action dimension's share of SAC's entropy bonus, in nats."""


class Health:
    """Evaluates the figures of each verb of the agent. Its state is which warnings were given."""

    def __init__(self) -> None:
        self.warned: set[str] = set()
        self._reward_bound = 0.0
        self._out_of_scale = ""

    def state_dict(self) -> dict[str, Any]:
        """State for a checkpoint."""
        return {"warned": sorted(self.warned), "reward_bound": self._reward_bound, "out_of_scale": self._out_of_scale}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """
        Load which warnings were given.

        :param state: from :meth:`state_dict`
        :raises ValueError: if it is malformed
        """
        if not isinstance(state["warned"], list) or not all(isinstance(sign, str) for sign in state["warned"]):
            raise ValueError("what was warned about is no list of names")
        self.warned, self._reward_bound = set(state["warned"]), check_number("reward_bound", state["reward_bound"], 0.0)
        advice = state.get("out_of_scale", "")  # missing in older checkpoints
        if not isinstance(advice, str):
            raise ValueError("the advice about numbers out of scale is no text")
        self._out_of_scale = advice

    def judge(self, group: str, figures: Mapping[str, float], now: Situation) -> dict[str, float]:
        """
        Evaluate the figures of a verb of the agent, and warn.

        :param group: of the figures: "weighter", "model", "rollout_model" or "train"
        :param figures: figures of the verb
        :param now: state of the agent
        :return: figures for the log, under ``health/``
        :raises DivergenceError: if the critics' loss is larger than the rewards can explain
        """
        judges = {
            "weighter": self._weights,
            "model": self._model,
            "rollout_model": self._imagination,
            "train": self._critics,
        }
        return judges[group](figures, now)

    def waits(self, n_rows: int, needed: int, n_updates: int, env_step: int) -> None:
        """
        Warn once if a trained agent does not train because it was loaded without its replay buffer.

        :param n_rows: rows in the buffer
        :param needed: rows that training needs
        :param n_updates: gradient steps so far
        :param env_step: env steps so far
        """
        if n_updates and "waits" not in self.warned:
            self.warned.add("waits")
            warnings.warn(
                f"at env step {env_step} the replay buffer holds {n_rows} transitions: nothing is trained until there are "
                f"{needed} (learning_starts); load_replay_buffer(path) brings back those that the agent had",
                stacklevel=2,
            )

    def _warn(self, sign: str, value: float, limit: float, now: Situation, text: str) -> None:
        if sign in self.warned:
            return
        self.warned.add(sign)
        warnings.warn(f"health/{sign}={value:.3g} (limit {limit:g}) at env step {now.env_step}: {text}", stacklevel=2)

    def _advice(self, usual: str) -> str:
        """Advice for a warning; scaling comes first if numbers are out of scale."""
        return self._out_of_scale or usual

    def _scale(self, now: Situation, largest_reward: float) -> dict[str, float]:
        """Check the scale of rewards and observations first, since it causes other signs."""
        number, largest, low, high = largest_entry(now.buffer.transitions(), now.units)
        self._out_of_scale = ""
        if largest_reward > LARGE:
            self._out_of_scale = "first scale the rewards (health/largest_reward)"
            text = "rewards are out of scale: divide them in a wrapper (gymnasium.wrappers.TransformReward, VecNormalize)"
            self._warn("largest_reward", largest_reward, LARGE, now, text)
        if largest > LARGE:
            entry = f"entry {number} of the observations"
            self._out_of_scale = f"first see to {entry} (health/largest_observation)"
            text = (
                f"{entry} runs from {low:.10g} to {high:.10g}, where float32 and networks may not see it "
                "change; leave it out if it is a clock or a counter, else shift and scale it in a wrapper"
            )
            self._warn("largest_observation", largest, LARGE, now, text)
        return {"largest_observation": largest, "largest_reward": largest_reward}

    @th.no_grad()
    def _weights(self, figures: Mapping[str, float], now: Situation) -> dict[str, float]:
        scale = self._scale(now, float(now.units.rewards(now.buffer.transitions().rewards.abs().max())))
        rows = now.buffer.n_transitions
        effective = figures["effective_sample_size"] * rows
        if effective < LEAST_EFFECTIVE_ROWS <= rows / 10:
            text = f"the weights reduce {rows} rows to the worth of {effective:.0f}, too few to fit a model to; "
            text += self._advice(
                "use a larger ess_floor or uniform_mix or a smaller max_weight in weighter_kwargs, with PMAC a larger alpha"
            )
            self._warn("effective_rows", effective, LEAST_EFFECTIVE_ROWS, now, text)
        return {**scale, "effective_rows": effective}

    @th.no_grad()
    def _model(self, figures: Mapping[str, float], now: Situation) -> dict[str, float]:
        """Check the termination and a ``reward_fn`` on the newest rows."""
        self._reward_bound = _largest_reward(now)
        buffer = now.buffer
        rows = buffer.newest_rows(min(NEWEST, buffer.n_of_rule))
        batch = buffer.transitions().rows(rows)
        ended = rows, batch
        if int((batch.terminated > 0.5).sum()) < LEAST_MISTAKES and buffer.n_of_rule > NEWEST:  # they are rare
            more = buffer.newest_rows(min(NEWEST_IF_RARE, buffer.n_of_rule))
            ended = more, buffer.transitions().rows(more)
        signs = self._scale(now, self._reward_bound) | self._termination(*ended, now)
        return signs if now.reward_fn is None or batch.size == 0 else signs | self._reward_fn(now.reward_fn, batch, now)

    def _reward_fn(self, reward_fn: RewardFunction, batch: Transitions, now: Situation) -> dict[str, float]:
        """Root mean square difference to the env's rewards, in units of their standard deviation."""
        difference = known_rewards(reward_fn, batch.observations, batch.actions, batch.next_observations) - batch.rewards
        unit = th.maximum(batch.rewards.std(correction=0), 1e-3 * batch.rewards.abs().max()).clamp(min=1e-8)
        mismatch = float(difference.square().mean().sqrt() / unit)
        if mismatch > 0.5:
            text = (
                f"reward_fn differs by so many standard deviations from what the env paid for the newest {batch.size} "
                "transitions; observations and rewards are in the env's units, actions in [-1, 1]"
            )
            self._warn("reward_fn_mismatch", mismatch, 0.5, now, text)
        return {"reward_fn_mismatch": mismatch}

    def _termination(self, rows: th.Tensor, batch: Transitions, now: Situation) -> dict[str, float]:
        """Share of errors among the rows that terminated or were predicted to."""
        said = now.termination(batch.observations, batch.actions, batch.next_observations)
        said = column(now.termination, said, batch.size, th.bool)
        real = batch.terminated > 0.5
        wrong, either = th.stack(((said != real).sum(), (said | real).sum())).tolist()
        mismatch = wrong / max(either, 1)
        if wrong >= LEAST_MISTAKES and mismatch > 0.5 and "termination_mismatch" not in self.warned:
            limit = time_limit(now.buffer, rows[(real & ~said).reshape(-1)].cpu().numpy())
            advice = now.termination.advice() if limit is None else _limit_advice(*limit)
            text = (
                f"of the newest {batch.size} transitions {either} terminated or should have, by termination_fn="
                f"{now.termination_fn!r}, and on {wrong} of them they disagree: {advice}"
            )
            self._warn("termination_mismatch", mismatch, 0.5, now, text)
        return {"termination_mismatch": mismatch}

    def _imagination(self, figures: Mapping[str, float], now: Situation) -> dict[str, float]:
        """How far imagined returns lie outside the range of real ones, relative to its width."""
        asked, kept = figures["phases_asked"], figures["phases_kept"]
        if kept < asked:
            text = (
                f"imagined_capacity has room for {kept:.3g} of the {asked:g} model phases that model_retain_epochs asks for, "
                "at full length; use imagined_capacity=None, or fewer or shorter rollouts"
            )
            self._warn("phases_kept", kept, asked, now, text)
        if figures["length"] == 0.0:
            text = "each rollout was stopped before its first step: the policy learns from real transitions alone; "
            self._warn("stopped_share", 1.0, 1.0, now, text + "see to rollout_stop and its rollout_stop_kwargs")
        if not now.own_rewards or "return_low" not in figures:
            return {}
        low, high = return_range(now.buffer, int(figures["scheduled_length"]), now.reward_fn)
        width = max(high - low, 0.01 * max(abs(low), abs(high)), 1e-8)
        above, below = figures["return_high"] - high, low - figures["return_low"]
        excess = max(above, below, 0.0) / width
        if excess > 0.5:
            imagined = f"{figures['return_low']:.3g} to {figures['return_high']:.3g}"
            cause = "the policy exploits the model" if above >= below else "the model is wrong where the policy goes"
            text = (
                f"nine of ten imagined returns over {figures['scheduled_length']:g} steps are {imagined}, those of real steps "
                f"{low:.3g} to {high:.3g}: {cause}; "
                + self._advice(f"use a shorter rollout_schedule, {now.advice}, or more members in dynamics_kwargs")
            )
            self._warn("imagined_return_excess", excess, 0.5, now, text)
        return {"imagined_return_excess": excess}

    def _critics(self, figures: Mapping[str, float], now: Situation) -> dict[str, float]:
        """Mean value of the policy relative to the largest possible return, by the largest reward so far."""
        if figures.get(CRITIC_LOSS, 0.0) > LIMIT:  # includes rewards since the last fit
            _check_square(figures[CRITIC_LOSS], _largest_reward(now))
        has_bound = now.own_rewards and now.gamma < 1.0 and self._reward_bound > 0.0
        if not has_bound or not {"actor_loss", "ent_coef"} <= figures.keys():
            return {}  # other updates may define their losses differently
        entropy = figures["ent_coef"] * ENTROPY_PER_ACTION * now.n_actions
        bound = (self._reward_bound + entropy) / (1.0 - now.gamma)
        ratio = abs(figures["actor_loss"]) / bound
        if ratio > 1.0:
            text = (
                f"the critics' mean value is about {-figures['actor_loss']:.3g}, but rewards up to {self._reward_bound:.3g} "
                f"and the entropy bonus sum up to {bound:.3g} with gamma={now.gamma:g}: the critics diverge; "
                + self._advice(f"use a smaller learning_rate, tau or update_to_data_ratio, or {now.advice}")
            )
            self._warn("critic_to_bound", ratio, 1.0, now, text)
        return {"critic_to_bound": ratio}


def _check_square(loss: float, largest_reward: float) -> None:
    """Check the critics' loss, relative to the squared rewards if these are above 1."""
    limit = min(LIMIT * max(1.0, largest_reward) ** 2, LARGEST_SQUARE)
    if loss > limit:
        allowed = f"at most {limit:g}, with rewards of at most {largest_reward:g}"
        raise DivergenceError(f"the critic's loss is {loss:g}; allowed: {allowed}")


def _limit_advice(n_limits: int, n_steps: int) -> str:
    return (
        f"{n_limits} ended an episode of exactly {n_steps} steps, and none is longer. That is a time limit, which is not seen "
        "in observations: the env has to return it as truncated, not as terminated (gymnasium.wrappers.TimeLimit does)"
    )


def _largest_reward(now: Situation) -> float:
    """
    Largest absolute reward of the rows in the buffer, in the critics' units: the env's or, with a ``reward_fn``, which gives
    the rewards of imagined rows, also that.
    """
    data = now.buffer.transitions()
    largest = [data.rewards.abs().max()]
    if now.reward_fn is not None:
        for rows in data.split(rows_at_once(data.device)):
            rewards = known_rewards(now.reward_fn, rows.observations, rows.actions, rows.next_observations)
            largest.append(rewards.abs().max().float())
    return float(now.units.rewards(th.stack(largest).max()))


def return_range(buffer: WeightedReplayBuffer, length: int, reward_fn: RewardFunction | None = None) -> tuple[float, float]:
    """
    Smallest and largest undiscounted return of ``length`` steps in a row, or fewer if the episode ends before, among the
    newest :data:`STEPS_LOOKED_AT` steps: with a million rows, and rollouts every few env steps, all would take too long.

    :param buffer: holds at least one row
    :param length: number of steps
    :param reward_fn: gives the rewards, of :data:`ROWS_EVALUATED` rows at most; None: those that the env has paid
    :return: the range; that of single steps times ``length`` if no episode is long enough yet
    """
    order = buffer.positions_oldest_first(STEPS_LOOKED_AT if reward_fn is None else max(ROWS_EVALUATED // buffer.n_envs, 1))
    rewards = (buffer.rewards[order] if reward_fn is None else _known(reward_fn, buffer, order)).astype(np.float64)
    rows = np.arange(len(order))[:, None]
    # Row in which each row's episode ends, len(order) if it has not ended
    ends = np.where(buffer.dones[order] > 0, rows, len(order))
    ends = np.minimum.accumulate(ends[::-1], axis=0)[::-1]
    last = np.minimum(ends, rows + length - 1)
    complete = last < len(order)
    if not complete.any():
        return length * float(rewards.min()), length * float(rewards.max())
    sums = np.concatenate([np.zeros_like(rewards[:1]), rewards.cumsum(0)])
    returns = np.take_along_axis(sums, np.minimum(last, len(order) - 1) + 1, 0) - sums[:-1]
    return float(returns[complete].min()), float(returns[complete].max())


@th.no_grad()
def _known(reward_fn: RewardFunction, buffer: WeightedReplayBuffer, order: np.ndarray) -> np.ndarray:
    """Rewards ``[steps, n_envs]`` of a function for rows of the buffer."""
    steps = (array[order] for array in (buffer.observations, buffer.actions, buffer.next_observations))
    rows = [th.as_tensor(array.reshape(-1, array.shape[-1]), device=buffer.device).float() for array in steps]
    return known_rewards(reward_fn, *rows).cpu().numpy().reshape(len(order), -1)
