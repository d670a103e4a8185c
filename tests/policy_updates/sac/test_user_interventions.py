"""
Every way in which PyTorch lets a user intervene in forward, backward or step. Whatever SB3's own SAC would call, the agent's
update calls too: each entry counts its calls in both.
"""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from typing import Any

import pytest
import torch as th
from stable_baselines3 import SAC
from stable_baselines3.common.policies import BaseModel
from stable_baselines3.sac.policies import Actor
from torch import nn
from torch.nn.modules import module as module_registry
from torch.optim import optimizer as optimizer_registry
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

from sb3_tom.contracts.policy_update import PolicyParts
from sb3_tom.policy_updates.sac.handwritten_update import supports_handwritten_gradients
from sb3_tom.policy_updates.sac.sac_update import has_plain_temperature
from sb3_tom.policy_updates.steps import is_supported
from tests.mbpo.small import small_agent

Count = Callable[..., None]
Intervention = Callable[[SAC, Count, ExitStack, pytest.MonkeyPatch], Any]


def counting(original: Callable[..., Any], count: Count) -> Callable[..., Any]:
    """The method of a patch: counts, then does what it hides."""

    def call(*args: Any, **kwargs: Any) -> Any:
        count()
        return original(*args, **kwargs)

    return call


def removable(register: Callable[..., Any]) -> Intervention:
    """A global hook, which is taken out after the test."""

    def install(_agent: SAC, count: Count, stack: ExitStack, _patch: pytest.MonkeyPatch) -> None:
        stack.callback(register(lambda *_: count()).remove)

    return install


def on_instance(find: Callable[[SAC], Any], name: str) -> Intervention:
    """An attribute in the place of a method, the usual patch."""

    def install(agent: SAC, count: Count, _stack: ExitStack, _patch: pytest.MonkeyPatch) -> None:
        thing = find(agent)
        setattr(thing, name, counting(getattr(thing, name), count))

    return install


def on_class(cls: type, name: str, decorator: Callable[[Any], Any] = lambda method: method) -> Intervention:
    """A method put into a class of PyTorch or SB3, maybe within a decorator of PyTorch's."""

    def install(_agent: SAC, count: Count, _stack: ExitStack, patch: pytest.MonkeyPatch) -> None:
        patch.setattr(cls, name, decorator(counting(getattr(cls, name), count)))

    return install


def in_mode(make: Callable[[Count], AbstractContextManager[Any]]) -> Intervention:
    """Training inside of a context."""
    return lambda _agent, count, stack, _patch: stack.enter_context(make(count))


def function_mode(count: Count) -> TorchFunctionMode:
    class Mode(TorchFunctionMode):
        def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            if func is th.Tensor.backward:
                count()
            return func(*args, **(kwargs or {}))

    return Mode()


def dispatch_mode(count: Count) -> TorchDispatchMode:
    class Mode(TorchDispatchMode):
        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            if "backward" in str(func):
                count()
            return func(*args, **(kwargs or {}))

    return Mode()


@contextmanager
def saved_tensors(count: Count) -> Iterator[None]:
    with th.autograd.graph.saved_tensors_hooks(lambda tensor: tensor, lambda tensor: (count(), tensor)[1]):
        yield


def subclass_of_a_layer(agent: SAC, count: Count, _stack: ExitStack, _patch: pytest.MonkeyPatch) -> None:
    class Mine(nn.Linear):
        def forward(self, inputs: th.Tensor) -> th.Tensor:
            count()
            return super().forward(inputs)

    agent.critic.q_networks[0][0].__class__ = Mine


def subclass_of_adam(method: str) -> Intervention:
    def install(agent: SAC, count: Count, _stack: ExitStack, _patch: pytest.MonkeyPatch) -> None:
        mine = type("Mine", (th.optim.Adam,), {method: counting(getattr(th.optim.Adam, method), count)})
        agent.actor.optimizer.__class__ = mine

    return install


def layer(agent: SAC) -> nn.Linear:
    return agent.critic.q_networks[1][2]


