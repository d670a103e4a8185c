"""Unit scale for a model's inputs and targets, and the way back to raw units."""

import torch as th
from torch import nn

from sb3_tom.contracts.types import Transitions
from sb3_tom.data.moments import CHANGES, moments_of
from sb3_tom.data.scales import one_for_zero
from sb3_tom.dynamics.renormalization import UnitChange

PREDICT = ("delta", "next")
"""State targets of a model: the change of the observation, or the next observation itself."""

CLAMP_MARGINS = {"range": 0.0, "margin": 0.5, None: float("inf")}
"""
How far outcomes may lie outside the range of the real ones, in widths of that range on each side: not at all, half a width,
unbounded. With "range" no rollout leaves the range seen so far: a goal beyond the best state is not imagined.
"""


def check_clamp(clamp: str | None) -> str | None:
    """
    Check a key of :data:`CLAMP_MARGINS`.

    :param clamp: what came
    :raises ValueError: naming what came and what is allowed
    """
    if clamp is not None and not (isinstance(clamp, str) and clamp in CLAMP_MARGINS):
        raise ValueError(f"clamp={clamp!r} is not allowed; allowed: 'range', 'margin' or None")
    return clamp


LARGEST_CHANGE = 10.0
"""
Largest factor, and largest shift in old units, for which a network is compensated. When a constant entry begins to vary, full
compensation would make its weights or variances unusable.
"""


def _change(old: list[th.Tensor], new: list[th.Tensor], was_constant: th.Tensor) -> UnitChange:
    """The change from old to new means and standard deviations of inputs and targets."""
    old_input_mean, old_input_std, old_target_mean, old_target_std = old
    input_mean, input_std, target_mean, target_std = new
    # Weights of an input that was constant are still at initialisation, which is meant for unit scale
    known_std = th.where(was_constant, input_std, old_input_std)
    varies_now = target_std > 0  # others are predicted exactly, whatever the network outputs
    unit = one_for_zero(target_std)
    scale = th.where(old_target_std > 0, (old_target_std / unit).clamp(1.0 / LARGEST_CHANGE, LARGEST_CHANGE), 0.0)
    shift = ((old_target_mean - target_mean) / unit).clamp(-LARGEST_CHANGE, LARGEST_CHANGE)
    return UnitChange(
        input_scale=(input_std / known_std).clamp(max=LARGEST_CHANGE),
        input_shift=((input_mean - old_input_mean) / known_std).clamp(-LARGEST_CHANGE, LARGEST_CHANGE),
        target_scale=th.where(varies_now, scale, 1.0),
        target_shift=th.where(varies_now, shift, 0.0),
    )


