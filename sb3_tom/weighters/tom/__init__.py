"""Transition occupancy matching (arXiv:2305.12663): its weighter, and the parts of it."""

from sb3_tom.weighters.tom.ratio import RatioWeighter
from sb3_tom.weighters.tom.weighter import TOMWeighter

__all__ = ["RatioWeighter", "TOMWeighter"]
