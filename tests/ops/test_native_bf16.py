"""The native kernels of bfloat16, where the processor multiplies pairs of them, against the definition in fp64."""

from __future__ import annotations

import pytest
import torch

from semanir_plugin.ops import build_key_semantics, cosine_qkv, key_semantic_attention
from semanir_plugin.ops.common import native_compiler, native_support
from semanir_plugin.ops.cosine_qkv import native_backend as heads
from semanir_plugin.ops.key_semantic_attention import native_backend as attention
from tests.ops.conftest import assert_threads_change_nothing
from tests.ops.test_key_semantic_attention import relative_error
from tests.ops.test_key_semantic_attention_native import check_what_is_not_finite

THERE = native_support.multiplies_bf16(attention.BF16_SOURCE)
pytestmark = pytest.mark.skipif(not THERE, reason="this processor has no products of bfloat16, or there is no compiler")

ROUNDING = 2**-9  # of bfloat16, relative
SHAPES = [
    pytest.param(1, 1, 1, 2, 2, 1, None, id="N1"),
    pytest.param(2, 2, 63, 10, 10, 7, None, id="N63-D10-plain"),
    pytest.param(2, 3, 100, 32, 18, 30, "dense", id="N100-D32-18-dense"),
    pytest.param(2, 3, 256, 16, 16, 64, "table", id="N256-D16-table"),
    pytest.param(1, 2, 144, 62, 34, 20, "table", id="N144-D62-34-table"),
    pytest.param(1, 2, 1024, 30, 30, 512, "table", id="N1024-D30-table"),
]


def numbers(*shape):
    return torch.randn(shape).bfloat16().requires_grad_()


def make_bias(kind, h, n):
    side = {None: 0, "dense": n, "table": 2 * round(n**0.5) - 1}[kind]
    return torch.randn(h, side, side, requires_grad=True) if kind else None


def attend_and_differentiate(backend, dtype, tensors, semantics, bias, scale, grad):
    """Return the result and the gradients, of bfloat16 inputs or of the same numbers with more digits."""
    leaves = [each if dtype is None else each.detach().to(dtype).requires_grad_() for each in tensors]
    if bias is not None:
        leaves.append(bias.detach().to(dtype or torch.float32).requires_grad_())
    q, key, v, *rest = leaves
    bias = rest[0] if rest else None
    out = key_semantic_attention(q, key, v, semantics, bias=bias, scale=scale, backend=backend)
    return out, *torch.autograd.grad(out, leaves, grad.to(out.dtype))


def check(tensors, semantics, bias, scale, most=3):
    grad = torch.randn(tensors[2].shape).bfloat16()
    made = attend_and_differentiate("native", None, tensors, semantics, bias, scale, grad)
    truth = attend_and_differentiate("naive", torch.float64, tensors, semantics, bias, scale, grad)
    assert [each.dtype for each in made] == [torch.bfloat16] * 4 + [torch.float32] * (len(made) - 4)
    for actual, expected in zip(made, truth, strict=True):
        assert relative_error(actual.double(), expected) < most * ROUNDING


@pytest.mark.parametrize(("b", "h", "n", "d", "values", "k", "kind"), SHAPES)
@pytest.mark.parametrize("with_regions", [True, False], ids=["regions", "whole"])
def test_errors_are_those_of_rounding(b, h, n, d, values, k, kind, with_regions):
    regions = torch.randint(0, 2, (1, n)) if with_regions else None
    semantics = build_key_semantics(torch.randn(b, n, 8), k, regions=regions)
    tensors = numbers(b, h, n, d), numbers(b, h, n, d), numbers(b, h, n, values)
    assert attention._computed_in(*tensors) == torch.bfloat16
    check(tensors, semantics, make_bias(kind, h, n), 0.7)


