"""Faults put into every place: one error with place, env, step and checkpoint, and nothing lost."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch as th
from stable_baselines3 import SAC
from stable_baselines3.common.callbacks import ConvertCallback
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.vec_env import VecNormalize

from sb3_tom import MBPO
from sb3_tom.checkpoint import ResumeCallback
from sb3_tom.checks.guards import DivergenceError
from tests.mbpo.small import small_agent
from tests.mbpo.test_mbpo import Corridor, parameters_of

BAD = [np.nan, np.inf, 1e30]
TINY: dict[str, Any] = {"rollout_batch_size": 20, "policy_kwargs": {"net_arch": [8]}}


class Faulty(gym.Wrapper):
    """Returns a bad number in the 60th step (which is a terminal one for ``Corridor(limit=10)``)."""

    def __init__(self, place: str, bad: float) -> None:
        super().__init__(Corridor(limit=10))
        self.place, self.bad, self.steps = place, bad, 0

    def reset(self, **kwargs: Any):
        observation, info = self.env.reset(**kwargs)
        return (observation + self.bad if self.place == "reset" and self.steps else observation), info

    def step(self, action: np.ndarray):
        observation, reward, terminated, truncated, info = self.env.step(action)
        self.steps += 1
        if self.steps == (55 if self.place == "observation" else 60):
            observation = observation + self.bad if self.place in ("observation", "terminal observation") else observation
            reward = reward + self.bad if self.place == "reward" else reward
        return observation, reward, terminated, truncated, info


def assert_sound(agent: MBPO, path: Path) -> None:
    """All that the agent holds is finite, can be saved, loaded and trained on."""
    assert bool(th.isfinite(parameters_of(agent)).all())
    assert all(bool(th.isfinite(field).all()) for field in agent.replay_buffer.transitions())
    agent.save(path / "agent")
    agent.save_replay_buffer(path / "buffer")
    loaded = MBPO.load(path / "agent", env=Corridor())
    assert th.equal(parameters_of(loaded), parameters_of(agent))
    loaded.load_replay_buffer(path / "buffer")
    loaded.learn(30, reset_num_timesteps=False)


@pytest.mark.parametrize("bad", BAD)
@pytest.mark.parametrize("place", ["reward", "observation", "terminal observation", "reset"])
@pytest.mark.parametrize("normalize", [False, True])
def test_faults_of_the_env(place: str, bad: float, normalize: bool) -> None:
    env = make_vec_env(lambda: Faulty(place, bad), 1)
    env = VecNormalize(env) if normalize else env
    agent = small_agent(env, learning_starts=1000, **TINY)
    agent.checkpointer.last = "runs/step_50"
    what = "observation" if place == "reset" else place
    step = (10 if place == "reset" else 55 if place == "observation" else 60) - normalize  # noticed below VecNormalize
    message = rf"^the ({what}|observation) of env 0.* is .*env Corridor, env step {step}, last checkpoint: runs/step_50"
    with pytest.raises(DivergenceError, match=message):
        agent.learn(100)
    rows = agent.replay_buffer.transitions()
    assert rows.size == step - 1 + normalize
    assert all(bool(th.isfinite(field).all()) for field in rows)
    if normalize:
        assert np.isfinite(env.obs_rms.mean).all() and np.isfinite(env.ret_rms.var).all()


def test_a_bad_first_observation() -> None:
    env = Faulty("reset", np.nan)
    env.steps = 1
    with pytest.raises(DivergenceError, match=r"^the first observation of env 0.*env step 0, no checkpoint was written"):
        small_agent(env, **TINY).learn(100)


def test_the_last_checkpoint_is_named_and_left_untouched(tmp_path: Path) -> None:
    agent, files = small_agent(Faulty("reward", np.nan), **TINY), {}

    def look(*_: Any) -> bool:
        files.update({path.name: path.read_bytes() for path in tmp_path.glob("checkpoint_50*")})
        return True

    last = tmp_path / "checkpoint_50_steps.zip"
    with pytest.raises(DivergenceError, match=rf"env step 60, last checkpoint: {last}; the agent is left in a sound"):
        agent.learn(100, callback=[ResumeCallback(tmp_path, 25), ConvertCallback(look)])
    assert files == {last.name: last.read_bytes()}
    assert {path.name for path in tmp_path.glob("checkpoint*")} == {"checkpoint_25_steps.zip", last.name}
    other = small_agent(Faulty("reward", np.nan), **TINY)
    other.load_checkpoint(tmp_path)  # a folder; the message names the file all the same
    with (
        pytest.warns(UserWarning, match="goes on with new episodes"),
        pytest.raises(DivergenceError, match=f"env step 60, last checkpoint: {last};"),  # the wrapper goes on counting
    ):
        other.learn(200)


def test_the_env_is_named_by_its_id_and_number() -> None:
    env = make_vec_env("Pendulum-v1", 3)
    agent = small_agent(env, **TINY)
    env.envs[1].unwrapped.max_torque = np.nan
    with pytest.raises(DivergenceError, match=r"of env 1.*env Pendulum-v1, env step 3"):
        agent.learn(30)


def poison(parameter: th.Tensor, bad: float) -> None:
    with th.no_grad():
        parameter.view(-1)[0] = bad


def poison_after(agent: MBPO, owner: Any, name: str, parameter: Callable[[MBPO], th.Tensor], bad: float) -> None:
    """Spoil a weight while the agent is in a model phase."""
    original = getattr(owner, name)

    def spoiled(*args: Any, **kwargs: Any) -> Any:
        result = original(*args, **kwargs)
        poison(parameter(agent), bad)
        return result

    setattr(owner, name, spoiled)


POLICY_PARTS: dict[str, Callable[[MBPO], th.Tensor]] = {
    "critic's weights": lambda agent: next(agent.critic.parameters()),
    "target critic's weights": lambda agent: next(agent.critic_target.parameters()),
    "actor": lambda agent: next(agent.actor.parameters()),
    "logarithm of the entropy coefficient": lambda agent: agent.log_ent_coef,
}


@pytest.mark.parametrize(
    ("part", "bad", "use_sde"),
    [*((part, bad, False) for part in POLICY_PARTS for bad in BAD), ("critic's weights", np.nan, True)],  # SB3's update: one
)
def test_faults_of_the_policys_networks(part: str, bad: float, use_sde: bool, tmp_path: Path) -> None:
    agent = small_agent(Corridor(), use_sde=use_sde, **TINY).learn(60)
    poison(POLICY_PARTS[part](agent), bad)
    with pytest.raises(DivergenceError, match=rf"^the (norm of the )?{part}.* is .*env Corridor, env step 6[01]"):
        agent.learn(20, reset_num_timesteps=False)
    if part in ("critic's weights", "actor") and np.isnan(bad):
        assert_sound(agent, tmp_path)


def test_a_loss_that_explodes_within_one_call_is_undone(tmp_path: Path) -> None:
    agent = small_agent(Corridor(), **TINY).learn(60)
    agent.lr_schedule = lambda progress: 1e25
    with pytest.raises(DivergenceError, match=r"^the (critic|norm of the critic)"):
        agent.train_policy(5)
    assert agent._n_updates == agent._updates_made(), "as many as the optimisers have that were put back"
    assert bool(th.isfinite(parameters_of(agent)).all())
    assert agent.imagined.size == 0
    agent.lr_schedule = lambda progress: 1e-3
    assert_sound(agent.learn(30, reset_num_timesteps=False), tmp_path)


@pytest.mark.parametrize("bad", BAD)
def test_faults_of_the_ensemble(bad: float, tmp_path: Path) -> None:
    agent = small_agent(Corridor(), **TINY).learn(70)
    before, version = parameters_of(agent).clone(), agent.policy_version
    poison_after(agent, agent.dynamics, "fit", lambda agent: agent.dynamics.layers[0].weight, bad)
    with pytest.raises(DivergenceError, match=r"ProbabilisticEnsemble.layers \(the agent's dynamics\) is .*env step 70"):
        agent.fit_model()
    assert th.equal(before, parameters_of(agent))
    del agent.dynamics.fit
    assert agent.policy_version == version
    assert_sound(agent, tmp_path)


@pytest.mark.parametrize("bad", BAD)
def test_a_fit_that_finds_no_number_is_an_error(bad: float) -> None:
    agent = small_agent(Corridor(), **TINY).learn(70)
    poison(agent.dynamics.layers[0].weight, bad)
    with pytest.raises(DivergenceError, match=r"ProbabilisticEnsemble.layers"):
        agent.fit_model()


@pytest.mark.parametrize("bad", BAD)
def test_a_fit_that_overflows_halfway_is_an_error(bad: float, tmp_path: Path) -> None:
    """The member's best parameters would come back and hide that its optimiser can make no step any more."""
    agent = small_agent(Corridor(), **TINY).learn(70)
    before, step, calls = parameters_of(agent).clone(), agent.objective.step, []

    def spoiled(model: Any, *args: Any) -> None:
        step(model, *args)
        calls.append(1)
        if len(calls) == 7:  # of five per epoch
            poison(model.layers[0].weight, bad)

    agent.objective.step = spoiled
    with pytest.raises(DivergenceError, match=r"ProbabilisticEnsemble.layers \(the agent's dynamics\) is .*env step 70"):
        agent.fit_model()
    moments = [value for state in agent.dynamics.optimizer.state.values() for value in state.values()]
    assert len(moments) > 0 and all(bool(th.isfinite(value).all()) for value in moments)
    assert th.equal(before, parameters_of(agent))
    del agent.objective.step
    assert_sound(agent, tmp_path)


