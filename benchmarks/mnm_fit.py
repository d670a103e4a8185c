"""
Effects of MnM on a dynamics model, on one buffer of a SAC run on Hopper-v5: errors, classifiers, values.

    python benchmarks/mnm_fit.py --out docs/results/mnm_fit.csv

An ensemble of three members is fitted once by the likelihood, to four of five blocks of 200 rows, and from there two more
times by each objective. A line per objective, on the held-out rows: the squared error of the means in unit scale,
also in units of the likelihood's; the accuracy of MnM's own classifiers; that of classifiers trained afresh to convergence on
the model's samples, of (s, a, s') and of these with residuals in units of the model's noise, which are more accurate; the mean
value by the critics after 2,000 gradient steps of the policy on imagined rows, and the real discounted returns.

Then, a line per shape: the same classifier (with residuals, of half of the held-out rows) for noises of the likelihood's first
member: its own, independent over dimensions; the real residuals of other rows, drawn separately for each dimension; a
Gaussian with their covariance; and the real residuals of another row, all dimensions together.
"""

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

import checkout  # noqa: F401
import torch as th
import torch.nn.functional as F
from stable_baselines3 import SAC
from torch import nn

from sb3_tom import MBPO, DynamicsModel, Transitions
from sb3_tom.callbacks.tables import write_table
from sb3_tom.objectives.classifier import accuracies
from sb3_tom.objectives.mnm import MnMObjective, values_of

ENV, ROWS, BLOCK, FITS, POLICY_STEPS = "Hopper-v5", 10_000, 200, 2, 2_000
MODEL: dict[str, Any] = {"n_members": 3, "n_elites": 3}
OBJECTIVES: dict[str, dict[str, Any]] = {
    "likelihood": {},
    "mnm": {"objective": "mnm"},
}
COLUMNS = ("objective", "error", "ratio", "noise", "own", "fresh", "fresh_residuals", "value", "return_low", "return_high")
MOST_STEPS, LOOK, PATIENCE, BATCH, WIDTH = 6_000, 200, 6, 256, 256
Outcomes = Callable[[Transitions], th.Tensor]
"""Next observations ``[B, O]`` of rows."""


def blocks(data: Transitions, number: int, of: int) -> tuple[Transitions, Transitions]:
    """All blocks of rows but one of ``of``, and that one."""
    held = th.arange(data.size) // BLOCK % of == number
    return data.rows(th.nonzero(~held).flatten()), data.rows(th.nonzero(held).flatten())


class Features(nn.Module):
    """
    Inputs of a classifier of transitions.

    :param model: gives the units, and the predictions for residuals
    :param data: rows for the units of states and actions
    :param residuals: whether they are inputs
    """

    def __init__(self, model: DynamicsModel, data: Transitions, residuals: bool) -> None:
        super().__init__()
        begun = th.cat([data.observations, data.actions], dim=-1)
        self.mean, self.std = begun.mean(0), begun.std(0)
        self.model, self.residuals = model, residuals

    @th.no_grad()
    def forward(self, rows: Transitions, following: th.Tensor) -> th.Tensor:
        """Inputs ``[B, D]``: states and actions in unit scale, outcomes and, if asked for, residuals."""
        begun = (th.cat([rows.observations, rows.actions], dim=-1) - self.mean) / self.std
        outcomes = self.model.targets(rows._replace(next_observations=following))[:, 1:]
        residuals = [th.asinh(self.noise(rows, outcomes))] if self.residuals else []
        return th.cat([begun, outcomes, *residuals], dim=-1)

    def noise(self, rows: Transitions, outcomes: th.Tensor) -> th.Tensor:
        """Outcomes ``[B, O]`` in units of the noise of the members' mixture, which is that of its moments."""
        mean, log_var = (part[..., 1:] for part in self.model(rows.observations, rows.actions))
        variance = (log_var.exp() + (mean - mean.mean(0)).square()).mean(0)
        return (outcomes - mean.mean(0)) / variance.sqrt()


class FirstMember(Features):
    """With residuals of the first member."""

    def noise(self, rows: Transitions, outcomes: th.Tensor) -> th.Tensor:
        """Outcomes ``[B, O]`` in units of its noise."""
        mean, log_var = (part[0, :, 1:] for part in self.model(rows.observations, rows.actions))
        return (outcomes - mean) * log_var.mul(-0.5).exp()


