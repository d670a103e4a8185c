r"""
The gradient step of :class:`~sb3_tom.policy_updates.sac.sac_update.SACUpdate` for SB3's ``MlpPolicy`` with ReLU or SiLU, its
backward passes written by hand. With :math:`a = \tanh(\mu + \sigma \epsilon)`, :math:`d = 1 - a^2 + \kappa`, the temperature
:math:`\alpha` and B rows, the loss :math:`\frac{1}{B} \sum \alpha \log \pi - \min_c Q_c` has the gradients

.. math::
    g_a = \frac{2 \alpha a}{B d} - \frac{1}{B} \frac{\partial \min_c Q_c}{\partial a}, \quad
    g_\mu = g_a (1 - a^2), \quad
    g_{\log \sigma} = g_\mu \sigma \epsilon - \frac{\alpha}{B}.

Compared with autograd this saves its overhead, half of the memory traffic, and gradients that are not used.
"""

from typing import NamedTuple, cast

import torch as th
from stable_baselines3.common.policies import ContinuousCritic
from stable_baselines3.common.torch_layers import FlattenExtractor
from stable_baselines3.sac.policies import SACPolicy
from torch import nn

from sb3_tom.checks.untouched import module_is_untouched, no_mode_is_on, optimizer_is_untouched, tensors_are_untouched
from sb3_tom.contracts.types import Batch
from sb3_tom.data.squashed import SQUASH_EPSILON
from sb3_tom.policy_updates.direct_adam import Steppers
from sb3_tom.policy_updates.sac.activations import ACTIVATIONS, Activation
from sb3_tom.policy_updates.sac.sac_update import Losses, SACUpdate
from sb3_tom.policy_updates.sac.stacked_mlp import Pass, StackedMLP
from sb3_tom.policy_updates.sampling import LOG_SQRT_TWO_PI, log_std_bounds
from sb3_tom.policy_updates.steps import clip_gradients


def linear_layers(network: nn.Module) -> list[nn.Linear]:
    """
    The linear layers of a network that consists of linear layers and activations of one kind.

    :param network: any module
    :return: its linear layers if it is a chain of linear layers with one of :data:`ACTIVATIONS` between any two of them (one
        may follow the last), otherwise none
    """
    if type(network) is not nn.Sequential:
        return []
    linear, between = list(network)[::2], {type(layer) for layer in list(network)[1::2]}
    plain = all(type(layer) is nn.Linear for layer in linear) and len(between) <= 1 and between <= ACTIVATIONS.keys()
    return linear if plain else []  # type: ignore[return-value]


def supports_handwritten_gradients(policy: SACPolicy) -> bool:
    """
    Whether :class:`HandwrittenSACUpdate` computes what autograd would.

    :param policy: a policy that :func:`~sb3_tom.policy_updates.steps.is_supported` accepts
    """
    actor, critic, target = policy.actor, policy.critic, policy.critic_target
    if not all(type(module) is ContinuousCritic for module in (critic, target)):
        return False
    networks = [*critic.q_networks, *target.q_networks]
    critics, trunk = [linear_layers(network) for network in networks], linear_layers(actor.latent_pi)
    heads = [head for head in (actor.mu, actor.log_std) if type(head) is nn.Linear]
    forms = {(*map(type, net.children()), *(layer.weight.shape for layer in linear_layers(net))) for net in networks}
    # The actor's trunk ends with an activation, the critics do not
    lengths = [len(list(network.children())) for network in (actor.latent_pi, *networks)]
    fitting = lengths[0] == 2 * len(trunk) > 0 and all(length % 2 and length > 1 for length in lengths[1:])
    layers = [*trunk, *heads, *(layer for layers in critics for layer in layers)]
    return len(forms) == 1 and fitting and len(heads) == 2 and _is_bare(policy, layers)


