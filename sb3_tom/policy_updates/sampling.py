"""Reparameterised actions of SB3's SAC actors from given noise, and the log-probability of given actions."""

import torch as th
from stable_baselines3.sac import policies
from stable_baselines3.sac.policies import Actor

from sb3_tom.data.squashed import SQUASH_EPSILON, before_tanh

LOG_SQRT_TWO_PI = 0.9189385332046727


def log_std_bounds() -> tuple[float, float]:
    """SB3's bounds of the logarithm of the standard deviation. Read at each use, since a user may change them."""
    return policies.LOG_STD_MIN, policies.LOG_STD_MAX


def sample_squashed(actor: Actor, observations: th.Tensor, noise: th.Tensor) -> tuple[th.Tensor, th.Tensor]:
    """
    Reparameterised action of a tanh-squashed Gaussian actor from given noise.

    :param actor: SB3's SAC actor, without gSDE
    :param observations: ``[B, O]``
    :param noise: standard normal ``[..., B, A]``
    :return: actions ``[..., B, A]`` in [-1, 1], log-probabilities ``[..., B, 1]``
    """
    mean, log_std, _ = actor.get_action_dist_params(observations)
    actions = th.tanh(mean + noise * log_std.exp())
    log_prob = -0.5 * noise.square() - log_std - LOG_SQRT_TWO_PI - th.log(1.0 - actions.square() + SQUASH_EPSILON)
    return actions, log_prob.sum(dim=-1, keepdim=True)


def sample_state_dependent(actor: Actor, observations: th.Tensor, noise: th.Tensor) -> tuple[th.Tensor, th.Tensor]:
    """
    Reparameterised action of a gSDE actor (arXiv:2005.05719), with an exploration matrix for each row: SB3's single matrix,
    that of the env steps, would push all imagined rollouts of a phase in the same direction.

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


def gaussian_of(actor: Actor, observations: th.Tensor) -> tuple[th.Tensor, th.Tensor]:
    """
    The Gaussian of an actor before tanh, with gSDE or without.

    :param actor: SB3's SAC actor
    :param observations: ``[B, O]``
    :return: mean and logarithm of the standard deviation, ``[B, A]`` each
    """
    mean, log_std, extra = actor.get_action_dist_params(observations)
    if actor.use_sde:
        log_std = actor.action_dist.proba_distribution(mean, log_std, **extra).distribution.stddev.log()
    return mean, log_std


def log_prob_of(actor: Actor, observations: th.Tensor, actions: th.Tensor) -> th.Tensor:
    """
    Log-probability of given actions under a tanh-squashed Gaussian actor, with gSDE or without.

    :param actor: SB3's SAC actor
    :param observations: ``[B, O]``
    :param actions: ``[B, A]`` in [-1, 1]; moved off the bounds, where the density is not defined
    :return: ``[B, 1]``
    """
    mean, log_std, extra = actor.get_action_dist_params(observations)
    if actor.use_sde:
        distribution = actor.action_dist.proba_distribution(mean, log_std, **extra).distribution
    else:
        distribution = th.distributions.Normal(mean, log_std.exp())
    gaussian, log_slope = before_tanh(actions)
    return (distribution.log_prob(gaussian) - log_slope).sum(dim=-1, keepdim=True)
