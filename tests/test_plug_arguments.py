"""Every argument of every plug with every kind of junk: taken, or refused by its name."""

import inspect
from dataclasses import fields

import pytest

from sb3_tom import LinearDynamics, MixtureDensityNetwork, PMACWeighter, ProbabilisticEnsemble, TOMWeighter
from sb3_tom.contracts.plug import Plug
from sb3_tom.dynamics.fitting import FitSettings
from sb3_tom.objectives.mnm import MnMObjective
from sb3_tom.objectives.vagram import VaGraMObjective
from sb3_tom.terminations.learned import LearnedTermination
from sb3_tom.weighters.error import ErrorWeighter
from sb3_tom.weighters.maper import MaPERWeighter
from sb3_tom.weighters.pdml import PDMLWeighter
from sb3_tom.weighters.per import PERWeighter
from sb3_tom.weighters.recall import RecallWeighter
from sb3_tom.weighters.recency import RecencyWeighter
from sb3_tom.weighters.tom.ratio import RatioWeighter
from sb3_tom.weighters.tom.settings import TOMSettings
from sb3_tom.weighters.value import ValueWeighter
from tests.mbpo.test_fuzz import JUNK_VALUES

SETTINGS = {
    TOMWeighter: TOMSettings,
    RatioWeighter: TOMSettings,
    PMACWeighter: None,
    RecencyWeighter: None,
    ErrorWeighter: None,
    PDMLWeighter: None,
    PERWeighter: None,
    RecallWeighter: None,
    MaPERWeighter: None,
    ValueWeighter: None,
    ProbabilisticEnsemble: FitSettings,
    MixtureDensityNetwork: FitSettings,
    LinearDynamics: None,
    VaGraMObjective: None,
    MnMObjective: None,
    LearnedTermination: None,
}
"""By plug, the settings that its keyword arguments are."""


def arguments(plug: type[Plug]) -> list[str]:
    parameters = inspect.signature(plug).parameters.values()
    named = [parameter.name for parameter in parameters if parameter.kind is not parameter.VAR_KEYWORD]
    settings = SETTINGS[plug]
    return named if settings is None else [*named, *(field.name for field in fields(settings))]


@pytest.mark.parametrize(("plug", "name"), [(plug, name) for plug in SETTINGS for name in arguments(plug)])
def test_junk_is_taken_or_refused_by_name(plug: type[Plug], name: str) -> None:
    refused = 0
    for value in JUNK_VALUES:
        try:
            plug(**{name: value}).build(3, 2)
        except ValueError as error:
            refused += 1
            assert name in str(error), f"{name}={value!r}: {error}"
    assert refused > len(JUNK_VALUES) / 2  # a check there is, and not one that takes anything
    with pytest.raises(ValueError, match=f"{name}="):
        plug(**{name: 1e300})
