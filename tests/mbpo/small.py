"""Agents that are small enough to train within a test."""

from typing import Any

from sb3_tom import MBPO

SMALL_NETWORK: dict[str, Any] = {
    "net_arch": (16, 16),
    "steps_per_epoch": 5,
    "max_epochs": 3,
    "first_max_epochs": 3,
    "batch_size": 32,
}
SMALL_MODELS: dict[str, dict[str, Any]] = {
    "ensemble": {"n_members": 3, "n_elites": 2, **SMALL_NETWORK},
    "smooth": {"n_members": 3, **SMALL_NETWORK},
    "mdn": {"n_components": 3, **SMALL_NETWORK},
    "linear": {},
}
SMALL_TOM = {
    "recent_size": 40,
    "discriminator_steps": 10,
    "q_steps": 10,
    "average_steps": 50,
    "q_batch_size": 32,
    "discriminator_batch_size": 32,
}
SMALL_WEIGHTERS: dict[str, dict[str, Any]] = {
    "uniform": {},
    "pmac": {},
    "tom": SMALL_TOM,
    "ratio": SMALL_TOM,
    "recency": {},
    "error": {},
    "pdml": {"n_policies": 3, "n_states": 50},
    "per": {},
    "recall": {},
    "maper": {},
    "value": {},
}


def small_agent(env: Any = "Pendulum-v1", weighter: str = "uniform", dynamics: str = "ensemble", **kwargs: Any) -> MBPO:
    """An agent that trains a few hundred steps within seconds."""
    settings: dict[str, Any] = {
        "learning_starts": 50,
        "batch_size": 32,
        "buffer_size": 1000,
        "seed": 0,
        "policy_kwargs": {"net_arch": [16, 16]},
        "weighter_kwargs": SMALL_WEIGHTERS.get(weighter),
        "dynamics_kwargs": SMALL_MODELS.get(dynamics),
        "rollout_batch_size": 100,
        "model_train_freq": 25,
        "update_to_data_ratio": 2.0,
        "device": "cpu",
    }
    policy = kwargs.pop("policy", "MlpPolicy")
    return MBPO(policy, env, weighter=weighter, dynamics=dynamics, **{**settings, **kwargs})
