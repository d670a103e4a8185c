r"""
The analytic termination rules of gymnasium's continuous-control environments, as plain data and pure functions.

A rule is a dict of JSON-able values, saved in the zip and evaluated without the environment, according to ``rule["kind"]``:

================ ================================================================================ ==========================
kind             the transition terminates unless                                                 environments
================ ================================================================================ ==========================
``never``        always goes on                                                                   HalfCheetah, Swimmer,
                                                                                                  HumanoidStandup, Reacher,
                                                                                                  Pusher, Pendulum; any with
                                                                                                  terminate_when_unhealthy
                                                                                                  off
``inside``       every interval of entries of s' holds, so a NaN terminates                       Hopper, Walker2d, Ant,
                                                                                                  Humanoid, InvertedPendulum
``tip``          l1 cos(q1) + l2 cos(q1 + q2) <= height is false, so a NaN goes on                InvertedDoublePendulum
``goal``         some entry of s' is below its minimum, so a NaN goes on                          MountainCarContinuous
================ ================================================================================ ==========================

Source: gymnasium 1.4, ``envs/mujoco/*_v4.py``, ``envs/mujoco/*_v5.py``, ``envs/classic_control``.

Where s' alone does not decide, the rule is approximate and :func:`contradicts` tolerates the difference:

- Hopper ends when a velocity leaves (-100, 100), but observes velocities clipped to [-10, 10] (``rule["clipped"]``).
- InvertedDoublePendulum uses the tip of the last Runge-Kutta stage, up to 0.016 from that of s' (``rule["tolerance"]``).
- An entry within float32 rounding of a threshold can lie on either side in the environment's float64.
- Ant ends when its x or y is not finite, but does not observe them by default. MuJoCo resets such a simulation by itself.
"""

from collections.abc import Callable, Sequence
from math import inf, isinf
from typing import Any

import torch as th

Rule = dict[str, Any]
"""``{"env": class, "observation_dim": O, "kind": ..., ...}``, JSON-able."""

AttributeReader = Callable[[str], Any]
"""Reads an attribute of the unwrapped environment by name."""

ROUNDING = 1e-6
"""Relative width of the band around a threshold in which float32 observations do not decide (8 float32 steps)."""

VELOCITY_CLIP = 10.0
DOUBLE_PENDULUM_MODEL = "gymnasium/envs/mujoco/assets/inverted_double_pendulum.xml"


def terminates(rule: Rule, next_observations: th.Tensor, slack: float = 0.0) -> th.Tensor:
    """
    Evaluate a rule. Pure, without a host read.

    :param rule: from :func:`build_rule`
    :param next_observations: s', ``[B, O]``
    :param slack: moves every threshold by this relative amount; positive: fewer terminations, negative: more
    :return: bool ``[B, 1]``
    """
    evaluate = _KINDS[rule["kind"]]
    return evaluate(rule, next_observations, slack)


def contradicts(rule: Rule, next_observations: th.Tensor, terminated: th.Tensor) -> th.Tensor:
    """
    Rows in which the environment contradicts the rule, up to rounding, clipping and whatever else s' does not show.

    :param rule: from :func:`build_rule`
    :param next_observations: s', ``[B, O]``
    :param terminated: ``[B, 1]``, the environment's own flags
    :return: bool ``[B, 1]``
    """
    ended = terminated > 0.5
    surely_terminates = terminates(rule, next_observations, ROUNDING)
    surely_goes_on = ~terminates(rule, next_observations, -ROUNDING)
    if "clipped" in rule:
        clipped = rule["clipped"]
        entries = next_observations[..., clipped["start"] : clipped["stop"]]
        surely_goes_on = surely_goes_on & ~(entries.abs() >= clipped["limit"] * (1.0 - ROUNDING)).any(-1, keepdim=True)
    wrong: th.Tensor = (ended & surely_goes_on) | (~ended & surely_terminates)
    return wrong