@pytest.mark.parametrize(
    ("scale", "opposite", "most"), [(3.0, False, 3), (60.0, True, 60), (300.0, False, 3), (-3.0, False, 3)]
)
def test_scores_of_any_size(scale, opposite, most):
    # Exponentials below a bound, below a bound that turns out far too high, and below the maximum.
    q, key = (torch.nn.functional.normalize(torch.randn(2, 2, 256, 16), dim=-1) for _ in range(2))
    if opposite:
        q, key = (torch.nn.functional.normalize(each, dim=-1) for each in (0.1 * q - 1, 0.1 * key + 1))
    tensors = [each.bfloat16().requires_grad_() for each in (q, key)] + [numbers(2, 2, 256, 16)]
    # Where keys are nearly alike, little is left of their sum weighted by gradients of scores, whose own sum is 0.
    check(tensors, build_key_semantics(torch.randn(2, 256, 8), 41), None, scale, most)


@pytest.mark.parametrize("scale", [0.7, 300.0])
def test_the_mean_of_one_value_is_that_value(scale):
    tensors, semantics = [numbers(2, 2, 100, 16) for _ in range(3)], build_key_semantics(torch.randn(2, 100, 8), 1)
    out, dq, dk, _ = attend_and_differentiate(
        "native", None, tensors, semantics, None, scale, torch.randn(2, 2, 100, 16)
    )
    chosen = semantics.mask().float().argmax(-1)[:, None, :, None].expand_as(out)
    assert torch.equal(out, tensors[2].gather(2, chosen))
    assert dq.abs().max() < 1e-3 * scale > dk.abs().max()  # sums of fp32 in another order


def test_odd_widths_are_computed_in_fp32():
    q, key, v = numbers(1, 2, 64, 7), numbers(1, 2, 64, 7), numbers(1, 2, 64, 16)
    assert attention._computed_in(q, key, v) == torch.float32
    check((q, key, v), build_key_semantics(torch.randn(1, 64, 8), 9), None, 1.0)


def test_processors_without_such_products_compute_in_fp32(monkeypatch):
    tensors = numbers(1, 2, 64, 8), numbers(1, 2, 64, 8), numbers(1, 2, 64, 8)
    monkeypatch.setattr(native_compiler, "has_instructions", lambda flag: False)
    assert attention._computed_in(*tensors) == torch.float32
    check(tensors, build_key_semantics(torch.randn(1, 64, 8), 9), None, 1.0)


@pytest.mark.parametrize("value", [torch.nan, torch.inf, -torch.inf])
def test_what_is_not_finite_stays_where_it_was_chosen(value):
    check_what_is_not_finite(value, torch.bfloat16, rtol=2 * ROUNDING, atol=0.02)


def test_threads_change_nothing():
    tensors, bias = [numbers(5, 3, 100, 10) for _ in range(3)], make_bias("table", 3, 100)
    semantics, grad = build_key_semantics(torch.randn(5, 100, 8), 9), torch.randn(5, 3, 100, 10)
    given = ("native", None, tensors, semantics, bias, 1.0, grad)
    assert_threads_change_nothing(lambda: attend_and_differentiate(*given))


@pytest.mark.parametrize(("b", "n", "h", "d"), [(2, 50, 3, 16), (1, 70, 6, 30), (2, 9, 2, 7)])
def test_heads_of_bfloat16(b, n, h, d):
    assert native_support.multiplies_bf16(heads.BF16_SOURCE)
    qkv, scale = numbers(b, n, 3 * h * d), (10 * torch.rand(h)).requires_grad_()
    exact = qkv.detach().double().requires_grad_(), scale.detach().double().requires_grad_()
    made, truth = cosine_qkv(qkv, scale, backend="native"), cosine_qkv(*exact, backend="naive")
    assert all(each.dtype == torch.bfloat16 for each in made)
    grads = [torch.randn(each.shape).bfloat16() for each in made]
    made += torch.autograd.grad(made, (qkv, scale), grads)
    truth += torch.autograd.grad(truth, exact, [each.double() for each in grads])
    for actual, expected in zip(made, truth, strict=True):
        assert relative_error(actual.double(), expected) < ROUNDING
