from __future__ import annotations

import pytest
import torch

from semanir_plugin.ops import KeySemantics, build_key_semantics, key_semantic_attention
from semanir_plugin.ops.common import native_support
from semanir_plugin.ops.key_semantic_attention import BACKENDS, choose_backend, native_backend

NO_NATIVE = native_support.why_not(native_backend.SOURCE, torch.device("cpu"), torch.float32)
NATIVE = pytest.param("native", marks=pytest.mark.skipif(NO_NATIVE is not None, reason=str(NO_NATIVE)))
FAST = ["mask", "gather", "sdpa", "blockwise", "portable", NATIVE]
SHAPES = [
    pytest.param(2, 1, 63, 10, 7, id="B2-H1-N63-D10-k7"),
    pytest.param(1, 3, 100, 30, 1, id="B1-H3-N100-D30-k1"),
    pytest.param(2, 2, 64, 32, 64, id="B2-H2-N64-D32-k64"),
    pytest.param(1, 2, 256, 60, 100, id="B1-H2-N256-D60-k100"),
    pytest.param(1, 2, 1, 8, 1, id="B1-H2-N1-D8-k1"),
]


def inputs(b, h, n, d, k, dtype=torch.float32, *, with_bias=True, with_regions=False, table=False):
    q, key, v = (torch.randn(b, h, n, d, dtype=dtype, requires_grad=True) for _ in range(3))
    side = 2 * round(n**0.5) - 1 if table else n
    bias = torch.randn(h, side, side, dtype=dtype, requires_grad=True) if with_bias else None
    regions = torch.randint(0, 2, (1, n)) if with_regions else None
    return q, key, v, build_key_semantics(torch.randn(b, n, 16), k, regions=regions), bias


def relative_error(actual, expected):
    # By RMS; what is exactly zero, as gradients of k = 1 are, is compared with values of 0.1.
    return ((actual - expected).norm() / expected.norm().clamp_min(0.1 * expected.numel() ** 0.5)).item()


@pytest.mark.parametrize("backend", FAST)
@pytest.mark.parametrize(("b", "h", "n", "d", "k"), SHAPES)
@pytest.mark.parametrize("with_bias", [True, False], ids=["bias", "plain"])
@pytest.mark.parametrize("with_regions", [True, False], ids=["regions", "whole"])
def test_every_backend_equals_naive_in_output_and_gradients(backend, b, h, n, d, k, with_bias, with_regions):
    compare(backend, *inputs(b, h, n, d, k, with_bias=with_bias, with_regions=with_regions))


def compare(backend, q, key, v, semantics, bias):
    leaves = [t for t in (q, key, v, bias) if t is not None]
    results = []
    for each in ("naive", backend):
        out = key_semantic_attention(q, key, v, semantics, bias=bias, scale=0.7, backend=each)
        results.append((out, *torch.autograd.grad((out * out.detach().cos()).sum(), leaves)))
    for actual, expected in zip(results[1], results[0], strict=True):
        assert relative_error(actual, expected) < 2e-5
    with torch.no_grad():
        out = key_semantic_attention(q, key, v, semantics, bias=bias, scale=0.7, backend=backend)
    assert relative_error(out, results[0][0]) < 2e-5


@pytest.mark.parametrize("with_bias", [True, False], ids=["bias", "plain"])
@pytest.mark.parametrize("used", [5, 37, 48], ids=["few keys", "most keys", "all keys"])
@pytest.mark.parametrize("backend", ["blockwise", NATIVE])
def test_keys_that_no_query_chose_can_be_dropped(monkeypatch, backend, used, with_bias):
    from semanir_plugin.ops.key_semantic_attention import blockwise

    monkeypatch.setattr(blockwise, "SMALLEST_WINDOW", 1)
    q, key, v, _, bias = inputs(3, 2, 48, 10, 5, with_bias=with_bias)
    x = torch.randn(3, 48, 16)
    if used < 48:
        x = x.abs()
        x[:, :used] *= 10  # long and of one sign: nearest to all
    semantics = build_key_semantics(x, 5)
    assert (semantics.mask()[:, :, used:].any(1).sum(-1) == 0).all()
    compare(backend, q, key, v, semantics, bias)


