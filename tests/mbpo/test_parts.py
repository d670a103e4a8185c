"""Parts of the agent alone: the guard around a plain SAC with a ring and a buffer, and the counter of updates."""

from typing import Any

import pytest
import torch as th
from stable_baselines3 import SAC

from sb3_tom import DivergenceError, LinearDynamics
from sb3_tom.data.imagined import ImaginedBuffer
from sb3_tom.data.replay_buffer import WeightedReplayBuffer
from sb3_tom.mbpo.guard import Guard, guarded
from sb3_tom.mbpo.update_counter import UpdateCounter


class Stub(SAC):
    """SB3's SAC with the few attributes that a guard looks at."""

    last_checkpoint = None
    policy_version, _since_phase, _since_rollouts = 3, 7, 7

    @guarded("dynamics", "policy")
    def verb(self, do: Any) -> None:
        do()


@pytest.fixture
def stub() -> Stub:
    small: dict[str, Any] = {
        "policy_kwargs": {"net_arch": [8]},
        "buffer_size": 50,
        "replay_buffer_class": WeightedReplayBuffer,
    }
    agent = Stub("MlpPolicy", "Pendulum-v1", seed=0, device="cpu", learning_starts=100, **small)
    agent.guard, agent.dynamics, agent.imagined = Guard(), LinearDynamics(), ImaginedBuffer(5, 3, 1, "cpu")
    agent.dynamics.build(3, 1)
    return agent.learn(10)


def test_what_diverges_goes_back_and_is_named(stub: Stub) -> None:
    stub.imagined.size = 5

    def diverge() -> None:
        stub.policy_version, stub._since_phase = 4, 0
        stub.dynamics.intercept.data.fill_(th.nan)

    with pytest.raises(DivergenceError, match=r"LinearDynamics \(the agent's dynamics\) is nan.*env Pendulum-v1, env step 10"):
        stub.verb(diverge)
    assert (stub.policy_version, stub._since_phase, stub.imagined.size) == (3, 7, 0)
    assert bool(th.isfinite(stub.dynamics.intercept).all())


def test_a_bad_policy_is_the_reason_behind_torchs_error(stub: Stub) -> None:
    kept = {name: values.clone() for name, values in stub.policy.state_dict().items()}

    def diverge() -> None:
        for parameter in stub.actor.parameters():
            parameter.data.fill_(th.nan)
        raise ValueError("Expected parameter loc of distribution Normal ...")

    with pytest.raises(DivergenceError, match=r"the norm of the actor's weights is nan"):
        stub.verb(diverge)
    th.testing.assert_close(stub.policy.state_dict(), kept, rtol=0.0, atol=0.0)


def test_other_errors_pass(stub: Stub) -> None:
    def fail() -> None:
        raise ValueError("wrong argument")

    with pytest.raises(ValueError, match=r"^wrong argument$"):
        stub.verb(fail)


def test_a_guard_keeps_no_agent(stub: Stub) -> None:
    stub.verb(lambda: None)
    assert not any(isinstance(value, SAC) for value in vars(stub.guard).values())


def test_updates_are_counted_per_transition() -> None:
    counter, made = UpdateCounter(), 40
    assert counter.reached(made) is None
    due = [counter.take_due(3, False, 0.75, made) for _ in range(4)]
    assert due == [2, 2, 2, 3] and counter.reached(made + sum(due)) == 9 / 12
    again = UpdateCounter()
    again.load_state_dict(counter.state_dict())
    assert again == counter
    fixed = UpdateCounter(collected=5)
    assert [fixed.take_due(2, True, 20.0, 0) for _ in range(3)] == [2, 2, 2]
    assert fixed.trained_transitions == 15 and fixed.reached(6) == 6 / 15
