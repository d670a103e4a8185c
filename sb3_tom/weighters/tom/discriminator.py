r"""
Log-ratio of the current policy's transitions to the buffer's, by logistic regression (Ma et al. 2023, App. A.2).

With the label 1 for ``recent``, :math:`\epsilon` for the buffer, and equally many rows of each, the logit of the optimum is

.. math::
    R(s,a,s') = \log \frac{p + \epsilon q}{(1 - \epsilon) q}, \qquad p = d^\pi,\; q = d^D,

which is :math:`\log(p / q)` for :math:`\epsilon = 0`. The gradient penalty, which pulls R's slope to 1, limits it further.
"""

from collections.abc import Iterator

import torch as th
import torch.nn.functional as F
from torch import nn

from sb3_tom.compute.cuda_graphs import descent, set_learning_rate, set_options
from sb3_tom.contracts.types import Transitions
from sb3_tom.weighters.tom.networks import Encoders, Standardizer, mlp, reinitialize
from sb3_tom.weighters.tom.settings import TOMSettings

_STEPS_AT_ONCE = 100
"""Steps whose rows are gathered at once: as many as fit the memory also with long observations."""


class TransitionDiscriminator(nn.Module):
    """
    Tells ``recent`` from the buffer by (s, a, s').

    :param observation_dim: size O of an observation
    :param action_dim: size A of an action
    :param settings: sizes, inputs, labels and regularisation
    """

    def __init__(self, observation_dim: int, action_dim: int, settings: TOMSettings) -> None:
        super().__init__()
        self.settings = settings
        sizes = (observation_dim, action_dim, observation_dim)
        self.standardizer = Standardizer(sum(sizes))
        width, *hidden = settings.discriminator_arch
        if settings.separate_encoders:
            self.encoder: nn.Module = Encoders(sizes, width)
            width *= len(sizes)
        else:
            self.encoder = mlp((sum(sizes), width), nn.Tanh)
        self.head = nn.Sequential(mlp((width, *hidden), nn.Tanh), nn.Linear((width, *hidden)[-1], 1))

    def optimizer(self) -> th.optim.Optimizer:
        """Adam over the layers that are learned: all, or those after the encoders."""
        return th.optim.Adam(
            (self if self.settings.train_encoders else self.head).parameters(),
            lr=self.settings.discriminator_learning_rate,
            weight_decay=self.settings.discriminator_weight_decay,
            fused=True,
        )

    def features(self, data: Transitions) -> th.Tensor:
        """
        What the network takes.

        :param data: B rows
        :return: ``[B, 2 O + A]``, the inputs of the network
        """
        return self.standardizer(self._columns(data))

    def _columns(self, data: Transitions) -> th.Tensor:
        outcome = data.next_observations - data.observations if self.settings.delta_input else data.next_observations
        return th.cat([data.observations, data.actions, outcome], dim=-1)

    def forward(self, features: th.Tensor) -> th.Tensor:
        """
        Logits of the class ``recent``.

        :param features: ``[B, 2 O + A]``
        :return: logits ``[B]``
        """
        return self.head(self.encoder(features)).squeeze(-1)

    @th.no_grad()
    def log_ratio(self, data: Transitions) -> th.Tensor:
        """
        The estimate of log d^pi / d^D.

        :param data: B rows
        :return: R ``[B]``, bounded
        """
        logits: th.Tensor = self(self.features(data))
        bound = self.settings.ratio_bound
        return logits if bound is None else logits.clamp(-bound, bound)

    def fit(
        self,
        data: Transitions,
        recent: Transitions,
        optimizer: th.optim.Optimizer,
        generator: th.Generator,
    ) -> dict[str, th.Tensor]:
        """
        Start anew and learn.

        :param data: N rows of the buffer
        :param recent: footprint of the current policy
        :param optimizer: from :meth:`optimizer`
        :param generator: source of randomness
        :return: figures for the log, scalars on the device
        """
        settings = self.settings
        reinitialize(self, generator)
        optimizer.state.clear()
        set_options(optimizer, settings.discriminator_learning_rate, (settings.discriminator_weight_decay,))
        if settings.standardize:
            self.standardizer.fit(self._columns(data))
        loss = th.zeros((), device=data.device)
        with descent(optimizer, self._loss, "fit of TOM's discriminator", data.device) as descend:
            for step, batch in enumerate(self._batches(data, recent, generator)):
                remaining = 1.0 - step / settings.discriminator_steps if settings.anneal else 1.0
                set_learning_rate(optimizer, settings.discriminator_learning_rate * remaining)
                loss = descend(*batch)
        return {"discriminator_loss": loss}

    def _batches(self, data: Transitions, recent: Transitions, generator: th.Generator) -> Iterator[tuple[th.Tensor, ...]]:
        """What :meth:`_loss` takes at each step: features of equally many rows of ``recent`` and of the buffer."""
        shape = (self.settings.discriminator_steps, self.settings.discriminator_batch_size)
        rows = [th.randint(part.size, shape, generator=generator, device=data.device) for part in (recent, data)]
        with th.no_grad():
            footprint = self.features(recent)
        for ours, theirs in zip(*(numbers.split(_STEPS_AT_ONCE) for numbers in rows), strict=True):
            with th.no_grad():
                buffer = self.features(data.rows(theirs))
            for pair in zip(footprint[ours], buffer, strict=True):
                if self.settings.gradient_penalty > 0:
                    yield *pair, th.rand(shape[1], 1, generator=generator, device=data.device)
                else:
                    yield pair

    def _loss(self, ours: th.Tensor, theirs: th.Tensor, place: th.Tensor | None = None) -> th.Tensor:
        """Binary cross-entropy, summed over the classes, plus the gradient penalty at ``place [B, 1]`` between the classes."""
        logits_ours, logits_theirs = self(th.cat([ours, theirs])).chunk(2)
        label = self.settings.buffer_label
        # softplus(-x) is the cross-entropy of the label 1, softplus(x) that of the label 0
        loss = F.softplus(-logits_ours).mean() + (F.softplus(logits_theirs) - label * logits_theirs).mean()
        if place is None:
            return loss
        return loss + self.settings.gradient_penalty * self._gradient_penalty(ours, theirs, place)

    def _gradient_penalty(self, ours: th.Tensor, theirs: th.Tensor, place: th.Tensor) -> th.Tensor:
        """Mean square of (norm of the input gradient - 1) at points between the classes (WGAN-GP, arXiv:1704.00028)."""
        between = (place * ours + (1.0 - place) * theirs).requires_grad_()
        (gradient,) = th.autograd.grad(self(between).sum(), between, create_graph=True)
        return (gradient.norm(2, dim=1) - 1.0).square().mean()
