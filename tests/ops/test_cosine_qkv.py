from __future__ import annotations

import pytest
import torch

from semanir_plugin.ops import cosine_qkv
from semanir_plugin.ops.common import native_support
from semanir_plugin.ops.cosine_qkv import choose_backend, native_backend
from tests.ops.conftest import assert_threads_change_nothing

NO_NATIVE = native_support.why_not(native_backend.SOURCE, torch.device("cpu"), torch.float32)
needs_native = pytest.mark.skipif(NO_NATIVE is not None, reason=str(NO_NATIVE))
BOTH = ["naive", "torch", pytest.param("native", marks=needs_native)]
# B, N, H, D
SHAPES = [(2, 63, 1, 10), (1, 100, 6, 30), (3, 64, 3, 16), (2, 65, 2, 33), (1, 1, 4, 1), (5, 129, 1, 64)]


def inputs(b, n, heads, d, dtype=torch.float32):
    qkv = torch.randn(b, n, 3 * heads * d, dtype=dtype, requires_grad=True)
    return qkv, torch.rand(heads, dtype=dtype).add(0.5).requires_grad_()


def results(backend, qkv, scale, function=cosine_qkv):
    """Return q, k, v and the gradients of a loss on all of them."""
    out = function(qkv, scale, backend=backend)
    total = sum((each * each.detach().cos()).sum() * factor for each, factor in zip(out, (1, 2, 3), strict=True))
    return *out, *torch.autograd.grad(total, (qkv, scale))


def compare(actual, expected):
    for each, truth in zip(actual, expected, strict=True):
        torch.testing.assert_close(each, truth, rtol=1e-5, atol=2e-6 * truth.detach().abs().max().clamp_min(1).item())


def test_naive_against_a_loop():
    qkv, scale = inputs(2, 5, 3, 4, torch.float64)
    q, k, v = cosine_qkv(qkv, scale, backend="naive")
    for b, n, h in ((0, 0, 0), (1, 4, 2), (1, 2, 1)):
        parts = [qkv[b, n, start + 4 * h : start + 4 * h + 4] for start in (0, 12, 24)]
        torch.testing.assert_close(q[b, h, n], scale[h] * parts[0] / parts[0].square().sum().sqrt())
        torch.testing.assert_close(k[b, h, n], parts[1] / parts[1].square().sum().sqrt())
        torch.testing.assert_close(v[b, h, n], parts[2])


def test_gradcheck():
    torch.autograd.gradcheck(cosine_qkv, inputs(2, 3, 2, 5, torch.float64))


@needs_native
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_native_equals_naive_in_output_and_gradients(shape, target):
    arguments = inputs(*shape)
    compare(results("native", *arguments), results("naive", *arguments))


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_pytorchs_operators_equal_naive_in_output_and_gradients(shape):
    arguments = inputs(*shape)
    compare(results("torch", *arguments), results("naive", *arguments))


@needs_native
def test_any_strides():
    compare(*(strided_results(each) for each in ("native", "naive")))


def strided_results(backend, device="cpu"):
    """As `results`, of arguments and gradients that are not contiguous."""
    b, n, heads, d = 2, 70, 3, 10
    torch.manual_seed(1)
    base = torch.randn(n, b, 3 * heads * d).to(device).requires_grad_()
    scale = torch.rand(2 * heads).to(device).requires_grad_()
    out = cosine_qkv(base.transpose(0, 1), scale[::2], backend=backend)
    gradients = [torch.randn(n, heads, b, d).permute(2, 1, 0, 3) for _ in range(2)]  # rows stay whole
    gradients.append(torch.linspace(0, 1, d * n).view(d, n).t().expand(b, heads, n, d))  # not even those
    return *out, *torch.autograd.grad(out, (base, scale), [each.to(device) for each in gradients])


@needs_native
def test_very_short_very_long_and_no_numbers():
    compare_extremes("native")


