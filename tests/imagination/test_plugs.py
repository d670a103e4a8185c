"""A confidence of what is imagined, and a stop of rollouts: what is stored, what critics learn of it, and what is logged."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch as th

from sb3_tom import MBPO, Context, DynamicsModel, Transitions
from tests.mbpo.small import small_agent
from tests.mbpo.test_mbpo import Corridor
from tests.mbpo.toys import Halt, Trust

TINY: dict[str, Any] = {"dynamics": "linear", "rollout_batch_size": 50, "rollout_schedule": 4}


def rows_of(agent: MBPO) -> tuple[th.Tensor, ...]:
    return agent.imagined.gather(th.arange(agent.imagined.size))


def test_every_imagined_row_has_its_confidence_and_real_ones_count_one() -> None:
    agent = small_agent(confidence=Trust, confidence_kwargs={"value": 0.25}, real_ratio=0.5, **TINY).learn(100)
    assert rows_of(agent)[5].unique().tolist() == [0.25]
    batch = next(agent._batches(agent._context())(1, 32))
    assert batch.confidence.flatten().tolist() == [1.0] * 16 + [0.25] * 16
    assert agent.imagine()["confidence_mean"] == pytest.approx(0.25)
    assert agent.imagine()["confidence_effective_share"] == pytest.approx(1.0)


def test_a_confidence_of_one_changes_nothing() -> None:
    agents = [small_agent(confidence=confidence, **TINY).learn(100) for confidence in (None, Trust(1.0))]
    assert len(rows_of(agents[0])) == 5 and len(rows_of(agents[1])) == 6
    one, other = ({name: values for name, values in agent.get_parameters().items() if name == "policy"} for agent in agents)
    th.testing.assert_close(one, other, rtol=0.0, atol=0.0)


def test_no_confidence_at_all_leaves_the_critics_to_real_rows() -> None:
    """Confidence 0, and critics that would learn 100 from imagined rows: they learn what the real ones pay."""
    rewards: dict[str, Any] = {"reward_fn": lambda _o, _a, after: 100.0 + 0.0 * after[:, :1], "gamma": 0.0, "ent_coef": 0.0}
    values = []
    for trust in (0.0, 1.0):
        agent = small_agent(
            Corridor(limit=20), confidence=Trust(trust), learning_rate=1e-2, real_ratio=0.5, **rewards, **TINY
        ).learn(200)
        data = agent.replay_buffer.transitions()
        with th.no_grad():
            values.append(float(agent._context().values(data.observations, data.actions).mean()))
    real = float(data.rewards.mean())
    assert abs(values[0] - real) < 5.0 and values[1] > real + 20.0


def test_a_rollout_that_stops_keeps_nothing_from_there_on() -> None:
    def imagined(stop: Halt | None) -> tuple[MBPO, dict[str, float]]:
        agent = small_agent(Corridor(limit=20), rollout_stop=stop, **TINY).learn(100)
        agent.imagined.clear()
        return agent, agent.imagine()

    agent, figures = imagined(Halt(0.3))
    _, _, after, _, terminated = rows_of(agent)
    assert float(after.max()) <= 0.3
    assert 0.0 < figures["stopped_share"] < 1.0 and figures["length"] == pytest.approx(agent.imagined.size / 50)
    assert not bool(terminated.any()), "a stop is no end"
    free, without = imagined(None)
    assert "stopped_share" not in without and float(rows_of(free)[2].max()) > 0.3


class Beginning(Halt):
    """Keeps what each round begins with."""

    def __init__(self) -> None:
        super().__init__(0.3)
        self.rounds: list[Transitions] = []

    def begin(self, model: DynamicsModel, batch: Transitions, context: Context) -> None:
        assert not th.is_grad_enabled()
        self.rounds.append(batch)


def test_a_round_begins_once_with_first_transitions_from_real_states(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a round that is rolled out in pieces with those of the first; the policy update's own paths begin no round."""
    monkeypatch.setattr("sb3_tom.imagination.rollouts.rows_at_once", lambda device: 20)
    agent = small_agent(Corridor(limit=20), rollout_stop=Beginning(), **TINY).learn(100)
    rounds = agent.rollout_stop.rounds
    assert len(rounds) == 2 and [batch.size for batch in rounds] == [20, 20]
    real = agent.replay_buffer.transitions().observations
    assert bool(th.isin(th.cat([batch.observations for batch in rounds]), real).all())
    agent.train_policy(2)
    assert len(rounds) == 2


