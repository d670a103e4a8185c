"""
One run of a sweep, in a process of its own, which a fault may end:

    python -m tests.sweep.child ALGO OUT FAULT

It prints the outcome as JSON.
"""

import json
import sys
from dataclasses import asdict
from pathlib import Path

from sb3_tom.sweep.run import run
from tests.sweep.small import small_run


def main() -> None:
    """Train."""
    algo, out, fault = sys.argv[1:]
    spec = small_run(algo, Path(fault))
    print(json.dumps(asdict(run(spec, Path(out) / spec.name))))


if __name__ == "__main__":
    main()
