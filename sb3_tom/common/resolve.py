"""From what a user writes (alias, class, instance or ``"package.module:Class"``) to a plug."""

from collections.abc import Mapping
from importlib import import_module
from typing import Any, TypeVar

from sb3_tom.common.plug import Plug

P = TypeVar("P", bound=Plug)


def resolve_plug(
    argument: str,
    value: Any,
    kwargs: Mapping[str, Any] | None,
    base: type[P],
    aliases: Mapping[str, str],
) -> P:
    """
    Make the plug that ``value`` names. Nothing is evaluated; an alias is a shorthand, never a gate.

    :param argument: name of the agent's argument, for messages
    :param value: alias, ``"package.module:Class"``, class or instance that no agent was made with
    :param kwargs: constructor arguments; none may come with an instance
    :param base: the contract that the plug must fulfil
    :param aliases: alias to ``"package.module:Class"``
    :return: the plug, not yet built
    :raises ValueError: naming the argument, what came and what is allowed
    """
    if kwargs is not None and not isinstance(kwargs, Mapping):
        raise ValueError(f"{argument}_kwargs={kwargs!r} is not allowed; allowed: a dict or None")
    if isinstance(value, base):
        if kwargs:
            given = f"an instance of {type(value).__name__}"
            raise ValueError(f"{argument}_kwargs={dict(kwargs)!r} is not allowed with {given}; allowed: no {argument}_kwargs")
        check_unused(argument, value)
        return value
    cls = _plug_class(argument, value, base, aliases)
    try:
        return cls(**(kwargs or {}))
    except TypeError as error:
        raise ValueError(f"{argument}_kwargs={dict(kwargs or {})!r} do not fit {cls.__name__}: {error}") from error


def check_unused(argument: str, plug: Plug) -> None:
    """
    Refuse an instance that belongs to an agent already: both would train it, and building it anew would wipe the first one's.

    :param argument: name of the agent's argument, for the message
    :param plug: what came; its parts are looked at too
    :raises ValueError: naming the argument, what came and what is allowed
    """
    if any(isinstance(part, Plug) and part.in_use for part in plug.modules()):
        raise ValueError(
            f"{argument}=an instance of {type(plug).__name__} is not allowed: another agent was made with it, or with what it "
            "is a copy of; allowed: a new instance, or the class, which makes one for each agent"
        )


def mark_used(plug: Plug) -> None:
    """
    Note that a plug belongs to an agent.

    :param plug: an agent was made with it
    """
    for part in plug.modules():
        if isinstance(part, Plug):
            part.in_use = True


def _plug_class(argument: str, value: Any, base: type[P], aliases: Mapping[str, str]) -> type[P]:
    allowed = f"one of {sorted(aliases)}, a subclass or instance of {base.__name__}, or 'package.module:Class'"
    if isinstance(value, str):
        path = aliases.get(value, value)
        module_name, separator, class_name = path.partition(":")
        if not separator:
            raise ValueError(f"{argument}={value!r} is unknown; allowed: {allowed}")
        try:
            value = getattr(import_module(module_name), class_name)
        except (ImportError, AttributeError, ValueError, TypeError) as error:
            raise ValueError(f"{argument}={path!r} cannot be imported: {error}; allowed: {allowed}") from error
    if not (isinstance(value, type) and issubclass(value, base)):
        raise ValueError(f"{argument}={value!r} is not allowed; allowed: {allowed}")
    return value
