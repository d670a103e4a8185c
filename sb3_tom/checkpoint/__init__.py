"""Complete, exact and safe checkpoints of a training run."""

from sb3_tom.checkpoint.callback import ResumeCallback
from sb3_tom.checkpoint.env_state import register_env
from sb3_tom.checkpoint.files import latest_checkpoint

__all__ = ["ResumeCallback", "latest_checkpoint", "register_env"]
