"""What plugs return and write into is checked where they are called: the message names the plug and what is allowed."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch as th

from sb3_tom import DHMBPO, Context, LinearDynamics, Transitions
from sb3_tom.contracts.imagination import Confidence, RolloutStop
from sb3_tom.contracts.objective import ModelObjective
from sb3_tom.contracts.policy_update import PolicyParts, PolicyUpdate
from sb3_tom.contracts.termination import Termination
from sb3_tom.contracts.types import Batch
from sb3_tom.contracts.weighter import Weighter
from sb3_tom.dynamics.ensemble import ProbabilisticEnsemble
from sb3_tom.objectives.likelihood import LikelihoodObjective
from tests.mbpo.small import SMALL_MODELS, small_agent

TINY: dict[str, Any] = {"dynamics": "linear", "weighter_kwargs": None, "rollout_batch_size": 20}
GRADIENT = {"dynamics": "ensemble", "dynamics_kwargs": SMALL_MODELS["ensemble"]}


class Ends(Termination):
    """Returns what a test tells it to."""

    def forward(self, observations: th.Tensor, actions: th.Tensor, next_observations: th.Tensor) -> th.Tensor:
        return th.zeros(observations.shape[0], 1, dtype=th.bool)


class Idle(PolicyUpdate):
    """Makes no steps."""

    def update(self, *arguments: Any) -> dict[str, float]:
        return {"actor_loss": 0.0}


class Even(Weighter):
    """Weights of 1."""

    def weights(self, data: Transitions, context: Context) -> th.Tensor:
        return th.ones(data.size)


class Sure(Confidence):
    """Confidences of 1."""

    def forward(self, model: Any, batch: Transitions, context: Context) -> th.Tensor:
        return th.ones_like(batch.rewards)


class Never(RolloutStop):
    """Stops nothing."""

    def forward(self, model: Any, batch: Transitions, context: Context) -> th.Tensor:
        return th.zeros_like(batch.rewards, dtype=th.bool)


AXES: dict[str, type] = {
    "termination_fn": Ends,
    "policy_update": Idle,
    "weighter": Even,
    "confidence": Sure,
    "rollout_stop": Never,
    "dynamics": LinearDynamics,
    "objective": LikelihoodObjective,
}


def agent_with(argument: str, method: str, function: Callable[..., Any], **kwargs: Any) -> Any:
    base = AXES[argument] if argument != "ensemble" else ProbabilisticEnsemble
    mine = type("Mine", (base,), {method: function})
    return small_agent(**{**TINY, **kwargs, "dynamics" if argument == "ensemble" else argument: mine})


def swapped(model: Any, observations: th.Tensor, actions: th.Tensor, generator: th.Generator) -> Any:
    return tuple(reversed(LinearDynamics.sample(model, observations, actions, generator)))


WRONG: dict[str, tuple[str, str, Callable[..., Any], str]] = {
    "flags without a column": ("termination_fn", "forward", lambda _, o, *__: th.zeros(len(o), dtype=th.bool), "torch.bool"),
    "probabilities": ("termination_fn", "forward", lambda _, o, *__: th.zeros(len(o), 1), "torch.bool"),
    "no flags": ("termination_fn", "forward", lambda *_: None, "Mine returned None for .* rows"),
    "reward first": ("dynamics", "sample", swapped, r"Mine\.sample returned tuple .*in this order"),
    "rewards without a column": ("dynamics", "sample", lambda _, o, *__: (o, o[:, 0]), r"Mine\.sample returned tuple"),
    "no transitions": ("objective", "relabel", lambda _, batch, __: batch.rewards, r"Mine\.relabel returned a torch.float32"),
    "other rows": ("objective", "relabel", lambda _, batch, __: Transitions(*(it[:1] for it in batch)), r"Mine\.relabel"),
    "no batch": ("objective", "relabel_batch", lambda *_: None, r"Mine\.relabel_batch returned None"),
    "figures by number": ("policy_update", "update", lambda *_: {"loss": "high"}, r"Mine\.update returned {'loss': 'high'}"),
    "a list": ("policy_update", "end_phase", lambda *_: [1.0], r"Mine\.end_phase returned \[1\.0\]"),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_a_plug_returns(case: str) -> None:
    argument, method, function, message = WRONG[case]
    with pytest.raises(ValueError, match=message):
        agent_with(argument, method, function).learn(60)


@pytest.mark.parametrize("said", [None, {"a": True, "b": np.bool_(True), "c": th.ones(1, 1), "d": np.float32(2.0), "e": 3}])
def test_figures_of_one_number_are_allowed(said: Any) -> None:
    agent = agent_with("policy_update", "update", lambda *_: said).learn(60)
    logged = {name: value for name, value in agent.logger.name_to_value.items() if name in ("train/b", "train/c", "train/e")}
    assert {name: type(value) for name, value in logged.items()} in ({}, {"train/b": bool, "train/c": float, "train/e": float})


def test_what_an_objective_may_return() -> None:
    """A loss of one number of any shape, and a confidence that the batch did not have."""

    class Sure(LikelihoodObjective):
        def loss(self, *arguments: Any) -> th.Tensor:
            return super().loss(*arguments).reshape(1)

        def relabel_batch(self, batch: Batch, is_real: th.Tensor, context: Context) -> Batch:
            return batch._replace(confidence=th.ones_like(batch.rewards))

    small_agent(objective=Sure).learn(60)


def test_a_model_may_sample_without_versions() -> None:
    def sample(model: Any, *arguments: Any) -> Any:
        with th.inference_mode():
            return LinearDynamics.sample(model, *arguments)

    agent_with("dynamics", "sample", sample).learn(60)


OF_A_FIT: dict[str, tuple[Callable[..., Any], str]] = {
    "prepare": (lambda _, model, data, context: {"prize": data.rewards[:3]}, r"Mine\.prepare returned {'prize': .*3, 1"),
    "loss": (lambda _, model, batch, weights, extras: -model.log_likelihood(batch), r"Mine\.loss returned .* scalar"),
    "validation_error": (lambda _, model, batch, extras: th.zeros(()), r"Mine\.validation_error returned .*\(3, "),
}


@pytest.mark.parametrize("method", OF_A_FIT)
def test_what_an_objective_returns_to_a_fit(method: str) -> None:
    function, message = OF_A_FIT[method]
    with pytest.raises(ValueError, match=message):
        agent_with("objective", method, function, **GRADIENT).learn(60)


def test_members_are_the_first_axis() -> None:
    def build(model: Any, observation_dim: int, action_dim: int) -> None:
        ProbabilisticEnsemble.build(model, observation_dim, action_dim)
        model.temperature = th.nn.Parameter(th.ones(1))

    with pytest.raises(ValueError, match=r"Mine\.temperature has the shape \(1,\); allowed: the 3 members first"):
        agent_with("ensemble", "build", build, dynamics_kwargs=SMALL_MODELS["ensemble"]).learn(60)


def test_a_model_says_that_it_was_fitted() -> None:
    """A model without optimisers counted as fitted before its first fit; one with plain SGD never did."""
    with pytest.raises(ValueError, match=r"Mine\.is_fitted is False after Mine\.fit; allowed: True then"):
        agent_with("dynamics", "is_fitted", property(lambda _: False)).learn(60)  # type: ignore[arg-type]


def fill(tensor: th.Tensor) -> th.Tensor:
    return tensor.fill_(1.0)


WRITES: dict[str, tuple[str, str, Callable[..., Any], str]] = {
    "start states": ("weighter", "fit", lambda _, data, recent, starts, context: fill(starts), "start_observations"),
    "rewards, at the end": ("weighter", "end_phase", lambda _, data, context: fill(data.rewards), "rewards"),
    "rewards, by an update": ("policy_update", "end_phase", lambda _, p, data, *__: fill(data.rewards), "rewards"),
    "flags": ("termination_fn", "fit", lambda _, data, context: fill(data.terminated), "terminated"),
    "weights": ("dynamics", "fit", lambda _, data, weights, *__: fill(weights) is None, "weights"),
    "inputs": ("dynamics", "sample", lambda _, o, a, g: (fill(o), o[:, :1].clone()), "observations"),
    "next states": ("termination_fn", "forward", lambda _, o, a, after: fill(after)[:, :1] < 0, "next_observations"),
    "rows, by an objective": (
        "objective",
        "relabel",
        lambda _, batch, __: fill(batch.observations) is None or batch,
        "observ",
    ),
    "rows, by a confidence": ("confidence", "forward", lambda _, m, batch, __: fill(batch.rewards).clone(), "rewards"),
    "rows, by a stop": ("rollout_stop", "forward", lambda _, m, batch, __: fill(batch.rewards) < 0, "rewards"),
}


@pytest.mark.parametrize("case", WRITES)
def test_what_a_plug_writes_into(case: str) -> None:
    argument, method, function, name = WRITES[case]

    def quiet(*arguments: Any) -> Any:
        with th.no_grad():
            said = function(*arguments)
        return None if method in ("fit", "end_phase") else said

    with pytest.raises(ValueError, match=rf"^Mine has written into the {name}.*are changed now; allowed: to read them"):
        agent_with(argument, method, quiet).learn(60)


class ByValue(LikelihoodObjective):
    """Weighs rows by their values, which :meth:`prepare` returns with the critics' graph."""

    def prepare(self, model: Any, data: Transitions, context: Context) -> dict[str, th.Tensor]:
        return {"values": context.values(data.observations, data.actions).mean(0).reshape(-1)}

    def loss(self, model: Any, batch: Transitions, weights: th.Tensor, extras: dict[str, th.Tensor]) -> th.Tensor:
        return super().loss(model, batch, weights * extras["values"].sigmoid(), extras)