class Normalizer(nn.Module):
    """
    Standardises inputs (observation, action) and targets (reward, then next state) per dimension. In unit scale neither reward
    nor state targets dominate the likelihood (arXiv:2412.14312 shows that MBPO fails without it). A target that never varied
    is predicted exactly: a constant goal in the observation does not drift in rollouts.

    :param observation_dim: size O of an observation
    :param action_dim: size A of an action
    :param predict: "delta" (targets are ``s' - s``) or "next" (targets are ``s'``)
    :param clamp: bounds of outcomes, see :data:`CLAMP_MARGINS`
    """

    def __init__(self, observation_dim: int, action_dim: int, predict: str, clamp: str | None = "range") -> None:
        super().__init__()
        self.predict = predict
        self.margin = CLAMP_MARGINS[clamp]
        n_inputs, n_targets = observation_dim + action_dim, 1 + observation_dim
        self.register_buffer("input_mean", th.zeros(n_inputs))
        self.register_buffer("input_std", th.ones(n_inputs))
        self.register_buffer("target_mean", th.zeros(n_targets))
        self.register_buffer("target_std", th.ones(n_targets))
        # Bounds of rewards and next observations; infinite until the first fit
        self.register_buffer("low", th.full((n_targets,), -th.inf))
        self.register_buffer("high", th.full((n_targets,), th.inf))

    input_mean: th.Tensor
    input_std: th.Tensor
    target_mean: th.Tensor
    target_std: th.Tensor
    low: th.Tensor
    high: th.Tensor

    @property
    def is_fitted(self) -> bool:
        """Whether :meth:`fit` was called: real data never give these initial values."""
        begun_with = zip(self._scales(), (0.0, 1.0, 0.0, 1.0), strict=True)
        return not all(bool((part == value).all()) for part, value in begun_with)

    def fit(self, data: Transitions) -> UnitChange | None:
        """
        Compute scales and ranges of the data, unweighted, so that they change slowly from phase to phase.

        :param data: N rows, terminal ones included
        :return: change of the units; None the first time
        """
        known, old = self.is_fitted, self._scales()
        was_constant = self._constant_inputs()
        inputs, outcomes = moments_of(data, "observations", "actions"), moments_of(data, "rewards", "next_observations")
        targets = moments_of(data, "rewards", CHANGES) if self.predict == "delta" else outcomes
        # The rounding of differences is that of the observations
        target_std = targets.varying(outcomes.magnitude)
        low, high = outcomes.low, outcomes.high
        beyond = th.where(high > low, self.margin * (high - low), 0.0)
        # While an input is constant, near what it was, its unit stays what its weights were learned in
        is_near = (inputs.mean - old[0]).abs() <= LARGEST_CHANGE * old[1]
        paused = (inputs.varying() == 0.0) & is_near & ~was_constant if known else th.zeros_like(was_constant)
        input_mean = th.where(paused, old[0], inputs.mean)
        input_std = th.where(paused, old[1], inputs.scale)
        for buffer, value in zip(
            (self.input_mean, self.input_std, self.target_mean, self.target_std, self.low, self.high),
            (input_mean, input_std, targets.mean, target_std, low - beyond, high + beyond),
            strict=True,
        ):
            buffer.copy_(value)
        return _change(old, self._scales(), was_constant) if known else None

    def _scales(self) -> list[th.Tensor]:
        return [part.double() for part in (self.input_mean, self.input_std, self.target_mean, self.target_std)]

    def _constant_inputs(self) -> th.Tensor:
        """Which inputs ``[O + A]`` are observations that never varied, so that their weights were not learned."""
        constant = self.input_std == 1.0
        n_observed = self.low.numel() - 1
        constant[:n_observed] &= self.low[1:] == self.high[1:]
        constant[n_observed:] = False
        return constant

    def inputs(self, observations: th.Tensor, actions: th.Tensor) -> th.Tensor:
        """
        Inputs of the network.

        :param observations: ``[..., O]``
        :param actions: ``[..., A]``
        :return: ``[..., O + A]`` in unit scale
        """
        return (th.cat([observations, actions], dim=-1) - self.input_mean) / self.input_std

    def targets(self, batch: Transitions) -> th.Tensor:
        """
        Targets of the network.

        :param batch: fields ``[..., .]``
        :return: ``[..., 1 + O]`` in unit scale, the reward first; 0 where they never varied
        """
        return (self._raw_targets(batch) - self.target_mean) / one_for_zero(self.target_std)

    def outcomes(self, targets: th.Tensor, observations: th.Tensor) -> tuple[th.Tensor, th.Tensor]:
        """
        Back to raw units, clamped by :data:`CLAMP_MARGINS`: a model evaluated far outside its data must not feed implausible
        values to the critics.

        :param targets: ``[..., 1 + O]`` in unit scale
        :param observations: ``[..., O]``, where the transition started
        :return: next observations ``[..., O]``, rewards ``[..., 1]``
        """
        states, rewards = self.raw_outcomes(targets, observations)
        if self.margin == th.inf:
            return states, rewards
        return th.clamp(states, self.low[1:], self.high[1:]), th.clamp(rewards, self.low[:1], self.high[:1])

    def raw_outcomes(self, targets: th.Tensor, observations: th.Tensor) -> tuple[th.Tensor, th.Tensor]:
        """
        Back to raw units, without bounds.

        :param targets: ``[..., 1 + O]`` in unit scale
        :param observations: ``[..., O]``, where the transition started
        :return: next observations ``[..., O]``, rewards ``[..., 1]``
        """
        raw = targets * self.target_std + self.target_mean
        rewards, states = raw.split([1, raw.shape[-1] - 1], dim=-1)
        return observations + states if self.predict == "delta" else states, rewards

    def _raw_targets(self, batch: Transitions) -> th.Tensor:
        states = batch.next_observations
        if self.predict == "delta":
            states = states - batch.observations
        return th.cat([batch.rewards, states], dim=-1)
