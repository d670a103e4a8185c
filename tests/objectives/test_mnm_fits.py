"""Fits by MnM: laws that they have to find, the first fits, agents that learn with it, and who is refused."""

from typing import Any

import pytest
import torch as th
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.vec_env import VecNormalize

from sb3_tom import MBPO, DynamicsModel
from sb3_tom.dynamics.linear import LinearDynamics
from sb3_tom.objectives.classifier import accuracies, by_each, draw_members
from sb3_tom.objectives.likelihood import LikelihoodObjective
from sb3_tom.objectives.mnm import MnMObjective
from tests.dynamics.cases import built, make_context, make_data, same_state
from tests.mbpo.small import small_agent
from tests.objectives.mnm_cases import (
    N_ROWS,
    NOISE,
    Paid,
    Said,
    a_batch,
    law_of,
    linear_context,
    linear_law,
    objective_for,
    small_ensemble,
)

SMALL_MNM: dict[str, Any] = {"likelihood_fits": 1, "classifier_steps": 4, "net_arch": (16, 16)}


@pytest.mark.expensive
@pytest.mark.parametrize("value_coef", [0.0, 5.0])
def test_it_finds_the_law_and_leans_towards_value_by_as_much_as_it_should(value_coef: float) -> None:
    """
    Of a normal law N(f, sigma^2) and a value of slope c the best law is N(f + k c sigma^2, sigma^2), k its coefficient: it
    has the greatest E[k V + log p / q]. Without a value that is the real law. No penalty: it would let the model lean further.
    """
    data, model = linear_law(4000), small_ensemble()
    settings = {"gradient_penalty": 0.0, "likelihood_coef": 0.0, "classifier_steps": 100, "model_learning_rate": 1e-4}
    objective = objective_for(model, value_coef=value_coef, **settings)
    for _ in range(4):
        model.fit(data, th.ones(data.size), objective, linear_context())
    bias, noise = law_of(model, data)
    coefficient = value_coef / float(objective.value_scale)
    expected = coefficient * th.tensor([2.0, 0.0]) * NOISE.square()
    th.testing.assert_close(bias, expected.expand(2, -1), rtol=0.0, atol=0.03)
    th.testing.assert_close(noise, NOISE.expand(2, -1), rtol=0.1, atol=0.0)
    if value_coef:
        assert float(expected[0]) > 0.15 and 4.9 < float(objective.value_scale) < 5.2  # five noises of the mean, and E|V| = 5


@pytest.mark.expensive
def test_samples_alone_mend_a_mean_that_is_wrong() -> None:
    """No likelihood of the state: a model that was moved off the law by half a unit comes back by the classifier alone."""
    data, model = linear_law(4000), small_ensemble()
    objective = objective_for(model, value_coef=0.0, likelihood_coef=0.0, gradient_penalty=0.0, model_learning_rate=3e-4)
    model.fit(data, th.ones(data.size), objective, linear_context())
    with th.no_grad():
        model.layers[-1].bias[..., 1] += 0.5
    begun, _ = law_of(model, data)
    for _ in range(3):
        model.fit(data, th.ones(data.size), objective, linear_context())
    bias, _ = law_of(model, data)
    assert float(begun[:, 0].min()) > 0.2 and float(bias[:, 0].abs().max()) < 0.06, (begun, bias)


def accuracy_of_trained(shift: float) -> float:
    """Of classifiers of N(0, 1) and N(shift, 1) in two dimensions, on rows that they have not seen."""
    n_rows, generator = 256, th.Generator().manual_seed(0)
    th.manual_seed(0)
    model = Said(n_rows)
    with th.no_grad():
        model.mean.zero_()
        model.log_var.zero_()
        model.mean[..., 1] = shift
    objective, found = objective_for(model, value_coef=0.0, classifier_steps=10_000), []
    objective.n_fits += 1
    context = linear_context()
    objective.prepare(model, linear_law(30), context)
    optimizer = th.optim.Adam(model.parameters())
    for step in range(400):
        rows = by_each(linear_law(n_rows, seed=step), 2)
        batch = rows._replace(next_observations=th.randn(2, n_rows, 2, generator=generator))
        if step >= 350:
            drawn = draw_members(model, batch, generator)
            with th.no_grad():
                logits = (objective.classifier(batch, part, drawn.prediction) for part in (drawn.real[..., 1:], drawn.made))
                found.append(float(accuracies(*logits).mean()))
        objective.step(model, optimizer, batch, th.ones(2, n_rows), {}, context)
    return sum(found) / len(found)


