"""Environments of this package, registered for ``gymnasium.make`` by ``import sb3_tom``."""

from gymnasium.envs.registration import register, registry

from sb3_tom.envs.copied import CopiedObservations

__all__ = ["CopiedObservations", "register_envs"]

ROAD_AND_ROCKS = "sb3_tom/RoadAndRocks-v0"


def register_envs() -> None:
    """Register the environments with Gymnasium; their modules are imported when one is made."""
    if ROAD_AND_ROCKS not in registry:
        register(ROAD_AND_ROCKS, entry_point="sb3_tom.envs.road_and_rocks:RoadAndRocksEnv", max_episode_steps=100)
