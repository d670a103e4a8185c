"""
Float32 matrix products at full width on AMD processors.

PyTorch multiplies float32 matrices on CPUs with MKL, which keeps to AVX2 on processors that are not Intel's; oneDNN, in the
same build, uses AVX-512. PyTorch takes oneDNN for float32 only where bfloat16 is *permitted* in a product. On processors
without bfloat16 matrix units oneDNN makes no use of that permission and computes in float32; whether it does so here is
tried out once, on numbers (docs/performance.md).
"""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from threading import Lock

import torch as th

FLOAT32_ERROR = 1e-6
"""Relative error of a product of 256 x 256 numbers: 3e-7 in float32, 3e-3 if bfloat16 were used."""


def _is_amd() -> bool:
    """Only where the vendor can be read (Linux); elsewhere PyTorch's own choice stays."""
    cpuinfo = Path("/proc/cpuinfo")
    return cpuinfo.is_file() and "AuthenticAMD" in cpuinfo.read_text(encoding="utf-8", errors="ignore")


class _Permission:
    """The setting belongs to the process: of blocks that overlap in threads the first in sets it, the last out restores it."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._n_inside = 0
        self._before = ""

    def __enter__(self) -> None:
        matmul = th.backends.mkldnn.matmul  # type: ignore[attr-defined]
        with self._lock:
            if self._n_inside == 0:
                self._before, matmul.fp32_precision = matmul.fp32_precision, "bf16"
            self._n_inside += 1

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._n_inside -= 1
            if self._n_inside == 0:
                th.backends.mkldnn.matmul.fp32_precision = self._before  # type: ignore[attr-defined]


_ONEDNN = _Permission()


@cache
def onednn_is_exact() -> bool:
    """
    Whether oneDNN takes over float32 products here and computes them in float32. Decided by the kind of processor and by
    numbers, never by timing, so that a machine always decides the same.
    """
    if not (_is_amd() and th.backends.mkldnn.is_available() and th.backends.cpu.get_cpu_capability() == "AVX512"):
        return False
    if not hasattr(th.backends.mkldnn, "matmul"):  # before PyTorch 2.9
        return False
    generator = th.Generator().manual_seed(0)
    left, right = (th.randn(2, 256, 256, generator=generator) for _ in range(2))
    for one, other in ((left, right), (left[0], right[0]), (left[0].t(), right[0].t())):
        exact = one.double() @ other.double()
        with _ONEDNN:
            error = (one @ other - exact).norm() / exact.norm()
        if float(error) > FLOAT32_ERROR:
            return False
    return True


@contextmanager
def fast_matmul() -> Iterator[None]:
    """Within it float32 products on the CPU take the faster of PyTorch's two libraries; also a decorator."""
    if not onednn_is_exact():
        yield
        return
    with _ONEDNN:
        yield
