"""Weighted maximum likelihood: the objective of MBPO, PMAC and TOM."""

import torch as th

from sb3_tom.contracts.dynamics import DynamicsModel
from sb3_tom.contracts.objective import Extras, ModelObjective
from sb3_tom.contracts.types import Transitions


class LikelihoodObjective(ModelObjective):
    r"""
    .. math:: \min_\theta \sum_e \frac{1}{B} \sum_b -\frac{2}{D} w_{eb} \log \hat T_{\theta_e}(r, s' \mid s, a)
        + \text{regularisation}

    Eq. 18 of the TOM paper (arXiv:2305.12663); with weights 1 the model loss of MBPO (arXiv:1906.08253). The factor 2 keeps
    the scale of MBPO's code, to which its weight decays belong. A model may weight rows differently (``fit_likelihood``).
    """

    recordable = True
    rollout_recordable = True
    is_likelihood = True

    def loss(self, model: DynamicsModel, batch: Transitions, weights: th.Tensor, extras: Extras) -> th.Tensor:
        """Weighted negative log-likelihood, summed over members; shapes as in :meth:`ModelObjective.loss`."""
        return -2.0 * (weights * model.fit_likelihood(batch)).mean(-1).sum() + model.regularization()
