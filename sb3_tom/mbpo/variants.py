"""
One class per zoo name, so that a user's YAML without ``weighter`` still means the algorithm that its name says. ``load`` takes
files of the class's own plugs, or of those that are named; :meth:`MBPO.load` takes any.
"""

from typing import ClassVar

from sb3_tom.mbpo.mbpo import MBPO


class MBPOPMAC(MBPO):
    """MBPO whose default weighter is PMAC's (Wang et al. 2022), the zoo's ``mbpo_pmac``."""

    default_weighter: ClassVar[str] = "pmac"


class MBPOTOM(MBPO):
    """MBPO whose default weighter is TOM's (Ma et al. 2023, arXiv:2305.12663), the zoo's ``mbpo_tom``."""

    default_weighter: ClassVar[str] = "tom"
