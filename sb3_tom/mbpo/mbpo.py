"""Model-based policy optimisation (Janner et al. 2019, arXiv:1906.08253) on SB3's SAC."""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import torch as th
from stable_baselines3.common.noise import ActionNoise
from stable_baselines3.common.type_aliases import GymEnv, Schedule
from stable_baselines3.sac.policies import SACPolicy

from sb3_tom.checkpoint.checkpointer import Checkpointer, unsaved
from sb3_tom.checks.validation import check_integer
from sb3_tom.compute.fast_matmul import fast_matmul
from sb3_tom.contracts.context import Context
from sb3_tom.contracts.dynamics import DynamicsModel
from sb3_tom.contracts.imagination import Confidence, RolloutStop
from sb3_tom.contracts.objective import ModelObjective
from sb3_tom.contracts.plug import figures_of, only_reads
from sb3_tom.contracts.policy_update import PolicyParts
from sb3_tom.contracts.types import PolicyFunction, RewardFunction, Transitions
from sb3_tom.contracts.weighter import Weighter
from sb3_tom.data.batches import MixedBatches, relabelling
from sb3_tom.data.diagnostics import weight_by_age
from sb3_tom.data.replay_buffer import WeightedReplayBuffer
from sb3_tom.data.units import policy_units
from sb3_tom.imagination.schedules import Window, ratio_schedule, rollout_schedule
from sb3_tom.imagination.world import World
from sb3_tom.mbpo.arguments import make_checked_env
from sb3_tom.mbpo.context import make_context
from sb3_tom.mbpo.guard import guarded
from sb3_tom.mbpo.hooks import SACHooks
from sb3_tom.mbpo.model_phase import Rollouts, fit_world, imagine_rollouts, weigh_rows
from sb3_tom.mbpo.plugs import specs_of
from sb3_tom.mbpo.sac_arguments import check_before_sac, sac_arguments
from sb3_tom.mbpo.update_counter import UpdateCounter
from sb3_tom.policy_updates.sac.policies import POLICIES


