from __future__ import annotations

import pytest
import torch

from semanir_plugin.ops import build_key_semantics, key_semantic_attention

SHAPES = [
    pytest.param(2, 1, 63, 10, 7, id="B2-H1-N63-D10-k7"),
    pytest.param(1, 3, 100, 30, 1, id="B1-H3-N100-D30-k1"),
    pytest.param(2, 2, 64, 32, 64, id="B2-H2-N64-D32-k64"),
    pytest.param(1, 2, 256, 60, 100, id="B1-H2-N256-D60-k100"),
    pytest.param(1, 2, 1, 8, 1, id="B1-H2-N1-D8-k1"),
]


def inputs(b, h, n, d, k, dtype=torch.float32, *, with_bias=True, with_regions=False):
    q, key, v = (torch.randn(b, h, n, d, dtype=dtype, requires_grad=True) for _ in range(3))
    bias = torch.randn(h, n, n, dtype=dtype, requires_grad=True) if with_bias else None
    regions = torch.randint(0, 2, (1, n)) if with_regions else None
    return q, key, v, build_key_semantics(torch.randn(b, n, 16), k, regions=regions), bias


def relative_error(actual, expected):
    # By RMS; what is exactly zero, as gradients of k = 1 are, is compared with values of 0.1.
    return ((actual - expected).norm() / expected.norm().clamp_min(0.1 * expected.numel() ** 0.5)).item()


@pytest.mark.parametrize(("b", "h", "n", "d", "k"), SHAPES)
@pytest.mark.parametrize("with_bias", [True, False], ids=["bias", "plain"])
@pytest.mark.parametrize("with_regions", [True, False], ids=["regions", "whole"])
def test_sdpa_equals_naive_in_output_and_gradients(b, h, n, d, k, with_bias, with_regions):
    q, key, v, semantics, bias = inputs(b, h, n, d, k, with_bias=with_bias, with_regions=with_regions)
    leaves = [t for t in (q, key, v, bias) if t is not None]
    results = []
    for backend in ("naive", "sdpa"):
        out = key_semantic_attention(q, key, v, semantics, bias=bias, scale=0.7, backend=backend)
        results.append((out, *torch.autograd.grad((out * out.detach().cos()).sum(), leaves)))
    for actual, expected in zip(results[1], results[0], strict=True):
        assert relative_error(actual, expected) < 2e-5


def test_only_the_dictionary_counts():
    q, key, v, semantics, _ = inputs(1, 1, 30, 8, 5, with_bias=False)
    kept = semantics.mask()[0, 7]
    changed = v.detach().clone()
    changed[:, :, ~kept] += 100
    before = key_semantic_attention(q, key, v, semantics)[0, 0, 7]
    torch.testing.assert_close(key_semantic_attention(q, key, changed, semantics)[0, 0, 7], before)
    changed[:, :, kept] += 100
    assert (key_semantic_attention(q, key, changed, semantics)[0, 0, 7] - before).min() > 50


@pytest.mark.parametrize("backend", ["naive", "sdpa"])
def test_against_a_loop_over_queries(backend):
    q, key, v, semantics, bias = inputs(2, 2, 9, 4, 3, torch.float64)
    out = key_semantic_attention(q, key, v, semantics, bias=bias, backend=backend)
    for b, h, i in torch.cartesian_prod(torch.arange(2), torch.arange(2), torch.arange(9)).tolist():
        kept = semantics.indices()[b, i]
        weights = torch.softmax(key[b, h, kept] @ q[b, h, i] / 2 + bias[h, i, kept], 0)
        torch.testing.assert_close(out[b, h, i], weights @ v[b, h, kept])


@pytest.mark.parametrize("backend", ["naive", "sdpa"])
def test_gradcheck(backend):
    q, key, v, semantics, bias = inputs(1, 2, 7, 3, 4, torch.float64)
    assert torch.autograd.gradcheck(
        lambda *t: key_semantic_attention(*t[:3], semantics, bias=t[3], backend=backend), (q, key, v, bias)
    )


def test_bias_is_chunked_without_a_trace(monkeypatch):
    from semanir_plugin.ops.key_semantic_attention import sdpa

    q, key, v, semantics, bias = inputs(5, 2, 16, 4, 3)
    whole = key_semantic_attention(q, key, v, semantics, bias=bias)
    monkeypatch.setattr(sdpa, "CHUNK_ELEMENTS", 2 * 2 * 16 * 16)
    torch.testing.assert_close(key_semantic_attention(q, key, v, semantics, bias=bias), whole)


def test_bf16_stays_near_the_truth():
    q, key, v, semantics, bias = inputs(2, 2, 64, 16, 20, torch.bfloat16)
    out = key_semantic_attention(q, key, v, semantics, bias=bias)
    truth = key_semantic_attention(q.float(), key.float(), v.float(), semantics, bias=bias.float(), backend="naive")
    assert out.dtype == torch.bfloat16
    assert relative_error(out.float(), truth) < 2e-2


def test_empty_batch():
    q = torch.zeros(0, 2, 8, 4)
    semantics = build_key_semantics(torch.zeros(0, 8, 4), 3)
    assert key_semantic_attention(q, q, q, semantics, bias=torch.zeros(2, 8, 8)).shape == q.shape


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"k": torch.zeros(2, 2, 8, 5)}, "one shape"),
        ({"bias": torch.zeros(2, 8, 7)}, "bias must have shape"),
        ({"semantics": build_key_semantics(torch.zeros(2, 9, 4), 3)}, "dictionary"),
        ({"v": torch.zeros(2, 2, 8, 4, dtype=torch.float64)}, "one floating dtype"),
        ({"q": torch.zeros(2, 2, 8, 4, device="meta")}, "one device"),
        ({"backend": "cuda"}, "backend"),
    ],
)
def test_wrong_arguments_are_named(change, message):
    arguments = {name: torch.zeros(2, 2, 8, 4) for name in ("q", "k", "v")}
    arguments["semantics"] = build_key_semantics(torch.zeros(2, 8, 4), 3)
    with pytest.raises(ValueError, match=message):
        key_semantic_attention(**{**arguments, **change})
