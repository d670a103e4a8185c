"""The policy's side of the agent: what plugs may ask of it, and its gradient steps."""

from collections.abc import Callable
from typing import TYPE_CHECKING

import torch as th
from stable_baselines3.common.utils import configure_logger
from stable_baselines3.sac.policies import Actor
from stable_baselines3.sac.sac import SAC

from sb3_tom.common.cuda_graphs import records
from sb3_tom.common.guards import check_magnitudes, magnitude
from sb3_tom.common.mixing import MixedBatches
from sb3_tom.common.types import Context, PolicyFunction
from sb3_tom.common.vec_normalize import policy_units
from sb3_tom.mbpo.graphed_update import GraphedUpdate, graphed
from sb3_tom.mbpo.plain_update import PlainSACUpdate, has_plain_networks
from sb3_tom.mbpo.sac_update import SQUASH_EPSILON, Losses, SACUpdate, fuse, is_supported, sample_squashed

if TYPE_CHECKING:
    from sb3_tom.mbpo.mbpo import MBPO
    from sb3_tom.mbpo.plugged_sac import PluggedSAC

LOSSES_KEPT = 1_000
"""Steps whose losses are added up at once: a call may make millions, and to add at each step would cost a kernel per loss."""


def make_context(agent: "MBPO", policy: PolicyFunction | None = None) -> Context:
    """
    The view of the agent that plugs receive. Plugs speak raw units; what the policy sees may be normalised.

    :param agent: its policy is put into evaluation mode
    :param policy: another policy than the agent's, of raw observations
    """
    agent.policy.set_training_mode(False)
    units = policy_units(agent._vec_normalize_env, agent.device)
    draw = _action_sampler(agent)

    def noise(*rows: int) -> th.Tensor:
        n_actions = agent.action_space.shape[0]  # type: ignore[index]
        return th.randn((*rows, n_actions), generator=agent.generator, device=agent.device)

    def sample_action(observations: th.Tensor) -> tuple[th.Tensor, th.Tensor]:
        return draw(agent.actor, units.observations(observations), noise(observations.shape[0]))

    def sample_actions(observations: th.Tensor, n_actions: int) -> th.Tensor:
        rows_first = noise(observations.shape[0], n_actions)
        actions, _ = draw(agent.actor, units.observations(observations), rows_first.transpose(0, 1))
        return actions.transpose(0, 1)

    def values(observations: th.Tensor, actions: th.Tensor) -> th.Tensor:
        return th.cat(agent.critic(units.observations(observations), actions), dim=1).t()

    in_one_pass = policy is None and draw is not _sample_by_itself
    return Context(
        policy=policy or sample_action,
        values=values,
        gamma=agent.gamma,
        policy_version=agent.policy_version,
        generator=agent.generator,
        action_sampler=sample_actions if in_one_pass else None,
        n_envs=agent.replay_buffer.n_envs,
    )


def _action_sampler(agent: "MBPO") -> Callable[[Actor, th.Tensor, th.Tensor], tuple[th.Tensor, th.Tensor]]:
    if type(agent.actor) is not Actor:
        return _sample_by_itself
    return sample_state_dependent if agent.use_sde else sample_squashed


def _sample_by_itself(actor: Actor, observations: th.Tensor, noise: th.Tensor) -> tuple[th.Tensor, th.Tensor]:
    """A user's actor class draws its own noise."""
    actions, log_prob = actor.action_log_prob(observations)
    return actions, log_prob.reshape(-1, 1)


def sample_state_dependent(actor: Actor, observations: th.Tensor, noise: th.Tensor) -> tuple[th.Tensor, th.Tensor]:
    """
    Reparameterised action of a gSDE actor (arXiv:2005.05719), as if each row drew an exploration matrix of its own: SB3's
    one matrix, that of the env steps, would push all imagined rollouts of a phase in the same direction.

    :param actor: SB3's SAC actor, with gSDE
    :param observations: ``[B, O]``
    :param noise: standard normal ``[..., B, A]``
    :return: actions ``[..., B, A]`` in [-1, 1], log-probabilities ``[..., B, 1]``
    """
    mean, log_std, extra = actor.get_action_dist_params(observations)
    distribution = actor.action_dist.proba_distribution(mean, log_std, **extra)
    gaussian = mean + noise * distribution.distribution.stddev
    log_prob = distribution.distribution.log_prob(gaussian).sum(dim=-1, keepdim=True)
    actions = th.tanh(gaussian)
    return actions, log_prob - th.log(1.0 - actions.square() + SQUASH_EPSILON).sum(dim=-1, keepdim=True)


def mixed_batches(agent: "MBPO") -> MixedBatches:
    """
    Source of minibatches in the policy's units.

    :param agent: its buffers are read
    """
    units = policy_units(agent._vec_normalize_env, agent.device)
    return MixedBatches(agent.replay_buffer.transitions(), agent.imagined, agent.real_ratio, agent.generator, units)


