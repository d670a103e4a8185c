"""A custom policy update: SAC's gradient steps, after as many pathwise gradient steps of the actor through the model."""

import argparse

import torch as th

from sb3_tom import MBPO, Context
from sb3_tom.checks.validation import check_integer
from sb3_tom.contracts.policy_update import Batches, ImaginedWorld, PolicyParts
from sb3_tom.imagination.differentiable import roll_out
from sb3_tom.policy_updates.sac.update import SACPolicyUpdate
from sb3_tom.policy_updates.steps import clip_gradients


class PathwiseSAC(SACPolicyUpdate):
    r"""
    The actor also maximises its return in the model, with the critics at the end (Clavera et al. 2020, arXiv:2005.08068):

    .. math:: J(\pi) = E\big[\textstyle\sum_{t < H} \gamma^t r_t + \gamma^H \min_c Q_c(s_H, a_H)\big]

    Rollouts start from rows in the env's own units, which are those of the world and the context.

    :param horizon: H, steps of each rollout
    """

    defaults = SACPolicyUpdate.defaults | {"update_to_data_ratio": 10.0}  # used where the user's is None

    def __init__(self, horizon: int = 3) -> None:
        super().__init__()
        self.horizon = check_integer("horizon", horizon, 1)

    def update(
        self,
        parts: PolicyParts,
        batches: Batches,
        world: ImaginedWorld,
        context: Context,
        gradient_steps: int,
        batch_size: int,
    ) -> dict[str, float]:
        """Pathwise steps come first, so that SAC's check of the networks, which detects a divergence, comes last."""
        values = [self.climb(parts, b.observations, world, context) for b in batches.raw(gradient_steps, batch_size)]
        figures = super().update(parts, batches, world, context, gradient_steps, batch_size)
        return figures | {"path_value": float(th.stack(values).mean())}  # the only host read

    def climb(self, parts: PolicyParts, starts: th.Tensor, world: ImaginedWorld, context: Context) -> th.Tensor:
        """Make one step of the actor from the states ``[B, O]``; returns J, on the device."""
        rollout = roll_out(world, starts, self.horizon, context)
        value = th.zeros_like(rollout.alive)
        for t, (step, on) in enumerate(zip(rollout.steps, rollout.counted, strict=True)):
            value = value + parts.gamma**t * on * step.rewards
        actions, _ = context.policy(rollout.observations)
        after = context.values(rollout.observations, actions).min(0).values.unsqueeze(1)
        discount = parts.gamma ** (self.horizon if rollout.length is None else rollout.length)  # a rollout_stop shortens them
        value = (value + discount * rollout.alive * after).mean()
        parameters = list(parts.policy.actor.parameters())
        # Gradients of the actor only: the graph contains critics and model too
        for parameter, gradient in zip(parameters, th.autograd.grad(-value, parameters), strict=True):
            parameter.grad = gradient
        clip_gradients(parts, parts.policy.actor.optimizer)  # if max_grad_norm is given
        parts.policy.actor.optimizer.step()
        return value.detach()


def main() -> None:
    """Train with it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=3000)
    arguments = parser.parse_args()
    update = {"policy_update": PathwiseSAC, "policy_update_kwargs": {"horizon": 3}}
    agent = MBPO("MlpPolicy", "Pendulum-v1", dynamics_kwargs={"clamp": "margin"}, verbose=1, **update)
    agent.learn(arguments.steps)


if __name__ == "__main__":
    main()