def _is_bare(policy: SACPolicy, layers: list[nn.Linear]) -> bool:
    """No features but the observations, no hooks, nothing frozen, shared or left over, one dtype and device."""
    modules = [policy.actor, policy.critic, policy.critic_target]
    if any(type(module.features_extractor) is not FlattenExtractor for module in modules):
        return False
    parameters = [parameter for module in modules for parameter in module.parameters()]
    trained = [parameter for module in modules[:2] for parameter in module.parameters()]
    usual = all(parameter.requires_grad for parameter in trained)
    untouched = no_mode_is_on() and tensors_are_untouched(parameters) and all(map(module_is_untouched, modules))
    untouched = untouched and all(optimizer_is_untouched(module.optimizer) for module in modules[:2])
    one_kind = len({(parameter.dtype, parameter.device) for parameter in parameters}) == 1
    # Parameters are moved in memory, where other processes would not see them; on CUDA is_shared is always True
    untouched = untouched and not any(parameter.is_shared() for parameter in parameters if parameter.device.type == "cpu")
    used = {id(parameter) for layer in layers for parameter in (layer.weight, layer.bias)}
    return one_kind and usual and untouched and len(parameters) == 2 * len(layers) == len(used)


def _activation(network: nn.Module) -> Activation:
    """The activation of a network that :func:`linear_layers` accepts."""
    return ACTIVATIONS[type(cast(nn.Sequential, network)[1])]


def _stacked(networks: list[nn.Module]) -> StackedMLP:
    """Critics as one stacked network."""
    layers = [linear_layers(network) for network in networks]
    return StackedMLP([one[:-1] for one in layers], [one[-1:] for one in layers], _activation(networks[0]))


class _Sample(NamedTuple):
    """Actions and what their gradients need, each ``[B, A]`` but ``log_prob [B, 1]``."""

    actions: th.Tensor
    log_prob: th.Tensor
    shift: th.Tensor  # sigma * epsilon
    slope: th.Tensor  # 1 - a^2
    bounded: th.Tensor  # whether log sigma was clamped