def update_policy(agent: "MBPO", batches: MixedBatches, gradient_steps: int, batch_size: int) -> dict[str, float]:
    """
    SAC's gradient steps, on the fast path where it does the same as SB3's.

    :param agent: its networks change
    :param batches: source of mixed minibatches
    :param gradient_steps: how many
    :param batch_size: rows of a minibatch
    :return: SAC's own figures for the log
    :raises DivergenceError: naming the network
    """
    before = network_sizes(agent)
    if not is_supported(agent.policy):
        return _checked(_sb3_update(agent, batches, gradient_steps, batch_size), before, agent)
    agent.policy.set_training_mode(True)
    optimizers = [agent.actor.optimizer, agent.critic.optimizer]
    optimizers += [agent.ent_coef_optimizer] if agent.ent_coef_optimizer is not None else []
    if hasattr(agent, "_logger"):
        agent._update_learning_rate(optimizers)
    for optimizer in optimizers:
        fuse(optimizer)
    update = _make_update(agent)
    shape = (2, batch_size, agent.action_space.shape[0])  # type: ignore[index]
    losses: list[Losses] = []
    sums: list[Losses] = []
    for step, batch in enumerate(batches(gradient_steps, batch_size)):
        noise = th.randn(shape, generator=agent.generator, device=agent.device)
        losses.append(update(batch, noise, update_target=step % agent.target_update_interval == 0))
        if len(losses) == LOSSES_KEPT:
            sums, losses = [_sum([*sums, *losses])], []
    agent._n_updates += gradient_steps
    if hasattr(agent, "_logger"):
        agent.logger.record("train/n_updates", agent._n_updates, exclude="tensorboard")
    means = {name: value / gradient_steps for name, value in _sum([*sums, *losses])._asdict().items()}
    return _checked(means, before, agent)


def _make_update(agent: "MBPO") -> SACUpdate | GraphedUpdate:
    """The fastest update that is right for the agent's policy and device."""
    kind = PlainSACUpdate if has_plain_networks(agent.policy) else SACUpdate
    update = kind(
        agent.policy,
        agent.log_ent_coef,
        agent.ent_coef_optimizer,
        None if agent.ent_coef_optimizer else agent.ent_coef_tensor,
        float(agent.target_entropy),
        agent.gamma,
        agent.tau,
    )
    if not records(agent.device) or not isinstance(update, PlainSACUpdate):
        return update
    agent.graphed_update = graphed(update, agent.graphed_update)
    return agent.graphed_update


def _sum(losses: list[Losses]) -> Losses:
    """On the device."""
    return Losses(*(th.stack([value.reshape(()) for value in values]).sum() for values in zip(*losses, strict=True)))


def network_sizes(agent: "PluggedSAC") -> dict[str, th.Tensor]:
    """
    Norms of the policy's networks.

    :param agent: read only
    :return: scalars on the device, by names for messages
    """
    networks = {"critic": agent.critic, "target critic": agent.critic_target, "actor": agent.actor}
    sizes = {f"the norm of the {name}'s weights": magnitude(network.parameters()) for name, network in networks.items()}
    if agent.log_ent_coef is not None:
        sizes["the logarithm of the entropy coefficient"] = magnitude([agent.log_ent_coef])
    return sizes


def _checked(figures: dict[str, th.Tensor], before: dict[str, th.Tensor], agent: "MBPO") -> dict[str, float]:
    """
    The one host read of a call. Networks before the steps are looked at first: one bad network soon spoils the others.

    :param figures: SAC's own
    :param before: sizes of the networks before the steps
    :raises DivergenceError: naming the network
    """
    after = network_sizes(agent)
    groups = (before, figures, after)
    values = th.stack([value for group in groups for value in group.values()]).cpu().split([len(group) for group in groups])
    sizes_before, read, sizes_after = (
        dict(zip(group, part.tolist(), strict=True)) for group, part in zip(groups, values, strict=True)
    )
    check_magnitudes(sizes_before)
    titles = {"critic_loss": "the critic's loss", "actor_loss": "the actor's loss"}
    check_magnitudes({title: read[name] for name, title in titles.items()})
    check_magnitudes(sizes_after)
    return {name: value for name, value in read.items() if name != "ent_coef_loss" or agent.ent_coef_optimizer is not None}


def _sb3_update(agent: "MBPO", batches: MixedBatches, gradient_steps: int, batch_size: int) -> dict[str, th.Tensor]:
    """SB3's own ``train`` on mixed minibatches (gSDE, batch normalisation, shared features)."""
    if not hasattr(agent, "_logger"):  # offline, before the first learn
        agent._logger = configure_logger(0, None, "", True)
    real = agent.replay_buffer
    agent.replay_buffer = batches  # type: ignore[assignment]
    try:
        SAC.train(agent, gradient_steps, batch_size)
    finally:
        agent.replay_buffer = real
    logged = agent.logger.name_to_value
    return {name: th.as_tensor(logged.get(f"train/{name}", 0.0), device=agent.device) for name in Losses._fields}
