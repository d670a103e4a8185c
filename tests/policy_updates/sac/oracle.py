"""SB3's own ``SAC.train`` as the oracle of the fast updates: equal parameters, batches and noise for both."""

from typing import Any

import pytest
import torch as th
from stable_baselines3 import SAC
from stable_baselines3.common.logger import configure
from stable_baselines3.common.type_aliases import ReplayBufferSamples
from stable_baselines3.sac.policies import SACPolicy

from sb3_tom.contracts.policy_update import PolicyParts
from sb3_tom.contracts.types import Batch
from sb3_tom.policy_updates.sac.sac_update import SACUpdate
from sb3_tom.policy_updates.steps import begin

BATCH = 32

SMALL: dict[str, Any] = {"policy_kwargs": {"net_arch": [16, 16]}}
"""Networks with which a hundred steps are quick."""

in_both_precisions = pytest.mark.parametrize(
    ("dtype", "n_updates", "tolerance"), [(th.float64, 100, 1e-9), (th.float32, 1, 1e-5)], ids=["float64", "float32"]
)
"""Many steps where rounding stays small, one step where it does not."""


class FixedBatches:
    """Stands in for SB3's replay buffer: hands out prepared batches one after the other."""

    def __init__(self, batches: list[Batch]) -> None:
        self._batches = iter(batches)

    def sample(self, batch_size: int, env: object = None) -> ReplayBufferSamples:
        batch = next(self._batches)
        return ReplayBufferSamples(
            batch.observations, batch.actions, batch.next_observations, dones=batch.terminated, rewards=batch.rewards
        )


def make_sac(dtype: th.dtype, policy: str | type[SACPolicy] = "MlpPolicy", **kwargs: object) -> SAC:
    """A SAC agent on Pendulum in the given precision, its policy's observations not cast back to float32."""
    agent = SAC(policy, "Pendulum-v1", seed=1, buffer_size=10, device="cpu", **kwargs)
    agent.policy.to(dtype)
    for module in (agent.actor, agent.critic, agent.critic_target):
        module.extract_features = lambda observations, extractor, module=module: extractor(observations)
    if agent.ent_coef_optimizer is not None:
        agent.log_ent_coef.data = agent.log_ent_coef.data.to(dtype)
    agent.set_logger(configure(None, []))
    return agent


def make_batches(n_batches: int, dtype: th.dtype) -> tuple[list[Batch], th.Tensor]:
    generator = th.Generator().manual_seed(0)
    widths = (3, 1, 3, 1)
    batches = []
    for _ in range(n_batches):
        fields = [th.randn(BATCH, width, generator=generator, dtype=dtype) for width in widths]
        fields[1] = fields[1].tanh()
        terminated = (th.rand(BATCH, 1, generator=generator) < 0.3).to(dtype)
        batches.append(Batch(*fields, terminated))
    return batches, th.randn(n_batches, 2, BATCH, 1, generator=generator, dtype=dtype)


def run_sb3(agent: SAC, batches: list[Batch], noise: th.Tensor, monkeypatch: pytest.MonkeyPatch) -> None:
    """SB3's train with the noise of its two action samples per step replaced by the given one."""
    draws = iter(noise.flatten(0, 1))
    monkeypatch.setattr("torch.distributions.normal._standard_normal", lambda shape, dtype, device: next(draws))
    agent.replay_buffer = FixedBatches(batches)
    agent.train(gradient_steps=len(batches), batch_size=BATCH)


def make_update(agent: SAC, kind: type[SACUpdate]) -> SACUpdate:
    parts = PolicyParts.of(agent)
    begin(parts)
    return kind(parts)


def run_fast(agent: SAC, batches: list[Batch], noise: th.Tensor, kind: type[SACUpdate], per_train: int = 1000) -> None:
    """``per_train``: steps after which the update is made anew, as it is for each ``train``."""
    for step, batch in enumerate(batches):
        if step % per_train == 0:
            update = make_update(agent, kind)
        update(batch, noise[step], step % agent.target_update_interval == 0)


def state(agent: SAC) -> dict[str, th.Tensor]:
    parameters = {name: value.clone() for name, value in agent.policy.state_dict().items()}
    if agent.ent_coef_optimizer is not None:
        parameters["log_ent_coef"] = agent.log_ent_coef.detach().clone()
    return parameters


def largest_relative_error(left: dict[str, th.Tensor], right: dict[str, th.Tensor]) -> float:
    """NaN where any number is."""
    assert left.keys() == right.keys()
    return float(th.stack([(left[name] - right[name]).norm() / right[name].norm().clamp(min=1e-12) for name in right]).amax())
