"""Versions of packages, for what a run leaves."""

from importlib import import_module
from importlib.metadata import PackageNotFoundError, version


def version_of(package: str) -> str:
    """
    The version that is imported here, in words.

    :param package: its name; this package knows its own, also where it only lies on the path
    """
    if package == "sb3_tom":
        return str(import_module(package).__version__)
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"
