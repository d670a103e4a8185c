"""The double horizon's recorded step, on any machine with a tape and on CUDA with real graphs."""

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch as th
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.vec_env import VecNormalize

from sb3_tom import DHMBPO
from sb3_tom.compute.cuda_graphs import WARM_UP
from sb3_tom.contracts.policy_update import PolicyParts
from sb3_tom.policy_updates.double_horizon import update
from sb3_tom.policy_updates.double_horizon.gradient_step import GradientStep
from sb3_tom.policy_updates.double_horizon.graphed_step import GraphedStep, recorded_step
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
    return DHMBPO("MlpPolicy", kwargs.pop("env", "Pendulum-v1"), **{**TINY, **kwargs})


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_run_on_the_tape_equals_an_eager_one(variant: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """New random numbers at each replay, those that an eager step draws; numbers drift apart by rounding only."""
    plain = small(**VARIANTS[variant]).learn(90)
    with taped(monkeypatch) as tape:
        recorded = small(**VARIANTS[variant]).learn(90)
        assert isinstance(recorded.policy_update._graphed, GraphedStep)
    assert tape.recordings >= 2
    assert recorded._n_updates == plain._n_updates > 0
    assert largest_relative_error(numbers(recorded), numbers(plain)) <= 1e-4
    assert recorded.logger.name_to_value.keys() == plain.logger.name_to_value.keys()


def hang_a_hook(agent: DHMBPO) -> None:
    agent.critic.register_forward_hook(lambda *_: None)


def patch_the_forward(agent: DHMBPO) -> None:
    agent.critic.forward = lambda *args: agent.critic.values(*args).unbind(0)


def hang_a_hook_into_the_model(agent: DHMBPO) -> None:
    agent.dynamics.layers[0].register_forward_hook(lambda *_: None)


def patch_the_step(agent: DHMBPO) -> None:
    agent.actor.optimizer.step = lambda: None


def leave_it(agent: DHMBPO) -> None:
    """Nothing."""


REFUSED: dict[str, tuple[dict[str, Any], Callable[[DHMBPO], None]]] = {
    "a hook": ({}, hang_a_hook),
    "a patched forward": ({}, patch_the_forward),
    "a hook in the model": ({}, hang_a_hook_into_the_model),
    "a patched step": ({}, patch_the_step),
    "a reward function": ({"reward_fn": lambda _, actions, after: after[:, :1] - actions[:, :1]}, leave_it),
    "a termination function": ({"termination_fn": lambda before, _, after: after[:, :1] > 2.0}, leave_it),
    "a confidence": ({"confidence": Trust()}, leave_it),
    "a linear model": ({"dynamics": "linear", "dynamics_kwargs": {"clamp": None}}, leave_it),
}


def step_for(agent: DHMBPO) -> GradientStep | GraphedStep:
    """The step of the agent's next call, without a device's say."""
    context, parts = agent._context(), PolicyParts.of(agent)
    made = GradientStep(agent.policy_update.settings, parts, agent._world, agent._batches(context).units, context)
    return recorded_step(made, None, Tape())


@pytest.mark.parametrize("case", REFUSED)
def test_what_has_a_say_of_its_own_is_not_recorded(case: str) -> None:
    kwargs, change = REFUSED[case]
    agent = small(**copy.deepcopy(kwargs)).learn(55)
    change(agent)
    assert isinstance(step_for(agent), GradientStep)
    assert isinstance(step_for(small().learn(55)), GraphedStep)


def test_moving_units_are_not_recorded() -> None:
    agent = small(env=VecNormalize(make_vec_env("Pendulum-v1", 1))).learn(55)
    assert isinstance(step_for(agent), GradientStep)


def test_not_before_the_optimisers_have_stepped() -> None:
    agent = small()
    agent.adopt_replay_buffer(small().learn(50).replay_buffer)
    agent.fit_model()
    agent.imagine()
    assert isinstance(step_for(agent), GradientStep)


def change_the_discount(agent: DHMBPO) -> None:
    agent.gamma = 0.5


def switch_the_rule(agent: DHMBPO) -> None:
    agent.termination.set_rule(None)


def replace_the_generator(agent: DHMBPO) -> None:
    agent.generator = th.Generator().manual_seed(5)


def load_the_optimiser(agent: DHMBPO) -> None:
    agent.critic.optimizer.load_state_dict(copy.deepcopy(agent.critic.optimizer.state_dict()))


def move_a_parameter(agent: DHMBPO) -> None:
    agent.dynamics.layers[0].weight.data = agent.dynamics.layers[0].weight.data.clone()


@pytest.mark.parametrize(
    "change", [change_the_discount, switch_the_rule, replace_the_generator, load_the_optimiser, move_a_parameter]
)
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


@pytest.mark.skipif(not th.cuda.is_available(), reason="needs a CUDA device: records a real graph")
def test_a_run_on_cuda_graphs_equals_an_eager_one(monkeypatch: pytest.MonkeyPatch, recwarn: pytest.WarningsRecorder) -> None:
    recorded = small(device="cuda").learn(90)
    assert isinstance(recorded.policy_update._graphed, GraphedStep)
    assert not [warning for warning in recwarn if "no CUDA graph" in str(warning.message)]
    monkeypatch.setattr(update, "uses_cuda_graphs", lambda device: False)
    eager = small(device="cuda").learn(90)
    assert recorded._n_updates == eager._n_updates > WARM_UP
    assert largest_relative_error(numbers(recorded), numbers(eager)) <= 1e-3
