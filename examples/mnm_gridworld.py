"""
Tabular results of Mismatched No More (Eysenbach et al. 2022, arXiv:2110.02758, Sec. 5.1 and App. C), drawn as in its figures:
faster learning in optimistic dynamics, the bound, a model that is too coarse, the risk that VMBPO takes, and reused dynamics.

Grid sizes, rewards, noise and rates that the text does not give are our own; the mathematics is in ``mnm_tables.py``.
"""

import argparse
import csv
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from mnm_tables import (
    MDP,
    Array,
    backup,
    best_model,
    expected_return,
    greedy,
    log_ratio,
    mnm_rewards,
    objective,
    solve,
    vmbpo_rewards,
)

MOVES = np.array([(0, 1), (1, 0), (0, -1), (-1, 0)])
"""Right, up, left, down, as (row, column): the actions, and where noise may carry."""

Row = dict[str, Any]
Cell = tuple[int, int]


def gridworld(size: int, goal: Cell, noise: float, walls: frozenset[Cell] = frozenset(), gamma: float = 0.99) -> MDP:
    """
    A square grid with a reward of 1 at its goal and 0.001 elsewhere, since MnM takes its logarithm; starts at corner (0, 0).

    :param size: cells along a side
    :param goal: its row and column
    :param noise: probability that a move goes to any neighbour
    :param walls: cells that cannot be entered
    :param gamma: discount
    """
    cells = [(row, column) for row in range(size) for column in range(size)]
    transitions = np.zeros((len(cells), len(MOVES), len(cells)))
    for here, cell in enumerate(cells):
        for action in range(len(MOVES)):
            for other, move in enumerate(MOVES):
                there = tuple(int(entry) for entry in np.clip(cell + move, 0, size - 1))
                landing = cell if there in walls else there
                share = noise / len(MOVES) + (1.0 - noise) * (other == action)
                transitions[here, action, landing[0] * size + landing[1]] += share
    rewards = np.full((len(cells), len(MOVES)), 0.001)
    rewards[cells.index(goal)] = 1.0
    return MDP(transitions, rewards, np.eye(len(cells))[0], gamma)


def learn(mdp: MDP, method: str, seed: int, updates: int, every: int, model: Array | None = None) -> list[float]:
    """
    Q-learning on transitions of a model: the true dynamics, or MnM's or VMBPO's, which follow the values.

    :param method: "Q-learning", "MnM" or "VMBPO"
    :param model: fixed dynamics instead
    :return: true return of the greedy policy, at regular numbers of updates
    """
    rng, (n_states, n_actions) = np.random.default_rng(seed), mdp.rewards.shape
    extra = {"MnM": mnm_rewards, "VMBPO": vmbpo_rewards}.get(method)
    rewards = mdp.rewards if extra is None else extra(mdp)
    quality = np.full((n_states, n_actions), rewards.min() / (1.0 - mdp.gamma))
    state, returns = 0, []
    for update in range(updates):
        if update % every == 0:
            returns.append(expected_return(mdp, greedy(quality)))
        if update % 100 == 0:  # an episode
            state = int(rng.choice(n_states, p=mdp.start))
        best = rng.choice(np.flatnonzero(quality[state] == quality[state].max()))
        action = int(best if rng.random() > 0.2 else rng.integers(n_actions))
        real = mdp.transitions[state, action]
        after, reward = real if model is None else model[state, action], rewards[state, action]
        if extra is not None:
            tilted = real * np.exp(mdp.gamma * (quality.max(1) - quality.max()))
            after = tilted / tilted.sum()
        following = int(rng.choice(n_states, p=after))
        if extra is not None:
            reward = reward + np.log(real[following] / after[following])
        target = reward + mdp.gamma * quality[following].max()
        quality[state, action] += 0.2 * (target - quality[state, action])
        state = following
    return returns


