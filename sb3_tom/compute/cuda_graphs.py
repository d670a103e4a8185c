"""
Training steps as CUDA graphs: the kernels of a step are recorded once and then launched by a single call, because on a GPU a
step of small networks is dominated by kernel launches. On other devices steps are not changed.
"""

import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from typing import Any

import torch as th

from sb3_tom.compute.optimizers import counters_to_device, rate_on_device

WARM_UP = 3
"""Steps before the recording, in which libraries and optimisers allocate memory; they are steps like others."""

GENERATORS_SINCE = "2.13"
"""Some versions before this cannot draw from a generator after a failed recording (read in their source, not tried)."""

Results = Sequence[th.Tensor]
Step = Callable[..., Results]
Recorder = Callable[[Callable[[], Results], th.device, th.Generator | None], Callable[[], Results]]
"""
Turns a step that has run before into one with the same effect on the same tensors. The generator, if there is one, is where
the step's random numbers come from: each run draws new ones.
"""

_failures: list[str] = []
"""Errors of failed recordings: after one, PyTorch's allocator may be in a state in which no other can begin."""


def uses_cuda_graphs(device: th.device) -> bool:
    """
    Whether steps on a device are recorded.

    :param device: of the step
    """
    return device.type == "cuda"


@cache
def _stream_beside(device: th.device) -> th.cuda.Stream:
    """The one stream of a device for warm-up and recording: each stream would have memory of its own."""
    return th.cuda.Stream(device)


def record_cuda_graph(
    step: Callable[[], Results], device: th.device, generator: th.Generator | None = None
) -> Callable[[], Results]:
    """
    Record the kernels of a step. Recording runs none of them.

    :param step: reads and writes tensors whose addresses do not change
    :param device: of the tensors, with its index
    :param generator: source of the step's random numbers, on the device
    :return: replays the kernels; the next replay overwrites its results
    :raises RuntimeError: if the step, or an earlier one in this process, could not be recorded
    """
    if _failures:
        raise RuntimeError(f"an earlier recording failed: {_failures[0]}")
    if generator is not None and th.__version__ < GENERATORS_SINCE:
        raise RuntimeError(f"graphs with random numbers need PyTorch {GENERATORS_SINCE} or newer")
    with th.cuda.device(device):  # where the generator's state is to be
        graph = th.cuda.CUDAGraph()
        if generator is not None:
            graph.register_generator_state(generator)
    here = th.cuda.current_stream(device)
    try:
        # Restores the outer stream also if the recording cannot be ended
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
    A step that is recorded after a few calls; its inputs are copied to fixed tensors. It has to launch the same kernels on the
    same tensors whatever the values: no host reads, and random numbers from one generator only. Inputs of other shapes lead to
    a new recording.

    :param step: takes tensors and returns tensors
    :param title: of the step, for a warning
    :param record: records the step; if it fails, the step runs unrecorded, with a warning. None: :func:`record_cuda_graph`
    :param generator: source of the step's random numbers; None: it draws none
    """

    def __init__(self, step: Step, title: str, record: Recorder | None = None, generator: th.Generator | None = None) -> None:
        self._step = step
        self._title = title
        self._record = record or record_cuda_graph
        self._generator = generator
        self._inputs: list[th.Tensor] = []
        self._recorded: Callable[[], Results] | None = None
        self._n_calls = 0

    def __call__(self, *inputs: th.Tensor) -> Results:
        """Make one step; later steps do not overwrite its results."""
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
            return self._record(self._run, self._inputs[0].device, self._generator)
        except RuntimeError as error:
            warnings.warn(f"no CUDA graph of the {self._title}, which stays slower: {error}", stacklevel=3)
            return self._run


def _kind(tensor: th.Tensor) -> tuple[object, ...]:
    return tensor.shape, tensor.dtype, tensor.device


def _on_a_stream_of_its_own(run: Callable[[], Results], device: th.device) -> Results:
    """Run on a side stream, as PyTorch requires before a recording, so that autograd does not use the main stream."""
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
    Gradient steps on a loss of minibatches; change the learning rate only by
    :func:`sb3_tom.compute.optimizers.set_learning_rate`.

    :param optimizer: of the parameters
    :param loss: function of tensors, subject to the conditions of :class:`RecordedStep`
    :param title: of the fit, for a warning
    :param device: of the parameters
    :return: makes a step on tensors and returns their loss
    """

    def step(*inputs: th.Tensor) -> Results:
        value = loss(*inputs)
        optimizer.zero_grad()
        value.backward()
        optimizer.step()
        return [value.detach()]

    with recording(step, optimizer, title, device) as recorded:
        yield lambda *inputs: recorded(*inputs)[0]


@contextmanager
def recording(step: Step, optimizer: th.optim.Optimizer, title: str, device: th.device) -> Iterator[Step]:
    """
    An optimiser's step, recorded on CUDA and unchanged on other devices.

    :param step: see :class:`RecordedStep`
    :param optimizer: an Adam that the step uses
    :param title: of the step, for a warning
    :param device: of the optimiser's parameters
    :return: the same step
    """
    if not uses_cuda_graphs(device):
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
