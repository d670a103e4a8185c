"""A policy update of a user: one class, and nothing else of the agent changes."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch as th

from sb3_tom import MBPO, Context
from sb3_tom.contracts.policy_update import Batches, ImaginedWorld, PolicyParts, PolicyUpdate
from sb3_tom.imagination.differentiable import roll_out
from tests.mbpo.small import small_agent


class Pathwise(PolicyUpdate):
    """The actor climbs the rewards of short differentiable rollouts; a baseline is learned beside it, to have a state."""

    defaults: ClassVar[Mapping[str, Any]] = {
        "batch_size": 16,
        "tau": 0.25,
        "update_to_data_ratio": 1.0,
        "real_ratio": 0.5,
        "rollout_schedule": 2,
        "rollout_batch_size": 40,
    }

    def __init__(self, horizon: int = 3) -> None:
        super().__init__()
        self.horizon, self.forgotten = horizon, 0

    def build(self, observation_dim: int, action_dim: int) -> None:
        self.baseline = th.nn.Parameter(th.zeros(()))
        self.baseline_optimizer = th.optim.Adam([self.baseline], lr=0.1)

    def forget(self) -> None:
        self.forgotten += 1

    def check(self, parts: PolicyParts, uses_confidence: bool) -> None:
        if parts.gamma == 0.5:
            raise ValueError(f"gamma={parts.gamma!r} is not allowed with Pathwise; allowed: another")

    def update(
        self,
        parts: PolicyParts,
        batches: Batches,
        world: ImaginedWorld,
        context: Context,
        gradient_steps: int,
        batch_size: int,
    ) -> dict[str, float]:
        for batch in batches.raw(gradient_steps, batch_size):
            rollout = roll_out(world, batch.observations, self.horizon, context)
            counted = zip(rollout.steps, rollout.counted, strict=True)
            value = sum(((step.rewards * on).mean() for step, on in counted), start=th.zeros(()))
            loss = (self.baseline - value.detach()).square() - value
            parts.policy.actor.optimizer.zero_grad()
            self.baseline_optimizer.zero_grad()
            loss.backward()
            parts.policy.actor.optimizer.step()
            self.baseline_optimizer.step()
        return {"actor_loss": -float(value), "ent_coef": 0.0}


KWARGS: dict[str, Any] = {"policy_update": Pathwise, "dynamics": "linear", "update_to_data_ratio": None}
FREE: dict[str, Any] = {"batch_size": None, "rollout_batch_size": None}


def test_it_trains_saves_loads_and_resumes(tmp_path: Path) -> None:
    agent = small_agent(policy_update_kwargs={"horizon": 2}, **KWARGS).learn(150)
    assert agent.policy_update.horizon == 2 and float(agent.policy_update.baseline) != 0.0 and agent._n_updates == 100
    assert agent.logger.name_to_value["train/actor_loss"] != 0.0 and agent.logger.name_to_value["train/ent_coef"] == 0.0
    agent.save(tmp_path / "agent")
    loaded = MBPO.load(tmp_path / "agent", env="Pendulum-v1")
    assert type(loaded.policy_update) is Pathwise and th.equal(loaded.policy_update.baseline, agent.policy_update.baseline)
    assert loaded.policy_update.forgotten == 1
    agent.save_checkpoint(tmp_path / "run.zip")
    resumed = MBPO.resume(tmp_path / "run.zip", "Pendulum-v1", policy_update=Pathwise)
    for one in (agent, resumed):
        one.learn(30, reset_num_timesteps=False)
    assert th.equal(resumed.policy_update.baseline, agent.policy_update.baseline)
    th.testing.assert_close(resumed.policy.state_dict(), agent.policy.state_dict(), rtol=0.0, atol=0.0)


def test_its_defaults_hold_where_the_user_gave_none() -> None:
    agent = small_agent(**{**KWARGS, **FREE})
    names = ("batch_size", "tau", "update_to_data_ratio", "real_ratio", "rollout_schedule", "rollout_batch_size")
    assert [getattr(agent, name) for name in names] == [16, 0.25, 1.0, 0.5, 2, 40]
    given = small_agent(**{**KWARGS, **FREE, "tau": 0.5, "real_ratio": 0.1})
    assert (given.tau, given.real_ratio, given.batch_size) == (0.5, 0.1, 16)
    sac = MBPO("MlpPolicy", "Pendulum-v1", dynamics="linear")
    assert [getattr(sac, name) for name in names] == [256, 0.005, 20.0, 0.05, 1, 100_000]


def test_it_may_refuse_and_what_it_learned_goes_back_after_a_divergence(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match=r"gamma=0.5 is not allowed with Pathwise"):
        small_agent(gamma=0.5, **KWARGS)
    agent = small_agent(**KWARGS).learn(80)
    before = float(agent.policy_update.baseline)

    def bad(*arguments: Any) -> dict[str, float]:
        agent.policy_update.baseline.data.fill_(th.nan)
        return {}

    monkeypatch.setattr(agent.policy_update, "update", bad)
    with pytest.raises(ValueError, match=r"the norm of the weights of Pathwise \(the agent's policy_update\) is nan"):
        agent.train_policy(1)
    assert float(agent.policy_update.baseline) == before


def test_nothing_else_knows_which_one_runs() -> None:
    agent = small_agent(**KWARGS)
    agent.learn(80)
    agent.fit_weights()
    agent.fit_model()
    agent.imagine()
    agent.train_policy(3)
    assert agent.predict(agent.observation_space.sample())[0].shape == (1,)
