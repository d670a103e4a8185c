r"""
MnM-approx, "Mismatched no more" (Eysenbach et al. 2022, NeurIPS, arXiv:2110.02758), Sec. 4: a classifier C separates real
transitions from those of the model, the model learns from its own samples to fool it and to reach value, and the policy learns
from the plain reward (Sec. 4.3). For real (s, a), with an unclamped sample :math:`s'_\theta` of a member:

.. math::
    \max_\phi\; \log C_\phi(s, a, s') + \log(1 - C_\phi(s, a, s'_\theta)) \quad \text{(Eq. 4)}, \qquad
    \max_\theta\; \mathbb E \Bigl[V(s'_\theta) + \log \tfrac{C_\phi}{1 - C_\phi}(s, a, s'_\theta)\Bigr] \quad \text{(Eq. 9)}.

With the optimal classifier the logit is log p/q. Without a value the model minimises KL(q || p), where the likelihood
minimises KL(p || q); both are least at the real law. With a value the optimum is p exp V, normalised. The reward is fitted by
the likelihood, as in the paper.

=====================  =================================================================================
symbol                 meaning
=====================  =================================================================================
:math:`q_\theta`, p    law of s' given (s, a): of a member of the model, and the real one
:math:`V(s')`          the least critic's value of one sampled action of the policy
:math:`C_\phi`         one classifier per member (:mod:`sb3_tom.objectives.classifier`)
=====================  =================================================================================

The paper's settings for continuous tasks are not public. Ours, where it gives none:

==========================  ============================================================================
part                        here
==========================  ============================================================================
unit of the value           V is divided by the mean absolute value over the data: the bound is on the log
                            return, and the gradient of log V is that of V over V
``likelihood_fits``         first fits by the plain likelihood: against an untrained model the classifier is
                            certain and of no help, and untrained critics mislead
``classifier_steps``        the classifier is trained alone first, so that the model does not learn from its
                            first errors
``gradient_penalty``        keeps logits as smooth as the model's noise: real and sampled outcomes of a
                            deterministic task do not overlap, and the optimal logit is unbounded
``likelihood_coef``         weight of the likelihood of s' beside Eq. 9: where there are no samples the
                            classifier gives no direction. It is the model's own likelihood, with its weighting
                            of errors by the noise (``beta_nll``)
weighting by the noise      gradients through a sample are weighted in each dimension as those of the likelihood
                            are (``beta_nll``): where the noise is small, those of the classifier are large and
                            random, and Adam would learn little else
rates                       the classifier's is the model's usual one. A tenth of it for the model would let the
                            classifier follow more closely, and the model not learn what is new in a run
optimiser                   the model's Adam is reset before Eq. 9, whose gradients have another size
stopping                    none: Eq. 9 has no held-out error. Members are chosen by the model's own error
terminal rows               have no value term: critics learn nothing about terminal states
==========================  ============================================================================
"""

from collections.abc import Sequence

import torch as th

from sb3_tom.checks.validation import check_bool, check_integer, check_integers, check_number
from sb3_tom.compute.chunks import evenly, joined, rows_at_once
from sb3_tom.compute.optimizers import set_learning_rate, set_options
from sb3_tom.contracts.context import Context
from sb3_tom.contracts.dynamics import DynamicsModel, Prediction
from sb3_tom.contracts.objective import Extras
from sb3_tom.contracts.types import Batch, Transitions
from sb3_tom.objectives.classifier import Drawn, TransitionClassifier, accuracies, by_each, draw_members
from sb3_tom.objectives.likelihood import LikelihoodObjective

VALUE_ROWS = 5000
"""Maximum number of rows for the scale of values."""
BETAS = (0.5, 0.99)
"""Adam betas of the classifiers, whose target, the model, moves."""
LEAST_VALUE = 1e-8
"""Lower bound of the scale of values: untrained critics may output 0."""


