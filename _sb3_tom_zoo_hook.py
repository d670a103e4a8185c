"""
Registers the algorithms of sb3_tom with the RL Zoo, so that ``python -m rl_zoo3.train --algo mbpo_tom`` needs no wrapper.

``sb3_tom.pth`` (from Python 3.15 on: ``sb3_tom.start``) calls :func:`install` at the start of the interpreter, and ``import
sb3_tom`` calls it too. Nothing else is imported until ``rl_zoo3`` is; then sb3_tom adds its entries to three of
the zoo's modules. The environment variable ``SB3_TOM_NO_ZOO_HOOK=1`` switches all of this off. This module lies outside of the
package and uses the standard library only, because ``import sb3_tom`` would bring torch into each interpreter.
"""

from __future__ import annotations

import os
import sys

TYPE_CHECKING = False  # typing.TYPE_CHECKING, without the milliseconds that importing typing takes
if TYPE_CHECKING:
    from collections.abc import Sequence
    from importlib.machinery import ModuleSpec
    from types import ModuleType
    from typing import Any

OPT_OUT = "SB3_TOM_NO_ZOO_HOOK"
TARGETS = ("rl_zoo3.utils", "rl_zoo3.hyperparams_opt", "rl_zoo3.exp_manager")
"""Where the zoo keeps its algorithms, its samplers for Optuna, and the class that reads hyperparameters."""


class _Loader:
    """A module's own loader, followed by the registration."""

    def __init__(self, loader: Any) -> None:
        self.loader = loader

    def __getattr__(self, name: str) -> Any:
        return getattr(self.__dict__["loader"], name)

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        created: ModuleType | None = self.loader.create_module(spec)
        return created

    def exec_module(self, module: ModuleType) -> None:
        # inspect, runpy and reload shall find the real loader
        if module.__spec__ is not None:
            module.__spec__.loader = self.loader
        module.__loader__ = self.loader
        self.loader.exec_module(module)
        register(module)


class _Finder:
    """Finds the zoo's three modules where they are, and nothing else."""

    def find_spec(self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None) -> ModuleSpec | None:
        if name not in TARGETS:
            return None
        from importlib.machinery import PathFinder

        spec = PathFinder.find_spec(name, path, target)
        if spec is not None and spec.loader is not None:
            spec.loader = _Loader(spec.loader)  # type: ignore[assignment]
        return spec


def register(module: ModuleType) -> None:
    """
    Add the entries of sb3_tom to one of the zoo's modules. Whatever goes wrong is a warning: the other algorithms go on.

    :param module: one of ``TARGETS``, imported
    """
    try:
        from sb3_tom.zoo.registration import register as register_algorithms

        register_algorithms(module)
    except Exception as error:
        import warnings

        message = f"sb3_tom could not add its algorithms to {module.__name__}: {error!r}; {OPT_OUT}=1 keeps it from trying"
        warnings.warn(message, RuntimeWarning, stacklevel=2)


def install() -> None:
    """Wait for the zoo's import, and register at once where it is imported already. Calling it again changes nothing."""
    if os.environ.get(OPT_OUT, "0") not in ("", "0"):
        return
    if not any(isinstance(finder, _Finder) for finder in sys.meta_path):
        sys.meta_path.insert(0, _Finder())
    for name in TARGETS:
        module = sys.modules.get(name)
        # A module that is being imported right now is registered by its loader
        if module is not None and not getattr(module.__spec__, "_initializing", False):
            register(module)
