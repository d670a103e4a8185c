"""SB3's own ``SAC.train`` is the oracle of the fast update."""

import copy

import numpy as np
import pytest
import torch as th
from stable_baselines3 import SAC
from stable_baselines3.common.type_aliases import ReplayBufferSamples

from sb3_tom.common.types import Batch
from sb3_tom.mbpo.sac_update import SACUpdate, covers, fuse

BATCH = 32


class FixedBatches:
    """Stands in for SB3's replay buffer: hands out prepared batches one after the other."""

    def __init__(self, batches: list[Batch]) -> None:
        self._batches = iter(batches)

    def sample(self, batch_size: int, env: object = None) -> ReplayBufferSamples:
        batch = next(self._batches)
        return ReplayBufferSamples(
            batch.observations, batch.actions, batch.next_observations, dones=batch.terminated, rewards=batch.rewards
        )


def make_sac(dtype: th.dtype, **kwargs: object) -> SAC:
    """A SAC agent on Pendulum in the given precision, its policy's observations not cast back to float32."""
    agent = SAC("MlpPolicy", "Pendulum-v1", seed=1, buffer_size=10, **kwargs)
    agent.policy.to(dtype)
    for module in (agent.actor, agent.critic, agent.critic_target):
        module.extract_features = lambda observations, extractor, module=module: extractor(observations)
    if agent.ent_coef_optimizer is not None:
        agent.log_ent_coef.data = agent.log_ent_coef.data.to(dtype)
    agent._logger = None
    from stable_baselines3.common.logger import configure

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


def run_fast(agent: SAC, batches: list[Batch], noise: th.Tensor) -> None:
    optimizers = [agent.actor.optimizer, agent.critic.optimizer, agent.ent_coef_optimizer]
    for optimizer in optimizers:
        fuse(optimizer)
    update = SACUpdate(
        agent.policy,
        agent.log_ent_coef,
        agent.ent_coef_optimizer,
        None if agent.ent_coef_optimizer else agent.ent_coef_tensor,
        agent.target_entropy,
        agent.gamma,
        agent.tau,
    )
    for step, batch in enumerate(batches):
        update(batch, noise[step], step % agent.target_update_interval == 0)


def state(agent: SAC) -> dict[str, th.Tensor]:
    parameters = {name: value.clone() for name, value in agent.policy.state_dict().items()}
    if agent.ent_coef_optimizer is not None:
        parameters["log_ent_coef"] = agent.log_ent_coef.detach().clone()
    return parameters


def largest_relative_error(left: dict[str, th.Tensor], right: dict[str, th.Tensor]) -> float:
    return max(float((left[name] - right[name]).norm() / right[name].norm().clamp(min=1e-12)) for name in right)


@pytest.mark.parametrize(
    ("dtype", "n_updates", "tolerance"), [(th.float64, 100, 1e-9), (th.float32, 1, 1e-5)], ids=["float64", "float32"]
)
@pytest.mark.parametrize(
    "kwargs",
    [
        {},
        {"ent_coef": 0.2, "target_update_interval": 3},
        {"policy_kwargs": {"net_arch": [16, 8], "n_critics": 3, "activation_fn": th.nn.Tanh}, "gamma": 0.9, "tau": 0.05},
    ],
    ids=["default", "fixed temperature", "three critics"],
)
def test_equals_sb3(
    dtype: th.dtype, n_updates: int, tolerance: float, kwargs: dict[str, object], monkeypatch: pytest.MonkeyPatch
) -> None:
    batches, noise = make_batches(n_updates, dtype)
    oracle, fast = make_sac(dtype, **copy.deepcopy(kwargs)), make_sac(dtype, **copy.deepcopy(kwargs))
    start = state(fast)
    assert largest_relative_error(start, state(oracle)) == 0.0
    run_sb3(oracle, batches, noise, monkeypatch)
    run_fast(fast, batches, noise)
    assert largest_relative_error(state(fast), state(oracle)) <= tolerance
    assert largest_relative_error(start, state(oracle)) > 1e-4  # the updates did something


def test_losses_are_those_that_sb3_logs(monkeypatch: pytest.MonkeyPatch) -> None:
    batches, noise = make_batches(1, th.float64)
    oracle, fast = make_sac(th.float64), make_sac(th.float64)
    run_sb3(oracle, batches, noise, monkeypatch)
    update = SACUpdate(
        fast.policy, fast.log_ent_coef, fast.ent_coef_optimizer, None, fast.target_entropy, fast.gamma, fast.tau
    )
    losses = update(batches[0], noise[0], True)
    for name in losses._fields:
        assert float(getattr(losses, name)) == pytest.approx(oracle.logger.name_to_value[f"train/{name}"], rel=1e-9)


def test_covers_only_what_it_repeats() -> None:
    class Normed(th.nn.Module):
        pass

    assert covers(make_sac(th.float32).policy)
    assert not covers(SAC("MlpPolicy", "Pendulum-v1", use_sde=True, buffer_size=10).policy)
    shared = SAC("MlpPolicy", "Pendulum-v1", policy_kwargs={"share_features_extractor": True}, buffer_size=10)
    assert not covers(shared.policy)
    normed = SAC("MlpPolicy", "Pendulum-v1", buffer_size=10)
    normed.critic.q_networks[0].append(th.nn.BatchNorm1d(1))
    assert not covers(normed.policy)


def test_fuse_leaves_a_users_choice() -> None:
    parameter = th.nn.Parameter(th.zeros(3))
    chosen = th.optim.Adam([parameter], foreach=True)
    fuse(chosen)
    assert not chosen.param_groups[0]["fused"]
    plain = th.optim.Adam([parameter])
    fuse(plain)
    assert plain.param_groups[0]["fused"]
    sgd = th.optim.SGD([parameter], lr=0.1)
    fuse(sgd)
    assert "momentum" in sgd.param_groups[0]
    assert np.isfinite(float(parameter.sum()))
