"""
The whole gradient step as one CUDA graph: its hundred kernels are recorded once and then started by a single call, because on
a GPU an update of small networks is all starting of kernels.
"""

import warnings
from collections.abc import Callable

import torch as th

from sb3_tom.common.types import Batch
from sb3_tom.mbpo.plain_update import PlainSACUpdate
from sb3_tom.mbpo.sac_update import Losses

WARM_UP = 3
"""Steps before the recording, which let libraries and optimisers allocate what they need; they count as steps."""

Step = Callable[[], Losses]
Recorder = Callable[[Step], Step]
"""Turns a step into one that does the same to the same tensors, given that it has run before."""


def record_cuda_graph(step: Step) -> Step:
    """
    Record the kernels of a step. Recording runs none of them.

    :param step: reads and writes tensors that stay where they are
    :return: replays the kernels; what it returns is overwritten by the next replay
    """
    graph = th.cuda.CUDAGraph()
    with th.cuda.graph(graph):
        losses = step()

    def replay() -> Losses:
        graph.replay()
        return losses

    return replay


class GraphedUpdate:
    """
    A :class:`PlainSACUpdate` on a batch that is copied to a fixed place, recorded after a few steps.

    :param update: what to record
    :param record: how; if it fails, the steps stay what they are, with one warning
    """

    def __init__(self, update: PlainSACUpdate, record: Recorder = record_cuda_graph) -> None:
        self.update = update
        self._record = record
        self._inputs: list[th.Tensor] = []
        self._recorded: dict[bool, Step] = {}
        self._n_steps = 0

    def __call__(self, batch: Batch, noise: th.Tensor, update_target: bool) -> Losses:
        """See :meth:`SACUpdate.__call__`."""
        given = [*batch, noise]
        if [tensor.shape for tensor in given] != [tensor.shape for tensor in self._inputs]:
            self._inputs, self._recorded, self._n_steps = [th.empty_like(tensor) for tensor in given], {}, 0
        th._foreach_copy_(self._inputs, given)
        self._n_steps += 1
        if self._n_steps <= WARM_UP:
            return self._step(update_target)
        if update_target not in self._recorded:
            self._recorded[update_target] = self._recording(lambda: self._step(update_target))
        return Losses(*(value.clone() for value in self._recorded[update_target]()))

    def _step(self, update_target: bool) -> Losses:
        *fields, noise = self._inputs
        return self.update(Batch(*fields), noise, update_target)

    def _recording(self, step: Step) -> Step:
        try:
            return self._record(step)
        except RuntimeError as error:
            warnings.warn(f"no CUDA graph of the SAC update, which stays slower: {error}", stacklevel=2)
            self._record = lambda plain: plain
            return step


def graphed(
    update: PlainSACUpdate, known: GraphedUpdate | None, record: Recorder = record_cuda_graph
) -> PlainSACUpdate | GraphedUpdate:
    """
    The recorded form of an update, kept as long as it would be the same step on the same tensors. Loading a file, moving the
    policy or changing an option leads to a new recording.

    :param update: made anew for this call
    :param known: what this function returned for the call before
    :param record: see :class:`GraphedUpdate`
    :return: to be called instead; the update itself while its optimisers have not stepped yet, or do more than plain Adam
    """
    if not update.is_recordable:
        return update
    if isinstance(known, GraphedUpdate) and known.update.signature() == update.signature():
        known.update.refresh_learning_rates()
        return known
    return GraphedUpdate(update, record)
