"""The whole gradient step of the double horizon, path and backward passes included, as one CUDA graph."""

from dataclasses import astuple
from functools import partial
from typing import Any

import torch as th

from sb3_tom.checks.untouched import (
    classes_are_known,
    methods_are_known,
    module_is_untouched,
    no_mode_is_on,
    tensors_are_untouched,
)
from sb3_tom.compute.cuda_graphs import RecordedStep, Recorder, Results
from sb3_tom.contracts.types import Batch
from sb3_tom.policy_updates.averaged_actor import AveragedActorPolicy
from sb3_tom.policy_updates.double_horizon.gradient_step import GradientStep, Scalars
from sb3_tom.policy_updates.sampling import log_std_bounds

PLAIN = (bool, int, float, str, type(None))


class GraphedStep:
    """
    A :class:`GradientStep` that is recorded, once with a step of the targets and once without.

    :param step: the step to record
    :param record: see :class:`~sb3_tom.compute.cuda_graphs.RecordedStep`
    """

    def __init__(self, step: GradientStep, record: Recorder | None = None) -> None:
        self.signature = signature(step)
        self.current = _Current(step)
        title, generator = "double horizon's gradient step", step.context.generator
        self._steps = {
            move_targets: RecordedStep(partial(_run, self.current, move_targets), title, record, generator)
            for move_targets in (False, True)
        }

    def __call__(self, observations: th.Tensor, real: Batch | None, move_targets: bool) -> Scalars:
        """See :meth:`GradientStep.__call__`."""
        fields = () if real is None else (field for field in real if field is not None)
        (figures,) = self._steps[move_targets](observations, *fields)
        return dict(zip(self.current.names, figures.unbind(), strict=True))

    def follow(self, step: GradientStep) -> None:
        """
        Use another step with the same signature where this one is not replayed: before the recording, and if it fails.

        :param step: takes over the steppers, whose learning rates the graph reads
        """
        step.steppers = self.current.step.steppers
        step.steppers.refresh_learning_rates()
        self.current.step = step


class _Current:
    """What runs where a step is not replayed, and the names of its figures; apart, so that no recording refers to itself."""

    def __init__(self, step: GradientStep) -> None:
        self.step = step
        self.names: tuple[str, ...] = ()


def _run(current: _Current, move_targets: bool, observations: th.Tensor, *fields: th.Tensor) -> Results:
    figures = current.step(observations, Batch(*fields) if fields else None, move_targets)
    current.names = tuple(figures)
    return [th.stack([figure.reshape(()) for figure in figures.values()])]


def recorded_step(step: GradientStep, known: GraphedStep | None, record: Recorder | None = None) -> GraphedStep | None:
    """
    The recorded form of a step, reused while it is the same step on the same tensors.

    :param step: made for this call
    :param known: the last result that was not None
    :param record: see :class:`GraphedStep`
    :return: the recorded step; None if it cannot be recorded, or before its optimisers have stepped
    """
    if not is_recordable(step):
        return None
    if known is None or known.signature != signature(step):
        return GraphedStep(step, record)
    known.follow(step)
    return known


def is_recordable(step: GradientStep) -> bool:
    """
    Whether each call launches the same kernels on the same tensors: plugs say so, and nothing of the user's has to be called.

    :param step: any
    """
    parts, world = step.parts, step.world
    parameters = [*parts.policy.parameters(), *([] if parts.log_ent_coef is None else [parts.log_ent_coef])]
    modules = [parts.policy.actor, parts.policy.critic, parts.policy.critic_target, *world.plugs]
    averages = ("average",) if isinstance(parts.policy, AveragedActorPolicy) else ()
    return (
        step.steppers.all_direct
        and step.units.are_raw
        and world.reward_fn is None
        and all(plug.rollout_recordable for plug in world.plugs)
        and no_mode_is_on()
        and methods_are_known(parts.policy, averages)
        and tensors_are_untouched(parameters)
        and all(classes_are_known(module) and module_is_untouched(module) for module in modules)
    )


def signature(step: GradientStep) -> tuple[object, ...]:
    """
    Equal for two steps that launch the same kernels on the same tensors, whatever the learning rates.

    :param step: one that is recordable
    """
    parts = step.parts
    numbers = (parts.gamma, parts.tau, parts.target_entropy, parts.max_grad_norm, *log_std_bounds())
    facts = (
        (name, value if isinstance(value, PLAIN) else _Same(value))
        for module in (parts.policy, *step.world.plugs)
        for part in module.modules()
        for name, value in vars(part).items()
    )
    addresses = (tensor.data_ptr() for tensor in tensors_of(step))
    return *astuple(step.settings), *numbers, _Same(step.context.generator), *facts, *addresses, *step.steppers.signature()


def tensors_of(step: GradientStep) -> list[th.Tensor]:
    """
    The tensors that a step reads and writes, except its inputs, what it makes itself, and those of the optimisers.

    :param step: one that is recordable
    """
    modules = (step.parts.policy, *step.world.plugs)
    found: list[th.Tensor] = [tensor for module in modules for tensor in (*module.parameters(), *module.buffers())]
    return [*found, *(tensor for tensor in (step.parts.log_ent_coef, step.parts.ent_coef) if tensor is not None)]


class _Same:
    """Equal for the same object only, which is kept alive: a number of its memory alone could be that of a later one."""

    def __init__(self, value: Any) -> None:
        self._value = value

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Same) and self._value is other._value

    __hash__ = None  # type: ignore[assignment]
