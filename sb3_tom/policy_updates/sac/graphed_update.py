"""The whole gradient step of SAC as one CUDA graph."""

from functools import partial

import torch as th

from sb3_tom.compute.cuda_graphs import RecordedStep, Recorder
from sb3_tom.contracts.types import Batch
from sb3_tom.policy_updates.sac.handwritten_update import HandwrittenSACUpdate
from sb3_tom.policy_updates.sac.sac_update import Losses


class GraphedUpdate:
    """
    A :class:`HandwrittenSACUpdate` that is recorded, once with a step of the targets and once without.

    :param update: the update to record
    :param record: see :class:`~sb3_tom.compute.cuda_graphs.RecordedStep`
    """

    def __init__(self, update: HandwrittenSACUpdate, record: Recorder | None = None) -> None:
        self.update = update
        self._steps = {
            update_target: RecordedStep(partial(_step, update, update_target), "SAC update", record)
            for update_target in (False, True)
        }

    def __call__(self, batch: Batch, noise: th.Tensor, update_target: bool) -> Losses:
        """See :meth:`SACUpdate.__call__`."""
        fields = (field for field in batch if field is not None)
        return Losses(*self._steps[update_target](noise, *fields))


def _step(update: HandwrittenSACUpdate, update_target: bool, *inputs: th.Tensor) -> Losses:
    noise, *fields = inputs
    return update(Batch(*fields), noise, update_target)


def recorded_update(
    update: HandwrittenSACUpdate, known: GraphedUpdate | None, record: Recorder | None = None
) -> GraphedUpdate | None:
    """
    The recorded form of an update, reused while it is the same step on the same tensors. Loading a file, moving the policy or
    changing an option leads to a new recording.

    :param update: made for this call
    :param known: the last result that was not None
    :param record: see :class:`GraphedUpdate`
    :return: the recorded update; None before its optimisers have stepped, or if they are not plain Adams
    """
    if not update.is_recordable:
        return None
    if known is not None and known.update.signature() == update.signature():
        known.update.take_over()
        return known
    return GraphedUpdate(update, record)
