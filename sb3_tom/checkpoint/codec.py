"""From nested Python values to a JSON tree with arrays apart, and back. Nothing in it can name code."""

from collections import deque
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch as th

KIND = "!"
"""The key that marks a JSON object as something else than a dictionary with strings as keys."""

_NUMERIC = "biufc"
"""Kinds of numpy dtypes that are numbers."""


class Encoder:
    """
    Encodes None, booleans, numbers, strings, lists, tuples, dictionaries, deques, numpy arrays and scalars, and tensors.

    :ivar arrays: the arrays of all values encoded so far, by a unique name that says where they were found
    """

    def __init__(self) -> None:
        self.arrays: dict[str, np.ndarray] = {}

    def __call__(self, value: Any, path: str = "") -> Any:
        """
        The JSON value of ``value``, its arrays put aside.

        :param value: what to encode; arrays are referred to, not copied
        :param path: where it belongs, for names of arrays and for errors
        :return: what ``json`` can write
        :raises TypeError: naming the path of a value of another type
        """
        if value is None or type(value) in (bool, int, float, str):
            return value
        if isinstance(value, Mapping):
            return self._mapping(value, path)
        if isinstance(value, list | tuple | deque):
            return self._sequence(value, path)
        if isinstance(value, np.ndarray | np.generic) and value.dtype.kind in _NUMERIC:
            return self._numbers(value, path)
        if isinstance(value, th.Tensor):
            return self._tensor(value, path)
        raise TypeError(f"{path} is {type(value).__module__}.{type(value).__qualname__}, which a checkpoint cannot hold")

    def _mapping(self, value: Mapping[Any, Any], path: str) -> Any:
        if all(type(key) is str for key in value) and KIND not in value:
            return {key: self(entry, f"{path}/{key}") for key, entry in value.items()}
        items = [[self(key, path), self(entry, f"{path}/{key}")] for key, entry in value.items()]
        return {KIND: "dict", "items": items}

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


def is_plain(value: Any) -> bool:
    """
    Whether an :class:`Encoder` can hold a value.

    :param value: anything
    """
    try:
        Encoder()(value)
    except (TypeError, RecursionError):
        return False
    return True


def decode(tree: Any, arrays: Mapping[str, np.ndarray]) -> Any:
    """
    The inverse of :class:`Encoder`. Tensors come to the CPU.

    :param tree: what the encoder returned, also after a way through JSON
    :param arrays: its arrays
    :raises KeyError: if an array is missing or a kind is unknown
    """
    if isinstance(tree, list):
        return [decode(entry, arrays) for entry in tree]
    if not isinstance(tree, dict):
        return tree
    if KIND not in tree:
        return {key: decode(entry, arrays) for key, entry in tree.items()}
    return _KINDS[tree[KIND]](tree, arrays)


def _decode_tensor(tree: Any, arrays: Mapping[str, np.ndarray]) -> th.Tensor:
    numbers = th.from_numpy(arrays[tree["name"]])
    return numbers.view(th.bfloat16) if tree["dtype"] == "bfloat16" else numbers


_KINDS: dict[str, Any] = {
    "dict": lambda tree, arrays: {decode(key, arrays): decode(entry, arrays) for key, entry in tree["items"]},
    "tuple": lambda tree, arrays: tuple(decode(entry, arrays) for entry in tree["items"]),
    "deque": lambda tree, arrays: deque((decode(entry, arrays) for entry in tree["items"]), maxlen=tree["maxlen"]),
    "scalar": lambda tree, arrays: np.dtype(tree["dtype"]).type(tree["value"]),
    "array": lambda tree, arrays: arrays[tree["name"]],
    "tensor": _decode_tensor,
}
