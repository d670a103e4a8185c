"""
Checks of the dynamics model's fit on Hopper-v5, with an ensemble of three members of two layers.

    python benchmarks/model_fit.py --seed 0 1 2

Two questions, each a line per fit:

- **held-out**: the ensemble is fitted again and again to the same 1,000 random rows. Its held-out error beside its error on
  4,000 fresh rows of the same random policy, of which it has seen none, and their ratio in units of the first fit's: what is
  held out tells the truth about later fits if that stays 1.
- **units**: the ensemble is fitted to 1,000 rows of a run, then every 250 rows to all rows so far. Its error on these when the
  new fit begins, with the new units, beside that of the same model before: the units alone must not change it.
"""

import argparse
from pathlib import Path
from typing import Any

import numpy as np
import torch as th
from checkout import ROOT

from sb3_tom import MBPO, Context, DynamicsModel, ProbabilisticEnsemble, Transitions
from sb3_tom.callbacks.tables import write_table
from sb3_tom.contracts.objective import Extras
from sb3_tom.objectives.likelihood import LikelihoodObjective

ENV = "Hopper-v5"
SAME, FRESH, FIRST, EVERY, LAST = 1_000, 4_000, 1_000, 250, 2_000
REFITS = 4
CHEAP = {"dynamics": "linear", "update_to_data_ratio": 1, "rollout_batch_size": 2_000, "device": "cpu"}
"""Settings of a short run whose policy changes."""
MODEL: dict[str, Any] = {"n_members": 3, "n_elites": 2, "net_arch": (200, 200)}


def rows_of_run(n_rows: int, seed: int, random: bool) -> Transitions:
    """
    The rows of an agent's replay buffer, oldest first.

    :param n_rows: env steps
    :param seed: of the agent
    :param random: whether its policy never acts
    """
    agent = MBPO("MlpPolicy", ENV, seed=seed, learning_starts=n_rows + 1 if random else FIRST, buffer_size=n_rows, **CHEAP)
    return agent.learn(n_rows).replay_buffer.transitions()


def error(model: DynamicsModel, data: Transitions) -> float:
    """Mean squared error of the members' means, in units of the rows' own standard deviations: the model's may move."""
    mean = model(data.observations, data.actions).mean
    states, rewards = model.normalizer.raw_outcomes(mean, data.observations)
    missed = th.cat([rewards - data.rewards, states - data.next_observations], dim=-1)
    changes = th.cat([data.rewards, data.next_observations - data.observations], dim=-1)
    return float((missed / changes.std(0)).square().mean())


class Looks(LikelihoodObjective):
    """Evaluates the model at the beginning of a fit: with the new units, before any step."""

    def prepare(self, model: DynamicsModel, data: Transitions, context: Context) -> Extras:
        """See :meth:`ModelObjective.prepare`."""
        with th.no_grad():
            self.found = error(model, data)
        return {}


class Fits:
    """
    An ensemble that is quick to fit, with the defaults of its fit.

    :param seed: of its parameters and minibatches
    :param dims: sizes of observation and action
    """

    def __init__(self, seed: int, dims: tuple[int, int]) -> None:
        th.manual_seed(seed)
        self.model, self.looks = ProbabilisticEnsemble(**MODEL), Looks()
        self.model.build(*dims)
        self._generator = th.Generator().manual_seed(seed)

    def fit(self, data: Transitions) -> float:
        """Fit to all rows alike; return the held-out error of the elites."""
        context = Context(generator=self._generator)
        return float(self.model.fit(data, th.ones(data.size), self.looks, context)["validation_error"])


def held_out(seed: int) -> list[dict[str, float]]:
    """A row per fit to the same data."""
    data, fresh = (rows_of_run(n_rows, 100 * seed + part, random=True) for part, n_rows in ((0, SAME), (1, FRESH)))
    fits, found = Fits(seed, (data.observations.shape[1], data.actions.shape[1])), []
    for number in range(REFITS):
        held = fits.fit(data)
        with th.no_grad():
            unseen = float(fits.model.validation_error(fresh)[fits.model.elites.long()].mean())
        found.append({"seed": seed, "fit": number, "held_out": held, "fresh": unseen})
        found[-1]["ratio"] = held / unseen / (found[0]["held_out"] / found[0]["fresh"])
        print("held-out", {name: round(value, 4) for name, value in found[-1].items()}, flush=True)
    return found


def units(seed: int) -> list[dict[str, float]]:
    """A row per fit to more data, the first one apart."""
    data = rows_of_run(LAST, seed, random=False)
    fits, found = Fits(seed, (data.observations.shape[1], data.actions.shape[1])), []
    fits.fit(data.rows(th.arange(FIRST)))
    for n_rows in range(FIRST + EVERY, LAST + 1, EVERY):
        rows = data.rows(th.arange(n_rows))
        with th.no_grad():
            before = error(fits.model, rows)
        held = fits.fit(rows)
        found.append({"seed": seed, "rows": n_rows, "before": before, "with_new_units": fits.looks.found, "held_out": held})
        found[-1]["ratio"] = fits.looks.found / before
        print("units", {name: round(value, 4) for name, value in found[-1].items()}, flush=True)
    return found


def main() -> None:
    """Measure, print, and write two tables if a folder is given."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, nargs="+", default=[0])
    parser.add_argument("--out", type=Path, help="folder for model_fit_held_out.csv and model_fit_units.csv")
    arguments = parser.parse_args()
    th.set_num_threads(1)
    for measure in (held_out, units):
        rows = [row for seed in arguments.seed for row in measure(seed)]
        again = [row["ratio"] for row in rows if row.get("fit", 1) > 0]
        print(
            f"{measure.__name__}: ratio {np.mean(again):.3f} in the mean, {min(again):.3f} to {max(again):.3f} ({ROOT.name})"
        )
        if arguments.out is not None:
            arguments.out.mkdir(parents=True, exist_ok=True)
            write_table(arguments.out / f"model_fit_{measure.__name__}.csv", tuple(rows[0]), rows)


if __name__ == "__main__":
    main()