INTERVENTIONS: dict[str, Intervention] = {
    "forward hook": lambda agent, count, *_: layer(agent).register_forward_hook(lambda *_: count()),
    "forward pre-hook": lambda agent, count, *_: agent.actor.mu.register_forward_pre_hook(lambda *_: count()),
    "hook of a critic": lambda agent, count, *_: agent.critic.register_forward_hook(lambda *_: count()),
    "hook of the target": lambda agent, count, *_: agent.critic_target.register_forward_hook(lambda *_: count()),
    "full backward hook": lambda agent, count, *_: layer(agent).register_full_backward_hook(lambda *_: count()),
    "full backward pre-hook": lambda agent, count, *_: layer(agent).register_full_backward_pre_hook(lambda *_: count()),
    "global forward hook": removable(module_registry.register_module_forward_hook),
    "global forward pre-hook": removable(module_registry.register_module_forward_pre_hook),
    "global full backward hook": removable(module_registry.register_module_full_backward_hook),
    "global full backward pre-hook": removable(module_registry.register_module_full_backward_pre_hook),
    "forward of an instance": on_instance(layer, "forward"),
    "action_log_prob of the actor": on_instance(lambda agent: agent.actor, "action_log_prob"),
    "get_action_dist_params of the actor": on_instance(lambda agent: agent.actor, "get_action_dist_params"),
    "extract_features of a critic": on_instance(lambda agent: agent.critic, "extract_features"),
    "log_prob of the distribution": on_instance(lambda agent: agent.actor.action_dist, "log_prob"),
    "forward of a class": on_class(nn.Linear, "forward"),
    "get_action_dist_params of a class": on_class(Actor, "get_action_dist_params"),
    "extract_features of a class": on_class(BaseModel, "extract_features"),
    "extract_features of a class, decorated": on_class(BaseModel, "extract_features", th.enable_grad()),
    "call of all modules": on_class(nn.Module, "__call__"),
    "a subclass of a layer": subclass_of_a_layer,
    "hook of a parameter": lambda agent, count, *_: layer(agent).weight.register_hook(lambda _: count()),
    "hook after accumulation": lambda agent, count, *_: layer(agent).bias.register_post_accumulate_grad_hook(
        lambda _: count()
    ),
    "hook of several gradients": lambda agent, count, *_: th.autograd.graph.register_multi_grad_hook(
        list(agent.actor.mu.parameters()), lambda _: count()
    ),
    "hook of the temperature": lambda agent, count, *_: agent.log_ent_coef.register_hook(lambda _: count()),
    "optimiser's pre-hook": lambda agent, count, *_: agent.actor.optimizer.register_step_pre_hook(lambda *_: count()),
    "optimiser's post-hook": lambda agent, count, *_: agent.critic.optimizer.register_step_post_hook(lambda *_: count()),
    "temperature optimiser's hook": lambda agent, count, *_: agent.ent_coef_optimizer.register_step_pre_hook(
        lambda *_: count()
    ),
    "global optimiser pre-hook": removable(optimizer_registry.register_optimizer_step_pre_hook),
    "global optimiser post-hook": removable(optimizer_registry.register_optimizer_step_post_hook),
    "step of the actor's optimiser": on_instance(lambda agent: agent.actor.optimizer, "step"),
    "step of the critics' optimiser": on_instance(lambda agent: agent.critic.optimizer, "step"),
    "step of the temperature's optimiser": on_instance(lambda agent: agent.ent_coef_optimizer, "step"),
    "zero_grad of an optimiser": on_instance(lambda agent: agent.critic.optimizer, "zero_grad"),
    "zero_grad of the temperature's": on_instance(lambda agent: agent.ent_coef_optimizer, "zero_grad"),
    "step of a class": on_class(th.optim.Adam, "step"),
    "step of a subclass": subclass_of_adam("step"),
    "zero_grad of a subclass": subclass_of_adam("zero_grad"),
    "function mode": in_mode(function_mode),
    "dispatch mode": in_mode(dispatch_mode),
    "saved tensors": in_mode(saved_tensors),
}


def calls_in_training(agent: SAC, install: Intervention, monkeypatch: pytest.MonkeyPatch) -> int:
    calls: list[int] = []
    with ExitStack() as stack, monkeypatch.context() as patch:
        install(agent, lambda *_: calls.append(1), stack, patch)
        calls.clear()
        agent.train(gradient_steps=3, batch_size=8)
    return len(calls)


@pytest.mark.parametrize("install", INTERVENTIONS.values(), ids=INTERVENTIONS)
def test_what_sb3_calls_is_called(install: Intervention, monkeypatch: pytest.MonkeyPatch) -> None:
    networks = {"net_arch": [8, 8]}
    oracle = SAC("MlpPolicy", "Pendulum-v1", learning_starts=60, seed=0, device="cpu", policy_kwargs=networks).learn(60)
    assert calls_in_training(oracle, install, monkeypatch) > 0, "this entry is none"
    agent = small_agent(policy_kwargs=networks, dynamics="linear").learn(60)
    assert calls_in_training(agent, install, monkeypatch) > 0


MODES = {"anomaly detection": th.autograd.detect_anomaly, "autocast": lambda: th.autocast("cpu", th.bfloat16)}


@pytest.mark.parametrize("mode", MODES.values(), ids=MODES)
def test_modes_without_calls_take_the_general_update(mode: Callable[[], AbstractContextManager[Any]]) -> None:
    agent = small_agent(dynamics="linear")
    assert supports_handwritten_gradients(agent.policy)
    with mode():
        assert not supports_handwritten_gradients(agent.policy)


def test_without_an_intervention_nothing_is_slower() -> None:
    agent = small_agent(dynamics="linear").learn(60)
    assert is_supported(agent.policy) and supports_handwritten_gradients(agent.policy)
    assert has_plain_temperature(PolicyParts.of(agent))


def test_clipping_by_a_patched_step_holds() -> None:
    """The usual patch for gradient clipping (SB3 issue 2123), here to a norm of 0: nothing moves."""
    agent = small_agent(dynamics="linear")
    for optimizer in (agent.actor.optimizer, agent.critic.optimizer):

        def step(*args: Any, real: Any = optimizer.step, clipped: Any = optimizer, **kwargs: Any) -> Any:
            nn.utils.clip_grad_norm_(clipped.param_groups[0]["params"], 0.0)
            return real(*args, **kwargs)

        optimizer.step = step
    before = [parameter.detach().clone() for parameter in (*agent.actor.parameters(), *agent.critic.parameters())]
    agent.learn(80)
    assert agent._n_updates > 0
    after = [*agent.actor.parameters(), *agent.critic.parameters()]
    assert all(th.equal(one, other) for one, other in zip(before, after, strict=True))
