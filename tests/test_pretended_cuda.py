"""Everything on the right device, on machines that have one only."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch as th
from stable_baselines3 import SAC
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.vec_env import VecNormalize

from sb3_tom import MBPO
from sb3_tom.callbacks.model_error import ModelErrorCallback
from sb3_tom.callbacks.weight_by_age import WeightByAgeCallback
from sb3_tom.checkpoint import ResumeCallback
from sb3_tom.terminations.learned import LearnedTermination
from tests.mbpo.small import SMALL_MODELS, SMALL_WEIGHTERS, small_agent
from tests.objectives.mnm_cases import Paid
from tests.pretended_cuda import pretended_cuda

# Such a build asks the driver at each step of an optimiser, also of those on the CPU that the pretence stands on
pytestmark = pytest.mark.skipif(
    th.version.cuda is not None and not th.cuda.is_available(),
    reason="a CUDA build of torch without a driver cannot pretend: install the CPU build, or run the tests on a GPU",
)


@pytest.mark.parametrize(
    "mixed",
    [
        lambda: th.zeros(3, device="cuda") + th.zeros(3),
        lambda: th.zeros(3).to("cuda")[th.zeros(2, dtype=th.long)],
        lambda: th.nn.Linear(3, 2).to("cuda")(th.zeros(1, 3)),
        lambda: th.zeros(3, device="cuda").numpy(),
        lambda: th.rand(3, device="cuda", generator=th.Generator()),
        lambda: th.zeros(3, device="cuda").uniform_(generator=th.Generator()),
        lambda: counted_on_the_cpu().step(),
    ],
)
def test_the_pretence_refuses_what_cuda_refuses(mixed: Callable[[], Any]) -> None:
    with pretended_cuda(), pytest.raises(RuntimeError, match="CUDA"):
        mixed()


def counted_on_the_cpu() -> th.optim.Adam:
    """A fused Adam on CUDA whose state came from one that was not fused."""
    parameter = th.zeros(3).to("cuda")
    parameter.grad = th.zeros_like(parameter)
    optimizer = th.optim.Adam([parameter])
    optimizer.step()
    optimizer.param_groups[0]["fused"] = True
    return optimizer


def test_the_pretence_ends() -> None:
    before = th.cuda.is_available()
    with pretended_cuda():
        assert th.zeros(3, device="cuda").device == th.zeros(2).cuda().device == th.device("cuda:0")
        assert th.cuda.is_available()
    assert th.cuda.is_available() == before
    assert type(th.Generator()) is th.Generator


OFFICIAL = {**SMALL_WEIGHTERS["tom"], "preset": "official", "divergence": "kl"}
SMALL_TERMINATION = LearnedTermination(gradient_steps=10, first_gradient_steps=10)


@pytest.mark.parametrize(
    "kwargs",
    [
        {"weighter": "tom"},
        {"weighter": "tom", "weighter_kwargs": OFFICIAL, "dynamics": "mdn"},
        {"weighter": "pmac", "dynamics": "linear", "use_sde": True},
        {"weighter": "pdml", "use_sde": True},
        *({"weighter": weighter, "dynamics": "linear"} for weighter in ("pdml", "per", "recall", "maper", "value")),
        {"objective": "vagram", "objective_kwargs": {"plain_fits": 1}},
        {"objective": "vagram", "objective_kwargs": {"plain_fits": 1}, "dynamics": "mdn"},
        {"objective": "mnm", "objective_kwargs": {"likelihood_fits": 1, "classifier_steps": 2}},
        {
            "env": Paid(),
            "objective": "mnm",
            "objective_kwargs": {"likelihood_fits": 1, "classifier_steps": 2, "augmented_reward": True},
        },
        {"env": "InvertedPendulum-v5", "termination_fn": SMALL_TERMINATION, "ent_coef": 0.1},
        {
            "env": "InvertedPendulum-v5",
            "weighter": "tom",
            "policy_kwargs": {"net_arch": [16], "share_features_extractor": True},
        },
    ],
    ids=str,
)
def test_a_run(kwargs: dict[str, Any]) -> None:
    with pretended_cuda() as labels:
        agent = small_agent(**kwargs, update_to_data_ratio=0.25, device="cuda").learn(110)
        assert all(parameter in labels for parameter in (*agent.policy.parameters(), *agent.dynamics.parameters()))
        assert agent._n_updates > 0


@pytest.mark.parametrize("weighter", ["pdml", "maper"])
def test_policies_and_errors_in_the_units_of_normalised_envs(weighter: str) -> None:
    with pretended_cuda():
        small_agent(VecNormalize(make_vec_env("Pendulum-v1", 2)), weighter, device="cuda").learn(110)


@pytest.mark.filterwarnings("ignore:health/")
def test_functions_of_the_users_with_constants_on_the_device() -> None:
    """They are tried where they are used."""
    with pretended_cuda():
        goal, limit = th.ones(1, 3, device="cuda"), th.full((1, 3), 9.0, device="cuda")
        small_agent(
            reward_fn=lambda observations, actions, after: -(after - goal).square().sum(1, keepdim=True),
            termination_fn=lambda observations, actions, after: (after > limit).any(1, keepdim=True),
            device="cuda",
        ).learn(60)
        elsewhere = th.ones(1, 3, device="cpu")
        with pytest.raises(ValueError, match=r"reward_fn=.* failed on two rows of zeros"):
            small_agent(reward_fn=lambda observations, actions, after: (after - elsewhere).sum(1, keepdim=True), device="cuda")


def test_normalised_envs_and_the_callbacks(tmp_path: Path) -> None:
    with pretended_cuda():
        agent = small_agent(VecNormalize(make_vec_env("Pendulum-v1", 2)), weighter="pmac", device="cuda")
        errors = ModelErrorCallback("Pendulum-v1", tmp_path / "errors.csv", eval_freq=50, horizon=3, n_episodes=1)
        agent.learn(110, callback=[errors, WeightByAgeCallback(tmp_path / "ages.csv")])


def test_files(tmp_path: Path) -> None:
    with pretended_cuda() as labels:
        agent = small_agent(weighter="tom", update_to_data_ratio=0.25, device="cuda")
        agent.learn(110, callback=ResumeCallback(tmp_path / "run", save_freq=40))
        MBPO.resume(tmp_path / "run", "Pendulum-v1", device="cuda").learn(150)
        agent.save(tmp_path / "agent")
        agent.save_replay_buffer(tmp_path / "rows")
        loaded = MBPO.load(tmp_path / "agent", "Pendulum-v1", device="cuda")
        loaded.load_replay_buffer(tmp_path / "rows")
        loaded.learn(50, reset_num_timesteps=False)
        assert next(loaded.policy.parameters()) in labels
    MBPO.load(tmp_path / "agent", device="cpu").predict(np.zeros(3, dtype=np.float32))


@pytest.mark.parametrize(("device", "from_file"), [("cuda", False), ("cuda", True), ("cpu", False)])
def test_warm_start(device: str, from_file: bool, tmp_path: Path) -> None:
    with pretended_cuda():
        sac = SAC("MlpPolicy", "Pendulum-v1", batch_size=32, learning_starts=20, buffer_size=500, device=device).learn(30)
        sac.save(tmp_path / "sac")
        sac.save_replay_buffer(tmp_path / "rows")
        small = {"dynamics_kwargs": SMALL_MODELS["ensemble"], "rollout_batch_size": 100}
        source = tmp_path / "sac" if from_file else sac
        agent = MBPO.from_sac(source, "Pendulum-v1", device="cuda", model_train_freq=25, **small)
        if from_file:
            agent.load_replay_buffer(tmp_path / "rows")
        agent.fit_weights()
        agent.fit_model()
        agent.imagine()
        agent.train_policy(4)