@pytest.mark.expensive
def test_nobody_can_tell_a_law_from_itself_and_everybody_another_one() -> None:
    """The best classifier of N(0, 1) and N(d, 1) is right with the probability Phi(d / 2): 0.691 of 1, 0.933 of 3."""
    assert abs(accuracy_of_trained(0.0) - 0.5) < 0.01
    assert abs(accuracy_of_trained(1.0) - 0.691) < 0.02
    assert abs(accuracy_of_trained(3.0) - 0.933) < 0.02


@pytest.mark.parametrize("kind", ["ensemble", "smooth"])
def test_the_first_fits_are_those_of_the_likelihood(kind: str) -> None:
    """To the last bit, without a question to the agent; the next fit is another one, whose budget is spent whole."""
    data, models = make_data(200), [built(kind, max_epochs=2, first_max_epochs=2, patience=1) for _ in range(2)]
    objective = objective_for(models[0], (3, 2), likelihood_fits=2, value_coef=0.0, classifier_steps=5)
    for _ in range(2):
        for model, its_own in zip(models, (objective, LikelihoodObjective()), strict=True):
            figures = model.fit(data, th.ones(200), its_own, make_context())
    assert same_state(*models) and "classifier_accuracy" not in figures
    for model, its_own in zip(models, (objective, LikelihoodObjective()), strict=True):
        figures = model.fit(data, th.ones(200), its_own, make_context())
        if its_own is objective:
            assert figures["epochs"] == 2.0 and 0.0 <= figures["classifier_accuracy"] <= 1.0
    assert not same_state(*models)
    assert int(objective.n_fits) == 3 and int(objective.n_steps) == 60


@pytest.mark.parametrize("normalized", [False, True])
@pytest.mark.parametrize(
    "arguments",
    [
        {"dynamics": "smooth"},
        {"objective_kwargs": {"augmented_reward": True}},
        {"dynamics": "smooth", "policy_update": "double_horizon", "objective_kwargs": {"augmented_reward": True}},
    ],
    ids="-".join,
)
@pytest.mark.filterwarnings("ignore:health/")
def test_an_agent_learns_with_it(arguments: dict[str, Any], normalized: bool) -> None:
    env: Any = make_vec_env(Paid, 2)
    env = VecNormalize(env) if normalized else env
    kwargs = {**SMALL_MNM, **arguments.get("objective_kwargs", {})}
    agent = small_agent(env, objective="mnm", **{**arguments, "objective_kwargs": kwargs}).learn(104)
    assert int(agent.objective.n_fits) == 3 and int(agent.objective.n_steps) == 30
    figures = agent.fit_model()
    assert {"classifier_accuracy", "value_mean", "validation_error"} <= figures.keys()
    assert ("return_most" in figures) != agent.objective.augmented_reward
    agent.imagine()
    agent.train_policy(3)
    compared = {"health/imagined_return_excess", "health/critic_to_bound"} & agent.logger.name_to_value.keys()
    of_double_horizon = arguments.get("policy_update") == "double_horizon"
    assert bool(compared) != agent.objective.augmented_reward or of_double_horizon, "logarithms are not the env's rewards"
    rewards = agent.imagined.gather(th.arange(agent.imagined.size))[3]
    assert bool((rewards > 3.7).all()) != agent.objective.augmented_reward, "20 - 16.3 at least, or logarithms"
    drawn = next(agent._batches(agent._context()).raw(1, 400))
    assert bool((drawn.rewards[:20] > 3.7).all()) != agent.objective.augmented_reward


