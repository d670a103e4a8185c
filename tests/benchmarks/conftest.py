"""The benchmarks are scripts beside the package, not a part of it: they import one another by their bare names."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))
