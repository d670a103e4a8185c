"""What ``benchmarks/curves.py`` compares: tasks, methods, and variants of them."""

from dataclasses import replace
from typing import Any

from curves_kinds import DHMBPO, Method, Task
from torch import nn

TASKS = {
    "InvertedPendulum-v5": Task(4_000, 250, reward_threshold=950.0),
    "InvertedDoublePendulum-v5": Task(10_000, 500, solved=9_300.0, bonus=10.0),
    "Reacher-v5": Task(5_000, 500, bonus=0.0, settings={"learning_starts": 1_000}),
    "Pusher-v5": Task(20_000, 1_000, bonus=0.0),
    "Swimmer-v5": Task(50_000, 1_000, bonus=0.0),
    # 1,000 random steps, as in the first runs: 5,000 of 25,000 would not depend on the weighter
    "Hopper-v5": Task(25_000, 1_000, solved=2_000.0, settings={"learning_starts": 1_000}),
    "Walker2d-v5": Task(125_000, 5_000),
    "HalfCheetah-v5": Task(125_000, 5_000, bonus=0.0),
    # Observes its position, which grows without bound; with MBPO's ratio of the other tasks, half of the papers' on this one
    "HalfCheetah-v5-positions": Task(
        15_000,
        1_000,
        bonus=0.0,
        settings={"learning_starts": 1_000, "update_to_data_ratio": 20},
        env="HalfCheetah-v5",
        env_kwargs={"exclude_current_positions_from_observation": False},
    ),
    "Ant-v5": Task(125_000, 5_000),
    "Humanoid-v5": Task(125_000, 5_000, bonus=5.0),
}

OFFICIAL_PARTS: dict[str, dict[str, Any]] = {
    "official_ratio": {
        "discriminator_arch": [128, 256],
        "separate_encoders": True,
        "train_encoders": False,
        "delta_input": False,
        "folds": 1,
        "buffer_label": 0.1,
        "gradient_penalty": 10.0,
        "discriminator_weight_decay": 0.0,
        "discriminator_learning_rate": 3e-4,
        "ratio_bound": None,
    },
    "official_dual": {
        "divergence": "chi2",
        "q_arch": [256, 256],
        "q_persistent": True,
        "q_steps": 1000,
        "q_batch_size": 256,
        "q_learning_rate": 3e-4,
        "start_batch_size": 256,
        "q_holdout_ratio": 0.0,
        "q_weight_decay": 1e-4,
        "n_actions": 1,
        "pool_size": None,
        "terminal": "mask",
        "restart_truncated": False,
        "average_next": False,
        "corrected_conjugate": False,
        "mass_shift": False,
        "occupancy_gamma": 0.99,
    },
}
"""The official preset's discriminator, and its dual; the preset also has raw inputs and constant learning rates of both."""

SHARP: dict[str, Any] = {"buffer_label": 0.0, "gradient_penalty": 0.0}
"""A discriminator without label and gradient penalty."""
SOFT: dict[str, Any] = {"buffer_label": 0.1, "gradient_penalty": 10.0}
"""With both, as it was before it was cross-fitted."""
ONE_NETWORK: dict[str, Any] = {"folds": 1, "discriminator_weight_decay": 1e-3}
"""The discriminator before it was cross-fitted."""
RELEASE_010: dict[str, Any] = {
    **ONE_NETWORK,
    **SOFT,
    "occupancy_gamma": 0.99,
    "restart_truncated": False,
    "average_next": False,
    "n_actions": 4,
    "q_steps": 1000,
    "q_batch_size": 256,
    "q_learning_rate": 3e-4,
}
"""TOM's defaults of release 0.1.0, as far as they have changed."""
CHI2_SHARP: dict[str, Any] = {"divergence": "chi2", **SHARP}
"""With the paper's divergence: the paper's TOM, and the defaults until these runs were compared."""


def tom(**arguments: Any) -> Method:
    """TOM with other arguments."""
    return Method(weighter="tom", weighter_kwargs=arguments)


TOM_PARTS = {
    **{name: tom(**arguments) for name, arguments in OFFICIAL_PARTS.items()},
    "mask": tom(terminal="mask"),
    "gamma_long": tom(occupancy_gamma=0.999),
    "gamma_short": tom(occupancy_gamma=0.9),
    "mix": tom(uniform_mix=0.5),
    "max3": tom(max_weight=3.0),
    "ess": tom(ess_floor=0.5),
    "recent250": tom(recent_size=250),
    "recent2000": tom(recent_size=2000),
    "starts": Method(weighter="tom", changes={"weight_rollout_starts": False}),
    "ratio": Method(weighter="tom", changes={"weighter": "ratio"}),
    "survive": Method(weighter="tom", survive=True),
}
"""TOM with a part changed."""