def _never(rule: Rule, next_observations: th.Tensor, slack: float) -> th.Tensor:
    return th.zeros_like(next_observations[..., :1], dtype=th.bool)


def _inside(rule: Rule, next_observations: th.Tensor, slack: float) -> th.Tensor:
    healthy = th.ones_like(next_observations[..., :1], dtype=th.bool)
    for interval in rule["intervals"]:
        entries = next_observations[..., interval["start"] : interval["stop"]]
        low, high = _moved(interval["low"], -slack), _moved(interval["high"], slack)
        if interval["closed"]:
            inside = (entries >= low) & (entries <= high)
        else:
            inside = (entries > low) & (entries < high)
        healthy = healthy & inside.all(-1, keepdim=True)
    return ~healthy


def _tip(rule: Rule, next_observations: th.Tensor, slack: float) -> th.Tensor:
    sine_1, sine_2, cosine_1, cosine_2 = next_observations[..., 1:5].unbind(-1)
    lower, upper = (float(length) for length in rule["lengths"])
    height = lower * cosine_1 + upper * (cosine_1 * cosine_2 - sine_1 * sine_2)
    limit = float(rule["height"] - rule["tolerance"] * slack / ROUNDING)
    return (height <= limit).unsqueeze(-1)


def _goal(rule: Rule, next_observations: th.Tensor, slack: float) -> th.Tensor:
    reached = th.ones_like(next_observations[..., :1], dtype=th.bool)
    for index, minimum in enumerate(rule["minimum"]):
        reached = reached & (next_observations[..., index : index + 1] >= _moved(minimum, slack))
    return reached


def _moved(threshold: float, slack: float) -> float:
    return threshold if isinf(threshold) else threshold + slack * max(1.0, abs(threshold))


_KINDS: dict[str, Callable[[Rule, th.Tensor, float], th.Tensor]] = {
    "never": _never,
    "inside": _inside,
    "tip": _tip,
    "goal": _goal,
}


def build_rule(env_class: str, read: AttributeReader, observation_dim: int) -> Rule | None:
    """
    The rule of a known environment, with the thresholds of this instance.

    :param env_class: a key of :data:`KNOWN_ENVS`
    :param read: reads an attribute of the unwrapped environment
    :param observation_dim: size O of its observation
    :return: the rule; None if this instance has a model of unknown geometry
    """
    body = KNOWN_ENVS[env_class](read, observation_dim)
    return None if body is None else {"env": env_class, "observation_dim": observation_dim, **body}


def check_rule(rule: Any) -> Rule | None:
    """
    Check a rule that came from a file.

    :param rule: a rule or None
    :return: the same
    :raises ValueError: if it is not a rule of a known kind
    """
    if rule is not None and not (isinstance(rule, dict) and rule.get("kind") in _KINDS and "observation_dim" in rule):
        raise ValueError(f"termination rule {rule!r} is not allowed; allowed: None or a rule of kind {sorted(_KINDS)}")
    return rule


def _interval(start: int, stop: int, bounds: Sequence[float], closed: bool) -> dict[str, Any]:
    low, high = (float(bound) for bound in bounds)
    return {"start": start, "stop": stop, "low": low, "high": high, "closed": closed}


def _shift(read: AttributeReader, positions: int) -> int:
    """Number of root positions before the height in the observation: 0, or ``positions`` if they are observed."""
    return 0 if read("_exclude_current_positions_from_observation") else positions


def _never_rule(read: AttributeReader, observation_dim: int) -> Rule:
    return {"kind": "never"}


def _hopper_rule(read: AttributeReader, observation_dim: int) -> Rule:
    if not read("_terminate_when_unhealthy"):
        return {"kind": "never"}
    height = _shift(read, 1)
    state = _interval(height + 1, observation_dim, read("_healthy_state_range"), closed=False)
    rule: Rule = {
        "kind": "inside",
        "intervals": [
            _interval(height, height + 1, read("_healthy_z_range"), closed=False),
            _interval(height + 1, height + 2, read("_healthy_angle_range"), closed=False),
            state,
        ],
    }
    if state["low"] < -VELOCITY_CLIP or state["high"] > VELOCITY_CLIP:
        velocities = observation_dim - len(read("init_qvel"))
        rule["clipped"] = {"start": velocities, "stop": observation_dim, "limit": VELOCITY_CLIP}
    return rule