class MBPO(SACHooks):
    """
    SAC on short imagined rollouts of a learned dynamics model, which is fitted to weighted real transitions (MBPO; with the
    weighters "pmac" and "tom": PMAC and TOM). The first parameters are SAC's own, in SAC's order. Two defaults, as in 256 /
    128, are those of ``policy_update="sac"`` and of ``"double_horizon"``.

    :param policy: "MlpPolicy", "LayerNormPolicy" (:class:`.LayerNormPolicy`), "SimbaPolicy", or a subclass of SACPolicy
    :param batch_size: rows of a minibatch of the policy update; None: 256 / 128
    :param tau: Polyak coefficient; None: 0.005 / 0.01. Likewise ``gamma``: 0.99 / 0.998, ``ent_coef``: "auto" / "auto_0.1"
    :param gradient_steps: -1 (default): ``update_to_data_ratio`` per real transition; another number keeps SB3's meaning
    :param weighter: "uniform", "pmac", "tom" or another of the page on weighters, a :class:`Weighter` class or instance, or
        ``"package.module:Class"``; None is the class's ``default_weighter``
    :param weighter_kwargs: arguments of the weighter
    :param dynamics: "ensemble", "mdn", "linear", "smooth" or a :class:`DynamicsModel` alike; None: the class's ("ensemble")
    :param dynamics_kwargs: arguments of the dynamics model
    :param objective: a :class:`ModelObjective` in the same ways; None: the class's ("likelihood")
    :param objective_kwargs: arguments of the objective
    :param termination_fn: "auto" (the env's own rule where it is known, else learned), "learned", "never", or a function
        ``(observations, actions, next_observations) -> bool [B, 1]``
    :param termination_kwargs: arguments of the termination
    :param policy_update: "sac", "double_horizon" or a :class:`PolicyUpdate` in the same ways; None: the class's ("sac")
    :param policy_update_kwargs: arguments of the policy update
    :param confidence: a :class:`Confidence` in the same ways, weights of imagined transitions; None: all count the same
    :param confidence_kwargs: arguments of the confidence
    :param rollout_stop: a :class:`RolloutStop` in the same ways, which truncates rollouts; None: only terminations end them
    :param rollout_stop_kwargs: arguments of the stop
    :param reward_fn: ``(observations, actions, next_observations) -> [B, 1]`` that replaces the learned reward; actions are in
        [-1, 1]. None: the reward is learned
    :param rollout_schedule: length of imagined rollouts, or ``(start_step, end_step, start_length, end_length)`` in env steps;
        None: 1 / 20
    :param rollout_batch_size: rollouts per round; None: 100,000 / 256
    :param rollout_freq: real transitions between two rounds, besides those of model phases; None: none / 10
    :param model_train_freq: real transitions between two model phases
    :param model_retain_epochs: epochs of 1,000 env steps for which imagined transitions are kept; None: 1 / 0.1
    :param imagined_capacity: maximum number of imagined transitions, also per round; None: as ``model_retain_epochs`` needs
    :param real_ratio: share of real transitions in each minibatch of the policy update, or ``(start_step, end_step,
        start_ratio, end_ratio)`` in env steps; None: 0.05 / 0
    :param weighting: "sample" (rows drawn in proportion to their weights) or "loss" (weights multiply the model's loss)
    :param weight_model_fit: whether the model's fit is weighted
    :param weight_rollout_starts: whether starts of rollouts are drawn by the weights too; None: as the weighter has it
    :param update_to_data_ratio: gradient steps per real transition; None: 20 / 2
    :param max_grad_norm: norm to which the gradients of actor and of critics are each clipped; None: no clipping
    :raises ValueError: naming the argument, what came and what is allowed
    """

    policy_aliases: ClassVar[dict[str, Any]] = POLICIES
    default_weighter: ClassVar[str] = "uniform"
    weighter: Weighter
    dynamics: DynamicsModel
    objective: ModelObjective
    confidence: Confidence | None
    rollout_stop: RolloutStop | None

    def __init__(
        self,
        policy: str | type[SACPolicy],
        env: GymEnv | str,
        learning_rate: float | Schedule = 3e-4,
        buffer_size: int = 1_000_000,
        learning_starts: int = 1000,
        batch_size: int | None = None,
        tau: float | None = None,
        gamma: float | None = None,
        train_freq: int | tuple[int, str] = 1,
        gradient_steps: int = -1,
        action_noise: ActionNoise | None = None,
        replay_buffer_class: type[WeightedReplayBuffer] | None = None,
        replay_buffer_kwargs: dict[str, Any] | None = None,
        optimize_memory_usage: bool = False,
        n_steps: int = 1,
        ent_coef: str | float | None = None,
        target_update_interval: int = 1,
        target_entropy: str | float = "auto",
        use_sde: bool = False,
        sde_sample_freq: int = -1,
        use_sde_at_warmup: bool = False,
        stats_window_size: int = 100,
        tensorboard_log: str | None = None,
        policy_kwargs: dict[str, Any] | None = None,
        verbose: int = 0,
        seed: int | None = None,
        device: th.device | str = "auto",
        *,
        weighter: Any = None,
        weighter_kwargs: Mapping[str, Any] | None = None,
        dynamics: Any = None,
        dynamics_kwargs: Mapping[str, Any] | None = None,
        objective: Any = None,
        objective_kwargs: Mapping[str, Any] | None = None,
        termination_fn: Any = "auto",
        termination_kwargs: Mapping[str, Any] | None = None,
        policy_update: Any = None,
        policy_update_kwargs: Mapping[str, Any] | None = None,
        confidence: Any = None,
        confidence_kwargs: Mapping[str, Any] | None = None,
        rollout_stop: Any = None,
        rollout_stop_kwargs: Mapping[str, Any] | None = None,
        reward_fn: RewardFunction | None = None,
        rollout_schedule: int | Sequence[int] | None = None,
        rollout_batch_size: int | None = None,
        rollout_freq: int | None = None,
        model_train_freq: int = 250,
        model_retain_epochs: float | None = None,
        imagined_capacity: int | None = None,
        real_ratio: float | Sequence[float] | None = None,
        weighting: str = "sample",
        weight_model_fit: bool = True,
        weight_rollout_starts: bool | None = None,
        update_to_data_ratio: float | None = None,
        max_grad_norm: float | None = None,
        _init_setup_model: bool = True,
    ) -> None:
        given = dict(locals())  # before any other local is made: the arguments
        check_before_sac(given, self.policy_aliases)
        made: Any = make_checked_env(env, verbose)  # None while loading, as in SB3
        super().__init__(env=made, _init_setup_model=False, **sac_arguments(given))
        self._plug_specs = specs_of(given, type(self))
        self.reward_fn = reward_fn
        # Any: None becomes the policy update's default
        self.rollout_schedule: Any = rollout_schedule
        self.rollout_batch_size: Any = rollout_batch_size
        self.real_ratio: Any = real_ratio
        self.update_to_data_ratio: Any = update_to_data_ratio
        self.max_grad_norm, self.rollout_freq = max_grad_norm, rollout_freq
        self.model_train_freq = model_train_freq
        self.model_retain_epochs: Any = model_retain_epochs
        self.imagined_capacity = imagined_capacity
        self.weighting, self.weight_model_fit = weighting, weight_model_fit
        self.weight_rollout_starts: Any = weight_rollout_starts
        self.policy_version = self._env_steps = 0
        self._since_phase = self._since_rollouts = 0
        self.checkpointer, self.update_counter = Checkpointer(), UpdateCounter()
        if _init_setup_model:
            self._setup_model()

    @unsaved
    def train(self, gradient_steps: int, batch_size: int = 64) -> None:
        """
        Algorithm 1 of the TOM paper (arXiv:2305.12663) inside MBPO's loop: weights, weighted model fit, branched rollouts,
        policy updates. Called by SB3 after each collection of real transitions.

        :param gradient_steps: SB3's number; with ``self.gradient_steps=-1`` the number of transitions just collected
        :param batch_size: minibatch of the policy update
        """
        needed = min(max(self.learning_starts, 1), self.replay_buffer.capacity)
        if self.replay_buffer.n_transitions < needed:
            # An agent that was loaded without its replay buffer must not fit its model to a few rows
            self.health.waits(self.replay_buffer.n_transitions, needed, self._n_updates, self.num_timesteps)
            return
        if self.imagined.is_due or self._since_phase >= self.model_train_freq:
            # A collection may be longer than model_train_freq: the excess counts for the next phase
            self._since_phase = 0 if self.imagined.is_due else self._since_phase % self.model_train_freq
            try:
                self.fit_weights()
                self.fit_model()
                self.imagine()
                self._since_rollouts = 0
                self.end_phase()
            except BaseException:
                self.imagined.is_due = True  # a phase that was interrupted is repeated
                raise
        elif self.rollout_freq is not None and self._since_rollouts >= self.rollout_freq:
            self.imagine()
            self._since_rollouts %= self.rollout_freq
        fixed, made = self.gradient_steps >= 0, self._updates_made()
        due = self.update_counter.take_due(gradient_steps, fixed, self.update_to_data_ratio, made)
        if due > 0:
            self.train_policy(due, batch_size)

    @guarded("weighter")
    @fast_matmul()
    def fit_weights(self, recent: Transitions | None = None, policy: PolicyFunction | None = None) -> th.Tensor:
        """
        Weigh the real transitions; the weights are stored in ``replay_buffer.weights``. Steps no env.

        :param recent: on-policy sample of at least one row; None: the newest ``weighter.recent_size`` rows
        :param policy: policy of the weighter's context; None: the agent's
        :return: weights ``[N]`` with mean 1
        """
        self._record("weighter", weigh_rows(self.weighter, self.replay_buffer, recent, self._context(policy)))
        weights = self.replay_buffer.row_weights()
        oldest_first = self.replay_buffer.newest_rows(len(weights))
        self._log("weight_by_age", weight_by_age(weights[oldest_first]), ("stdout", "log"))
        return weights.clone()

    @guarded("dynamics", "objective", "termination")
    @fast_matmul()
    def fit_model(self) -> dict[str, float]:
        """
        Fit the dynamics model to the weighted real transitions, and a learned termination. Steps no env.

        :return: figures of the fit
        """
        weights = self.replay_buffer.row_weights(self.weight_model_fit)
        figures = fit_world(self._world, self.replay_buffer, weights, self.weighting, self._context())
        self.policy_version = self.replay_buffer.next_version()
        self._record("model", figures)
        return figures

    @guarded("dynamics", "termination", "confidence", "rollout_stop")
    @fast_matmul()
    def imagine(self) -> dict[str, float]:
        """
        Make branched rollouts from real states and store them in :attr:`imagined`. Steps no env.

        :return: figures of the rollouts
        """
        length = int(rollout_schedule(self.rollout_schedule)(self._env_steps))
        window = Window.of_epochs(self.model_retain_epochs, self.model_train_freq, self.rollout_freq)
        wanted = Rollouts(length, self.rollout_batch_size, self._env_steps, window, self.imagined_capacity)
        weights = self.replay_buffer.row_weights(self.weight_rollout_starts)
        figures = imagine_rollouts(self._world, self.replay_buffer, weights, self.imagined, wanted, self._context())
        self._record("rollout_model", figures)
        return figures

    @guarded("policy", "policy_update")
    @fast_matmul()
    def train_policy(self, gradient_steps: int, batch_size: int | None = None) -> None:
        """
        Gradient steps of the policy on mixed minibatches. Steps no env.

        :param gradient_steps: number of steps
        :param batch_size: rows of a minibatch; None: the agent's
        """
        if check_integer("gradient_steps", gradient_steps, 0) == 0:
            return
        parts, context, rows = PolicyParts.of(self), self._context(), batch_size or self.batch_size
        self._update_learning_rate(parts.optimizers)
        said = self.policy_update.update(parts, self._batches(context), self._world, context, gradient_steps, rows)
        self._n_updates += gradient_steps
        self._log("train", {"n_updates": self._n_updates}, "tensorboard")
        self._record("train", figures_of(self.policy_update, said, "update"))

    @guarded("weighter", "policy", "policy_update")
    @fast_matmul()
    def end_phase(self) -> None:
        """End a model phase for weighter and policy update: the double horizon sets scales and adapts the critics."""
        parts, data, context = PolicyParts.of(self), self.replay_buffer.transitions(), self._context()
        self._update_learning_rate(parts.optimizers)
        with only_reads(self.weighter, data._asdict()):
            self.weighter.end_phase(data, context)
        batches = self._batches(context)
        with only_reads(self.policy_update, data._asdict()):
            said = self.policy_update.end_phase(parts, data, batches, self._world, context)
        self._log("train", figures_of(self.policy_update, said, "end_phase"))
        self.plugs.check_states()

    @property
    def _world(self) -> World:
        """The imagined env."""
        return World(self.dynamics, self.termination, self.objective, self.reward_fn, self.confidence, self.rollout_stop)

    def _context(self, policy: PolicyFunction | None = None) -> Context:
        """The plugs' view of the agent."""
        return make_context(self, self.generator, self.policy_version, self.dynamics, policy, self.objective)

    def _batches(self, context: Context) -> MixedBatches:
        """Minibatches of the policy update, in its units."""
        ratio = ratio_schedule(self.real_ratio)(self._env_steps)
        units = policy_units(self._vec_normalize_env, self.device)
        relabel = relabelling(self.objective, context)
        return MixedBatches(self.replay_buffer.transitions(), self.imagined, ratio, self.generator, units, relabel)
