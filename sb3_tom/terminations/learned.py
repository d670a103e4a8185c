"""
A termination function that is learned from the real ``terminated`` flags.

A small network c(s', s' - s, a) separates terminal rows from others. A terminal row lies within one step of the border of the
terminal region, and so do the few other rows that matter. Hence

- s' is scaled by the size of one step, s' - s, so that the neighbourhood of the border is wide in the network's units;
- a group lasso on the columns of the first layer (Yuan and Lin, 2006), because terminations mostly depend on few coordinates;
  its weight falls with the square root of the number of terminal rows, as the noise in the data term does;
- half of each batch are terminal rows; of the others half are drawn uniformly, half by the current probability of an error;
- the learning rate falls to 0 within each fit, so that the border does not jitter.

The classes of such batches do not have their real frequencies. The decision threshold is therefore set so that the network
predicts as many terminations as there are real ones, and imagined episodes end as often as real ones.
"""

from collections.abc import Sequence
from itertools import pairwise

import torch as th
from torch import nn

from sb3_tom.checks.validation import check_integer, check_integers, check_number
from sb3_tom.compute.chunks import joined, rows_at_once
from sb3_tom.compute.cuda_graphs import descent
from sb3_tom.compute.optimizers import set_learning_rate
from sb3_tom.contracts.context import Context
from sb3_tom.contracts.termination import Termination
from sb3_tom.contracts.types import Transitions
from sb3_tom.data.moments import moments_of_columns
from sb3_tom.data.scales import varies

POOL_SIZE = 8192
"""Number of candidates for hard rows."""

POOL_STEPS = 100
"""Gradient steps between two searches for hard rows."""

SAMPLE_SIZE = 32768
"""Rows for normaliser and threshold: so the cost of a fit does not grow with the buffer."""

FINEST_SCALE = 1.0 / 30.0
"""Lower bound of the scale of an entry of s' relative to its standard deviation (a goal has steps of 0)."""