class MnMObjective(LikelihoodObjective):
    """
    Fits the model to fool a classifier and to reach value (MnM-approx). For models whose samples are differentiable in all
    parameters: ``"ensemble"`` and ``"smooth"``. Mixtures, whose component is drawn, are refused. The model's ``dropout_rate``
    is used in the likelihood, not in the samples.

    :param value_coef: weight of the value, in units of one over the mean absolute value; 0: fool the classifier only
    :param augmented_reward: the full method's reward (Eq. 5): the policy learns from log r + log C/(1-C). Rewards have to be
        above 0. Imagined rows get it when they are made, real ones when they are drawn
    :param likelihood_fits: number of first fits of an agent by the plain likelihood, at least 1
    :param likelihood_coef: weight of the model's own likelihood beside Eq. 9, at least 0; below 1 the plain one of the reward
        has the rest
    :param model_learning_rate: of the model's optimiser in the fits by Eq. 9
    :param net_arch: widths of the classifiers' hidden layers
    :param learning_rate: of the classifiers' AdamW
    :param weight_decay: of the classifiers
    :param gradient_penalty: coefficient of the logits' mean squared gradient, in units of the model's noise, at least 0
    :param classifier_steps: gradient steps of the classifiers before the model makes its first one by Eq. 9, at least 0
    :raises ValueError: naming the argument, what came and what is allowed
    """

    recordable = False
    rollout_recordable = False  # the augmented reward leaves gradients in the classifier
    n_fits: th.Tensor
    n_steps: th.Tensor
    value_scale: th.Tensor
    least_reward: th.Tensor

    def __init__(
        self,
        value_coef: float = 1.0,
        augmented_reward: bool = False,
        likelihood_fits: int = 4,
        likelihood_coef: float = 1.0,
        model_learning_rate: float = 1e-3,
        net_arch: Sequence[int] = (200, 200),
        learning_rate: float = 1e-3,
        weight_decay: float = 1e-4,
        gradient_penalty: float = 0.1,
        classifier_steps: int = 200,
    ) -> None:
        super().__init__()
        self.value_coef = check_number("value_coef", value_coef, 0.0)
        self.augmented_reward = check_bool("augmented_reward", augmented_reward)
        self.keeps_rewards = not self.augmented_reward
        self.likelihood_fits = check_integer("likelihood_fits", likelihood_fits, 1)
        self.likelihood_coef = check_number("likelihood_coef", likelihood_coef, 0.0)
        self.model_learning_rate = check_number("model_learning_rate", model_learning_rate, 0.0, 1.0, low_open=True)
        self.net_arch = check_integers("net_arch", net_arch)
        self.learning_rate = check_number("learning_rate", learning_rate, 0.0, 1.0, low_open=True)
        self.weight_decay = check_number("weight_decay", weight_decay, 0.0)
        self.gradient_penalty = check_number("gradient_penalty", gradient_penalty, 0.0)
        self.classifier_steps = check_integer("classifier_steps", classifier_steps, 0)
        self._n_members = 1
        # State of the current fit, set by prepare: so its steps read nothing from the device
        self._steps = 0
        self._is_plain = True
        self._rewards = (0.0, 0.0)

    def check_model(self, model: DynamicsModel) -> None:
        """Refuse models whose samples have no gradient; keep ``n_members``; see :meth:`ModelObjective.check_model`."""
        name = type(model).__name__
        allowed = "allowed: a dynamics model whose samples have gradients, such as 'ensemble' or 'smooth'"
        if not model.is_reparameterised:
            raise ValueError(f"{name} cannot be fitted with objective=MnMObjective: what it draws has no gradient; {allowed}")
        if type(model).sample_members is DynamicsModel.sample_members:
            raise ValueError(f"{name} cannot be fitted with objective=MnMObjective: it has no sample_members; {allowed}")
        self._n_members = model.n_members

    def build(self, observation_dim: int, action_dim: int) -> None:
        """Create the classifiers and their optimiser; see :meth:`Plug.build`."""
        for name in ("n_fits", "n_steps"):
            self.register_buffer(name, th.zeros((), dtype=th.int64))
        self.register_buffer("value_scale", th.ones(()))
        self.register_buffer("least_reward", th.ones(()))
        self.classifier = TransitionClassifier(self._n_members, observation_dim, action_dim, self.net_arch)
        self.optimizer = th.optim.AdamW(self.classifier.parameters(), lr=self.learning_rate, betas=BETAS, fused=True)

    @property
    def _asks_critics(self) -> bool:
        return self.value_coef > 0.0 and not self._is_plain

    @th.no_grad()
    def prepare(self, model: DynamicsModel, data: Transitions, context: Context) -> Extras:
        """Units of the classifiers and of the value; see :meth:`ModelObjective.prepare`."""
        self.n_fits += 1
        self._is_plain = int(self.n_fits) <= self.likelihood_fits
        self._steps = int(self.n_steps)
        set_options(self.optimizer, self.learning_rate, (self.weight_decay,))
        self._rewards = (float(data.rewards.min()), float(data.rewards.max()))
        if self.augmented_reward and not self._rewards[0] > 0.0:
            raise ValueError(
                f"augmented_reward=True is not allowed where the env pays {self._rewards[0]:g}: Eq. 5 takes its logarithm; "
                "allowed: rewards above 0, shifted in a wrapper if need be, or augmented_reward=False"
            )
        self.least_reward.fill_(self._rewards[0])
        self.classifier.fit_units(data)
        if self._asks_critics:
            rows = evenly(data.size, VALUE_ROWS, data.device)
            self.value_scale.copy_(values_of(data.next_observations[rows], context).abs().mean().clamp(min=LEAST_VALUE))
        return {}

    def step(
        self,
        model: DynamicsModel,
        optimizer: th.optim.Optimizer,
        batch: Transitions,
        weights: th.Tensor,
        extras: Extras,
        context: Context,
    ) -> None:
        """A step of the classifiers, then one of the model on the same samples; see :meth:`ModelObjective.step`."""
        if self._is_plain:
            super().step(model, optimizer, batch, weights, extras, context)
            return
        self._steps += 1
        self.n_steps += 1
        with th.set_grad_enabled(self._steps > self.classifier_steps):
            drawn = draw_members(model, batch, context.generator)
        loss = self.classifier.loss(batch, drawn, weights, self.gradient_penalty)
        self.optimizer.zero_grad()
        loss.backward(inputs=list(self.classifier.parameters()))
        self.optimizer.step()
        if self._steps > self.classifier_steps:
            self._step_model(model, optimizer, self.model_loss(model, drawn, batch, weights, context) + model.regularization())

    def _step_model(self, model: DynamicsModel, optimizer: th.optim.Optimizer, loss: th.Tensor) -> None:
        if self._steps == self.classifier_steps + 1:
            optimizer.state.clear()
        rates = [float(group["lr"]) for group in optimizer.param_groups]
        set_learning_rate(optimizer, self.model_learning_rate, [rate / rates[0] for rate in rates])
        optimizer.zero_grad()
        loss.backward(inputs=list(model.parameters()))  # not for policy and critics
        optimizer.step()

    def model_loss(
        self, model: DynamicsModel, drawn: Drawn, batch: Transitions, weights: th.Tensor, context: Context
    ) -> th.Tensor:
        """
        Eq. 9 and the likelihoods, negative; on the scale of :class:`LikelihoodObjective`, summed over members.

        :param model: the model
        :param drawn: its predictions and samples for the batch, with gradients
        :param batch: fields ``[E, B, .]``
        :param weights: ``[E, B]``
        :param context: view of the agent; its policy and critics are used
        :return: scalar
        """
        mean, log_var = (part[..., 0] for part in drawn.prediction)
        reward_density = -0.5 * ((drawn.real[..., 0] - mean).square() * th.exp(-log_var) + log_var)
        gain = max(0.0, 1.0 - self.likelihood_coef) * reward_density  # never negative: beyond 1 the model's own has it
        if self.likelihood_coef > 0.0:  # as the model weights it (beta_nll), or it would take what is new for noise
            gain = gain + self.likelihood_coef * drawn.real.shape[-1] * model.fit_likelihood(batch)
        shares = th.exp(model.beta_nll * drawn.prediction.log_var[..., 1:]).detach()
        # The classifier is a fixed function of (s, a, s'): no gradient through the prediction among its inputs
        fixed = Prediction(*(part.detach() for part in drawn.prediction))
        gain = gain + self.classifier(batch, weigh_gradient(drawn.made, shares), fixed)
        if self.value_coef > 0.0:
            reached = weigh_gradient(drawn.next_observations, shares)
            values = values_of(reached.flatten(0, 1), context).view_as(gain)
            goes_on = 1.0 - batch.terminated.squeeze(-1)
            gain = gain + self.value_coef / self.value_scale * goes_on * values
        return -2.0 / drawn.real.shape[-1] * (weights * gain).mean(-1).sum()

    def validation_error(self, model: DynamicsModel, batch: Transitions, extras: Extras) -> th.Tensor | None:
        """The model's own error in fits by the likelihood, else None; see :meth:`ModelObjective.validation_error`."""
        return model.validation_error(batch) if self._is_plain else None

    def figures(self, model: DynamicsModel, batch: Transitions, extras: Extras, context: Context) -> dict[str, float]:
        """
        Accuracy of the classifiers and mean value of the critics on held-out rows; bounds of the discounted return by the
        smallest and largest reward in the buffer. See :meth:`ModelObjective.figures`.
        """
        if self._is_plain:
            return {}
        figures: dict[str, float] = {}
        if self._asks_critics:
            figures["value_mean"] = float(values_of(batch.observations, context).mean())
        if context.gamma < 1.0 and not self.augmented_reward:
            low, high = (reward / (1.0 - context.gamma) for reward in self._rewards)
            figures |= {"return_least": min(low, 0.0), "return_most": max(high, 0.0)}
        rows = by_each(batch, self._n_members)
        drawn = draw_members(model, rows, context.generator)
        logits = (self.classifier(rows, outcomes, drawn.prediction) for outcomes in (drawn.real[..., 1:], drawn.made))
        return figures | {"classifier_accuracy": float(accuracies(*logits).mean())}

    def relabel(self, batch: Transitions, context: Context) -> Transitions:
        """Eq. 5 on imagined rows, with ``augmented_reward``; see :meth:`ModelObjective.relabel`."""
        return batch._replace(rewards=self._augmented(batch, context)) if self.augmented_reward else batch

    def relabel_batch(self, batch: Batch, is_real: th.Tensor, context: Context) -> Batch:
        """Eq. 5 on real rows, with ``augmented_reward``; see :meth:`ModelObjective.relabel_batch`."""
        real = is_real.squeeze(-1)
        if not self.augmented_reward or not bool(real.any()):
            return batch
        shape = batch.rewards[..., real, :].shape
        *step_fields, _ = batch
        fields = [field[..., real, :].flatten(0, -2) for field in step_fields]
        fields.append(th.zeros(len(fields[0]), dtype=th.int64, device=real.device))
        rows = Transitions(*fields)
        pieces = rows.split(rows_at_once(rows.device, self._n_members))
        rewards = batch.rewards.clone()
        rewards[..., real, :] = joined((self._augmented(piece, context) for piece in pieces), rows.size).view(shape)
        return batch._replace(rewards=rewards)

    def _augmented(self, batch: Transitions, context: Context) -> th.Tensor:
        """Rewards of Eq. 5 ``[B, 1]``; a reward below all real ones of the last fit counts as the least of these."""
        model = context.require_model()
        prediction = model.forward(batch.observations, batch.actions)
        logits = self.classifier.of_mixture(batch, model.targets(batch)[..., 1:], prediction)
        return batch.rewards.maximum(self.least_reward).log() + logits.unsqueeze(-1)


def weigh_gradient(values: th.Tensor, shares: th.Tensor) -> th.Tensor:
    """Equal values, whose gradients are multiplied by the constants ``shares``, which are broadcast to them."""
    return values.detach() + shares * (values - values.detach())


def values_of(observations: th.Tensor, context: Context) -> th.Tensor:
    """
    V estimated by one action of the policy and the minimum of the critics; differentiable.

    :param observations: ``[B, O]``
    :param context: view of the agent; its policy and critics are used
    :return: ``[B]``, in the unit of the rewards
    """
    actions, _ = context.policy(observations)
    return context.values(observations, actions).amin(0)
