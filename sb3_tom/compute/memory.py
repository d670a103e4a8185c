"""Total memory of a device."""

import os
from pathlib import Path

import torch as th

CONTAINER_LIMITS = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")
"""Files with the memory limit of a container on Linux, cgroups version 2 and 1."""


def total_memory(device: th.device) -> int | None:
    """
    Total memory of a device in bytes, free or not; for the CPU that of the machine or, if lower, the container's limit.

    :param device: "cpu" or "cuda"
    :return: None if unknown
    """
    if device.type == "cuda":
        try:
            return int(th.cuda.get_device_properties(device).total_memory)
        except (AssertionError, RuntimeError):  # no driver
            return None
    limits = [int(text) for text in map(_read, CONTAINER_LIMITS) if text.isdigit()]
    try:
        limits.append(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))
    except (AttributeError, ValueError, OSError):  # Windows has no sysconf
        pass
    return min(limits, default=None)


def _read(path: str) -> str:
    try:
        return Path(path).read_text(encoding="ascii").strip()
    except OSError:
        return ""
