"""Converts the parameters of an Optuna trial to arguments of the agent, in plain values for YAML."""

from collections.abc import Mapping
from typing import Any

POLICY_ARCHITECTURES = {"small": [64, 64], "medium": [256, 256], "large": [256, 256, 256]}
"""Hidden layers of actor and critics, by suggested name."""

UNCHANGED = ("learning_rate", "tau", "target_entropy", "update_to_data_ratio", "real_ratio", "model_train_freq")
MODEL = "dynamics_"
POLICY_UPDATE = "policy_update_"
WEIGHTER = "weighter_"
"""Prefixes of parameters that go into the arguments of plugs: ``dynamics_kwargs``, and so on."""


def convert_params(params: Mapping[str, Any]) -> dict[str, Any]:
    """
    The zoo's converter for all our algorithms. In the zoo, nested mappings replace those of a YAML file as a whole.

    :param params: ``trial.params``
    :return: arguments of the agent
    """
    hyperparams: dict[str, Any] = {name: params[name] for name in UNCHANGED if name in params}
    hyperparams["gamma"] = 1 - params["one_minus_gamma"]
    hyperparams["batch_size"] = 2 ** params["batch_size_pow"]
    hyperparams["policy_kwargs"] = {"net_arch": list(POLICY_ARCHITECTURES[params["policy_arch"]])}
    hyperparams["rollout_schedule"] = _rollout_schedule(params)
    hyperparams["dynamics_kwargs"] = {
        "net_arch": [params[f"{MODEL}width"]] * params[f"{MODEL}layers"],
        "learning_rate": params[f"{MODEL}learning_rate"],
    }
    for prefix in (POLICY_UPDATE, WEIGHTER):
        kwargs = {name.removeprefix(prefix): value for name, value in params.items() if name.startswith(prefix)}
        if kwargs:
            hyperparams[f"{prefix}kwargs"] = kwargs
    return hyperparams


def _rollout_schedule(params: Mapping[str, Any]) -> Any:
    """One length throughout, or a ramp from 1."""
    if "rollout_length" in params:
        return params["rollout_length"]
    start = params["rollout_ramp_start"]
    return [start, start + params["rollout_ramp_steps"], 1, params["rollout_end_length"]]
