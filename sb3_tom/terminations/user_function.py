"""Terminations by a user's function, and the one that never terminates."""

from collections.abc import Callable

import torch as th

from sb3_tom.contracts.plug import outline
from sb3_tom.contracts.termination import Termination

TerminationFunction = Callable[[th.Tensor, th.Tensor, th.Tensor], th.Tensor]
"""``function(observations [B, O], actions [B, A] in [-1, 1], next_observations [B, O]) -> bool [B, 1] or [B]``."""


class NeverTermination(Termination):
    """No transition is terminal. For tasks that only a time limit ends; never chosen by default."""

    rollout_recordable = True

    def forward(self, observations: th.Tensor, actions: th.Tensor, next_observations: th.Tensor) -> th.Tensor:
        """See :meth:`Termination.forward`."""
        return th.zeros_like(next_observations[..., :1], dtype=th.bool)


class CallableTermination(Termination):
    """
    A user's function as a termination.

    :param function: see :data:`TerminationFunction`
    :raises ValueError: if it is not callable
    """

    def __init__(self, function: TerminationFunction) -> None:
        super().__init__()
        if not callable(function):
            raise ValueError(f"termination_fn={function!r} is not allowed; allowed: a function of three tensors")
        self.function = function

    def check(self, observations: th.Tensor, actions: th.Tensor) -> None:
        """
        Call the function once.

        :raises ValueError: if it fails, or does not return bools of the right shape
        """
        batch = observations.shape[0]
        try:
            result = self.function(observations, actions, observations)
        except Exception as error:
            raise ValueError(
                f"termination_fn={self.function!r} failed on observations {tuple(observations.shape)}, actions "
                f"{tuple(actions.shape)} and next observations {tuple(observations.shape)}: {error!r}"
            ) from error
        if not isinstance(result, th.Tensor) or result.dtype != th.bool or result.shape not in ((batch,), (batch, 1)):
            raise ValueError(
                f"termination_fn={self.function!r} returned {outline(result)} for a batch of {batch}; "
                f"allowed: a bool tensor of shape {(batch, 1)} or {(batch,)}"
            )

    def forward(self, observations: th.Tensor, actions: th.Tensor, next_observations: th.Tensor) -> th.Tensor:
        """See :meth:`Termination.forward`."""
        # Copies: a function may write into its arguments
        return self.function(observations.clone(), actions.clone(), next_observations.clone()).reshape(-1, 1)
