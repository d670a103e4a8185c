"""The classifiers of real transitions against a model's: their loss by hand, and known logits."""

import numpy as np
import pytest
import torch as th

from sb3_tom import Transitions
from sb3_tom.contracts.dynamics import Prediction
from sb3_tom.objectives.classifier import TransitionClassifier, accuracies, draw_members
from tests.objectives.mnm_cases import N_ROWS, Formula, Said, a_batch, linear_law, objective_for


def test_the_cross_entropy_and_its_penalty_by_hand() -> None:
    model, batch = Said(N_ROWS).double(), Transitions(*(field.double() for field in a_batch()))
    classifier = Formula(2, 2, 1, (8,)).double()
    drawn = draw_members(model, batch, th.Generator().manual_seed(7))
    weights = th.rand(2, N_ROWS, dtype=th.float64, generator=th.Generator().manual_seed(3))

    def logit(member: int, row: int, outcome: np.ndarray) -> float:
        rows = batch.observations[member, row]
        return float(np.sin(outcome[0]) * outcome[1] - 0.3 * outcome[1] ** 2 + float(rows[0]) * outcome[0])

    expected = 0.0
    for member in range(2):
        for row in range(N_ROWS):
            loss, noise = 0.0, np.exp(0.5 * model.log_var[member, row, 1:].detach().numpy())
            for outcomes, sign in ((drawn.real[..., 1:], -1.0), (drawn.made, 1.0)):
                outcome = outcomes[member, row].detach().numpy()
                loss += np.log1p(np.exp(sign * logit(member, row, outcome)))
                steps = np.eye(2) * 1e-6
                slopes = [(logit(member, row, outcome + step) - logit(member, row, outcome - step)) / 2e-6 for step in steps]
                loss += 0.4 * float((np.square(slopes) * np.square(noise)).sum())
            expected += float(weights[member, row]) * loss / N_ROWS
    assert float(classifier.loss(batch, drawn, weights, 0.4).detach()) == pytest.approx(expected, rel=1e-6)
    assert float(classifier.loss(batch, drawn, weights, 0.0).detach()) < expected


def test_of_a_mixture_the_densities_are_averaged() -> None:
    """Two Gaussian members and a real law whose densities are known."""
    classifier, batch = Ratio(2, 1, 1, (8,)), linear_law(6)
    outcomes = batch.next_observations[:, :1]
    said = classifier.of_mixture(batch, outcomes, Prediction(th.zeros(2, 6, 2), th.zeros(2, 6, 2)))
    real, one, other = (th.distributions.Normal(*law).log_prob(outcomes[:, 0]).exp() for law in Ratio.laws)
    th.testing.assert_close(said, (real / (0.5 * one + 0.5 * other)).log(), rtol=1e-4, atol=1e-5)


class Ratio(TransitionClassifier):
    """Log-ratios of normal laws: the real one, and those of two members."""

    laws = ((0.0, 1.0), (0.5, 0.7), (-1.0, 2.0))

    def forward(self, batch: Transitions, outcomes: th.Tensor, prediction: Prediction) -> th.Tensor:
        real, *members = (th.distributions.Normal(*law).log_prob(outcomes[0, :, 0]) for law in self.laws)
        return th.stack([real - member for member in members])


def test_accuracy_counts_a_guess_as_half() -> None:
    real, made = th.tensor([1.0, -2.0, 0.0, 3.0]), th.tensor([-1.0, -0.5, 0.0, 4.0])
    assert accuracies(real, made).tolist() == [1.0, 0.5, 0.5, 0.5]


def test_an_untrained_classifier_has_no_opinion() -> None:
    model, batch = Said(N_ROWS), a_batch()
    objective = objective_for(model)
    drawn = draw_members(model, batch, th.Generator().manual_seed(7))
    assert bool((objective.classifier(batch, drawn.made, drawn.prediction) == 0.0).all())
