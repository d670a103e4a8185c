"""Plugs of every contract that do something simple to see, as a user would write them."""

import torch as th

from sb3_tom import Context, DynamicsModel, Transitions, Weighter
from sb3_tom.contracts.imagination import Confidence, RolloutStop


class Trust(Confidence):
    """The same for all rows."""

    def __init__(self, value: float = 0.5) -> None:
        super().__init__()
        self.value = value

    def forward(self, model: DynamicsModel, batch: Transitions, context: Context) -> th.Tensor:
        return th.full_like(batch.rewards, self.value)


class Halt(RolloutStop):
    """Stops where the first entry of s' would exceed a limit."""

    def __init__(self, limit: float = 0.5) -> None:
        super().__init__()
        self.limit = limit

    def forward(self, model: DynamicsModel, batch: Transitions, context: Context) -> th.Tensor:
        return batch.next_observations[:, :1] > self.limit


class Remembering(Weighter):
    """Keeps the mean action of each phase's policy at the newest row: a state that grows."""

    growing = ("actions",)
    actions: th.Tensor

    def build(self, observation_dim: int, action_dim: int) -> None:
        self.register_buffer("actions", th.zeros(0, action_dim))

    def weights(self, data: Transitions, context: Context) -> th.Tensor:
        return 1.0 + th.arange(data.size) / data.size

    @th.no_grad()
    def end_phase(self, data: Transitions, context: Context) -> None:
        self.actions = th.cat([self.actions, context.mean_action(data.observations[-1:])])
