r"""
Confidence by the inverse standard deviation of the model's prediction (WIMLE: Aghabozorgi et al. 2026, ICLR,
arXiv:2602.14351; code: mehranagh20/wimle). For members :math:`e`, whose Gaussians over the reward (d = 0) and the O entries of
the next state have means :math:`\mu_{ed}` and variances :math:`\sigma^2_{ed}`, in units of the standard deviation of the real
targets,

.. math::

    c(s, a) = \frac{1}{1 + f\,\big(\sigma_0 + \frac 1O \sum_{d=1}^O \sigma_d\big)}, \qquad
    \sigma_d^2 = \operatorname{Var}_e[\mu_{ed}] + \operatorname{mean}_e[\sigma^2_{ed}].

Without the second term :math:`\sigma_d` is the disagreement of the members' means. WIMLE's deviations are in the env's own
units, with f = 1.
"""

import torch as th

from sb3_tom.checks.validation import check_choice, check_number
from sb3_tom.contracts.context import Context
from sb3_tom.contracts.dynamics import DynamicsModel
from sb3_tom.contracts.imagination import Confidence
from sb3_tom.contracts.types import Transitions

STDS = ("total", "disagreement")
"""Which standard deviation: of the whole prediction, or of the members' means only."""


class InverseStdConfidence(Confidence):
    """
    The inverse of 1 + the standard deviation of the model's prediction, in (0, 1]: 1 where it is certain, by default 1/3 where
    its standard deviation is that of the real targets. A function of state and action alone, so that the mean outcome of
    an action is not biased.

    :param std: "total" includes the noise that the members predict, as WIMLE does; "disagreement" leaves it out, and needs a
        model of at least two members
    :param factor: f, above 0; the larger, the more uneven the confidences, up to the plain inverse
    :raises ValueError: naming the argument, what came and what is allowed
    """

    def __init__(self, std: str = "total", factor: float = 1.0) -> None:
        super().__init__()
        self.std = check_choice("std", std, STDS)
        self.factor = check_number("factor", factor, 0.0, low_open=True)

    def check_model(self, model: DynamicsModel) -> None:
        """Refuse "disagreement" for a model of one member; see :meth:`Judge.check_model`."""
        if self.std == "disagreement":
            self._needs_members(model, "confidence_kwargs={'std': 'disagreement'}")

    def forward(self, model: DynamicsModel, batch: Transitions, context: Context) -> th.Tensor:
        """``[B, 1]`` in (0, 1]; see :meth:`Confidence.forward`."""
        mean, log_var = model(batch.observations, batch.actions)
        variance = mean.var(0, correction=0)
        if self.std == "total":
            variance = variance + log_var.exp().mean(0)
        varies = model.target_scales() > 0  # targets that never varied are predicted exactly
        std = th.where(varies, variance.sqrt(), 0.0)
        states = std[:, 1:].sum(1, keepdim=True) / varies[1:].sum().clamp(min=1)
        return 1.0 / (1.0 + self.factor * (std[:, :1] + states))