@pytest.mark.parametrize("bad", BAD)
@pytest.mark.parametrize("place", ["model", "reward_fn"])
def test_faults_of_predictions(bad: float, place: str) -> None:
    kwargs: dict[str, Any] = {"dynamics": "linear"}
    if place == "reward_fn":
        kwargs["reward_fn"] = lambda observations, actions, next_observations: bad + next_observations
    agent = small_agent(Corridor(), **TINY, **kwargs)
    if place == "model":
        agent.learn(40)
        agent.fit_model()
        agent.dynamics.sample = lambda observations, actions, generator: (bad + observations, actions)
    with pytest.raises(DivergenceError, match=r"LinearDynamics predicts is" if place == "model" else r"\(reward_fn\) is"):
        agent.imagine() if place == "model" else agent.learn(60)
    assert agent.imagined.size == 0


@pytest.mark.parametrize("bad", BAD)
@pytest.mark.parametrize("network", ["discriminator", "dual"])
def test_faults_of_toms_networks(bad: float, network: str) -> None:
    agent = small_agent(Corridor(), weighter="tom", dynamics="linear", **TINY).learn(60)
    weights = agent.replay_buffer.weights.copy()
    state = {name: value.clone() for name, value in agent.weighter.state_dict().items()}
    part = getattr(agent.weighter, network)
    poison_after(agent, part, "fit", lambda agent: next(part.parameters()), bad)
    with pytest.raises(DivergenceError, match=rf"(TOMWeighter.{network} \(|weighter/{network}_loss).* is .*env step 60"):
        agent.fit_weights()
    np.testing.assert_array_equal(weights, agent.replay_buffer.weights)
    assert all(th.equal(value, agent.weighter.state_dict()[name]) for name, value in state.items())