def test_blocks_hold_several_windows_or_one(monkeypatch):
    from semanir_plugin.ops.key_semantic_attention import blockwise

    arguments = inputs(7, 2, 20, 6, 5)
    semantics = arguments[3]
    for elements, sizes in ((20 * 20 * 3, [3, 3, 1]), (1, [1] * 7), (1 << 20, [7])):
        monkeypatch.setattr(blockwise, "BLOCK_ELEMENTS", elements)
        assert [len(block.mask) for block in blockwise._blocks(semantics.mask(), torch.float32)] == sizes
        compare("blockwise", *arguments)


@pytest.mark.parametrize("backend", ["blockwise", NATIVE])
@pytest.mark.parametrize("table", [True, False], ids=["table", "dense"])
@pytest.mark.parametrize("k", [64, 512])
def test_large_windows_on_photographs(photos, k, table, backend):
    import cv2

    image = torch.from_numpy(cv2.imread(str(photos["astronaut.png"]))[100:132, 100:132]).float() / 255
    x = torch.nn.functional.conv2d(image.permute(2, 0, 1)[None], torch.randn(24, 3, 3, 3), padding=1)
    semantics = build_key_semantics(x.flatten(2).mT, k)
    q, key, v, _, bias = inputs(1, 2, 1024, 30, 1, table=table)
    compare(backend, q, key, v, semantics, bias)


