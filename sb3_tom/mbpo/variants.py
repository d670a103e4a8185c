"""
One class per zoo name, so that a user's YAML without ``weighter`` still gives the algorithm of that name. ``load`` accepts
files with the class's own plugs, or with those that are named; :meth:`MBPO.load` accepts any.

The classes below have YAML files of their own. The others, :data:`NAMED_AFTER_PLUGS`, are generated from the table of axes:
MBPOError, MBPOMaper, MBPOMnm, MBPOPdml, MBPOPer, MBPORatio, MBPORecall, MBPORecency, MBPOSurviveBonus, MBPOVagram, MBPOValue,
DHMBPOError, DHMBPOMaper, DHMBPOMnm, DHMBPOPdml, DHMBPOPer, DHMBPORatio, DHMBPORecall, DHMBPORecency, DHMBPOSurviveBonus,
DHMBPOVagram, DHMBPOValue.
"""

from itertools import product
from typing import ClassVar

from stable_baselines3.common.policies import BasePolicy

from sb3_tom.mbpo.axes import AXES
from sb3_tom.mbpo.mbpo import MBPO
from sb3_tom.policy_updates.double_horizon.policies import DoubleHorizonPolicy


class MBPOPMAC(MBPO):
    """MBPO whose default weighter is PMAC's (Wang et al. 2022), the zoo's ``mbpo_pmac``."""

    default_weighter: ClassVar[str] = "pmac"


class MBPOTOM(MBPO):
    """MBPO whose default weighter is TOM's (Ma et al. 2023, arXiv:2305.12663), the zoo's ``mbpo_tom``."""

    default_weighter: ClassVar[str] = "tom"


class DHMBPO(MBPO):
    """
    Double Horizon MBPO (Kubo et al. 2025, TMLR), the zoo's ``dhmbpo``: the policy follows the pathwise gradient of rollouts of
    5 steps in a smooth model, which start from states of rollouts of 20 steps, near the policy's own; 2 gradient steps per
    env step instead of 20. ``"MlpPolicy"`` is :class:`~sb3_tom.policy_updates.double_horizon.policies.DoubleHorizonPolicy`.
    """

    default_policy_update: ClassVar[str] = "double_horizon"
    default_dynamics: ClassVar[str] = "smooth"
    policy_aliases: ClassVar[dict[str, type[BasePolicy]]] = {"MlpPolicy": DoubleHorizonPolicy}


class DHMBPOPMAC(DHMBPO):
    """Double Horizon MBPO whose default weighter is PMAC's, the zoo's ``dhmbpo_pmac``."""

    default_weighter: ClassVar[str] = "pmac"


class DHMBPOTOM(DHMBPO):
    """Double Horizon MBPO whose default weighter is TOM's, the zoo's ``dhmbpo_tom``."""

    default_weighter: ClassVar[str] = "tom"


def _named_after_plugs(*written: type[MBPO]) -> dict[str, type[MBPO]]:
    """
    Make a class per backbone and per weighter or objective that has none, such as ``MBPOVagram``.

    :param written: classes that are written out
    :return: by the zoo's names, such as ``mbpo_vagram``
    """
    known = {(cls.__base__, cls.default_weighter) for cls in written}
    plugs = [(argument, alias) for argument in ("weighter", "objective") for alias in sorted(AXES[argument].aliases)]
    found: dict[str, type[MBPO]] = {}
    for backbone, (argument, alias) in product((MBPO, DHMBPO), plugs):
        if (backbone, alias) in known or alias == AXES[argument].default:
            continue
        name = f"{backbone.__name__}{alias.title().replace('_', '')}"
        doc = f"{backbone.__name__} whose default {argument} is ``{alias!r}``."
        members = {f"default_{argument}": alias, "__doc__": doc, "__module__": __name__}
        found[f"{backbone.__name__.lower()}_{alias}"] = type(name, (backbone,), members)
    return found


NAMED_AFTER_PLUGS: dict[str, type[MBPO]] = _named_after_plugs(MBPOPMAC, MBPOTOM, DHMBPOPMAC, DHMBPOTOM)
globals().update({cls.__name__: cls for cls in NAMED_AFTER_PLUGS.values()})  # files name classes by module and name
