"""The whole gradient step of the double horizon, path and backward passes included, as one CUDA graph."""

from collections.abc import Iterator
from dataclasses import astuple
from functools import partial
from typing import Any

import torch as th
from torch import nn

from sb3_tom.checks.untouched import module_is_untouched, no_mode_is_on, tensors_are_untouched
from sb3_tom.compute.cuda_graphs import RecordedStep, Recorder, Results
from sb3_tom.contracts.types import Batch
from sb3_tom.policy_updates.double_horizon.gradient_step import GradientStep, Scalars

PLAIN = (bool, int, float, str, type(None))


class GraphedStep:
    """
    A :class:`GradientStep` that is recorded, once with a step of the targets and once without.

    :param step: the step to record; may be replaced by one with the same signature
    :param record: see :class:`~sb3_tom.compute.cuda_graphs.RecordedStep`
    """

    def __init__(self, step: GradientStep, record: Recorder | None = None) -> None:
        self.step = step
        self.signature = signature(step)
        self._names: tuple[str, ...] = ()
        title, generator = "double horizon's gradient step", step.context.generator
        self._steps = {
            move_targets: RecordedStep(partial(self._run, move_targets), title, record, generator)
            for move_targets in (False, True)
        }

    def __call__(self, observations: th.Tensor, real: Batch | None, move_targets: bool) -> Scalars:
        """See :meth:`GradientStep.__call__`."""
        fields = () if real is None else (field for field in real if field is not None)
        (figures,) = self._steps[move_targets](observations, *fields)
        return dict(zip(self._names, figures.unbind(), strict=True))

    def _run(self, move_targets: bool, observations: th.Tensor, *fields: th.Tensor) -> Results:
        figures = self.step(observations, Batch(*fields) if fields else None, move_targets)
        self._names = tuple(figures)
        return [th.stack([figure.reshape(()) for figure in figures.values()])]


def recorded_step(step: GradientStep, known: GraphedStep | None, record: Recorder | None = None) -> GradientStep | GraphedStep:
    """
    The recorded form of a step, reused while it is the same step on the same tensors.

    :param step: made for this call
    :param known: result of the previous call
    :param record: see :class:`GraphedStep`
    :return: the recorded step; ``step`` itself if it cannot be recorded, or before its optimisers have stepped
    """
    if not is_recordable(step):
        return step
    if known is None or known.signature != signature(step):
        return GraphedStep(step, record)
    # The steppers that are recorded stay: the graph reads their learning rates
    step.steppers = known.step.steppers
    step.steppers.refresh_learning_rates()
    known.step = step
    return known


def is_recordable(step: GradientStep) -> bool:
    """
    Whether each call launches the same kernels on the same tensors: plugs say so, and nothing of the user's has to be called.

    :param step: any
    """
    parts, world = step.parts, step.world
    parameters = [*parts.policy.parameters(), *([] if parts.log_ent_coef is None else [parts.log_ent_coef])]
    return (
        step.steppers.all_direct
        and step.units.are_raw
        and world.reward_fn is None
        and all(plug.rollout_recordable for plug in world.plugs)
        and no_mode_is_on()
        and tensors_are_untouched(parameters)
        and all(map(module_is_untouched, _modules(step)))
    )


def signature(step: GradientStep) -> tuple[object, ...]:
    """
    Equal for two steps that launch the same kernels on the same tensors, whatever the learning rates.

    :param step: one that is recordable
    """
    parts = step.parts
    numbers = (parts.gamma, parts.tau, parts.target_entropy, parts.max_grad_norm, id(step.context.generator))
    alone = (parts.log_ent_coef, parts.ent_coef)
    facts = (fact for module in _modules(step) for part in module.modules() for fact in _facts(part))
    tensors = [tensor for module in _modules(step) for tensor in (*module.parameters(), *module.buffers())]
    addresses = (tensor.data_ptr() for tensor in (*tensors, *(one for one in alone if one is not None)))
    return *astuple(step.settings), *numbers, *facts, *addresses, *step.steppers.signature()


def _modules(step: GradientStep) -> list[nn.Module]:
    policy = step.parts.policy
    averaged = getattr(policy, "averaged_actor", None)
    networks = [policy.actor, policy.critic, policy.critic_target, *([] if averaged is None else [averaged])]
    return [*networks, *step.world.plugs]


def _facts(module: nn.Module) -> Iterator[tuple[str, Any]]:
    """What Python may decide by: plain attributes, and which objects the others are."""
    for name, value in vars(module).items():
        yield name, value if isinstance(value, PLAIN) else id(value)
