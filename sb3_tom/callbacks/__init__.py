"""Callbacks that write tables of a run, and their parts. Training does not need them."""

from sb3_tom.callbacks.learning_curve import LearningCurveCallback
from sb3_tom.callbacks.model_error import ModelErrorCallback
from sb3_tom.callbacks.weight_by_age import WeightByAgeCallback

__all__ = ["LearningCurveCallback", "ModelErrorCallback", "WeightByAgeCallback"]
