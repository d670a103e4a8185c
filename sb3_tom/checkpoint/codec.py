"""Encodes nested Python values as a JSON tree and separate arrays, and decodes them. Nothing in it can name code."""

import re
import reprlib
from collections import Counter, defaultdict, deque
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch as th

State = dict[str, Any]
"""Plain values: None, booleans, numbers, strings, arrays, and lists, tuples and dictionaries of these."""

KIND = "!"
"""Key that marks a JSON object which does not stand for a dictionary with string keys."""

NUMERIC = "biufc"
"""Kinds of numpy dtypes that are numbers."""

_SHORT = reprlib.Repr()
_SHORT.maxstring = _SHORT.maxother = _SHORT.maxlong = 200
_SHORT.maxlist = _SHORT.maxtuple = _SHORT.maxdict = 20

_FACTORIES: dict[str, Callable[[], Any] | None] = {
    "None": None,
    **{factory.__name__: factory for factory in (bool, int, float, str, list, dict, tuple, deque)},
}
"""Factories that a ``defaultdict`` may have, by their names in a file."""

_SCALAR = re.compile(r"[<>|=][biuf]\d{1,2}")
"""Names of the dtypes of numpy scalars that an encoder writes into the tree."""


class Encoder:
    """
    Encodes None, booleans, numbers, strings, lists, tuples, dictionaries, deques, numpy arrays and scalars, and tensors.
    ``Counter`` keeps its class, and so does ``defaultdict`` if its factory is one of Python's own types. Other subclasses of
    list, tuple, dict and deque become these.

    :ivar arrays: the arrays of all values encoded so far, by a unique name made of their path
    """

    def __init__(self) -> None:
        self.arrays: dict[str, np.ndarray] = {}

    def __call__(self, value: Any, path: str = "") -> Any:
        """
        Encode a value; its arrays go to :attr:`arrays`.

        :param value: the value; arrays are not copied
        :param path: of the value, for names of arrays and for errors
        :return: a JSON-able value
        :raises TypeError: naming the path of a value of another type
        """
        if value is None or type(value) in (bool, int, float, str):
            return value
        if isinstance(value, Mapping):
            return self._mapping(value, path)
        if isinstance(value, list | tuple | deque):
            return self._sequence(value, path)
        if isinstance(value, np.ndarray | np.generic) and value.dtype.kind in NUMERIC:
            return self._numbers(value, path)
        if isinstance(value, th.Tensor):
            return self._tensor(value, path)
        raise TypeError(f"{path} is {type(value).__module__}.{type(value).__qualname__}, which a checkpoint cannot hold")

    def _mapping(self, value: Mapping[Any, Any], path: str) -> Any:
        if type(value) not in _MAPPINGS and all(type(key) is str for key in value) and KIND not in value:
            return {key: self(entry, f"{path}/{key}") for key, entry in value.items()}
        items = [[self(key, path), self(entry, f"{path}/{key}")] for key, entry in value.items()]
        if not isinstance(value, defaultdict):
            return {KIND: _MAPPINGS.get(type(value), "dict"), "items": items}
        names = [name for name, factory in _FACTORIES.items() if factory is value.default_factory]
        return {KIND: "defaultdict", "factory": names[0], "items": items} if names else {KIND: "dict", "items": items}

    def _sequence(self, value: Any, path: str) -> Any:
        items = [self(entry, f"{path}/{index}") for index, entry in enumerate(value)]
        if isinstance(value, deque):
            return {KIND: "deque", "items": items, "maxlen": value.maxlen}
        return items if isinstance(value, list) else {KIND: "tuple", "items": items}

    def _numbers(self, value: Any, path: str) -> Any:
        if isinstance(value, np.generic) and value.dtype.kind != "c":
            return {KIND: "scalar", "dtype": value.dtype.str, "value": value.item()}
        return {KIND: "array", "name": self._keep(np.asarray(value), path)}

    def _tensor(self, value: th.Tensor, path: str) -> Any:
        dtype = str(value.dtype).removeprefix("torch.")
        value = value.detach().cpu().resolve_conj().resolve_neg()
        numbers = value.view(th.int16) if value.dtype == th.bfloat16 else value
        return {KIND: "tensor", "name": self._keep(numbers.numpy(), path), "dtype": dtype}

    def _keep(self, array: np.ndarray, path: str) -> str:
        safe = "".join(character if character.isalnum() or character in "/._-" else "_" for character in path).strip("/")
        name, number = safe or "value", 1
        while name in self.arrays:
            name, number = f"{safe}-{number}", number + 1
        self.arrays[name] = array
        return name


def shown(value: Any) -> str:
    """
    Shortened representation of a file's value, for messages.

    :param value: plain
    """
    return _SHORT.repr(value)


def is_plain(value: Any) -> bool:
    """
    Whether :class:`Encoder` supports a value.

    :param value: anything
    """
    try:
        Encoder()(value)
    except (TypeError, RecursionError):
        return False
    return True


def decode(tree: Any, take: Callable[[str], np.ndarray]) -> Any:
    """
    The inverse of :class:`Encoder`. Tensors are on the CPU.

    :param tree: result of the encoder, or its JSON read back
    :param take: returns an array by name; called once for each
    :raises KeyError: if an array is missing or a kind is unknown
    :raises ValueError: if a scalar has a type that an encoder does not write
    """
    if isinstance(tree, list):
        return [decode(entry, take) for entry in tree]
    if not isinstance(tree, dict):
        return tree
    if KIND not in tree:
        return {key: decode(entry, take) for key, entry in tree.items()}
    return _KINDS[tree[KIND]](tree, take)


def _decode_tensor(tree: Any, take: Callable[[str], np.ndarray]) -> th.Tensor:
    numbers = th.from_numpy(take(tree["name"]))
    return numbers.view(th.bfloat16) if tree["dtype"] == "bfloat16" else numbers


def _decode_scalar(tree: Any, take: Callable[[str], np.ndarray]) -> Any:
    """Accepts numbers only: other numpy scalars hold objects, or take as much memory as the name of their dtype demands."""
    dtype, value = tree["dtype"], tree["value"]
    if not isinstance(dtype, str) or not _SCALAR.fullmatch(dtype) or type(value) not in (bool, int, float):
        raise ValueError(f"{shown(value)} of the kind {shown(dtype)} is no number")
    return np.dtype(dtype).type(value)


def _decode_items(tree: Any, take: Callable[[str], np.ndarray]) -> dict[Any, Any]:
    return {decode(key, take): decode(entry, take) for key, entry in tree["items"]}


_MAPPINGS: dict[type, str] = {Counter: "Counter", defaultdict: "defaultdict"}
"""Subclasses of dict that keep their class, with their names in a file."""

_KINDS: dict[str, Any] = {
    "dict": _decode_items,
    "Counter": lambda tree, take: Counter(_decode_items(tree, take)),
    "defaultdict": lambda tree, take: defaultdict(_FACTORIES[tree["factory"]], _decode_items(tree, take)),
    "tuple": lambda tree, take: tuple(decode(entry, take) for entry in tree["items"]),
    "deque": lambda tree, take: deque((decode(entry, take) for entry in tree["items"]), maxlen=tree["maxlen"]),
    "scalar": _decode_scalar,
    "array": lambda tree, take: take(tree["name"]),
    "tensor": _decode_tensor,
}
