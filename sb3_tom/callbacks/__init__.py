"""Callbacks that leave tables of a run, and what they are made of. Nothing in the package needs them."""

from sb3_tom.callbacks.learning_curve import LearningCurveCallback
from sb3_tom.callbacks.model_error import ModelErrorCallback
from sb3_tom.callbacks.weight_by_age import WeightByAgeCallback

__all__ = ["LearningCurveCallback", "ModelErrorCallback", "WeightByAgeCallback"]
