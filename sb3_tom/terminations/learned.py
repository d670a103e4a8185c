"""
A termination function that is learned from the real ``terminated`` flags.

A small network c(s', s' - s, a) is trained on batches of as many terminal as non-terminal rows, so that its logit estimates
log p(row | terminal) - log p(row | non-terminal), whatever the share of terminal rows. With n1 terminal and n0 other rows the
posterior odds are exp(c) n1 / n0. The decision threshold starts from the Bayes rule, c > log(n0 / n1), and is moved to where
the network predicts as many terminations as there are: imagined episodes then end as often as real ones.

Terminations mostly depend on few coordinates. A group lasso on the columns of the first layer (Yuan and Lin, 2006) finds them,
which is worth more than a larger network: a terminal row lies only one step beyond the border.
"""

from collections.abc import Sequence
from itertools import pairwise

import torch as th
from torch import nn

from sb3_tom.common.termination import Termination
from sb3_tom.common.types import Context, Transitions
from sb3_tom.common.validation import check_integer, check_integers, check_number


class LearnedTermination(Termination):
    """
    A classifier of terminal transitions, warm-started from model phase to model phase.

    Until a terminal row was seen it never terminates. A non-finite imagined row terminates.

    :param hidden_sizes: widths of the hidden layers
    :param learning_rate: of Adam
    :param gradient_steps: steps of each :meth:`fit`, whatever the number of rows
    :param first_gradient_steps: steps of the first :meth:`fit` with a terminal row
    :param batch_size: rows of a step, half of them terminal
    :param group_lasso: weight of the sum of the norms of the first layer's columns
    """

    mean: th.Tensor
    std: th.Tensor
    threshold: th.Tensor
    trained: th.Tensor

    def __init__(
        self,
        hidden_sizes: Sequence[int] = (64, 64),
        learning_rate: float = 3e-3,
        gradient_steps: int = 200,
        first_gradient_steps: int = 1500,
        batch_size: int = 256,
        group_lasso: float = 0.01,
    ) -> None:
        super().__init__()
        self.hidden_sizes = check_integers("hidden_sizes", hidden_sizes)
        self.learning_rate = check_number("learning_rate", learning_rate, 0.0, low_open=True)
        self.gradient_steps = check_integer("gradient_steps", gradient_steps, 1)
        self.first_gradient_steps = check_integer("first_gradient_steps", first_gradient_steps, 1)
        self.batch_size = check_integer("batch_size", batch_size, 2)
        self.group_lasso = check_number("group_lasso", group_lasso, 0.0)

    def build(self, observation_dim: int, action_dim: int) -> None:
        """Create the network, its optimiser and the normaliser."""
        inputs = 2 * observation_dim + action_dim
        sizes = (inputs, *self.hidden_sizes)
        layers: list[nn.Module] = []
        for size_in, size_out in pairwise(sizes):
            layers += [nn.Linear(size_in, size_out), nn.SiLU()]
        self.network = nn.Sequential(*layers, nn.Linear(sizes[-1], 1))
        self.optimizer = th.optim.Adam(self.network.parameters(), lr=self.learning_rate, fused=True)
        self.register_buffer("mean", th.zeros(inputs))
        self.register_buffer("std", th.ones(inputs))
        self.register_buffer("threshold", th.zeros(1))
        self.register_buffer("trained", th.zeros(1))

    def forward(self, observations: th.Tensor, actions: th.Tensor, next_observations: th.Tensor) -> th.Tensor:
        """See :meth:`Termination.forward`; a NaN is not below the threshold, so it terminates."""
        logits = self._logits(observations, actions, next_observations)
        return ~(logits <= self.threshold) & (self.trained > 0.5)

    def _logits(self, observations: th.Tensor, actions: th.Tensor, next_observations: th.Tensor) -> th.Tensor:
        logits: th.Tensor = self.network((_features(observations, actions, next_observations) - self.mean) / self.std)
        return logits

    def fit(self, data: Transitions, context: Context) -> dict[str, float]:
        """
        Train a fixed number of steps. Two host reads: are there terminal rows, and the figures.

        :param data: the N rows of the replay buffer
        :param context: view of the agent
        :return: ``terminal_share``; once there are terminal rows also ``loss``, ``recall``, ``precision``
        """
        terminal = data.terminated.reshape(-1) > 0.5
        first, count = th.stack((self.trained.squeeze(0), terminal.sum().float())).tolist()
        if count == 0 or count == data.size:
            return {"terminal_share": count / data.size}
        self._normalise(data)
        steps = self.gradient_steps if first > 0.5 else self.first_gradient_steps
        loss = self._train(data, terminal, steps, context.generator)
        recall, precision = self._calibrate(data, terminal, context.generator)
        self.trained.fill_(1.0)
        figures = th.stack((loss, recall, precision)).tolist()
        return {"terminal_share": count / data.size, **dict(zip(("loss", "recall", "precision"), figures, strict=True))}

    def _normalise(self, data: Transitions) -> None:
        features = _features(data.observations, data.actions, data.next_observations)
        std, mean = th.std_mean(features, dim=0, correction=0)
        self.mean.copy_(mean)
        self.std.copy_(th.where(std > 1e-6, std, 1.0))

    def _train(self, data: Transitions, terminal: th.Tensor, steps: int, generator: th.Generator) -> th.Tensor:
        half = self.batch_size // 2
        positive = _draw(terminal, (steps, half), generator)
        negative = _draw(~terminal, (steps, half), generator)
        signs = th.ones(2 * half, 1, device=data.device)
        signs[:half] = -1.0
        loss = th.zeros((), device=data.device)
        for indices in th.cat((positive, negative), dim=1):
            rows = data.rows(indices)
            logits = self._logits(rows.observations, rows.actions, rows.next_observations)
            loss = 2.0 * nn.functional.softplus(signs * logits).mean()
            penalty = next(self.network.parameters()).norm(dim=0).sum()
            self.optimizer.zero_grad(set_to_none=True)
            (loss + self.group_lasso * penalty).backward()
            self.optimizer.step()
        return loss.detach()

    @th.no_grad()
    def _calibrate(self, data: Transitions, terminal: th.Tensor, generator: th.Generator) -> tuple[th.Tensor, th.Tensor]:
        count = terminal.sum()
        logits = self._logits(data.observations, data.actions, data.next_observations).squeeze(-1)
        threshold = logits.sort(descending=True).values[count.clamp(max=data.size - 1)]
        self.threshold.copy_(threshold.reshape(1))
        predicted = logits > threshold
        hits = (predicted & terminal).sum()
        return hits / count, hits / predicted.sum().clamp(min=1)


def _features(observations: th.Tensor, actions: th.Tensor, next_observations: th.Tensor) -> th.Tensor:
    return th.cat((next_observations, next_observations - observations, actions), dim=-1)


def _draw(mask: th.Tensor, shape: tuple[int, int], generator: th.Generator) -> th.Tensor:
    """Indices of rows of the mask, uniform with replacement, without a host read."""
    ranks = mask.cumsum(0)
    draws = th.rand(shape, generator=generator, device=mask.device, dtype=th.float64) * ranks[-1]
    return th.searchsorted(ranks, draws.floor().long() + 1).clamp(max=mask.shape[0] - 1)
