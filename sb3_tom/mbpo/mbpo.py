"""Model-based policy optimisation (Janner et al. 2019, arXiv:1906.08253) on SB3's SAC."""

import time
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, TypeVar

import torch as th
from stable_baselines3.common.noise import ActionNoise
from stable_baselines3.common.type_aliases import GymEnv, MaybeCallback, Schedule
from stable_baselines3.sac.policies import SACPolicy

from sb3_tom.common.buffers import ImaginedBuffer, WeightedReplayBuffer
from sb3_tom.common.diagnostics import weight_by_age, weight_figures
from sb3_tom.common.fast_matmul import fast_matmul
from sb3_tom.common.plug import figures_of, only_reads
from sb3_tom.common.rollouts import World, branched_rollouts
from sb3_tom.common.schedules import phases_kept, rollout_schedule
from sb3_tom.common.types import PolicyFunction, Transitions
from sb3_tom.common.validation import check_integer
from sb3_tom.common.weighing import weigh
from sb3_tom.common.weights import WeightedDraw
from sb3_tom.mbpo.arguments import check_arguments, checked_env
from sb3_tom.mbpo.counted_sac import CountedSAC
from sb3_tom.mbpo.guarded_sac import guarded
from sb3_tom.mbpo.policy_update import make_context, mixed_batches, update_policy
from sb3_tom.mbpo.sac_arguments import check_before_sac

SelfMBPO = TypeVar("SelfMBPO", bound="MBPO")


