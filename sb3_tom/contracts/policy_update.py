"""The contract of a policy update: how the policy learns from real and imagined transitions."""

from abc import abstractmethod
from collections.abc import Iterator, Mapping
from typing import Any, ClassVar, NamedTuple, Protocol

import torch as th
from stable_baselines3.sac.policies import SACPolicy
from stable_baselines3.sac.sac import SAC

from sb3_tom.contracts.context import Context
from sb3_tom.contracts.dynamics import DynamicsModel
from sb3_tom.contracts.plug import Plug
from sb3_tom.contracts.termination import Termination
from sb3_tom.contracts.types import Batch, RewardFunction, Transitions


class PolicyParts(NamedTuple):
    """
    What a policy update changes, and the agent's hyperparameters for it. It never gets the agent itself.

    :param policy: actor, critics, target critics and their optimisers
    :param log_ent_coef: logarithm of the entropy coefficient ``[1]``, or None if that is fixed
    :param ent_coef_optimizer: its optimiser, or None
    :param ent_coef: the fixed entropy coefficient, a scalar; unused if it is learned
    :param target_entropy: target of the learned coefficient
    :param gamma: discount factor
    :param tau: Polyak coefficient of the target critics
    :param target_update_interval: gradient steps between two updates of the target critics, counted within a call of
        :meth:`PolicyUpdate.update` as SB3 counts within ``train``: the first step of each call updates them
    :param batch_size: default number of rows of a minibatch
    :param max_grad_norm: norm to which the actor's and the critics' gradients are each clipped (``clip_gradients`` of
        :mod:`sb3_tom.policy_updates.steps`); None: no clipping
    """

    policy: SACPolicy
    log_ent_coef: th.Tensor | None
    ent_coef_optimizer: th.optim.Optimizer | None
    ent_coef: th.Tensor | None
    target_entropy: float
    gamma: float
    tau: float
    target_update_interval: int
    batch_size: int = 256
    max_grad_norm: float | None = None

    @classmethod
    def of(cls, agent: SAC) -> "PolicyParts":
        """
        The parts of an agent.

        :param agent: SB3's SAC or a subclass
        """
        # SB3's condition: a user fixes the coefficient of a made agent by taking its optimiser away
        learned = agent.ent_coef_optimizer is not None and agent.log_ent_coef is not None
        return cls(
            policy=agent.policy,
            log_ent_coef=agent.log_ent_coef if learned else None,
            ent_coef_optimizer=agent.ent_coef_optimizer if learned else None,
            ent_coef=None if learned else agent.ent_coef_tensor,
            target_entropy=float(agent.target_entropy),
            gamma=agent.gamma,
            tau=agent.tau,
            target_update_interval=agent.target_update_interval,
            batch_size=agent.batch_size,
            max_grad_norm=getattr(agent, "max_grad_norm", None),  # SB3's SAC has none
        )

    @property
    def optimizers(self) -> list[th.optim.Optimizer]:
        """Optimisers of actor, critics and, if it is learned, entropy coefficient."""
        learned = [] if self.ent_coef_optimizer is None else [self.ent_coef_optimizer]
        return [self.policy.actor.optimizer, self.policy.critic.optimizer, *learned]


class Units(Protocol):
    """Converts the env's own units to those of the policy; they differ under ``VecNormalize``."""

    @property
    def are_raw(self) -> bool:
        """Whether nothing is converted."""

    def observations(self, raw: th.Tensor) -> th.Tensor:
        """Observations ``[..., O]`` as actor and critics see them; differentiable."""

    def rewards(self, raw: th.Tensor) -> th.Tensor:
        """Rewards as the critics learn from them."""


class Batches(Protocol):
    """A source of minibatches, real and imagined rows mixed."""

    @property
    def units(self) -> Units:
        """Converts the minibatches of :meth:`raw` to those of a call."""

    def __call__(self, n_batches: int, batch_size: int) -> Iterator[Batch]:
        """``n_batches`` minibatches of ``batch_size`` rows, in the units of the policy: inputs of its networks."""

    def raw(self, n_batches: int, batch_size: int) -> Iterator[Batch]:
        """The same in the env's own units: starts of rollouts in the :class:`ImaginedWorld`."""

    def real(self, n_batches: int, batch_size: int) -> Iterator[Batch]:
        """Minibatches of real rows alone, in the units of the policy."""


