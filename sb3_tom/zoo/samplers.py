"""
Search spaces for ``python -m rl_zoo3.train -optimize``. ``converters`` turns Optuna's parameters into arguments.

The zoo does not pass the number of env steps of a trial to a sampler. ``experiments.objective`` stores it in the trial's user
attribute :data:`BUDGET`; scripts that call a sampler do the same (``examples/tune.py``).
"""

from collections.abc import Callable, Collection, Mapping
from typing import TYPE_CHECKING, Any

from sb3_tom.zoo.converters import MODEL, POLICY_ARCHITECTURES, POLICY_UPDATE, WEIGHTER, convert_params

if TYPE_CHECKING:
    import optuna

BUDGET = "n_timesteps"
"""User attribute of a trial: its env steps."""

DEFAULT_BUDGET = 30_000
"""Env steps of a trial without that attribute."""

FIXED = "fixed"
"""User attribute of a trial: names of the hyperparameters that are fixed for all trials."""

OTHER_PLUGS = "other_plugs"
"""User attribute of a trial: ``dynamics_kwargs`` and so on, of plugs that are fixed to a class that does not take them."""

SETTINGS = "search"
"""User attribute of a study of ``python -m sb3_tom.tune``: the settings that make its trials comparable."""

Sampler = Callable[["optuna.Trial", int, int, dict[str, Any]], dict[str, Any]]


def _suggest_networks(trial: "optuna.Trial", n_actions: int) -> None:
    """Parameters of SAC. MBPO's target entropies are about the middle of the range."""
    trial.suggest_float("learning_rate", 1e-4, 1e-3, log=True)
    trial.suggest_float("one_minus_gamma", 0.001, 0.03, log=True)
    trial.suggest_float("tau", 0.002, 0.02, log=True)
    trial.suggest_categorical("policy_arch", sorted(POLICY_ARCHITECTURES))
    trial.suggest_float("target_entropy", -float(max(n_actions, 1)), 0.0)


def _suggest_many_updates(trial: "optuna.Trial") -> None:
    """Parameters of MBPO: how much the policy trains, on how many imagined rows."""
    trial.suggest_int("batch_size_pow", 7, 9)
    trial.suggest_int("update_to_data_ratio", 5, 40, step=5)
    trial.suggest_float("real_ratio", 0.02, 0.5, log=True)
    _suggest_ramp(trial)
    trial.suggest_int("rollout_end_length", 1, 25, log=True)


def _suggest_double_horizon(trial: "optuna.Trial") -> None:
    """Parameters of Double Horizon MBPO: its two horizons, and few steps on small minibatches."""
    trial.suggest_int("batch_size_pow", 6, 8)
    trial.suggest_int("update_to_data_ratio", 1, 4)
    trial.suggest_int("rollout_length", 5, 40)
    trial.suggest_int(f"{POLICY_UPDATE}horizon", 1, 8)
    trial.suggest_categorical(f"{POLICY_UPDATE}critic_warmup", [0, 25, 100])


def _suggest_model(trial: "optuna.Trial") -> None:
    """Parameters of the model: how often it is fitted, its size and its learning rate."""
    trial.suggest_categorical("model_train_freq", [125, 250, 500, 1000])
    trial.suggest_int(f"{MODEL}layers", 2, 4)
    trial.suggest_categorical(f"{MODEL}width", [100, 200, 400])
    trial.suggest_float(f"{MODEL}learning_rate", 3e-4, 3e-3, log=True)


