"""
The agent stops at the first number that is not usable, with one error that names where it came from, the env step and the last
checkpoint, and goes back to the last sound state.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import wraps
from typing import Any, TypeVar

import numpy as np
import torch as th
from stable_baselines3.common.buffers import ReplayBuffer
from stable_baselines3.common.type_aliases import GymEnv
from stable_baselines3.common.vec_env import DummyVecEnv
from torch import nn

from sb3_tom.common.buffers import ImaginedBuffer
from sb3_tom.common.diagnostics import optimizer_steps
from sb3_tom.common.guards import Backup, DivergenceError, check_magnitudes, check_rows, magnitude
from sb3_tom.common.vec_normalize import check_vec_normalize, keep_raw_terminals
from sb3_tom.mbpo.health import Health
from sb3_tom.mbpo.plugged_sac import PLUGS, PluggedSAC
from sb3_tom.mbpo.policy_update import network_sizes
from sb3_tom.mbpo.sac_arguments import check_optimizers

BACKUP_UPDATES = 100
"""Gradient steps between two copies of the policy: a copy costs a tenth of one step."""

POLICY = "policy"

F = TypeVar("F", bound=Callable[..., Any])


def guarded(*parts: str) -> Callable[[F], F]:
    """
    A verb of the agent that needs real transitions and leaves ``parts`` as they were should it diverge.

    :param parts: "policy", or names of plugs, whose weights are checked afterwards
    """

    def decorate(verb: F) -> F:
        @wraps(verb)
        def call(agent: "GuardedSAC", *args: Any, **kwargs: Any) -> Any:
            if agent.replay_buffer.n_transitions == 0:
                allowed = "after learn(), load_replay_buffer() or replay_buffer.add()"
                raise ValueError(
                    f"{verb.__name__}() is not allowed: the replay buffer holds no transitions; allowed: {allowed}"
                )
            with agent._guarding(parts):
                return verb(agent, *args, **kwargs)

        return call  # type: ignore[return-value]

    return decorate


class GuardedSAC(PluggedSAC):
    """Checks rows where they enter the buffer, and networks, losses and figures once per model phase or ``train`` call."""

    health: Health
    imagined: ImaginedBuffer
    _new_transitions: int

    def _setup_model(self) -> None:
        keep_raw_terminals(self.env)
        try:
            super()._setup_model()
        except (TypeError, AssertionError, RuntimeError, KeyError) as error:
            if isinstance(error, th.OutOfMemoryError):
                raise
            given = f"policy_kwargs={self.policy_kwargs!r}, replay_buffer_kwargs={self.replay_buffer_kwargs!r}"
            raise ValueError(f"{given} do not fit the policy or the replay buffer: {error}") from error
        check_optimizers(self)
        self.health = Health()
        self._policy_backup: tuple[int, Backup] | None = None

    def set_env(self, env: GymEnv, force_reset: bool = True) -> None:
        """As SB3's. The termination rule is read anew: thresholds are the env's own, and older rows say nothing about them."""
        env = self._wrap_env(env, self.verbose)
        check_vec_normalize(env)  # before it takes the old one's place
        super().set_env(env, force_reset)
        keep_raw_terminals(self.env)
        rule = self.termination_rule
        self.read_termination_rule()
        if self.termination_rule != rule:
            self.replay_buffer.begin_rule()

    def set_parameters(self, *args: Any, **kwargs: Any) -> None:
        """As SB3's."""
        super().set_parameters(*args, **kwargs)
        self._policy_backup = None

    @contextmanager
    def _guarding(self, parts: tuple[str, ...]) -> Iterator[None]:
        """Check ``parts`` after the block; on a divergence put them back and say where and when."""
        backups = [self._back_up(part) for part in parts]
        weights = self.replay_buffer.weights.copy() if "weighter" in parts else None
        counters = self.policy_version, self._new_transitions
        try:
            yield
            self._check_plugs(parts)
        except ValueError as error:
            origin = self._divergence_behind(parts, error)
            if origin is None:
                raise
            for backup in backups:
                backup.restore()
            if POLICY in parts and self._policy_backup is not None:
                self._n_updates = self._policy_backup[0]
            if weights is not None:
                self.replay_buffer.weights[:] = weights
            self.policy_version, self._new_transitions = counters
            self.replay_buffer.policy_version = self.policy_version
            self.imagined.clear()  # imagined by what has just diverged; the next model phase fills it anew
            raise DivergenceError(f"{origin} ({self._whereabouts()})") from error

    @contextmanager
    def _guarding_collection(self) -> Iterator[None]:
        """A divergence that is noticed in the block may be the policy's: then put it back. Say where and when."""
        try:
            yield
        except ValueError as error:
            origin = self._divergence_behind((), error)
            if origin is None:
                raise
            if origin is not error and self._policy_backup is not None:
                self._n_updates = self._policy_backup[0]
                self._policy_backup[1].restore()
            raise DivergenceError(f"{origin} ({self._whereabouts()})") from error

    def _divergence_behind(self, parts: tuple[str, ...], error: ValueError) -> DivergenceError | None:
        """
        The divergence behind an error: that of a network with bad weights if there is one, since it says more than what came
        of it (such as torch's ValueError about a Normal of NaN); else ``error`` itself, or None if it is about something else.
        """
        try:
            self._check_plugs(parts)
            if not isinstance(error, DivergenceError):
                check_magnitudes({name: float(size) for name, size in network_sizes(self).items()})
        except DivergenceError as network:
            return network
        return error if isinstance(error, DivergenceError) else None

    def _back_up(self, part: str) -> Backup:
        if part != POLICY:
            plug = getattr(self, part)
            return Backup([plug], plug.optimizers().values())
        if self._policy_backup is None or self._n_updates - self._policy_backup[0] >= BACKUP_UPDATES:
            optimizers = [self.actor.optimizer, self.critic.optimizer]
            optimizers += [] if self.ent_coef_optimizer is None else [self.ent_coef_optimizer]
            tensors = [] if self.log_ent_coef is None else [self.log_ent_coef]
            self._policy_backup = (self._n_updates, Backup([self.policy], optimizers, tensors))
        return self._policy_backup[1]

    def _check_plugs(self, parts: tuple[str, ...]) -> None:
        """One host read; what belongs to the policy is checked where its losses are read."""
        sizes: dict[str, th.Tensor] = {}
        for part in parts:
            if part in PLUGS:
                sizes |= _sizes_of(getattr(self, part), part)
        if sizes:
            check_magnitudes(dict(zip(sizes, th.stack([*sizes.values()]).tolist(), strict=True)))

    def _updates_made(self) -> int:
        """Steps of the critics' optimiser by its own count; SGD keeps none."""
        return optimizer_steps(self.critic.optimizer) or self._n_updates

    def _record(self, group: str, figures: Mapping[str, float]) -> None:
        """Check losses and errors, log, and judge the health of what they describe."""
        check_magnitudes({f"{group}/{name}": value for name, value in figures.items() if name.endswith(("loss", "error"))})
        self._log(group, figures)
        self._log("health", self.health.judge(group, figures, self))

    def _whereabouts(self) -> str:
        checkpoint = f"last checkpoint: {self.last_checkpoint}" if self.last_checkpoint else "no checkpoint was written"
        return (
            f"env {self._env_name()}, env step {self.num_timesteps}, {checkpoint}; the agent is left in a sound earlier state"
        )

    def _env_name(self) -> str:
        """Asks no worker process: one that has failed may not answer."""
        envs = None if self.env is None else self.env.unwrapped
        if isinstance(envs, DummyVecEnv):
            spec = envs.envs[0].spec
            return type(envs.envs[0].unwrapped).__name__ if spec is None else spec.id
        return type(envs).__name__

    def _setup_learn(self, *args: Any, **kwargs: Any) -> Any:
        with self._guarding_collection():
            result = super()._setup_learn(*args, **kwargs)
            check_rows("the first observation", self._last_obs)  # type: ignore[arg-type]
        return result

    def collect_rollouts(self, *args: Any, **kwargs: Any) -> Any:
        """As SB3's."""
        with self._guarding_collection():
            return super().collect_rollouts(*args, **kwargs)

    def _store_transition(
        self,
        replay_buffer: ReplayBuffer,
        buffer_action: np.ndarray,
        new_obs: np.ndarray | dict[str, np.ndarray],
        reward: np.ndarray,
        dones: np.ndarray,
        infos: list[dict[str, Any]],
    ) -> None:
        """Refuse unusable rows before the buffer holds them; actions first, since an env answers NaN with NaN."""
        check_rows("the actor's action", buffer_action)
        check_rows("the reward", reward)
        check_rows("the observation", new_obs)  # type: ignore[arg-type]
        for index in np.flatnonzero(dones):
            terminal = infos[index].get("terminal_observation")
            if terminal is not None:
                check_rows("the terminal observation", np.asarray(terminal)[None], first_env=int(index))
        super()._store_transition(replay_buffer, buffer_action, new_obs, reward, dones, infos)

    def _excluded_save_params(self) -> list[str]:
        return [*super()._excluded_save_params(), "health", "_policy_backup"]


def _sizes_of(plug: nn.Module, part: str) -> dict[str, th.Tensor]:
    """Norms of the parameters of a plug, by the names of its networks."""
    sizes = {}
    own = [*plug.parameters(recurse=False)]
    networks = {name: [*child.parameters()] for name, child in plug.named_children()}
    for name, parameters in {"": own, **networks}.items():
        if parameters:
            title = type(plug).__name__ + (f".{name}" if name else "")
            sizes[f"the norm of the weights of {title} (the agent's {part})"] = magnitude(parameters)
    return sizes
