from __future__ import annotations

import pytest
import torch

from semanir_plugin.ops import adaptive_sparse_attention
from semanir_plugin.ops.adaptive_sparse_attention import choose_backend
from semanir_plugin.ops.common import triton_support
from semanir_plugin.ops.common.position_table import dense_bias

NO_TRITON = triton_support.why_not(torch.device("cuda" if torch.cuda.is_available() else "cpu"))
TRITON = pytest.param("triton", marks=pytest.mark.skipif(NO_TRITON is not None, reason=str(NO_TRITON)))
FAST = ["torch", "portable", TRITON]
TOLERANCE = {torch.float32: 2e-5, torch.bfloat16: 2e-2, torch.float16: 4e-3}


@pytest.fixture
def device(request) -> str:
    """Return the device of a test's backend: a GPU for Triton where there is one, else the CPU."""
    backend = request.node.callspec.params.get("backend")
    return "cuda" if backend == "triton" and torch.cuda.is_available() else "cpu"


def inputs(device, b, h, n, d, *, bias="table", regions=0, dtype=torch.float32, size=1.0):
    """Return q, k, v as views of one projection, the weights, the bias and the regions."""
    q, k, v = (size * torch.randn(b, n, 3, h, d)).to(dtype).permute(2, 0, 3, 1, 4).to(device)
    weights = torch.tensor([0.7, 0.2])
    side = {"none": 0, "dense": n, "table": 2 * round(n**0.5) - 1}[bias]
    added = torch.randn(h, side, side) if side else None
    labels = torch.randint(0, 3, (regions, n)) if regions else None
    if labels is not None:
        labels[0] = 5  # most windows of a picture are whole
    leaves = [None if x is None else x.to(device).requires_grad_() for x in (weights, added)]
    return [x.requires_grad_() for x in (q, k, v)] + leaves, None if labels is None else labels.to(device)


def results(backend, leaves, regions, weight=None, scale=0.4):
    """Return the output and the gradient of every leaf."""
    q, k, v, weights, bias = leaves
    out = adaptive_sparse_attention(q, k, v, weights, bias=bias, regions=regions, scale=scale, backend=backend)
    weight = out.detach().cos() if weight is None else weight
    return (out, *torch.autograd.grad((out.float() * weight.float()).sum(), [x for x in leaves if x is not None]))


def relative_error(actual, expected):
    error = (actual.double() - expected.double()).norm()
    return (error / expected.double().norm().clamp_min(0.1 * expected.numel() ** 0.5)).item()


def compare(backend, leaves, regions, tolerance):
    exact = [None if x is None else x.detach().double().requires_grad_() for x in leaves]
    expected = results("naive", exact, regions)
    actual = results(backend, leaves, regions, expected[0].detach().cos())
    assert actual[0].dtype == leaves[2].dtype
    for ours, theirs in zip(actual, expected, strict=True):
        assert ours.shape == theirs.shape
        assert relative_error(ours, theirs) < tolerance


