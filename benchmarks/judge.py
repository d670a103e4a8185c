"""
Runs that carry a claim: seeds 10 and up, which no default was chosen by, each run once.

    python benchmarks/judge.py run --study hopper
    python benchmarks/judge.py spoilt --study hopper --seed 12 --reason "the machine ran out of memory"
    python benchmarks/judge.py page
    python benchmarks/judge.py chance

Studies and claims are those of ``judge_plan.py``, which was written before the first run. A run is entered in
``docs/results/judging.csv`` with the commit of the code when it starts; what is finished is not run again. An interrupted one
goes on where it was, under the code that it began with: all runs of a study are best made in one clone, at one commit. What a
defect has spoilt stays in the table, and ``run`` takes the next seed in its place, in all studies of the task. Curves and
settings go to ``docs/results/judging``, as those of ``curves.py`` do. ``page`` writes ``docs/results/judging.md`` from all
that is finished. ``chance`` says how often claims would come out decided if no method differed from another.
"""

import argparse
import sys

import checkout  # noqa: F401
from curves import make_jobs
from curves_sweep import run_all
from judge_chance import chance_lines
from judge_page import write_page
from judge_plan import STUDIES
from judge_runs import OUT, RUNS, TABLE, check_clean, run_entered, spoil, spoilt_seeds, table_of

from sb3_tom.callbacks.tables import read_table


def parse_arguments(words: list[str] | None = None) -> argparse.Namespace:
    """The command line; what is not said is the study's."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    for name in ("page", "chance"):
        commands.add_parser(name)
    run, spoilt = commands.add_parser("run"), commands.add_parser("spoilt")
    for command in (run, spoilt):
        command.add_argument("--study", choices=tuple(STUDIES), required=True)
    run.add_argument("--method", nargs="+", help="some of the study's; default: all of them")
    run.add_argument("--seed", nargs="+", type=int, help="some of those that count; default: all of them")
    run.add_argument("--jobs", type=int, default=2, help="processes at a time")
    run.set_defaults(kwargs={})  # the method's settings
    spoilt.add_argument("--seed", type=int, required=True)
    spoilt.add_argument("--reason", required=True, help="the defect, in words")
    parsed = parser.parse_args(words)
    if parsed.command == "run":
        study = STUDIES[parsed.study]
        rows = read_table(TABLE) if TABLE.exists() else []
        seeds = study.judged(spoilt_seeds(rows, study.task))
        parsed.task, parsed.steps, parsed.eval_freq = [study.task], study.steps, study.eval_freq
        parsed.method, parsed.seed = parsed.method or list(study.methods), parsed.seed or list(seeds)
        for name, came, allowed in (("method", parsed.method, study.methods), ("seed", parsed.seed, seeds)):
            if not set(came) <= set(allowed):
                parser.error(f"--{name} {came} is not allowed with --study {parsed.study}; allowed: {allowed}")
    return parsed


def main() -> int:
    """Run, strike out, or write the page; return the exit code."""
    arguments = parse_arguments()
    if arguments.command == "page":
        write_page(TABLE.parent)
        return 0
    if arguments.command == "chance":
        print("\n".join(chance_lines()))
        return 0
    if arguments.command == "spoilt":
        study = STUDIES[arguments.study]
        with table_of(TABLE) as rows:
            number = spoil(rows, study.task, study.methods, arguments.seed, arguments.reason)
        print(f"{number} runs of seed {arguments.seed} do not count")
        return int(number == 0)
    check_clean()
    return min(run_all(make_jobs(arguments), OUT, RUNS, arguments.jobs, there=run_entered), 1)


if __name__ == "__main__":
    sys.exit(main())
