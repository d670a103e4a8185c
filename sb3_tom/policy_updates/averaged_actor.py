"""A policy whose deterministic actions use averaged actor parameters, for use where the last actor oscillates."""

import copy
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch as th
from stable_baselines3.common.type_aliases import PyTorchObs, Schedule
from stable_baselines3.sac.policies import Actor, SACPolicy

from sb3_tom.checks.validation import check_number


class AveragedActorPolicy(SACPolicy):
    r"""
    A SAC policy whose deterministic actions use an average of the actor's parameters over training. The actor itself collects
    data and is trained: training is the same with and without the average.

    The average has polynomial decay (Shamir and Zhang 2013, arXiv:1212.1824, Sec. 4). After the t-th step of the actor it is

    .. math:: \bar\theta_t = \Bigl(1 - \frac{\eta + 1}{t + \eta}\Bigr) \bar\theta_{t-1} + \frac{\eta + 1}{t + \eta} \theta_t.

    Its weights grow like :math:`t^\eta`, so that it covers about the last 1 / eta of the steps, however many there are:
    early it follows the actor, later it smooths fluctuations.

    Whoever trains the actor calls :meth:`average` after each of its steps, as the policy updates of this package do. SB3's SAC
    does not: call ``policy.averaged_steps.zero_()`` before it fine-tunes a policy, or ``predict`` keeps the old average.

    :param args: as in SB3's ``SACPolicy``
    :param averaging: eta, at least 0; None, or gSDE: no average; the actor itself takes deterministic actions
    :param kwargs: as in SB3's ``SACPolicy``
    :raises ValueError: naming ``averaging``
    """

    averaged_actor: Actor | None
    averaged_steps: th.Tensor

    def __init__(self, *args: Any, averaging: float | None = None, **kwargs: Any) -> None:
        self.averaging = None if averaging is None else check_number("averaging", averaging, 0.0, 1e6)
        super().__init__(*args, **kwargs)

    def _build(self, lr_schedule: Schedule) -> None:
        super()._build(lr_schedule)
        self.averaged_actor = None
        if self.averaging is None or self.actor.use_sde:
            return
        self.averaged_actor = _untrained(self.actor)
        self.register_buffer("averaged_steps", th.zeros((), dtype=th.int64, device=self.device))

    @th.no_grad()
    def average(self) -> None:
        """
        Update the average after a step of the actor. Its buffers, for example those of batch normalisation, are copied.

        :raises ValueError: naming ``averaging``, if the actor got parameters or buffers after it was made
        """
        if self.averaged_actor is None or self.averaging is None:
            return
        names, now = zip(*self.actor.named_parameters(), strict=True)
        averages, copied = dict(self.averaged_actor.named_buffers()), dict(self.actor.named_buffers())
        new = [name for name in (*names, *copied) if name not in averages]
        if new:
            raise ValueError(
                f"averaging={self.averaging} is not allowed with an actor that got {', '.join(new)} after it was made, as by "
                "weight_norm; allowed: a policy that makes its actor so, or averaging=None"
            )
        self.averaged_steps += 1
        share = (self.averaging + 1) / (self.averaged_steps + self.averaging).to(now[0].dtype)
        th._foreach_lerp_([averages[name] for name in names], now, [share] * len(now))
        for name, value in copied.items():
            averages[name].copy_(value)

    def set_training_mode(self, mode: bool) -> None:
        """As in SB3; the average stays in evaluation mode."""
        super().set_training_mode(mode)
        if self.averaged_actor is not None:
            self.averaged_actor.set_training_mode(False)

    def _predict(self, observation: PyTorchObs, deterministic: bool = False) -> th.Tensor:
        averaged = self.averaged_actor
        # There is no average if average() is never called, for example under SB3's SAC
        if not deterministic or averaged is None or not bool(self.averaged_steps):
            return self.actor(observation, deterministic)
        return averaged(observation, deterministic)

    def load_state_dict(self, state_dict: Mapping[str, Any], strict: bool = True, assign: bool = False) -> Any:
        """As in PyTorch; from a policy without an average, the average begins with its actor."""
        if self.averaged_actor is not None and "averaged_steps" not in state_dict:
            begun = {f"averaged_{name}": value for name, value in state_dict.items() if name.startswith("actor.")}
            state_dict = {**state_dict, **begun, "averaged_steps": th.zeros_like(self.averaged_steps)}
        return super().load_state_dict(state_dict, strict, assign)

    def _get_constructor_parameters(self) -> dict[str, Any]:
        return super()._get_constructor_parameters() | {"averaging": self.averaging}


@contextmanager
def averaging_steps(policy: SACPolicy) -> Iterator[None]:
    """
    In the block every step of the actor is averaged, also SB3's.

    :param policy: any; nothing happens without an average
    """
    if not isinstance(policy, AveragedActorPolicy):
        yield
        return
    hook = policy.actor.optimizer.register_step_post_hook(lambda *_: policy.average())
    try:
        yield
    finally:
        hook.remove()


def _untrained(actor: Actor) -> Actor:
    """A copy whose weights are buffers, not parameters of the policy; making a new actor would draw random numbers."""
    made = copy.deepcopy(actor)
    made.optimizer = None  # type: ignore[assignment]
    made.set_training_mode(False)
    for module in made.modules():
        for name, parameter in [*module.named_parameters(recurse=False)]:
            delattr(module, name)
            module.register_buffer(name, parameter.detach())
    return made
