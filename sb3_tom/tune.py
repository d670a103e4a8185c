"""
``python -m sb3_tom.tune``: search hyperparameters with several seeds per trial, in processes that share a storage.

Start one process per free core, on any machine that reaches the storage. A database queues the trials of killed workers again.
``--serve HOST:PORT`` starts a proxy for many workers instead of a search.
"""

import argparse
import warnings
from collections.abc import Sequence

from sb3_tom.zoo.command import register_algorithms


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m sb3_tom.tune", description=__doc__)
    add = parser.add_argument
    add("--storage", required=True, help="FILE.log, grpc://HOST:PORT or a database's URL")
    add("--serve", metavar="HOST:PORT", help="be a proxy for the storage, and search nothing")
    add("--retries", type=int, default=2, help="times that a killed worker's trial is queued again")
    add("--heartbeat", type=int, default=60, help="seconds between a worker's signs of life")
    add("--study-name", help="ALGO_ENV where it is not given")
    add("--n-trials", type=int, default=50, help="of the whole study")
    add("--p-threshold", type=float, default=0.1, help="of the test that ends a trial early")
    add("--algo", default="mbpo_tom", help="name in the zoo")
    add("--env", default="InvertedPendulum-v5")
    add("-n", "--n-timesteps", type=int, default=5_000, help="env steps of a run")
    add("--seeds", type=int, nargs="+", default=[0, 1, 2, 3], help="of the runs of a trial")
    add("--n-evaluations", type=int, default=5, help="of a run")
    add("--eval-episodes", type=int, default=5, help="of an evaluation")
    add("--gym-packages", nargs="+", default=[], metavar="MODULE", help="modules to import, which register environments")
    add("-conf", "--conf-file", help="YAML file in place of the algorithm's own")
    add("--device", default="auto")
    return parser


def main(arguments: Sequence[str] | None = None) -> None:
    """
    Search, and print the best trial; or serve.

    :param arguments: those of the command line; None: this process's
    :raises SystemExit: with a message, for arguments that do not fit
    """
    register_algorithms("tune")
    # These need the zoo: without it, register_algorithms has ended the command
    from optuna.exceptions import ExperimentalWarning
    from rl_zoo3.utils import StoreDict

    from sb3_tom.zoo import runs, search, storages

    parser = _parser()
    parser.add_argument("-params", "--hyperparams", nargs="+", action=StoreDict, default={}, help="fixed hyperparameters")
    given = parser.parse_args(arguments)
    warnings.simplefilter("ignore", ExperimentalWarning)  # tests cover all that is used of it
    try:
        if given.serve:
            storages.serve(given.storage, given.serve)
            return
        runs.import_packages(given.gym_packages)
        storage = storages.open_storage(given.storage, given.retries, given.heartbeat)
        names = ("algo", "env", "n_timesteps", "seeds", "n_evaluations", "eval_episodes", "hyperparams", "device")
        objective = search.Search(**{name: getattr(given, name) for name in names}, config=given.conf_file)
        objective.prepare()
        name = given.study_name or f"{given.algo}_{given.env}"
        study = search.search(objective, storage, name, given.n_trials, given.p_threshold)
    except ValueError as error:
        parser.error(str(error))
    others = ["--gym-packages", *given.gym_packages] if given.gym_packages else []
    others += ["--conf-file", given.conf_file] if given.conf_file else []
    others += ["--device", given.device] if given.device != parser.get_default("device") else []
    print(search.report(study, len(given.seeds), given.storage, others))


if __name__ == "__main__":
    main()