def test_figures_are_in_the_log_and_the_range_is_that_of_rewards(tmp_path: Any) -> None:
    agent = small_agent(make_vec_env(Paid, 1), objective="mnm", objective_kwargs=SMALL_MNM, gamma=0.9).learn(80)
    figures, rewards = agent.fit_model(), agent.replay_buffer.transitions().rewards
    assert figures["return_most"] == pytest.approx(10.0 * float(rewards.max()), rel=1e-5) and figures["return_least"] == 0.0
    assert {"model/classifier_accuracy", "model/value_mean"} <= agent.logger.name_to_value.keys()


def test_rewards_that_are_not_above_0_have_no_logarithm() -> None:
    agent = small_agent(objective="mnm", objective_kwargs={**SMALL_MNM, "augmented_reward": True})
    with pytest.raises(
        ValueError, match=r"augmented_reward=True is not allowed where the env pays -\d.*Eq\. 5.*allowed: rewards"
    ):
        agent.learn(80)


def test_classifier_and_optimiser_are_in_the_zip(tmp_path: Any) -> None:
    agent = small_agent(objective="mnm", objective_kwargs=SMALL_MNM).learn(104)
    agent.save(tmp_path / "agent.zip")
    loaded = MBPO.load(tmp_path / "agent.zip", env="Pendulum-v1")
    for name, value in agent.objective.state_dict().items():
        assert th.equal(value, loaded.objective.state_dict()[name]), name
    before, after = (part.objective.optimizer.state_dict()["state"] for part in (agent, loaded))
    assert before and before.keys() == after.keys()
    for number, state in before.items():
        assert all(th.equal(value, after[number][name]) for name, value in state.items())


class WithoutMembers(DynamicsModel):
    """Samples, but not by member."""

    def forward(self, *arguments: Any) -> Any:
        raise NotImplementedError

    log_likelihood = validation_error = sample = fit = forward  # type: ignore[assignment]


def test_by_its_name_and_who_refuses_it() -> None:
    agent = MBPO("MlpPolicy", "Pendulum-v1", objective="mnm", objective_kwargs={"value_coef": 0.5}, buffer_size=100)
    assert (agent.objective.value_coef, agent.objective.is_likelihood, agent.objective.recordable) == (0.5, False, False)
    assert agent.objective.classifier.layers[0].weight.shape[0] == agent.dynamics.n_members == 7
    refused = {
        "mdn": "MixtureDensityNetwork cannot be fitted with objective=MnMObjective: .* no gradient",
        "linear": "LinearDynamics cannot be fitted with objective=MnMObjective",
        WithoutMembers: "WithoutMembers cannot be fitted with objective=MnMObjective: it has no sample_members",
    }
    for dynamics, message in refused.items():
        with pytest.raises(ValueError, match=message):
            MBPO("MlpPolicy", "Pendulum-v1", objective="mnm", dynamics=dynamics, buffer_size=100)
    assert (
        LinearDynamics.is_reparameterised and not MBPO("MlpPolicy", "Pendulum-v1", dynamics="mdn").dynamics.is_reparameterised
    )
    with pytest.raises(ValueError, match=r"context\.model=None"):
        objective_for(Said(3), augmented_reward=True).relabel(linear_law(3), linear_context())
    assert MnMObjective().value_coef == 1.0


def test_the_models_first_step_by_eq_9_begins_a_new_adam_at_its_own_rates() -> None:
    """Of four steps of the classifiers, one in an earlier fit, the model shares in the last two."""
    model, context = Said(N_ROWS), linear_context()
    optimizer = th.optim.Adam([{"params": [model.mean]}, {"params": [model.log_var], "lr": 0.5}], lr=0.05)
    (model.mean.sum() + model.log_var.sum()).backward()
    for _ in range(5):  # of fits by the likelihood
        optimizer.step()
    objective = objective_for(model, classifier_steps=2, model_learning_rate=1e-4)
    objective.n_fits += 1
    objective.n_steps += 1
    objective.prepare(model, linear_law(30), context)
    for _ in range(3):
        objective.step(model, optimizer, a_batch(), th.ones(2, N_ROWS), {}, context)
    assert [float(state["step"]) for state in optimizer.state.values()] == [2.0, 2.0]
    assert [group["lr"] for group in optimizer.param_groups] == pytest.approx([1e-4, 1e-3])
