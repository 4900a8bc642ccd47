"""Test the native kernel's own parts: its lists, its two ways of exponentials, other processors, threads."""

from __future__ import annotations

import pytest
import torch

from semanir_plugin.ops import KeySemantics, build_key_semantics, cosine_qkv, key_semantic_attention
from semanir_plugin.ops.common import native_support
from semanir_plugin.ops.key_semantic_attention import native_backend
from tests.ops.conftest import LANES
from tests.ops.test_key_semantic_attention import NO_NATIVE, compare, inputs

pytestmark = pytest.mark.skipif(NO_NATIVE is not None, reason=str(NO_NATIVE))


def test_narrower_vectors_are_right_too(target):
    if target:
        assert native_support.load(native_backend.SOURCE).lane_count() == LANES[target]
    for n, d, k, table in ((63, 10, 7, False), (64, 30, 20, True), (144, 33, 50, True), (256, 16, 64, True)):
        compare("native", *inputs(2, 2, n, d, k, table=table, with_regions=True))


@pytest.mark.parametrize("n", [1, 63, 64, 100, 144, 256])
def test_lists_are_the_mask(target, n):
    mask = build_key_semantics(torch.randn(2, n, 6), max(1, n // 5), regions=torch.randint(0, 2, (1, n))).mask()
    counts, keys, bits = native_backend.list_keys(mask)
    lanes = torch.arange(native_support.load(native_backend.SOURCE).group_size())
    rows = {tuple(row.nonzero().flatten().tolist()) for row in mask.flatten(0, 1)}
    found = []
    for b, group in torch.cartesian_prod(torch.arange(2), torch.arange(counts.shape[1])).tolist():
        listed, words = keys[b, group, : counts[b, group]], bits[b, group]
        assert listed.tolist() == sorted(set(listed.tolist()))
        assert (words[: len(listed)] != 0).all()
        assert (words[len(listed) : len(listed) + -len(listed) % native_backend._ask("list_step")] == 0).all()
        chosen = (words[: len(listed), None] >> lanes) & 1
        found += [tuple(listed[row.bool()].tolist()) for row in chosen.T if row.any()]
    assert len(found) == 2 * n
    assert set(found) == rows


def test_lists_are_made_once_per_dictionary(monkeypatch):
    made, list_keys = [], native_backend.list_keys
    monkeypatch.setattr(native_backend, "list_keys", lambda mask: made.append(mask) or list_keys(mask))
    q, key, v, semantics, _ = inputs(1, 1, 20, 4, 5)
    for _ in range(3):
        key_semantic_attention(q, key, v, semantics, backend="native").sum().backward()
    assert len(made) == 1


@pytest.mark.parametrize("table", [True, False], ids=["table", "plain"])
@pytest.mark.parametrize(("scale", "opposite"), [(3, False), (60, True), (300, False)])
def test_scores_of_any_size(target, scale, opposite, table):
    # Exponentials below a bound, below a bound that turns out far too high, and below the maximum.
    q, key, v, semantics, bias = inputs(2, 2, 256, 16, 40, table=True, with_bias=table)
    if opposite:
        q, key = 0.1 * q - 1, 0.1 * key + 1
    q, key = (torch.nn.functional.normalize(each.detach(), dim=-1) for each in (q, key))
    leaves = [(q * scale).requires_grad_(), key.requires_grad_(), v]
    results = []
    for backend, dtype in (("naive", torch.float64), ("native", torch.float32)):
        given = [each.to(dtype) for each in leaves]
        added = None if bias is None else bias.to(dtype)
        out = key_semantic_attention(*given, semantics, bias=added, scale=1.0, backend=backend)
        results.append((out, *torch.autograd.grad(out.square().sum(), leaves)))
    for actual, expected in zip(results[1], results[0], strict=True):
        assert (actual - expected).norm() / expected.norm() < 2e-5 * max(1, scale / 10)


@pytest.mark.parametrize("value", [torch.nan, torch.inf, -torch.inf])
def test_what_is_not_finite_stays_where_it_was_chosen(target, value):
    check_what_is_not_finite(value, torch.float32, rtol=1.3e-6, atol=1e-5)


def check_what_is_not_finite(value, dtype, **tolerance):
    """Compare results and gradients with those of finite rows, but for the rows that one not finite reaches."""
    n = 64
    mask = torch.zeros(1, n, n, dtype=torch.bool).scatter(2, torch.rand(1, n, n).topk(2).indices, True)
    mask[0, :, 5] = False
    mask |= (torch.arange(n) == 6) & ~mask.any(-1, keepdim=True)
    mask[0, 20:22, 7] = True
    q, key, v, grad = (torch.randn(1, 1, n, 12).to(dtype) for _ in range(4))
    clean = [each.clone() for each in (q, key, v, grad)]
    key[0, 0, 5], v[0, 0, 5] = value, value  # chosen by none
    key[0, 0, 7], q[0, 0, 9], grad[0, 0, 11] = torch.nan, value, value
    results = []
    for *tensors, g in ((q, key, v, grad), clean):
        leaves = [each.requires_grad_() for each in tensors]
        out = key_semantic_attention(*leaves, KeySemantics(n, mask=mask), backend="native")
        results.append((out, *torch.autograd.grad(out, leaves, g)))
    readers = mask[0, :, 7].clone()
    readers[9] = True
    queries = readers.clone()
    queries[11] = True
    keys = mask[0, queries].any(0)
    assert keys.sum() < n / 2
    for actual, expected, touched in zip(*results, (readers, queries, keys, keys), strict=True):
        torch.testing.assert_close(actual[0, 0, ~touched], expected[0, 0, ~touched], **tolerance)
        assert (~actual[0, 0, touched].isfinite()).any(-1).all()


def test_the_default_dtype_changes_nothing():
    torch.manual_seed(0)
    q, key, v, semantics, bias = inputs(3, 2, 100, 10, 9, table=True)
    features, regions = torch.randn(3, 100, 8), torch.randint(0, 2, (1, 100))
    qkv, scale = torch.randn(3, 50, 60, requires_grad=True), torch.rand(2, requires_grad=True)
    results = []
    for dtype in (torch.float32, torch.float64, torch.bfloat16):
        torch.set_default_dtype(dtype)
        try:
            out = key_semantic_attention(q, key, v, semantics, bias=bias, backend="native")
            heads = cosine_qkv(qkv, scale, backend="native")
            results.append(
                (
                    build_key_semantics(features, 7, regions=regions, backend="native").mask(),
                    *(out, *torch.autograd.grad(out, (q, key, v, bias), out.detach())),
                    *(*heads, *torch.autograd.grad(heads, (qkv, scale), [each.detach() for each in heads])),
                )
            )
        finally:
            torch.set_default_dtype(torch.float32)
    for result in results[1:]:
        assert all(torch.equal(actual, expected) for actual, expected in zip(result, results[0], strict=True))


def test_threads_change_nothing():
    q, key, v, semantics, bias = inputs(5, 3, 100, 10, 9, table=True)
    threads, results = torch.get_num_threads(), []
    try:
        for count in (1, 2, 7):
            torch.set_num_threads(count)
            out = key_semantic_attention(q, key, v, semantics, bias=bias, backend="native")
            results.append((out, *torch.autograd.grad(out.square().sum(), (q, key, v, bias))))
    finally:
        torch.set_num_threads(threads)
    for result in results[1:]:
        for actual, expected in zip(result, results[0], strict=True):
            assert torch.equal(actual, expected)


def test_rows_whose_keys_a_bias_forbids_are_not_numbers(target):
    """As the softmax of nothing but -infinity is."""
    q, k, v = torch.randn(3, 1, 2, 64, 8)
    semantics = build_key_semantics(torch.randn(1, 64, 8), 9)
    bias = torch.zeros(2, 64, 64)
    bias[:, 5] = -torch.inf
    found, expected = (
        key_semantic_attention(q, k, v, semantics, bias=bias, backend=each) for each in ("native", "naive")
    )
    assert found[:, :, 5].isnan().all()
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5, equal_nan=True)


def test_a_dictionary_that_served_in_inference_mode_serves_in_training():
    q = torch.randn(1, 1, 16, 4)
    semantics = build_key_semantics(torch.randn(1, 16, 4), 4)
    with torch.inference_mode():
        expected = key_semantic_attention(q, q, q, semantics, backend="native")
    own = q.clone().requires_grad_()
    found = key_semantic_attention(own, q, q, semantics, backend="native")
    assert torch.equal(found, expected)
    found.sum().backward()
    assert own.grad is not None


def test_autocast_leaves_float64_alone():
    q = torch.randn(1, 1, 16, 4, dtype=torch.float64)
    semantics = build_key_semantics(torch.randn(1, 16, 4), 4)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = key_semantic_attention(q, q, q, semantics)
    assert torch.equal(found, key_semantic_attention(q, q, q, semantics))