def test_what_an_objective_prepares_is_a_constant_of_the_fit() -> None:
    """The graph would be gone after the first minibatch, and the critics would get gradients of the model's loss."""
    agent = small_agent(**{**TINY, **GRADIENT, "objective": ByValue}).learn(60)
    agent.critic.zero_grad()
    agent.fit_model()
    assert all(parameter.grad is None for parameter in agent.critic.parameters())


def test_a_diverged_policy_is_noticed_whoever_has_updated_it() -> None:
    def spoil(_: Any, parts: PolicyParts, *__: Any) -> dict[str, float]:
        for parameter in parts.policy.critic.parameters():
            parameter.data.fill_(float("nan"))
        return {}

    agent = agent_with("policy_update", "update", spoil)
    with pytest.raises(ValueError, match=r"the norm of the critic's weights is nan.*left in a sound earlier state"):
        agent.learn(60)
    assert all(bool(parameter.isfinite().all()) for parameter in agent.policy.parameters())


@pytest.mark.parametrize("detached", [True, False])
def test_the_double_horizon_needs_a_model_with_gradients(detached: bool) -> None:
    """The actor would learn from the critics at the start alone, without a word."""

    def sample(model: Any, observations: th.Tensor, actions: th.Tensor, generator: th.Generator) -> Any:
        after, rewards = LinearDynamics.sample(model, observations, actions, generator)
        return after.detach() if detached else after, th.full_like(rewards, -1.0)  # a price of time

    mine = type("Mine", (LinearDynamics,), {"sample": sample})
    agent = DHMBPO("MlpPolicy", "Pendulum-v1", dynamics=mine, learning_starts=50, rollout_batch_size=8, seed=0, device="cpu")
    if detached:
        with pytest.raises(ValueError, match=r"dynamics=Mine is not allowed .*: its next observations have no gradient"):
            agent.learn(52)
    else:
        agent.learn(52)


def test_a_batch_and_an_objective_are_what_they_were() -> None:
    """The null of the tests above: plugs that keep to their contracts run."""

    class Doubled(LikelihoodObjective):
        def relabel_batch(self, batch: Batch, is_real: th.Tensor, context: Context) -> Batch:
            return batch._replace(rewards=2.0 * batch.rewards)

        def relabel(self, batch: Transitions, context: Context) -> Transitions:
            return batch._replace(rewards=batch.rewards + 1.0)

    assert issubclass(Doubled, ModelObjective)
    small_agent(objective=Doubled, termination_fn=Ends, confidence=Sure, rollout_stop=Never, **TINY).learn(60)