class ImaginedWorld(Protocol):
    """The imagined env, in the env's own units."""

    @property
    def model(self) -> DynamicsModel:
        """The fitted dynamics model."""

    @property
    def termination(self) -> Termination:
        """Which imagined transitions end an episode."""

    @property
    def reward_fn(self) -> RewardFunction | None:
        """A known reward, or None for the model's."""

    @property
    def plugs(self) -> list[Plug]:
        """Everything that an imagined step calls, except a ``reward_fn``."""

    def step(self, observations: th.Tensor, context: Context) -> Transitions:
        """One imagined step of the current policy from each observation ``[B, O]``; gradients flow."""

    def outcome(self, observations: th.Tensor, actions: th.Tensor, context: Context) -> Transitions:
        """The transitions that follow given actions ``[B, A]``; gradients flow."""

    def relabel(self, batch: Transitions, context: Context) -> Transitions:
        """Imagined transitions changed by :meth:`ModelObjective.relabel`, to learn from."""

    def stops(self, batch: Transitions, context: Context) -> th.Tensor | None:
        """Which rollouts ``[B, 1]`` stop before a transition, which then does not count; None: there is no rollout stop."""

    def trust(self, batch: Transitions, context: Context) -> th.Tensor | None:
        """Confidence of each transition ``[B, 1]``; None: all count the same."""


class PolicyUpdate(Plug):
    """
    Makes gradient steps of the policy. The agent sets the optimisers' learning rates, counts the steps, and restores the last
    sound state if one diverges.
    """

    largest_ratio: ClassVar[float | None] = None
    """``update_to_data_ratio`` above which the agent warns; None: it never does."""

    advice: ClassVar[str] = "a larger real_ratio"
    """What makes the policy depend less on the model, for warnings that it depends on it too much."""

    climbs_rewards: ClassVar[bool] = False
    """
    Whether the policy follows gradients through model and rewards: the model then has to be reparameterised, and a
    ``reward_fn`` differentiable.
    """

    defaults: ClassVar[Mapping[str, Any]] = {
        "ent_coef": "auto",
        "batch_size": 256,
        "tau": 0.005,
        "gamma": 0.99,
        "update_to_data_ratio": 20.0,
        "real_ratio": 0.05,
        "rollout_schedule": 1,
        "rollout_batch_size": 100_000,
        "model_retain_epochs": 1,
    }
    """
    Values of the agent's arguments, by name, that the user left at None. A subclass overrides those that differ; these are
    MBPO's (arXiv:1906.08253).
    """

    def check(self, parts: PolicyParts, uses_confidence: bool) -> None:
        """
        Check that this update can be used with the policy and the agent's arguments. Called once, when the agent is made.

        :param parts: of the agent
        :param uses_confidence: whether imagined rows come with a confidence
        :raises ValueError: naming the argument, what came and what is allowed
        """

    def start_from(self, parts: PolicyParts) -> None:
        """
        Called when the agent is made, and when its networks were loaded from a file: what they are now is no training by
        others. A user's ``set_parameters`` is.

        :param parts: of the agent
        """

    def forget(self) -> None:
        """Called when tensors of the policy or of its optimisers were replaced: drop what was cached."""

    def end_phase(
        self, parts: PolicyParts, data: Transitions, batches: Batches, world: ImaginedWorld, context: Context
    ) -> dict[str, float]:
        """
        Called at the end of a model phase, after the fit and the rollouts; does nothing by default.

        :param parts: of the agent; they may change
        :param data: the N rows of the replay buffer
        :param batches: source of minibatches
        :param world: to imagine in
        :param context: view of the agent, and the source of randomness
        :return: figures for the log
        """
        return {}

    @abstractmethod
    def update(
        self,
        parts: PolicyParts,
        batches: Batches,
        world: ImaginedWorld,
        context: Context,
        gradient_steps: int,
        batch_size: int,
    ) -> dict[str, float]:
        """
        Make gradient steps. After each step of the actor of an ``AveragedActorPolicy`` call ``parts.policy.average()``:
        otherwise deterministic actions stay those of an old average.

        :param parts: of the agent; they change
        :param batches: source of minibatches
        :param world: to imagine in
        :param context: view of the agent, and the source of randomness
        :param gradient_steps: how many, at least 1
        :param batch_size: rows of a minibatch
        :return: figures for the log, means over the steps, named as in SB3's SAC
        :raises DivergenceError: naming the network that is not usable any more
        """
