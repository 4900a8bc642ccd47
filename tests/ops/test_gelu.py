from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from semanir_plugin.blocks.feed_forward import GELU
from semanir_plugin.ops.common import native_support
from semanir_plugin.ops.gelu import choose_backend, gelu, native_backend
from tests.ops.conftest import assert_threads_change_nothing

NO_NATIVE = native_support.why_not(native_backend.SOURCE, torch.device("cpu"), torch.float32)
needs_native = pytest.mark.skipif(NO_NATIVE is not None, reason=str(NO_NATIVE))
NO_BF16 = NO_NATIVE is not None or not native_support.multiplies_bf16(native_backend.BF16_SOURCE)
needs_bf16 = pytest.mark.skipif(NO_BF16, reason="the processor does not multiply bfloat16")


def results(backend, x, grad):
    x = x.clone().requires_grad_()
    out = gelu(x, backend=backend)
    return out.detach(), torch.autograd.grad(out, x, grad)[0]


def test_naive_against_a_sum():
    # The share of the normal distribution below x, by the trapezium rule.
    steps = torch.linspace(-12, 1.25, 400_001, dtype=torch.float64)
    share = torch.trapezoid(torch.exp(-(steps**2) / 2), steps) / (2 * torch.pi) ** 0.5
    torch.testing.assert_close(gelu(steps[-1], backend="naive"), 1.25 * share)


@needs_native
def test_native_is_as_near_as_it_says_everywhere(target):
    x = torch.cat(
        [torch.linspace(-9, 9, 300_007), torch.tensor([0.0, -0.0, 1e-30, -1e-30, 5.5, -5.5, 1e4, -1e4, 1e30])]
    )
    ones = torch.ones_like(x)
    truth = [each.float() for each in results("naive", x.double(), ones.double())]
    out, slope = results("native", x, ones)
    torch.testing.assert_close(out, truth[0], rtol=2e-7, atol=0.9e-6)
    torch.testing.assert_close(slope, truth[1], rtol=0, atol=1e-6)
    assert (out[x < -5.5] == 0).all()


@pytest.mark.parametrize("backend", ["torch", pytest.param("native", marks=needs_native)])
@pytest.mark.parametrize("shape", [(), (1,), (15,), (17,), (3, 5, 7), (2, 4097), (5, 16384), (0, 3)], ids=str)
def test_every_backend_equals_naive_in_output_and_gradients(backend, shape):
    x, grad = 3 * torch.randn(shape), torch.randn(shape)
    expected = [each.float() for each in results("naive", x.double(), grad.double())]
    for actual, truth in zip(results(backend, x, grad), expected, strict=True):
        assert actual.shape == shape
        torch.testing.assert_close(actual, truth, rtol=2e-6, atol=5e-6)


@needs_native
def test_what_is_no_number_stays_where_it_is(target):
    x = torch.randn(40)
    x[[3, 20, 39]] = torch.tensor([float("nan"), float("inf"), -float("inf")])
    out, slope = results("native", x, torch.ones(40))
    assert (out[3].isnan(), out[20], out[39].nan_to_num(0)) == (True, float("inf"), 0)
    assert slope.isnan().nonzero().flatten().tolist() == [3]
    others = [i for i in range(40) if i not in (3, 20, 39)]
    assert torch.equal(out[others], results("native", x.nan_to_num(0, 0, 0), torch.ones(40))[0][others])


@needs_bf16
def test_bfloat16_is_rounded_once():
    x, grad = (3 * torch.randn(5000)).bfloat16(), torch.randn(5000).bfloat16()
    for actual, truth in zip(results("native", x, grad), results("naive", x.double(), grad.double()), strict=True):
        assert actual.dtype == torch.bfloat16
        assert ((actual.double() - truth).abs() <= 2.0**-8 * truth.abs() + 5e-6).all()


@needs_native
def test_threads_change_nothing():
    x, grad = torch.randn(100_000), torch.randn(100_000)
    assert_threads_change_nothing(lambda: results("native", x, grad))


@needs_native
def test_differentiable_twice():
    x, found = torch.randn(7, 5, requires_grad=True), []
    for backend in ("native", "torch"):
        (first,) = torch.autograd.grad(gelu(x, backend=backend).pow(3).sum(), x, create_graph=True)
        found.append(torch.autograd.grad(first.square().sum(), x))
    torch.testing.assert_close(*found, rtol=1e-4, atol=1e-4)


def test_the_choice_is_explained(monkeypatch):
    x = torch.zeros(4, 6)
    assert choose_backend(x)[0] == ("torch" if NO_NATIVE else "native")
    for other, word in ((x.double(), "float64"), (x.half(), "float16"), (x.to("meta"), "CPUs"), (x.T, "contiguous")):
        name, reason = choose_backend(other)
        assert (name, word in reason or reason == NO_NATIVE) == ("torch", True)
    monkeypatch.setattr(native_support, "why_not", lambda *_: "no compiler, say")
    assert choose_backend(x) == ("torch", "no compiler, say")


def test_wrong_arguments_are_named():
    with pytest.raises(ValueError, match="must be one of"):
        gelu(torch.zeros(3), backend="fast")
    with pytest.raises(ValueError, match=r"'native' cannot run here: .*float64"):
        gelu(torch.zeros(3).double(), backend="native")


def test_layers_are_pytorchs_to_everyone_else():
    layer, x = GELU(), torch.randn(3, 5)
    assert isinstance(layer, torch.nn.GELU)
    assert torch.equal(GELU("tanh")(x), F.gelu(x, approximate="tanh"))
    torch.testing.assert_close(layer(x), F.gelu(x), rtol=1e-5, atol=2e-6)
    torch.testing.assert_close(layer(x.T), F.gelu(x.T))
    compiled = torch.compile(layer, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(x), F.gelu(x))
    assert "gelu" in str(torch.export.export(layer, (x,)).graph)
    assert "gelu" in str(torch.jit.trace(layer, x).inlined_graph)
    torch.testing.assert_close(torch.vmap(layer)(x), F.gelu(x))