def _suggest_ramp(trial: "optuna.Trial") -> None:
    """
    Rollouts begin to grow after at most two fifths of a trial and take a tenth to a half of it: so the end length is used for
    at least the last tenth, and affects the result. In env steps, so that the converter needs no budget.
    """
    twentieth = max(int(trial.user_attrs.get(BUDGET, DEFAULT_BUDGET)) // 20, 1)
    trial.suggest_int("rollout_ramp_start", 0, 8 * twentieth, step=twentieth)
    trial.suggest_int("rollout_ramp_steps", 2 * twentieth, 10 * twentieth, step=twentieth)


def _suggest_pmac(trial: "optuna.Trial") -> None:
    trial.suggest_float(f"{WEIGHTER}alpha", 0.5, 0.99)


def _suggest_tom(trial: "optuna.Trial") -> None:
    trial.suggest_categorical(f"{WEIGHTER}divergence", ["chi2", "kl"])
    fifth = int(trial.user_attrs.get(BUDGET, DEFAULT_BUDGET)) // 5  # until so many rows are there, all weights are 1
    trial.suggest_int(f"{WEIGHTER}recent_size", 500, min(max(fifth, 500), 4000), log=True)
    trial.suggest_float(f"{WEIGHTER}max_weight", 3.0, 30.0, log=True)
    trial.suggest_float(f"{WEIGHTER}uniform_mix", 0.0, 0.5)
    trial.suggest_float(f"{WEIGHTER}ratio_bound", 2.0, 10.0)
    trial.suggest_categorical(f"{WEIGHTER}buffer_label", [0.0, 0.1])
    trial.suggest_categorical(f"{WEIGHTER}gradient_penalty", [0.0, 10.0])
    trial.suggest_float(f"{WEIGHTER}q_learning_rate", 3e-4, 3e-3, log=True)


def without_fixed(sampled: Mapping[str, Any], fixed: Collection[str]) -> dict[str, Any]:
    """
    The arguments that a trial replaces. A fixed one keeps its value; Optuna still records what it sampled for it, which then
    has no effect. Sampled mappings stay, whole, as in the zoo.

    :param sampled: arguments of the agent
    :param fixed: names of the fixed hyperparameters
    :return: arguments of the agent
    """
    return {name: value for name, value in sampled.items() if name not in fixed or isinstance(value, Mapping)}


def of_trial(sampled: Mapping[str, Any], attributes: Mapping[str, Any]) -> dict[str, Any]:
    """
    The arguments that a trial trains with in place of the file's.

    :param sampled: arguments of the agent
    :param attributes: user attributes of the trial, of which :data:`FIXED` and :data:`OTHER_PLUGS` say what it leaves alone
    :return: arguments of the agent
    """
    left_out = attributes.get(OTHER_PLUGS, ())
    return without_fixed({n: v for n, v in sampled.items() if n not in left_out}, attributes.get(FIXED, ()))


def _sampler(*suggestions: Callable[["optuna.Trial"], None]) -> Sampler:
    def sample(trial: "optuna.Trial", n_actions: int, n_envs: int, additional_args: dict[str, Any]) -> dict[str, Any]:
        """
        Sample hyperparameters; has the zoo's signature.

        :param trial: Optuna's trial; the result depends on its parameters and its attributes :data:`BUDGET`, :data:`FIXED`
            and :data:`OTHER_PLUGS`
        :param n_actions: size of the action space
        :param n_envs: unused: the update ratio is per transition
        :param additional_args: unused: for hindsight replay
        :return: arguments of the agent, without the fixed ones
        """
        _suggest_networks(trial, n_actions)
        for suggest in suggestions:
            suggest(trial)
        hyperparams = of_trial(convert_params(trial.params), trial.user_attrs)
        for name in ("gamma", "batch_size", "rollout_schedule"):
            if name in hyperparams:
                trial.set_user_attr(name, hyperparams[name])
        return hyperparams

    return sample


SAMPLERS: dict[str, Sampler] = {
    "mbpo": _sampler(_suggest_many_updates, _suggest_model),
    "mbpo_pmac": _sampler(_suggest_many_updates, _suggest_model, _suggest_pmac),
    "mbpo_tom": _sampler(_suggest_many_updates, _suggest_model, _suggest_tom),
    "dhmbpo": _sampler(_suggest_double_horizon, _suggest_model),
    "dhmbpo_pmac": _sampler(_suggest_double_horizon, _suggest_model, _suggest_pmac),
    "dhmbpo_tom": _sampler(_suggest_double_horizon, _suggest_model, _suggest_tom),
}
"""Samplers by the zoo's name of the algorithm."""
