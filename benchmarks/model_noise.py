"""
Effect of the kind of noise on the smooth ensemble, on rows of a run of DHMBPO: errors on held-out episodes.

    python benchmarks/model_noise.py --env Hopper-v5 InvertedDoublePendulum-v5 --seed 0 1 --out docs/results/model_noise.csv

One line per env, seed and kind, each a first fit with the defaults' budget. In unit scale, over all dimensions: the mean
squared error of the ensemble's mean, the negative log-likelihood (without its constant) of its members, and in *calm* rows,
ten steps or more before an episode ends, the squared error and the mean predicted variance, the noise in a policy's rollouts.
"""

import argparse
from pathlib import Path
from typing import Any

import checkout  # noqa: F401
import torch as th

from sb3_tom import DHMBPO, Context, Transitions
from sb3_tom.callbacks.tables import write_table
from sb3_tom.dynamics.gaussian import log_density
from sb3_tom.dynamics.smooth import SmoothEnsemble
from sb3_tom.objectives.likelihood import LikelihoodObjective

ROWS, CALM, BLOCK = 4_000, 10, 200
KINDS: dict[str, dict[str, Any]] = {
    "constant (DHMBPO)": {"homoscedastic": True, "beta_nll": 0.0, "weight_decay": 1e-3},
    "constant, decay 1e-5": {"homoscedastic": True, "beta_nll": 0.0},
    "of the place, likelihood": {"beta_nll": 0.0},
    "of the place, beta 0.5 (default)": {},
    "of the place, beta 1": {"beta_nll": 1.0},
}


def calm(data: Transitions) -> th.Tensor:
    """
    Which rows come ten steps or more before an episode ends.

    :param data: N rows in the order of one env
    :return: bool ``[N]``
    """
    ends = (data.terminated[:, 0] > 0).long()
    following = th.nn.functional.pad(ends, (0, CALM)).unfold(0, CALM, 1)[: data.size]
    return following.sum(1) == 0


def measure(data: Transitions, kind: dict[str, Any], seed: int) -> dict[str, float]:
    """
    Fit to four of five blocks of rows and evaluate on the others.

    :param data: N rows in the order of one env
    :param kind: arguments of the ensemble
    :param seed: of its parameters and minibatches
    """
    th.manual_seed(seed)
    model = SmoothEnsemble(**kind)
    model.build(data.observations.shape[1], data.actions.shape[1])
    held = th.arange(data.size) // BLOCK % 5 == 4
    train, new = data.rows(th.nonzero(~held).flatten()), data.rows(th.nonzero(held).flatten())
    context = Context(generator=th.Generator().manual_seed(seed))
    model.fit(train, th.ones(train.size), LikelihoodObjective(), context)
    with th.no_grad():
        mean, log_var = model(new.observations, new.actions)
        targets = model.targets(new)
    error, is_calm = (mean.mean(0) - targets).square(), calm(data)[held]
    return {
        "error": float(error.mean()),
        "negative_log_likelihood": -float(log_density(targets, mean, log_var).mean()),
        "calm_error": float(error[is_calm].mean()),
        "calm_variance": float(log_var[:, is_calm].exp().mean()),
        "calm_share": float(is_calm.float().mean()),
    }


def main() -> None:
    """Measure, print, and write a table if a file is given."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--env", nargs="+", default=["Hopper-v5"])
    parser.add_argument("--seed", type=int, nargs="+", default=[0])
    parser.add_argument("--rows", type=int, default=ROWS, help="env steps of the run")
    parser.add_argument("--out", type=Path, help="file of the table")
    arguments = parser.parse_args()
    found: list[dict[str, Any]] = []
    for env in arguments.env:
        for seed in arguments.seed:
            agent = DHMBPO("MlpPolicy", env, seed=seed, learning_starts=arguments.rows // 5, device="cpu")
            data = agent.learn(arguments.rows).replay_buffer.transitions()
            for name, kind in KINDS.items():
                found.append({"env": env, "seed": seed, "noise": name, **measure(data, kind, seed)})
                print(
                    {key: round(value, 5) if isinstance(value, float) else value for key, value in found[-1].items()},
                    flush=True,
                )
    if arguments.out is not None:
        write_table(arguments.out, tuple(found[0]), found)


if __name__ == "__main__":
    main()
