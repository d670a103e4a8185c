"""SAC that owns exchangeable plugs: it builds them, saves them in its zip and restores them."""

import copy
import io
import pathlib
from collections.abc import Iterable, Mapping
from typing import Any, TypeVar

import torch as th
from stable_baselines3.common.base_class import maybe_make_env
from stable_baselines3.common.buffers import ReplayBuffer
from stable_baselines3.common.type_aliases import GymEnv
from stable_baselines3.sac.sac import SAC

from sb3_tom.checkpoint.archive import is_archive
from sb3_tom.checkpoint.resumable import ResumableSAC
from sb3_tom.common.buffers import WeightedReplayBuffer
from sb3_tom.common.guards import check_rows
from sb3_tom.common.plug import Plug
from sb3_tom.common.resolve import mark_used, resolve_plug
from sb3_tom.common.weighing import check_room, check_weighter
from sb3_tom.dynamics.base import DynamicsModel
from sb3_tom.mbpo.warm_start import refuse_sac_zip, warm_start
from sb3_tom.objectives.base import ModelObjective
from sb3_tom.terminations.base import Termination
from sb3_tom.terminations.resolve import resolve_termination
from sb3_tom.weighters.base import Weighter

CONTRACTS: dict[str, tuple[type[Plug], dict[str, str]]] = {
    "weighter": (
        Weighter,
        {
            "uniform": "sb3_tom.weighters.uniform:UniformWeighter",
            "pmac": "sb3_tom.weighters.pmac:PMACWeighter",
            "tom": "sb3_tom.weighters.tom:TOMWeighter",
        },
    ),
    "dynamics": (
        DynamicsModel,
        {
            "ensemble": "sb3_tom.dynamics.ensemble:ProbabilisticEnsemble",
            "mdn": "sb3_tom.dynamics.mdn:MixtureDensityNetwork",
            "linear": "sb3_tom.dynamics.linear:LinearDynamics",
        },
    ),
    "objective": (
        ModelObjective,
        {
            "likelihood": "sb3_tom.objectives.likelihood:LikelihoodObjective",
            "survive_bonus": "sb3_tom.objectives.survive:SurviveBonusObjective",
        },
    ),
}
"""For each plug that a user chooses by one argument: its contract and its aliases."""

PLUGS = (*CONTRACTS, "termination")

SelfPluggedSAC = TypeVar("SelfPluggedSAC", bound="PluggedSAC")


