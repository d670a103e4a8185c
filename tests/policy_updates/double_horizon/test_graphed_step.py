"""The double horizon's recorded step, on any machine with a tape and on CUDA with real graphs."""

import copy
from collections.abc import Callable
from typing import Any

import gymnasium as gym
import pytest
import torch as th
from gymnasium.wrappers import TransformReward
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.policies import BaseModel
from stable_baselines3.common.vec_env import VecNormalize
from stable_baselines3.sac import policies
from stable_baselines3.sac.policies import Actor
from torch.utils._pytree import tree_leaves

from sb3_tom import DHMBPO
from sb3_tom.compute.cuda_graphs import WARM_UP
from sb3_tom.contracts.policy_update import PolicyParts
from sb3_tom.dynamics.smooth import SmoothEnsemble
from sb3_tom.policy_updates.double_horizon import update
from sb3_tom.policy_updates.double_horizon.gradient_step import GradientStep
from sb3_tom.policy_updates.double_horizon.graphed_step import GraphedStep, recorded_step, tensors_of
from sb3_tom.policy_updates.double_horizon.policies import DoubleHorizonPolicy, LayerNormCritics
from tests.compute.tape import Tape, taped
from tests.mbpo.toys import Trust
from tests.policy_updates.double_horizon.cases import TINY
from tests.policy_updates.sac.oracle import largest_relative_error, state

VARIANTS: dict[str, dict[str, Any]] = {
    "default": {},
    "clipped, averaged": {"max_grad_norm": 1.0, "policy_kwargs": {"net_arch": [16, 16], "averaging": 9}},
    "real transitions": {"policy_update_kwargs": {"real_critic_coef": 0.5}},
    "seldom targets": {"target_update_interval": 2, "update_to_data_ratio": 4},
    "fixed temperature": {"ent_coef": 0.1},
    "learned termination": {"termination_fn": "learned"},
    "a rate that falls": {"learning_rate": lambda left: 2.0**-10 if left > 0.2 else 2.0**-12},
}


def numbers(agent: DHMBPO) -> dict[str, th.Tensor]:
    return {name: value.double() for name, value in state(agent).items()}


def small(**kwargs: Any) -> DHMBPO:
    return DHMBPO(kwargs.pop("policy", "MlpPolicy"), kwargs.pop("env", "Pendulum-v1"), **{**TINY, **kwargs})


