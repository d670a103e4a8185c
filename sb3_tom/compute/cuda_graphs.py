"""
Training steps as CUDA graphs: the kernels of a step are recorded once and then started by a single call, because on a GPU a
step of small networks is all starting of kernels. On other devices a step stays what it is.
"""

import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from typing import Any

import torch as th

from sb3_tom.compute.optimizers import counters_to_device, rate_on_device

WARM_UP = 3
"""Steps before the recording, which let libraries and optimisers allocate what they need; they count as steps."""

Results = Sequence[th.Tensor]
Step = Callable[..., Results]
Recorder = Callable[[Callable[[], Results], th.device], Callable[[], Results]]
"""Turns a step on a device into one that does the same to the same tensors, given that it has run before."""

_failures: list[str] = []
"""Why a recording failed: after that PyTorch's allocator may be left in a state in which no other one can begin."""


def records(device: th.device) -> bool:
    """
    Whether steps are recorded.

    :param device: where the step runs
    """
    return device.type == "cuda"


@cache
def _stream_beside(device: th.device) -> th.cuda.Stream:
    """The one stream of a device for warming up and recording: each stream has memory of its own."""
    return th.cuda.Stream(device)


def record_cuda_graph(step: Callable[[], Results], device: th.device) -> Callable[[], Results]:
    """
    Record the kernels of a step. Recording runs none of them.

    :param step: reads and writes tensors that stay where they are
    :param device: where they are, with its number
    :return: replays the kernels; what it returns is overwritten by the next replay
    :raises RuntimeError: if the step, or an earlier one in this process, could not be recorded
    """
    if _failures:
        raise RuntimeError(f"an earlier recording failed: {_failures[0]}")
    graph = th.cuda.CUDAGraph()
    here = th.cuda.current_stream(device)
    try:
        # the outer stream comes back also if the recording cannot be ended
        with th.cuda.device(device), th.cuda.stream(here), th.cuda.graph(graph, stream=_stream_beside(device)):
            results = step()
    except RuntimeError as error:
        _failures.append(str(error.__context__ or error))
        raise

    def replay() -> Results:
        graph.replay()
        return results

    return replay


class RecordedStep:
    """
    A step on inputs that are copied to a fixed place, recorded after a few calls. It has to start the same kernels on the same
    tensors whatever the numbers are: no host reads, and no random numbers of a generator of its own. Inputs of other shapes
    lead to a new recording.

    :param step: takes tensors and returns tensors
    :param title: what it is, for a warning
    :param record: how; if it fails, the steps stay what they are, with a warning. None: :func:`record_cuda_graph`
    """

    def __init__(self, step: Step, title: str, record: Recorder | None = None) -> None:
        self._step = step
        self._title = title
        self._record = record or record_cuda_graph
        self._inputs: list[th.Tensor] = []
        self._recorded: Callable[[], Results] | None = None
        self._n_calls = 0

    def __call__(self, *inputs: th.Tensor) -> Results:
        """One step; what it returns stays as it is."""
        if [_kind(tensor) for tensor in inputs] != [_kind(tensor) for tensor in self._inputs]:
            self._inputs, self._recorded, self._n_calls = [th.empty_like(tensor) for tensor in inputs], None, 0
        th._foreach_copy_(self._inputs, inputs)
        self._n_calls += 1
        if self._n_calls <= WARM_UP:
            return _on_a_stream_of_its_own(self._run, inputs[0].device)
        if self._recorded is None:
            self._recorded = self._recording()
        return [result.clone() for result in self._recorded()]

    def _run(self) -> Results:
        return self._step(*self._inputs)

    def _recording(self) -> Callable[[], Results]:
        try:
            return self._record(self._run, self._inputs[0].device)
        except RuntimeError as error:
            warnings.warn(f"no CUDA graph of the {self._title}, which stays slower: {error}", stacklevel=3)
            return self._run


def _kind(tensor: th.Tensor) -> tuple[object, ...]:
    return tensor.shape, tensor.dtype, tensor.device


def _on_a_stream_of_its_own(run: Callable[[], Results], device: th.device) -> Results:
    """As PyTorch asks for the steps before a recording, so that autograd forgets the stream that other kernels run on."""
    if device.type != "cuda":
        return run()
    here, beside = th.cuda.current_stream(device), _stream_beside(device)
    beside.wait_stream(here)
    with th.cuda.stream(beside):
        results = run()
    here.wait_stream(beside)
    return results


@contextmanager
def descent(
    optimizer: th.optim.Optimizer, loss: Callable[..., th.Tensor], title: str, device: th.device
) -> Iterator[Callable[..., th.Tensor]]:
    """
    Gradient steps on a loss of minibatches; change the learning rate by :func:`set_learning_rate` only.

    :param optimizer: steps the parameters
    :param loss: of tensors, subject to what :class:`RecordedStep` asks for
    :param title: what is fitted, for a warning
    :param device: of the parameters
    :return: makes a step on tensors and returns their loss
    """

    def step(*inputs: th.Tensor) -> Results:
        value = loss(*inputs)
        optimizer.zero_grad(set_to_none=True)
        value.backward()
        optimizer.step()
        return [value.detach()]

    with recording(step, optimizer, title, device) as recorded:
        yield lambda *inputs: recorded(*inputs)[0]


@contextmanager
def recording(step: Step, optimizer: th.optim.Optimizer, title: str, device: th.device) -> Iterator[Step]:
    """
    A step by an optimiser, to be recorded where that is worth it.

    :param step: see :class:`RecordedStep`
    :param optimizer: an Adam that the step uses
    :param title: what it is, for a warning
    :param device: of the optimiser's parameters
    :return: does what ``step`` does
    """
    if not records(device):
        yield step
        return
    groups: list[dict[str, Any]] = optimizer.param_groups
    kept = [(group["lr"], group["capturable"]) for group in groups]
    counters_to_device(optimizer)
    for group in groups:
        group["lr"], group["capturable"] = rate_on_device(group["lr"], device), True
    try:
        yield RecordedStep(step, title)
    finally:
        for group, (rate, capturable) in zip(groups, kept, strict=True):
            group["lr"], group["capturable"] = rate, capturable
