"""
One class per zoo name, so that a user's YAML without ``weighter`` still means the algorithm that its name says. ``load`` takes
files of the class's own plugs, or of those that are named; :meth:`MBPO.load` takes any.
"""

from typing import ClassVar

from stable_baselines3.common.policies import BasePolicy

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
    Double Horizon MBPO (Kubo et al. 2025, TMLR), the zoo's ``dhmbpo``: the policy climbs the pathwise gradient of rollouts of
    5 steps of a smooth model, from states that rollouts of 20 steps bring near its own, with 2 gradient steps per env step
    instead of 20. ``"MlpPolicy"`` is :class:`~sb3_tom.policy_updates.double_horizon.policies.DoubleHorizonPolicy`.
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
