r"""
Classifiers of real transitions (s, a, s') against those of a model, one for each of its E members.

Inputs of a network: state and action in unit scale; the outcome y, that is s' as a target of the model; and the residual of y
in units of the member's predicted noise, :math:`\operatorname{arsinh}((y - \mu) / \sigma)`. The residual is a function of
(s, a, s') like the others. With it the classifier need not learn the dynamics once more to detect an error; arsinh is linear
where samples are, and keeps outcomes that the model considers impossible in a usable range.
"""

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

import torch as th
import torch.nn.functional as F
from torch import nn

from sb3_tom.compute.ensemble_linear import EnsembleLinear
from sb3_tom.contracts.dynamics import DynamicsModel, Prediction
from sb3_tom.contracts.types import Transitions
from sb3_tom.data.moments import moments_of


class Drawn(NamedTuple):
    """
    Predictions and samples of each member for one batch.

    :param prediction: of the model, ``[E, B, D]``
    :param real: real targets ``[E, B, D]``, the reward first
    :param made: sampled next states ``[E, B, O]``, in the units of the targets
    :param next_observations: the same in raw units
    """

    prediction: Prediction
    real: th.Tensor
    made: th.Tensor
    next_observations: th.Tensor


def draw_members(model: DynamicsModel, batch: Transitions, generator: th.Generator) -> Drawn:
    """
    Predict and sample with every member.

    :param model: of E members
    :param batch: fields ``[E, B, .]``
    :param generator: source of randomness
    """
    prediction = model(batch.observations, batch.actions)
    states, rewards = model.sample_members(batch.observations, batch.actions, generator)
    made = model.targets(batch._replace(next_observations=states, rewards=rewards))[..., 1:]
    return Drawn(prediction, model.targets(batch), made, states)


class TransitionClassifier(nn.Module):
    r"""
    Logits :math:`\log C_e / (1 - C_e)`, 0 until it is trained.

    :param n_members: number E of members
    :param observation_dim: size O of an observation
    :param action_dim: size A of an action
    :param net_arch: widths of the hidden layers
    """

    input_mean: th.Tensor
    input_std: th.Tensor

    def __init__(self, n_members: int, observation_dim: int, action_dim: int, net_arch: Sequence[int]) -> None:
        super().__init__()
        n_inputs = observation_dim + action_dim
        self.register_buffer("input_mean", th.zeros(n_inputs))
        self.register_buffer("input_std", th.ones(n_inputs))
        widths = (n_inputs + 2 * observation_dim, *net_arch, 1)
        self.layers = nn.ModuleList(EnsembleLinear(n_members, width, next_width) for width, next_width in pairwise(widths))
        for parameter in self.layers[-1].parameters():
            nn.init.zeros_(parameter)

    @th.no_grad()
    def fit_units(self, data: Transitions) -> None:
        """
        Compute the units of states and actions from the data.

        :param data: N rows
        """
        moments = moments_of(data, "observations", "actions")
        self.input_mean.copy_(moments.mean)
        self.input_std.copy_(moments.scale)

    def forward(self, batch: Transitions, outcomes: th.Tensor, prediction: Prediction) -> th.Tensor:
        """
        Logits of outcomes.

        :param batch: observations ``[E, B, O]`` and actions ``[E, B, A]``
        :param outcomes: next states ``[E, B, O]`` in the units of the model's targets
        :param prediction: of the model for these rows
        :return: logits ``[E, B]``
        """
        inputs = (th.cat([batch.observations, batch.actions], dim=-1) - self.input_mean) / self.input_std
        mean, log_var = (part[..., 1:] for part in prediction)
        residuals = th.asinh((outcomes - mean) * th.exp(-0.5 * log_var))
        hidden = th.cat([inputs, outcomes, residuals], dim=-1)
        for layer in self.layers[:-1]:
            hidden = F.silu(layer(hidden))
        logits: th.Tensor = self.layers[-1](hidden).squeeze(-1)
        return logits

    def loss(self, batch: Transitions, drawn: Drawn, weights: th.Tensor, gradient_penalty: float) -> th.Tensor:
        """
        Cross-entropy of the classes (MnM, Eq. 4, negative), and the logits' mean squared gradients in units of the model's
        noise (Mescheder et al. 2018, arXiv:1801.04406, whose R1 and R2 are these in raw units). Only the classifier gets
        gradients.

        :param batch: fields ``[E, B, .]``
        :param drawn: predictions and samples of the model for it
        :param weights: ``[E, B]``
        :param gradient_penalty: coefficient of the gradients, 0 for none
        :return: scalar, summed over members
        """
        outcomes = th.cat([drawn.real[..., 1:], drawn.made], dim=1).detach().requires_grad_(gradient_penalty > 0.0)
        both = Prediction(*(th.cat([part, part], dim=1).detach() for part in drawn.prediction))
        twice = batch._replace(observations=batch.observations.repeat(1, 2, 1), actions=batch.actions.repeat(1, 2, 1))
        logits = self(twice, outcomes, both)
        of_real, of_made = logits.chunk(2, dim=1)
        losses = F.softplus(-of_real) + F.softplus(of_made)
        if gradient_penalty > 0.0:
            (gradient,) = th.autograd.grad(logits.sum(), outcomes, create_graph=True)
            squares = (gradient * th.exp(0.5 * both.log_var[..., 1:])).square().sum(-1)
            losses = losses + gradient_penalty * th.stack(squares.chunk(2, dim=1)).sum(0)
        return (weights * losses).mean(-1).sum()

    def of_mixture(self, batch: Transitions, outcomes: th.Tensor, prediction: Prediction) -> th.Tensor:
        r"""
        Logits for the mixture of all members, whose density is the mean of theirs:
        :math:`\log p / q = -\log \frac 1 E \sum_e q_e / p`.

        :param batch: observations and actions, fields ``[B, .]``
        :param outcomes: ``[B, O]``
        :param prediction: of the model for these rows
        :return: ``[B]``
        """
        n_members = prediction.mean.shape[0]
        logits = self(by_each(batch, n_members), outcomes.expand(n_members, *outcomes.shape), prediction)
        return math.log(n_members) - th.logsumexp(-logits, dim=0)


def by_each(batch: Transitions, n_members: int) -> Transitions:
    """
    Repeat rows for each member.

    :param batch: fields ``[B, .]``
    :param n_members: E
    :return: fields ``[E, B, .]``, views
    """
    return Transitions(*(field.expand(n_members, *field.shape) for field in batch))


def accuracies(real: th.Tensor, made: th.Tensor) -> th.Tensor:
    """
    Accuracy of logits; a logit of 0 counts one half.

    :param real: logits of real transitions, any shape
    :param made: logits of the model's transitions, the same shape
    :return: mean accuracy of each pair, the same shape
    """
    return 0.5 + 0.25 * (real.sign() - made.sign())