def test_rollouts_that_all_stop_at_once_leave_the_rows_before() -> None:
    agent = small_agent(Corridor(limit=20), rollout_stop=Halt(-100.0), **TINY)
    agent.learn(100)
    assert agent.imagined.size == 0 and agent._n_updates > 0  # trained on real rows alone
    assert np.isfinite(agent.imagine()["reward_mean"])


NAMED: dict[str, Any] = {
    "confidence": "inverse_std",
    "rollout_stop": "quantile",
    "rollout_batch_size": 50,
    "rollout_schedule": 4,
}


def test_those_of_the_package_are_logged_and_go_into_files(tmp_path: Path) -> None:
    agent = small_agent(confidence_kwargs={"factor": 2.0}, rollout_stop_kwargs={"n_rounds": 2}, **NAMED)
    agent.learn(130)
    logged = agent.logger.name_to_value
    assert 0.0 < logged["rollout_model/confidence_mean"] < 1.0 and 0.0 < logged["rollout_model/stopped_share"] < 1.0
    assert 0.5 < logged["rollout_model/confidence_effective_share"] < 1.0 and len(agent.rollout_stop.quantiles) == 2
    agent.save(tmp_path / "agent")
    loaded = MBPO.load(tmp_path / "agent", env="Pendulum-v1")
    assert loaded.confidence.factor == 2.0 and loaded.rollout_stop.n_rounds == 2
    assert th.equal(loaded.rollout_stop.quantiles, agent.rollout_stop.quantiles)


def test_they_are_saved_loaded_and_resumed(tmp_path: Any) -> None:
    kwargs: dict[str, Any] = {"confidence": f"{Trust.__module__}:Trust", "rollout_stop": Halt, **TINY}
    agent = small_agent(**kwargs).learn(80)
    agent.save(tmp_path / "agent")
    loaded = MBPO.load(tmp_path / "agent", env="Pendulum-v1")
    assert type(loaded.confidence) is Trust and type(loaded.rollout_stop) is Halt
    loaded.learn(30, reset_num_timesteps=False)
    agent.save_checkpoint(tmp_path / "run.zip")
    resumed = MBPO.resume(tmp_path / "run.zip", "Pendulum-v1", confidence=Trust, rollout_stop=Halt)
    assert th.equal(resumed.imagined._rows[: resumed.imagined.size], agent.imagined._rows[: agent.imagined.size])
    with pytest.raises(ValueError, match="confidence=None is not allowed: the file was saved with confidence=Trust"):
        MBPO.load(tmp_path / "agent", confidence=None)


def test_sb3s_own_update_knows_no_confidence() -> None:
    with pytest.raises(ValueError, match=r"confidence is not allowed with this policy .*gSDE.*; allowed: confidence=None"):
        small_agent(confidence=Trust, use_sde=True, **TINY)


WRONG = [None, 0.5, th.ones(50), th.ones(50, 1, dtype=th.float64), th.ones(50, 1) > 0, th.ones(49, 1)]


@pytest.mark.parametrize("says", WRONG, ids=["None", "float", "[B]", "float64", "bool", "[B - 1, 1]"])
@pytest.mark.parametrize("argument", ["confidence", "rollout_stop"])
def test_what_a_plug_may_not_say_names_it(argument: str, says: object) -> None:
    if argument == "rollout_stop":
        says = says.float() if isinstance(says, th.Tensor) and says.shape == (50, 1) else says
    plug = type("Odd", (Trust if argument == "confidence" else Halt,), {"forward": lambda *_: says})
    allowed = "torch.float32" if argument == "confidence" else "torch.bool"
    with pytest.raises(ValueError, match=rf"^Odd returned .* for 50 rows; allowed: {allowed} of shape \(50, 1\)"):
        small_agent(**{argument: plug}, **TINY).learn(60)


@pytest.mark.parametrize("value", [-0.1, float("nan"), 1e30])
def test_a_confidence_that_is_not_usable_is_named(value: float) -> None:
    with pytest.raises(ValueError, match="Trust"):
        small_agent(confidence=Trust(value), **TINY).learn(60)
