"""Which imagined transitions end an episode."""

from sb3_tom.terminations.auto import AutoTermination
from sb3_tom.terminations.learned import LearnedTermination
from sb3_tom.terminations.reading import read_rule
from sb3_tom.terminations.user_function import CallableTermination, NeverTermination

__all__ = [
    "AutoTermination",
    "CallableTermination",
    "LearnedTermination",
    "NeverTermination",
    "read_rule",
]
