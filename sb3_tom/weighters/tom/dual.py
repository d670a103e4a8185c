r"""
Optimisation of the dual problem of TOM (Ma et al. 2023, arXiv:2305.12663, Eq. 16) over a network Q.

A constant in Q acts with the small factor 1 - gamma, so that gradient descent would take very long to find it. It is a
parameter of its own, :math:`Q = q_\theta + \mathrm{shift} / (1 - \gamma)`, and the best shift is solved for before and after
the descent. For gamma = 1 the shift remains, as the multiplier of :math:`\sum d = 1`, and of Eq. 16 only :math:`E_D f_*(y)`.
"""

from collections.abc import Callable, Iterator
from functools import partial

import torch as th
from torch import nn

from sb3_tom.compute.chunks import joined, rows_at_once
from sb3_tom.compute.cuda_graphs import descent
from sb3_tom.compute.optimizers import set_learning_rate, set_options
from sb3_tom.contracts.context import Context
from sb3_tom.contracts.types import Transitions
from sb3_tom.data.moments import moments_of
from sb3_tom.weighters.tom import functional
from sb3_tom.weighters.tom.holdout import BestState, hold_out
from sb3_tom.weighters.tom.networks import Standardizer, mlp, reinitialize
from sb3_tom.weighters.tom.pools import FlowBatch, Pool, draws, ends
from sb3_tom.weighters.tom.settings import TOMSettings

_START_PAIRS = 4096
"""Pairs of start state and action that estimate E_mu0,pi in one phase."""
_STEPS_AT_ONCE = 100
"""Steps between two draws of rows and actions if these are not drawn once per phase, and between two held-out evaluations."""
_SHIFT_RATE = 10.0
"""Learning rate of the shift relative to that of the network: it has to follow the network."""
_HELD_OUT = 2048
"""Maximum number of held-out rows."""
_HEAD_SCALE = 0.01
"""Scale of a new output layer: q starts near 0, where the weights are those of the log-ratio alone."""
RowFunction = Callable[[Transitions], th.Tensor]
"""``[B]`` numbers for B rows."""


