"""Alias, class, instance and path name the same plug; anything else is one ValueError."""

import functools
import sys
from abc import abstractmethod
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch as th

from sb3_tom.contracts.plug import Plug
from sb3_tom.contracts.resolve import Axis, resolve_plug

PATH = f"{__name__}:Scale"
ALIASES = {"scale": PATH, "broken": "sb3_tom.no_such_module:Scale"}


class Kind(Plug):
    """A contract."""


class Scale(Kind):
    """A plug of that kind, with one learned number and one that is not."""

    def __init__(self, factor: float = 2.0, depth: int = 1) -> None:
        super().__init__()
        self.factor, self.depth = factor, depth
        self.gain = th.nn.Parameter(th.ones(1))
        self.gain_optimizer = th.optim.Adam([self.gain])


class Other(Plug):
    """A plug of another kind."""


class Adapted(Kind):
    """Made of a function."""

    def __init__(self, function: Any) -> None:
        super().__init__()
        self.function = function


AXIS = Axis(Kind, ALIASES, "scale", "weighter")
WITH_FUNCTIONS = Axis(Kind, ALIASES, "scale", "weighter", adapter=f"{__name__}:Adapted")
NAMED = Scale(7.0)


def resolve(value: Any, kwargs: Any = None, axis: Axis = AXIS) -> Plug:
    return resolve_plug("weighter", axis, value, kwargs)


@pytest.mark.parametrize("value", ["scale", PATH, Scale], ids=["alias", "path", "class"])
@pytest.mark.parametrize("kwargs", [None, {}, {"factor": 3.0}, {"factor": 3.0, "depth": 4}], ids=repr)
def test_all_names_give_the_same_plug(value: Any, kwargs: dict[str, Any] | None) -> None:
    plug = resolve(value, kwargs)
    assert type(plug) is Scale
    expected = {"factor": 2.0, "depth": 1} | (kwargs or {})
    assert {"factor": plug.factor, "depth": plug.depth} == expected


def test_every_call_gives_a_new_plug_but_an_instance_is_taken_as_it_is() -> None:
    assert resolve("scale") is not resolve("scale")
    instance = Scale()
    assert resolve(instance) is instance
    assert resolve(instance, {}) is instance


def test_kwargs_are_not_changed() -> None:
    kwargs = {"factor": 3.0}
    resolve("scale", kwargs)
    assert kwargs == {"factor": 3.0}


@pytest.mark.parametrize(
    ("value", "kwargs", "parts"),
    [
        ("tom", None, ["weighter='tom'", "['broken', 'scale']", "package.module:Class"]),
        ("Scale", None, ["weighter='Scale'"]),
        ("broken", None, ["weighter='sb3_tom.no_such_module:Scale'", "no_such_module"]),
        (f"{__name__}:NoSuchClass", None, ["weighter=", "NoSuchClass"]),
        (f"{__name__}:", None, ["weighter="]),
        (":Scale", None, ["weighter=':Scale'"]),
        (".relative:Scale", None, ["weighter='.relative:Scale'"]),
        ("math:pi", None, ["weighter=3.14"]),
        ("__import__('os').system('false')", None, ["weighter="]),
        (Other, None, ["weighter=", "Other", "Kind"]),
        (Other(), None, ["weighter=Other", "Kind"]),
        (None, None, ["weighter=None"]),
        (3, None, ["weighter=3"]),
        (Scale(), {"factor": 3.0}, ["weighter_kwargs={'factor': 3.0}", "instance of Scale"]),
        ("scale", "factor=3", ["weighter_kwargs", "'factor=3'"]),
        ("scale", [("factor", 3)], ["weighter_kwargs"]),
        ("scale", {"faktor": 3.0}, ["weighter_kwargs={'faktor': 3.0}", "Scale", "faktor"]),
    ],
)
def test_one_error_that_names_the_argument(value: Any, kwargs: Any, parts: list[str]) -> None:
    with pytest.raises(ValueError) as error:
        resolve(value, kwargs)
    for part in parts:
        assert part in str(error.value)


def test_a_path_imports_a_users_own_module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "users_plugs.py").write_text(f"from {__name__} import Scale\n\nclass Mine(Scale):\n    pass\n")
    monkeypatch.syspath_prepend(tmp_path)
    assert "users_plugs" not in sys.modules
    plug = resolve("users_plugs:Mine", {"factor": 5.0})
    assert type(plug).__name__ == "Mine"
    assert plug.factor == 5.0


def test_optimizers_are_found_by_attribute() -> None:
    plug = Scale()
    assert plug.optimizers() == {"gain_optimizer": plug.gain_optimizer}


