"""Passes through networks without gradients, in pieces: activations that leave a processor's cache cost half of the time."""

import torch as th

_ROWS = 4096
_ROWS_ON_A_DEVICE = 1 << 17


def rows_at_once(device: th.device, passes: int = 1) -> int:
    """
    How many rows to send through a network together (measured in docs/performance.md).

    :param device: of the network
    :param passes: rows that the network sees for each one, as members of an ensemble or several actions at a state
    :return: at least 1
    """
    rows = _ROWS if device.type == "cpu" else _ROWS_ON_A_DEVICE
    return max(1, rows // passes)
