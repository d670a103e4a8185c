"""One class per weighter, so that a user's YAML without ``weighter`` still means the algorithm that its name says."""

from sb3_tom.mbpo.mbpo import MBPO


class MBPOPMAC(MBPO):
    """MBPO whose default weighter is PMAC's (Wang et al. 2022), the zoo's ``mbpo_pmac``."""

    default_weighter = "pmac"


class MBPOTOM(MBPO):
    """MBPO whose default weighter is TOM's (Ma et al. 2023, arXiv:2305.12663), the zoo's ``mbpo_tom``."""

    default_weighter = "tom"
