"""
Visits of past policies, compared by the values of a trained critic (Wang et al. 2022, Fig. 1 c, d and 3 e, f).

    python benchmarks/pmac_visits.py run runs/curves/Hopper-v5/mbpo_seed0/checkpoints/checkpoint_25000_steps.zip
    python benchmarks/pmac_visits.py page

The rows of a run's replay buffer are the visits of its policies, one after the other; its last critic gives each row a value.
``run`` compares the values of ten ages of rows, of all rows, and of all rows by PMAC's weights, with those of fresh episodes
of the current policy, by Wasserstein's distance in units of the standard deviation of the current policy's values. The paper
runs past policies again; here their own rows are used. ``page`` draws ``pmac_visits.png`` and writes the table of
``docs/results/model_error.md``.
"""

import sys
from pathlib import Path
from typing import Any

import checkout  # noqa: F401
import numpy as np
import torch as th
from marked_page import draw_and_write, run_and_page
from numpy.typing import NDArray
from run_checkpoints import describe, resumed
from same_data import FIRST_EPISODE, N_EPISODES
from scipy.stats import wasserstein_distance

from sb3_tom.callbacks.model_error import play_episode
from sb3_tom.callbacks.tables import write_table
from sb3_tom.plots.drawing import finish, grouped, panels, save
from sb3_tom.weighters.pmac import pmac_weights

AGES, BINS = 10, 40
COLUMNS = ("task", "run", "env_step", "what", "distance", *(f"bin_{number}" for number in range(BINS)), "low", "high")
BEGIN, END = "<!-- visits: begin -->", "<!-- visits: end -->"
PRESENT, ALL, PMAC = "present policy", "all rows", "all rows by PMAC's weights"

Values = NDArray[np.float64]


def measure(path: Path, alpha: float) -> list[dict[str, str]]:
    """
    Rows of one checkpoint.

    :param path: below ``<task>/<run>/``
    :param alpha: PMAC's
    """
    task, name, step = describe(path)
    agent, env = resumed(path)
    data = agent.replay_buffer.transitions()
    episodes = [play_episode(agent, env, FIRST_EPISODE + index) for index in range(N_EPISODES)]
    fresh = [th.cat([getattr(one, field)[: len(one.actions)] for one in episodes]) for field in ("observations", "actions")]
    present, past = values(agent, *fresh), values(agent, data.observations, data.actions)
    order = agent.replay_buffer.newest_rows(data.size).numpy()  # the oldest first
    weights = pmac_weights(data.policy_version, agent.policy_version, alpha).numpy()
    parts = {f"rows {10 * age} to {10 * age + 10} %": past[rows] for age, rows in enumerate(np.array_split(order, AGES))}
    rows = [(PRESENT, present, None), *((what, part, None) for what, part in parts.items())]
    rows += [(ALL, past, None), (PMAC, past, weights)]
    labels = {"task": task, "run": name, "env_step": step}
    return [labels | summary(what, part, weight, present) for what, part, weight in rows]


@th.no_grad()
def values(agent: Any, observations: th.Tensor, actions: th.Tensor) -> Values:
    """Minimum of the critics ``[N]``."""
    said: Values = th.stack(agent.critic(observations, actions)).amin(0).squeeze(1).double().numpy()
    return said


def summary(what: str, part: Values, weights: Values | None, present: Values) -> dict[str, str]:
    """
    A row of the table: distance to the current policy's values, and a histogram.

    :param what: label of the values
    :param part: values
    :param weights: of the values, None for equal ones
    :param present: the current policy's values
    """
    distance = wasserstein_distance(part, present, weights) / present.std()
    low, high = present.mean() - 4.0 * present.std(), present.mean() + 3.0 * present.std()
    shares, _ = np.histogram(np.clip(part, low, high), BINS, (low, high), weights=weights)
    bins = {f"bin_{number}": f"{share:.5g}" for number, share in enumerate(shares / shares.sum())}
    return {"what": what, "distance": f"{distance:.4g}"} | bins | {"low": f"{low:.5g}", "high": f"{high:.5g}"}


def page_text(rows: list[dict[str, str]]) -> str:
    """Distances, a line per run."""
    names = list(dict.fromkeys(row["what"] for row in rows if row["what"] != PRESENT))
    lines = ["", f"| task | run | {' | '.join(names)} |", f"|{'---|' * (2 + len(names))}"]
    for (task, run, step), place in grouped(rows, lambda row: (row["task"], row["run"], row["env_step"])).items():
        found = {row["what"]: float(row["distance"]) for row in place}
        lines.append(f"| {task} at {int(step):,} | `{run}` | {' | '.join(f'{found[name]:.2f}' for name in names)} |")
    return "\n".join([*lines, "", ""])


def draw(rows: list[dict[str, str]], path: Path) -> None:
    """A panel per run: the current policy, all rows, and all rows by their weights; past ages in grey."""
    places = grouped(rows, lambda row: (row["task"], row["run"]))
    figure, axes = panels(len(places))
    for axis, ((task, run), place) in zip(axes, places.items(), strict=True):
        for row in place:
            edges = np.linspace(float(row["low"]), float(row["high"]), BINS + 1)
            shares = [float(row[f"bin_{number}"]) for number in range(BINS)]
            named = row["what"] in (PRESENT, ALL, PMAC)
            style = {"label": row["what"], "linewidth": 2.0} if named else {"color": "0.75", "linewidth": 0.8, "zorder": 0}
            axis.plot((edges[:-1] + edges[1:]) / 2, shares, **style)
        finish(axis, title=f"{task}, {run}", xlabel="value of the last critic", ylabel="share")
    save(figure, path, [{name: row[name] for name in COLUMNS[:5]} for row in rows])


def write_page(out: Path) -> None:
    """Draw the picture, and write the part of ``model_error.md`` between its marks."""
    draw_and_write(out / "pmac_visits.csv", draw, out / "model_error.md", BEGIN, END, page_text)


def main() -> None:
    """Run the command."""
    parser, command = run_and_page(__doc__)
    command.add_argument("checkpoints", type=Path, nargs="+")
    command.add_argument("--alpha", type=float, default=0.9, help="PMAC's rate")
    arguments = parser.parse_args()
    if arguments.command == "page":
        write_page(arguments.out)
        return
    rows = [row for path in arguments.checkpoints for row in measure(path, arguments.alpha)]
    write_table(arguments.out / "pmac_visits.csv", COLUMNS, rows)


if __name__ == "__main__":
    sys.exit(main())
