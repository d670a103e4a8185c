"""
The cases of ``same_as.py``: small seeded agents, one row of :data:`CASES` each. They run with older versions of the package,
so they use public names only: ``sb3_tom``, ``sb3_tom.checkpoint`` and ``sb3_tom.envs``, and no name that begins with "_".
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
from same_as_parts import Breaking, Features, RewardWeighter, falling_rate, has_fallen, pendulum_reward, push
from same_as_record import Record
from stable_baselines3 import SAC
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.noise import NormalActionNoise
from stable_baselines3.common.vec_env import VecNormalize
from torch import nn

import sb3_tom
from sb3_tom import MBPO, MBPOPMAC, MBPOTOM
from sb3_tom.checkpoint import ResumeCallback

Case = Callable[[Record, Path], None]
"""Runs agents and records their results; the folder is empty, for files."""

PENDULUM, INVERTED, HOPPER = "Pendulum-v1", "InvertedPendulum-v5", "Hopper-v5"
NETWORK: dict[str, Any] = {"net_arch": (32, 32), "steps_per_epoch": 20, "max_epochs": 4, "batch_size": 64}
ENSEMBLE = NETWORK | {"n_members": 3, "n_elites": 2}
TOM = {"recent_size": 150, "discriminator_steps": 100, "q_steps": 150}
"""Fitted in all model phases of a case but the first."""
SETTINGS: dict[str, Any] = {
    "learning_starts": 100,
    "batch_size": 64,
    "buffer_size": 100_000,
    "policy_kwargs": {"net_arch": [32, 32]},
    "rollout_batch_size": 1_000,
    "model_train_freq": 100,
    "update_to_data_ratio": 1.0,
    "dynamics_kwargs": ENSEMBLE,
    "seed": 0,
    "device": "cpu",
}
SMOOTH = NETWORK | {"n_members": 3}
DOUBLE: type[MBPO] = getattr(sb3_tom, "DHMBPO", MBPO)
"""Commits before it fail these cases."""
STEPS = 500
"""Env steps of most cases: five model phases."""
DUMP_FREQ = 50
"""Env steps between two dumps of the log."""


def make_agent(env: Any = PENDULUM, kind: type[MBPO] = MBPO, **settings: Any) -> MBPO:
    """
    A small agent.

    :param env: as in the constructor
    :param kind: class of the agent
    :param settings: of the agent, beyond :data:`SETTINGS`
    """
    return kind("MlpPolicy", env, **{**SETTINGS, **settings})


def learned(record: Record, agent: MBPO, steps: int = STEPS, callbacks: Sequence[BaseCallback] = (), **arguments: Any) -> None:
    """
    Train an agent, and record its log and its final state.

    :param record: gets them
    :param agent: is trained
    :param steps: env steps
    :param callbacks: of ``learn``
    :param arguments: the others of ``learn``
    """
    record.watch(agent)
    agent.learn(steps, [*callbacks, _Dumps()], log_interval=1, **arguments)
    record.note_agent(agent)


class _Dumps(BaseCallback):
    """Dumps the log often, also within episodes: SB3 keeps only the last value of a name between two dumps."""

    def _on_step(self) -> bool:
        if self.num_timesteps % DUMP_FREQ == 0:
            self.model.dump_logs()
        return True


def trained(env: str = PENDULUM, steps: int = STEPS, **settings: Any) -> Case:
    """The case of one agent that learns; see :func:`make_agent`."""

    def case(record: Record, folder: Path) -> None:
        learned(record, make_agent(env, **settings), steps)

    return case


def two_envs(record: Record, folder: Path) -> None:
    """Two envs with terminations, observations and rewards normalised."""
    envs = VecNormalize(make_vec_env(INVERTED, 2), gamma=0.99)
    learned(record, make_agent(envs, weighter="tom", weighter_kwargs=TOM, update_to_data_ratio=1.5), 600)


def noisy(record: Record, folder: Path) -> None:
    """Action noise, which has a random stream of its own."""
    learned(record, make_agent(action_noise=NormalActionNoise(np.zeros(1), 0.2 * np.ones(1))))


def saved_and_loaded(record: Record, folder: Path) -> None:
    """SB3's own files of an agent and its buffer, and training from there."""
    agent = make_agent(weighter="tom", weighter_kwargs=TOM)
    agent.learn(300)
    agent.save(folder / "agent")
    agent.save_replay_buffer(folder / "buffer")
    loaded = MBPO.load(folder / "agent", PENDULUM, device="cpu")
    record.watch(loaded)
    record.note_agent(loaded, "loaded")
    loaded.load_replay_buffer(folder / "buffer")
    learned(record, loaded, 300, reset_num_timesteps=False)


