"""MnM's loss of the model against finite differences and sums by hand, whom its steps teach, and the augmented reward."""

from typing import Any

import pytest
import torch as th

from sb3_tom import Context, Transitions
from sb3_tom.contracts.dynamics import Prediction
from sb3_tom.contracts.types import Batch
from sb3_tom.dynamics.gaussian import log_density
from sb3_tom.objectives.classifier import by_each, draw_members
from tests.objectives.mnm_cases import (
    N_ROWS,
    SLOPE,
    Formula,
    Known,
    Said,
    a_batch,
    linear_context,
    linear_law,
    objective_for,
    small_ensemble,
)


def by_finite_differences(parameter: th.Tensor, loss: Any, step: float = 1e-6) -> th.Tensor:
    """The gradient of ``loss()`` entry by entry."""
    gradient, flat = th.zeros_like(parameter).flatten(), parameter.detach().view(-1)
    for index in range(flat.numel()):
        kept = flat[index].clone()
        found = []
        for sign in (1.0, -1.0):
            flat[index] = kept + sign * step
            found.append(float(loss().detach()))
        flat[index] = kept
        gradient[index] = (found[0] - found[1]) / (2.0 * step)
    return gradient.view_as(parameter)


@pytest.mark.parametrize("likelihood_coef", [0.0, 0.7])
@pytest.mark.parametrize("value_coef", [0.0, 2.5])
def test_the_models_gradient_is_that_of_finite_differences(value_coef: float, likelihood_coef: float) -> None:
    """The same draws at each look: what a mean and a variance change of samples, logits, values and densities."""
    model, batch = Said(N_ROWS).double(), Transitions(*(field.double() for field in a_batch()))
    objective = objective_for(model, value_coef=value_coef, likelihood_coef=likelihood_coef).double()
    objective.classifier = Known()
    objective.value_scale.fill_(4.0)
    weights = th.rand(2, N_ROWS, dtype=th.float64, generator=th.Generator().manual_seed(3))

    def policy(observations: th.Tensor) -> tuple[th.Tensor, th.Tensor]:
        return th.tanh(observations.sum(-1, keepdim=True)), observations[:, :1]

    def values(observations: th.Tensor, actions: th.Tensor) -> th.Tensor:
        first, second = observations.unbind(-1)
        return th.stack([th.sin(first) + actions[:, 0], second.square() - actions[:, 0] * first])

    def loss() -> th.Tensor:
        context = Context(policy, values, 0.99, 1, th.Generator().manual_seed(7))
        return objective.model_loss(model, draw_members(model, batch, context.generator), batch, weights, context)

    loss().backward()
    for parameter in (model.mean, model.log_var):
        th.testing.assert_close(parameter.grad, by_finite_differences(parameter, loss), rtol=1e-4, atol=1e-7)


def test_without_value_the_loss_is_the_sum_by_hand() -> None:
    """Also its scale: that of the likelihood's, twice and on average over targets."""
    model, batch = Said(N_ROWS), a_batch()
    objective = objective_for(model, value_coef=0.0, likelihood_coef=0.5)
    objective.classifier = Known()
    drawn = draw_members(model, batch, th.Generator().manual_seed(7))
    weights = th.rand(2, N_ROWS, generator=th.Generator().manual_seed(3))
    density = log_density(model.targets(batch), model.mean, model.log_var).detach().numpy()
    logits = Known()(batch, drawn.made, drawn.prediction).detach().numpy()
    expected = 0.0
    for member in range(2):
        for row in range(N_ROWS):
            gain = density[member, row, 0] + 0.5 * density[member, row, 1:].sum() + logits[member, row]
            expected -= 2.0 / 3.0 * float(weights[member, row]) * gain / N_ROWS
    assert float(objective.model_loss(model, drawn, batch, weights, linear_context()).detach()) == pytest.approx(
        expected, rel=1e-5
    )


@pytest.mark.parametrize("likelihood_coef", [1.0, 0.3, 2.0])
def test_the_likelihood_is_the_models_own(likelihood_coef: float) -> None:
    """With ``beta_nll``, so that new data are learned and not taken for noise; the reward's part up to 1 is plain."""
    model, batch = small_ensemble(beta_nll=0.5), a_batch()
    objective = objective_for(model, value_coef=0.0, likelihood_coef=likelihood_coef)  # its logits are 0 until it is trained
    parameters, weights = list(model.parameters()), th.rand(2, N_ROWS, generator=th.Generator().manual_seed(3))
    drawn = draw_members(model, batch, th.Generator().manual_seed(7))
    found = th.autograd.grad(objective.model_loss(model, drawn, batch, weights, linear_context()), parameters)
    mean, log_var = model(batch.observations, batch.actions)
    plain = log_density(model.targets(batch), mean, log_var)[..., 0] / 3.0
    gain = likelihood_coef * model.fit_likelihood(batch) + max(0.0, 1.0 - likelihood_coef) * plain
    expected = th.autograd.grad(-2.0 * (weights * gain).mean(-1).sum(), parameters)
    th.testing.assert_close(found, expected)
    unlike = -2.0 * (weights * model.log_likelihood(batch)).mean(-1).sum()
    assert not th.allclose(th.autograd.grad(unlike, parameters)[0], found[0]), "the test can fail"


