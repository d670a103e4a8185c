"""The default termination: the environment's own rule while it holds, a learned classifier otherwise."""

import warnings

import torch as th

from sb3_tom.contracts.context import Context
from sb3_tom.contracts.termination import Termination
from sb3_tom.contracts.types import Transitions
from sb3_tom.terminations.learned import LearnedTermination
from sb3_tom.terminations.rules import Rule, check_rule, contradicts, terminates


class AutoTermination(Termination):
    """
    Uses the analytic rule of a known environment and compares it with every real transition. The first contradiction switches
    to the learned head for good, with a warning. Without a rule the head is used from the start.

    The head is always built, and whether it is in use is part of the ``state_dict``, so that the keys that are saved do not
    depend on progress.

    :param rule: from :func:`sb3_tom.terminations.reading.read_rule`; None: the one that the agent reads from its envs
    :param head: the learned termination; None: a default one
    """

    head_in_use: th.Tensor
    rollout_recordable = True

    def __init__(self, rule: Rule | None = None, head: LearnedTermination | None = None) -> None:
        super().__init__()
        self.rule = check_rule(rule)
        self.wants_rule = rule is None
        self.head = LearnedTermination() if head is None else head
        self.register_buffer("head_in_use", th.full((1,), float(rule is None)))
        self._uses_rule = rule is not None
        self.register_load_state_dict_post_hook(_after_load)

    def build(self, observation_dim: int, action_dim: int) -> None:
        """
        Build the head.

        :raises ValueError: if the rule is for observations of another size
        """
        self._observation_dim = observation_dim
        self._check_size(self.rule)
        self.head.build(observation_dim, action_dim)

    def _check_size(self, rule: Rule | None) -> None:
        if rule is not None and rule["observation_dim"] != self._observation_dim:
            raise ValueError(
                f"the termination rule of {rule['env']} is about observations of size {rule['observation_dim']}, "
                f"not {self._observation_dim}"
            )

    def forward(self, observations: th.Tensor, actions: th.Tensor, next_observations: th.Tensor) -> th.Tensor:
        """See :meth:`Termination.forward`."""
        if self.rule is not None and self._uses_rule:
            return terminates(self.rule, next_observations)
        result: th.Tensor = self.head(observations, actions, next_observations)
        return result

    def advice(self) -> str:
        """See :meth:`Termination.advice`."""
        if not self._uses_rule:
            return self.head.advice()
        return "it is the env's own rule, whose thresholds observations do not always show; use termination_fn='learned'"

    def fit(self, data: Transitions, context: Context) -> dict[str, float]:
        """Compare the rule with all rows, or train the head if it is in use."""
        self._compare(data)
        figures = {} if self._uses_rule or data.size == 0 else self.head.fit(data, context)
        return {"rule_in_use": float(self._uses_rule), **figures}

    def set_rule(self, rule: Rule | None) -> None:
        """See :meth:`Termination.set_rule`; the head is reset: it terminates nothing until it has seen terminations."""
        self._check_size(check_rule(rule))
        self.rule = rule
        self._uses_rule = rule is not None
        self.head_in_use.fill_(float(rule is None))
        self.head.trained.zero_()

    def _compare(self, data: Transitions) -> None:
        if self.rule is None or not self._uses_rule:
            return
        wrong = contradicts(self.rule, data.next_observations, data.terminated).reshape(-1)
        if bool(wrong.any()):
            self._switch(self.rule, data, int(wrong.int().argmax()))

    def _switch(self, rule: Rule, data: Transitions, row: int) -> None:
        self._uses_rule = False
        self.head_in_use.fill_(1.0)
        ended = bool(data.terminated[row] > 0.5)
        warnings.warn(
            f"The termination rule {rule} says that a real transition {'goes on' if ended else 'terminates'}, but it "
            f"{'terminated' if ended else 'went on'} (row {row} of {data.size}, next observation "
            f"{data.next_observations[row].tolist()}). From now on a learned termination is used. It may be "
            "that a wrapper ends episodes in a way of its own; a time limit has to be returned as truncated.",
            stacklevel=2,
        )


def _after_load(module: th.nn.Module, incompatible_keys: object) -> None:
    assert isinstance(module, AutoTermination)
    module._uses_rule = module.rule is not None and bool(module.head_in_use < 0.5)
