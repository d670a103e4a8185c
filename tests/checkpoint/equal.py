"""Exact equality of nested values: types, bits of numbers, shapes."""

import struct
from collections import Counter, defaultdict, deque
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch as th


def assert_equal(left: Any, right: Any, path: str = "") -> None:
    """Fail with the path of the first difference; a NaN equals a NaN, 0.0 does not equal -0.0."""
    if isinstance(left, Mapping) and isinstance(right, Mapping):
        assert type(left) is type(right) or not isinstance(left, Counter | defaultdict), path
        assert getattr(left, "default_factory", None) is getattr(right, "default_factory", None), path
        assert list(left) == list(right) or set(left) == set(right), path
        for key in left:
            assert_equal(left[key], right[key], f"{path}/{key}")
    elif isinstance(left, th.Tensor) and isinstance(right, th.Tensor):
        assert (left.dtype, left.shape) == (right.dtype, right.shape), path
        one, other = (value.detach().cpu().contiguous().reshape(-1).view(th.uint8) for value in (left, right))
        assert th.equal(one, other), f"{path}: {left} {right}"
    elif isinstance(left, np.ndarray | np.generic):
        assert (type(left), left.dtype, left.shape) == (type(right), right.dtype, right.shape), path
        assert left.tobytes() == right.tobytes(), f"{path}: {left} {right}"
    elif isinstance(left, list | tuple | deque):
        assert type(left) is type(right), path
        assert len(left) == len(right), path
        for index, (one, other) in enumerate(zip(left, right, strict=True)):
            assert_equal(one, other, f"{path}/{index}")
    else:
        assert type(left) is type(right), path
        same = struct.pack("d", left) == struct.pack("d", right) if isinstance(left, float) else left == right
        assert same or (left != left and right != right), f"{path}: {left!r} {right!r}"
