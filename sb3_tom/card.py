"""
``python -m sb3_tom.card``: make a folder of a run for upload to the Hugging Face hub.

It has the agent, its settings and a model card with results measured on a new environment. Nothing is sent anywhere;
``hf upload ORGANIZATION/ALGO-ENV FOLDER`` does that. Zips and statistics are pickles: use runs that you trust.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

from sb3_tom.zoo.command import register_algorithms


def _parser() -> argparse.ArgumentParser:
    usage = "python -m sb3_tom.card --folder RUN --out FOLDER [-n EPISODES] [--best] [...]; --help says more"
    parser = argparse.ArgumentParser(prog="python -m sb3_tom.card", usage=usage, description=__doc__)
    add = parser.add_argument
    add("--folder", type=Path, required=True, help="of a run: logs/mbpo_tom/Hopper-v5_1, or that of a run of a sweep")
    add("--out", type=Path, required=True, help="folder that is written; what is there is never overwritten")
    add("--algo", help="the RL Zoo's name; default: as the run's args.yml says")
    add("--env", help="id of the environment; default: the same")
    add("--best", action="store_true", help="best_model.zip in place of the last agent; VecNormalize as it was last")
    add("-n", "--n-eval-episodes", type=int, default=10, help="default: 10")
    add("--seed", type=int, default=0, help="of the evaluation; default: 0")
    add("--stochastic", action="store_true", help="evaluate actions that are drawn, in place of the mean")
    add("--device", default="cpu", help="for PyTorch; default: cpu")
    add("--gym-packages", nargs="+", default=[], metavar="MODULE", help="modules to import, which register environments")
    return parser


def main(arguments: Sequence[str] | None = None) -> None:
    """
    Measure and write.

    :param arguments: those of the command line; None: this process's
    :raises SystemExit: with a message, for arguments that do not fit
    """
    register_algorithms("card")
    parser = _parser()
    given = parser.parse_args(arguments)
    from sb3_tom.zoo import runs, saved_run, upload

    try:
        upload.check_output_folder(given.out)
        runs.import_packages(given.gym_packages)
        run = saved_run.read_saved_run(given.folder, given.algo, given.env, given.best)
        measured = upload.measure(run, given.n_eval_episodes, given.seed, not given.stochastic, given.device)
        upload.write_upload(run, measured, given.out)
    except ImportError as error:
        parser.error(f"{error}; python -m sb3_tom.card needs the RL Zoo: pip install 'sb3_tom[zoo]'")
    except (ValueError, OSError) as error:
        parser.error(str(error))
    print(f"{given.out}: {measured.summary} of {run.algo} on {run.env}")


if __name__ == "__main__":
    main()
