"""The bare ratio: exp of TOM's own log-ratio, and nothing of its dual."""

import pytest
import torch as th

from sb3_tom import MBPO
from sb3_tom.contracts.context import Context
from sb3_tom.contracts.types import Transitions
from sb3_tom.weighters.tom.folds import NumberedRows
from sb3_tom.weighters.tom.ratio import RatioWeighter
from tests.weighters.small import QUICK, built, context, newest, transitions


def ratio(**arguments: object) -> RatioWeighter:
    weighter = RatioWeighter(**{**QUICK, **arguments})
    weighter.build(3, 2)
    return weighter


def changed() -> Transitions:
    """The newest 50 of 400 rows are from elsewhere."""
    data = transitions(400)
    return data._replace(observations=data.observations + (th.arange(400) >= 350).float().unsqueeze(1))


def fitted(weighter: RatioWeighter, data: Transitions, view: Context) -> RatioWeighter:
    weighter.fit(data, newest(data), data.observations[:5], view)
    return weighter


def test_weights_are_those_of_toms_own_log_ratio() -> None:
    data, weighter, tom = changed(), ratio(discriminator_steps=100), built()
    fitted(weighter, data, context())
    tom.discriminator.load_state_dict(weighter.discriminator.state_dict())
    expected = tom.log_ratio(NumberedRows.of(data), context()).double().exp()
    assert th.equal(weighter.weights(data, context()), expected)
    assert expected.std() > 0.05
    assert not th.equal(tom.log_ratio(data, context()).double().exp(), expected), "rows without numbers: of all networks"


def test_it_learns_exactly_as_tom_does() -> None:
    data, weighter, tom = transitions(400), ratio(), built()
    tom.discriminator.load_state_dict(weighter.discriminator.state_dict())
    fitted(weighter, data, context())
    tom.fit(data, newest(data), data.observations[:5], context())
    for name, value in weighter.discriminator.state_dict().items():
        assert th.equal(value, tom.discriminator.state_dict()[name]), name


def test_a_footprint_of_any_size_is_learned_from() -> None:
    data, weighter = transitions(40), ratio(recent_size=50)
    assert th.equal(weighter.weights(data, context()), th.ones(40, dtype=th.float64)), "not fitted yet"
    assert "discriminator_loss" in weighter.fit(data, newest(data, 10), data.observations[:5], context())
    assert bool(weighter.ready)
    weights = weighter.weights(data, context())
    assert weights.shape == (40,)
    assert bool(weights.isfinite().all())


def test_by_its_path() -> None:
    agent = MBPO("MlpPolicy", "Pendulum-v1", weighter="ratio", buffer_size=1000)
    assert isinstance(agent.weighter, RatioWeighter)
    assert agent.weighter.max_weight == 10.0


@pytest.mark.parametrize("arguments", [{"discriminator": False}, {"preset": "none"}, {"steps": 3}])
def test_wrong_arguments_are_named(arguments: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=next(iter(arguments))):
        RatioWeighter(**arguments)
