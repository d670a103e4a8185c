"""The plugs of an agent: made of the user's arguments, checked, built, saved and restored."""

import copy
from collections.abc import Iterator, Mapping
from typing import Any

import torch as th
from stable_baselines3.common.vec_env import VecEnv

from sb3_tom.checks.validation import plain
from sb3_tom.contracts.plug import Plug
from sb3_tom.contracts.policy_update import PolicyParts, PolicyUpdate
from sb3_tom.contracts.resolve import Axis, class_of, mark_used, resolve_plug
from sb3_tom.contracts.types import RewardFunction
from sb3_tom.data.replay_buffer import WeightedReplayBuffer
from sb3_tom.mbpo.axes import AXES, default_of
from sb3_tom.mbpo.plug_state import PlugState
from sb3_tom.mbpo.weighing import check_room, check_weighter
from sb3_tom.terminations.reading import current_rule

Spec = tuple[Any, Mapping[str, Any] | None]
"""The user's value for an axis, and its keyword arguments."""

Specs = dict[str, Spec]
"""Specs by the argument of the constructor. They are saved in files, and plugs are made of them."""


def specs_of(arguments: Mapping[str, Any], cls: type) -> Specs:
    """
    The specs of constructor arguments.

    :param arguments: of the constructor, by name
    :param cls: class of the agent, for its defaults
    """
    specs: Specs = {}
    for argument, axis in AXES.items():
        value = arguments.get(argument)
        specs[argument] = (default_of(cls, argument) if value is None else value, arguments.get(axis.kwargs_argument))
    return specs


def requested_in(kwargs: dict[str, Any]) -> dict[str, Any]:
    """
    Remove the arguments of plugs from those of ``load`` and return them.

    :param kwargs: changed
    """
    names = [name for argument, axis in AXES.items() for name in (argument, axis.kwargs_argument)]
    return {name: kwargs.pop(name) for name in names if name in kwargs}


def implied_by(cls: type) -> dict[str, Any]:
    """
    The plugs that the name of a class of agents implies: ``load`` of another class's file requires them.

    :param cls: ``MBPOTOM``: the weighter "tom"
    """
    own = {argument: default_of(cls, argument) for argument in AXES}
    return {argument: value for argument, value in own.items() if value != AXES[argument].default}


def merge_specs(saved: Specs, requested: Mapping[str, Any], cls: type) -> Specs:
    """
    The saved specs, updated by the arguments of ``load``; naming the saved class changes nothing.

    :param saved: from the file; an older one has fewer axes
    :param requested: by argument
    :param cls: class of the agent, for its defaults
    :raises ValueError: if another class than the file's is requested, naming both
    """
    specs = specs_of({}, cls) | saved
    for argument, axis in AXES.items():
        if argument not in requested and axis.kwargs_argument not in requested:
            continue
        saved_value, saved_kwargs = specs[argument]
        value = requested.get(argument, saved_value)
        kwargs = requested.get(axis.kwargs_argument, saved_kwargs if argument not in requested else None)
        if not axis.any_class_on_load:
            _check_same_class(argument, axis, saved_value, value)
        if value is not saved_value and _is_copy(saved_value, value):
            kwargs = requested.get(axis.kwargs_argument, saved_kwargs)  # of a script: its class is not the file's copy of it
            specs[argument] = (value, kwargs)
        elif isinstance(value, Plug) or axis.any_class_on_load or axis.kwargs_argument in requested:
            specs[argument] = (value, kwargs)
    return {argument: (value, plain(kwargs)) for argument, (value, kwargs) in specs.items()}


def _check_same_class(argument: str, axis: Axis, saved: Any, wanted: Any) -> None:
    types = [None if value is None else class_of(argument, axis, value) for value in (saved, wanted)]
    if types[0] is not types[1] and not _is_copy(*types):
        before, now = ("None" if kind is None else kind.__name__ for kind in types)
        raise ValueError(
            f"{argument}={now} is not allowed: the file was saved with {argument}={before}; "
            f"allowed: the same class, or MBPO.load without a {argument}, which takes any"
        )


def _is_copy(saved: Any, now: Any) -> bool:
    """Whether two classes are one of a script, which is copied into files, so that after a load two have its path."""
    both = isinstance(saved, type) and isinstance(now, type)
    return both and (saved.__module__, saved.__qualname__) == (now.__module__, now.__qualname__)


