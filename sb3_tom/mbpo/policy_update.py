"""The policy's side of the agent: what plugs may ask of it, and its gradient steps."""

from typing import TYPE_CHECKING

import torch as th
from stable_baselines3.sac.sac import SAC

from sb3_tom.common.mixing import MixedBatches
from sb3_tom.common.types import Context, PolicyFunction
from sb3_tom.mbpo.sac_update import Losses, SACUpdate, covers, fuse, sample_squashed

if TYPE_CHECKING:
    from sb3_tom.mbpo.mbpo import MBPO


def make_context(agent: "MBPO", policy: PolicyFunction | None = None) -> Context:
    """
    The view of the agent that plugs receive.

    :param agent: its policy is put into evaluation mode
    :param policy: another policy than the agent's
    """
    agent.policy.set_training_mode(False)

    def sample_action(observations: th.Tensor) -> tuple[th.Tensor, th.Tensor]:
        if agent.use_sde:
            actions, log_prob = agent.actor.action_log_prob(observations)
            return actions, log_prob.reshape(-1, 1)
        shape = (observations.shape[0], agent.action_space.shape[0])  # type: ignore[index]
        noise = th.randn(shape, generator=agent.generator, device=agent.device)
        return sample_squashed(agent.actor, observations, noise)

    def values(observations: th.Tensor, actions: th.Tensor) -> th.Tensor:
        return th.cat(agent.critic(observations, actions), dim=1).t()

    return Context(policy or sample_action, values, agent.gamma, agent.policy_version, agent.generator)


def update_policy(agent: "MBPO", batches: MixedBatches, gradient_steps: int, batch_size: int) -> dict[str, float]:
    """
    SAC's gradient steps, on the fast path where it does the same as SB3's.

    :param agent: its networks change
    :param batches: source of mixed minibatches
    :param gradient_steps: how many
    :param batch_size: rows of a minibatch
    :return: SAC's own figures for the log (SB3's path records them by itself)
    """
    if not covers(agent.policy):
        return _sb3_update(agent, batches, gradient_steps, batch_size)
    agent.policy.set_training_mode(True)
    optimizers = [agent.actor.optimizer, agent.critic.optimizer]
    optimizers += [agent.ent_coef_optimizer] if agent.ent_coef_optimizer is not None else []
    if hasattr(agent, "_logger"):
        agent._update_learning_rate(optimizers)
    for optimizer in optimizers:
        fuse(optimizer)
    update = SACUpdate(
        agent.policy,
        agent.log_ent_coef,
        agent.ent_coef_optimizer,
        None if agent.ent_coef_optimizer else agent.ent_coef_tensor,
        float(agent.target_entropy),
        agent.gamma,
        agent.tau,
    )
    shape = (2, batch_size, agent.action_space.shape[0])  # type: ignore[index]
    losses = []
    for step, batch in enumerate(batches(gradient_steps, batch_size)):
        noise = th.randn(shape, generator=agent.generator, device=agent.device)
        losses.append(update(batch, noise, update_target=step % agent.target_update_interval == 0))
    agent._n_updates += gradient_steps
    if hasattr(agent, "_logger"):
        agent.logger.record("train/n_updates", agent._n_updates, exclude="tensorboard")
    return _figures(losses, agent)


def _figures(losses: list[Losses], agent: "MBPO") -> dict[str, float]:
    """Means over the steps under SB3's keys; the one host read of a call."""
    means = [th.stack([value.reshape(()) for value in values]).mean() for values in zip(*losses, strict=True)]
    names = [name for name in Losses._fields if name != "ent_coef_loss" or agent.ent_coef_optimizer is not None]
    figures = dict(zip(Losses._fields, th.stack(means).tolist(), strict=True))
    return {name: figures[name] for name in names}


def _sb3_update(agent: "MBPO", batches: MixedBatches, gradient_steps: int, batch_size: int) -> dict[str, float]:
    """SB3's own ``train`` on mixed minibatches (gSDE, batch normalisation, shared features)."""
    real = agent.replay_buffer
    agent.replay_buffer = batches  # type: ignore[assignment]
    try:
        SAC.train(agent, gradient_steps, batch_size)
    finally:
        agent.replay_buffer = real
    return {}
