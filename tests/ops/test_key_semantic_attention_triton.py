"""The Triton kernels against naive: on a GPU where there is one, else in Triton's interpreter."""

from __future__ import annotations

import pytest
import torch

from semanir_plugin.ops import KeySemantics, build_key_semantics, key_semantic_attention

pytest.importorskip("triton")

TOLERANCE = {torch.float32: 2e-5, torch.bfloat16: 2e-2, torch.float16: 4e-3}
SHAPES = [
    # windows, heads, tokens, width, keys, bias, dtype
    pytest.param(2, 2, 63, 10, 7, "dense", torch.float32, id="N63-D10-k7-dense"),
    pytest.param(1, 1, 100, 30, 1, "table", torch.float32, id="N100-D30-k1-table"),
    pytest.param(2, 1, 64, 32, 64, "table", torch.float32, id="N64-D32-k64-table"),
    pytest.param(1, 2, 144, 60, 64, "none", torch.float32, id="N144-D60-k64-none"),
    pytest.param(1, 1, 256, 30, 20, "table", torch.bfloat16, id="N256-D30-k20-table-bf16"),
    pytest.param(1, 1, 130, 16, 30, "dense", torch.float16, id="N130-D16-k30-dense-fp16"),
    pytest.param(1, 1, 1, 8, 1, "table", torch.float32, id="N1-D8-k1-table"),
    pytest.param(1, 1, 1024, 30, 64, "table", torch.bfloat16, id="N1024-D30-k64-table-bf16"),
]


def inputs(device, b, h, n, d, k, bias, dtype=torch.float32, *, ordered=True, regions=False):
    qkv = torch.randn(b, n, 3, h, d, device=device).to(dtype).requires_grad_()
    side = {"none": 0, "dense": n, "table": 2 * round(n**0.5) - 1}[bias]
    added = torch.randn(h, side, side, device=device).to(dtype).requires_grad_() if side else None
    labels = torch.randint(0, 2, (1, n), device=device) if regions else None
    built = build_key_semantics(torch.randn(b, n, 6, device=device), k, regions=labels, backend="threshold")
    order = torch.rand(b, n, device=device).argsort(-1).int() if ordered else None
    return qkv, KeySemantics(built.k, packed=built.packed(), query_order=order), added


def run(backend, qkv, semantics, bias, dtype):
    q, k, v = qkv.to(dtype).permute(2, 0, 3, 1, 4)
    bias = None if bias is None else bias.to(dtype)
    return key_semantic_attention(q, k, v, semantics, bias=bias, scale=0.4, backend=backend)


def relative_error(actual, expected):
    error = (actual.float() - expected.float()).norm()
    return (error / expected.float().norm().clamp_min(0.1 * expected.numel() ** 0.5)).item()


def compare(qkv, semantics, bias, tolerance):
    leaves = [qkv] if bias is None else [qkv, bias]
    truth = run("naive", qkv, semantics, bias, torch.float32)
    weight = torch.randn_like(truth)
    expected = (truth, *torch.autograd.grad((truth * weight).sum(), leaves))
    out = run("triton", qkv, semantics, bias, qkv.dtype)
    assert out.dtype == qkv.dtype
    actual = (out, *torch.autograd.grad((out.float() * weight).sum(), leaves))
    for ours, theirs in zip(actual, expected, strict=True):
        assert relative_error(ours, theirs) < tolerance


@pytest.mark.parametrize(("b", "h", "n", "d", "k", "bias", "dtype"), SHAPES)
def test_against_naive_in_output_and_gradients(kernel_device, b, h, n, d, k, bias, dtype):
    compare(*inputs(kernel_device, b, h, n, d, k, bias, dtype), TOLERANCE[dtype])


@pytest.mark.parametrize("bias", ["none", "dense", "table"])
@pytest.mark.parametrize("ordered", [True, False])
def test_regions_and_orders_of_queries(kernel_device, bias, ordered):
    compare(*inputs(kernel_device, 3, 1, 81, 12, 9, bias, ordered=ordered, regions=True), TOLERANCE[torch.float32])


def test_empty_batch(kernel_device):
    qkv, semantics, bias = inputs(kernel_device, 0, 2, 16, 8, 3, "table")
    out = run("triton", qkv, semantics, bias, torch.float32)
    assert out.shape == (0, 2, 16, 8)
    gradients = torch.autograd.grad(out.sum(), (qkv, bias))
    assert [g.shape for g in gradients] == [qkv.shape, bias.shape]
    assert gradients[1].abs().sum() == 0