def learning(seeds: int, updates: int, gamma: float) -> list[Row]:
    """Figure 2 a: number of updates until each method solves a noisy grid."""
    mdp, every = gridworld(10, (9, 9), noise=0.5, gamma=gamma), max(updates // 40, 1)
    methods = ("Q-learning", "MnM", "VMBPO")
    curves = {method: np.mean([learn(mdp, method, seed, updates, every) for seed in range(seeds)], 0) for method in methods}
    best = expected_return(mdp, greedy(solve(mdp, None)))
    return [
        _row("learning", method, i * every, value / best) for method, curve in curves.items() for i, value in enumerate(curve)
    ]


def reuse(seeds: int, updates: int) -> list[Row]:
    """Figure 13: Q-learning on other tasks, in true dynamics and in those that MnM has learned for the first task."""
    first, every = gridworld(10, (9, 9), noise=0.5), max(updates // 40, 1)
    lucky = best_model(first, solve(first, mnm_rewards(first)).max(1))
    rows = []
    for task, goal in {"a goal nearby": (9, 8), "a goal elsewhere": (0, 9)}.items():
        mdp = gridworld(10, goal, noise=0.5)
        best = expected_return(mdp, greedy(solve(mdp, None)))
        for name, model in {"true dynamics": None, "MnM's for the first task": lucky}.items():
            curves = [learn(mdp, "Q-learning", seed, updates, every, model) for seed in range(seeds)]
            mean = np.mean(curves, 0) / best
            rows += [_row(f"reuse, {task}", name, i * every, value) for i, value in enumerate(mean)]
    return rows


def bound(sweeps: int) -> list[Row]:
    """Figure 3 b: values of value iteration, and the true ones of its greedy policy."""
    mdp, rows = gridworld(10, (9, 9), noise=0.5), []
    for method, rewards in {"MnM": mnm_rewards, "VMBPO": vmbpo_rewards}.items():
        plain, values = rewards(mdp), np.zeros(len(mdp.start))
        for sweep in range(sweeps):
            quality = backup(mdp, values, plain)
            model, policy = best_model(mdp, values), greedy(quality)
            believed = objective(mdp, policy, model, plain)
            believed = believed if method == "MnM" else float(np.log(max(believed, 1e-9)))
            rows.append(_row("bound", f"{method}'s objective", sweep, believed))
            rows.append(_row("bound", f"log return of {method}'s policy", sweep, np.log(expected_return(mdp, policy))))
            values = quality.max(1)
    return rows


def risk() -> list[Row]:
    """Figure 3 a: left is 9 for ever; right is 10, but wind blows one time in two back to the middle, which is 5."""
    mdp = windy()
    rows = []
    for method, rewards in {"best": None, "MnM": mnm_rewards, "VMBPO": vmbpo_rewards}.items():
        policy = greedy(solve(mdp, None if rewards is None else rewards(mdp)))
        rows.append(
            _row("risk", f"{method} goes {('left', 'right')[int(policy[0].argmax())]}", 0, expected_return(mdp, policy))
        )
    return rows


def windy() -> MDP:
    """States: middle, left, right. Actions: towards left, towards right."""
    transitions = np.zeros((3, 2, 3))
    transitions[0, 0, 1] = transitions[0, 1, 2] = transitions[1, 0, 1] = transitions[1, 1, 0] = transitions[2, 0, 0] = 1.0
    transitions[2, 1, [0, 2]] = 0.5
    return MDP(transitions, np.array([[5.0, 5.0], [9.0, 9.0], [10.0, 10.0]]), np.array([1.0, 0.0, 0.0]), gamma=0.9)


def walled() -> MDP:
    """A wall between start and goal, with a way round its upper end."""
    return gridworld(9, (0, 8), noise=0.0, walls=frozenset((row, 4) for row in range(6)))


def coarse_model(mdp: MDP, size: int, block: int = 3) -> Array:
    """
    A model with one prediction for each block of cells: the mean displacement of its cells. It includes the border of the grid
    but not the walls.
    """
    steps = np.array([(0, 0), *MOVES])
    model = np.zeros_like(mdp.transitions)
    for action in range(len(MOVES)):
        moved = np.zeros((-(-size // block), -(-size // block), len(steps)))
        for state in range(size * size):
            row, column = divmod(state, size)
            target = tuple(np.clip((row, column) + MOVES[action], 0, size - 1))
            blocked = mdp.transitions[state, action, target[0] * size + target[1]] == 0.0
            moved[row // block, column // block, 0 if blocked else 1 + action] += 1.0
        for state in range(size * size):
            row, column = divmod(state, size)
            shares = moved[row // block, column // block] / moved[row // block, column // block].sum()
            for share, step in zip(shares, steps, strict=True):
                target = tuple(np.clip(np.add((row, column), step), 0, size - 1))
                model[state, action, target[0] * size + target[1]] += share
    return model


def coarse_policies(mdp: MDP, size: int, bound_of_logits: float = 5.0) -> dict[str, Array]:
    """With the term, of logits that a trained classifier might have, and without."""
    model = coarse_model(mdp, size)
    logits = np.clip(log_ratio(mdp, model), -bound_of_logits, bound_of_logits)
    plain = (1.0 - mdp.gamma) * np.log(mdp.rewards)
    terms = {"with the classifier's term": (model * logits).sum(2), "without": np.zeros_like(plain)}
    return {name: greedy(solve(MDP(model, plain + term, mdp.start, mdp.gamma), None)) for name, term in terms.items()}


def coarse() -> list[Row]:
    """Figure 2 b: with the classifier's term the policy avoids what the model gets wrong."""
    mdp = walled()
    best = expected_return(mdp, greedy(solve(mdp, None)))
    policies = coarse_policies(mdp, 9)
    return [_row("coarse", name, 0, expected_return(mdp, policy) / best) for name, policy in policies.items()]


def _row(panel: str, what: str, place: int, value: float) -> Row:
    return {"panel": panel, "what": what, "place": place, "value": round(float(value), 5)}


def draw(rows: list[Row], out: Path) -> None:
    """Figures 2, 3 and 13 in one picture."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    titles = {
        "learning": ("Learning in one's own dynamics", "updates", "true return / best"),
        "reuse, a goal nearby": ("Dynamics used again: a goal nearby", "updates", "true return / best"),
        "reuse, a goal elsewhere": ("Dynamics used again: a goal elsewhere", "updates", "true return / best"),
        "bound": ("Beliefs and truth", "sweeps of value iteration", "log return"),
    }
    figure, grid = plt.subplots(2, 3, figsize=(15, 9), layout="constrained")
    for axes, (panel, (title, x, y)) in zip(grid.flat, titles.items(), strict=False):
        for what in dict.fromkeys(row["what"] for row in rows if row["panel"] == panel):
            line = [(row["place"], row["value"]) for row in rows if (row["panel"], row["what"]) == (panel, what)]
            axes.plot(*zip(*line, strict=True), label=what)
        axes.set(title=title, xlabel=x, ylabel=y)
        axes.legend()
    _draw_luck(grid.flat[4])
    _draw_routes(grid.flat[5])
    figure.savefig(out, dpi=80)


def _draw_luck(axes: Any) -> None:
    """How much further noise carries a random walker in MnM's dynamics than in the true ones, on average."""
    mdp, size = gridworld(10, (9, 9), noise=0.5), 10
    values = solve(mdp, mnm_rewards(mdp)).max(1)
    places = np.array([divmod(state, size) for state in range(size * size)])
    luck = (best_model(mdp, values) - mdp.transitions).mean(1) @ places
    axes.quiver(places[:, 1], places[:, 0], luck[:, 1], luck[:, 0], color="tab:blue", angles="xy")
    axes.plot(9, 9, "*", color="tab:orange", markersize=14)
    axes.set(title="What MnM's dynamics add to a random walk", aspect="equal")


def _draw_routes(axes: Any) -> None:
    """True paths of the coarse model's policies."""
    mdp, size = walled(), 9
    for row in range(6):
        axes.fill_between([3.5, 4.5], row - 0.5, row + 0.5, color="0.6")
    for (name, policy), shift in zip(coarse_policies(mdp, size).items(), (0.06, -0.06), strict=True):
        state, route = 0, [0]
        for _ in range(60):
            state = int((policy[state] @ mdp.transitions[state]).argmax())
            route.append(state)
        axes.plot(*(np.array([divmod(state, size) for state in route]).T[::-1] + shift), marker=".", label=name)
    axes.plot(8, 0, "*", color="tab:orange", markersize=14)
    axes.set(title="A model of blocks of 3 x 3, which knows no wall", aspect="equal", xlim=(-0.5, 8.5), ylim=(-0.5, 8.5))
    axes.legend()


def main() -> None:
    """Compute, print what has one number, and write ``figures.csv`` and ``figures.png``."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--updates", type=int, default=40_000)
    parser.add_argument("--gamma", type=float, default=0.99, help="discount of the first panel")
    parser.add_argument("--out", type=Path, default=Path("runs/mnm_gridworld"))
    arguments = parser.parse_args()
    parts: list[Callable[[], list[Row]]] = [
        lambda: learning(arguments.seeds, arguments.updates, arguments.gamma),
        lambda: reuse(arguments.seeds, arguments.updates),
        lambda: bound(60),
        risk,
        coarse,
    ]
    rows = [row for part in parts for row in part()]
    arguments.out.mkdir(parents=True, exist_ok=True)
    with (arguments.out / "figures.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)
    draw(rows, arguments.out / "figures.png")
    for panel, what in dict.fromkeys((row["panel"], row["what"]) for row in rows):
        mean = np.mean([row["value"] for row in rows if (row["panel"], row["what"]) == (panel, what)])
        print(f"{panel}: {what}: {mean:.3f} on the mean")


if __name__ == "__main__":
    main()
