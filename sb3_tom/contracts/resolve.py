"""Makes a plug of a constructor argument: alias, class, instance, function or ``"package.module:Class"``."""

import copy
import re
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from inspect import isabstract, isfunction, signature
from typing import Any

from sb3_tom.contracts.plug import Plug

_OF_ARGUMENTS = re.compile(
    r"unexpected keyword argument|required (positional|keyword-only) argument|multiple values for|takes "
)
"""What Python says if the arguments do not fit."""


@dataclass(frozen=True)
class Axis:
    """
    A part of the agent that the user chooses by one argument of the constructor, and another for keyword arguments.

    :param contract: class that the part is an instance of
    :param aliases: from short names to ``"package.module:Class"``; other classes are allowed too
    :param default: alias used if the user gives None; None: there is no such part then
    :param part: attribute of the agent that holds it
    :param adapter: ``"package.module:Class"`` that makes a plug of a function; None: functions are refused
    :param any_class_on_load: whether ``load`` may be given another class than the file's, as long as its state fits
    """

    contract: type[Plug]
    aliases: Mapping[str, str]
    default: str | None
    part: str
    adapter: str | None = None
    any_class_on_load: bool = False

    @property
    def kwargs_argument(self) -> str:
        """Name of the argument with the keyword arguments."""
        return f"{self.part}_kwargs"

    @property
    def allowed(self) -> str:
        """The allowed values, for messages."""
        names = f"one of {sorted(self.aliases)}, " if self.aliases else ""
        function = "" if self.adapter is None else "a function, "
        contract = self.contract.__name__
        return f"{names}{function}a subclass or instance of {contract}, or 'package.module:Class'"


def resolve_plug(argument: str, axis: Axis, value: Any, kwargs: Mapping[str, Any] | None) -> Plug:
    """
    Make the plug that ``value`` names. Nothing is evaluated.

    :param argument: name of the agent's argument, for messages
    :param axis: what the argument is for
    :param value: alias, ``"package.module:Class"``, class, instance that no agent was made with (one that is named by its path
        is copied), or a function if the axis has an adapter
    :param kwargs: constructor arguments; not allowed with an instance or a function
    :return: the plug, not yet built
    :raises ValueError: naming the argument, what came and what is allowed
    """
    if kwargs is not None and not isinstance(kwargs, Mapping):
        raise ValueError(f"{axis.kwargs_argument}={kwargs!r} is not allowed; allowed: a dict or None")
    found = _named(argument, axis, value)
    if isinstance(found, type):
        plug = _made(argument, axis, value, found, dict(kwargs or {}))
        _check_class(argument, axis, plug)
        return plug
    if isinstance(found, axis.contract):
        _refuse_kwargs(axis, kwargs, f"an instance of {type(found).__name__}")
        _check_class(argument, axis, found)
        plug = copy.deepcopy(found) if isinstance(value, str) else found
        check_unused(argument, plug)
        return plug
    _refuse_kwargs(axis, kwargs, "a function")
    assert axis.adapter is not None
    adapter = _imported(argument, axis.adapter, axis)
    return adapter(found)


def class_of(argument: str, axis: Axis, value: Any) -> type:
    """
    Class of what ``value`` names, of which none is made.

    :param argument: see :func:`resolve_plug`
    :param axis: see :func:`resolve_plug`
    :param value: see :func:`resolve_plug`
    :raises ValueError: naming the argument, what came and what is allowed
    """
    found = _named(argument, axis, value)
    return found if isinstance(found, type) else type(found)


def _named(argument: str, axis: Axis, value: Any) -> Any:
    """The class, instance or function that ``value`` names, or is."""
    found = _imported(argument, axis.aliases.get(value, value), axis) if isinstance(value, str) else value
    is_class = isinstance(found, type)
    is_function = axis.adapter is not None and callable(found) and not is_class
    if isinstance(found, axis.contract) or is_function or (is_class and issubclass(found, axis.contract)):
        return found
    named = f" ({value!r})" if isinstance(value, str) else ""
    raise ValueError(f"{argument}={found!r}{named} is not allowed; allowed: {axis.allowed}")


def _refuse_kwargs(axis: Axis, kwargs: Mapping[str, Any] | None, given: str) -> None:
    if kwargs:
        name = axis.kwargs_argument
        raise ValueError(f"{name}={dict(kwargs)!r} is not allowed with {given}; allowed: no {name}")


def _made(argument: str, axis: Axis, value: Any, cls: type[Plug], kwargs: dict[str, Any]) -> Plug:
    if isabstract(cls):
        raise ValueError(
            f"{argument}={value!r} is not allowed: {cls.__name__} has no {', '.join(sorted(cls.__abstractmethods__))}; "
            f"allowed: a class that implements what {axis.contract.__name__} requires"
        )
    try:
        return cls(**kwargs)
    except TypeError as error:
        if not _OF_ARGUMENTS.search(str(error)):  # of the class itself
            raise
        if kwargs:
            raise ValueError(f"{axis.kwargs_argument}={kwargs!r} do not fit {cls.__name__}: {error}") from error
        allowed = f"{axis.kwargs_argument} with them, or an instance"
        raise ValueError(f"{argument}={value!r} needs arguments ({error}); allowed: {allowed}") from error


def _check_class(argument: str, axis: Axis, plug: Plug) -> None:
    """Refuse a plug of a user's class that could not be called: found here, and not after thousands of env steps."""
    cls = type(plug)
    if "_modules" not in vars(plug):
        raise ValueError(f"{argument}: {cls.__name__}.__init__ does not call super().__init__(); allowed: to call it first")
    for name, method in vars(axis.contract).items():
        own = getattr(cls, name, None)
        if name.startswith("_") or not isfunction(method) or own is method or not isfunction(own) or _is_decorated(own):
            continue
        expected = [it.name for it in signature(method).parameters.values() if it.kind is it.POSITIONAL_OR_KEYWORD][1:]
        called = signature(getattr(plug, name))
        try:
            called.bind(*expected)
        except TypeError as error:
            raise ValueError(
                f"{argument}: {cls.__name__}.{name}{called} cannot be called as the agent does: {error}; "
                f"allowed: ({', '.join(expected)})"
            ) from error


def _is_decorated(method: Any) -> bool:
    """Whether something else than torch (``no_grad``) wraps a method: it may take or give other arguments."""
    while hasattr(method, "__wrapped__"):
        if getattr(method, "__globals__", {}).get("__name__", "").partition(".")[0] != "torch":
            return True
        method = method.__wrapped__
    return False


def _imported(argument: str, path: str, axis: Axis) -> Any:
    module_name, separator, name = path.partition(":")
    if not separator:
        raise ValueError(f"{argument}={path!r} is unknown; allowed: {axis.allowed}")
    try:
        return getattr(import_module(module_name), name)
    except (ImportError, AttributeError, ValueError, TypeError) as error:
        raise ValueError(f"{argument}={path!r} cannot be imported: {error}; allowed: {axis.allowed}") from error


def check_unused(argument: str, plug: Plug) -> None:
    """
    Refuse an instance that belongs to an agent already: both would train it, and the second would reset it.

    :param argument: name of the agent's argument, for the message
    :param plug: what came; its submodules are checked too
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

    :param plug: the plug that an agent was made with
    """
    for part in plug.modules():
        if isinstance(part, Plug):
            part.in_use = True
