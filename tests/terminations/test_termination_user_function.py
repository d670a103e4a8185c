"""Users' functions, and what ``termination_fn`` may be."""

from typing import Any

import gymnasium as gym
import pytest
import torch as th
from stable_baselines3.common.vec_env import DummyVecEnv

from sb3_tom.contracts.resolve import resolve_plug
from sb3_tom.contracts.termination import Termination
from sb3_tom.mbpo.axes import AXES
from sb3_tom.terminations import (
    AutoTermination,
    CallableTermination,
    LearnedTermination,
    NeverTermination,
)
from sb3_tom.terminations.reading import current_rule
from tests.mbpo.small import small_agent

HERE = __name__


def resolve(value: Any, kwargs: Any = None) -> Any:
    """What the agent makes of ``termination_fn``."""
    return resolve_plug("termination_fn", AXES["termination_fn"], value, kwargs)


def beyond_one(observations: th.Tensor, actions: th.Tensor, next_observations: th.Tensor) -> th.Tensor:
    """A user's rule, [B, 1]."""
    return next_observations[:, :1] > 1.0


def beyond_one_flat(observations: th.Tensor, actions: th.Tensor, next_observations: th.Tensor) -> th.Tensor:
    """The same, [B]."""
    return next_observations[:, 0] > 1.0


class Beyond(Termination):
    """A user's class."""

    def __init__(self, limit: float = 1.0) -> None:
        super().__init__()
        self.limit = limit

    def forward(self, observations: th.Tensor, actions: th.Tensor, next_observations: th.Tensor) -> th.Tensor:
        return next_observations[:, :1] > self.limit


class Needy(Beyond):
    """A class that cannot be made without arguments."""

    def __init__(self, limit: float, name: str) -> None:
        super().__init__(limit)


@pytest.mark.parametrize("function", [beyond_one, beyond_one_flat, lambda s, a, n: n[:, 0] > 1.0])
def test_function_of_either_shape(function: Any) -> None:
    termination = resolve(function)
    termination.build(3, 2)
    termination.check(th.zeros(2, 3), th.zeros(2, 2))
    result = termination(th.zeros(4, 3), th.zeros(4, 2), th.tensor([[0.0], [2.0], [1.0], [float("nan")]]).expand(4, 3))
    assert result.dtype == th.bool and result.tolist() == [[False], [True], [False], [False]]


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (lambda s, a, n: n[:, :1], r"torch.float32 tensor of shape \(2, 1\)"),
        (lambda s, a, n: n > 0, r"torch.bool tensor of shape \(2, 3\)"),
        (lambda s, a, n: (n > 0).any(), r"torch.bool tensor of shape \(\)"),
        (lambda s, a, n: (n > 0)[:, :1].T, r"torch.bool tensor of shape \(1, 2\)"),
        (lambda s, a, n: [False, False], r"\[False, False\]"),
        (lambda s, a, n: (n > 0).numpy()[:, 0], r"array\(\[False, False\]\)"),
        (lambda s: None, "failed on observations"),
        (lambda s, a, n: n[:, 7] > 0, "failed on observations"),
    ],
)
def test_function_that_returns_something_else_is_refused(function: Any, message: str) -> None:
    with pytest.raises(ValueError, match=f"(?s)termination_fn=.*{message}"):
        CallableTermination(function).check(th.zeros(2, 3), th.zeros(2, 2))


def test_never() -> None:
    termination = resolve("never")
    assert isinstance(termination, NeverTermination)
    result = termination(th.zeros(5, 3), th.zeros(5, 2), th.full((5, 3), float("nan")))
    assert result.shape == (5, 1) and result.dtype == th.bool and not result.any()


@pytest.mark.parametrize(
    ("value", "kind"),
    [
        ("auto", AutoTermination),
        ("learned", LearnedTermination),
        (f"{HERE}:beyond_one", CallableTermination),
        (f"{HERE}:Beyond", Beyond),
        ("sb3_tom.terminations.user_function:NeverTermination", NeverTermination),
        (LearnedTermination, LearnedTermination),
        (Beyond, Beyond),
        (beyond_one, CallableTermination),
    ],
)
def test_what_termination_fn_may_be(value: Any, kind: type[Termination]) -> None:
    termination = resolve(value)
    assert type(termination) is kind and termination.wants_rule == (kind is AutoTermination)


def test_instance_is_taken_as_it_is_although_modules_are_callable() -> None:
    instance = Beyond(2.0)
    assert resolve(instance) is instance


@pytest.mark.parametrize(
    "value",
    [
        "Auto",
        "hopper",
        "",
        ":",
        "no.such.module:thing",
        "torch:no_such_thing",
        "torch:float32",
        "../x:y",
        None,
        True,
        0,
        3.5,
        ["auto"],
        {"auto": 1},
        dict,
        th.nn.Linear,
        Needy,
    ],
)
def test_anything_else_is_refused_naming_argument_value_and_what_is_allowed(value: Any) -> None:
    with pytest.raises(ValueError, match=r"(?s)^termination_fn=") as caught:
        resolve(value)
    assert repr(value) in str(caught.value)
    assert "instance" in str(caught.value)


def test_auto_reads_the_env_and_falls_back_to_the_saved_rule_only_without_one() -> None:
    hopper, unknown = (DummyVecEnv([lambda name=name: gym.make(name)]) for name in ("Hopper-v5", "CartPole-v1"))
    termination, rule = resolve("auto"), current_rule(hopper, None)
    assert isinstance(termination, AutoTermination) and termination.wants_rule and rule is not None
    assert current_rule(None, rule) == rule
    assert current_rule(unknown, rule) is None
    assert not resolve("learned").wants_rule
    assert not AutoTermination(rule).wants_rule


def test_a_head_of_ones_own_goes_with_the_rule_of_the_envs() -> None:
    head = LearnedTermination(hidden_sizes=[8])
    agent = small_agent("Hopper-v5", termination_fn=AutoTermination(head=head), dynamics="linear")
    assert agent.termination.head is head and agent.termination.rule == agent.termination_rule
    assert agent.termination_rule["env"].endswith("HopperEnv")
    made = small_agent("Hopper-v5", termination_fn="learned", termination_kwargs={"hidden_sizes": [8]}, dynamics="linear")
    assert made.termination.hidden_sizes == (8,) and made.termination_rule is None


@pytest.mark.parametrize("rule", [{}, {"kind": "inside"}, {"kind": "sometimes", "observation_dim": 3}, "never", 3])
def test_saved_rule_that_is_none_is_refused(rule: Any) -> None:
    with pytest.raises(ValueError, match="termination rule"):
        current_rule(None, rule)
