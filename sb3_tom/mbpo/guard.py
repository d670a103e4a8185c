"""
Stops the agent at the first number that is not usable, with an error that names its origin, the env step and the last
checkpoint, and restores the last sound state.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import wraps
from typing import Any, Protocol, TypeVar

import numpy as np
import torch as th
from stable_baselines3.common.vec_env import DummyVecEnv, VecEnv, VecNormalize
from stable_baselines3.sac.policies import SACPolicy
from torch import nn

from sb3_tom.checks.episode_ends import EpisodeEnds
from sb3_tom.checks.guards import Backup, DivergenceError, check_magnitudes, check_rows, magnitude
from sb3_tom.checks.policies import network_norms
from sb3_tom.contracts.plug import Plug
from sb3_tom.contracts.policy_update import PolicyParts
from sb3_tom.data.imagined import ImaginedBuffer
from sb3_tom.data.replay_buffer import WeightedReplayBuffer
from sb3_tom.envs.moves import Moves
from sb3_tom.mbpo.update_counter import PACES

BACKUP_UPDATES = 100
"""Gradient steps between two backups of the policy: a backup costs a tenth of a step."""

POLICY = "policy"

PUT_BACK = ("policy_version", *PACES)
"""Counters of the agent that verbs change, and that are restored if one fails or is interrupted."""

F = TypeVar("F", bound=Callable[..., Any])


class Guarded(Protocol):
    """Attributes of the agent that a guard reads and restores."""

    policy: SACPolicy
    log_ent_coef: th.Tensor | None
    ent_coef_optimizer: th.optim.Adam | None
    replay_buffer: WeightedReplayBuffer
    imagined: ImaginedBuffer
    guard: "Guard"
    env: VecEnv | None
    num_timesteps: int
    policy_version: int
    _n_updates: int
    _last_obs: Any
    _last_original_obs: Any
    _vec_normalize_env: VecNormalize | None

    @property
    def last_checkpoint(self) -> str | None:
        """File that the run can be resumed from."""


def guarded(*parts: str) -> Callable[[F], F]:
    """
    Decorates a verb of the agent: it needs real transitions, and ``parts`` are restored if it diverges. If it fails otherwise
    or is interrupted, so are all but the policy and its update.

    :param parts: "policy", or attributes of the agent that hold plugs, whose weights are checked afterwards
    """

    def decorate(verb: F) -> F:
        @wraps(verb)
        def call(agent: Guarded, *args: Any, **kwargs: Any) -> Any:
            if agent.replay_buffer.n_transitions == 0:
                allowed = "after learn(), load_replay_buffer() or replay_buffer.add()"
                raise ValueError(
                    f"{verb.__name__}() is not allowed: the replay buffer holds no transitions; allowed: {allowed}"
                )
            with agent.guard.verb(agent, parts):
                return verb(agent, *args, **kwargs)

        return call  # type: ignore[return-value]

    return decorate


class Guard:
    """Keeps a recent backup of the policy, and checks networks and figures once per verb or collection."""

    def __init__(self) -> None:
        self._policy_backup: tuple[int, Backup] | None = None
        self._ends = EpisodeEnds()
        self.moves = Moves()

    def forget(self) -> None:
        """Drop the backup of a replaced policy."""
        self._policy_backup = None

    def forget_ends(self) -> None:
        """Check the first episode ends again, and forget where the old envs were left, for new ones."""
        self._ends, self.moves = EpisodeEnds(), Moves()

    def check_moves(self, agent: Guarded) -> None:
        """
        Check before each step of a collection that nobody else has moved the envs: the step would not begin where the last one
        has ended.

        :param agent: that collects transitions
        :raises ValueError: if a callback has stepped or reset them
        """
        if self.moves.are_others(agent.env, only_calls=True):
            raise ValueError(
                "a callback has stepped or reset the environment that the agent trains on, so that its next transition would "
                "begin in another episode; allowed: evaluation on an environment of its own, and set_attr or env_method for "
                "what the next episode is to have"
            )

    def check_ends(self, agent: Guarded, new_obs: Any, dones: np.ndarray, infos: list[dict[str, Any]]) -> None:
        """
        Check the ends of episodes before they are stored, in the env's own units.

        :param agent: that has made a step
        :param new_obs: new observations as SB3 passes them
        :param dones: ``[n_envs]``, whether an episode has ended
        :param infos: of each env
        :raises ValueError: if the last observation of an episode is missing
        """
        if not dones.any():
            return
        normalizer = agent._vec_normalize_env
        before, after = agent._last_obs, new_obs
        if normalizer is not None:
            before, after = agent._last_original_obs, normalizer.get_original_obs()
        self._ends.check(before, after, dones, infos)

    @contextmanager
    def verb(self, agent: Guarded, parts: tuple[str, ...]) -> Iterator[None]:
        """
        Check ``parts`` after the block; on a divergence restore them and raise. After other errors and interrupts they are
        restored too, since half a fit is none, but for the policy and its update, whose gradient steps so far are kept.

        :param agent: whose verb the block is
        :param parts: see :func:`guarded`
        :raises DivergenceError: naming the first bad network, env and env step
        """
        plugs = {part: plug for part in parts if part != POLICY and (plug := getattr(agent, part)) is not None}
        backups = {part: Backup([plug], plug.optimizers().values()) for part, plug in plugs.items()}
        backups |= {POLICY: self._back_up_policy(agent)} if POLICY in parts else {}
        weights = agent.replay_buffer.weights.copy() if "weighter" in parts else None
        counters = {name: getattr(agent, name) for name in PUT_BACK}
        try:
            yield
            check_networks(plugs, network_norms(agent.policy, agent.log_ent_coef) if POLICY in parts else {})
        except BaseException as error:
            origin = _divergence_behind(agent, plugs, error) if isinstance(error, ValueError) else None
            kept = () if origin is not None else (POLICY, "policy_update")
            for part, backup in backups.items():
                if part not in kept:
                    backup.restore()
            if origin is not None and POLICY in parts and self._policy_backup is not None:
                agent._n_updates = self._policy_backup[0]
            if weights is not None:
                agent.replay_buffer.weights[:] = weights
            for name, value in counters.items():
                setattr(agent, name, value)
            agent.replay_buffer.policy_version = agent.policy_version
            if origin is None:
                raise
            agent.imagined.clear()  # made by what has diverged; the next model phase refills it
            raise DivergenceError(f"{origin} ({_whereabouts(agent)})") from error

    @contextmanager
    def collection(self, agent: Guarded) -> Iterator[None]:
        """
        Restore the policy if a divergence in the block comes from it, and raise.

        :param agent: that collects transitions in the block
        :raises DivergenceError: naming what is not usable, env and env step
        """
        try:
            yield
        except ValueError as error:
            origin = _divergence_behind(agent, {}, error)
            if origin is None:
                raise
            if origin is not error and self._policy_backup is not None:
                agent._n_updates = self._policy_backup[0]
                self._policy_backup[1].restore()
            raise DivergenceError(f"{origin} ({_whereabouts(agent)})") from error

    def _back_up_policy(self, agent: Any) -> Backup:
        known = self._policy_backup
        if known is None or agent._n_updates - known[0] >= BACKUP_UPDATES or agent.policy not in known[1].modules:
            tensors = [] if agent.log_ent_coef is None else [agent.log_ent_coef]
            known = (agent._n_updates, Backup([agent.policy], PolicyParts.of(agent).optimizers, tensors))
            self._policy_backup = known
        return known[1]


def check_networks(plugs: Mapping[str, Plug], norms: Mapping[str, th.Tensor]) -> None:
    """
    Check networks, with one host read.

    :param plugs: by the agent's attribute
    :param norms: scalars of other networks, by their names for messages
    :raises DivergenceError: naming the first network that is not usable
    """
    sizes = dict(norms)
    for part, plug in plugs.items():
        sizes |= _norms_of(plug, part)
    if sizes:
        check_magnitudes(dict(zip(sizes, th.stack([*sizes.values()]).tolist(), strict=True)))


def check_transitions(
    actions: np.ndarray, rewards: np.ndarray, observations: Any, dones: np.ndarray, infos: list[dict[str, Any]]
) -> None:
    """
    Refuse unusable rows before they are stored; actions first, since an env returns NaN for NaN.

    :param actions: of the actor ``[n_envs, A]``
    :param rewards: ``[n_envs]``
    :param observations: ``[n_envs, O]``
    :param dones: ``[n_envs]``, whether an episode has ended
    :param infos: of each env, with the terminal observations
    :raises DivergenceError: naming what is not usable, and the env
    """
    check_rows("the actor's action", actions)
    check_rows("the reward", rewards)
    check_rows("the observation", observations)
    for index in np.flatnonzero(dones):
        terminal = infos[index].get("terminal_observation")
        if terminal is not None:
            check_rows("the terminal observation", np.asarray(terminal)[None], first_env=int(index))


def _divergence_behind(agent: Guarded, plugs: Mapping[str, Plug], error: ValueError) -> DivergenceError | None:
    """
    The divergence behind an error: that of a network with bad weights if there is one, since it is the cause of others (such
    as torch's ValueError about a Normal of NaN); else ``error`` itself, or None if it has another reason.
    """
    try:
        check_networks(plugs, {})
        if not isinstance(error, DivergenceError):
            sizes = network_norms(agent.policy, agent.log_ent_coef)
            check_magnitudes({name: float(size) for name, size in sizes.items()})
    except DivergenceError as network:
        return network
    return error if isinstance(error, DivergenceError) else None


def _norms_of(plug: nn.Module, part: str) -> dict[str, th.Tensor]:
    """Norms of the parameters of a plug, by the names of its networks."""
    sizes = {}
    own = [*plug.parameters(recurse=False)]
    networks = {name: [*child.parameters()] for name, child in plug.named_children()}
    for name, parameters in {"": own, **networks}.items():
        if parameters:
            title = type(plug).__name__ + (f".{name}" if name else "")
            sizes[f"the norm of the weights of {title} (the agent's {part})"] = magnitude(parameters)
    return sizes


def _whereabouts(agent: Guarded) -> str:
    checkpoint = f"last checkpoint: {agent.last_checkpoint}" if agent.last_checkpoint else "no checkpoint was written"
    sound = "the agent is left in a sound earlier state, from which learn(..., reset_num_timesteps=False) goes on"
    return f"env {_env_name(agent.env)}, env step {agent.num_timesteps}, {checkpoint}; {sound}"


def _env_name(env: VecEnv | None) -> str:
    """Name of the env; does not query worker processes, which may have failed."""
    envs = None if env is None else env.unwrapped
    if isinstance(envs, DummyVecEnv):
        spec = envs.envs[0].spec
        return type(envs.envs[0].unwrapped).__name__ if spec is None else spec.id
    return type(envs).__name__