def fresh_accuracy(features: Features, outcomes: Outcomes, train: Transitions, test: Transitions, seed: int) -> float:
    """
    The best held-out accuracy of a classifier that is trained until it stops improving.

    :param features: its inputs
    :param outcomes: draws the model's outcomes
    :param train: training rows, with new outcomes for each minibatch
    :param test: held-out rows
    :param seed: of the classifier and its minibatches
    """
    generator = th.Generator().manual_seed(seed)
    th.manual_seed(seed)
    n_inputs = features(test.rows(th.arange(1)), test.next_observations[:1]).shape[1]
    network = nn.Sequential(nn.Linear(n_inputs, WIDTH), nn.SiLU(), nn.Linear(WIDTH, WIDTH), nn.SiLU(), nn.Linear(WIDTH, 1))
    optimizer = th.optim.AdamW(network.parameters(), lr=1e-3, weight_decay=1e-3)
    real, made = features(test, test.next_observations), features(test, outcomes(test))
    best, best_at = 0.0, 0
    for step in range(1, MOST_STEPS + 1):
        rows = train.rows(th.randint(train.size, (BATCH,), generator=generator))
        logits = network(th.cat([features(rows, rows.next_observations), features(rows, outcomes(rows))])).squeeze(-1)
        loss = F.softplus(-logits[:BATCH]).mean() + F.softplus(logits[BATCH:]).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if step % LOOK == 0:
            with th.no_grad():
                accuracy = float(accuracies(network(real), network(made)).mean())
            best, best_at = max((best, best_at), (accuracy, step))
            if step - best_at >= PATIENCE * LOOK:
                break
    return best


def sampled(model: DynamicsModel, generator: th.Generator) -> Outcomes:
    """The model's own outcomes, as in rollouts."""

    @th.no_grad()
    def outcomes(rows: Transitions) -> th.Tensor:
        return model.sample(rows.observations, rows.actions, generator)[0]

    return outcomes


def discounted_returns(data: Transitions, gamma: float) -> th.Tensor:
    """Real discounted returns from each row on ``[n]``, in episodes that ended; rows in the order of one env."""
    found, total, known = [], 0.0, False
    for reward, ended, cut in reversed(th.cat([data.rewards, data.terminated, data.truncated], dim=-1).tolist()):
        total = reward + gamma * (0.0 if ended or cut else total)
        known = bool(ended) or (known and not cut)
        found += [total] if known else []
    return th.tensor(found)


def measured(agent: MBPO, train: Transitions, test: Transitions, seed: int) -> dict[str, float]:
    """Errors, classifiers and values of an agent whose model is fitted."""
    model, generator = agent.dynamics, th.Generator().manual_seed(seed)
    with th.no_grad():
        figures = {
            "error": float(model.validation_error(test).mean()),
            "noise": float(model(test.observations, test.actions).log_var[..., 1:].mul(0.5).exp().mean()),
        }
    for name, residuals in (("fresh", False), ("fresh_residuals", True)):
        features = Features(model, train, residuals)
        figures[name] = fresh_accuracy(features, sampled(model, generator), train, test, seed)
    agent.imagine()
    agent.train_policy(POLICY_STEPS)
    with th.no_grad():
        figures["value"] = float(values_of(test.observations, agent._context()).mean())
    return figures


def shapes(model: DynamicsModel, test: Transitions, seed: int) -> dict[str, float]:
    """Fresh accuracies of noise of several shapes about the first member's mean, by half of the rows for the other half."""
    generator = th.Generator().manual_seed(seed)
    with th.no_grad():
        mean, log_var = (part[0] for part in model(test.observations, test.actions))
        z = (model.targets(test) - mean) / log_var.mul(0.5).exp()
    n_targets, root = z.shape[1], th.linalg.cholesky(th.cov(z.T) + 1e-6 * th.eye(z.shape[1]))
    draws: dict[str, Callable[[int], th.Tensor]] = {
        "independent Gaussian": lambda n: th.randn(n, n_targets, generator=generator),
        "real residuals, each dimension apart": lambda n: z.gather(0, th.randint(len(z), (n, n_targets), generator=generator)),
        "Gaussian of their covariance": lambda n: th.randn(n, n_targets, generator=generator) @ root.T,
        "real residuals, all dimensions together": lambda n: z[th.randint(len(z), (n,), generator=generator)],
    }
    train, held = blocks(test, 0, 2)
    features, found = FirstMember(model, train, True), {}
    for name, draw in draws.items():

        @th.no_grad()
        def outcomes(rows: Transitions, draw: Callable[[int], th.Tensor] = draw) -> th.Tensor:
            mean, log_var = (part[0] for part in model(rows.observations, rows.actions))
            made = mean + log_var.mul(0.5).exp() * draw(rows.size)
            states: th.Tensor = model.normalizer.raw_outcomes(made, rows.observations)[0]  # type: ignore[operator, union-attr]
            return states

        found[name] = fresh_accuracy(features, outcomes, train, held, seed)
    return found