class FlowDual(nn.Module):
    """
    The network Q, its descent, and the residuals of the rows.

    :param observation_dim: size O of an observation
    :param action_dim: size A of an action
    :param settings: divergence, sizes, budget and variants
    """

    def __init__(self, observation_dim: int, action_dim: int, settings: TOMSettings) -> None:
        super().__init__()
        self.settings = settings
        self.divergence = functional.DIVERGENCES[settings.divergence]
        widths = (observation_dim + action_dim, *settings.q_arch)
        self.standardizer = Standardizer(widths[0])
        self.layers, self.head = mlp(widths, nn.ReLU), nn.Linear(widths[-1], 1)
        reinitialize(self, th.default_generator)
        self.shift = nn.Parameter(th.zeros(()))
        self.register_buffer("start_value", th.zeros(()))

    start_value: th.Tensor

    @property
    def _at_once(self) -> int:
        return rows_at_once(self.start_value.device, 1 + self.settings.n_actions)

    def optimizer(self) -> th.optim.Optimizer:
        """A new optimiser of network and shift."""
        settings = self.settings
        groups = [
            {"params": [*self.layers.parameters(), *self.head.parameters()], "weight_decay": settings.q_weight_decay},
            {"params": [self.shift], "weight_decay": 0.0},
        ]
        return th.optim.Adam(groups, lr=settings.q_learning_rate, fused=True)

    def forward(self, inputs: th.Tensor) -> th.Tensor:
        """
        Output of the network.

        :param inputs: ``[..., O + A]``
        :return: q ``[...]``, without the shift
        """
        values: th.Tensor = self.head(self.layers(inputs)).squeeze(-1)
        return nn.functional.softplus(values) if self.settings.nonnegative else values

    def inputs(self, observations: th.Tensor, actions: th.Tensor) -> th.Tensor:
        """
        Inputs of the network.

        :param observations: ``[..., O]``
        :param actions: ``[..., A]``
        :return: ``[..., O + A]``
        """
        return self.standardizer(th.cat([observations, actions], dim=-1))

    @th.no_grad()
    def reset(self, optimizer: th.optim.Optimizer, generator: th.Generator) -> None:
        """
        Re-initialise in place.

        :param optimizer: from :meth:`optimizer`; its state is cleared
        :param generator: source of randomness
        """
        reinitialize(self, generator)
        self.head.weight.mul_(_HEAD_SCALE)
        self.shift.zero_()
        self.start_value.zero_()
        optimizer.state.clear()

    def fit(
        self,
        data: Transitions,
        log_ratio: RowFunction,
        start_observations: th.Tensor,
        optimizer: th.optim.Optimizer,
        context: Context,
    ) -> dict[str, th.Tensor]:
        """
        Minimise the dual.

        :param data: N rows of the buffer
        :param log_ratio: returns R for any rows
        :param start_observations: ``[K, O]``
        :param optimizer: from :meth:`optimizer`
        :param context: view of the agent
        :return: figures for the log, scalars on the device
        """
        settings, gamma = self.settings, self.settings.discount(context.gamma)
        set_options(optimizer, settings.q_learning_rate, (settings.q_weight_decay, 0.0))
        if not settings.q_persistent:
            self.reset(optimizer, context.generator)
        self.standardizer.fit(moments_of(data, "observations", "actions") if settings.standardize else None)
        starts = self._start_inputs(start_observations, context)
        fitted, held = hold_out(data.size, settings.q_holdout_ratio, context.generator, context.n_envs)
        loss, best, figures = th.zeros((), device=data.device), None, {}
        if len(held):
            objective = self._held_out_objective(data, held, log_ratio, starts, context)
            figures["dual_ratio_held_out"] = objective(0.0)
            best = BestState(self, objective)
        with descent(optimizer, partial(self._loss, gamma), "fit of TOM's dual", data.device) as descend:
            for step, batch in enumerate(self._minibatches(data, fitted, log_ratio, starts, context)):
                remaining = 1.0 - step / settings.q_steps if settings.anneal else 1.0
                set_learning_rate(optimizer, settings.q_learning_rate * remaining, (1.0, _SHIFT_RATE))
                loss = descend(*batch)
                if best is not None and ((step + 1) % _STEPS_AT_ONCE == 0 or step + 1 == settings.q_steps):
                    best.offer(step + 1)
        if best is not None:
            figures["dual_loss_held_out"], figures["dual_best_step"] = best.restore()
        with th.no_grad():
            self.start_value.copy_(self(starts).mean())
        return {"dual_loss": loss} | figures

    def _minibatches(
        self, data: Transitions, fitted: th.Tensor, log_ratio: RowFunction, starts: th.Tensor, context: Context
    ) -> Iterator[tuple[th.Tensor, ...]]:
        """Arguments of :meth:`_loss` for each step; the descent begins at the shift that is best for the first pool."""
        settings = self.settings
        for number, (pool, rows) in enumerate(self._pools(data, fitted, log_ratio, context)):
            if settings.mass_shift and number == 0:
                self._solve_shift(data, pool, starts, self.settings.discount(context.gamma))
            start_rows = draws(starts.shape[0], rows.shape[0], settings.start_batch_size, context.generator)
            for chosen, chosen_starts in zip(rows, start_rows, strict=True):
                yield starts[chosen_starts], *self._flow_batch(data, pool.rows(chosen))

    def _held_out_objective(
        self, data: Transitions, held: th.Tensor, log_ratio: RowFunction, starts: th.Tensor, context: Context
    ) -> Callable[..., th.Tensor]:
        """Eq. 16 on some held-out rows as a function of a factor of q, with ``mass_shift`` at the best shift for it."""
        rows = th.randint(len(held), (_HELD_OUT,), generator=context.generator, device=data.device)
        pool = self._pool(data, held if len(held) <= _HELD_OUT else held[rows], log_ratio, context)
        gamma = self.settings.discount(context.gamma)
        mass = functional.mass_coefficients(pool.ended, gamma, self.settings.terminal)

        @th.no_grad()
        def objective(scale: float = 1.0) -> th.Tensor:
            start_value = scale * self(starts).mean()
            y = self._pool_residuals(data, pool, start_value, gamma, scale)
            shift = functional.best_shift(y, mass, self.divergence.derivative) if self.settings.mass_shift else self.shift
            return functional.dual_loss(y - shift * mass, start_value, gamma, self._conjugate_mean, shift)

        return objective

    @th.no_grad()
    def weights(
        self, data: Transitions, log_ratio: RowFunction, context: Context, numbers: th.Tensor | None = None
    ) -> th.Tensor:
        """
        Weights by Eq. 17.

        :param data: N rows
        :param log_ratio: returns R for any rows
        :param context: view of the agent
        :param numbers: int64 ``[M]``, the rows to weigh; None: all
        :return: w ``[M]``, float64
        """
        gamma = self.settings.discount(context.gamma)
        numbers = th.arange(data.size, device=data.device) if numbers is None else numbers

        def residuals() -> Iterator[th.Tensor]:
            for some in numbers.split(self._at_once):
                pool = self._pool_part(data, some, log_ratio, context)
                yield self._pool_residuals(data, pool, self.start_value, gamma)

        y = joined(residuals(), len(numbers)).double()
        if self.settings.mass_shift:
            ended = ends(data, self.settings)[numbers].double()
            mass = functional.mass_coefficients(ended, gamma, self.settings.terminal)
            y = y - functional.best_shift(y, mass, self.divergence.derivative) * mass
        return self.divergence.derivative(y)

    @th.no_grad()
    def _solve_shift(self, data: Transitions, pool: Pool, starts: th.Tensor, gamma: float) -> None:
        """Set the shift to the best one for the current network."""
        y = self._pool_residuals(data, pool, self(starts).mean(), gamma)
        mass = functional.mass_coefficients(pool.ended, gamma, self.settings.terminal)
        self.shift.copy_(functional.best_shift(y, mass, self.divergence.derivative))

    def _pools(
        self, data: Transitions, fitted: th.Tensor, log_ratio: RowFunction, context: Context
    ) -> Iterator[tuple[Pool, th.Tensor]]:
        """Pools of rows, each with the row numbers ``[steps, B]`` of its steps: one pool per phase, or one per 100 steps."""
        steps, batch, size = self.settings.q_steps, self.settings.q_batch_size, self.settings.pool_size
        generator = context.generator
        if size is None:
            for start in range(0, steps, _STEPS_AT_ONCE):
                n_steps = min(_STEPS_AT_ONCE, steps - start)
                drawn = th.randint(len(fitted), (n_steps * batch,), generator=generator, device=data.device)
                numbers = th.arange(drawn.numel(), device=data.device).view(n_steps, batch)
                yield self._pool(data, fitted[drawn], log_ratio, context), numbers
            return
        if len(fitted) > size:
            fitted = fitted[th.randint(len(fitted), (size,), generator=generator, device=data.device)]
        yield self._pool(data, fitted, log_ratio, context), draws(len(fitted), steps, batch, generator)

    @th.no_grad()
    def _pool(self, data: Transitions, numbers: th.Tensor, log_ratio: RowFunction, context: Context) -> Pool:
        """A pool of rows, with newly drawn actions of the policy at the next states."""
        parts = (self._pool_part(data, some, log_ratio, context) for some in numbers.split(self._at_once))
        return Pool.joined(parts, len(numbers))

    def _pool_part(self, data: Transitions, numbers: th.Tensor, log_ratio: RowFunction, context: Context) -> Pool:
        rows = data.rows(numbers)
        next_actions = context.sample_actions(rows.next_observations, self.settings.n_actions)
        return Pool(numbers, next_actions, log_ratio(rows), ends(rows, self.settings))

    @th.no_grad()
    def _flow_batch(self, data: Transitions, pool: Pool) -> FlowBatch:
        """Network inputs of the rows of a pool."""
        own = self.inputs(data.observations[pool.numbers], data.actions[pool.numbers]).unsqueeze(1)
        following = self._several_inputs(data.next_observations[pool.numbers], pool.next_actions)
        return FlowBatch(th.cat([own, following], dim=1), pool.log_ratio, pool.ended)

    @th.no_grad()
    def _start_inputs(self, start_observations: th.Tensor, context: Context) -> th.Tensor:
        """Inputs ``[P, O + A]`` at start states, with actions of the policy; if there are few, each state equally often."""
        n_starts = start_observations.shape[0]
        order = th.randperm(n_starts, generator=context.generator, device=start_observations.device)
        n_actions = max(1, _START_PAIRS // n_starts)
        return self._policy_inputs(start_observations[order[:_START_PAIRS]], n_actions, context).flatten(0, 1)

    def _policy_inputs(self, observations: th.Tensor, n_actions: int, context: Context) -> th.Tensor:
        """Inputs ``[B, n, O + A]`` for observations ``[B, O]``, each with n actions of the policy."""
        return self._several_inputs(observations, context.sample_actions(observations, n_actions))

    def _several_inputs(self, observations: th.Tensor, actions: th.Tensor) -> th.Tensor:
        """Inputs ``[B, n, O + A]`` for observations ``[B, O]`` and actions ``[B, n, A]``."""
        return self.inputs(observations.unsqueeze(1).expand(-1, actions.shape[1], -1), actions)

    def _pool_residuals(
        self, data: Transitions, pool: Pool, start_value: th.Tensor, gamma: float, scale: float = 1.0
    ) -> th.Tensor:
        """y ``[M]`` without the shift, with q multiplied by ``scale``."""
        batches = (self._flow_batch(data, part) for part in pool.split(self._at_once))
        parts = (self._residuals(batch, scale * self(batch.inputs), start_value, gamma) for batch in batches)
        return joined(parts, len(pool.numbers))

    def _residuals(self, batch: FlowBatch, values: th.Tensor, start_value: th.Tensor, gamma: float) -> th.Tensor:
        """y ``[B]`` without the shift, from q ``[B, 1 + k]`` at the inputs."""
        next_value, terminal = values[:, 1:].mean(1), self.settings.terminal
        return functional.residual(batch.log_ratio, values[:, 0], next_value, start_value, batch.ended, gamma, terminal)

    def _conjugate_mean(self, y: th.Tensor) -> th.Tensor:
        """Estimate of E_D f_*(y), or the released code's term for it."""
        if self.settings.corrected_conjugate:
            return self.divergence.conjugate(y).mean()
        return functional.RELEASED_TERMS[self.settings.divergence](y)

    def _loss(self, gamma: float, starts: th.Tensor, *fields: th.Tensor) -> th.Tensor:
        """Eq. 16 on the fields of a :class:`FlowBatch`, with one pass through the network."""
        batch = FlowBatch(*fields)
        n_starts = starts.shape[0]
        values, start_values = self(th.cat([batch.inputs.flatten(0, 1), starts])).tensor_split([-n_starts])
        start_value = start_values.mean()
        y = self._residuals(batch, values.view(batch.inputs.shape[:2]), start_value, gamma)
        if not self.settings.mass_shift:
            return functional.dual_loss(y, start_value, gamma, self._conjugate_mean)
        mass = functional.mass_coefficients(batch.ended, gamma, self.settings.terminal)
        return functional.dual_loss(y - self.shift * mass, start_value, gamma, self._conjugate_mean, self.shift)
