"""The update-to-data ratio: gradient steps of the policy that are due for real transitions, and those that were made."""

from dataclasses import asdict, dataclass
from typing import Any

import torch as th

from sb3_tom.checks.validation import check_integer, check_number

PACES = ("_since_phase", "_since_rollouts")
"""Attributes of the agent that count real transitions: since the last model phase, and rollouts."""


def optimizer_steps(optimizer: th.optim.Optimizer) -> int:
    """
    Number of steps that an optimiser has made, read from its state.

    :param optimizer: any; 0 if it does not count ``step``, as SGD
    """
    for state in optimizer.state.values():
        return int(state.get("step", 0))
    return 0


@dataclass
class UpdateCounter:
    """
    Counts per real *transition*, whatever the number of envs and the length of a collection. The logged ratio is counted, not
    read from the configuration.

    :param collected: transitions of the last collection
    :param trained_transitions: transitions since training began
    :param earlier_updates: gradient steps of the critics before that: those of a SAC agent, or offline ones
    :param owed_updates: fraction of a gradient step that is carried over
    """

    collected: int = 0
    trained_transitions: int = 0
    earlier_updates: int = 0
    owed_updates: float = 0.0

    def take_due(self, asked: int, fixed: bool, ratio: float, made: int) -> int:
        """
        Number of gradient steps to make now.

        :param asked: SB3's argument of ``train``
        :param fixed: whether that is the user's number of steps; else it is the number of transitions just collected
        :param ratio: gradient steps per transition, if not fixed; fractions are carried over
        :param made: gradient steps of the critics so far
        """
        if self.trained_transitions == 0:
            self.earlier_updates = made
        if fixed:
            self.trained_transitions += self.collected
            return asked
        self.trained_transitions += asked
        self.owed_updates += ratio * asked
        due = int(self.owed_updates + 1e-9)
        self.owed_updates -= due
        return due

    def reached(self, made: int) -> float | None:
        """
        The actual ratio.

        :param made: gradient steps of the critics so far
        :return: None before training began
        """
        return (made - self.earlier_updates) / self.trained_transitions if self.trained_transitions else None

    def state_dict(self) -> dict[str, Any]:
        """State for a checkpoint."""
        return asdict(self)

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """
        Load the counts.

        :param state: from :meth:`state_dict`
        :raises ValueError: if it is malformed
        """
        for name, value in state.items():
            if name not in asdict(self):
                raise ValueError(f"the update counter has no {name!r}; allowed: {sorted(asdict(self))}")
            checked = check_number(name, value, -1.0, 1.0) if name == "owed_updates" else check_integer(name, value, 0)
            setattr(self, name, checked)