RIVALS: dict[str, dict[str, Any]] = {
    name: {"weighter": name} for name in ("recency", "error", "ratio", "pdml", "per", "recall", "maper", "value")
}
"""Weighters that cost less than TOM, and those that papers compare with, at their defaults."""

OBJECTIVES = ("vagram", "mnm")
"""Objectives other than the likelihood."""

JUDGED: dict[str, dict[str, Any]] = {
    "confidence": {"confidence": "inverse_std"},
    "stop": {"rollout_stop": "quantile"},
}
"""Confidences and rollout stops, at their defaults."""

# A stop ends long rollouts: MACURA's have at most ten steps. A tenth as many rollouts makes no more rows than one step of all
LONGER: dict[str, Any] = {"rollout_schedule": 10, "rollout_batch_size": 10_000}

METHODS = {
    "sac": Method("stable_baselines3:SAC"),
    "crossq": Method("sb3_contrib:CrossQ"),
    "mbpo": Method(),
    "mbpo_pmac": Method(weighter="pmac"),
    "mbpo_tom": tom(),
    "dhmbpo": Method(DHMBPO),
    "dhmbpo_pmac": Method(DHMBPO, weighter="pmac"),
    "dhmbpo_tom": Method(DHMBPO, weighter="tom"),
    "dhmbpo_tom_gamma_0995": Method(DHMBPO, weighter="tom", changes={"gamma": 0.995}),
    "dhmbpo_tom_one_network": Method(DHMBPO, weighter="tom", weighter_kwargs=ONE_NETWORK | SOFT),
    **{f"mbpo_{name}": Method(**settings) for name, settings in RIVALS.items()},
    **{f"dhmbpo_{name}": Method(DHMBPO, **settings) for name, settings in RIVALS.items()},
    **{f"mbpo_{name}": Method(changes={"objective": name}) for name in OBJECTIVES},
    **{f"dhmbpo_{name}": Method(DHMBPO, changes={"objective": name}) for name in OBJECTIVES},
    "mbpo_confidence": Method(changes=JUDGED["confidence"]),
    "mbpo_stop": Method(changes=JUDGED["stop"] | LONGER),
    **{f"dhmbpo_{name}": Method(DHMBPO, changes=changes) for name, changes in JUDGED.items()},
    **{
        f"dhmbpo_{weighter}_{name}": Method(DHMBPO, weighter=weighter, changes=changes)
        for weighter in ("tom", "pmac")
        for name, changes in JUDGED.items()
    },
    "mbpo_tom_chi2_sharp": tom(**CHI2_SHARP),
    "mbpo_tom_official": tom(preset="official"),
}
PAPERS = {
    f"dhmbpo{name}": METHODS[f"dhmbpo{name}"] for name in ("", *(f"_{plug}" for plug in ("pmac", "tom", *RIVALS, *OBJECTIVES)))
}
"""The methods of the papers and the baselines, on the cheaper backbone."""
CLAMPS = {
    f"mbpo_clamp_{name}": Method(changes={"dynamics_kwargs": {"clamp": clamp}})
    for name, clamp in {"range": "range", "margin": "margin", "none": None}.items()
}
"""Bounds of what the model may imagine."""

MODELS = {"mbpo_beta_05": Method(changes={"dynamics_kwargs": {"beta_nll": 0.5}})}
"""MBPO with another model."""

DOUBLE_HORIZON = {
    f"dhmbpo_{name}": Method(DHMBPO, changes=changes)
    for name, changes in {
        "averaging_39": {"policy_kwargs": {"averaging": 39}},
        "averaging_99": {"policy_kwargs": {"averaging": 99}},
        "gamma_099": {"gamma": 0.99},
        "gamma_0995": {"gamma": 0.995},  # the authors', and the default until 2026-11-29
        "gamma_0995_ratio_1": {"gamma": 0.995, "update_to_data_ratio": 1, "batch_size": 256},
        "tau_0005": {"tau": 0.005},
        "ratio_1": {"update_to_data_ratio": 1, "batch_size": 256},
        "horizon_3": {"policy_update_kwargs": {"horizon": 3}},
        "homoscedastic": {"dynamics_kwargs": {"homoscedastic": True, "beta_nll": 0.0}},
        "beta_0": {"dynamics_kwargs": {"beta_nll": 0.0}},
        "bound_penalty_1e4": {"dynamics_kwargs": {"bound_penalty": 1e-4}},
        "decay_1e3": {"dynamics_kwargs": {"weight_decay": 1e-3}},
        "critic_scale_1": {"policy_update_kwargs": {"critic_scale": 1.0}},
        "2_critics": {"policy_kwargs": {"n_critics": 2}},
        "actor_min": {"policy_update_kwargs": {"actor_reduction": "min"}},
        "random_5000": {"learning_starts": 5_000},
    }.items()
}
"""The double horizon with one default changed each."""

