"""Model-based policy optimisation for Stable-Baselines3, with weighters that choose what the model learns from."""

from pathlib import Path

from sb3_tom import old_names
from sb3_tom import zoo as zoo  # lets the RL Zoo find the algorithms; imports nothing of it
from sb3_tom.checks.guards import DivergenceError
from sb3_tom.contracts.context import Context
from sb3_tom.contracts.dynamics import DynamicsModel, Prediction
from sb3_tom.contracts.imagination import Confidence, RolloutStop
from sb3_tom.contracts.objective import ModelObjective
from sb3_tom.contracts.policy_update import PolicyUpdate
from sb3_tom.contracts.termination import Termination
from sb3_tom.contracts.types import Transitions
from sb3_tom.contracts.weighter import Weighter
from sb3_tom.dynamics.ensemble import ProbabilisticEnsemble
from sb3_tom.dynamics.linear import LinearDynamics
from sb3_tom.dynamics.mdn import MixtureDensityNetwork
from sb3_tom.dynamics.smooth import SmoothEnsemble
from sb3_tom.envs import register_envs
from sb3_tom.mbpo.mbpo import MBPO
from sb3_tom.mbpo.variants import DHMBPO, DHMBPOPMAC, DHMBPOTOM, MBPOPMAC, MBPOTOM
from sb3_tom.weighters.pmac import PMACWeighter
from sb3_tom.weighters.tom import TOMWeighter
from sb3_tom.weighters.uniform import UniformWeighter

__version__ = Path(__file__).with_name("version.txt").read_text(encoding="utf-8").strip()

register_envs()
old_names.install()

__all__ = [
    "DHMBPO",
    "DHMBPOPMAC",
    "DHMBPOTOM",
    "MBPO",
    "MBPOPMAC",
    "MBPOTOM",
    "Confidence",
    "Context",
    "DivergenceError",
    "DynamicsModel",
    "LinearDynamics",
    "MixtureDensityNetwork",
    "ModelObjective",
    "PMACWeighter",
    "PolicyUpdate",
    "Prediction",
    "ProbabilisticEnsemble",
    "RolloutStop",
    "SmoothEnsemble",
    "TOMWeighter",
    "Termination",
    "Transitions",
    "UniformWeighter",
    "Weighter",
]