def from_sac(record: Record, folder: Path) -> None:
    """A SAC agent's networks and transitions, then those of its file alone."""
    sac = SAC("MlpPolicy", INVERTED, learning_starts=50, policy_kwargs={"net_arch": [32, 32]}, seed=1, device="cpu")
    sac.learn(300)
    record.note_agent(sac, "sac")
    settings = {name: value for name, value in SETTINGS.items() if name not in ("policy_kwargs", "learning_starts")}
    learned(record, MBPOPMAC.from_sac(sac, INVERTED, **settings), 300)
    sac.save(folder / "sac")
    agent = MBPO.from_sac(folder / "sac", INVERTED, **settings)
    record.watch(agent)
    record.note_agent(agent, "of_file")


def resumed(record: Record, folder: Path) -> None:
    """A checkpoint from the middle of a run, and a new agent that resumes it, for more steps than the first."""
    settings: dict[str, Any] = {"weighter": "tom", "weighter_kwargs": TOM}
    make_agent(HOPPER, **settings).learn(400, callback=ResumeCallback(folder, 150, keep=10))
    (folder / "checkpoint_400_steps.zip").unlink()  # the last one, so that 300 is the newest
    agent = make_agent(HOPPER, **settings)
    agent.load_checkpoint(folder)
    record.watch(agent)
    learned(record, agent, STEPS, [ResumeCallback(folder, 150)])


def saved_by_hand(record: Record, folder: Path) -> None:
    """A checkpoint outside ``learn``, of two envs with ``VecNormalize``, and an agent made of it."""
    agent = make_agent(VecNormalize(make_vec_env(PENDULUM, 2)), weighter="pmac")
    agent.learn(300)
    agent.save_checkpoint(folder / "checkpoint.zip")
    again = MBPO.resume(folder / "checkpoint.zip", VecNormalize(make_vec_env(PENDULUM, 2)))
    learned(record, again, 300, reset_num_timesteps=False)


def offline(record: Record, folder: Path) -> None:
    """The public verbs on a filled buffer, with given ``recent``; no env steps."""
    agent = make_agent(HOPPER, weighter="tom", weighter_kwargs=TOM, learning_starts=1_000)
    agent.learn(600)
    record.watch(agent)
    for phase, policy in enumerate((None, push)):
        rows = agent.replay_buffer.newest_rows(120)
        footprint = agent.replay_buffer.transitions().rows(rows)
        record.note(f"{phase}/weights", agent.fit_weights(footprint, policy))
        record.note(f"{phase}/fit", agent.fit_model())
        record.note(f"{phase}/rollouts", agent.imagine())
        agent.train_policy(100, 48)
        agent.logger.dump(phase)
    record.note_agent(agent)


def changed_env(record: Record, folder: Path) -> None:
    """Another env of the same task, with another termination rule."""
    agent = make_agent(HOPPER)
    agent.learn(300)
    env = gym.make(HOPPER, healthy_z_range=(0.9, np.inf))
    env.reset(seed=1)  # set_env does not seed it
    agent.set_env(env)
    learned(record, agent, 300, reset_num_timesteps=False)


def diverged(record: Record, folder: Path) -> None:
    """A policy that diverges: the error, the restored state, and training from there."""
    rate = Breaking()
    agent = make_agent(learning_rate=rate)
    record.watch(agent)
    try:
        agent.learn(STEPS, _Dumps())
    except sb3_tom.DivergenceError as error:  # newer than the other names, and used by this case only
        record.note("error", str(error))
    record.note_agent(agent, "put_back")
    rate.later = 3e-4
    learned(record, agent, 200, reset_num_timesteps=False)


def policy(**arguments: Any) -> dict[str, Any]:
    """``policy_kwargs`` of a small policy."""
    return {"net_arch": [32, 32], **arguments}


