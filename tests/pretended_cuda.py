"""
CUDA on a machine that has none: tensors of the CPU, some of which are said to lie on a GPU. They compute as ever, but their
device is "cuda:0", and an operation that mixes them with others is an error, as it would be there. Graphs are not recorded.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from unittest import mock

import torch as th
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

CUDA = th.device("cuda:0")
COPIES = ("aten::copy_", "aten::_to_copy")
"""Operations that may go from one device to the other."""
FROM_THE_HOST = (th.tensor, th.as_tensor, th.from_numpy)


class Labels:
    """Which storages are said to lie on the GPU. Each new one is put here, since it may have the address of an old one."""

    def __init__(self) -> None:
        self._there: dict[int, bool] = {}

    def __contains__(self, tensor: th.Tensor) -> bool:
        return self._there.get(tensor.untyped_storage()._cdata, False)

    def put(self, values: Any, there: bool) -> None:
        for tensor in tree_leaves(values):
            if isinstance(tensor, th.Tensor):
                self._there[tensor.untyped_storage()._cdata] = there


def on_cuda(device: Any) -> bool:
    return device is not None and th.device(device).type == "cuda"


class _Operations(TorchDispatchMode):
    """Sees every operation, autograd's too: what comes out of tensors on the GPU lies there."""

    def __init__(self, labels: Labels) -> None:
        super().__init__()
        self._labels = labels

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = function.name().split(".")[0]
        tensors = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, th.Tensor)]
        there = [tensor for tensor in tensors if tensor in self._labels]
        here = [tensor for tensor in tensors if tensor not in self._labels and tensor.dim() > 0]  # numbers go anywhere,
        if name.startswith("aten::_fused_adam"):  # but the kernels of Adam read their counters where they are
            here += [counter for counter in args[5] if counter not in self._labels]
        if there and here and name not in COPIES:
            shapes = [[tuple(tensor.shape) for tensor in group] for group in (here, there)]
            raise RuntimeError(f"{name} mixes tensors of the CPU {shapes[0]} and of CUDA {shapes[1]}")
        results = function(*args, **(kwargs or {}))
        if not any(value.alias_info is not None for value in function._schema.returns):
            self._labels.put(results, bool(there))
        return results


class _Calls(TorchFunctionMode):
    """Sees what Python asks for: devices, moves between them, and generators."""

    def __init__(self, labels: Labels) -> None:
        super().__init__()
        self._labels = labels

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        owner = getattr(function, "__self__", None)
        if owner is th.Tensor.device:
            return CUDA if args[0] in self._labels else function(*args)
        if owner is th.Tensor.is_cuda:
            return args[0] in self._labels
        if function is th.Tensor.numpy and args[0] in self._labels:
            raise RuntimeError("numpy() of a tensor of CUDA")
        if function in (th.Tensor.cpu, th.Tensor.cuda):
            return self._move(args[0], "cpu" if function is th.Tensor.cpu else CUDA, None)
        if function is th.Tensor.to:
            return self._to(*args, **kwargs)
        return self._create(function, args, kwargs)

    def _to(self, tensor: th.Tensor, *wanted: Any, **kwargs: Any) -> th.Tensor:
        device, dtype = kwargs.get("device"), kwargs.get("dtype")
        for value in wanted:
            if isinstance(value, th.Tensor):
                device, dtype = CUDA if value in self._labels else "cpu", value.dtype
            elif isinstance(value, str | th.device):
                device = value
            elif isinstance(value, th.dtype):
                dtype = value
        return self._move(tensor, device, dtype)

    def _move(self, tensor: th.Tensor, device: Any, dtype: th.dtype | None) -> th.Tensor:
        there = tensor in self._labels if device is None else on_cuda(device)
        moved = tensor if dtype is None else tensor.type(dtype)
        if (moved in self._labels) != there:
            moved = moved.clone()
            self._labels.put(moved, there)
        return moved

    def _create(self, function: Any, args: Any, kwargs: dict[str, Any]) -> Any:
        given = kwargs.pop("device", None)
        there = any(isinstance(arg, th.Tensor) and arg in self._labels for arg in args) if given is None else on_cuda(given)
        generator = kwargs.get("generator")
        if generator is not None and isinstance(generator, _CudaGenerator) != there:
            raise RuntimeError(f"{function.__name__} on {'CUDA' if there else 'the CPU'} draws from a generator of the other")
        if given is None and function not in FROM_THE_HOST:
            return function(*args, **kwargs)
        results = function(*args, **kwargs, **({} if given is None else {"device": "cpu"}))
        self._labels.put(results, there)
        return results


class _CudaGenerator(th.Generator):
    device = CUDA

    def __new__(cls) -> "_CudaGenerator":
        return super().__new__(cls, "cpu")


class _Generator:
    """In the place of ``torch.Generator``."""

    def __new__(cls, device: Any = "cpu") -> Any:
        return _CudaGenerator() if on_cuda(device) else _GENERATOR(device)


_GENERATOR, _LOAD = th.Generator, th.load


@contextmanager
def pretended_cuda() -> Iterator[Labels]:
    """Within, PyTorch has a CUDA device."""
    labels = Labels()

    def load(file: Any, map_location: Any = None, **kwargs: Any) -> Any:
        loaded = _LOAD(file, map_location="cpu", **kwargs)
        labels.put(loaded, on_cuda(map_location))
        return loaded

    replaced = {
        "torch.load": load,
        "torch.Generator": _Generator,
        "torch.cuda.is_available": lambda: True,
        "torch.cuda.get_rng_state_all": lambda: [],
        "torch.cuda.set_rng_state_all": lambda states: None,
        "torch.cuda.manual_seed": lambda seed: None,
        "torch.cuda.manual_seed_all": lambda seed: None,
        "sb3_tom.compute.cuda_graphs.record_cuda_graph": lambda step, device, generator: step,
        "sb3_tom.compute.cuda_graphs._on_a_stream_of_its_own": lambda run, device: run(),
    }
    patches = [mock.patch(name, value) for name, value in replaced.items()]
    try:
        for patch in patches:
            patch.start()
        with _Calls(labels), _Operations(labels):
            yield labels
    finally:
        mock.patch.stopall()
