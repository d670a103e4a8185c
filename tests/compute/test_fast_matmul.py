"""The faster library must give float32's accuracy, leave the user's setting alone, and never be trusted untested."""

from threading import Event, Thread
from types import SimpleNamespace

import pytest
import torch as th

from sb3_tom.compute import fast_matmul as module
from sb3_tom.compute.fast_matmul import fast_matmul, onednn_is_exact


def relative_error(left: th.Tensor, right: th.Tensor) -> float:
    exact = left.double() @ right.double()
    return float((left @ right - exact).norm() / exact.norm())


@pytest.mark.parametrize("shape", [(256, 256), (7, 256, 200), (256, 14), (3, 5)])
def test_products_have_float32_accuracy(shape: tuple[int, ...]) -> None:
    left = th.randn(shape)
    right = th.randn(*shape[:-2], shape[-1], 17)
    with fast_matmul():
        assert relative_error(left, right) < 1e-6


def test_the_setting_is_restored_also_after_an_error() -> None:
    before = th.backends.mkldnn.matmul.fp32_precision
    with pytest.raises(RuntimeError, match="inside"), fast_matmul():
        raise RuntimeError("inside")
    assert th.backends.mkldnn.matmul.fp32_precision == before


@pytest.mark.parametrize("first_out", [0, 1], ids=["first in, first out", "first in, last out"])
def test_two_agents_in_threads_leave_the_setting_as_it_was(first_out: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Blocks overlap; while one of them is left the setting holds."""
    monkeypatch.setattr(module, "onednn_is_exact", lambda: True)
    setting = SimpleNamespace(fp32_precision="ieee")
    monkeypatch.setattr(th.backends, "mkldnn", SimpleNamespace(matmul=setting))
    entered, leave = ([Event(), Event()] for _ in range(2))

    def agent(number: int) -> None:
        with fast_matmul():
            entered[number].set()
            leave[number].wait(30)

    threads = [Thread(target=agent, args=(number,)) for number in range(2)]
    for thread, inside in zip(threads, entered, strict=True):
        thread.start()
        assert inside.wait(30)
    seen = [setting.fp32_precision]
    for number in (first_out, 1 - first_out):
        leave[number].set()
        threads[number].join(30)
        seen.append(setting.fp32_precision)
    assert seen == ["bf16", "bf16", "ieee"]


def test_many_threads_leave_the_setting_as_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "onednn_is_exact", lambda: True)
    setting = SimpleNamespace(fp32_precision="none")
    monkeypatch.setattr(th.backends, "mkldnn", SimpleNamespace(matmul=setting))
    seen = set()

    def work() -> None:
        for _ in range(300):
            with fast_matmul(), fast_matmul():
                seen.add(setting.fp32_precision)

    threads = [Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert seen == {"bf16"} and setting.fp32_precision == "none"


def test_another_processor_keeps_pytorchs_choice(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_is_amd", lambda: False)
    onednn_is_exact.cache_clear()
    try:
        before = th.backends.mkldnn.matmul.fp32_precision
        with fast_matmul():
            assert th.backends.mkldnn.matmul.fp32_precision == before
    finally:
        onednn_is_exact.cache_clear()


def test_an_older_pytorch_without_the_setting_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """SB3 needs 2.8, the setting came with 2.9."""
    monkeypatch.setattr(module, "_is_amd", lambda: True)
    monkeypatch.setattr(th.backends.cpu, "get_cpu_capability", lambda: "AVX512")
    monkeypatch.setattr(th.backends, "mkldnn", SimpleNamespace(is_available=lambda: True))
    onednn_is_exact.cache_clear()
    try:
        with fast_matmul():
            assert relative_error(th.randn(5, 5), th.randn(5, 5)) < 1e-6
    finally:
        onednn_is_exact.cache_clear()


def test_an_inexact_library_is_not_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_is_amd", lambda: True)
    monkeypatch.setattr(module, "FLOAT32_ERROR", 0.0)
    onednn_is_exact.cache_clear()
    try:
        assert not onednn_is_exact()
    finally:
        onednn_is_exact.cache_clear()
