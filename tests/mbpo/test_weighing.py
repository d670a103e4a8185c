"""What a user's weighter may say about itself and may return, and what is refused by name."""

from typing import Any

import numpy as np
import pytest
import torch as th

from sb3_tom import Context, LinearDynamics, Transitions, Weighter
from sb3_tom.contracts.plug import figures_of
from sb3_tom.terminations.user_function import NeverTermination
from tests.mbpo.small import small_agent
from tests.mbpo.test_mbpo import Corridor

TINY: dict[str, Any] = {"rollout_batch_size": 20, "dynamics": "linear", "policy_kwargs": {"net_arch": [8]}}


class Simple(Weighter):
    """Returns what it is told to."""

    returned: Any = staticmethod(lambda n_rows: th.arange(n_rows) + 1.0)
    figures: Any = None

    def fit(self, *arguments: Any) -> Any:
        return self.figures

    def weights(self, data: Transitions, context: Context) -> Any:
        return self.returned(data.size)


def agent_with(weighter: Weighter | type[Weighter], **kwargs: Any) -> Any:
    return small_agent(Corridor(), **{**TINY, "weighter": weighter, "weighter_kwargs": None, **kwargs})


def filled(**attributes: Any) -> Any:
    return agent_with(type("Mine", (Simple,), attributes)).learn(40)  # fewer than learning_starts: nothing trained


WRONG = {
    "uniform_mix": (1.5, -0.1, "0.5", None),
    "ess_floor": (1.5, float("nan"), True),
    "max_weight": (0.5, -3, "10", float("inf")),
    "recent_size": (0, 2.5, None, "1000"),
}


@pytest.mark.parametrize(("name", "value"), [(name, value) for name, values in WRONG.items() for value in values])
def test_attributes_are_checked_at_construction_and_at_use(name: str, value: Any) -> None:
    with pytest.raises(ValueError, match=rf"^Mine\.{name}=.* is not allowed; allowed: a"):
        filled(**{name: value})
    agent = filled()
    setattr(agent.weighter, name, value)
    with pytest.raises(ValueError, match=rf"^Mine\.{name}=.* is not allowed; allowed: a"):
        agent.fit_weights()


def test_attributes_that_are_allowed() -> None:
    filled(uniform_mix=1, ess_floor=np.float32(0.5), max_weight=None, recent_size=np.int64(5)).fit_weights()


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int64, np.bool_, ">f4"])
def test_weights_may_be_numpys(dtype: Any) -> None:
    def backwards(n_rows: int) -> np.ndarray:
        values = (np.arange(n_rows) + 1).astype(dtype)[::-1]
        values.flags.writeable = False
        return values

    expected = th.from_numpy(backwards(40).astype(np.float64))
    weights = filled(returned=staticmethod(backwards)).fit_weights()
    th.testing.assert_close(weights, (expected / expected.mean()).float(), rtol=1e-6, atol=0.0)


@pytest.mark.parametrize("value", [None, 1.0, "ones", [1.0] * 40, np.array(["a"] * 40), np.ones(40) * 1j, th.ones(40) * 1j])
def test_weights_that_are_neither_are_refused(value: Any) -> None:
    with pytest.raises(ValueError, match=r"^Mine\.weights returned .*; allowed: a tensor or a numpy array \[N\] of real numb"):
        filled(returned=staticmethod(lambda n_rows: value)).fit_weights()


def test_weights_of_a_wrong_shape_are_refused() -> None:
    with pytest.raises(ValueError, match=r"Mine\.weights returned the shape \(40, 1\)"):
        filled(returned=staticmethod(lambda n_rows: np.ones((n_rows, 1)))).fit_weights()


class SilentModel(LinearDynamics):
    def fit(self, *arguments: Any) -> Any:
        super().fit(*arguments)


class SilentTermination(NeverTermination):
    def fit(self, *arguments: Any) -> Any:
        pass


def test_a_fit_need_not_return_figures() -> None:
    agent = agent_with(Simple(), dynamics=SilentModel, dynamics_kwargs=None, termination_fn=SilentTermination).learn(60)
    assert agent.policy_version > 0
    assert set(agent.fit_model()) == {"seconds"}


@pytest.mark.parametrize("value", [3.0, [1.0], "loss", {1: 2.0}])
def test_figures_of_another_kind_are_refused(value: Any) -> None:
    with pytest.raises(ValueError, match=r"^Mine\.fit returned .*; allowed: a dict of numbers by name, or None"):
        filled(figures=value).fit_weights()


def test_figures_are_passed_on() -> None:
    assert figures_of(Simple(), {"loss": 1.0}) == {"loss": 1.0}
    assert figures_of(Simple(), None) == {}


class Centers(Simple):
    """Writes into the rewards that it is given: the replay buffer's own."""

    def fit(self, data: Transitions, *arguments: Any) -> Any:
        data.rewards.sub_(1.0)


class Careless(LinearDynamics):
    """Writes into a view of the observations that it is given."""

    def fit(self, data: Transitions, *arguments: Any) -> Any:
        data.observations[:5] += 1.0
        return super().fit(data, *arguments)


def test_a_plug_that_writes_into_the_data_is_named() -> None:
    with pytest.raises(ValueError, match=r"^Centers has written into the rewards that it was given, .*rewards.clone\(\)"):
        agent_with(Centers).learn(40).fit_weights()
    with pytest.raises(ValueError, match=r"^Careless has written into the observations"):
        agent_with(Simple, dynamics=Careless).learn(40).fit_model()


@pytest.mark.parametrize(
    ("name", "wrong"),
    [
        ("observations", lambda field: field.double()),
        ("actions", lambda field: th.cat([field, field], -1)),
        ("rewards", lambda field: field[:-1]),
    ],
)
def test_recent_rows_that_are_not_like_the_buffers_are_named(name: str, wrong: Any) -> None:
    agent = small_agent(weighter="tom").learn(60)
    rows = agent.replay_buffer.transitions().rows(th.arange(40))
    with pytest.raises(ValueError, match=rf"recent\.{name} of .* is not allowed; allowed: .* as in the buffer"):
        agent.fit_weights(recent=rows._replace(**{name: wrong(getattr(rows, name))}))
