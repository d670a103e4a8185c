"""A policy whose deterministic actions use averaged actor parameters, for use where the last actor oscillates."""

import copy
from collections.abc import Mapping
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
        """Update the average after a step of the actor."""
        if self.averaged_actor is None or self.averaging is None:
            return
        self.averaged_steps += 1
        names, now = zip(*self.actor.named_parameters(), strict=True)
        share = (self.averaging + 1) / (self.averaged_steps + self.averaging).to(now[0].dtype)
        th._foreach_lerp_([self.averaged_actor.get_buffer(name) for name in names], now, [share] * len(now))

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
