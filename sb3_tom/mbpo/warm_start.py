"""Starts an agent from the networks and transitions of a SAC agent."""

import copy
import io
import pathlib
import zipfile
from typing import Any, TypeVar

from stable_baselines3.common.save_util import open_path, recursive_getattr
from stable_baselines3.common.type_aliases import GymEnv
from stable_baselines3.sac.sac import SAC

from sb3_tom.contracts.policy_update import PolicyParts
from sb3_tom.data.replay_buffer import WeightedReplayBuffer

A = TypeVar("A", bound=SAC)

KEPT = (
    "learning_rate",
    "buffer_size",
    "batch_size",
    "tau",
    "gamma",
    "target_update_interval",
    "target_entropy",
    "use_sde",
    "sde_sample_freq",
    "policy_kwargs",
)
"""Arguments of SAC that a warm start keeps; those of collection and update ratio are MBPO's own."""


def refuse_sac_zip(path: str | pathlib.Path | io.BufferedIOBase) -> None:
    """
    Refuse the file of a plain SAC agent, which ``from_sac`` is for.

    :param path: argument of ``load``
    :raises ValueError: if the file holds a plain SAC agent
    """
    names = _members(path)
    if "policy.pth" in names and "dynamics.pth" not in names:
        raise ValueError(
            f"path={str(path)!r} is not allowed: the file holds an agent without a dynamics model, such as SAC's; "
            "allowed: MBPO.from_sac(path, env), which starts from its networks"
        )


def _load_sac(path: str | pathlib.Path | io.BufferedIOBase, device: Any) -> SAC:
    if "dynamics.pth" in _members(path):
        raise ValueError(
            f"sac={str(path)!r} is not allowed: it holds an MBPO; allowed: a file of SAC, or MBPO.load(path) in its place"
        )
    return SAC.load(path, device=device)


def _members(path: str | pathlib.Path | io.BufferedIOBase) -> set[str]:
    """Names of a zip's members; none if the file is not a zip, for which SB3 raises a clear error."""
    file = open_path(path, "r", verbose=0, suffix="zip")
    try:
        with zipfile.ZipFile(file) as archive:
            return set(archive.namelist())
    except zipfile.BadZipFile:
        return set()
    finally:
        if file is path:
            file.seek(0)
        else:
            file.close()


def warm_start(cls: type[A], sac: SAC | str | pathlib.Path | io.BufferedIOBase, env: GymEnv | str, **arguments: Any) -> A:
    """
    See :meth:`sb3_tom.mbpo.mbpo.MBPO.from_sac`.

    :param cls: class of the new agent, an MBPO
    :param sac: trained SAC agent, or its zip file
    :param env: env of the new agent
    :param arguments: of ``cls``; override those of SAC
    """
    device, asked = arguments.get("device", "auto"), {*arguments}
    source = sac if isinstance(sac, SAC) else _load_sac(sac, device)
    if source.ent_coef_optimizer is None:  # fixed, perhaps since it was made
        arguments.setdefault("ent_coef", float(source.ent_coef_tensor))
    arguments.setdefault("ent_coef", source.ent_coef if isinstance(source.ent_coef, str) else "auto")
    kept = {name: getattr(source, name) for name in KEPT}
    buffer = source.replay_buffer if source.replay_buffer is not None and source.replay_buffer.size() > 0 else None
    if buffer is not None:
        kept["learning_starts"] = 0
    if isinstance(buffer, WeightedReplayBuffer):
        kept |= {name: getattr(source, name) for name in ("replay_buffer_class", "replay_buffer_kwargs")}
    policy = arguments.pop("policy", source.policy_class)
    agent = cls(policy, env, **{**kept, **arguments})
    for name in ("observation_space", "action_space"):
        found, expected = getattr(source, name), getattr(agent, name)
        if found.shape != expected.shape or (name == "action_space" and found != expected):  # actions are stored scaled
            raise ValueError(f"env={env!r} is not allowed: its {name} is {expected}; allowed: that of the SAC agent, {found}")
    _copy_networks(source, agent, keeps_options="policy" not in asked and "policy_kwargs" not in asked)
    if buffer is not None:
        # SB3's buffer is converted, which copies it; a WeightedReplayBuffer would be shared
        own = copy.deepcopy(buffer) if isinstance(buffer, WeightedReplayBuffer) else buffer
        agent.adopt_replay_buffer(own)  # type: ignore[attr-defined]
    return agent


def _copy_networks(source: SAC, agent: Any, keeps_options: bool) -> None:
    """
    Copy policy, optimisers and temperature. What only the new agent has (by another ``ent_coef``) stays its own, and so do its
    plugs, which may have other classes than those of an MBPO that it starts from, and optimisers of another class.
    """
    theirs: Any = source.get_parameters()
    ours: Any = agent.get_parameters()
    names, _ = SAC._get_torch_save_params(agent)
    copied = {name: theirs[name] for name in names if name in theirs}
    for name in ("actor.optimizer", "critic.optimizer"):
        if type(recursive_getattr(agent, name)) is not type(recursive_getattr(source, name)):
            copied[name] = ours[name]
        elif not keeps_options:
            copied[name] = {**copied[name], "param_groups": ours[name]["param_groups"]}
    try:
        agent.set_parameters({**ours, **copied})
    except RuntimeError as error:
        said = " ".join(str(error).split())
        raise ValueError(
            f"the networks of the SAC agent do not fit: {said:.200}; allowed: its own policy, policy_kwargs and use_sde"
        ) from error
    agent.policy_update.start_from(PolicyParts.of(agent))
    if source.log_ent_coef is not None and agent.log_ent_coef is not None:
        agent.log_ent_coef.data.copy_(source.log_ent_coef.data)
