"""How often claims come out decided if no method differs from another: seeds differ, and nothing else."""

import numpy as np
from judge_plan import CLAIMS
from judge_rules import Better, BetterSomewhere

from sb3_tom.plots.statistics import LEAST_SEEDS, mean_interval

REPEATS = 100_000


def chances(claims: tuple[Better, ...], generator: np.random.Generator) -> tuple[float, float]:
    """
    Chances that at least one comparison is decided, and that at least one says yes. Claims that share a method share its runs,
    whose means are normal here, with the same spread.

    :param claims: on seven seeds each
    :param generator: of the runs
    """
    runs = {need: generator.standard_normal((LEAST_SEEDS, REPEATS)) for claim in claims for need in claim.needs}
    ends = np.array([mean_interval(runs[one] - runs[other])[1:] for one, other in (claim.needs for claim in claims)])
    better, worse = ends[:, 0] > 0, ends[:, 1] < 0
    return float((better | worse).any(0).mean()), float(better.any(0).mean())


def chance_lines() -> list[str]:
    """A line for all comparisons of the plan, and one for those of TOM's weights."""
    every = tuple(claim for claim in CLAIMS if isinstance(claim, Better))
    of_tom = tuple(claim for claim in every if claim.method.endswith("_tom"))
    named = next(claim.claims for claim in CLAIMS if isinstance(claim, BetterSomewhere))
    kinds = {"comparisons": every, "of TOM's weights": of_tom, "that a gain of TOM is claimed by": named}
    lines = []
    for kind, claims in kinds.items():
        decided, yes = chances(claims, np.random.default_rng(0))
        lines.append(f"{len(claims)} {kind}: one is decided in {decided:.2f} of cases, one says yes in {yes:.2f}")
    return lines