class PluggedSAC(ResumableSAC):
    """
    Keeps what the user asked for (``_plug_specs``, saved in the zip) apart from the plugs that were made of it (their
    state is saved beside SAC's own networks). So ``load`` rebuilds the plugs in ``_setup_model`` and then fills them.
    """

    weighter: Weighter
    dynamics: DynamicsModel
    objective: ModelObjective
    termination: Termination
    termination_fn: Any
    reward_fn: Any
    termination_rule: dict[str, Any] | None = None
    graphed_update: Any = None  # kept between calls of train on CUDA, never saved
    replay_buffer: WeightedReplayBuffer
    policy_version: int
    generator: th.Generator
    _plug_specs: dict[str, tuple[Any, Mapping[str, Any] | None]]

    def set_random_seed(self, seed: int | None = None) -> None:
        """SB3's, and the generator of everything that is imagined, drawn or fitted."""
        super().set_random_seed(seed)
        self.generator = th.Generator(device=self.device)
        self.generator.manual_seed(int(th.randint(2**62, (1,))) if seed is None else seed)

    @property
    def _sizes(self) -> tuple[int, int]:
        """Sizes of an observation and of an action."""
        return self.observation_space.shape[0], self.action_space.shape[0]  # type: ignore[index]

    def _log(self, group: str, figures: Mapping[str, float], exclude: str | tuple[str, ...] | None = None) -> None:
        if hasattr(self, "_logger"):  # the offline verbs work before the first learn
            for name, value in figures.items():
                self.logger.record(f"{group}/{name}", value, exclude)

    def _set_up_plugs(self) -> None:
        """Resolve, check and build all plugs on the agent's device."""
        specs = self._merge_requested(self.__dict__.pop("_requested_plugs", {}))
        for name, (contract, aliases) in CONTRACTS.items():
            value, kwargs = specs[name]
            self._plug_specs[name] = (_unbuilt(value), kwargs)
            setattr(self, name, resolve_plug(name, value, kwargs, contract, aliases))
        self.termination, self.termination_rule = resolve_termination(self.termination_fn, self.env, self.termination_rule)
        self.termination_fn = _unbuilt(self.termination_fn)
        self.dynamics.check_objective(self.objective)
        check_weighter(self.weighter)
        check_room(self.weighter, self.replay_buffer)
        self.weighter.check_gamma(self.gamma)
        self.objective.check_reward_fn(self.reward_fn)
        for name in PLUGS:
            plug = getattr(self, name)
            plug.build(*self._sizes)
            plug.to(self.device)
        self.termination.check(*(th.zeros(2, size, device=self.device) for size in self._sizes))
        for name in PLUGS:
            mark_used(getattr(self, name))

    def read_termination_rule(self) -> None:
        """After ``set_env``: the new envs may have other thresholds, or a rule where the old ones had none."""
        rule = resolve_termination(self.termination_fn, self.env, self.termination_rule)[1]
        if rule != self.termination_rule:
            self.termination_rule = rule
            self.termination.set_rule(rule)

    def _merge_requested(self, requested: Mapping[str, Any]) -> dict[str, tuple[Any, Mapping[str, Any] | None]]:
        """What the zip holds, with the keyword arguments that ``load`` was called with."""
        specs = dict(self._plug_specs)
        for name, (contract, aliases) in CONTRACTS.items():
            saved_value, saved_kwargs = specs[name]
            if name not in requested and f"{name}_kwargs" not in requested:
                continue
            value = requested.get(name, saved_value)
            kwargs = requested.get(f"{name}_kwargs", saved_kwargs if name not in requested else None)
            saved = resolve_plug(name, saved_value, saved_kwargs, contract, aliases)
            wanted = resolve_plug(name, value, kwargs, contract, aliases)
            if type(saved) is not type(wanted):
                raise ValueError(
                    f"{name}={type(wanted).__name__} is not allowed: the file was saved with {name}={type(saved).__name__}; "
                    f"allowed: the same class, or MBPO.load without a {name}, which takes any"
                )
            if isinstance(value, Plug) or f"{name}_kwargs" in requested:  # the name alone changes nothing
                specs[name] = (value, kwargs)
        return specs

    @classmethod
    def load(
        cls: type[SelfPluggedSAC],
        path: str | pathlib.Path | io.BufferedIOBase,
        env: GymEnv | str | None = None,
        *args: Any,
        **kwargs: Any,
    ) -> SelfPluggedSAC:
        """
        As SB3's ``load``; the env may be an id, as in the constructor. Plugs come from the file; ``weighter``, ``dynamics`` or
        ``objective`` must name the saved class, ``..._kwargs`` may change its arguments.

        :param path: zip file
        :param env: env to go on with, or its id; None loads an agent that predicts
        :param args: as in SB3's ``load``
        :param kwargs: attributes to change
        :raises ValueError: if a plug of another class is asked for, naming both
        """
        if isinstance(path, str | pathlib.Path) and is_archive(path):
            raise ValueError(
                f"path={str(path)!r} is not allowed: the file is a checkpoint of a run; "
                f"allowed: {cls.__name__}.resume(path, env)"
            )
        refuse_sac_zip(path)
        names = [name for contract in CONTRACTS for name in (contract, f"{contract}_kwargs")]
        requested = {name: kwargs.pop(name) for name in names if name in kwargs}
        made = None if env is None else maybe_make_env(env, kwargs.get("verbose", 0))
        try:
            return super().load(path, made, *args, **kwargs, _requested_plugs=requested)
        except RuntimeError as error:
            given = {name: value for name, value in requested.items() if name.endswith("_kwargs")}
            if "state_dict" not in str(error) or not (given or "termination_fn" in kwargs):
                raise
            if given:
                raise ValueError(
                    f"{given!r} is not allowed: the networks of the file are others; allowed: arguments that leave their sizes"
                ) from error
            raise ValueError(
                f"termination_fn={kwargs['termination_fn']!r} is not allowed: the file's is of another kind; "
                f"allowed: one of the same kind, or {cls.__name__}.from_sac(agent, env, termination_fn=...)"
            ) from error

    @classmethod
    def from_sac(
        cls: type[SelfPluggedSAC],
        sac: SAC | str | pathlib.Path | io.BufferedIOBase,
        env: GymEnv | str,
        **arguments: Any,
    ) -> SelfPluggedSAC:
        """
        Start from a trained SAC agent: its networks, optimisers and temperature, its arguments ``learning_rate``,
        ``buffer_size``, ``batch_size``, ``tau``, ``gamma``, ``ent_coef``, ``target_update_interval``, ``target_entropy``,
        ``use_sde``, ``sde_sample_freq`` and ``policy_kwargs``, and, if the agent itself is given, the transitions that it
        holds: then ``learning_starts`` is 0, the policy acts and trains from the first step. Otherwise the first
        ``learning_starts`` steps are random, as in a new agent; a saved buffer comes in by :meth:`load_replay_buffer`.

        :param sac: SAC agent, or its zip file (loading one executes code that is in it, as SB3's ``SAC.load`` does)
        :param env: env of the new agent, of the same spaces and, for the transitions, as many envs
        :param arguments: of the constructor, in place of the SAC agent's
        :raises ValueError: naming what does not fit
        """
        return warm_start(cls, sac, env, **arguments)  # type: ignore[type-var]

    def load_replay_buffer(self, path: str | pathlib.Path | io.BufferedIOBase, truncate_last_traj: bool = True) -> None:
        """
        As SB3's; a plain SB3 buffer, for example of a SAC run, is converted.

        :param path: pickle file
        :param truncate_last_traj: without effect here (HER only)
        :raises ValueError: if its spaces or its number of envs are not the agent's
        """
        kept = self.replay_buffer
        super().load_replay_buffer(path, truncate_last_traj)
        loaded: ReplayBuffer = self.replay_buffer
        self.replay_buffer = kept
        self._adopt_replay_buffer(loaded)

    def _adopt_replay_buffer(self, loaded: ReplayBuffer) -> None:
        for name, found, expected in (
            ("observation_space", loaded.observation_space.shape, self.observation_space.shape),
            ("action_space", loaded.action_space, self.action_space),  # actions are stored scaled by its bounds
            ("n_envs", loaded.n_envs, self.n_envs),
        ):
            if found != expected:
                raise ValueError(f"the replay buffer's {name}={found} is not allowed; allowed: the agent's, {expected}")
        if not isinstance(loaded, WeightedReplayBuffer):
            loaded = WeightedReplayBuffer.from_replay_buffer(loaded)
        for name in ("observations", "actions", "next_observations", "rewards"):
            check_rows(f"the replay buffer's array {name}", getattr(loaded, name)[: loaded.size()])
        loaded.device = self.device
        # Versions count on from the newest row, so that no row is newer than the current policy
        newest = int(loaded.policy_versions.max(initial=0))
        self.policy_version = loaded.policy_version = max(self.policy_version, newest, loaded.policy_version)
        self.replay_buffer, self.buffer_size = loaded, loaded.capacity

    def _excluded_save_params(self) -> list[str]:
        return [*super()._excluded_save_params(), *PLUGS, "graphed_update"]

    def _get_torch_save_params(self) -> tuple[list[str], list[str]]:
        state_dicts, variables = super()._get_torch_save_params()
        return [*state_dicts, *self._plug_state_names()], variables

    def _plug_state_names(self) -> Iterable[str]:
        for name in PLUGS:
            yield name
            for optimizer in getattr(self, name).optimizers():
                yield f"{name}.{optimizer}"


def _unbuilt(value: Any) -> Any:
    """A plug that came as an instance is used as it is; its copy goes into the zip, and makes a new plug if need be."""
    return copy.deepcopy(value) if isinstance(value, Plug) else value
