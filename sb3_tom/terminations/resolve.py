"""From what a user writes for ``termination_fn`` to a termination."""

import copy
from importlib import import_module
from typing import Any

from stable_baselines3.common.vec_env import VecEnv

from sb3_tom.common.resolve import check_unused
from sb3_tom.terminations.auto import AutoTermination
from sb3_tom.terminations.base import Termination
from sb3_tom.terminations.learned import LearnedTermination
from sb3_tom.terminations.reading import read_rule
from sb3_tom.terminations.rules import Rule, check_rule
from sb3_tom.terminations.user_function import CallableTermination, NeverTermination

_ALLOWED = (
    "'auto', 'learned', 'never', a function (observations, actions, next_observations) -> bool [B, 1], a subclass or instance "
    "of Termination, or 'package.module:name' of one of these"
)


def resolve_termination(termination_fn: Any, env: VecEnv | None, saved_rule: Rule | None) -> tuple[Termination, Rule | None]:
    """
    Make the termination that ``termination_fn`` names.

    :param termination_fn: ``"auto"``, ``"learned"``, ``"never"``, a function, a subclass or instance of
        :class:`Termination`, or ``"package.module:name"`` of one of these; an instance that no agent was made with, of a
        named one a copy is taken
    :param env: the training environments, None if the agent was loaded without
    :param saved_rule: the rule to use without environments
    :return: the termination, not yet built, and the rule to save (None unless ``"auto"``)
    :raises ValueError: naming the argument, what came and what is allowed
    """
    if isinstance(termination_fn, str) and termination_fn == "auto":
        rule = check_rule(saved_rule) if env is None else read_rule(env)
        return AutoTermination(rule), rule
    return _explicit(termination_fn), None


def _explicit(termination_fn: Any) -> Termination:
    value = _import(termination_fn) if isinstance(termination_fn, str) else termination_fn
    if isinstance(value, Termination):
        value = copy.deepcopy(value) if isinstance(termination_fn, str) else value
        check_unused("termination_fn", value)
        return value
    if isinstance(value, type):
        return _instantiate(termination_fn, value)
    if callable(value):
        return CallableTermination(value)
    raise ValueError(f"termination_fn={termination_fn!r} is not allowed; allowed: {_ALLOWED}")


def _instantiate(termination_fn: Any, cls: type) -> Termination:
    if not issubclass(cls, Termination):
        raise ValueError(f"termination_fn={termination_fn!r} is not allowed; allowed: {_ALLOWED}")
    try:
        return cls()
    except TypeError as error:
        raise ValueError(f"termination_fn={termination_fn!r} needs arguments ({error}); pass an instance") from error


def _import(name: str) -> Any:
    aliases = {"learned": LearnedTermination, "never": NeverTermination}
    if name in aliases:
        return aliases[name]
    module_name, separator, attribute = name.partition(":")
    if not separator:
        raise ValueError(f"termination_fn={name!r} is unknown; allowed: {_ALLOWED}")
    try:
        return getattr(import_module(module_name), attribute)
    except (ImportError, AttributeError, TypeError, ValueError) as error:
        raise ValueError(f"termination_fn={name!r} cannot be imported: {error}; allowed: {_ALLOWED}") from error
