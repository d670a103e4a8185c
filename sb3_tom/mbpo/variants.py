"""One class per weighter, so that a user's YAML without ``weighter`` still means the algorithm that its name says."""

from typing import Any, TypeVar

from sb3_tom.mbpo.mbpo import MBPO

SelfVariant = TypeVar("SelfVariant", bound="_Variant")


class _Variant(MBPO):
    @classmethod
    def load(cls: type[SelfVariant], path: Any, env: Any = None, *args: Any, **kwargs: Any) -> SelfVariant:
        """
        As :meth:`MBPO.load`, which takes files of any weighter; this takes those of the class's own, or of one that is named.

        :raises ValueError: if the file holds another weighter, naming both
        """
        return super().load(path, env, *args, **{"weighter": cls.default_weighter} | kwargs)


class MBPOPMAC(_Variant):
    """MBPO whose default weighter is PMAC's (Wang et al. 2022), the zoo's ``mbpo_pmac``."""

    default_weighter = "pmac"


class MBPOTOM(_Variant):
    """MBPO whose default weighter is TOM's (Ma et al. 2023, arXiv:2305.12663), the zoo's ``mbpo_tom``."""

    default_weighter = "tom"