def _walker_rule(read: AttributeReader, observation_dim: int) -> Rule:
    if not read("_terminate_when_unhealthy"):
        return {"kind": "never"}
    height = _shift(read, 1)
    intervals = [
        _interval(height, height + 1, read("_healthy_z_range"), closed=False),
        _interval(height + 1, height + 2, read("_healthy_angle_range"), closed=False),
    ]
    return {"kind": "inside", "intervals": intervals}


def _ant_rule(read: AttributeReader, observation_dim: int) -> Rule:
    if not read("_terminate_when_unhealthy"):
        return {"kind": "never"}
    height = _shift(read, 2)
    state_size = len(read("init_qpos")) + len(read("init_qvel")) - (2 - height)
    intervals = [
        _interval(height, height + 1, read("_healthy_z_range"), closed=True),
        _interval(0, state_size, (-inf, inf), closed=False),
    ]
    return {"kind": "inside", "intervals": intervals}


def _humanoid_rule(read: AttributeReader, observation_dim: int) -> Rule:
    if not read("_terminate_when_unhealthy"):
        return {"kind": "never"}
    height = _shift(read, 2)
    return {"kind": "inside", "intervals": [_interval(height, height + 1, read("_healthy_z_range"), closed=False)]}


def _inverted_pendulum_rule(read: AttributeReader, observation_dim: int) -> Rule:
    intervals = [_interval(1, 2, (-0.2, 0.2), closed=True), _interval(0, observation_dim, (-inf, inf), closed=False)]
    return {"kind": "inside", "intervals": intervals}


def _double_pendulum_rule(read: AttributeReader, observation_dim: int) -> Rule | None:
    if not str(read("fullpath")).replace("\\", "/").endswith(DOUBLE_PENDULUM_MODEL):
        return None
    return {"kind": "tip", "lengths": [0.6, 0.6], "height": 1.0, "tolerance": 0.02}


def _mountain_car_rule(read: AttributeReader, observation_dim: int) -> Rule:
    return {"kind": "goal", "minimum": [float(read("goal_position")), float(read("goal_velocity"))]}


_Builder = Callable[[AttributeReader, int], Rule | None]


def _mujoco(name: str, env: str, builder: _Builder) -> dict[str, _Builder]:
    return {f"gymnasium.envs.mujoco.{name}_{version}:{env}": builder for version in ("v4", "v5")}


KNOWN_ENVS: dict[str, _Builder] = {
    **_mujoco("hopper", "HopperEnv", _hopper_rule),
    **_mujoco("walker2d", "Walker2dEnv", _walker_rule),
    **_mujoco("ant", "AntEnv", _ant_rule),
    **_mujoco("humanoid", "HumanoidEnv", _humanoid_rule),
    **_mujoco("inverted_pendulum", "InvertedPendulumEnv", _inverted_pendulum_rule),
    **_mujoco("inverted_double_pendulum", "InvertedDoublePendulumEnv", _double_pendulum_rule),
    **_mujoco("half_cheetah", "HalfCheetahEnv", _never_rule),
    **_mujoco("swimmer", "SwimmerEnv", _never_rule),
    **_mujoco("humanoidstandup", "HumanoidStandupEnv", _never_rule),
    **_mujoco("reacher", "ReacherEnv", _never_rule),
    **_mujoco("pusher", "PusherEnv", _never_rule),
    "gymnasium.envs.classic_control.pendulum:PendulumEnv": _never_rule,
    "gymnasium.envs.classic_control.continuous_mountain_car:Continuous_MountainCarEnv": _mountain_car_rule,
}
"""``"module:Class"`` of a known environment to the function that builds its rule."""
