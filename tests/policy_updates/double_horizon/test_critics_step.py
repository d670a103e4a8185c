"""The critics' step: which target critics are asked, and what real transitions add."""

from typing import Any

import pytest
import torch as th

from sb3_tom.contracts.types import Batch
from sb3_tom.policy_updates.double_horizon.policies import LayerNormCritics
from sb3_tom.policy_updates.sampling import sample_squashed
from sb3_tom.policy_updates.steps import temperature
from tests.policy_updates.double_horizon.cases import (
    GAMMA,
    Fixed,
    context,
    made,
    make_sac,
    make_world,
    parts_of,
    starts,
    step_of,
)


@pytest.mark.parametrize("way", ["hook", "forward", "subclass"])
def test_what_a_user_hangs_into_the_target_critics_is_called(way: str) -> None:
    """And without it only the critics that are drawn are asked, with the same result."""
    agent = make_sac()
    critics, calls = agent.critic_target, []
    seen, actions = starts(), th.zeros(40, 2, dtype=th.float64)

    def value() -> th.Tensor:
        return step_of(agent, make_world(), context()).target_value(seen, actions)

    expected = value()
    if way == "hook":
        critics.register_forward_hook(lambda module, inputs, outputs: calls.append(len(outputs)))
    else:

        def forward(obs: th.Tensor, actions: th.Tensor) -> tuple[th.Tensor, ...]:
            calls.append(5)
            return critics.values(obs, actions).unbind(0)

        if way == "forward":
            critics.forward = forward
        else:
            critics.__class__ = type("Own", (LayerNormCritics,), {"forward": lambda self, obs, actions: forward(obs, actions)})
    th.testing.assert_close(value(), expected)
    assert calls == [2 if way == "hook" else 5]


def test_without_their_factor_no_real_transitions_are_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    agent, world, batches = make_sac(), make_world(0.6), Fixed(starts())

    def refuse(*_: Any) -> Any:
        raise RuntimeError("drawn")

    monkeypatch.setattr(batches, "real", refuse, raising=False)
    made().update(parts_of(agent), batches, world, context(), 2, 40)
    with pytest.raises(RuntimeError, match="drawn"):
        made(real_critic_coef=0.1).update(parts_of(agent), batches, world, context(), 2, 40)


@pytest.mark.parametrize("ent_coef", ["auto", 0.3])
def test_real_transitions_have_sacs_loss(ent_coef: Any) -> None:
    """Against SB3's lines, critic by critic and row by row, with a factor."""
    agent, world = make_sac(learning_rate=0.0, ent_coef=ent_coef), make_world(0.6)
    generator = th.Generator().manual_seed(5)
    here, after = (th.randn(12, 3, generator=generator, dtype=th.float64) for _ in range(2))
    done = done_of(12)
    real = Batch(here, th.rand(12, 2, generator=generator, dtype=th.float64) * 2 - 1, after, here[:, :1], done)
    step = step_of(agent, world, context(), n_target_critics=5, real_critic_coef=0.7)
    path = step.roll(starts())
    losses = []
    for rows in (None, real):
        step.context = context(1)
        losses.append(step.fit_critics(path, rows)["critic_loss"])
    source = context(1).generator
    th.randperm(5, generator=source)  # of the path's target
    noise = th.randn(12, 2, generator=source).double()
    alpha, total = float(temperature(step.parts)), 0.0
    with th.no_grad():
        actions, log_prob = sample_squashed(agent.actor, after, noise)
        least = th.stack(agent.critic_target(after, actions)).amin(0)
        for value in agent.critic(here, real.actions):
            for row in range(12):
                target = float(here[row, 0])
                if not done[row, 0]:
                    target += GAMMA * float(least[row, 0] - alpha * log_prob[row, 0])
                total += (float(value[row, 0]) - target) ** 2 / 12
    assert float(losses[1] - losses[0]) == pytest.approx(0.7 * total, rel=1e-9)


def done_of(n_rows: int) -> th.Tensor:
    """Every third row ends its episode."""
    return (th.arange(n_rows, dtype=th.float64) % 3 == 0).double().unsqueeze(1)
