"""
The parts of the agent that a user chooses, a row each. Construction, files, YAML checks and documentation use this table.
"""

from sb3_tom.contracts.dynamics import DynamicsModel
from sb3_tom.contracts.imagination import Confidence, RolloutStop
from sb3_tom.contracts.objective import ModelObjective
from sb3_tom.contracts.policy_update import PolicyUpdate
from sb3_tom.contracts.resolve import Axis
from sb3_tom.contracts.termination import Termination
from sb3_tom.contracts.weighter import Weighter

AXES: dict[str, Axis] = {
    "weighter": Axis(
        contract=Weighter,
        aliases={
            "uniform": "sb3_tom.weighters.uniform:UniformWeighter",
            "pmac": "sb3_tom.weighters.pmac:PMACWeighter",
            "tom": "sb3_tom.weighters.tom.weighter:TOMWeighter",
            "ratio": "sb3_tom.weighters.tom.ratio:RatioWeighter",
            "recency": "sb3_tom.weighters.recency:RecencyWeighter",
            "error": "sb3_tom.weighters.error:ErrorWeighter",
            "pdml": "sb3_tom.weighters.pdml:PDMLWeighter",
            "per": "sb3_tom.weighters.per:PERWeighter",
            "recall": "sb3_tom.weighters.recall:RecallWeighter",
            "maper": "sb3_tom.weighters.maper:MaPERWeighter",
            "value": "sb3_tom.weighters.value:ValueWeighter",
        },
        default="uniform",
        part="weighter",
    ),
    "dynamics": Axis(
        contract=DynamicsModel,
        aliases={
            "ensemble": "sb3_tom.dynamics.ensemble:ProbabilisticEnsemble",
            "mdn": "sb3_tom.dynamics.mdn:MixtureDensityNetwork",
            "linear": "sb3_tom.dynamics.linear:LinearDynamics",
            "smooth": "sb3_tom.dynamics.smooth:SmoothEnsemble",
        },
        default="ensemble",
        part="dynamics",
    ),
    "objective": Axis(
        contract=ModelObjective,
        aliases={
            "likelihood": "sb3_tom.objectives.likelihood:LikelihoodObjective",
            "survive_bonus": "sb3_tom.objectives.survive:SurviveBonusObjective",
            "vagram": "sb3_tom.objectives.vagram:VaGraMObjective",
            "mnm": "sb3_tom.objectives.mnm:MnMObjective",
        },
        default="likelihood",
        part="objective",
    ),
    "termination_fn": Axis(
        contract=Termination,
        aliases={
            "auto": "sb3_tom.terminations.auto:AutoTermination",
            "learned": "sb3_tom.terminations.learned:LearnedTermination",
            "never": "sb3_tom.terminations.user_function:NeverTermination",
        },
        default="auto",
        part="termination",
        adapter="sb3_tom.terminations.user_function:CallableTermination",
        any_class_on_load=True,
    ),
    "policy_update": Axis(
        contract=PolicyUpdate,
        aliases={
            "sac": "sb3_tom.policy_updates.sac.update:SACPolicyUpdate",
            "double_horizon": "sb3_tom.policy_updates.double_horizon.update:DoubleHorizonUpdate",
        },
        default="sac",
        part="policy_update",
    ),
    "confidence": Axis(
        contract=Confidence,
        aliases={"inverse_std": "sb3_tom.confidences.inverse_std:InverseStdConfidence"},
        default=None,
        part="confidence",
    ),
    "rollout_stop": Axis(
        contract=RolloutStop,
        aliases={"quantile": "sb3_tom.rollout_stops.quantile:QuantileStop"},
        default=None,
        part="rollout_stop",
    ),
}
"""Axes by the argument of the constructor; ``Axis.kwargs_argument`` names that of its keyword arguments."""


def default_of(cls: type, argument: str) -> str | None:
    """
    The value of an axis if the user gives None.

    :param cls: class of the agent; its attribute ``default_<argument>``, if it has one, overrides the table
    :param argument: of the constructor
    """
    default: str | None = getattr(cls, f"default_{argument}", AXES[argument].default)
    return default
