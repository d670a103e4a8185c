r"""
Log-ratio of the current policy's transitions to the buffer's, by logistic regression (Ma et al. 2023, App. A.2).

With the label 1 for ``recent``, :math:`\epsilon` for the buffer, and equally many rows of each, the logit of the optimum is

.. math::
    R(s,a,s') = \log \frac{p + \epsilon q}{(1 - \epsilon) q}, \qquad p = d^\pi,\; q = d^D,

which is :math:`\log(p / q)` for :math:`\epsilon = 0`. A gradient penalty, which pulls R's slope to 1, would limit it further.

A network memorises which of its training rows were recent. So there are K networks (``folds``), the rows are split into K
folds, and R of a row comes from the network that was not trained on its fold. The held-out rows of all networks decide when
to stop, and on their logits slope and offset of R are fitted (:mod:`sb3_tom.weighters.tom.calibration`): logits that do not
separate held-out rows give R = 0.
"""

from collections.abc import Callable, Iterator
from typing import Any

import torch as th
from torch import nn

from sb3_tom.compute.chunks import joined, rows_at_once
from sb3_tom.compute.cuda_graphs import descent
from sb3_tom.compute.optimizers import set_learning_rate, set_options
from sb3_tom.contracts.context import Context
from sb3_tom.contracts.types import Transitions
from sb3_tom.data.moments import CHANGES, moments_of
from sb3_tom.weighters.tom.behavior import BehaviorPolicy
from sb3_tom.weighters.tom.calibration import cross_entropies
from sb3_tom.weighters.tom.crossfit import LOOK, LOOKED_AT, HeldOut, Part
from sb3_tom.weighters.tom.folds import NumberedRows, OtherFolds, block_length, blocks_of, folds_of, grouped, places
from sb3_tom.weighters.tom.networks import Encoders, Standardizer, linear_of, mlp, reinitialize
from sb3_tom.weighters.tom.settings import TOMSettings

Inputs = Callable[[th.Tensor], th.Tensor]
"""Network inputs of the buffer's rows by their numbers: int64 ``[...]`` to ``[..., D]``."""

_PER_BLOCK = 4
"""Parts of a block of default length that count as independent in the standard error of the slope."""


