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
    pytest.param(1, 1, 400, 30, 64, "table", torch.bfloat16, id="N400-D30-k64-table-bf16"),
    pytest.param(1, 1, 130, 62, 9, "none", torch.bfloat16, id="N130-D62-k9-none-bf16"),
    pytest.param(1, 1, 70, 100, 5, "none", torch.float32, id="N70-D100-k5-none"),
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


def listed(pairs, order):
    """The lists, bits and counts of groups of 64, by plain indexing: (B, N, N) pairs, (B, T * 64) order."""
    groups = []
    for chosen, tokens in zip(pairs, order.long(), strict=True):
        for group in tokens.split(64):
            rows = chosen[group[group < len(chosen)]]
            tokens_listed = rows.any(0).nonzero().flatten()
            groups.append((tokens_listed, rows[:, tokens_listed]))
    return groups


@pytest.mark.parametrize("n", [20, 144])
@pytest.mark.parametrize("side", ["by_query", "by_key"])
def test_groups_list_what_any_of_them_is_paired_with(kernel_device, n, side):
    from semanir_plugin.ops.key_semantic_attention import triton_groups

    _, semantics, _ = inputs(kernel_device, 2, 1, n, 8, 5, "none", regions=True)
    order, lists, bits, counts = getattr(triton_groups, side)(semantics)
    tokens = order.view(2, -1, 64)
    assert [sorted(row) for row in order.tolist()] == [list(range(n)) + [n] * (-n % 64)] * 2
    assert [set(group) for group in tokens[0].tolist()] == [
        {*group, *([n] if len(group) < 64 else [])}
        for group in map(torch.Tensor.tolist, semantics.query_order[0].split(64))
    ]
    pairs = semantics.mask() if side == "by_query" else semantics.mask().mT
    for i, (expected, kept) in enumerate(listed(pairs, order)):
        window, group = divmod(i, tokens.shape[1])
        count = int(counts[window, group])
        padded = -(-count // 64) * 64
        found = lists[window, group, :padded]
        assert found[:count].tolist() == expected.tolist()
        assert found[count:].tolist() == [int(expected[0])] * (padded - count)
        words = bits[window, group, : padded // 32, : len(kept)]
        unpacked = ((words[..., None] >> torch.arange(32, device=words.device)) & 1).permute(1, 0, 2).flatten(1)
        assert torch.equal(unpacked[:, :count].bool(), kept)
        assert not unpacked[:, count:].any()


def test_lists_are_made_once_and_those_by_key_for_gradients_only(kernel_device):
    qkv, semantics, _ = inputs(kernel_device, 1, 1, 20, 8, 5, "none")
    made = []
    shared = semantics.shared
    semantics.shared = lambda name, make: shared(name, lambda: made.append(name) or make())
    for differentiable in (False, True, True):
        run("triton", qkv.detach().requires_grad_(differentiable), semantics, None, torch.float32)
    assert made == ["groups by query", "groups", "groups by key"]


def odd_values(device):
    """q, k, v of two groups, a dictionary, and its choosers: the queries 9 and 70, who choose the keys 5 and 6 alone.

    Others of their groups choose any but the keys 5, 6 and 7; nobody chooses 7.
    """
    q, k, v = torch.randn(3, 1, 2, 90, 8, device=device)
    mask = torch.rand(1, 90, 90, device=device) < 0.2
    mask[:, :, 0], mask[:, :, 5:8] = True, False
    choosers = torch.zeros(90, dtype=torch.bool, device=device)
    choosers[[9, 70]] = True
    mask[:, choosers] = False
    mask[:, choosers, 5:7] = True
    return q, k, v, KeySemantics(90, mask=mask), choosers


@pytest.mark.parametrize("value", [torch.nan, torch.inf, -torch.inf], ids=str)
def test_a_value_reaches_those_who_chose_it_and_nobody_else(kernel_device, value):
    q, k, v, semantics, choosers = odd_values(kernel_device)
    expected = key_semantic_attention(q, k, v, semantics, backend="naive")
    v[0, 0, 5, 2] = v[0, :, 7] = k[0, :, 7] = q[0, 1, 8, 0] = value
    out = key_semantic_attention(q, k, v, semantics, backend="triton")
    reached = torch.zeros(1, 2, 90, dtype=torch.bool, device=kernel_device)
    reached[0, 0, choosers] = reached[0, 1, 8] = True
    torch.testing.assert_close(out[~reached], expected[~reached])
    assert out[0, 0, choosers].isnan().all()


@pytest.mark.parametrize("bias", ["none", "table"])
def test_gradients_of_a_value_reach_what_its_choosers_chose_and_nothing_else(kernel_device, bias):
    q, k, v, semantics, choosers = odd_values(kernel_device)
    q, k, v, mask = (x[..., :81, :] for x in (q, k, v, semantics.mask()))
    semantics, choosers = KeySemantics(81, mask=mask[..., :81]), choosers[:81]
    table = torch.randn(2, 17, 17, device=kernel_device) if bias == "table" else None
    weight = torch.randn_like(v) * ~choosers[:, None]  # nothing of the choosers is differentiated

    def gradients(backend, v):
        leaves = [each.clone().requires_grad_() for each in (q, k, v, *([] if table is None else [table]))]
        given = dict(zip(("q", "k", "v", "bias"), leaves, strict=False))
        out = key_semantic_attention(**given, semantics=semantics, backend=backend)
        return torch.autograd.grad((out * weight).where(weight != 0, 0.0).sum(), leaves)

    expected = gradients("naive", v)
    odd = v.clone()
    odd[0, 0, 5, 2] = odd[0, :, 7] = torch.nan
    dq, dk, dv, *dbias = gradients("triton", odd)
    bad = torch.zeros(3, 1, 2, 81, dtype=torch.bool, device=kernel_device)
    bad[0, 0, 0, choosers] = bad[1, 0, 0, 5:7] = True
    for found, truth, odd_rows in zip((dq, dk, dv), expected, bad, strict=False):
        torch.testing.assert_close(found[~odd_rows], truth[~odd_rows])
        assert not found[odd_rows].isfinite().all(-1).any()
    for each in dbias:
        torch.testing.assert_close(each[1], expected[3][1])
        assert each[0].isnan().any()
        torch.testing.assert_close(each[0].where(each[0].isfinite(), expected[3][0]), expected[3][0])


def test_what_lies_behind_rows_does_not_matter(kernel_device):
    from semanir_plugin.ops.common.triton_support import aligned_rows

    qkv, semantics, bias = inputs(kernel_device, 1, 2, 64, 10, 9, "table")
    padded = torch.nn.functional.pad(qkv.detach(), (0, 6), value=torch.nan)
    clean = run("triton", qkv.detach(), semantics, bias.detach(), torch.float32)
    q, k, v = (x.contiguous()[..., :10].requires_grad_() for x in padded.permute(2, 0, 3, 1, 4))
    assert aligned_rows(q) is q
    out = key_semantic_attention(q, k, v, semantics, bias=bias, scale=0.4, backend="triton")
    torch.testing.assert_close(out, clean)
    expected = key_semantic_attention(q, k, v, semantics, bias=bias, scale=0.4, backend="naive")
    for ours, theirs in zip(
        *(torch.autograd.grad(x.square().sum(), (q, k, v, bias)) for x in (out, expected)), strict=True
    ):
        assert relative_error(ours, theirs) < TOLERANCE[torch.float32]


@pytest.mark.parametrize(
    "x",
    [torch.zeros(1, 2, 3, 16)[..., :10], torch.zeros(1, 2, 3, 10), torch.zeros(97)[1:].view(1, 2, 3, 16)],
    ids=["aligned", "too short", "shifted"],
)
def test_rows_are_copied_where_they_must_be(x):
    from semanir_plugin.ops.common.triton_support import aligned_rows

    rows = aligned_rows(x)
    assert (rows is x) == (x.shape[-1] == 10 and x.stride(2) == 16)
    assert rows.stride(2) == 16


def test_rows_are_copied_once_for_forward_and_backward(kernel_device, monkeypatch):
    qkv, semantics, _ = inputs(kernel_device, 1, 1, 20, 10, 5, "none")
    copies, pad = [], torch.nn.functional.pad
    out = run("triton", qkv, semantics, None, torch.float32)
    monkeypatch.setattr("semanir_plugin.ops.common.triton_support.F.pad", lambda x, by: copies.append(by) or pad(x, by))
    torch.autograd.grad(out.sum(), qkv)
    assert copies == []
    run("triton", qkv, semantics, None, torch.float32)
    assert copies == [(0, 6)] * 3


def test_values_may_be_narrower_than_queries(kernel_device):
    from semanir_plugin.ops.key_semantic_attention import naive, triton_backend

    qkv, semantics, _ = inputs(kernel_device, 1, 2, 70, 20, 9, "none")
    q, k, v = qkv.permute(2, 0, 3, 1, 4)
    found, expected = (
        attend(q, k, v[..., :9], semantics, None, 0.4) for attend in (triton_backend.attend, naive.attend)
    )
    weight = torch.randn_like(expected)
    for ours, theirs in zip(
        (found, *torch.autograd.grad((found * weight).sum(), qkv)),
        (expected, *torch.autograd.grad((expected * weight).sum(), qkv)),
        strict=True,
    ):
        assert relative_error(ours, theirs) < TOLERANCE[torch.float32]


@pytest.mark.parametrize("scale", [0.0, -0.7])
def test_scales_that_are_not_positive(kernel_device, scale):
    qkv, semantics, bias = inputs(kernel_device, 1, 1, 25, 8, 5, "table")
    q, k, v = qkv.permute(2, 0, 3, 1, 4)
    results = []
    for backend in ("triton", "naive"):
        out = key_semantic_attention(q, k, v, semantics, bias=bias, scale=scale, backend=backend)
        results.append((out, *torch.autograd.grad(out.square().sum(), (qkv, bias))))
    for ours, theirs in zip(*results, strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-5)


def test_tf32_where_pytorch_is_allowed_it(kernel_device):
    from semanir_plugin.ops.key_semantic_attention import triton_backend

    qkv, semantics, bias = inputs(kernel_device, 1, 1, 100, 16, 9, "table")
    seen, configuration = [], triton_backend.configuration
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(triton_backend, "configuration", lambda *given: seen.append(given) or configuration(*given))
        torch.set_float32_matmul_precision("high")
        try:
            compare(qkv, semantics, bias, 2e-3)
        finally:
            torch.set_float32_matmul_precision("highest")
    assert {exact for _, _, _, exact, _ in seen} == {False}


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


@pytest.mark.parametrize(("h", "bias"), [(1, "table"), (2, "dense"), (6, "table"), (2, "none")])
def test_registered_as_pytorch_wants_it(kernel_device, h, bias):
    from semanir_plugin.ops.key_semantic_attention import triton_backend, triton_groups

    qkv, semantics, bias = inputs(kernel_device, 1, h, 16, 8, 5, bias)
    q, k, v = (each.contiguous().requires_grad_() for each in qkv.detach().permute(2, 0, 3, 1, 4))
    groups = [*triton_groups.by_query(semantics), *triton_groups.by_key(semantics), semantics.packed()]
    given = (q, k, v, bias, groups, 0.3)
    torch.library.opcheck(triton_backend.forward, given)
    out, lse = (each.detach() for each in triton_backend.forward(*given))
    detached = [each if each is None else each.detach() for each in given[:4]]
    torch.library.opcheck(triton_backend.backward, (out, out, lse, *detached, groups, 0.3, bias is not None))
    torch.library.opcheck(triton_groups.transpose, (semantics.packed(),))


@pytest.mark.parametrize(
    ("dtype", "d", "message"), [(torch.float64, 8, "take torch.float32"), (torch.float32, 136, "heads up to 128 wide")]
)
def test_what_it_cannot_take_is_told(kernel_device, dtype, d, message):
    q = torch.zeros(1, 1, 4, d, dtype=dtype, device=kernel_device)
    semantics = build_key_semantics(torch.zeros(1, 4, 2, device=kernel_device), 2, backend="threshold")
    with pytest.raises(ValueError, match=message):
        key_semantic_attention(q, q, q, semantics, backend="triton")
