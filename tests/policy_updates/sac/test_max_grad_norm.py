"""``max_grad_norm`` against SB3's SAC with the clipping that its users patch into ``optimizer.step`` (SB3 issue 2123)."""

import copy
from pathlib import Path
from typing import Any

import pytest
import torch as th
from stable_baselines3 import SAC
from torch import nn

from sb3_tom import MBPO
from sb3_tom.policy_updates.sac.graphed_update import recorded_update
from sb3_tom.policy_updates.sac.handwritten_update import HandwrittenSACUpdate
from sb3_tom.policy_updates.sac.sac_update import SACUpdate
from sb3_tom.zoo.checks import check_hyperparams
from tests.compute.tape import taped
from tests.mbpo.small import small_agent
from tests.policy_updates.sac.oracle import (
    SMALL,
    in_both_precisions,
    largest_relative_error,
    make_batches,
    make_sac,
    make_update,
    run_fast,
    run_sb3,
    state,
)
from tests.policy_updates.sac.test_graphed_update import run_graphed, started

SGD: dict[str, Any] = {"policy_kwargs": {"net_arch": [16, 16], "optimizer_class": th.optim.SGD}, "learning_rate": 3e-2}


def patch_steps(agent: SAC, limit: float) -> dict[str, list[float]]:
    """The patch: clips each network's gradients before its step. Returns the norms before, which grow as it trains."""
    norms: dict[str, list[float]] = {"actor": [], "critic": []}
    for name, found in norms.items():
        optimizer = getattr(agent, name).optimizer

        def step(
            *args: Any, real: Any = optimizer.step, clipped: Any = optimizer, to: list[float] = found, **kwargs: Any
        ) -> Any:
            to.append(float(nn.utils.clip_grad_norm_(clipped.param_groups[0]["params"], limit)))
            return real(*args, **kwargs)

        optimizer.step = step
    return norms


@in_both_precisions
@pytest.mark.parametrize("kwargs", [SMALL, SGD], ids=["adam", "sgd"])
@pytest.mark.parametrize("kind", [SACUpdate, HandwrittenSACUpdate])
def test_equals_sb3_with_clipping_patched_in(
    kind: type[SACUpdate],
    kwargs: dict[str, Any],
    dtype: th.dtype,
    n_updates: int,
    tolerance: float,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Actor and critics each, not the temperature: its gradient stays what it is."""
    batches, noise = make_batches(n_updates, dtype)
    free, oracle, fast = (make_sac(dtype, **copy.deepcopy(kwargs)) for _ in range(3))
    fast.max_grad_norm = limit = 0.7
    norms = patch_steps(oracle, limit)
    run_sb3(oracle, batches, noise, monkeypatch)
    run_fast(fast, batches, noise, kind, per_train=3 * 11)
    run_fast(free, batches, noise, kind)
    assert max(norms["actor"] + norms["critic"]) > limit
    assert n_updates == 1 or min(norms["actor"] + norms["critic"]) < limit, "some steps are within it"
    assert largest_relative_error(state(fast), state(oracle)) <= tolerance
    assert (kwargs is SMALL and n_updates == 1) or largest_relative_error(state(free), state(oracle)) > 1e-5


def test_a_recorded_step_clips_too_and_is_recorded_anew_for_another_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    plain, recorded = started(), started()
    batches, noise = make_batches(9, th.float64)
    known = None
    with taped(monkeypatch) as tape:
        for limit in (0.05, 0.01, None):
            plain.max_grad_norm = recorded.max_grad_norm = limit
            run_fast(plain, batches, noise, HandwrittenSACUpdate)
            before, known = known, run_graphed(recorded, 9, known, tape)
            assert known is not before
    assert tape.recordings == 3
    assert largest_relative_error(state(recorded), state(plain)) <= 1e-12


@pytest.mark.skipif(not th.cuda.is_available(), reason="needs a CUDA device: records a real graph")
def test_a_cuda_graph_clips() -> None:
    agents = [SAC("MlpPolicy", "Pendulum-v1", seed=1, buffer_size=10, device="cuda") for _ in range(2)]
    batches, noise = make_batches(50, th.float32)
    batches, noise = [type(batch)(*(field.cuda() for field in batch)) for batch in batches], noise.cuda()
    for agent in agents:
        agent.max_grad_norm = 0.1
        run_fast(agent, batches[:1], noise[:1], HandwrittenSACUpdate)
    run_fast(agents[0], batches[1:], noise[1:], HandwrittenSACUpdate)
    update = recorded_update(make_update(agents[1], HandwrittenSACUpdate), None)
    for step, batch in enumerate(batches[1:], 1):
        update(batch, noise[step], True)
    assert largest_relative_error(state(agents[1]), state(agents[0])) <= 1e-5


POLICIES: dict[str, dict[str, Any]] = {
    "by hand": {"policy_kwargs": {"net_arch": [8, 8]}},
    "autograd": {"policy_kwargs": {"net_arch": [8, 8], "activation_fn": nn.Tanh}},
    "SB3's own": {"policy_kwargs": {"net_arch": [8, 8]}, "use_sde": True},
}


@pytest.mark.parametrize("kwargs", POLICIES.values(), ids=POLICIES)
def test_a_run_equals_one_with_clipping_patched_in(kwargs: dict[str, Any]) -> None:
    limit, kwargs = 0.1, {"dynamics": "linear", **kwargs}
    agent = small_agent(max_grad_norm=limit, **kwargs).learn(70)
    patched = small_agent(**kwargs)
    norms = patch_steps(patched, limit)
    patched.learn(70)
    assert min(map(max, norms.values())) > limit
    assert largest_relative_error(state(agent), state(patched)) <= 1e-5
    assert largest_relative_error(state(small_agent(**kwargs).learn(70)), state(agent)) > 1e-4
    assert not agent.actor.optimizer._optimizer_step_pre_hooks, "nothing is left behind"


def test_it_is_saved_loaded_changed_and_resumed(tmp_path: Path) -> None:
    agent = small_agent(max_grad_norm=0.5, dynamics="linear").learn(60)
    agent.save(tmp_path / "agent")
    agent.save_checkpoint(tmp_path / "run.zip")
    assert MBPO.load(tmp_path / "agent").max_grad_norm == 0.5
    assert MBPO.load(tmp_path / "agent", max_grad_norm=2).max_grad_norm == 2
    assert MBPO.resume(tmp_path / "run.zip", "Pendulum-v1").max_grad_norm == 0.5
    with pytest.raises(ValueError, match=r"^max_grad_norm=0 is not allowed; allowed: a number in \(0, inf\)"):
        MBPO.load(tmp_path / "agent", max_grad_norm=0)
    with pytest.raises(ValueError, match=r"max_grad_norm=None \(the run has 0.5\)"):
        small_agent(dynamics="linear").load_checkpoint(tmp_path / "run.zip")


def test_a_yaml_file_of_the_zoo_may_name_it() -> None:
    check_hyperparams({"n_timesteps": 10, "policy": "MlpPolicy", "max_grad_norm": 0.5}, MBPO, str)
