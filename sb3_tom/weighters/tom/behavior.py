r"""
How much likelier an action is under the current policy than among the buffer's rows: an input of TOM's networks.

The log-ratio of occupancies has two parts,

.. math::
    \log \frac{d^\pi(s,a)}{d^D(s,a)} = \log \frac{d^\pi(s)}{d^D(s)} + \log \frac{\pi(a|s)}{\beta(a|s)}.

A discriminator has to find both in a thousand recent rows, although the second needs none of them: the policy :math:`\pi` is
known, and :math:`\beta`, the policy that filled the buffer, can be fitted to all rows. Their log-ratio is an input and not a
summand, so that the discriminator learns how far to follow it: the recent rows are those of the last policies, not of the
current one, and :math:`\beta` is a single Gaussian (before tanh, as SAC's policy is) for a mixture of policies.
"""

import math

import torch as th
from torch import nn

from sb3_tom.compute.chunks import joined, rows_at_once
from sb3_tom.contracts.context import Context
from sb3_tom.contracts.types import Transitions
from sb3_tom.data.moments import moments_of, moments_of_columns
from sb3_tom.data.squashed import before_tanh
from sb3_tom.weighters.tom.folds import places
from sb3_tom.weighters.tom.holdout import descend_to_best, hold_out
from sb3_tom.weighters.tom.networks import Standardizer, mlp, reinitialize

_WIDTHS = (128, 128)
_STEPS = 400
_BATCH = 256
_LEARNING_RATE, _WEIGHT_DECAY = 3e-3, 3e-2  # with less decay it remembers its rows, which blurs the log-ratio in 45 dimensions
_HELD_OUT = 0.1
_LOOKED_AT = 4096
"""Maximum number of held-out rows."""
_LOG_STDS = (-5.0, 2.0)
"""Bounds of a log standard deviation, in units of the buffer's actions before tanh."""


class BehaviorPolicy(nn.Module):
    """
    A squashed Gaussian for the buffer's actions.

    :param observation_dim: size O of an observation
    :param action_dim: size A of an action
    """

    def __init__(self, observation_dim: int, action_dim: int) -> None:
        super().__init__()
        self.observation_scale, self.action_scale = Standardizer(observation_dim), Standardizer(action_dim)
        self.network = nn.Sequential(mlp((observation_dim, *_WIDTHS), nn.Tanh), nn.Linear(_WIDTHS[-1], 2 * action_dim))

    def fit(self, data: Transitions, recent: Transitions, context: Context) -> None:
        """
        Fit a re-initialised network to all rows by maximum likelihood, with early stopping on held-out rows.

        :param data: N rows of the buffer, in the order of collection
        :param recent: rows to be compared with them. Those that are not in the buffer are fitted to as well: what the network
            remembers of its rows would tell them from others
        :param context: its generator and ``n_envs`` are used
        """
        generator = context.generator
        foreign = recent.rows(places(recent, data) < 0)
        if foreign.size:
            data = Transitions(*map(th.cat, zip(data, foreign, strict=True)))
        reinitialize(self, generator)
        self.observation_scale.fit(moments_of(data, "observations"))
        self.action_scale.fit(moments_of_columns(data.size, lambda rows: before_tanh(data.actions[rows])[0]))
        rows, held = hold_out(data.size, _HELD_OUT, generator, context.n_envs)
        if len(held) == 0:  # too few rows for a block of their own
            held = rows
        held = held[th.randperm(len(held), generator=generator, device=held.device)[:_LOOKED_AT]]
        drawn = th.randint(len(rows), (_STEPS, _BATCH), generator=generator, device=rows.device)
        unseen = self._inputs(data, held)
        batches = (self._inputs(data, rows[numbers]) for numbers in drawn)
        title = "fit of the policy that filled the buffer"
        descend_to_best(self, self._loss, lambda: self._loss(*unseen), batches, _STEPS, _LEARNING_RATE, title, _WEIGHT_DECAY)

    @th.no_grad()
    def log_ratio(self, data: Transitions, context: Context) -> th.Tensor:
        r"""
        The feature.

        :param data: B rows
        :param context: its policy is compared with this one
        :return: ``[B, 1]``, :math:`\operatorname{sign}(x) \log(1 + |x|)` of :math:`x = \log \pi(a|s) - \log \beta(a|s)`: where
            the policy is far from an action, x is minus thousands, next to which all other rows would look equal. So it is
            with the own actions of a policy whose mean before tanh is beyond 8, where float32 has only the bound
        """
        ratios = joined((self._log_ratio(part, context) for part in data.split(rows_at_once(data.device))), data.size)
        return ratios.sign() * ratios.abs().log1p()

    def _log_ratio(self, data: Transitions, context: Context) -> th.Tensor:
        return context.log_prob(data.observations, data.actions) - self.log_prob(data.observations, data.actions)

    def log_prob(self, observations: th.Tensor, actions: th.Tensor) -> th.Tensor:
        """
        Log-probabilities of actions.

        :param observations: ``[B, O]``
        :param actions: ``[B, A]`` in [-1, 1]
        :return: ``[B, 1]``
        """
        inner, log_slope = before_tanh(actions)
        standardized = self._log_prob(self.observation_scale(observations), self.action_scale(inner))
        return (standardized - self.action_scale.std.log().sum() - log_slope.sum(-1)).unsqueeze(-1)

    @th.no_grad()
    def _inputs(self, data: Transitions, rows: th.Tensor) -> tuple[th.Tensor, th.Tensor]:
        """Standardised observations and actions before tanh."""
        return self.observation_scale(data.observations[rows]), self.action_scale(before_tanh(data.actions[rows])[0])

    def _log_prob(self, observations: th.Tensor, actions: th.Tensor) -> th.Tensor:
        """Log-densities ``[B]`` of standardised actions before tanh."""
        mean, log_std = self.network(observations).chunk(2, dim=-1)
        log_std = log_std.clamp(*_LOG_STDS)
        unit = (actions - mean) * (-log_std).exp()
        return -(0.5 * unit.square() + log_std + 0.5 * math.log(2.0 * math.pi)).sum(-1)

    def _loss(self, observations: th.Tensor, actions: th.Tensor) -> th.Tensor:
        return -self._log_prob(observations, actions).mean()
