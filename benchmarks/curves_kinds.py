"""A method and a task, as ``benchmarks/curves.py`` compares them."""

from dataclasses import dataclass, field
from typing import Any

MBPO = "sb3_tom:MBPO"
DHMBPO = "sb3_tom:DHMBPO"


@dataclass(frozen=True)
class Method:
    """
    An agent to compare.

    :param agent: ``"module:Class"``; without a model it keeps its package's settings, except for the warm-up and the changes
    :param policy: of the agent
    :param weighter: of an MBPO
    :param weighter_kwargs: arguments of the weighter
    :param changes: settings that override those of the YAML file, or of the package
    :param survive: whether the model is given the task's survive bonus instead of learning it
    :param normalize: whether observations are normalised by SB3's ``VecNormalize``
    """

    agent: str = MBPO
    policy: str = "MlpPolicy"
    weighter: str = "uniform"
    weighter_kwargs: dict[str, Any] = field(default_factory=dict)
    changes: dict[str, Any] = field(default_factory=dict)
    survive: bool = False
    normalize: bool = False

    @property
    def is_model_based(self) -> bool:
        """Whether the agent is an MBPO."""
        return self.agent in (MBPO, DHMBPO)

    @property
    def family(self) -> str:
        """The backbone, with which names of methods and of files begin."""
        return "dhmbpo" if self.agent == DHMBPO else "mbpo"

    @property
    def yaml_file(self) -> str:
        """Name of the file below ``hyperparams`` that has the settings, or the warm-up and the environment's."""
        return f"{self.family}_{self.weighter}.yml" if self.weighter in ("pmac", "tom") else f"{self.family}.yml"

    def settings(self, task: "Task") -> dict[str, Any]:
        """Settings that the YAML file does not have."""
        bonus = {"objective": "survive_bonus", "objective_kwargs": {"bonus": task.bonus}} if self.survive else {}
        arguments = {"weighter_kwargs": self.weighter_kwargs} if self.weighter_kwargs else {}
        return {"weighter": self.weighter} | arguments | bonus | self.changes


@dataclass(frozen=True)
class Task:
    """
    Length of a task's runs, and how often they are evaluated. Its settings are in ``hyperparams/*.yml``.

    :param steps: env steps of a run
    :param eval_freq: env steps between two evaluations
    :param reward_threshold: a run ends as soon as an evaluation reaches it
    :param solved: the page shows when an evaluation first reaches it; None: the threshold
    :param bonus: the task's reward for each step that does not end the episode, for the ablation of the survive bonus
    :param settings: of all methods; override those of the YAML files
    :param env: id of the environment; None: the task's name
    :param env_kwargs: of the environment, besides those of the YAML files
    """

    steps: int
    eval_freq: int
    reward_threshold: float | None = None
    solved: float | None = None
    bonus: float = 1.0
    settings: dict[str, Any] = field(default_factory=dict)
    env: str | None = None
    env_kwargs: dict[str, Any] = field(default_factory=dict)

    @property
    def goal(self) -> float | None:
        """The return of a solved task; None where the page names none."""
        return self.reward_threshold if self.solved is None else self.solved
