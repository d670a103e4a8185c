"""Settings of the double horizon's policy update."""

from dataclasses import dataclass

from sb3_tom.checks.validation import check_bool, check_choice, check_integer, check_number

REDUCTIONS = ("mean", "min")
"""How the values of several critics are reduced to one."""


@dataclass(frozen=True)
class DoubleHorizonSettings:
    """
    Settings of the update. Some defaults differ from the authors' code: docs/double_horizon.md says which, and why.

    :param horizon: H, length of the paths whose gradients the policy follows
    :param actor_reduction: "mean" or "min" over the critics at the end of a path, for the actor
    :param target_reduction: the same over the target critics, for the critics
    :param n_target_critics: number of target critics that are drawn for each step; the others are not used in it
    :param critic_scale: factor of the outputs of the critics' networks; "auto": mean absolute reward of the real rows at the
        first fit / (1 - gamma), at least 1; above a gamma of 0.999 that of 0.999. Set once, and saved
    :param real_critic_coef: coefficient of SAC's squared error on as many real transitions, added to the critics' loss
    :param critic_warmup: steps of the critics alone after each fit, to adapt them to the new model
    :param weight_actor: whether the confidence of a path weighs the actor's objective too, not only the critics' loss
    :raises ValueError: naming the argument, what came and what is allowed
    """

    horizon: int = 5
    actor_reduction: str = "mean"
    target_reduction: str = "min"
    n_target_critics: int = 2
    critic_scale: float | str = "auto"
    critic_warmup: int = 25
    real_critic_coef: float = 0.0
    weight_actor: bool = False

    def __post_init__(self) -> None:
        for name, low in (("horizon", 0), ("n_target_critics", 1), ("critic_warmup", 0)):
            object.__setattr__(self, name, check_integer(name, getattr(self, name), low))
        check_bool("weight_actor", self.weight_actor)
        object.__setattr__(self, "real_critic_coef", check_number("real_critic_coef", self.real_critic_coef, 0.0))
        check_choice("actor_reduction", self.actor_reduction, REDUCTIONS)
        check_choice("target_reduction", self.target_reduction, REDUCTIONS)
        if not (isinstance(self.critic_scale, str) and self.critic_scale == "auto"):
            check_number("critic_scale", self.critic_scale, 0.0, low_open=True)