NETWORKS = {
    "mbpo_silu": Method(changes={"policy_kwargs": {"activation_fn": nn.SiLU}}),
    "mbpo_5critics": Method(changes={"policy_kwargs": {"n_critics": 5}}),
    "mbpo_layer_norm": Method(policy="LayerNormPolicy"),
    "mbpo_dropout": Method(policy="LayerNormPolicy", changes={"policy_kwargs": {"dropout_rate": 0.01}}),
    "mbpo_simba": Method(policy="SimbaPolicy"),
}
"""MBPO with other networks of the policy."""

POLICIES = NETWORKS | {"mbpo_fast": Method(changes={"update_to_data_ratio": 10})}
"""MBPO with other networks of the policy, or with half of its gradient steps where the YAML file has 20."""

MODEL_FREE = {
    "droq": Method(
        "sbx:SAC",
        changes={"gradient_steps": 20, "policy_delay": 20, "policy_kwargs": {"dropout_rate": 0.01, "layer_norm": True}},
    ),
    "simba": Method("sbx:SAC", policy="SimbaPolicy", changes={"gradient_steps": 2}, normalize=True),
}
"""
The strongest of SBX (``pip install sbx-rl``) for few env steps: DroQ as in its README, SimBa at its paper's ratio and with
normalised observations, as the README advises.
"""

IN_ONE_PLACE = {"fit": {"weight_rollout_starts": False}, "starts": {"weight_model_fit": False}}
PMAC_PARTS = {f"mbpo_pmac_{part}": Method(weighter="pmac", changes=changes) for part, changes in IN_ONE_PLACE.items()}
"""PMAC's weights in one place only (App. C.1)."""
TOM_PLACES = {f"dhmbpo_tom_{part}": Method(DHMBPO, weighter="tom", changes=changes) for part, changes in IN_ONE_PLACE.items()}
TOM_PLACES["dhmbpo_tom_fit_half"] = Method(
    DHMBPO, weighter="tom", weighter_kwargs={"uniform_mix": 0.5}, changes=IN_ONE_PLACE["fit"]
)
"""TOM's weights in one place only, in the fit also with as many uniform ones among them."""
POLICY_INPUT = {
    f"dhmbpo_{weighter}_policy_input": Method(DHMBPO, weighter=weighter, weighter_kwargs={"policy_input": True})
    for weighter in ("tom", "ratio")
}
"""TOM and its discriminator alone, which also see what the policy says of an action."""
TOM_ESS = {
    f"dhmbpo_tom_ess_{name}": Method(DHMBPO, weighter="tom", weighter_kwargs={"ess_floor": floor})
    for name, floor in {"05": 0.5, "075": 0.75}.items()
}
"""TOM's weights tempered until their effective sample size is half, or three quarters, of the rows."""
PMAC_ALPHA = {
    f"mbpo_pmac_alpha_{name}": Method(weighter="pmac", weighter_kwargs={"alpha": alpha})
    for name, alpha in {"05": 0.5, "07": 0.7, "08": 0.8, "095": 0.95, "099": 0.99}.items()
}
"""PMAC's rate; its default is 0.9 (App. C.2)."""

ABLATIONS = {
    "mbpo_survive": Method(survive=True),
    "mbpo_tom_chi2": tom(**ONE_NETWORK, **SOFT, divergence="chi2"),
    "mbpo_tom_sharp": tom(**ONE_NETWORK, **SHARP),
    "mbpo_tom_no_penalty": tom(**ONE_NETWORK, buffer_label=0.1, gradient_penalty=0.0),
    **{f"mbpo_tom_{name}": method for name, method in TOM_PARTS.items()},
}
"""One part changed each: of TOM, and of uniform weights the bonus."""

CHI2_SHARP_ABLATIONS = {
    f"mbpo_tom_chi2_sharp_{name}": replace(method, weighter_kwargs=CHI2_SHARP | method.weighter_kwargs)
    for name, method in {"labels": tom(buffer_label=0.1), **TOM_PARTS}.items()
}
"""The same parts changed in the earlier defaults."""
VARIANTS = ABLATIONS | CHI2_SHARP_ABLATIONS | CLAMPS | POLICIES | MODELS | DOUBLE_HORIZON
VARIANTS |= PMAC_PARTS | PMAC_ALPHA | TOM_PLACES | TOM_ESS | POLICY_INPUT | MODEL_FREE

GROUPS = {
    "all": METHODS,
    "ablations": ABLATIONS,
    "chi2_sharp_ablations": CHI2_SHARP_ABLATIONS,
    "clamps": CLAMPS,
    "double_horizon": DOUBLE_HORIZON,
    "policies": POLICIES,
    "pmac_parts": PMAC_PARTS,
    "pmac_alpha": PMAC_ALPHA,
    "papers": PAPERS,
    "tom_places": TOM_PLACES,
}
"""Names that stand for several methods."""