class Plugs:
    """
    One plug for each axis; an optional axis may have none.

    :param specs: of all axes
    :raises ValueError: naming the argument, what came and what is allowed
    """

    def __init__(self, specs: Specs) -> None:
        self.by_part: dict[str, Any] = {}  # each of its axis's contract, or None
        for argument, axis in AXES.items():
            value, kwargs = specs[argument]
            none = value is None and axis.default is None
            self.by_part[axis.part] = None if none else resolve_plug(argument, axis, value, kwargs)
        check_weighter(self.by_part["weighter"])

    @property
    def made(self) -> dict[str, Plug]:
        """The plugs, by the agent's attribute, without axes that have none."""
        return {part: plug for part, plug in self.by_part.items() if plug is not None}

    def check(self, buffer: WeightedReplayBuffer, gamma: float, reward_fn: RewardFunction | None, parts: PolicyParts) -> None:
        """
        Check that the plugs are compatible with each other and with the agent.

        :param buffer: the agent's
        :param gamma: its discount factor
        :param reward_fn: its known reward, or None
        :param parts: of its policy
        :raises ValueError: naming what does not fit
        """
        plugs = self.by_part
        plugs["dynamics"].check_objective(plugs["objective"])
        plugs["objective"].check_model(plugs["dynamics"])
        check_room(plugs["weighter"], buffer)
        plugs["weighter"].check_gamma(gamma)
        plugs["objective"].check_reward_fn(reward_fn)
        plugs["policy_update"].check(parts, plugs["confidence"] is not None)
        for part in ("confidence", "rollout_stop"):
            if plugs[part] is not None:
                plugs[part].check_model(plugs["dynamics"])

    def check_gradients(self) -> None:
        """
        Check that the model's samples are differentiable where the policy update follows them. Not of an agent from a file,
        which can still predict: its training is refused.

        :raises ValueError: naming both
        """
        plugs = self.by_part
        if plugs["policy_update"].climbs_rewards and not plugs["dynamics"].is_reparameterised:
            update, model = (type(plugs[part]).__name__ for part in ("policy_update", "dynamics"))
            raise ValueError(
                f"policy_update={update} is not allowed with dynamics={model}, whose samples are not differentiable in all "
                "that they depend on: the policy would follow a wrong gradient; allowed: one with is_reparameterised, such "
                "as 'smooth' or 'ensemble'"
            )

    def build(
        self,
        observation_dim: int,
        action_dim: int,
        device: th.device,
        env: VecEnv | None,
        saved_rule: dict[str, Any] | None,
        verbose: int = 0,
    ) -> dict[str, Any] | None:
        """
        Build all plugs. Instances that the user gave belong to the agent from then on.

        :param observation_dim: size O of an observation
        :param action_dim: size A of an action
        :param device: of the agent
        :param env: the training environments, None if the agent was loaded without
        :param saved_rule: termination rule to use then
        :param verbose: the agent's; at least 1: print the termination rule
        :return: the termination rule in use; None if the termination uses none, or none is known
        :raises ValueError: if the termination cannot be used
        """
        for plug in self.made.values():
            plug.build(observation_dim, action_dim)
            plug.to(device)
        termination, rule = self.by_part["termination"], None
        if termination.wants_rule:
            rule = current_rule(env, saved_rule, verbose)
            termination.set_rule(rule)
        termination.check(*(th.zeros(2, size, device=device) for size in (observation_dim, action_dim)))
        for plug in self.made.values():
            mark_used(plug)
        self._states = [PlugState(plug) for plug in self.made.values()]
        return rule

    def check_states(self) -> None:
        """
        Check that what the plugs have learned can be loaded from files.

        :raises ValueError: naming the plug and its attribute
        """
        for state in self._states:
            state.check()

    def fill_defaults(self, agent: object) -> None:
        """
        Set arguments that the user left at None to the defaults of policy update and weighter.

        :param agent: its attributes that are None are set
        """
        defaults = {**PolicyUpdate.defaults, **self.by_part["policy_update"].defaults}
        defaults["weight_rollout_starts"] = self.by_part["weighter"].weighs_starts
        for name, value in defaults.items():
            if not hasattr(agent, name):
                owner = type(self.by_part["policy_update"]).__name__
                raise ValueError(
                    f"{owner}.defaults has {name!r}; allowed: arguments of the agent, such as {sorted(PolicyUpdate.defaults)}"
                )
            if getattr(agent, name) is None:
                setattr(agent, name, value)

    def state_names(self) -> Iterator[str]:
        """Names for SB3 to save: each plug and its optimisers, as dotted attributes of the agent."""
        for part, plug in self.made.items():
            yield part
            for optimizer in plug.optimizers():
                yield f"{part}.{optimizer}"

    def without_state(self) -> list[str]:
        """Plugs without a state, which a file may lack."""
        return [part for part, plug in self.made.items() if not plug.state_dict()]


def copied_specs(specs: Specs) -> Specs:
    """
    Copies of the specs for files: an instance that the user gave is used itself, and its unbuilt copy is saved.

    :param specs: before anything is built
    """
    return {
        name: (_copied(name, value) if isinstance(value, Plug) else value, kwargs) for name, (value, kwargs) in specs.items()
    }


def _copied(argument: str, plug: Plug) -> Plug:
    try:
        return copy.deepcopy(plug)
    except (TypeError, AttributeError, RuntimeError) as error:
        name = type(plug).__name__
        raise ValueError(
            f"{argument}=an instance of {name} is not allowed, since it cannot be copied for files: {error}; allowed: the "
            f"class {name}, with {AXES[argument].kwargs_argument}"
        ) from error