class HandwrittenSACUpdate(SACUpdate):
    """As :class:`SACUpdate`; its policy must satisfy :func:`supports_handwritten_gradients`."""

    def __post_init__(self) -> None:
        super().__post_init__()
        policy, actor = self.parts.policy, self.parts.policy.actor
        heads = [cast(nn.Linear, actor.mu), cast(nn.Linear, actor.log_std)]
        self._actor = StackedMLP([linear_layers(actor.latent_pi)], [heads], _activation(actor.latent_pi))
        self._critic, self._target = (_stacked(critics.q_networks) for critics in (policy.critic, policy.critic_target))
        self._actor.bind_gradients()
        self._critic.bind_gradients()
        if self.parts.log_ent_coef is not None:
            self.parts.log_ent_coef.grad = self._temperature_gradient = th.zeros_like(self.parts.log_ent_coef)
        self._steppers = Steppers(self.parts.optimizers, are_bound=True)
        self._log_std_bounds = log_std_bounds()

    @property
    def is_recordable(self) -> bool:
        """Whether each step launches the same kernels on the same tensors."""
        return self._steppers.all_direct

    def signature(self) -> tuple[object, ...]:
        """Equal for two updates that make the same step on the same tensors, whatever the learning rates."""
        networks = (self._actor, self._critic, self._target)
        stacked = (tensor.data_ptr() for network in networks for tensor in network.stacked)
        facts = (
            *(network.activation for network in networks),
            *self._log_std_bounds,
            self.parts.gamma,
            self.parts.tau,
            self.parts.target_entropy,
            self.parts.max_grad_norm,
            None if self.parts.ent_coef is None else self.parts.ent_coef.data_ptr(),
        )
        return *facts, *stacked, *self._steppers.signature()

    def take_over(self) -> None:
        """Go on after another update was made: with its own gradients, and the optimisers' learning rates."""
        self._actor.attach_gradients()
        self._critic.attach_gradients()
        if self.parts.log_ent_coef is not None:
            self.parts.log_ent_coef.grad = self._temperature_gradient
        self._steppers.refresh_learning_rates()

    @th.no_grad()
    def __call__(self, batch: Batch, noise: th.Tensor, update_target: bool) -> Losses:
        """See :meth:`SACUpdate.__call__`."""
        n_rows = noise.shape[1]
        passed = self._actor.forward(th.cat([batch.observations, batch.next_observations]))
        sample = _sample(passed.outputs[0], noise.flatten(0, 1), self._log_std_bounds)
        ent_coef, ent_coef_loss = self._update_temperature(sample.log_prob[:n_rows])
        next_inputs = th.cat([batch.next_observations, sample.actions[n_rows:]], dim=1)
        next_values = self._target.forward(next_inputs).outputs.amin(0) - ent_coef * sample.log_prob[n_rows:]
        targets = batch.rewards + (1.0 - batch.terminated) * self.parts.gamma * next_values
        critic_loss = self._fit_critics(th.cat([batch.observations, batch.actions], dim=1), targets, batch.confidence)
        here = _Sample(*(part[:n_rows] for part in sample))
        actor_loss = self._improve_actor(batch.observations, passed.first_rows(n_rows), here, ent_coef)
        if update_target:
            th._foreach_lerp_(self._target.stacked, self._critic.stacked, self.parts.tau)
        return Losses(ent_coef, ent_coef_loss, critic_loss, actor_loss)

    def _update_temperature(self, log_prob: th.Tensor) -> tuple[th.Tensor, th.Tensor]:
        """As in :class:`SACUpdate`, with a gradient tensor that is reused."""
        if self.parts.log_ent_coef is None or self.parts.ent_coef_optimizer is None:
            return super()._update_temperature(log_prob)
        ent_coef = self.parts.log_ent_coef.exp()
        gradient = -(log_prob + self.parts.target_entropy).mean()
        loss = self.parts.log_ent_coef * gradient
        self._temperature_gradient.copy_(gradient)
        self._steppers(self.parts.ent_coef_optimizer)
        return ent_coef, loss

    def _fit_critics(self, inputs: th.Tensor, targets: th.Tensor, confidence: th.Tensor | None) -> th.Tensor:
        passed = self._critic.forward(inputs)
        errors = passed.outputs - targets
        slopes = errors if confidence is None else confidence * errors
        self._critic.backward(passed, slopes / targets.shape[0])
        clip_gradients(self.parts, self.parts.policy.critic.optimizer)
        self._steppers(self.parts.policy.critic.optimizer)
        return 0.5 * (slopes * errors).sum() / targets.shape[0]

    def _improve_actor(self, observations: th.Tensor, passed: Pass, sample: _Sample, ent_coef: th.Tensor) -> th.Tensor:
        """
        The actor's step, with gradients by hand.

        :param passed: result of its forward pass
        """
        n_rows, n_actions = sample.actions.shape
        valued = self._critic.forward(th.cat([observations, sample.actions], dim=1))
        values, chosen = valued.outputs.min(0, keepdim=True)
        towards = th.zeros_like(valued.outputs).scatter_(0, chosen, -1.0 / n_rows)
        share = ent_coef / n_rows
        by_action = self._critic.input_gradient(valued, towards, n_actions)
        by_action += share * 2.0 * sample.actions / (sample.slope + SQUASH_EPSILON)
        by_mean = by_action * sample.slope
        by_log_std = (by_mean * sample.shift - share).masked_fill_(sample.bounded, 0.0)
        self._actor.backward(passed, th.cat([by_mean, by_log_std], dim=1).unsqueeze(0))
        clip_gradients(self.parts, self.parts.policy.actor.optimizer)
        self._steppers(self.parts.policy.actor.optimizer)
        return (ent_coef * sample.log_prob - values[0]).mean()


def _sample(outputs: th.Tensor, noise: th.Tensor, bounds: tuple[float, float]) -> _Sample:
    """:func:`~sb3_tom.policy_updates.sampling.sample_squashed` from the actor's outputs ``[B, 2 A]``."""
    mean, free_log_std = outputs.chunk(2, dim=1)
    log_std = free_log_std.clamp(*bounds)
    shift = noise * log_std.exp()
    actions = th.tanh(mean + shift)
    slope = 1.0 - actions.square()
    log_prob = -0.5 * noise.square() - log_std - LOG_SQRT_TWO_PI - th.log(slope + SQUASH_EPSILON)
    return _Sample(actions, log_prob.sum(dim=1, keepdim=True), shift, slope, log_std != free_log_std)
