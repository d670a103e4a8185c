"""What ``benchmarks/curves.py`` compares: tasks, methods, and the variants of TOM."""

from dataclasses import dataclass, field
from typing import Any

MBPO = "sb3_tom:MBPO"


@dataclass(frozen=True)
class Method:
    """
    An agent to compare.

    :param agent: ``"module:Class"``; one without a model keeps its package's settings, but for the warm-up
    :param weighter: of an MBPO
    :param changes: settings of an MBPO in place of those of its YAML file
    :param survive: the model is told the task's survive bonus instead of learning it
    """

    agent: str = MBPO
    weighter: str = "uniform"
    changes: dict[str, Any] = field(default_factory=dict)
    survive: bool = False

    @property
    def is_model_based(self) -> bool:
        """Whether the agent is an MBPO."""
        return self.agent == MBPO

    @property
    def yaml_file(self) -> str:
        """Name of the file below ``hyperparams`` that has the settings, or the warm-up and the environment's."""
        return "mbpo.yml" if self.weighter == "uniform" else f"mbpo_{self.weighter}.yml"

    def settings(self, task: "Task") -> dict[str, Any]:
        """What the YAML file does not have."""
        bonus = {"objective": "survive_bonus", "objective_kwargs": {"bonus": task.bonus}} if self.survive else {}
        return {"weighter": self.weighter} | bonus | self.changes


@dataclass(frozen=True)
class Task:
    """
    How long a task is run, and how often it is evaluated. Its settings are those of ``hyperparams/*.yml``.

    :param steps: env steps of a run
    :param eval_freq: env steps between two evaluations
    :param reward_threshold: a run ends as soon as an evaluation reaches it
    :param solved: the page tells when an evaluation first reaches it; None: the threshold
    :param bonus: what the task pays for each step that does not end the episode, for the ablation of the survive bonus
    :param settings: of all methods, in place of those of the YAML files
    """

    steps: int
    eval_freq: int
    reward_threshold: float | None = None
    solved: float | None = None
    bonus: float = 1.0
    settings: dict[str, Any] = field(default_factory=dict)

    @property
    def goal(self) -> float | None:
        """The return of a solved task; None where the page names none."""
        return self.reward_threshold if self.solved is None else self.solved


TASKS = {
    "InvertedPendulum-v5": Task(4_000, 250, reward_threshold=950.0),
    "InvertedDoublePendulum-v5": Task(10_000, 500, solved=9_300.0, bonus=10.0),
    "Reacher-v5": Task(5_000, 500, bonus=0.0, settings={"learning_starts": 1_000}),
    "Pusher-v5": Task(20_000, 1_000, bonus=0.0),
    "Swimmer-v5": Task(50_000, 1_000, bonus=0.0),
    # 1,000 random steps, as in the runs that were there first: 5,000 of 25,000 say nothing about any weighter
    "Hopper-v5": Task(25_000, 1_000, solved=2_000.0, settings={"learning_starts": 1_000}),
    "Walker2d-v5": Task(125_000, 5_000),
    "HalfCheetah-v5": Task(125_000, 5_000, bonus=0.0),
    "Ant-v5": Task(125_000, 5_000),
    "Humanoid-v5": Task(125_000, 5_000, bonus=5.0),
}

OFFICIAL_PARTS: dict[str, dict[str, Any]] = {
    "official_ratio": {
        "discriminator_arch": [128, 256],
        "separate_encoders": True,
        "train_encoders": False,
        "delta_input": False,
        "buffer_label": 0.1,
        "gradient_penalty": 10.0,
        "discriminator_weight_decay": 0.0,
        "discriminator_learning_rate": 3e-4,
        "ratio_bound": None,
    },
    "official_dual": {
        "q_arch": [256, 256],
        "q_persistent": True,
        "start_batch_size": 256,
        "q_holdout_ratio": 0.0,
        "q_weight_decay": 1e-4,
        "n_actions": 1,
        "pool_size": None,
        "terminal": "mask",
        "corrected_conjugate": False,
        "mass_shift": False,
        "occupancy_gamma": 0.99,
    },
}
"""The official preset's discriminator, and its dual; what is left of it are raw inputs and constant learning rates of both."""

SOFT: dict[str, Any] = {"buffer_label": 0.1, "gradient_penalty": 10.0}
"""A discriminator that tells less: the official one's labels and penalty on the default network."""

TOM_VARIANTS: dict[str, dict[str, Any]] = {
    **{name: {"weighter_kwargs": arguments} for name, arguments in OFFICIAL_PARTS.items()},
    "soft_ratio": {"weighter_kwargs": SOFT},
    "soft_labels": {"weighter_kwargs": {"buffer_label": 0.1}},
    "kl": {"weighter_kwargs": {"divergence": "kl"}},
    "kl_soft": {"weighter_kwargs": {"divergence": "kl", **SOFT}},
    "mask": {"weighter_kwargs": {"terminal": "mask"}},
    "gamma_long": {"weighter_kwargs": {"occupancy_gamma": 0.999}},
    "gamma_short": {"weighter_kwargs": {"occupancy_gamma": 0.9}},
    "mix": {"weighter_kwargs": {"uniform_mix": 0.5}},
    "max3": {"weighter_kwargs": {"max_weight": 3.0}},
    "ess": {"weighter_kwargs": {"ess_floor": 0.5}},
    "recent250": {"weighter_kwargs": {"recent_size": 250}},
    "recent2000": {"weighter_kwargs": {"recent_size": 2000}},
    "starts": {"weight_rollout_starts": False},
    "ratio": {"weighter": "sb3_tom.weighters.ratio:RatioWeighter"},
}
"""TOM with a part changed; each is a method ``mbpo_tom_<name>``."""

METHODS = {
    "sac": Method("stable_baselines3:SAC"),
    "crossq": Method("sb3_contrib:CrossQ"),
    "mbpo": Method(),
    "mbpo_pmac": Method(weighter="pmac"),
    "mbpo_tom": Method(weighter="tom"),
    "mbpo_tom_official": Method(weighter="tom", changes={"weighter_kwargs": {"preset": "official"}}),
}
ABLATIONS = {f"mbpo_tom_{name}": Method(weighter="tom", changes=changes) for name, changes in TOM_VARIANTS.items()}
ABLATIONS |= {"mbpo_survive": Method(survive=True), "mbpo_tom_survive": Method(weighter="tom", survive=True)}