@pytest.mark.parametrize("backend", FAST)
@pytest.mark.parametrize("w", [1, 5, 8, 16])
def test_relative_position_tables(backend, w):
    compare(backend, *inputs(3, 2, w * w, 12, max(1, w * w // 3), table=True))


@pytest.mark.parametrize("backend", FAST)
@pytest.mark.parametrize("width", [7, 17])
def test_values_may_be_narrower_or_wider_than_keys(backend, width):
    q, key, _, semantics, bias = inputs(2, 2, 36, 12, 9, with_regions=True, table=True)
    v = torch.randn(2, 2, 36, width, requires_grad=True)
    out = key_semantic_attention(q, key, v, semantics, backend="naive")
    weights = key_semantic_attention(q, key, torch.eye(36).expand(2, 2, 36, 36), semantics, backend="naive")
    torch.testing.assert_close(out, weights @ v)
    compare(backend, q, key, v, semantics, bias)


@pytest.mark.parametrize("with_bias", [True, False], ids=["bias", "plain"])
@pytest.mark.parametrize("table", [True, False], ids=["table", "dense"])
def test_flex_equals_naive(table, with_bias):
    q, key, v, semantics, bias = inputs(2, 2, 64, 16, 20, table=table, with_bias=with_bias)
    with torch.no_grad():
        out = key_semantic_attention(q, key, v, semantics, bias=bias, backend="flex")
        truth = key_semantic_attention(q, key, v, semantics, bias=bias, backend="naive")
        narrow = key_semantic_attention(q, key, v[..., :7], semantics, bias=bias, backend="flex")
    assert relative_error(out, truth) < 2e-5
    torch.testing.assert_close(narrow, out[..., :7])
    with pytest.raises(ValueError, match="no backward on CPUs"):
        key_semantic_attention(q, key, v, semantics, bias=bias, backend="flex")


@pytest.mark.parametrize("backend", FAST)
def test_views_of_one_projection(backend):
    qkv = torch.randn(2, 40, 3, 2, 12, requires_grad=True)
    _, _, _, semantics, bias = inputs(2, 2, 40, 12, 9)
    results = []
    for each in ("naive", backend):
        q, key, v = qkv.permute(2, 0, 3, 1, 4)
        out = key_semantic_attention(q, key, v, semantics, bias=bias, backend=each).transpose(1, 2)
        results.append((out, *torch.autograd.grad(out.square().sum(), (qkv, bias))))
        q, key, v = qkv.permute(2, 0, 3, 4, 1).contiguous().mT  # the last axis is not the contiguous one
        results.append((key_semantic_attention(q, key, v, semantics, bias=bias, backend=each).transpose(1, 2),))
    for actual, expected in zip(results[2] + results[3], results[0] + results[1], strict=True):
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


@pytest.mark.parametrize("backend", ["naive", *FAST])
def test_against_a_loop_over_queries(backend):
    q, key, v, semantics, bias = inputs(2, 2, 9, 4, 3, torch.float32 if backend == "native" else torch.float64)
    out = key_semantic_attention(q, key, v, semantics, bias=bias, backend=backend)
    for b, h, i in torch.cartesian_prod(torch.arange(2), torch.arange(2), torch.arange(9)).tolist():
        kept = semantics.indices()[b, i]
        weights = torch.softmax(key[b, h, kept] @ q[b, h, i] / 2 + bias[h, i, kept], 0)
        torch.testing.assert_close(out[b, h, i], weights @ v[b, h, kept])


@pytest.mark.parametrize("backend", ["naive", "mask", "gather", "sdpa", "blockwise"])
def test_gradcheck(backend):
    q, key, v, semantics, bias = inputs(1, 2, 7, 3, 4, torch.float64)
    assert torch.autograd.gradcheck(
        lambda *t: key_semantic_attention(*t[:3], semantics, bias=t[3], backend=backend), (q, key, v, bias)
    )


def test_bias_is_chunked_without_a_trace(monkeypatch):
    from semanir_plugin.ops.key_semantic_attention import sdpa

    q, key, v, semantics, bias = inputs(5, 2, 16, 4, 3)
    whole = key_semantic_attention(q, key, v, semantics, bias=bias, backend="sdpa")
    monkeypatch.setattr(sdpa, "CHUNK_ELEMENTS", 2 * 2 * 16 * 16)
    torch.testing.assert_close(key_semantic_attention(q, key, v, semantics, bias=bias, backend="sdpa"), whole)


@pytest.mark.parametrize("backend", FAST)
def test_bf16_stays_near_the_truth(backend):
    q, key, v, semantics, bias = inputs(2, 2, 64, 16, 20, torch.bfloat16)
    out = key_semantic_attention(q, key, v, semantics, bias=bias, backend=backend)
    truth = key_semantic_attention(q.float(), key.float(), v.float(), semantics, bias=bias.float(), backend="naive")
    assert out.dtype == torch.bfloat16
    assert relative_error(out.float(), truth) < 2e-2


@pytest.mark.parametrize("backend", ["naive", *FAST])
def test_empty_batch(backend):
    q = torch.zeros(0, 2, 8, 4, requires_grad=True)
    semantics = build_key_semantics(torch.zeros(0, 8, 4), 3)
    out = key_semantic_attention(q, q, q, semantics, bias=torch.zeros(2, 8, 8), backend=backend)
    assert out.shape == q.shape
    out.sum().backward()


@pytest.mark.parametrize("backend", FAST)
def test_nan_in_a_query_stays_in_its_row(backend):
    q, key, v, semantics, bias = inputs(1, 1, 20, 4, 5)
    q = q.detach().clone()
    q[0, 0, 3, 1] = torch.nan
    out = key_semantic_attention(q, key, v, semantics, bias=bias, backend=backend)
    assert out[0, 0].isnan().any(-1).nonzero().flatten().tolist() == [3]


def with_broken_rows(name, value, device="cpu"):
    """Return q, k and v, (2, 2, 36, 12), a dictionary and a table; two keys or values of one window and head broken.

    Token 3 is chosen by some, token 5 by none; the last is which queries chose a broken one, (2, 2, 36).
    """
    tensors = {each: torch.randn(2, 2, 36, 12, device=device) for each in "qkv"}
    mask = torch.rand(2, 36, 36, device=device) < 0.2
    mask |= torch.eye(36, dtype=torch.bool, device=device)
    mask[0, :, 5], mask[0, 5, 6] = False, True
    tensors[name][0, 1, 3, 2] = tensors[name][0, 1, 5, 7] = value
    chose = torch.zeros(2, 2, 36, dtype=torch.bool, device=device)
    chose[0, 1] = mask[0, :, 3]
    assert 1 < chose.sum() < 20
    return tensors, KeySemantics(36, mask=mask), torch.randn(2, 11, 11, device=device), chose


@pytest.mark.parametrize("backend", ["naive", "flex", *FAST, "triton"])
@pytest.mark.parametrize("name", ["k", "v"])
@pytest.mark.parametrize("value", [torch.nan, torch.inf, -torch.inf])
def test_what_is_not_finite_reaches_those_who_chose_it(request, backend, name, value):
    device = "cpu"
    if backend == "triton":
        pytest.importorskip("triton")
        device = request.getfixturevalue("kernel_device")
    tensors, semantics, bias, chose = with_broken_rows(name, value, device)
    clean = {each: x.nan_to_num(0, 0, 0) for each, x in tensors.items()}
    truth = key_semantic_attention(**clean, semantics=semantics, bias=bias, backend="naive")
    out = key_semantic_attention(**tensors, semantics=semantics, bias=bias, backend=backend)
    assert relative_error(out[~chose], truth[~chose]) < 2e-5
    if name == "v" or value != value:  # a score of -inf may be a weight of 0
        assert not out[chose].isfinite().all(-1).any()


@pytest.mark.parametrize("backend", ["naive", "mask", "gather", "sdpa", "blockwise"])
@pytest.mark.parametrize("name", ["k", "v"])
def test_gradients_are_those_of_the_queries_that_chose_what_is_finite(backend, name):
    tensors, semantics, bias, chose = with_broken_rows(name, torch.nan)
    clean = {each: x.nan_to_num(0) for each, x in tensors.items()}
    clean[name][0, 1, [3, 5]] = 0
    results = []
    for given, loss, backend_ in (
        (clean, lambda out: out[~chose].square().sum(), "naive"),
        (tensors, lambda out: out.square().sum(), backend),
    ):
        leaves = [each.requires_grad_() for each in (*given.values(), bias)]
        out = key_semantic_attention(**given, semantics=semantics, bias=bias, backend=backend_)
        results.append(torch.autograd.grad(loss(out), leaves))
    for actual, expected in zip(results[1][:3], results[0][:3], strict=True):
        good = torch.ones(2, 2, 36, dtype=torch.bool)
        good[0, 1, [3, 5]] = False
        assert relative_error(actual[good], expected[good]) < 2e-5
    assert relative_error(results[1][3], results[0][3]) < 2e-5


def test_native_says_what_it_does_not_take():
    q, semantics = torch.zeros(2, 2, 8, 4, dtype=torch.float64), build_key_semantics(torch.zeros(2, 8, 4), 3)
    with pytest.raises(ValueError, match="float64"):
        key_semantic_attention(q, q, q, semantics, backend="native")


@pytest.mark.parametrize("backend", ["blockwise", NATIVE])
@pytest.mark.parametrize("with_bias", [True, False], ids=["bias", "plain"])
def test_registered_as_pytorch_wants_it(backend, with_bias):
    q, key, v, semantics, bias = inputs(2, 2, 20, 6, 5, with_bias=with_bias)
    op = getattr(torch.ops.semanir_plugin, f"key_semantic_attention_{backend}")
    keys = native_backend.key_lists_of(semantics) if backend == "native" else (semantics.mask(),)
    torch.library.opcheck(op, (q, key, v, *keys, bias, 0.4))


@pytest.mark.parametrize("backend", ["naive", *FAST])
def test_compiles_whole(backend):
    def attend(q, key, v, bias, x):
        return key_semantic_attention(q, key, v, build_key_semantics(x, 5), bias=bias, backend=backend)

    torch._dynamo.reset()
    compiled = torch.compile(attend, fullgraph=True, backend="aot_eager")
    for b, n in ((2, 36), (3, 64)):  # the second time sizes are symbols; the native kernel reads the table of 64
        q, key, v, _, bias = inputs(b, 2, n, 6, 5, table=True)
        leaves, x = (q, key, v, bias), torch.randn(b, n, 7)
        outputs = [each(*leaves, x) for each in (compiled, attend)]
        torch.testing.assert_close(*outputs)
        torch.testing.assert_close(*(torch.autograd.grad(out.square().sum(), leaves) for out in outputs))


@pytest.mark.parametrize("backend", ["blockwise", NATIVE])
def test_exports(backend):
    class Attend(torch.nn.Module):
        def forward(self, x, q, key, v, bias):
            return key_semantic_attention(q, key, v, build_key_semantics(x, 5), bias=bias, backend=backend)

    q, key, v, _, bias = (
        each if i == 3 else each.detach() for i, each in enumerate(inputs(2, 2, 36, 6, 5, table=True))
    )
    arguments = (torch.randn(2, 36, 7), q, key, v, bias)
    exported = torch.export.export(Attend(), arguments)
    torch.testing.assert_close(exported.module()(*arguments), Attend()(*arguments))


@pytest.mark.parametrize("backend", ["naive", *FAST])
def test_autocast_and_checkpointing(backend):
    q, key, v, semantics, bias = inputs(2, 2, 30, 8, 7)
    expected = key_semantic_attention(q, key, v, semantics, bias=bias, backend=backend)
    with torch.autocast("cpu", torch.bfloat16):
        out = key_semantic_attention(q, key, v, semantics, bias=bias, backend=backend)
    assert out.dtype == torch.bfloat16
    assert relative_error(out.float(), expected) < 2e-2
    again = torch.utils.checkpoint.checkpoint(
        lambda *t: key_semantic_attention(*t, semantics, bias=bias, backend=backend), q, key, v, use_reentrant=False
    )
    gradients = [torch.autograd.grad(each.square().sum(), (q, key, v, bias)) for each in (again, expected)]
    torch.testing.assert_close(*gradients)


def test_the_choice_is_explained(monkeypatch):
    q = torch.zeros(1, 1, 4, 2)
    assert choose_backend(q)[0] == ("sdpa" if NO_NATIVE else "native")
    name, reason = choose_backend(q.double())
    assert (name, "float64" in reason) == ("sdpa", True)
    monkeypatch.setattr(native_support, "why_not", lambda *_: "no compiler, say")
    name, reason = choose_backend(q)
    assert (name, reason.endswith("; no compiler, say")) == ("sdpa", True)
    name, reason = choose_backend(q.to("meta"))
    assert (name, "meta" in reason) == ("sdpa", True)


@pytest.mark.parametrize(
    ("windows", "tokens", "biased", "inference", "training"),
    [
        (64, 64, True, "sdpa", "sdpa"),
        (16, 256, True, "sdpa", "blockwise"),
        (64, 256, True, "blockwise", "blockwise"),
        (4, 1024, True, "blockwise", "blockwise"),
        (16, 256, False, "sdpa", "sdpa"),
        (4, 1024, False, "sdpa", "sdpa"),
    ],
)
def test_without_a_compiler_the_quickest_of_pytorchs_operators_is_taken(
    monkeypatch, windows, tokens, biased, inference, training
):
    """As measured with 6 heads of 30, docs/ops.md."""
    monkeypatch.setattr(native_support, "why_not", lambda *_: "no compiler, say")
    q = torch.zeros(1, 1, 1, 1).expand(windows, 6, tokens, 30)
    assert choose_backend(q, biased=biased)[0] == inference
    q = q.requires_grad_()
    assert choose_backend(q, biased=biased)[0] == training
    with torch.no_grad():
        assert choose_backend(q, biased=biased)[0] == inference


def test_auto_asks_whether_there_is_a_bias(monkeypatch):
    monkeypatch.setattr(native_support, "why_not", lambda *_: "no compiler, say")
    monkeypatch.setitem(choose_backend.__globals__, "LARGEST_SUM", 0)
    taken = []
    for name in ("sdpa", "blockwise"):
        monkeypatch.setitem(BACKENDS, name, lambda q, *_, name=name: taken.append(name) or q)
    q = torch.zeros(1, 1, 4, 2)
    semantics = build_key_semantics(torch.randn(1, 4, 3), 2)
    key_semantic_attention(q, q, q, semantics)
    key_semantic_attention(q, q, q, semantics, bias=torch.zeros(1, 4, 4))
    assert taken == ["sdpa", "blockwise"]
