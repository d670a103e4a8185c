"""When weights that need a footprint are learned: with the agent's own once it is full, with a given one always."""

from pathlib import Path
from typing import Any

import pytest
import torch as th
from stable_baselines3.common.env_util import make_vec_env

from sb3_tom import MBPO, MBPOTOM, Context, Transitions, Weighter
from tests.mbpo.small import SMALL_WEIGHTERS, small_agent
from tests.mbpo.test_mbpo import Corridor

TINY: dict[str, Any] = {"rollout_batch_size": 20, "dynamics": "linear", "policy_kwargs": {"net_arch": [8]}}


def agent_with(weighter: Any, env: Any = None, **kwargs: Any) -> MBPO:
    settings = None if isinstance(weighter, type) else SMALL_WEIGHTERS["tom"]
    return small_agent(env or Corridor(), weighter, **{**TINY, "weighter_kwargs": settings, **kwargs})


@pytest.mark.parametrize("weighter", ["tom", "ratio"])
def test_the_agents_own_footprint_is_used_once_it_is_full(weighter: str) -> None:
    agent = agent_with(weighter).learn(39)
    assert th.equal(agent.fit_weights(), th.ones(39))
    assert not bool(agent.weighter.ready)
    agent.learn(41)
    agent.fit_weights()  # of 41 rows 40 are the footprint: there is next to nothing to tell apart
    assert bool(agent.weighter.ready)


@pytest.mark.parametrize("weighter", ["tom", "ratio"])
@pytest.mark.parametrize("n_rows", [1, 7, 29])
def test_a_given_footprint_is_used_whatever_its_size(weighter: str, n_rows: int) -> None:
    agent = agent_with(weighter).learn(30)
    agent.fit_weights(agent.replay_buffer.transitions().rows(th.arange(n_rows)))
    assert bool(agent.weighter.ready)
    assert th.equal(agent.fit_weights(), th.ones(30)), "the agent's own is not full yet"


@pytest.mark.parametrize("weighter", ["uniform", "pmac", "tom"])
def test_a_footprint_without_rows_is_refused(weighter: str) -> None:
    agent = small_agent(Corridor(), weighter, **TINY).learn(30)
    nothing = agent.replay_buffer.transitions().rows(th.arange(0))
    with pytest.raises(ValueError, match=r"^recent=Transitions of 0 rows is not allowed; allowed: at least 1 row, or None"):
        agent.fit_weights(nothing)
    with pytest.raises(ValueError, match=r"^recent=a Tensor is not allowed; allowed: Transitions of at least 1 row, or None"):
        agent.fit_weights(nothing.observations)


ROOM = r"recent_size=%d is not allowed with buffer_size=%d.*: (%s) waits .*; allowed: .* at most %d, or a buffer_size"


@pytest.mark.parametrize("weighter", ["tom", "ratio"])
def test_a_buffer_without_room_for_the_footprint_is_refused(weighter: str) -> None:
    with pytest.raises(ValueError, match=ROOM % (40, 39, "TOMWeighter|RatioWeighter", 39)):
        agent_with(weighter, buffer_size=39)
    agent_with(weighter, buffer_size=40)
    agent_with(weighter, buffer_size=39, weighter_kwargs={**SMALL_WEIGHTERS["tom"], "recent_size": 39})


def test_it_is_the_room_that_counts_not_buffer_size() -> None:
    """SB3 rounds it down to a multiple of the envs: 3 envs have room for 999 transitions of 1,000."""
    env = make_vec_env(Corridor, 3)
    with pytest.raises(ValueError, match=ROOM % (1000, 999, "TOMWeighter", 999) + " of at least 1002"):
        MBPOTOM("MlpPolicy", env, buffer_size=1000, **TINY)
    agent = MBPOTOM("MlpPolicy", env, buffer_size=1002, **TINY)
    assert agent.replay_buffer.capacity == 1002


def test_a_loaded_buffer_that_is_too_small_serves_given_footprints_only(tmp_path: Path) -> None:
    source = agent_with("uniform", weighter_kwargs=None, buffer_size=30).learn(30)
    source.save_replay_buffer(tmp_path / "buffer")
    agent = agent_with("tom")
    agent.load_replay_buffer(tmp_path / "buffer")
    assert agent.fit_weights(agent.replay_buffer.transitions().rows(th.arange(20))).std() > 0
    with pytest.raises(ValueError, match=ROOM % (40, 30, "TOMWeighter", 30)):
        agent.fit_weights()
    with pytest.raises(ValueError, match=ROOM % (40, 30, "TOMWeighter", 30)):
        agent.learn(60)


class Sizes(Weighter):
    """Remembers how many rows it was given."""

    def fit(self, data: Transitions, recent: Transitions, *rest: Any) -> dict[str, float]:
        return {"rows": float(recent.size)}

    def weights(self, data: Transitions, context: Context) -> th.Tensor:
        return th.arange(data.size) + 1.0


class Needy(Sizes):
    recent_size = 60
    needs_recent = True


def test_a_users_weighter_says_whether_it_needs_a_full_footprint() -> None:
    agent = agent_with(Sizes, buffer_size=100).learn(40)
    assert agent.fit_weights().std() > 0
    needy = agent_with(Needy, buffer_size=100).learn(40)
    assert th.equal(needy.fit_weights(), th.ones(40))
    with pytest.raises(ValueError, match=ROOM % (60, 59, "Needy", 59)):
        agent_with(Needy, buffer_size=59)


@pytest.mark.parametrize("name", ["needs_recent", "weighs_starts"])
def test_what_a_users_weighter_says_is_yes_or_no(name: str) -> None:
    with pytest.raises(ValueError, match=rf"^Mine\.{name}=1 is not allowed; allowed: True or False"):
        agent_with(type("Mine", (Sizes,), {name: 1}))