def test_a_path_may_name_an_instance_of_which_a_copy_is_taken() -> None:
    plugs = [resolve(f"{__name__}:NAMED") for _ in range(2)]
    assert [plug.factor for plug in plugs] == [7.0, 7.0]
    assert len({id(plug) for plug in (*plugs, NAMED)}) == 3
    with pytest.raises(ValueError, match=r"weighter_kwargs=.* is not allowed with an instance of Scale"):
        resolve(f"{__name__}:NAMED", {"factor": 1.0})


def a_function() -> None:
    """Of a user."""


@pytest.mark.parametrize("value", [a_function, f"{__name__}:a_function", lambda: None], ids=["function", "path", "lambda"])
def test_functions_are_taken_where_there_is_an_adapter(value: Any) -> None:
    assert type(resolve(value, axis=WITH_FUNCTIONS)) is Adapted
    with pytest.raises(ValueError, match=r"weighter_kwargs=\{'a': 1\} is not allowed with a function"):
        resolve(value, {"a": 1}, WITH_FUNCTIONS)
    with pytest.raises(ValueError, match=r"^weighter=.* is not allowed; allowed: one of .*, a subclass or instance of Kind"):
        resolve(value)


def test_a_class_that_needs_arguments_says_so() -> None:
    with pytest.raises(ValueError, match=r"^weighter=.*Adapted.* needs arguments .*function.*; allowed: weighter_kwargs"):
        resolve(Adapted)


class Speaks(Kind):
    """A contract with methods."""

    @abstractmethod
    def say(self, what: str, loud: bool = False) -> str:
        """Say something."""


class Says(Speaks):
    """Keeps to it."""

    def say(self, text: str, *more: Any) -> str:
        return text


class Forgetful(Says):
    """Has no modules."""

    def __init__(self) -> None:
        self.ready = True


class Mistaken(Says):
    """Fails by itself."""

    def __init__(self, words: int = 5) -> None:
        super().__init__()
        self.size = len(words)  # type: ignore[arg-type]


class Short(Says):
    """Takes too little."""

    def say(self) -> str:  # type: ignore[override]
        return ""


class Needs(Says):
    """Takes too much."""

    def say(self, what: str, loud: bool = False, *, to: str) -> str:  # type: ignore[override]
        return to


SPEAKS = Axis(Speaks, {}, None, "weighter")


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (Speaks, r"Speaks has no say; allowed: a class that implements what Speaks requires"),
        (Forgetful, r"Forgetful.__init__ does not call super\(\).__init__\(\)"),
        (Short, r"Short.say.* cannot be called as the agent does: too many positional.*; allowed: \(what, loud\)"),
        (Needs, r"Needs.say.* cannot be called as the agent does: missing a required.*: 'to'"),
    ],
)
def test_a_class_that_could_not_be_used_is_refused_at_once(value: type, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        resolve(value, axis=SPEAKS)
    assert isinstance(resolve(Says, axis=SPEAKS), Says)


def test_an_error_of_a_constructor_is_its_own() -> None:
    with pytest.raises(TypeError, match="has no len"):
        resolve(Mistaken, axis=SPEAKS)


def twice(method: Callable[..., str]) -> Callable[..., str]:
    @functools.wraps(method)
    def call(self: Any, what: str, loud: bool = False) -> str:
        return method(self, what, loud, "more")

    return call


class Decorated(Says):
    """Its decorator gives an argument."""

    @twice
    def say(self, what: str, loud: bool, more: str) -> str:  # type: ignore[override]
        return what


class Static(Says):
    """Needs no self."""

    @staticmethod
    def say(what: str, loud: bool = False) -> str:  # type: ignore[override]
        return what


class NoGrad(Says):
    """Of torch's decorator nothing else is known."""

    @th.no_grad()
    def say(self) -> str:  # type: ignore[override]
        return ""


class Converts(Says):
    """Fails by itself, and Python's words for it have \"argument\" in them."""

    def __init__(self) -> None:
        super().__init__()
        self.size = int([])  # type: ignore[call-overload]


def test_only_what_could_not_be_called_is_refused() -> None:
    assert isinstance(resolve(Decorated, axis=SPEAKS), Decorated) and isinstance(resolve(Static, axis=SPEAKS), Static)
    with pytest.raises(ValueError, match=r"NoGrad.say.* cannot be called as the agent does"):
        resolve(NoGrad, axis=SPEAKS)
    with pytest.raises(TypeError, match="argument must be"):
        resolve(Converts, axis=SPEAKS)
