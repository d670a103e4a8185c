"""Transitions that the model predicts badly count more."""

import torch as th

from sb3_tom.checks.validation import check_number
from sb3_tom.contracts.context import Context, ReadableModel
from sb3_tom.contracts.types import Transitions
from sb3_tom.contracts.weighter import Weighter
from sb3_tom.weighters.model_errors import squared_errors_of_members


class ErrorWeighter(Weighter):
    r"""
    Weighs a row by a power of the model's error on it before the fit, mixed with uniform weights: the idea of prioritised
    model experience replay (PMER, ICML 2026), that errors show where the policy is new without evaluating it. With E
    members, the mean m of each and the target y in normalised units,

    .. math:: e_i = \frac 1 E \sum_k \sqrt{\tfrac 1 D \lVert m_k(s_i, a_i) - y_i \rVert^2}, \qquad
        w_i = (1 - \text{mix})\, e_i^{\text{power}} / \overline{e^{\text{power}}} + \text{mix}.

    Before the first fit weights are 1. PMER's code, numbers, power and share are not known to us. As in PMER, the weights are
    used for the model's fit only.

    :param power: 0 gives uniform weights; the default is that of prioritised replay (Schaul et al. 2016, arXiv:1511.05952)
    :param uniform_mix: share of uniform weights, in [0, 1]
    :raises ValueError: naming the argument, what came and what is allowed
    """

    weighs_starts = False

    def __init__(self, power: float = 0.6, uniform_mix: float = 0.5) -> None:
        super().__init__()
        self.power = check_number("power", power, 0.0, 10.0)
        self.uniform_mix = check_number("uniform_mix", uniform_mix, 0.0, 1.0)

    def weights(self, data: Transitions, context: Context) -> th.Tensor:
        """Weights ``[N]``, float64, not yet mixed; see :meth:`Weighter.weights`."""
        model = context.require_model()
        if not model.is_fitted:
            return th.ones(data.size, dtype=th.float64, device=data.device)
        errors = prediction_errors(model, data)
        # NaN stays NaN, which is refused
        return th.ones_like(errors) if bool(errors.max() == 0) else (errors / errors.max()).pow(self.power)


def prediction_errors(model: ReadableModel, data: Transitions) -> th.Tensor:
    """
    Errors of the means of a model's members.

    :param model: of E members; implements ``targets`` and ``target_scales``
    :param data: N rows
    :return: ``[N]`` float64, root mean square over the dimensions of normalised targets, averaged over members
    """
    return th.cat([squares.mean(-1).sqrt().mean(0) for squares in squared_errors_of_members(model, data)])