def fitted(
    sac: SAC, first: dict[str, Any], arguments: dict[str, Any], train: Transitions, seed: int
) -> tuple[MBPO, dict[str, float]]:
    """An agent whose model continues from the first fit, and the accuracy of its own classifiers, if it has any."""
    agent = MBPO.from_sac(sac, ENV, seed=seed, device="cpu", dynamics_kwargs=MODEL, rollout_batch_size=ROWS, **arguments)
    agent.dynamics.load_state_dict(first["model"])
    agent.dynamics.optimizers()["optimizer"].load_state_dict(first["optimizer"])
    if isinstance(agent.objective, MnMObjective):
        agent.objective.n_fits.fill_(agent.objective.likelihood_fits)
    for _ in range(FITS):
        figures = agent.dynamics.fit(train, th.ones(train.size), agent.objective, agent._context()) or {}
        print({name: round(value, 4) for name, value in figures.items()}, flush=True)
    return agent, {"own": figures["classifier_accuracy"]} if "classifier_accuracy" in figures else {}


def first_fit(sac: SAC, train: Transitions, seed: int) -> dict[str, Any]:
    """The state of a model and of its optimiser after one fit by the likelihood."""
    agent = MBPO.from_sac(sac, ENV, seed=seed, device="cpu", dynamics_kwargs=MODEL)
    agent.dynamics.fit(train, th.ones(train.size), agent.objective, agent._context())
    return {"model": agent.dynamics.state_dict(), "optimizer": agent.dynamics.optimizers()["optimizer"].state_dict()}


def main() -> None:
    """Measure, print, and write a table if a file is given."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--rows", type=int, default=ROWS, help="env steps of SAC")
    parser.add_argument("--only", nargs="+", choices=[*OBJECTIVES, "shapes"], default=[*OBJECTIVES, "shapes"])
    parser.add_argument("--out", type=Path, help="file of the table")
    arguments = parser.parse_args()
    sac = SAC("MlpPolicy", ENV, seed=arguments.seed, learning_starts=1_000, buffer_size=arguments.rows, device="cpu")
    sac.learn(arguments.rows)
    data = MBPO.from_sac(sac, ENV, device="cpu").replay_buffer.transitions()
    train, test = blocks(data, 4, 5)
    returns = discounted_returns(data, sac.gamma)
    paid = {"return_low": float(returns.min()), "return_high": float(returns.max())}
    first = first_fit(sac, train, arguments.seed)
    found: list[dict[str, Any]] = []
    for name, chosen in OBJECTIVES.items():
        if name not in {"likelihood", *arguments.only}:
            continue
        agent, own = fitted(sac, first, chosen, train, arguments.seed)
        if name == "likelihood" and "shapes" in arguments.only:
            of_shapes = [
                {"objective": shape, "fresh_residuals": accuracy}
                for shape, accuracy in shapes(agent.dynamics, test, arguments.seed).items()
            ]
            print(of_shapes, flush=True)
        found.append({"objective": name, **own, **measured(agent, train, test, arguments.seed), **paid})
        found[-1]["ratio"] = found[-1]["error"] / found[0]["error"]
        print(found[-1], flush=True)
    found += of_shapes if "shapes" in arguments.only else []
    rows = [
        {key: f"{row[key]:.4g}" if isinstance(row.get(key), float) else row.get(key, "") for key in COLUMNS} for row in found
    ]
    if arguments.out is not None:
        write_table(arguments.out, COLUMNS, rows)


if __name__ == "__main__":
    main()
