"""
Float32 matrix products at full width on AMD processors.

PyTorch multiplies float32 matrices on CPUs with MKL, which uses AVX2 only on processors that are not Intel's; oneDNN, in the
same build, uses AVX-512. PyTorch uses oneDNN for float32 only if bfloat16 is *permitted* in a product. On processors without
bfloat16 matrix units oneDNN ignores that permission and computes in float32; whether it does so here is tested once, on a
product (docs/performance.md).
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
    """Whether the processor is AMD's; False where the vendor cannot be read (not Linux), so that nothing changes there."""
    cpuinfo = Path("/proc/cpuinfo")
    return cpuinfo.is_file() and "AuthenticAMD" in cpuinfo.read_text(encoding="utf-8", errors="ignore")


class _Permission:
    """Sets the permission. It is global: of overlapping blocks in threads the first in sets it, the last out restores it."""

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
    Whether oneDNN can be used here and computes float32 products in float32. Decided by the processor and by the error of a
    product, never by timing, so that the answer is always the same on a machine.
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
    """Within this context float32 products on the CPU use the faster of PyTorch's two libraries; also a decorator."""
    if not onednn_is_exact():
        yield
        return
    with _ONEDNN:
        yield