def compare_extremes(backend, device="cpu"):
    values = torch.tensor([0.0, 1e-30, 1e-13, 1e-12, 1e-10, 1e15, float("inf"), float("nan")])
    qkv = (values[:, None] * torch.randn(3 * 2 * 8).sign()).unsqueeze(0).to(device).requires_grad_()
    scale = torch.ones(2, device=device, requires_grad=True)
    finite = slice(0, 6)
    fast, naive = (results(each, qkv, scale) for each in (backend, "naive"))
    for each, truth in zip(fast[:3], naive[:3], strict=True):
        torch.testing.assert_close(each, truth, equal_nan=True)
    torch.testing.assert_close(fast[3][:, finite], naive[3][:, finite], rtol=1e-4, atol=0)
    assert all(each.isnan().all() for each in (fast[3][:, -1, :32], fast[4], naive[4]))


@pytest.mark.parametrize("backend", BOTH)
def test_an_empty_batch_has_gradients(backend):
    q, k, v, dqkv, dscale = results(backend, *inputs(0, 4, 2, 3))
    assert q.shape == k.shape == v.shape == (0, 2, 4, 3)
    assert dqkv.shape == (0, 4, 18)
    assert dscale.tolist() == [0, 0]


@needs_native
def test_only_some_results_are_used():
    qkv, scale = inputs(2, 9, 2, 6)
    for index in range(3):
        totals = [cosine_qkv(qkv, scale, backend=each)[index].cos().sum() for each in ("native", "naive")]
        gradients = [torch.autograd.grad(each, (qkv, scale), allow_unused=True) for each in totals]
        torch.testing.assert_close(gradients[0][0], gradients[1][0])
        expected = torch.zeros(2) if gradients[1][1] is None else gradients[1][1]
        torch.testing.assert_close(gradients[0][1], expected)


@needs_native
def test_threads_change_nothing():
    arguments = inputs(3, 150, 3, 10)
    assert_threads_change_nothing(lambda: results("native", *arguments))


@needs_native
def test_registered_as_pytorch_wants_it():
    torch.library.opcheck(torch.ops.semanir_plugin.cosine_qkv.default, (*inputs(2, 20, 2, 6), "native"))


@pytest.mark.parametrize("backend", BOTH)
def test_compiles_whole(backend):
    torch._dynamo.reset()
    compiled = torch.compile(cosine_qkv, fullgraph=True, backend="aot_eager")
    for b, n in ((2, 20), (3, 25)):  # the second time sizes are symbols
        arguments = inputs(b, n, 2, 6)
        compare(results(backend, *arguments, compiled), results(backend, *arguments))


def test_half_precision_and_double_stay_themselves():
    qkv, scale = inputs(2, 20, 2, 6)
    expected = cosine_qkv(qkv, scale)
    for dtype, tolerance in ((torch.bfloat16, 2e-2), (torch.float16, 2e-3), (torch.float64, 1e-5)):
        for each, truth in zip(cosine_qkv(qkv.to(dtype), scale), expected, strict=True):
            assert each.dtype == dtype
            torch.testing.assert_close(each.float(), truth, rtol=tolerance, atol=tolerance)


def test_the_choice_is_explained(monkeypatch):
    qkv, scale = torch.zeros(1, 4, 12), torch.ones(2)
    assert choose_backend(qkv, scale)[0] == ("torch" if NO_NATIVE else "native")
    assert choose_backend(qkv.bfloat16(), scale)[0] == choose_backend(qkv, scale)[0]
    name, reason = choose_backend(qkv.double(), scale)
    assert (name, "float64" in reason or reason == NO_NATIVE) == ("torch", True)
    monkeypatch.setattr(native_support, "why_not", lambda *_: "no compiler, say")
    assert choose_backend(qkv, scale) == ("torch", "no compiler, say")
    name, reason = choose_backend(qkv.to("meta"), scale)
    assert (name, "meta" in reason or "triton is not installed" in reason) == ("torch", True)


@needs_native
def test_native_says_what_it_does_not_take():
    with pytest.raises(ValueError, match=r"backend 'native' cannot run here: .*float64"):
        cosine_qkv(torch.zeros(1, 3, 12).double(), torch.ones(2).double(), backend="native")
