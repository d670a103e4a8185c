"""The section ``growth``: what it fills is a buffer like any other, and what a phase takes grows with the rows alone."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import growth_rows
import pytest
import speed_growth
import torch as th

BENCHMARKS = Path(speed_growth.__file__).parent
SMALL: dict[str, Any] = {
    "dynamics_kwargs": {"n_members": 3, "n_elites": 2, "net_arch": (32,), "steps_per_epoch": 5, "max_epochs": 2},
    "weighter_kwargs": {"discriminator_steps": 25, "q_steps": 20},
    "termination_fn": "learned",
    "termination_kwargs": {"gradient_steps": 5, "first_gradient_steps": 5},
    "rollout_batch_size": 1_000,
    "imagined_capacity": 1_000,
}
CODE = """
import json, sys, warnings
import speed_growth as growth
warnings.simplefilter("ignore")
n_rows = int(sys.argv[1])
agent = growth.make_agent("tom", n_rows, 348, 17, **eval(sys.argv[2]))
_, memory = growth.prepared(agent, n_rows)
print(json.dumps({**memory, "peak": growth.resident("VmHWM")}))
"""


def peak_and_rows(n_rows: int) -> tuple[float, float]:
    """Bytes of a process whose memory goes back as soon as it is free: at its peak above what it needs without rows."""
    own = {"MALLOC_MMAP_THRESHOLD_": str(2**18), "OMP_NUM_THREADS": "1"}
    path = os.pathsep.join([str(BENCHMARKS), str(BENCHMARKS.parent)])
    words = [sys.executable, "-c", CODE, str(n_rows), repr(SMALL)]
    output = subprocess.check_output(words, env=os.environ | own | {"PYTHONPATH": path}, text=True, timeout=500)
    found = json.loads(output.splitlines()[-1])
    assert found["rows"] == n_rows * 4 * (2 * 348 + 17 + 7)
    return found["peak"] - found["before"], found["rows"]


@pytest.mark.expensive
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs Linux, to know what a process holds")
def test_more_rows_take_hardly_more_than_themselves() -> None:
    """A phase of TOM, which looks at all rows more often than anything else does."""
    (small, few), (large, many) = peak_and_rows(40_000), peak_and_rows(120_000)
    assert 0.9 < (large - small) / (many - few) < 1.3


@pytest.mark.filterwarnings("ignore:health/")
def test_a_filled_buffer_is_a_buffer_like_any_other() -> None:
    agent = growth_rows.make_agent("tom", 3_000, 6, 2, **SMALL)
    buffer, rows = agent.replay_buffer, growth_rows.MadeRows(6, 2)
    growth_rows.fill(buffer, rows, 2_500)
    before = buffer.transitions()
    assert before.size == 2_500 and bool((before.observations.std(0) > 0.5).all())
    assert 0 < int(before.terminated.sum()) < 60 and int(before.truncated.sum()) == 2
    growth_rows.add_new(agent, rows)
    data = buffer.transitions()
    assert data.size == 2_500 + growth_rows.NEW and th.equal(data.observations[:2_500], before.observations)
    assert float(data.actions[2_500:].mean()) > float(data.actions[:2_500].mean()) + 0.1
    spent = speed_growth.phase(agent)
    assert spent["all"] > spent["fit"] + spent["weights"] + spent["final pass"] > 0.0
    assert min(spent.values()) > 0.0 and float(buffer.row_weights().std()) > 0.0
