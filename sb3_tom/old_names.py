"""
Old names still resolve: import paths in old zips, pickles and YAML files (:class:`_OldModules`), and attributes of old agents
(:func:`upgrade_attributes`, :func:`upgrade_state`). All of this is removed in release 0.3; save such files anew before.
"""

import sys
import warnings
from collections.abc import Sequence
from importlib import import_module
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

UNTIL = "0.3"
"""The release that removes the old names."""

MOVED: dict[str, tuple[str, ...]] = {
    "common": (),
    "common.buffers": ("data.replay_buffer", "data.imagined"),
    "common.callbacks": ("callbacks.learning_curve", "callbacks.weight_by_age"),
    "common.chunks": ("compute.chunks",),
    "common.cuda_graphs": ("compute.cuda_graphs", "compute.optimizers"),
    "common.diagnostics": ("data.diagnostics", "mbpo.remaining_time", "mbpo.update_counter"),
    "common.evaluation": ("callbacks.evaluation",),
    "common.fast_matmul": ("compute.fast_matmul",),
    "common.fitting": ("dynamics.fitting",),
    "common.guards": ("checks.guards",),
    "common.labels": ("callbacks.labels",),
    "common.mixing": ("data.batches",),
    "common.model_error": ("callbacks.model_error",),
    "common.plug": ("contracts.plug",),
    "common.resident": ("data.resident",),
    "common.resolve": ("contracts.resolve",),
    "common.rollouts": ("imagination.rollouts", "imagination.world"),
    "common.scales": ("data.scales",),
    "common.schedules": ("imagination.schedules",),
    "common.tables": ("callbacks.tables",),
    "common.types": ("contracts.types", "contracts.context"),
    "common.validation": ("checks.validation",),
    "common.vec_normalize": ("data.units", "envs.vec_normalize"),
    "common.weighing": ("mbpo.weighing",),
    "common.weights": ("data.weights",),
    "common.workers": ("envs.workers",),
    "dynamics.base": ("contracts.dynamics",),
    "mbpo.direct_adam": ("policy_updates.direct_adam",),
    "mbpo.graphed_update": ("policy_updates.sac.graphed_update",),
    "mbpo.plain_update": ("policy_updates.sac.handwritten_update",),
    "mbpo.sac_update": ("policy_updates.sac.sac_update", "policy_updates.sampling", "policy_updates.steps"),
    "mbpo.stacked_mlp": ("policy_updates.sac.stacked_mlp",),
    "objectives.base": ("contracts.objective",),
    "terminations.base": ("contracts.termination",),
    "weighters.base": ("contracts.weighter",),
    "weighters.discriminator": ("weighters.tom.discriminator",),
    "weighters.dual": ("weighters.tom.dual",),
    "weighters.footprint": ("weighters.tom.footprint",),
    "weighters.functional": ("weighters.tom.functional",),
    "weighters.holdout": ("weighters.tom.holdout",),
    "weighters.networks": ("weighters.tom.networks",),
    "weighters.ratio": ("weighters.tom.ratio",),
    "weighters.weighing": ("mbpo.weighing",),
    "weighters.settings": ("weighters.tom.settings",),
}
"""From old modules to those that have their names now, all below ``sb3_tom``."""

COUNTS = {
    "_collected": "collected",
    "_trained_transitions": "trained_transitions",
    "_earlier_updates": "earlier_updates",
    "_owed_updates": "owed_updates",
}
"""From old attributes of the agent to those of its update counter."""


class _OldModule(ModuleType):
    """Re-exports the names of the modules that replaced it."""

    def __getattr__(self, name: str) -> Any:
        if not name.startswith("__"):
            for place in self.__dict__["places"]:
                module = import_module(place)
                if hasattr(module, name):
                    return getattr(module, name)
        raise AttributeError(f"module {self.__name__!r} has no attribute {name!r}")


class _OldModules(MetaPathFinder, Loader):
    """Finds the modules of :data:`MOVED`; the last finder, so that it never hides a module that exists."""

    def find_spec(self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None) -> ModuleSpec | None:
        package, _, name = fullname.partition(".")
        if package != "sb3_tom" or name not in MOVED:
            return None
        return ModuleSpec(fullname, self, is_package=name == "common")

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        return _OldModule(spec.name, "Kept for old files.")

    def exec_module(self, module: ModuleType) -> None:
        places = MOVED[module.__name__.partition(".")[2]]
        vars(module)["places"] = [f"sb3_tom.{place}" for place in places]
        if places:
            now = " and ".join(f"sb3_tom.{place}" for place in places)
            text = f"{module.__name__} is {now} now; the old name goes with release {UNTIL}"
            warnings.warn(text, DeprecationWarning, stacklevel=2)


def install() -> None:
    """Let old import paths resolve. Idempotent."""
    if not any(isinstance(finder, _OldModules) for finder in sys.meta_path):
        sys.meta_path.append(_OldModules())


def upgrade_attributes(attributes: dict[str, Any]) -> None:
    """
    Update the attributes of an agent that was loaded from an old zip.

    :param attributes: ``vars`` of the agent; changed
    """
    attributes.pop("_new_transitions", None)
    if any(name in attributes for name in COUNTS):
        attributes["update_counter"].load_state_dict(_counts(attributes))
    attributes["_env_steps"] = max(attributes["_env_steps"], attributes["num_timesteps"])
    if "termination_fn" in attributes:
        attributes["_plug_specs"] = {"termination_fn": (attributes.pop("termination_fn"), None), **attributes["_plug_specs"]}


def upgrade_state(state: dict[str, Any]) -> None:
    """
    Update the agent's state of an old checkpoint.

    :param state: from :func:`sb3_tom.checkpoint.agent_state.agent_state`; changed
    """
    attributes, objects = state["attributes"], state["objects"]
    if any(name in attributes for name in COUNTS):
        objects["update_counter"] = _counts(attributes)
    attributes.setdefault("_env_steps", attributes["num_timesteps"])
    if "_new_transitions" in attributes:
        attributes.setdefault("_since_phase", attributes.pop("_new_transitions"))
    if "_remaining_time" in objects:
        objects["remaining_time"] = objects.pop("_remaining_time")


def _counts(attributes: dict[str, Any]) -> dict[str, Any]:
    return {now: attributes.pop(old) for old, now in COUNTS.items() if old in attributes}
