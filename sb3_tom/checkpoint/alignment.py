"""
Alignment of parameters in memory, modulo the width of a cache line. On the CPU the last bit of a product can depend on it, and
parameters that training has moved into a common block (:mod:`sb3_tom.policy_updates.sac.stacked_mlp`) are aligned otherwise
than new ones.
"""

from collections.abc import Iterable

import torch as th
from torch import nn

LINE = 64
"""Bytes; products differ from 16 on, but vector units grow."""


def alignments(modules: Iterable[nn.Module]) -> list[int]:
    """
    Alignments of parameters.

    :param modules: in a fixed order
    :return: for each parameter its address modulo :data:`LINE` on the CPU, -1 on other devices
    """
    parameters = (parameter for module in modules for parameter in module.parameters())
    return [parameter.data_ptr() % LINE if parameter.device.type == "cpu" else -1 for parameter in parameters]


@th.no_grad()
def align(modules: Iterable[nn.Module], offsets: list[int]) -> None:
    """
    Move the parameters whose alignment differs; their values do not change.

    :param modules: as for :func:`alignments`
    :param offsets: from :func:`alignments`
    """
    parameters = [parameter for module in modules for parameter in module.parameters()]
    for parameter, offset in zip(parameters, offsets, strict=True):
        if parameter.device.type == "cpu" and offset >= 0 and parameter.data_ptr() % LINE != offset:
            size = parameter.element_size()
            room = parameter.new_empty(parameter.numel() + LINE // size)
            start = (offset - room.data_ptr()) % LINE // size
            parameter.data = room[start : start + parameter.numel()].view(parameter.shape).copy_(parameter)