class MBPO(CountedSAC):
    """
    SAC on short imagined rollouts of a learned dynamics model, which is fitted to weighted real transitions (MBPO; with the
    weighters "pmac" and "tom": PMAC and TOM). The first parameters are SAC's own, in SAC's order.

    :param gradient_steps: -1 (default): ``update_to_data_ratio`` per real transition; another number keeps SB3's meaning
    :param weighter: "uniform", "pmac" or "tom", a :class:`Weighter` class or instance, or ``"package.module:Class"``;
        None is the class's ``default_weighter``
    :param weighter_kwargs: arguments of the weighter
    :param dynamics: "ensemble", "mdn" or "linear", or a :class:`DynamicsModel` in the same ways
    :param dynamics_kwargs: arguments of the dynamics model
    :param objective: "likelihood", or a :class:`ModelObjective` in the same ways
    :param objective_kwargs: arguments of the objective
    :param termination_fn: "auto" (the env's own rule where it is known, else learned), "learned", "never", or a function
        ``(observations, actions, next_observations) -> bool [B, 1]``
    :param reward_fn: ``(observations, actions, next_observations) -> [B, 1]`` in place of the learned reward, of actions in
        [-1, 1]; None learns it
    :param rollout_schedule: length of imagined rollouts, or ``(start_step, end_step, start_length, end_length)`` in env steps
    :param rollout_batch_size: imagined rollouts per model phase
    :param model_train_freq: real transitions between two model phases
    :param model_retain_epochs: epochs of 1,000 env steps for which imagined transitions are kept
    :param imagined_capacity: upper bound of imagined transitions kept; a phase makes no more rollouts than fit at full length
    :param real_ratio: share of real transitions in each minibatch of the policy update
    :param weighting: "sample" (rows drawn in proportion to their weights) or "loss" (weights multiply the model's loss)
    :param weight_rollout_starts: whether imagined rollouts start from rows drawn by the weights too
    :param update_to_data_ratio: gradient steps per real transition
    :raises ValueError: naming the argument, what came and what is allowed
    """

    default_weighter: ClassVar[str] = "uniform"

    def __init__(
        self,
        policy: str | type[SACPolicy],
        env: GymEnv | str,
        learning_rate: float | Schedule = 3e-4,
        buffer_size: int = 1_000_000,
        learning_starts: int = 1000,
        batch_size: int = 256,
        tau: float = 0.005,
        gamma: float = 0.99,
        train_freq: int | tuple[int, str] = 1,
        gradient_steps: int = -1,
        action_noise: ActionNoise | None = None,
        replay_buffer_class: type[WeightedReplayBuffer] | None = None,
        replay_buffer_kwargs: dict[str, Any] | None = None,
        optimize_memory_usage: bool = False,
        n_steps: int = 1,
        ent_coef: str | float = "auto",
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
        dynamics: Any = "ensemble",
        dynamics_kwargs: Mapping[str, Any] | None = None,
        objective: Any = "likelihood",
        objective_kwargs: Mapping[str, Any] | None = None,
        termination_fn: Any = "auto",
        reward_fn: Any = None,
        rollout_schedule: int | Sequence[int] = 1,
        rollout_batch_size: int = 100_000,
        model_train_freq: int = 250,
        model_retain_epochs: int = 1,
        imagined_capacity: int = 2_000_000,
        real_ratio: float = 0.05,
        weighting: str = "sample",
        weight_rollout_starts: bool = True,
        update_to_data_ratio: float = 20.0,
        _init_setup_model: bool = True,
    ) -> None:
        check_before_sac(policy, policy_kwargs, replay_buffer_kwargs, verbose, use_sde, device)
        super().__init__(
            policy,
            checked_env(env, verbose),  # type: ignore[arg-type]  # None while loading, as in SB3
            learning_rate,
            buffer_size,
            learning_starts,
            batch_size,
            tau,
            gamma,
            train_freq,
            gradient_steps,
            action_noise,
            replay_buffer_class,
            replay_buffer_kwargs,
            optimize_memory_usage,
            n_steps,
            ent_coef,
            target_update_interval,
            target_entropy,
            use_sde,
            sde_sample_freq,
            use_sde_at_warmup,
            stats_window_size,
            tensorboard_log,
            policy_kwargs,
            verbose,
            seed,
            device,
            _init_setup_model=False,
        )
        self._plug_specs = {
            "weighter": (self.default_weighter if weighter is None else weighter, weighter_kwargs),
            "dynamics": (dynamics, dynamics_kwargs),
            "objective": (objective, objective_kwargs),
        }
        self.termination_fn = termination_fn
        self.reward_fn = reward_fn
        self.rollout_schedule = rollout_schedule
        self.rollout_batch_size = rollout_batch_size
        self.model_train_freq = model_train_freq
        self.model_retain_epochs = model_retain_epochs
        self.imagined_capacity = imagined_capacity
        self.real_ratio = real_ratio
        self.weighting = weighting
        self.weight_rollout_starts = weight_rollout_starts
        self.update_to_data_ratio = update_to_data_ratio
        self.policy_version = 0
        self._new_transitions = 0  # since the last model phase
        if _init_setup_model:
            self._setup_model()

    def _setup_model(self) -> None:
        check_arguments(self)
        if self.replay_buffer_class is None:
            self.replay_buffer_class = WeightedReplayBuffer
        super()._setup_model()
        self.replay_buffer.policy_version = self.policy_version
        self._set_up_plugs()
        self.imagined = ImaginedBuffer(0, *self._sizes, self.device)

    def train(self, gradient_steps: int, batch_size: int = 64) -> None:
        """
        Algorithm 1 of the TOM paper (arXiv:2305.12663) inside MBPO's loop: weights, weighted model fit, branched rollouts,
        policy updates. Called by SB3 after each collection of real transitions.

        :param gradient_steps: SB3's number; with ``self.gradient_steps=-1`` the real transitions just collected
        :param batch_size: minibatch of the policy update
        """
        if self.replay_buffer.n_transitions < min(max(self.learning_starts, 1), self.replay_buffer.capacity):
            return  # an agent that was loaded without its replay buffer must not fit its model to a handful of rows
        if self.imagined.size == 0 or self._new_transitions >= self.model_train_freq:
            self.fit_weights()
            self.fit_model()
            self.imagine()
        self.train_policy(self._take_due_updates(gradient_steps), batch_size)

    @guarded("weighter")
    @fast_matmul()
    def fit_weights(self, recent: Transitions | None = None, policy: PolicyFunction | None = None) -> th.Tensor:
        """
        Weigh the real transitions; the weights stay in ``replay_buffer.weights``. Steps no env.

        :param recent: footprint of the policy, at least one row; None takes the newest ``weighter.recent_size`` rows
        :param policy: policy of the weighter's context; None takes the agent's
        :return: weights ``[N]`` with mean 1
        """
        started = time.monotonic()
        weights, figures = weigh(self.weighter, self.replay_buffer, recent, make_context(self, policy))
        self.replay_buffer.set_row_weights(weights)
        newest = self.replay_buffer.newest_rows(self.weighter.recent_size)
        self._record("weighter", {**figures, **weight_figures(weights, newest), "seconds": time.monotonic() - started})
        self._log("weight_by_age", weight_by_age(weights[self.replay_buffer.newest_rows(len(weights))]), ("stdout", "log"))
        return weights

    @guarded("dynamics", "objective", "termination")
    @fast_matmul()
    def fit_model(self) -> dict[str, float]:
        """
        Fit the dynamics model to the weighted real transitions, and a learned termination. Steps no env.

        :return: figures of the fit
        """
        started = time.monotonic()
        data, context = self.replay_buffer.transitions(), make_context(self)
        n_new = min(self._new_transitions, self.replay_buffer.n_of_rule)
        if n_new:
            self.termination.observe(data.rows(self.replay_buffer.newest_rows(n_new)))
        with only_reads(self.dynamics, data):
            fit = self.dynamics.fit(data, self.replay_buffer.row_weights(), self.objective, context, self.weighting)
        ending = self.termination.fit(self.replay_buffer.transitions_of_rule(), context)
        figures = figures_of(self.dynamics, fit)
        figures |= {f"termination_{name}": value for name, value in figures_of(self.termination, ending).items()}
        figures["seconds"] = time.monotonic() - started
        self.policy_version = self.replay_buffer.policy_version = self.policy_version + 1
        self._new_transitions = 0
        self._record("model", figures)
        return figures

    @guarded("dynamics", "termination")
    @fast_matmul()
    def imagine(self) -> dict[str, float]:
        """
        Branched rollouts from real states into the ring of imagined transitions. Steps no env.

        :return: figures of the rollouts
        """
        started = time.monotonic()
        length = rollout_schedule(self.rollout_schedule)(self.num_timesteps)
        kept_rollouts = phases_kept(self.model_retain_epochs, self.model_train_freq) * self.rollout_batch_size
        self.imagined.resize(min(kept_rollouts * length, self.imagined_capacity))
        weights = self.replay_buffer.row_weights()
        draw = WeightedDraw(weights if self.weight_rollout_starts else th.ones_like(weights))
        # No more rollouts than the ring holds whole: it would forget the first steps of them all
        n_rollouts = max(1, min(self.rollout_batch_size, self.imagined.capacity // length))
        starts = self.replay_buffer.transitions().observations[draw((n_rollouts,), self.generator)]
        world = World(self.dynamics, self.termination, self.objective, self.reward_fn)
        figures = branched_rollouts(world, starts, length, make_context(self), self.imagined)
        figures |= {"scheduled_length": float(length), "seconds": time.monotonic() - started}
        self._record("rollout_model", figures)
        return figures

    @guarded("policy")
    @fast_matmul()
    def train_policy(self, gradient_steps: int, batch_size: int | None = None) -> None:
        """
        SAC updates on mixed minibatches. Steps no env.

        :param gradient_steps: how many
        :param batch_size: rows of a minibatch; None takes the agent's
        """
        if gradient_steps == 0:
            return
        self._record("train", update_policy(self, mixed_batches(self), gradient_steps, batch_size or self.batch_size))

    def _on_step(self) -> None:
        self._new_transitions += self.n_envs

    def learn(
        self: SelfMBPO,
        total_timesteps: float,
        callback: MaybeCallback = None,
        log_interval: int = 4,
        tb_log_name: str = "MBPO",
        reset_num_timesteps: bool = True,
        progress_bar: bool = False,
    ) -> SelfMBPO:
        """As SB3's; ``total_timesteps`` may be a float such as ``3e5``."""
        steps = check_integer("total_timesteps", total_timesteps, 0)
        return super().learn(steps, callback, log_interval, tb_log_name, reset_num_timesteps, progress_bar)

    def _excluded_save_params(self) -> list[str]:
        return [*super()._excluded_save_params(), "imagined", "generator"]
