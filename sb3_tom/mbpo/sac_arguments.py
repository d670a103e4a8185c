"""Checks of SAC's arguments, which SB3 does not validate: a bad value fails in the constructor, with its name."""

import inspect
import os
import warnings
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch as th
from stable_baselines3.common.noise import ActionNoise
from stable_baselines3.common.type_aliases import TrainFreq
from stable_baselines3.sac.policies import CnnPolicy, MultiInputPolicy, SACPolicy
from stable_baselines3.sac.sac import SAC

from sb3_tom.checks.validation import LARGEST_INTEGER, check_bool, check_integer, check_number, check_seed, plain
from sb3_tom.contracts.plug import outline
from sb3_tom.envs.vec_normalize import check_vec_normalize

SAC_ARGUMENTS = tuple(name for name in inspect.signature(SAC).parameters if name not in ("env", "_init_setup_model"))
"""Arguments that MBPO passes to SAC."""

LARGEST_ENTROPY = 1e6
"""Bound of ``ent_coef`` and ``target_entropy``, far above any useful value: larger ones soon overflow float32."""


def sac_arguments(given: Mapping[str, Any]) -> dict[str, Any]:
    """
    Arguments of SAC's constructor.

    :param given: arguments of MBPO's, by name
    """
    return {name: plain(given[name]) for name in SAC_ARGUMENTS}


def check_before_sac(given: Mapping[str, Any], policy_names: Collection[str]) -> None:
    """
    Check the arguments that SB3's constructor uses at once.

    :param given: arguments of MBPO's constructor, by name
    :param policy_names: names of policies of the agent's class
    :raises ValueError: naming the argument, what came and what is allowed
    """
    for name in ("policy_kwargs", "replay_buffer_kwargs"):
        if given[name] is not None and not isinstance(given[name], Mapping):
            raise ValueError(f"{name}={given[name]!r} is not allowed; allowed: a dict or None")
    check_integer("verbose", given["verbose"], 0)
    check_bool("use_sde", given["use_sde"])
    _warn_of_gradient_steps(given["gradient_steps"])
    _check_policy(given["policy"], policy_names)
    device = given["device"]
    try:
        usable = th.device("cpu" if device == "auto" else device).type in ("cpu", "cuda")
    except (RuntimeError, TypeError, ValueError):
        usable = False
    if not usable:
        # Apple's "mps" has no float64, in which weights are summed
        raise ValueError(f"device={device!r} is not allowed; allowed: 'auto', 'cpu', 'cuda', 'cuda:0' and so on")


def _warn_of_gradient_steps(gradient_steps: Any) -> None:
    """SB3's scripts often have ``gradient_steps=1``, which here is a twentieth of the updates that MBPO is made for."""
    if isinstance(gradient_steps, int | np.integer) and gradient_steps > 0:
        text = f"gradient_steps={gradient_steps} makes {gradient_steps} after each collection, as in SB3"
        warnings.warn(f"{text}; leave it out for update_to_data_ratio of them per transition", stacklevel=4)


def _check_policy(policy: Any, names: Collection[str]) -> None:
    is_class = isinstance(policy, type) and issubclass(policy, SACPolicy)
    is_name = isinstance(policy, str) and policy in names
    if not is_name and (not is_class or issubclass(policy, CnnPolicy | MultiInputPolicy)):
        known = ", ".join(map(repr, names))
        raise ValueError(f"policy={policy!r} is not allowed; allowed: {known} or a subclass of SACPolicy for vectors")


def check_sac_numbers(agent: Any) -> None:
    """
    Check SAC's numbers, which SB3 does not.

    :param agent: that is being set up; integers given as ``1e5`` become int
    :raises ValueError: naming the argument, what came and what is allowed
    """
    rate = _first_rate(agent.learning_rate) if callable(agent.learning_rate) else agent.learning_rate
    check_number("learning_rate", rate, 0.0, 1.0)  # about the change of a weight in an Adam step
    for name, low in (
        ("buffer_size", 1),
        ("learning_starts", 0),
        ("batch_size", 1),
        ("gradient_steps", -1),
        ("target_update_interval", 1),
        ("sde_sample_freq", -1),
    ):
        setattr(agent, name, check_integer(name, getattr(agent, name), low))
    check_number("tau", agent.tau, 0.0, 1.0)
    check_number("gamma", agent.gamma, 0.0, 1.0)
    if agent.seed is not None:
        agent.seed = check_seed(agent.seed)
    _check_entropy(agent)
    agent.train_freq = _train_freq(plain(agent.train_freq))


def _check_entropy(agent: Any) -> None:
    if not (isinstance(agent.target_entropy, str) and agent.target_entropy == "auto"):
        check_number("target_entropy", agent.target_entropy, -LARGEST_ENTROPY, LARGEST_ENTROPY)
    ent_coef = agent.ent_coef
    if not isinstance(ent_coef, str):
        check_number("ent_coef", ent_coef, 0.0, LARGEST_ENTROPY)
        return
    start = ent_coef.removeprefix("auto_") if ent_coef.startswith("auto_") else "1.0"
    try:
        positive = 0 < float(start) <= LARGEST_ENTROPY and (ent_coef == "auto" or ent_coef.startswith("auto_"))
    except ValueError:
        positive = False
    if not positive:
        raise ValueError(
            f"ent_coef={ent_coef!r} is not allowed; allowed: 'auto', 'auto_' and a positive start value, or a number"
        )