class LearnedTermination(Termination):
    """
    A classifier of terminal transitions, warm-started from model phase to model phase.

    It never terminates before it was fitted to a terminal row, and always while all rows are terminal (tasks of one step).
    After the first terminal row, rows that are not finite terminate.

    :param hidden_sizes: widths of the hidden layers
    :param learning_rate: of Adam at the start of a fit; it falls linearly to 0 within each fit
    :param gradient_steps: steps of each :meth:`fit`, whatever the number of rows
    :param first_gradient_steps: steps of the first :meth:`fit` with a terminal row
    :param batch_size: rows of a step, half of them terminal
    :param group_lasso: weight of the sum of the norms of the first layer's columns, times sqrt(number of terminal rows)
    """

    rollout_recordable = True

    mean: th.Tensor
    scale: th.Tensor
    threshold: th.Tensor
    trained: th.Tensor

    def __init__(
        self,
        hidden_sizes: Sequence[int] = (64, 64),
        learning_rate: float = 3e-3,
        gradient_steps: int = 200,
        first_gradient_steps: int = 1500,
        batch_size: int = 256,
        group_lasso: float = 4.0,
    ) -> None:
        super().__init__()
        self.hidden_sizes = check_integers("hidden_sizes", hidden_sizes, least=1)
        self.learning_rate = check_number("learning_rate", learning_rate, 0.0, 1.0, low_open=True)
        self.gradient_steps = check_integer("gradient_steps", gradient_steps, 1)
        self.first_gradient_steps = check_integer("first_gradient_steps", first_gradient_steps, 1)
        self.batch_size = check_integer("batch_size", batch_size, 2)
        self.group_lasso = check_number("group_lasso", group_lasso, 0.0)

    def build(self, observation_dim: int, action_dim: int) -> None:
        """Create the network, its optimiser and the normaliser."""
        inputs = 2 * observation_dim + action_dim
        self.first_layer = nn.Linear(inputs, self.hidden_sizes[0])
        layers: list[nn.Module] = [nn.SiLU()]
        for size_in, size_out in pairwise(self.hidden_sizes):
            layers += [nn.Linear(size_in, size_out), nn.SiLU()]
        self.other_layers = nn.Sequential(*layers, nn.Linear(self.hidden_sizes[-1], 1))
        self.optimizer = th.optim.Adam(self.parameters(), lr=self.learning_rate, fused=True)
        self.register_buffer("mean", th.zeros(inputs))
        self.register_buffer("scale", th.ones(inputs))
        self.register_buffer("threshold", th.zeros(1))
        self.register_buffer("trained", th.zeros(1))

    def forward(self, observations: th.Tensor, actions: th.Tensor, next_observations: th.Tensor) -> th.Tensor:
        """See :meth:`Termination.forward`; a NaN is not below the threshold, so it terminates."""
        logits = self._logits(_features(observations, actions, next_observations))
        return ~(logits <= self.threshold) & (self.trained > 0.5)

    def _logits(self, features: th.Tensor) -> th.Tensor:
        logits: th.Tensor = self.other_layers(self.first_layer((features - self.mean) / self.scale))
        return logits

    def _logits_of(self, rows: "_RowsByClass", indices: th.Tensor) -> th.Tensor:
        """Logits ``[B]`` of rows by their numbers ``[B]``, in chunks, to copy few rows at a time."""
        pieces = indices.split(rows_at_once(indices.device))
        return joined((self._logits(rows.features(some)).squeeze(-1) for some in pieces), len(indices))

    def advice(self) -> str:
        """See :meth:`Termination.advice`."""
        return (
            "it was learned, and these observations and actions do not show yet what ends an episode; add that to the "
            "observations, or give a function if you know it (termination_fn)"
        )

    def fit(self, data: Transitions, context: Context) -> dict[str, float]:
        """
        Train a fixed number of steps. Two host reads: whether there are terminal rows, and the figures.

        :param data: the N rows of the replay buffer
        :param context: view of the agent
        :return: ``terminal_share``; if there are terminal rows also ``loss`` with its penalty, and ``recall`` and
            ``precision`` on the data
        """
        rows = _RowsByClass(data, context.generator)
        learned = self.trained * self.threshold.isfinite()
        terminals, warm = th.stack((rows.n_terminal.float(), learned[0])).tolist()
        if terminals == data.size:
            self.threshold.fill_(-th.inf)
            self.trained.fill_(1.0)
        if terminals in (0.0, float(data.size)):
            return {"terminal_share": terminals / data.size}
        self._normalise(rows, keep_function=warm > 0.5)
        loss = self._train(rows, self.gradient_steps if warm > 0.5 else self.first_gradient_steps)
        recall, precision = self._set_threshold(rows)
        self.trained.fill_(1.0)
        figures = th.stack((loss, recall, precision)).tolist()
        return {"terminal_share": terminals / data.size, **dict(zip(("loss", "recall", "precision"), figures, strict=True))}

    @th.no_grad()
    def _normalise(self, rows: "_RowsByClass", keep_function: bool) -> None:
        """Set the normaliser; ``keep_function`` changes the first layer so that the network stays the same function."""
        sample, size = rows.sample(SAMPLE_SIZE), rows.observation_dim
        moments = moments_of_columns(len(sample), lambda some: rows.features(sample[some]))
        mean, scale = moments.mean.to(self.mean), moments.std.to(self.mean)
        step = th.hypot(mean, scale)[size : 2 * size]
        scale[:size] = step.clamp(min=FINEST_SCALE * scale[:size], max=scale[:size])
        magnitude = moments.magnitude
        magnitude[size : 2 * size] = magnitude[:size]  # the rounding of differences is that of the observations
        scale = th.where(varies(scale, magnitude), scale, 1.0)
        if keep_function:
            weight, bias = self.first_layer.weight, self.first_layer.bias
            bias.add_(weight @ ((mean - self.mean) / self.scale))
            weight.mul_(scale / self.scale)
        self.mean.copy_(mean)
        self.scale.copy_(scale)

    def _train(self, rows: "_RowsByClass", steps: int) -> th.Tensor:
        half = self.batch_size // 2
        signs = th.ones(2 * half, 1, device=self.mean.device)
        signs[:half] = -1.0
        loss = th.zeros((), device=self.mean.device)
        lasso = self.group_lasso / rows.n_terminal.sqrt()
        terminal = rows.draw_terminal((steps, half))

        def penalised(features: th.Tensor) -> th.Tensor:
            entropy = 2.0 * nn.functional.softplus(signs * self._logits(features)).mean()
            return entropy + lasso * self.first_layer.weight.norm(dim=0).sum()

        with descent(self.optimizer, penalised, "fit of the learned termination", self.mean.device) as descend:
            for step in range(steps):
                if step % POOL_STEPS == 0:
                    other = self._draw_hard(rows, (POOL_STEPS, half))
                set_learning_rate(self.optimizer, self.learning_rate * (1.0 - step / steps))
                loss = descend(rows.features(th.cat((terminal[step], other[step % POOL_STEPS]))))
        return loss

    @th.no_grad()
    def _draw_hard(self, rows: "_RowsByClass", shape: tuple[int, int]) -> th.Tensor:
        """Indices of non-terminal rows: half uniform, half by the network's probability of calling them terminal."""
        pool = rows.draw_other((POOL_SIZE,))
        mistakes = th.sigmoid(self._logits_of(rows, pool)).double()
        cumulative = (mistakes / mistakes.sum() + 1.0 / POOL_SIZE).cumsum(0)
        return pool[th.searchsorted(cumulative, rows.uniform(shape) * cumulative[-1]).clamp(max=POOL_SIZE - 1)]

    @th.no_grad()
    def _set_threshold(self, rows: "_RowsByClass") -> tuple[th.Tensor, th.Tensor]:
        """
        Set the threshold so that about as many rows exceed it as are terminal, or as near as equal logits allow, in the middle
        between the last of these and the next one; return recall and precision.
        """
        counts = th.stack((rows.n_terminal, rows.data.size - rows.n_terminal)).double() / SAMPLE_SIZE
        indices = th.stack((rows.draw_terminal((SAMPLE_SIZE,)), rows.draw_other((SAMPLE_SIZE,))))
        logits = self._logits_of(rows, indices.flatten()).view_as(indices)
        ranked, order = logits.reshape(-1).sort(descending=True)
        exceeding = counts.repeat_interleave(SAMPLE_SIZE)[order].cumsum(0)
        # A threshold may lie above all logits, or below any that is greater than the next
        upper, lower = nn.functional.pad(ranked, (1, 0), value=th.inf), nn.functional.pad(ranked, (0, 1), value=-th.inf)
        missed = (nn.functional.pad(exceeding, (1, 0)) - rows.n_terminal.double()).abs()
        best = th.where(upper > lower, missed, th.inf).argmin()
        upper, lower = upper[best].clamp(max=ranked[0] + 1.0), lower[best].clamp(min=ranked[-1] - 1.0)
        middle = 0.5 * (upper + lower)
        self.threshold.copy_(th.where(middle < upper, middle, lower))
        hits, false_alarms = ((logits > self.threshold).double().sum(1) * counts).unbind()
        return hits / rows.n_terminal, hits / (hits + false_alarms).clamp(min=1.0)