def step_of(agent: DHMBPO) -> GradientStep:
    """That of the agent's next call."""
    context, parts = agent._context(), PolicyParts.of(agent)
    return GradientStep(agent.policy_update.settings, parts, agent._world, agent._batches(context).units, context)


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_run_on_the_tape_equals_an_eager_one(variant: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """New random numbers at each replay, those that an eager step draws; numbers drift apart by rounding only."""
    plain = small(**VARIANTS[variant]).learn(90)
    with taped(monkeypatch) as tape:
        recorded = small(**VARIANTS[variant]).learn(90)
        assert recorded.policy_update._graphed is not None
    assert tape.recordings >= 2
    assert recorded._n_updates == plain._n_updates > 0
    assert largest_relative_error(numbers(recorded), numbers(plain)) <= 1e-4
    assert recorded.logger.name_to_value.keys() == plain.logger.name_to_value.keys()


@pytest.mark.parametrize("variant", VARIANTS)
def test_it_touches_only_what_its_signature_names(variant: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Other tensors could be freed, or replaced, without a new recording."""
    agent = small(**VARIANTS[variant]).learn(55)
    with taped(monkeypatch) as tape:
        step = step_of(agent)
        graphed = recorded_step(step, None)
        assert graphed is not None
        (batch,) = agent._batches(step.context).raw(1, 16)
        real = next(agent._batches(step.context).real(1, 16)) if variant == "real transitions" else None
        for _ in range(WARM_UP + 1):
            graphed(batch.observations, real, True)
    steppers = step.steppers._direct.values()
    named = [*tensors_of(step), *graphed._steps[True]._inputs, *(tensor for direct in steppers for tensor in direct.tensors)]
    known = {tensor.untyped_storage().data_ptr() for tensor in (*named, *(direct._arguments["lr"] for direct in steppers))}
    assert tape.recordings == 1 and len(tape._calls) > 500
    for function, args, kwargs, results in tape._calls:
        for tensor in (leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, th.Tensor)):
            assert tensor.untyped_storage().data_ptr() in known, function
        known |= {leaf.untyped_storage().data_ptr() for leaf in tree_leaves(results) if isinstance(leaf, th.Tensor)}


def hang_a_hook(agent: DHMBPO) -> None:
    agent.critic.register_forward_hook(lambda *_: None)


def patch_the_forward(agent: DHMBPO) -> None:
    agent.critic.forward = lambda *args: agent.critic.values(*args).unbind(0)


def hang_a_hook_into_the_model(agent: DHMBPO) -> None:
    agent.dynamics.layers[0].register_forward_hook(lambda *_: None)


def patch_the_step(agent: DHMBPO) -> None:
    agent.actor.optimizer.step = lambda: None


def freeze_a_parameter(agent: DHMBPO) -> None:
    agent.critic.layers[0].weight.requires_grad_(False)


class OwnAverage(DoubleHorizonPolicy):
    def average(self) -> None:
        """Nothing is averaged."""


class OwnEnsemble(SmoothEnsemble):
    """May do anything in ``sample``."""


class OwnCritics(LayerNormCritics):
    """May do anything in ``values``."""


class OwnPolicy(DoubleHorizonPolicy):
    def make_critic(self, features_extractor: Any = None) -> Any:
        critics = super().make_critic(features_extractor)
        critics.__class__ = OwnCritics
        return critics


def leave_it(agent: DHMBPO) -> None:
    """Nothing."""


PAID = TransformReward(gym.make("Pendulum-v1"), lambda reward: reward + 20.0)

REFUSED: dict[str, tuple[dict[str, Any], Callable[[DHMBPO], None]]] = {
    "a hook": ({}, hang_a_hook),
    "a patched forward": ({}, patch_the_forward),
    "a hook in the model": ({}, hang_a_hook_into_the_model),
    "a patched step": ({}, patch_the_step),
    "a frozen parameter": ({}, freeze_a_parameter),
    "a model of one's own": ({"dynamics": OwnEnsemble}, leave_it),
    "critics of one's own": ({"policy": OwnPolicy}, leave_it),
    "an average of one's own": ({"policy": OwnAverage}, leave_it),
    "an augmented reward": ({"env": PAID, "objective": "mnm", "objective_kwargs": {"augmented_reward": True}}, leave_it),
    "a reward function": ({"reward_fn": lambda _, actions, after: after[:, :1] - actions[:, :1]}, leave_it),
    "a termination function": ({"termination_fn": lambda before, _, after: after[:, :1] > 2.0}, leave_it),
    "a confidence": ({"confidence": Trust()}, leave_it),
    "a linear model": ({"dynamics": "linear", "dynamics_kwargs": {"clamp": None}}, leave_it),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_has_a_say_of_its_own_is_not_recorded(case: str) -> None:
    kwargs, change = REFUSED[case]
    agent = small(**kwargs).learn(55)
    change(agent)
    assert recorded_step(step_of(agent), None, Tape()) is None
    assert recorded_step(step_of(small().learn(55)), None, Tape()) is not None


@pytest.mark.parametrize(
    ("cls", "name"), [(Actor, "get_action_dist_params"), (BaseModel, "extract_features"), (LayerNormCritics, "values")]
)
def test_a_method_patched_into_a_class_is_not_recorded(cls: type, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    agent, method = small().learn(55), getattr(cls, name)
    monkeypatch.setattr(cls, name, lambda *args: method(*args))
    assert recorded_step(step_of(agent), None, Tape()) is None


def test_moving_units_are_not_recorded() -> None:
    agent = small(env=VecNormalize(make_vec_env("Pendulum-v1", 1))).learn(55)
    assert recorded_step(step_of(agent), None, Tape()) is None


def test_not_before_the_optimisers_have_stepped() -> None:
    agent = small()
    agent.adopt_replay_buffer(small().learn(50).replay_buffer)
    agent.fit_model()
    agent.imagine()
    assert recorded_step(step_of(agent), None, Tape()) is None


def change_the_discount(agent: DHMBPO) -> None:
    agent.gamma = 0.5


def switch_the_rule(agent: DHMBPO) -> None:
    agent.termination.set_rule(None)


def replace_the_generator(agent: DHMBPO) -> None:
    agent.generator = th.Generator().manual_seed(5)


def set_another_rule(agent: DHMBPO) -> None:
    """An object that may get the address of the rule before."""
    agent.termination.set_rule(None)
    agent.termination.set_rule({"env": "another", "observation_dim": 3, "kind": "never"})


def load_the_optimiser(agent: DHMBPO) -> None:
    agent.critic.optimizer.load_state_dict(copy.deepcopy(agent.critic.optimizer.state_dict()))


def move_a_parameter(agent: DHMBPO) -> None:
    agent.dynamics.layers[0].weight.data = agent.dynamics.layers[0].weight.data.clone()


CHANGES = [
    change_the_discount,
    switch_the_rule,
    set_another_rule,
    replace_the_generator,
    load_the_optimiser,
    move_a_parameter,
]


@pytest.mark.parametrize("change", CHANGES)
def test_recorded_anew_when_something_changed(change: Callable[[DHMBPO], None], monkeypatch: pytest.MonkeyPatch) -> None:
    with taped(monkeypatch):
        agent = small(model_train_freq=1000).learn(60)
        known = agent.policy_update._graphed
        assert isinstance(known, GraphedStep)
        agent.learn(5, reset_num_timesteps=False)
        assert agent.policy_update._graphed is known
        change(agent)
        agent.learn(5, reset_num_timesteps=False)
        assert agent.policy_update._graphed is not known
        agent.policy_update.forget()
        assert agent.policy_update._graphed is None


def test_recorded_anew_for_other_bounds_of_the_noise(monkeypatch: pytest.MonkeyPatch) -> None:
    agent = small().learn(55)
    known = recorded_step(step_of(agent), None, Tape())
    assert known is not None and recorded_step(step_of(agent), known, Tape()) is known
    monkeypatch.setattr(policies, "LOG_STD_MAX", -3.0)
    assert recorded_step(step_of(agent), known, Tape()) is not known


def test_a_gradient_that_a_user_has_dropped_costs_no_recording(monkeypatch: pytest.MonkeyPatch) -> None:
    with taped(monkeypatch) as tape:
        agent = small(model_train_freq=1000).learn(60)
        known, recordings = agent.policy_update._graphed, tape.recordings
        agent.policy.zero_grad()
        agent.learn(5, reset_num_timesteps=False)
        assert agent.policy_update._graphed is known and tape.recordings == recordings


def test_many_steps_at_once_are_recorded_from_the_second_on(monkeypatch: pytest.MonkeyPatch) -> None:
    agent = small()
    agent.adopt_replay_buffer(small().learn(50).replay_buffer)
    agent.fit_weights()
    agent.fit_model()
    agent.imagine()
    with taped(monkeypatch) as tape:
        agent.train_policy(WARM_UP + 5)
    assert tape.recordings == 1


def test_what_is_frozen_between_calls_stays_as_it_is() -> None:
    """Its gradient from before is still there."""
    agent = small(model_train_freq=1000).learn(55)
    frozen = agent.critic.layers[0].weight.requires_grad_(False)
    before, others = frozen.clone(), agent.critic.layers[1].weight.clone()
    agent.learn(3, reset_num_timesteps=False)
    assert th.equal(frozen, before) and not th.equal(agent.critic.layers[1].weight, others)


@pytest.mark.skipif(not th.cuda.is_available(), reason="needs a CUDA device: records a real graph")
def test_a_run_on_cuda_graphs_equals_an_eager_one(monkeypatch: pytest.MonkeyPatch, recwarn: pytest.WarningsRecorder) -> None:
    recorded = small(device="cuda").learn(90)
    assert isinstance(recorded.policy_update._graphed, GraphedStep)
    assert not [warning for warning in recwarn if "no CUDA graph" in str(warning.message)]
    monkeypatch.setattr(update, "uses_cuda_graphs", lambda device: False)
    eager = small(device="cuda").learn(90)
    assert recorded._n_updates == eager._n_updates > WARM_UP
    assert largest_relative_error(numbers(recorded), numbers(eager)) <= 1e-3