def test_every_element_is_written(kernel_device, monkeypatch):
    qkv, semantics, bias = inputs(kernel_device, 1, 2, 70, 12, 5, "dense")
    for name in ("empty", "empty_like"):
        right = getattr(torch, name)
        monkeypatch.setattr(torch, name, lambda *a, right=right, **k: poisoned(right(*a, **k)))
    right_method = torch.Tensor.new_empty
    monkeypatch.setattr(torch.Tensor, "new_empty", lambda *a, **k: poisoned(right_method(*a, **k)))
    out = run("triton", qkv, semantics, bias, torch.float32)
    for each in (out, *torch.autograd.grad(out.square().sum(), (qkv, bias))):
        assert not each.isnan().any()


def poisoned(x):
    return x.fill_(torch.nan) if x.is_floating_point() else x.fill_(-7)


def test_empty_tiles_are_skipped(kernel_device):
    from semanir_plugin.ops.key_semantic_attention.tiles import tiles_of

    n = 256
    mask = torch.zeros(1, n, n, dtype=torch.bool, device=kernel_device)
    mask[:, :128, :3] = True  # the first half looks at three keys, the second at three others
    mask[:, 128:, 200:203] = True
    tiles = tiles_of(KeySemantics(3, mask=mask), 64)
    assert tiles.counts[0, 0].max() == 1, "six keys that were chosen fit into one tile"
    assert tiles.counts[0, 1].tolist()[1:] == [0] * (tiles.counts.shape[-1] - 1)
    shuffled = torch.randperm(n).to(kernel_device)
    again = tiles_of(KeySemantics(3, mask=mask[:, shuffled][:, :, shuffled]), 64)
    assert again.counts[0, 0].sum() == tiles.counts[0, 0].sum()


def test_nan_in_a_query_stays_in_its_row_and_unchosen_keys_are_never_read(kernel_device):
    q, k, v = torch.randn(3, 1, 1, 70, 8, device=kernel_device)
    mask = torch.rand(1, 70, 70, device=kernel_device) < 0.2
    mask[:, :, 0], mask[:, :, 41] = True, False
    q[0, 0, 9, 2], k[0, 0, 41], v[0, 0, 41] = torch.nan, torch.nan, torch.nan
    out = key_semantic_attention(q, k, v, KeySemantics(70, mask=mask), backend="triton")
    assert out[0, 0].isnan().any(-1).nonzero().flatten().tolist() == [9]


def test_runs_agree_to_the_bit(kernel_device):
    qkv, semantics, bias = inputs(kernel_device, 3, 1, 49, 10, 9, "table")
    results = []
    for _ in range(2):
        out = run("triton", qkv, semantics, bias, torch.float32)
        results.append((out, *torch.autograd.grad(out.square().sum(), (qkv, bias))))
    assert all(torch.equal(a, b) for a, b in zip(*results, strict=True))


def test_compiles_whole_and_checkpoints(kernel_device):
    qkv, semantics, bias = inputs(kernel_device, 1, 1, 36, 8, 5, "table")

    def attend(qkv, bias):
        return run("triton", qkv, KeySemantics(5, packed=semantics.packed()), bias, torch.float32)

    expected = attend(qkv, bias)
    gradients = torch.autograd.grad(expected.square().sum(), (qkv, bias))
    compiled = torch.compile(attend, fullgraph=True, backend="aot_eager")
    checkpointed = torch.utils.checkpoint.checkpoint(attend, qkv, bias, use_reentrant=False)
    for out in (compiled(qkv, bias), checkpointed):
        torch.testing.assert_close(out, expected)
        torch.testing.assert_close(torch.autograd.grad(out.square().sum(), (qkv, bias)), gradients)


def test_registered_as_pytorch_wants_it(kernel_device):
    from semanir_plugin.ops.key_semantic_attention import triton_backend
    from semanir_plugin.ops.key_semantic_attention.tiles import tiles_of

    qkv, semantics, bias = inputs(kernel_device, 1, 1, 25, 8, 5, "table")
    q, k, v = qkv.detach().permute(2, 0, 3, 1, 4)
    size = triton_backend.tile_of(q.dtype)[0]
    tiles = [semantics.packed(), *tiles_of(semantics, size)]
    leaves = [each.contiguous().requires_grad_() for each in (q, k, v)]
    tests = ("test_schema", "test_autograd_registration", "test_faketensor")
    torch.library.opcheck(triton_backend.forward, (*leaves, bias, tiles, 0.3), test_utils=tests)


@pytest.mark.parametrize(
    ("dtype", "d", "message"), [(torch.float64, 8, "take torch.float32"), (torch.float32, 136, "heads up to 128 wide")]
)
def test_what_it_cannot_take_is_told(kernel_device, dtype, d, message):
    q = torch.zeros(1, 1, 4, d, dtype=dtype, device=kernel_device)
    semantics = build_key_semantics(torch.zeros(1, 4, 2, device=kernel_device), 2, backend="threshold")
    with pytest.raises(ValueError, match=message):
        key_semantic_attention(q, q, q, semantics, backend="triton")