@pytest.mark.parametrize("bad", BAD)
def test_a_dual_that_carries_its_fault_on_is_named_by_its_loss(bad: float) -> None:
    tiny = {"recent_size": 40, "discriminator_steps": 3, "q_steps": 3, "preset": "official"}
    agent = small_agent(Corridor(), weighter="tom", dynamics="linear", weighter_kwargs=tiny, **TINY).learn(55)
    poison(agent.weighter.dual.head.weight, bad)
    with pytest.raises(DivergenceError, match=r"(dual_loss|TOMWeighter.dual).* is .*env step 55"):
        agent.fit_weights()


def test_a_users_plug_that_returns_nan_is_named() -> None:
    from tests.mbpo.test_mbpo import Ones

    class NotANumber(Ones):
        def weights(self, data: Any, context: Any) -> th.Tensor:
            return super().weights(data, context) * th.nan

    with pytest.raises(DivergenceError, match=r"NotANumber.weights returned.*env step 51"):
        small_agent(Corridor(), weighter=NotANumber(), weighter_kwargs=None, **TINY).learn(60)


def test_a_buffer_with_a_fault_is_not_loaded(tmp_path: Path) -> None:
    agent = small_agent(Corridor(), **TINY).learn(30)
    agent.replay_buffer.rewards[7, 0] = np.nan
    agent.save_replay_buffer(tmp_path / "buffer")
    other = small_agent(Corridor(), **TINY)
    with pytest.raises(DivergenceError, match=r"the replay buffer's array rewards.* is nan"):
        other.load_replay_buffer(tmp_path / "buffer")
    assert other.replay_buffer.n_transitions == 0


def test_loaded_parameters_are_not_undone_by_an_old_backup() -> None:
    agent, other = (small_agent(Corridor(), seed=seed, **TINY).learn(60) for seed in (0, 1))
    agent.set_parameters(other.get_parameters())
    before = parameters_of(agent).clone()
    agent.lr_schedule = lambda progress: 1e25
    with pytest.raises(DivergenceError):
        agent.train_policy(3)
    assert th.equal(before, parameters_of(agent))


@pytest.mark.parametrize("verb", ["fit_weights", "fit_model", "imagine", "train_policy"])
def test_verbs_need_transitions(verb: str) -> None:
    arguments = (3,) if verb == "train_policy" else ()
    with pytest.raises(ValueError, match=rf"{verb}\(\) is not allowed: the replay buffer holds no transitions"):
        getattr(small_agent(), verb)(*arguments)


def test_a_device_without_memory_is_not_blamed_on_the_arguments(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(agent: SAC) -> None:
        raise th.OutOfMemoryError("full")

    monkeypatch.setattr(SAC, "_setup_model", full)
    with pytest.raises(th.OutOfMemoryError, match="full"):
        small_agent()