class _RowsByClass:
    """
    Random rows of the data by class, with replacement and without a host read.

    :param data: N rows
    :param generator: source of the draws
    """

    def __init__(self, data: Transitions, generator: th.Generator) -> None:
        self.data = data
        self.generator = generator
        self.observation_dim = data.observations.shape[1]
        self._terminal_rank = (data.terminated.reshape(-1) > 0.5).cumsum(0)
        self._other_rank = th.arange(1, data.size + 1, device=data.device) - self._terminal_rank
        self.n_terminal = self._terminal_rank[-1]

    def features(self, indices: th.Tensor) -> th.Tensor:
        """Inputs of the network, not normalised."""
        data = self.data
        return _features(data.observations[indices], data.actions[indices], data.next_observations[indices])

    def sample(self, size: int) -> th.Tensor:
        """Indices of uniformly drawn rows, or of all rows if there are at most ``size``."""
        if self.data.size <= size:
            return th.arange(self.data.size, device=self.data.device)
        return (self.uniform((size,)) * self.data.size).long()

    def draw_terminal(self, shape: tuple[int, ...]) -> th.Tensor:
        """Indices of terminal rows, uniform."""
        return self._draw(self._terminal_rank, shape)

    def draw_other(self, shape: tuple[int, ...]) -> th.Tensor:
        """Indices of the other rows, uniform."""
        return self._draw(self._other_rank, shape)

    def uniform(self, shape: tuple[int, ...]) -> th.Tensor:
        """Uniform numbers in [0, 1), float64."""
        return th.rand(shape, generator=self.generator, device=self.data.device, dtype=th.float64)

    def _draw(self, rank: th.Tensor, shape: tuple[int, ...]) -> th.Tensor:
        return th.searchsorted(rank, (self.uniform(shape) * rank[-1]).long() + 1).clamp(max=self.data.size - 1)


def _features(observations: th.Tensor, actions: th.Tensor, next_observations: th.Tensor) -> th.Tensor:
    return th.cat((next_observations, next_observations - observations, actions), dim=-1)