def _train_freq(value: Any) -> tuple[int, str]:
    if isinstance(value, TrainFreq):  # of a loaded agent
        return value.frequency, value.unit.value
    frequency, unit = value if isinstance(value, list | tuple) and len(value) == 2 else (value, "step")
    if unit not in ("step", "episode") or not _is_frequency(frequency):
        raise ValueError(
            f"train_freq={value!r} is not allowed; allowed: an integer of at least 1, or (integer, 'step' | 'episode')"
        )
    return frequency, unit


def _is_frequency(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= LARGEST_INTEGER


def _first_rate(schedule: Any) -> Any:
    """The initial value of a learning-rate schedule."""
    try:
        return float(schedule(1.0))
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"learning_rate={schedule!r} is not allowed: called with 1.0 it fails with {error!r}; allowed: a number, or a "
            "function from the remaining progress (1 to 0) to one"
        ) from error


def check_sac_arguments(agent: Any) -> None:
    """
    Check the rest of SB3's arguments, and incompatible ones.

    :param agent: that is being set up
    :raises ValueError: naming the argument, what came and what is allowed
    """
    agent.use_sde_at_warmup = check_bool("use_sde_at_warmup", agent.use_sde_at_warmup)
    agent._stats_window_size = check_integer("stats_window_size", agent._stats_window_size, 1)
    if isinstance(agent.tensorboard_log, os.PathLike):
        agent.tensorboard_log = os.fspath(agent.tensorboard_log)
    if agent.tensorboard_log is not None and not isinstance(agent.tensorboard_log, str):
        raise ValueError(f"tensorboard_log={agent.tensorboard_log!r} is not allowed; allowed: a folder's name or None")
    _check_action_noise(agent.action_noise, agent._sizes[1])
    _check_episodes(agent.train_freq, agent.n_envs)
    _check_reward_fn(agent.reward_fn, agent._sizes, agent.device, agent.plugs.by_part["policy_update"].climbs_rewards)
    check_vec_normalize(agent.env)


def _check_action_noise(noise: Any, n_actions: int) -> None:
    if noise is None:
        return
    if not isinstance(noise, ActionNoise):
        raise ValueError(f"action_noise={noise!r} is not allowed; allowed: an ActionNoise or None")
    size = np.size(getattr(noise, "_mu", np.zeros(n_actions)))
    if size != n_actions:
        raise ValueError(f"action_noise={noise!r} is not allowed: its mean has {size} entries; allowed: {n_actions}")


def _check_reward_fn(reward_fn: Any, sizes: tuple[int, int], device: th.device, is_climbed: bool) -> None:
    """Call the function once on zeros, with gradients if the policy update needs them."""
    if reward_fn is None:
        return
    allowed = "None or a function (observations [B, O], actions [B, A] in [-1, 1], next_observations [B, O]) -> rewards [B, 1]"
    if not callable(reward_fn):
        raise ValueError(f"reward_fn={reward_fn!r} is not allowed; allowed: {allowed}")
    observations, actions, after = (
        th.zeros(2, size, device=device, requires_grad=is_climbed).clone() for size in (*sizes, sizes[0])
    )
    try:
        rewards = reward_fn(observations, actions, after)
    except Exception as error:
        raise ValueError(f"reward_fn={reward_fn!r} failed on two rows of zeros: {error!r}; allowed: {allowed}") from error
    if not isinstance(rewards, th.Tensor) or rewards.shape != (2, 1) or not rewards.is_floating_point():
        raise ValueError(f"reward_fn={reward_fn!r} returned {outline(rewards)} for two rows; allowed: {allowed}, of float")
    if is_climbed and not rewards.requires_grad:
        warnings.warn(
            f"reward_fn={reward_fn!r} has no gradient: the policy feels it through the critics only; write it in torch "
            "operations on its arguments, without detach, no_grad or numpy",
            stacklevel=2,
        )


def _check_episodes(train_freq: tuple[int, str], n_envs: int) -> None:
    if train_freq[1] == "episode" and n_envs > 1:
        raise ValueError(
            f"train_freq={train_freq!r} is not allowed with {n_envs} envs, whose episodes end at different times; "
            "allowed: a number of steps, or one env"
        )


def check_optimizers(agent: SAC) -> None:
    """
    Check the policy's optimisers.

    :param agent: with a built policy
    :raises ValueError: if an optimiser cannot make a step from gradients alone
    """
    for optimizer in (agent.actor.optimizer, agent.critic.optimizer):
        closure = inspect.signature(type(optimizer).step).parameters.get("closure")
        if closure is not None and closure.default is inspect.Parameter.empty:
            raise ValueError(
                f"policy_kwargs={{'optimizer_class': {type(optimizer).__name__}}} is not allowed: its step needs a closure; "
                "allowed: an optimiser that steps without, such as Adam or SGD"
            )


@contextmanager
def explained_setup_errors(policy_kwargs: Any, replay_buffer_kwargs: Any) -> Iterator[None]:
    """
    Name the arguments if the policy or the replay buffer cannot be made of them.

    :param policy_kwargs: the user's
    :param replay_buffer_kwargs: the user's
    :raises ValueError: naming both
    """
    try:
        yield
    except (TypeError, AssertionError, RuntimeError, KeyError) as error:
        if isinstance(error, th.OutOfMemoryError):
            raise
        given = f"policy_kwargs={policy_kwargs!r}, replay_buffer_kwargs={replay_buffer_kwargs!r}"
        raise ValueError(f"{given} do not fit the policy or the replay buffer: {error}") from error