class TransitionDiscriminator(nn.Module):
    """
    Separates ``recent`` from the buffer by (s, a, s') and, with ``policy_input``, by what the policy says of (s, a).

    :param observation_dim: size O of an observation
    :param action_dim: size A of an action
    :param settings: sizes, inputs, labels and regularisation
    """

    def __init__(self, observation_dim: int, action_dim: int, settings: TOMSettings) -> None:
        super().__init__()
        self.settings = settings
        columns = (observation_dim, action_dim, observation_dim)
        self.standardizer = Standardizer(sum(columns))
        sizes = (*columns, 1) if settings.policy_input else columns
        linear = linear_of(settings.folds)
        width, *hidden = settings.discriminator_arch
        if settings.separate_encoders:
            self.encoder: nn.Module = Encoders(sizes, width, linear)
            width *= len(sizes)
        else:
            self.encoder = mlp((sum(sizes), width), nn.Tanh, linear)
        self.head = nn.Sequential(mlp((width, *hidden), nn.Tanh, linear), linear((width, *hidden)[-1], 1))
        self.behavior = BehaviorPolicy(observation_dim, action_dim) if settings.policy_input else None
        if settings.folds > 1:
            self.register_buffer("calibration", th.tensor([1.0, 0.0]))
            self.register_buffer("blocks", th.ones(2))

    calibration: th.Tensor
    """Slope and offset of R."""
    blocks: th.Tensor
    """Steps of a block, and environments whose rows alternate; they determine the fold of a row."""

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any) -> None:
        """Load a file from before there were folds: its single network is copied to each of several."""
        own = self.state_dict()
        for name, value in own.items() if self.settings.folds > 1 else ():
            if name in ("calibration", "blocks"):
                state_dict.setdefault(prefix + name, value)
            saved = state_dict.get(prefix + name)
            if saved is not None and value.dim() == 3 and saved.dim() < 3:
                single = saved.T if saved.dim() == 2 else saved.unsqueeze(0)
                state_dict[prefix + name] = single.expand(len(value), *single.shape)
        super()._load_from_state_dict(state_dict, prefix, *args)

    def optimizer(self) -> th.optim.Optimizer:
        """Adam over the trained layers: all, or those after the encoders."""
        encoder = self.encoder.parameters() if self.settings.train_encoders else ()
        return th.optim.Adam(
            [*encoder, *self.head.parameters()],
            lr=self.settings.discriminator_learning_rate,
            weight_decay=self.settings.discriminator_weight_decay,
            fused=True,
        )

    def policy_columns(self, data: Transitions, context: Context) -> th.Tensor:
        """
        What the policy says of (s, a).

        :param data: B rows
        :param context: view of the agent, whose policy is asked
        :return: ``[B, 1]``, or ``[B, 0]`` without ``policy_input``
        """
        return data.actions[:, :0] if self.behavior is None else self.behavior.log_ratio(data, context)

    def features(self, data: Transitions, policy_columns: th.Tensor) -> th.Tensor:
        """
        Inputs of the network.

        :param data: B rows
        :param policy_columns: of :meth:`policy_columns`
        :return: ``[B, D]``
        """
        return th.cat([self.standardizer(self._columns(data)), policy_columns], dim=-1)

    def _columns(self, data: Transitions) -> th.Tensor:
        outcome = data.next_observations - data.observations if self.settings.delta_input else data.next_observations
        return th.cat([data.observations, data.actions, outcome], dim=-1)

    def forward(self, features: th.Tensor) -> th.Tensor:
        """
        Logits of the class ``recent``.

        :param features: ``[B, D]``, D = 2 O + A and one more with ``policy_input``; with K folds ``[K, B, D]``
        :return: logits ``[B]`` or ``[K, B]``
        """
        return self.head(self.encoder(features)).squeeze(-1)

    @th.no_grad()
    def log_ratio(self, data: Transitions, context: Context) -> th.Tensor:
        """
        The estimate of log d^pi / d^D.

        :param data: B rows. With folds, R of :class:`~sb3_tom.weighters.tom.folds.NumberedRows` comes from the network that
            was not trained on the row; rows without numbers count as new and get the mean logit of all networks
        :param context: view of the agent
        :return: R ``[B]``, bounded
        """
        pieces = data.split(rows_at_once(data.device))
        if self.settings.folds > 1:
            slope, offset = self.calibration
            logits = slope * joined((self._unseen(part, context) for part in pieces), data.size) + offset
        else:
            logits = joined((self(self.features(part, self.policy_columns(part, context))) for part in pieces), data.size)
        bound = self.settings.ratio_bound
        return logits if bound is None else logits.clamp(-bound, bound)

    def _unseen(self, data: Transitions, context: Context) -> th.Tensor:
        """Logits ``[B]`` of networks that were not trained on the rows."""
        features = self.features(data, self.policy_columns(data, context))
        if not isinstance(data, NumberedRows):
            logits: th.Tensor = self(features.expand(self.settings.folds, *features.shape))
            return logits.mean(0)
        groups = grouped(self._folds(data.numbers), self.settings.folds)
        logits = self(features[groups.rows])
        return th.empty_like(features[:, 0]).index_copy(0, groups.rows[groups.valid], logits[groups.valid])

    def _folds(self, numbers: th.Tensor) -> th.Tensor:
        return folds_of(numbers, self.blocks[0], self.blocks[1], self.settings.folds)

    def fit(
        self,
        data: Transitions,
        recent: Transitions,
        optimizer: th.optim.Optimizer,
        context: Context,
    ) -> dict[str, th.Tensor]:
        """
        Re-initialise and train.

        :param data: N rows of the buffer
        :param recent: on-policy sample
        :param optimizer: from :meth:`optimizer`
        :param context: view of the agent
        :return: figures for the log, scalars on the device
        """
        settings = self.settings
        for part in (self.encoder, self.head):
            reinitialize(part, context.generator)
        optimizer.state.clear()
        set_options(optimizer, settings.discriminator_learning_rate, (settings.discriminator_weight_decay,))
        columns = ("observations", "actions", CHANGES if settings.delta_input else "next_observations")
        self.standardizer.fit(moments_of(data, *columns) if settings.standardize else None)
        if self.behavior is not None:
            self.behavior.fit(data, recent, context)
        with th.no_grad():
            features = self.features(recent, self.policy_columns(recent, context))
            policy_columns = self.policy_columns(data, context)

        @th.no_grad()
        def inputs(numbers: th.Tensor) -> th.Tensor:
            return self.features(data.rows(numbers), policy_columns[numbers])

        if settings.folds > 1:
            return self._fit_folds(data, recent, features, inputs, optimizer, context)
        loss, _ = self._descend(optimizer, self._batches(features, inputs, data.size, context.generator))
        return {"discriminator_loss": loss}

    def _fit_folds(
        self,
        data: Transitions,
        recent: Transitions,
        features: th.Tensor,
        inputs: Inputs,
        optimizer: th.optim.Optimizer,
        context: Context,
    ) -> dict[str, th.Tensor]:
        """Fit each network to the rows of the other folds, with early stopping on those of its own."""
        n_folds, n_envs, generator = self.settings.folds, context.n_envs, context.generator
        length = block_length(recent.size, n_folds, n_envs, self.settings.block_steps)
        self.blocks.copy_(self.blocks.new_tensor([length, n_envs]))
        found = places(recent, data)
        # Foreign rows count as consecutive steps of one env
        numbers = th.where(found >= 0, found, n_envs * th.arange(recent.size, device=data.device))
        looked_at = th.randperm(data.size, generator=generator, device=data.device)[:LOOKED_AT]
        ours, theirs = self._part(features, numbers), self._part(inputs(looked_at), looked_at)
        held_out = HeldOut(self, ours, theirs, self.settings.buffer_label)
        folds = self._folds(numbers), self._folds(th.arange(data.size, device=data.device))
        batches = self._fold_batches(features, inputs, folds, generator)
        loss, n_steps = self._descend(optimizer, batches, held_out)
        held_out_loss, found_calibration = held_out.restore(), held_out.calibration()
        self.calibration.copy_(th.stack(found_calibration[:2]))
        return {
            "discriminator_loss": loss / n_folds,
            "discriminator_loss_held_out": th.full_like(loss, held_out_loss),
            "discriminator_calibrated_loss": found_calibration.cross_entropy.float(),
            "discriminator_slope": self.calibration[0].clone(),
            "discriminator_offset": self.calibration[1].clone(),
            "discriminator_steps": th.full_like(loss, n_steps),
            "log_ratio_recent": found_calibration.recent.float(),
        }

    def _part(self, features: th.Tensor, numbers: th.Tensor) -> Part:
        """Held-out rows, given by their features and numbers, for the networks that are not trained on them."""
        steps = self.blocks[0] / (_PER_BLOCK if self.settings.block_steps is None else 1)
        blocks = blocks_of(numbers, steps.clamp(min=1.0), self.blocks[1])
        return Part.of(features, blocks, self._folds(numbers), self.settings.folds)

    def _descend(
        self, optimizer: th.optim.Optimizer, batches: Iterator[tuple[th.Tensor, ...]], held_out: HeldOut | None = None
    ) -> tuple[th.Tensor, int]:
        """Steps on the batches, with early stopping on the held-out rows; returns the last loss and the number of steps."""
        settings, n_steps = self.settings, 0
        loss = th.zeros((), device=self.standardizer.mean.device)
        with descent(optimizer, self._loss, "fit of TOM's discriminator", loss.device) as descend:
            for step, batch in enumerate(batches):
                remaining = 1.0 - step / settings.discriminator_steps if settings.anneal else 1.0
                set_learning_rate(optimizer, settings.discriminator_learning_rate * remaining)
                loss, n_steps = descend(*batch), step + 1
                is_look = n_steps % LOOK == 0 or n_steps == settings.discriminator_steps
                if held_out is not None and is_look and not held_out.look():
                    break
        return loss, n_steps

    def _fold_batches(
        self, features: th.Tensor, inputs: Inputs, folds: tuple[th.Tensor, th.Tensor], generator: th.Generator
    ) -> Iterator[tuple[th.Tensor, ...]]:
        """Arguments of :meth:`_loss` for each step: for each network equally many rows of both classes, not of its fold."""
        n_folds, batch_size = self.settings.folds, self.settings.discriminator_batch_size
        n_steps = self.settings.discriminator_steps
        ours, theirs = (OtherFolds(part, n_folds) for part in folds)
        for start in range(0, n_steps, LOOK):
            drawn = min(LOOK, n_steps - start), batch_size, generator
            for first, second in zip(ours.draw(*drawn), theirs.draw(*drawn), strict=True):
                yield features[first], inputs(second), *self._places((n_folds, batch_size, 1), generator)

    def _places(self, shape: tuple[int, ...], generator: th.Generator) -> tuple[th.Tensor, ...]:
        """Random positions between the classes for the gradient penalty, if there is one."""
        if self.settings.gradient_penalty == 0:
            return ()
        return (th.rand(shape, generator=generator, device=generator.device),)

    def _batches(
        self, features: th.Tensor, inputs: Inputs, n_rows: int, generator: th.Generator
    ) -> Iterator[tuple[th.Tensor, ...]]:
        """Arguments of :meth:`_loss` for each step: features of equally many rows of ``recent`` and of the buffer."""
        shape = (self.settings.discriminator_steps, self.settings.discriminator_batch_size)
        rows = [th.randint(size, shape, generator=generator, device=features.device) for size in (len(features), n_rows)]
        for ours, theirs in zip(*rows, strict=True):
            yield features[ours], inputs(theirs), *self._places((shape[1], 1), generator)

    def _loss(self, ours: th.Tensor, theirs: th.Tensor, place: th.Tensor | None = None) -> th.Tensor:
        """
        Binary cross-entropy, summed over the classes and the networks, plus the gradient penalty at ``place [..., B, 1]``
        between the classes.
        """
        logits_ours, logits_theirs = self(th.cat([ours, theirs], dim=-2)).chunk(2, dim=-1)
        ours_loss, theirs_loss = cross_entropies(logits_ours, logits_theirs, self.settings.buffer_label)
        loss = ours_loss.mean(-1) + theirs_loss.mean(-1)
        if place is None:
            return loss.sum()
        return (loss + self.settings.gradient_penalty * self._gradient_penalty(ours, theirs, place)).sum()

    def _gradient_penalty(self, ours: th.Tensor, theirs: th.Tensor, place: th.Tensor) -> th.Tensor:
        """Mean square of (norm of the input gradient - 1) at points between the classes (WGAN-GP, arXiv:1704.00028)."""
        between = (place * ours + (1.0 - place) * theirs).requires_grad_()
        (gradient,) = th.autograd.grad(self(between).sum(), between, create_graph=True)
        return (gradient.norm(2, dim=-1) - 1.0).square().mean(-1)
