"""The dynamics models of this package, and what they share. What a model of your own may use is exported here."""

from sb3_tom.compute.ensemble_linear import EnsembleLinear
from sb3_tom.dynamics.fitting import FitSettings, fit_by_gradient
from sb3_tom.dynamics.gaussian import ConstantNoise, SoftBounds, draw, log_density
from sb3_tom.dynamics.normalized import NormalizedDynamics
from sb3_tom.dynamics.normalizer import Normalizer
from sb3_tom.dynamics.renormalization import UnitChange, preserve_outputs

__all__ = [
    "ConstantNoise",
    "EnsembleLinear",
    "FitSettings",
    "NormalizedDynamics",
    "Normalizer",
    "SoftBounds",
    "UnitChange",
    "draw",
    "fit_by_gradient",
    "log_density",
    "preserve_outputs",
]