CASES: dict[str, Case] = {
    "uniform": trained(update_to_data_ratio=1.7),
    "pmac": trained(kind=MBPOPMAC),
    "tom": trained(steps=1_300, kind=MBPOTOM, learning_starts=1_000, model_train_freq=250, update_to_data_ratio=0.5),
    "tom_hopper": trained(HOPPER, weighter="tom", weighter_kwargs=TOM),
    "tom_official": trained(HOPPER, weighter="tom", weighter_kwargs=TOM | {"preset": "official"}),
    "tom_chi2": trained(INVERTED, weighter="tom", weighter_kwargs=TOM | {"divergence": "chi2"}),
    "tom_footprint": trained(weighter="tom", weighter_kwargs=TOM | {"discriminator": False, "ess_floor": 0.5}),
    "ratio": trained(weighter="sb3_tom.weighters.ratio:RatioWeighter", weighter_kwargs=TOM),
    "own_weighter": trained(weighter=RewardWeighter, weight_rollout_starts=False),
    "mdn": trained(HOPPER, weighter="pmac", dynamics="mdn", dynamics_kwargs=NETWORK | {"n_components": 3}),
    "linear": trained(weighter="pmac", dynamics="linear", dynamics_kwargs={}),
    "next_margin": trained(dynamics_kwargs=ENSEMBLE | {"predict": "next", "clamp": "margin", "weight_decay": 1e-4}),
    "loss": trained(weighter="pmac", weighting="loss"),
    "loss_mdn": trained(weighter="pmac", weighting="loss", dynamics="mdn", dynamics_kwargs=NETWORK | {"clamp": None}),
    "survive_bonus": trained(HOPPER, objective="survive_bonus", objective_kwargs={"bonus": 1.0}),
    "termination_learned": trained(INVERTED, termination_fn="learned"),
    "termination_auto": trained(INVERTED, real_ratio=0.5),
    "termination_function": trained(INVERTED, termination_fn=has_fallen, rollout_schedule=2),
    "reward_function": trained(reward_fn=pendulum_reward),
    "growing_length": trained(HOPPER, rollout_schedule=(100, 400, 1, 5), model_retain_epochs=2),
    "small_ring": trained(rollout_schedule=3, imagined_capacity=1_700),
    "shrinking_ring": trained(rollout_schedule=(100, 400, 10, 1), rollout_batch_size=170),
    "full_buffer": trained(INVERTED, buffer_size=350, weighter="pmac"),
    "gsde": trained(use_sde=True, sde_sample_freq=8, weighter="tom", weighter_kwargs=TOM),
    "two_envs": two_envs,
    "episodes": trained(INVERTED, train_freq=(1, "episode")),
    "activation": trained(policy_kwargs=policy(activation_fn=nn.Tanh)),
    "silu": trained(policy_kwargs=policy(activation_fn=nn.SiLU)),
    "features": trained(policy_kwargs=policy(features_extractor_class=Features)),
    "shared_features": trained(policy_kwargs=policy(features_extractor_class=Features, share_features_extractor=True)),
    "three_critics": trained(policy_kwargs=policy(n_critics=3, net_arch={"pi": [32], "qf": [48, 32]})),
    "fixed_entropy": trained(ent_coef=0.1),
    "action_noise": noisy,
    "falling_rate": trained(learning_rate=falling_rate),
    "target_interval": trained(target_update_interval=2, tau=0.02, update_to_data_ratio=3.0),
    "gradient_steps": trained(train_freq=4, gradient_steps=3),
    "road_and_rocks": trained("sb3_tom/RoadAndRocks-v0", weighter="tom", weighter_kwargs=TOM),
    "dhmbpo": trained(HOPPER, kind=DOUBLE, dynamics_kwargs=SMOOTH, rollout_batch_size=50),
    "dhmbpo_tom": trained(INVERTED, kind=DOUBLE, dynamics_kwargs=SMOOTH, weighter="tom", weighter_kwargs=TOM),
    "double_horizon": trained(policy_update="double_horizon", max_grad_norm=1.0),
    "saved_and_loaded": saved_and_loaded,
    "from_sac": from_sac,
    "resumed": resumed,
    "saved_by_hand": saved_by_hand,
    "offline": offline,
    "changed_env": changed_env,
    "diverged": diverged,
}