@pytest.mark.parametrize("beta", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("coefs", [{"value_coef": 0.0}, {"value_coef": 1.0}])
def test_gradients_through_samples_are_weighted_as_those_of_the_likelihood(beta: float, coefs: dict[str, float]) -> None:
    """Dimension by dimension, by the predicted variance to the power ``beta_nll``; the loss is the same."""
    found = []
    for power in (0.0, beta):
        model, batch = Said(N_ROWS), a_batch()
        model.beta_nll = power
        objective = objective_for(model, likelihood_coef=0.0, **coefs)
        objective.classifier = Known()
        drawn = draw_members(model, batch, th.Generator().manual_seed(7))
        loss = objective.model_loss(model, drawn, batch, th.ones(2, N_ROWS), linear_context())
        (gradient,) = th.autograd.grad(loss, model.mean)
        found.append((loss.detach(), gradient))
    (plain_loss, plain), (loss, weighted) = found
    shares = th.exp(beta * model.log_var.detach())
    shares[..., 0] = 1.0  # the reward is not sampled
    assert th.equal(loss, plain_loss)
    th.testing.assert_close(weighted, shares * plain)
    assert beta == 0.0 or not th.allclose(weighted, plain), "the test can fail"


def test_value_moves_the_means_up_its_slope_but_not_where_an_episode_ended() -> None:
    """The derivative of V(mean + noise) by the mean is V's: 2 along the first coordinate, in units of the mean value."""
    model, batch = Said(N_ROWS), a_batch()
    found = []
    for value_coef in (0.0, 3.0):
        objective = objective_for(model, value_coef=value_coef)
        objective.value_scale.fill_(4.0)
        model.zero_grad()
        drawn = draw_members(model, batch, th.Generator().manual_seed(7))
        objective.model_loss(model, drawn, batch, th.ones(2, N_ROWS), linear_context()).backward()
        found.append(model.mean.grad.clone())
    goes_on = 1.0 - batch.terminated
    expected = -2.0 / 3.0 * 3.0 / 4.0 / N_ROWS * th.tensor([0.0, 2.0, 0.0]) * goes_on
    th.testing.assert_close(found[1] - found[0], expected, rtol=1e-4, atol=1e-6)


def test_the_classifier_is_the_samples_alone() -> None:
    """What a sample is compared with moves as well; the model must not win by moving that."""
    model, batch = Said(N_ROWS), a_batch()
    objective = objective_for(model, value_coef=0.0, likelihood_coef=0.0)
    with th.no_grad():
        for parameter in objective.classifier.layers[-1].parameters():
            parameter.normal_(generator=th.Generator().manual_seed(2))
    drawn = draw_members(model, batch, th.Generator().manual_seed(7))
    objective.model_loss(model, drawn, batch, th.ones(2, N_ROWS), linear_context()).backward()
    outcomes = drawn.made.detach().requires_grad_()
    logits = objective.classifier(batch, outcomes, Prediction(*(part.detach() for part in drawn.prediction)))
    (slopes,) = th.autograd.grad(logits.sum(), outcomes)
    assert float(slopes.abs().max()) > 0.0
    th.testing.assert_close(model.mean.grad[..., 1:], -2.0 / 3.0 / N_ROWS * slopes)


@pytest.mark.parametrize("value_coef", [0.0, 1.0])
def test_a_step_teaches_classifier_and_model_and_nobody_else(value_coef: float) -> None:
    model, critic, actor = Said(N_ROWS), th.nn.Linear(3, 2), th.nn.Linear(2, 1)
    objective = objective_for(model, value_coef=value_coef, classifier_steps=2)

    def policy(observations: th.Tensor) -> tuple[th.Tensor, th.Tensor]:
        return actor(observations), observations[:, :1]

    def values(observations: th.Tensor, actions: th.Tensor) -> th.Tensor:
        return critic(th.cat([observations, actions], dim=-1)).t()

    context = Context(policy, values, 0.99, 1, th.Generator().manual_seed(0))
    optimizer = th.optim.Adam(model.parameters(), lr=0.05)
    objective.n_fits += 1
    objective.prepare(model, linear_law(30), context)
    moved = []
    for _ in range(4):
        before = [
            part.clone()
            for part in (model.mean, objective.classifier.layers[0].weight, objective.classifier.layers[-1].weight)
        ]
        objective.step(model, optimizer, a_batch(), th.ones(2, N_ROWS), {}, context)
        after = (model.mean, objective.classifier.layers[0].weight, objective.classifier.layers[-1].weight)
        moved.append([not th.equal(one, other) for one, other in zip(before, after, strict=True)])
        assert all(parameter.grad is None for parameter in (*critic.parameters(), *actor.parameters()))
    assert [row[0] for row in moved] == [False, False, True, True], "the classifier begins alone"
    assert all(row[2] for row in moved)
    assert optimizer.param_groups[0]["lr"] == objective.model_learning_rate
    assert int(objective.n_steps) == 4


def test_a_policy_can_climb_the_augmented_reward() -> None:
    """Of s', and of what was predicted of s and a: the log-ratio is a function of the whole transition."""
    model, batch = Said(3), linear_law(3)
    objective = objective_for(model, augmented_reward=True)
    with th.no_grad():
        for parameter in objective.classifier.layers[-1].parameters():
            parameter.normal_(generator=th.Generator().manual_seed(2))
    following = batch.next_observations.clone().requires_grad_()
    context = Context(model=AskedModel(model))  # type: ignore[arg-type]
    objective.relabel(batch._replace(next_observations=following), context).rewards.sum().backward()
    assert float(following.grad.abs().min()) > 0.0 and float(model.mean.grad[..., 1:].abs().min()) > 0.0


class AskedModel:
    """What a context shows of a model."""

    def __init__(self, model: Said) -> None:
        self.forward, self.targets = model.forward, model.targets


def test_the_augmented_reward_by_hand() -> None:
    """Eq. 5; the reward of the third row is below all that were seen, and counts as the least of them."""
    model, batch = Said(3), linear_law(3)
    batch = batch._replace(rewards=th.tensor([[1.0], [2.5], [-0.1]]))
    objective = objective_for(model, augmented_reward=True)
    objective.classifier = Formula(2, 2, 1, (8,))
    objective.least_reward.fill_(0.5)
    context = Context(model=AskedModel(model))  # type: ignore[arg-type]
    relabelled = objective.relabel(batch, context)
    logits = Known()(by_each(batch, 2), by_each(batch, 2).next_observations, model(None, None))[0]  # type: ignore[arg-type]
    expected = th.tensor([1.0, 2.5, 0.5]).log() + logits
    th.testing.assert_close(relabelled.rewards[:, 0], expected)
    assert all(th.equal(getattr(relabelled, name), getattr(batch, name)) for name in batch._fields if name != "rewards")
    plain = objective_for(model)
    assert plain.relabel(batch, context) is batch

    chunk = Batch(*(th.stack([field, field]) for field in batch[:5]))  # two minibatches of three rows
    rows = th.tensor([[True], [True], [False]])
    both = Said(4)
    both.mean.data, both.log_var.data = (part[:, [0, 1, 0, 1]] for part in (model.mean.data, model.log_var.data))
    real = objective.relabel_batch(chunk, rows, Context(model=AskedModel(both)))  # type: ignore[arg-type]
    for minibatch in range(2):
        th.testing.assert_close(real.rewards[minibatch, :2, 0], expected[:2])
        assert th.equal(real.rewards[minibatch, 2], batch.rewards[2]), "imagined rows have theirs"
    assert plain.relabel_batch(chunk, rows, context) is chunk


def test_units_are_those_of_the_data_and_options_those_of_the_user() -> None:
    """Also where a loaded file had other options."""
    model, data = Said(N_ROWS), linear_law(30)
    data = data._replace(rewards=data.rewards.abs() + 0.5)
    objective = objective_for(model, learning_rate=2e-3, weight_decay=0.5)
    objective.optimizer.param_groups[0].update(lr=1.0, weight_decay=7.0)
    objective.n_fits += 1
    objective.prepare(model, data, linear_context())
    inputs = th.cat([data.observations, data.actions], -1)
    th.testing.assert_close(objective.classifier.input_mean, inputs.mean(0))
    th.testing.assert_close(objective.classifier.input_std, inputs.std(0, correction=0))
    values = 5.0 + data.next_observations @ SLOPE
    assert float(objective.value_scale) == pytest.approx(float(values.abs().mean()), rel=1e-5)
    assert float(objective.least_reward) == float(data.rewards.min())
    (group,) = objective.optimizer.param_groups
    assert (group["lr"], group["weight_decay"]) == (2e-3, 0.5)
