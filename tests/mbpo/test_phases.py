"""When a model phase and rollouts are due, what the weights are used for, and the end of a phase."""

from pathlib import Path
from typing import Any

import pytest
import torch as th

from sb3_tom import MBPO
from tests.mbpo.small import small_agent
from tests.mbpo.toys import Remembering

TINY: dict[str, Any] = {"dynamics": "linear", "rollout_batch_size": 50, "weighter_kwargs": None}


def counted(agent: MBPO, monkeypatch: pytest.MonkeyPatch) -> dict[str, list[int]]:
    """Env steps at which the verbs of a phase were called."""
    calls: dict[str, list[int]] = {name: [] for name in ("fit_weights", "fit_model", "imagine", "end_phase")}
    for name, steps in calls.items():
        verb = getattr(agent, name)
        monkeypatch.setattr(
            agent, name, lambda verb=verb, steps=steps: (steps.append(agent.num_timesteps), verb())[1], raising=False
        )
    return calls


def test_rollouts_go_with_the_phase_unless_they_have_a_pace_of_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    agent = small_agent(model_train_freq=40, **TINY)
    calls = counted(agent, monkeypatch)
    agent.learn(140)
    assert calls["fit_model"] == calls["imagine"] == calls["fit_weights"] == calls["end_phase"]
    often = small_agent(model_train_freq=40, rollout_freq=10, **TINY)
    calls = counted(often, monkeypatch)
    often.learn(140)
    assert len(calls["fit_model"]) == 3
    assert calls["imagine"] == list(range(calls["imagine"][0], 141, 10)) and set(calls["fit_model"]) <= set(calls["imagine"])
    # all is kept for an epoch of 1,000 env steps
    assert often.imagined.capacity == len(calls["imagine"]) * 50 and agent.imagined.capacity == 3 * 50


@pytest.mark.parametrize("value", [0, -3, 1.5, "10", True])
def test_another_pace_is_refused_by_name(value: Any) -> None:
    with pytest.raises(ValueError, match=r"rollout_freq=.* is not allowed; allowed: an integer"):
        small_agent(rollout_freq=value, **TINY)


@pytest.mark.parametrize("fit", [True, False])
@pytest.mark.parametrize("starts", [True, False])
def test_weights_are_used_for_what_the_user_says(fit: bool, starts: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    agent = small_agent(weighter=Remembering, weight_model_fit=fit, weight_rollout_starts=starts, **TINY).learn(60)
    seen: dict[str, th.Tensor] = {}

    def fit_spy(data: Any, weights: th.Tensor, *rest: Any, original: Any = agent.dynamics.fit) -> Any:
        seen["fit"] = weights.clone()
        return original(data, weights, *rest)

    monkeypatch.setattr(agent.dynamics, "fit", fit_spy)
    monkeypatch.setattr(
        "sb3_tom.mbpo.model_phase.WeightedDraw", lambda weights: (seen.update(starts=weights), th.randint)[1], raising=True
    )
    weights = agent.fit_weights()
    agent.fit_model()
    with pytest.raises(TypeError):  # the spy draws nothing
        agent.imagine()
    assert not bool((weights == 1.0).all())
    for name, used in (("fit", fit), ("starts", starts)):
        assert th.equal(seen[name], weights if used else th.ones_like(weights)), name


def test_a_weighter_remembers_each_phase_and_its_growing_state_survives(tmp_path: Path) -> None:
    agent = small_agent(weighter=Remembering, **TINY).learn(120)
    n_phases = agent.policy_version
    assert agent.weighter.actions.shape == (n_phases, 1) and n_phases >= 3
    agent.save(tmp_path / "agent")
    loaded = MBPO.load(tmp_path / "agent", env="Pendulum-v1")
    assert th.equal(loaded.weighter.actions, agent.weighter.actions)
    agent.save_checkpoint(tmp_path / "run.zip")
    resumed = MBPO.resume(tmp_path / "run.zip", "Pendulum-v1", weighter=Remembering)
    for one in (agent, resumed):
        one.learn(60, reset_num_timesteps=False)
    assert resumed.weighter.actions.shape[0] > n_phases
    assert th.equal(resumed.weighter.actions, agent.weighter.actions)


def test_a_growing_state_goes_back_when_a_phase_diverges(monkeypatch: pytest.MonkeyPatch) -> None:
    agent = small_agent(weighter=Remembering, **TINY).learn(60)
    before = agent.weighter.actions

    def bad_end(data: Any, context: Any) -> None:
        agent.weighter.actions = th.zeros(9, 1)
        agent.weighter.bad = th.nn.Parameter(th.full((1,), th.nan))

    monkeypatch.setattr(agent.weighter, "end_phase", bad_end)
    with pytest.raises(ValueError, match=r"Remembering"):
        agent.end_phase()
    assert th.equal(agent.weighter.actions, before)


def test_the_share_of_real_rows_may_change(monkeypatch: pytest.MonkeyPatch) -> None:
    agent = small_agent(real_ratio=[60, 100, 1.0, 0.25], **TINY).learn(60)
    shares = []
    for env_step in (0, 60, 80, 100, 1000):
        agent._env_steps = env_step
        shares.append(agent._batches(agent._context())._real_ratio)
    assert shares == [1.0, 1.0, 0.625, 0.25, 0.25]


@pytest.mark.parametrize("value", [[0, 10, 0.5], [10, 0, 0.1, 0.2], [0, 10, -0.1, 0.5], [0, 10, 0.1, 2.0], "0.5", 1.5])
def test_another_share_is_refused_by_name(value: Any) -> None:
    with pytest.raises(ValueError, match=r"^real_ratio.* is not allowed; allowed: "):
        small_agent(real_ratio=value, **TINY)


@pytest.mark.parametrize(
    ("verb", "paces"),
    [("fit_model", {"model_train_freq": 40}), ("imagine", {"model_train_freq": 1000, "rollout_freq": 40})],
    ids=["model", "rollouts"],
)
def test_collections_that_do_not_divide_a_pace_do_not_slow_it_down(
    verb: str, paces: dict[str, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The excess counts for the next time: once per 40 transitions on average."""
    agent = small_agent(learning_starts=1, train_freq=30, update_to_data_ratio=0.1, **paces, **TINY)
    calls = counted(agent, monkeypatch)
    agent.learn(150)
    assert calls[verb] == [30, 90, 120, 150]
