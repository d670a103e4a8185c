"""What a CUDA graph does, on any machine: a step's operations are written down once and repeated on the same tensors."""

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch as th
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from sb3_tom.compute import cuda_graphs
from sb3_tom.compute.cuda_graphs import Results
from sb3_tom.policy_updates import direct_adam
from sb3_tom.policy_updates.double_horizon import update as double_horizon_update
from sb3_tom.policy_updates.sac import update as sac_update

HOST_OPERATIONS = {
    "aten::_local_scalar_dense": "a host read",
    "aten::equal": "a host read",
    "aten::nonzero": "a shape that depends on numbers",
    "aten::masked_select": "a shape that depends on numbers",
    "aten::lift_fresh": "a tensor of host numbers",
}


class Tape(TorchDispatchMode):
    """
    A :data:`~sb3_tom.compute.cuda_graphs.Recorder`. What Python decided while it recorded stays decided, as in a CUDA graph,
    and what could not be recorded there is refused here.
    """

    def __init__(self) -> None:
        super().__init__()
        self.recordings = 0
        self._calls: list[tuple[Any, tuple[Any, ...], dict[str, Any], Any]] = []
        self._generator: th.Generator | None = None

    def __call__(
        self, step: Callable[[], Results], device: th.device, generator: th.Generator | None = None
    ) -> Callable[[], Results]:
        self.recordings += 1
        self._calls, self._generator = [], generator
        with self:
            results = step()
        calls, has_run = self._calls, True

        def replay() -> Results:
            nonlocal has_run
            if not has_run:
                repeat(calls)
            has_run = False  # the recording was the first run here
            return results

        return replay

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        name = function.name().split(".")[0]
        if name in HOST_OPERATIONS:
            raise RuntimeError(f"{name} is {HOST_OPERATIONS[name]}")
        leaves = tree_leaves((args, kwargs))
        generators = [leaf._cdata for leaf in leaves if isinstance(leaf, th.Generator)]
        if any(self._generator is None or one != self._generator._cdata for one in generators):
            raise RuntimeError(f"{name} draws from a generator that no graph knows")
        if name.startswith("aten::index") and any(isinstance(leaf, th.Tensor) and leaf.dtype == th.bool for leaf in leaves):
            raise RuntimeError(f"{name} by a mask has a shape that depends on numbers")
        results = function(*args, **kwargs)
        self._calls.append((function, args, kwargs, results))
        return results


@contextmanager
def taped(monkeypatch: pytest.MonkeyPatch) -> Iterator[Tape]:
    """Steps are recorded on a tape instead of by CUDA; a step that cannot be recorded is an error."""
    tape = Tape()
    for module in (cuda_graphs, direct_adam, sac_update, double_horizon_update):
        monkeypatch.setattr(module, "uses_cuda_graphs", lambda device: True)
    monkeypatch.setattr(cuda_graphs, "record_cuda_graph", tape)
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message="no CUDA graph")
        yield tape
    monkeypatch.undo()


@th.no_grad()
def repeat(calls: list[tuple[Any, tuple[Any, ...], dict[str, Any], Any]]) -> None:
    """Run operations again; what they return is written where it was the first time."""
    for function, args, kwargs, results in calls:
        returned = function._schema.returns
        aliased = [value.alias_info for value in returned if value.alias_info is not None]
        if aliased and not any(alias.is_write for alias in aliased):
            continue  # a view, still the same
        again = function(*args, **kwargs)
        if not aliased:
            for place, value in zip(tree_leaves(results), tree_leaves(again), strict=True):
                if isinstance(place, th.Tensor):
                    place.copy_(value)
