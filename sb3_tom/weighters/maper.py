"""Transitions that critics and model are wrong about count more."""

import torch as th

from sb3_tom.checks.validation import check_number
from sb3_tom.contracts.context import Context, ReadableModel
from sb3_tom.contracts.types import Transitions
from sb3_tom.contracts.weighter import Weighter
from sb3_tom.weighters.critics import td_errors
from sb3_tom.weighters.model_errors import squared_errors_of_members


class MaPERWeighter(Weighter):
    r"""
    Priorities of TD errors and model errors (MaPER, Oh et al. 2022, https://openreview.net/forum?id=WuEiafqdy9H): squared
    errors of critics, reward and next state, each in units of its mean over the buffer,

    .. math:: w_i = (\sigma_i + \epsilon)^\alpha, \qquad \sigma_i = \frac{\delta_i^2}{\overline{\delta^2}} +
        \text{model\_coef} \Bigl(\frac{e^r_i}{\overline{e^r}} + \frac{e^s_i}{\overline{e^s}}\Bigr),

    with the mean :math:`\delta_i^2` over critics of the squared TD errors (:func:`~sb3_tom.weighters.critics.td_errors`), and
    the model's squared errors :math:`e^r_i, e^s_i` (:func:`squared_errors`) before the fit. Before the first fit only the TD
    errors count. MaPER's critics predict reward and next state themselves, and the predicted reward is part of their target:
    here the agent's model predicts, and the target has the real reward. MaPER draws the minibatches of the policy by its
    priorities; using them as weights of the model's rows is PMAC's baseline (Sec. 5.3).

    :param alpha: exponent; 0 gives uniform weights, the default is that of the released code with MBPO
    :param model_coef: factor of each of the two model errors, at least 0; 0 is prioritised replay by squared errors
    :param epsilon: lower bound of the priority, in units of a mean error; above 0
    :raises ValueError: naming the argument, what came and what is allowed
    """

    def __init__(self, alpha: float = 0.5, model_coef: float = 1.0, epsilon: float = 1e-6) -> None:
        super().__init__()
        self.alpha = check_number("alpha", alpha, 0.0, 10.0)
        self.model_coef = check_number("model_coef", model_coef, 0.0)
        self.epsilon = check_number("epsilon", epsilon, 0.0, low_open=True)

    def weights(self, data: Transitions, context: Context) -> th.Tensor:
        """Weights ``[N]``, float64; see :meth:`Weighter.weights`."""
        model = context.require_model()
        priorities = _in_means(td_errors(data, context).double().square().mean(0))
        if model.is_fitted and self.model_coef > 0:
            for errors in squared_errors(model, data):
                priorities += self.model_coef * _in_means(errors)
        priorities += self.epsilon
        return (priorities / priorities.max()).pow(self.alpha)


def _in_means(errors: th.Tensor) -> th.Tensor:
    """Errors ``[N]`` divided by their mean; zeros stay 0."""
    return errors / errors.mean().clamp(min=th.finfo(errors.dtype).tiny)


def squared_errors(model: ReadableModel, data: Transitions) -> tuple[th.Tensor, th.Tensor]:
    """
    Squared errors of the means of a model's members, in normalised units, averaged over members.

    :param model: of E members; implements ``targets`` and ``target_scales``
    :param data: N rows
    :return: errors of the reward, and of the next state averaged over its dimensions, ``[N]`` float64 each
    """
    rewards, states = [], []
    for of_members in squared_errors_of_members(model, data):
        squares = of_members.mean(0)
        rewards.append(squares[:, 0])
        states.append(squares[:, 1:].mean(-1))
    return th.cat(rewards), th.cat(states)
