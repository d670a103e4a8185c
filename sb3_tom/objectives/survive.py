"""Likelihood for tasks that pay a bonus per surviving step; the bonus follows a rule and is not learned."""

import torch as th

from sb3_tom.checks.validation import check_number
from sb3_tom.contracts.context import Context
from sb3_tom.contracts.dynamics import DynamicsModel
from sb3_tom.contracts.objective import Extras
from sb3_tom.contracts.types import RewardFunction, Transitions
from sb3_tom.objectives.likelihood import LikelihoodObjective


class SurviveBonusObjective(LikelihoodObjective):
    """
    Gymnasium's MuJoCo tasks of version 5 pay ``healthy_reward`` only while the body is healthy: the reward jumps where an
    episode ends, and a smooth reward head blurs the jump. Here the model learns the reward as if the bonus were paid at
    terminations too, which has no jump, and the bonus is subtracted from imagined transitions that terminate. Early stopping
    and elites use the error of these rewards too: that of the plain ones has a part that no fit can reduce.

    :param bonus: the task's reward for each healthy step, for example 1 (Hopper, Walker2d, Ant), 5 (Humanoid) or 10
        (InvertedDoublePendulum)
    :raises ValueError: naming the argument, what came and what is allowed
    """

    def __init__(self, bonus: float = 1.0) -> None:
        super().__init__()
        self.bonus = check_number("bonus", bonus)

    def check_reward_fn(self, reward_fn: RewardFunction | None) -> None:
        """Refuse a known reward, which has the jump itself; see :meth:`ModelObjective.check_reward_fn`."""
        if reward_fn is not None:
            raise ValueError(
                f"reward_fn={reward_fn!r} is not allowed with SurviveBonusObjective, which mends a learned one; allowed: None"
            )

    def loss(self, model: DynamicsModel, batch: Transitions, weights: th.Tensor, extras: Extras) -> th.Tensor:
        """Loss of the likelihood with rewards without the jump; shapes as in :meth:`ModelObjective.loss`."""
        return super().loss(model, self.learned(batch), weights, extras)

    def validation_error(self, model: DynamicsModel, batch: Transitions, extras: Extras) -> th.Tensor | None:
        """Error of the rewards that are learned; see :meth:`ModelObjective.validation_error`."""
        return super().validation_error(model, self.learned(batch), extras)

    def learned(self, batch: Transitions) -> Transitions:
        """With rewards without the jump; see :meth:`ModelObjective.learned`."""
        return batch._replace(rewards=batch.rewards + self.bonus * batch.terminated)

    def relabel(self, batch: Transitions, context: Context) -> Transitions:
        """Subtract the bonus where an imagined episode ends."""
        return batch._replace(rewards=batch.rewards - self.bonus * batch.terminated)