@pytest.mark.parametrize("backend", ["naive", *FAST])
def test_against_a_loop_over_queries(backend, device):
    leaves, regions = inputs(device, 4, 2, 9, 5, bias="dense", regions=2)
    q, k, v, weights, bias = (x.detach() for x in leaves)
    out = adaptive_sparse_attention(q, k, v, weights, bias=bias, regions=regions, backend=backend)
    for b in range(4):
        for h in range(2):
            for i in range(9):
                scores = (k[b, h] @ q[b, h, i]) / 5**0.5 + bias[h, i]
                scores = scores - 100.0 * (regions[b % 2] != regions[b % 2, i])
                mixed = weights[0] * scores.softmax(0) + weights[1] * scores.clamp(min=0).square()
                torch.testing.assert_close(out[b, h, i], mixed @ v[b, h], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("backend", ["naive", "torch"])
@pytest.mark.parametrize("bias", ["none", "dense", "table"])
def test_gradcheck(backend, bias):
    leaves, regions = inputs("cpu", 2, 1, 4, 3, bias=bias, regions=1)
    leaves = [None if x is None else x.detach().double().requires_grad_() for x in leaves]

    def attend(q, k, v, weights, bias=None):
        return adaptive_sparse_attention(q, k, v, weights, bias=bias, regions=regions, backend=backend)

    assert torch.autograd.gradcheck(attend, [x for x in leaves if x is not None])


SHAPES = [
    # windows, heads, tokens, width, bias, regions
    pytest.param(5, 2, 64, 32, "table", 0, id="N64-D32-table"),
    pytest.param(6, 1, 49, 30, "table", 3, id="N49-D30-table-regions"),
    pytest.param(3, 2, 63, 10, "dense", 1, id="N63-D10-dense-regions"),
    pytest.param(9, 1, 25, 7, "none", 0, id="N25-D7"),
    pytest.param(2, 1, 1, 8, "table", 2, id="N1-D8-table-regions"),
    pytest.param(2, 1, 100, 20, "table", 2, id="N100-D20-table-regions"),
    pytest.param(1, 2, 130, 33, "none", 0, id="N130-D33"),
    pytest.param(1, 1, 256, 16, "dense", 1, id="N256-D16-dense-regions"),
]


@pytest.mark.parametrize("backend", FAST)
@pytest.mark.parametrize(("b", "h", "n", "d", "bias", "regions"), SHAPES)
def test_against_naive_in_output_and_gradients(backend, device, b, h, n, d, bias, regions):
    compare(backend, *inputs(device, b, h, n, d, bias=bias, regions=regions), TOLERANCE[torch.float32])


@pytest.mark.parametrize("backend", FAST)
def test_large_windows(backend, device):
    dtype = torch.bfloat16  # has the larger tiles, of 64, which do not divide 20 x 20
    compare(backend, *inputs(device, 1, 1, 400, 16, bias="table", regions=1, dtype=dtype), TOLERANCE[dtype])


@pytest.mark.parametrize("backend", FAST)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("n", [36, 81])
def test_half_precision_stays_near_the_truth(backend, device, dtype, n):
    compare(backend, *inputs(device, 4, 2, n, 12, regions=2, dtype=dtype), TOLERANCE[dtype])


@pytest.mark.parametrize("backend", FAST)
@pytest.mark.parametrize("n", [36, 81])
@pytest.mark.parametrize(
    ("sizes", "sparse_share", "scale", "incoming"),
    [
        pytest.param((12, 12, 1e-3), 1e-3, 0.4, 1.0, id="squares"),
        pytest.param((12, 12, 1e-3), 1.0, 0.4, 2e-3, id="weights"),
        pytest.param((30, 30, 100), 45.0, 1e-4, 1.0, id="gradients"),
    ],
)
def test_what_is_beyond_fp16_does_not_overflow(backend, device, n, sizes, sparse_share, scale, incoming):
    # Each makes one of the factors inside larger than 65504, while all that comes out is smaller.
    leaves, regions = inputs(device, 2, 1, n, 16, bias="none", dtype=torch.float16)
    leaves[:3] = [(x.detach() * size).requires_grad_() for x, size in zip(leaves[:3], sizes, strict=True)]
    leaves[3] = torch.tensor([0.5, sparse_share], device=device, requires_grad=True)
    exact = [None if x is None else x.detach().double().requires_grad_() for x in leaves]
    weight = torch.full((), incoming, device=device)
    expected = results("naive", exact, regions, weight, scale)
    assert max(each.abs().max() for each in expected[:4]) < 65504
    for ours, theirs in zip(results(backend, leaves, regions, weight, scale), expected, strict=True):
        assert ours.isfinite().all()
        assert relative_error(ours, theirs) < 2 * TOLERANCE[torch.float16]


@pytest.mark.parametrize("elements", [1, 16 * 16 * 3])
def test_blocks_hold_several_windows_or_one(monkeypatch, elements):
    from semanir_plugin.ops.adaptive_sparse_attention import blockwise

    monkeypatch.setattr(blockwise, "BLOCK_ELEMENTS", elements)
    compare("torch", *inputs("cpu", 8, 2, 16, 6, regions=4), TOLERANCE[torch.float32])


@pytest.mark.parametrize("backend", FAST)
@pytest.mark.parametrize("weights", [(1.0, 0.0), (0.0, 1.0), (-0.5, 2.0)])
def test_weights_are_taken_as_they_are(backend, device, weights):
    leaves, regions = inputs(device, 3, 2, 16, 8, regions=1)
    leaves[3] = torch.tensor(weights, device=device, requires_grad=True)
    compare(backend, leaves, regions, TOLERANCE[torch.float32])


@pytest.mark.parametrize("backend", FAST)
def test_last_axis_need_not_be_contiguous(backend, device):
    leaves, regions = inputs(device, 2, 1, 16, 8)
    for i in range(3):
        leaves[i] = leaves[i].detach().mT.contiguous().mT.requires_grad_()
        assert leaves[i].stride(-1) != 1
    compare(backend, leaves, regions, TOLERANCE[torch.float32])


@pytest.mark.parametrize("backend", FAST)
@pytest.mark.parametrize("n", [30, 70])
def test_every_element_is_written(backend, device, monkeypatch, n):
    leaves, regions = inputs(device, 3, 2, n, 12, bias="dense", regions=3)
    right = torch.Tensor.new_empty
    monkeypatch.setattr(torch.Tensor, "new_empty", lambda *a, **k: poisoned(right(*a, **k)))
    for name in ("empty", "empty_like"):
        original = getattr(torch, name)
        monkeypatch.setattr(torch, name, lambda *a, original=original, **k: poisoned(original(*a, **k)))
    for each in results(backend, leaves, regions):
        assert not each.isnan().any()


def poisoned(x):
    return x.fill_(torch.nan) if x.is_floating_point() else x.fill_(-7)


@pytest.mark.parametrize("backend", [TRITON])
@pytest.mark.parametrize("n", [30, 70])
def test_tf32_where_pytorch_is_allowed_it(backend, device, monkeypatch, n):
    from semanir_plugin.ops.adaptive_sparse_attention import triton_backend

    seen, configure = [], triton_backend._configure
    monkeypatch.setattr(triton_backend, "_configure", lambda *given: seen.append(configure(*given)) or seen[-1])
    for allowed, rounding in (("high", "tf32"), ("highest", "ieee")):
        torch.set_float32_matmul_precision(allowed)
        try:
            compare(backend, *inputs(device, 2, 2, n, 16, bias="dense"), 2e-3)
        finally:
            torch.set_float32_matmul_precision("highest")
        assert {constants["PRECISION"] for constants, *_ in seen} == {rounding}
        seen.clear()


@pytest.mark.parametrize("backend", ["naive", *FAST])
def test_empty_batch(backend, device):
    leaves, regions = inputs(device, 0, 2, 16, 4, regions=1)
    out, *gradients = results(backend, leaves, regions)
    assert out.shape == (0, 2, 16, 4)
    assert [g.abs().sum() for g in gradients[3:]] == [0, 0]


@pytest.mark.parametrize("backend", ["naive", *FAST])
@pytest.mark.parametrize("n", [20, 70])
def test_nan_in_a_query_stays_in_its_row(backend, device, n):
    (q, k, v, weights, _), _ = inputs(device, 1, 1, n, 4, bias="none")
    q = q.detach().clone()
    q[0, 0, 3, 1] = torch.nan
    out = adaptive_sparse_attention(q, k, v, weights, backend=backend)
    assert out[0, 0].isnan().any(-1).nonzero().flatten().tolist() == [3]


@pytest.mark.parametrize("backend", FAST)
@pytest.mark.parametrize("n", [25, 81])
def test_runs_agree_to_the_bit(backend, device, n):
    leaves, regions = inputs(device, 3, 1, n, 10, regions=3)
    for first, second in zip(*(results(backend, leaves, regions) for _ in range(2)), strict=True):
        assert torch.equal(first, second)


@pytest.mark.parametrize("backend", ["naive", *FAST])
def test_compiles_whole_and_checkpoints(backend, device):
    def attend(regions, *leaves):
        return results_out(backend, leaves, regions)

    torch._dynamo.reset()
    compiled = torch.compile(attend, fullgraph=True, backend="aot_eager")
    for b, n in ((2, 25), (4, 36)):  # the second time sizes are symbols
        leaves, regions = inputs(device, b, 1, n, 8, regions=2)
        expected = attend(regions, *leaves)
        gradients = torch.autograd.grad(expected.square().sum(), leaves)
        checkpointed = torch.utils.checkpoint.checkpoint(attend, regions, *leaves, use_reentrant=False)
        for out in (compiled(regions, *leaves), checkpointed):
            torch.testing.assert_close(out, expected)
            torch.testing.assert_close(torch.autograd.grad(out.square().sum(), leaves), gradients)


def results_out(backend, leaves, regions):
    q, k, v, weights, bias = leaves
    return adaptive_sparse_attention(q, k, v, weights, bias=bias, regions=regions, backend=backend)


@pytest.mark.parametrize("backend", FAST)
def test_exports(backend, device):
    class Attend(torch.nn.Module):
        def forward(self, q, k, v, weights, bias):
            return adaptive_sparse_attention(q, k, v, weights, bias=bias, backend=backend)

    leaves, _ = inputs(device, 2, 1, 25, 8)
    arguments = tuple(x.detach() for x in leaves)
    exported = torch.export.export(Attend(), arguments)
    torch.testing.assert_close(exported.module()(*arguments), Attend()(*arguments))


@pytest.mark.parametrize("backend", [each for each in FAST if each != "portable"])  # of standard operators alone
@pytest.mark.parametrize("bias", ["none", "dense"])
def test_registered_as_pytorch_wants_it(backend, device, bias):
    leaves, regions = inputs(device, 2, 1, 16, 8, bias=bias, regions=1)
    op = getattr(torch.ops.semanir_plugin, f"adaptive_sparse_{backend}", None)
    if op is None:  # registered when its module is imported
        results(backend, leaves, regions)
        op = getattr(torch.ops.semanir_plugin, f"adaptive_sparse_{backend}")
    tests = ("test_schema", "test_autograd_registration", "test_faketensor")
    torch.library.opcheck(op, (*leaves, regions, 0.3), test_utils=tests)


def test_a_table_is_the_dense_bias_it_stands_for():
    leaves, _ = inputs("cpu", 2, 2, 36, 8)
    q, k, v, weights, table = (x.detach() for x in leaves)
    torch.testing.assert_close(
        adaptive_sparse_attention(q, k, v, weights, bias=table),
        adaptive_sparse_attention(q, k, v, weights, bias=dense_bias(table, 36)),
    )


def test_regions_repeat_along_the_batch():
    leaves, regions = inputs("cpu", 6, 1, 16, 8, regions=2)
    q, k, v, weights, bias = (x.detach() for x in leaves)
    out = adaptive_sparse_attention(q, k, v, weights, bias=bias, regions=regions)
    parts = [
        adaptive_sparse_attention(*(x[i : i + 1] for x in (q, k, v)), weights, bias=bias, regions=regions[i % 2 :][:1])
        for i in range(6)
    ]
    torch.testing.assert_close(out, torch.cat(parts))


def test_autocast_does_not_reach_inside():
    leaves, regions = inputs("cpu", 2, 1, 16, 8)
    expected = results_out("torch", leaves, regions)
    with torch.autocast("cpu", torch.bfloat16):
        torch.testing.assert_close(results_out("torch", leaves, regions), expected)
        assert results_out("naive", leaves, regions).dtype == torch.float32


@pytest.mark.parametrize(
    ("q", "message"),
    [(torch.zeros(2, 2, 9, 4, dtype=torch.float64), "float64"), (torch.zeros(2, 2, 9, 130), "128 wide")],
)
def test_triton_says_what_it_does_not_take(q, message):
    with pytest.raises(ValueError, match=message):
        adaptive_sparse_attention(q, q, q, torch.ones(2), backend="triton")


def test_the_choice_is_explained():
    assert choose_backend(torch.zeros(1, 1, 4, 2)) == ("torch", "q is on a CPU")
    name, reason = choose_backend(torch.zeros(1, 1, 4, 2, device="meta", dtype=torch.float64))
    assert (name, "float64" in reason) == ("torch", True)
