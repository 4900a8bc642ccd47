from __future__ import annotations

import subprocess
import sys
from importlib.util import find_spec
from itertools import product

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch._subclasses import FakeTensorMode

from semanir_plugin.ops import KeySemantics, build_key_semantics
from semanir_plugin.ops.common import native_support, triton_support
from semanir_plugin.ops.key_semantics import choose_backend, native_backend, threshold
from semanir_plugin.ops.key_semantics.packing import pack, unpack
from semanir_plugin.ops.key_semantics.query_order import order_queries

NO_NATIVE = native_support.why_not(native_backend.SOURCE, torch.device("cpu"), torch.float32)
NATIVE = pytest.param("native", marks=pytest.mark.skipif(NO_NATIVE is not None, reason=str(NO_NATIVE)))
SHAPES = [
    pytest.param(2, 63, 10, 7, id="B2-N63-C10-k7"),
    pytest.param(1, 100, 30, 1, id="B1-N100-C30-k1"),
    pytest.param(3, 64, 32, 64, id="B3-N64-C32-k64"),
    pytest.param(1, 1024, 60, 512, id="B1-N1024-C60-k512"),
    pytest.param(2, 1, 4, 1, id="B2-N1-C4-k1"),
    pytest.param(0, 16, 4, 3, id="B0-N16-C4-k3"),
]


def integer_features(b, n, c):
    # Small integers give exact products, many ties, and the same order whatever the summation order.
    return torch.randint(-2, 3, (b, n, c)).float()


def by_hand(x, k, regions=None):
    """The definition in plain Python, for one window."""
    s = (x.double() @ x.double().T).tolist()
    rows = []
    for i, row in enumerate(s):
        candidates = [j for j in range(len(row)) if regions is None or regions[j] == regions[i]]
        rows.append(sorted(sorted(candidates, key=lambda j: (-row[j], j))[:k]))
    return rows


@pytest.mark.parametrize(("b", "n", "c", "k"), SHAPES)
@pytest.mark.parametrize("similarity", ["dot", "cosine"])
@pytest.mark.parametrize("backend", ["threshold", "portable", NATIVE])
def test_fast_backends_equal_naive(b, n, c, k, similarity, backend):
    x = torch.randn(b, n, c)
    masks = [build_key_semantics(x, k, similarity=similarity, backend=each).mask() for each in ("naive", backend)]
    assert masks[0].shape == (b, n, n)
    # cosine normalises in two ways: allow a key in ten thousand to differ at the threshold
    assert (masks[0] != masks[1]).float().mean().nan_to_num() <= (0 if similarity == "dot" else 1e-4)


@pytest.mark.parametrize(("b", "n", "c", "k"), SHAPES)
@pytest.mark.parametrize("backend", ["naive", "threshold", "portable", NATIVE])
def test_ties_go_to_the_lower_index(b, n, c, k, backend):
    x = integer_features(b, n, c)[..., :3]
    semantics = build_key_semantics(x, k, backend=backend)
    assert semantics.indices().tolist() == [by_hand(window, k) for window in x]


@pytest.mark.parametrize("backend", ["naive", "threshold", "portable", NATIVE])
def test_regions_limit_the_candidates(backend):
    x = integer_features(4, 30, 5)
    regions = torch.randint(0, 3, (2, 30))
    regions[0, 0] = 7  # a region of one token
    semantics = build_key_semantics(x, 12, regions=regions, backend=backend)
    for window, labels, mask in zip(x, regions.repeat(2, 1), semantics.mask(), strict=True):
        expected = by_hand(window, 12, labels.tolist())
        assert [row.nonzero().flatten().tolist() for row in mask] == expected
    assert semantics.counts()[0, 0] == 1


@pytest.mark.skipif(NO_NATIVE is not None, reason=str(NO_NATIVE))
@pytest.mark.parametrize(("n", "c"), [(95, 3), (96, 16), (100, 17), (193, 30), (256, 48)])
def test_native_blocks_of_similarities(target, n, c):
    x = integer_features(2, n, c)
    assert torch.equal(*(build_key_semantics(x, n // 4, backend=each).mask() for each in ("naive", "native")))


# Similarities of the first token, whose only feature is 1: a search may not lie in wait of any of them for long.
ROWS = {
    "of all sizes": torch.logspace(-38, 38, 99) * (-1) ** torch.arange(99),
    "of all sizes, sorted": torch.logspace(38, -44, 99),
    "one far away": torch.cat([torch.linspace(0, 1, 98), torch.tensor([3e38])]),
    "many far away": torch.cat([torch.linspace(1, 1 + 1e-5, 39), torch.full((30,), 3e38), torch.full((30,), -3e38)]),
    "infinite": torch.cat([torch.full((39,), torch.inf), torch.arange(30.0), torch.full((30,), -torch.inf)]),
    "all equal": torch.full((99,), 0.3),
    "two numbers": torch.arange(99) % 2 + 5.0,
    "next to each other": 1 + torch.arange(99) % 20 * 2.0**-23,
    "zeros": torch.tensor([0.0, -0.0, 1e-45, -1e-45]).repeat(25)[:99],
    "falling": torch.exp(-torch.arange(99.0) / 3),
}


@pytest.mark.parametrize("row", ROWS.values(), ids=ROWS)
@pytest.mark.skipif(NO_NATIVE is not None, reason=str(NO_NATIVE))
def test_native_finds_the_largest_of_any_row(target, row):
    x = torch.cat([torch.ones(1), row]).view(1, -1, 1)
    for k, regions in product((1, 7, 30, 50, 99), (None, torch.arange(100)[None] % 3)):
        masks = [build_key_semantics(x, k, regions=regions, backend=each).mask() for each in ("naive", "native")]
        assert torch.equal(*masks), k


@pytest.mark.parametrize("backend", ["naive", "threshold", "portable", NATIVE])
def test_indices_stay_in_range_and_repeat_the_first_key(backend):
    regions = torch.tensor([[0, 0, 1, 1, 1]])
    indices = build_key_semantics(torch.randn(1, 5, 4), 3, regions=regions, backend=backend).indices()
    assert indices[0, 0].tolist() == [0, 1, 0]
    assert indices[0, 3].tolist() == [2, 3, 4]


@pytest.mark.parametrize("backend", ["naive", "threshold", NATIVE])
def test_nan_and_infinite_features_keep_k_keys_in_range(backend):
    x = torch.randn(1, 20, 6)
    x[0, 3, 2] = torch.nan
    x[0, 5, 1] = torch.inf
    semantics = build_key_semantics(x, 7, backend=backend)
    assert (semantics.counts() == 7).all()
    assert not semantics.mask()[0, 0, 3], "a NaN similarity ranks below all others"
    assert semantics.indices().max() < 20


def test_k_is_clipped_to_the_window():
    semantics = build_key_semantics(torch.randn(1, 6, 4), 512)
    assert semantics.shape == (1, 6, 6)
    assert semantics.mask().all()


def test_half_precision_is_compared_in_fp32():
    x = torch.randn(1, 40, 64).bfloat16()
    assert torch.equal(build_key_semantics(x, 9).mask(), build_key_semantics(x.float(), 9).mask())
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(build_key_semantics(x.float(), 9).mask(), build_key_semantics(x.float(), 9).mask())


@pytest.mark.parametrize(("module", "backend"), [(threshold, "threshold"), (native_backend, NATIVE.values[0])])
def test_long_batches_are_cut_into_chunks(monkeypatch, module, backend):
    if backend == "native" and NO_NATIVE:
        pytest.skip(NO_NATIVE)
    x, regions = torch.randn(6, 20, 4), torch.randint(0, 2, (3, 20))
    whole = build_key_semantics(x, 5, regions=regions, backend="naive").mask()
    monkeypatch.setattr(module, "CHUNK_ELEMENTS", 20 * 20 * 4)
    assert torch.equal(build_key_semantics(x, 5, regions=regions, backend=backend).mask(), whole)


@settings(deadline=None, max_examples=60)
@given(st.integers(1, 40), st.integers(1, 8), st.integers(1, 45), st.integers(0, 10_000))
def test_every_row_keeps_its_k_largest(n, c, k, seed):
    x = torch.randn(1, n, c, generator=torch.Generator().manual_seed(seed))
    semantics = build_key_semantics(x, k)
    mask, s = semantics.mask()[0], x[0] @ x[0].T
    assert (mask.sum(-1) == min(k, n)).all()
    smallest_kept = s.masked_fill(~mask, torch.inf).amin(-1)
    largest_dropped = s.masked_fill(mask, -torch.inf).amax(-1)
    assert (smallest_kept >= largest_dropped - 1e-5).all()


@settings(deadline=None, max_examples=30)
@given(st.integers(2, 40), st.integers(1, 40), st.integers(0, 10_000))
def test_permuting_the_tokens_permutes_the_dictionary(n, k, seed):
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(1, n, 8, dtype=torch.float64, generator=generator)
    order = torch.randperm(n, generator=generator)
    permuted = build_key_semantics(x[:, order], k).mask()[0]
    assert torch.equal(permuted, build_key_semantics(x, k).mask()[0][order][:, order])


@settings(deadline=None, max_examples=60)
@given(st.integers(1, 40), st.integers(1, 45), st.integers(1, 6), st.integers(0, 10_000))
def test_every_row_keeps_as_many_as_its_region_has(n, k, labels, seed):
    backends = ("naive", "threshold") if NO_NATIVE else ("naive", "threshold", "native")
    generator = torch.Generator().manual_seed(seed)
    regions = torch.randint(0, labels, (1, n), generator=generator)
    x = torch.randint(-2, 3, (2, n, 3), generator=generator).float()
    masks = [build_key_semantics(x, k, regions=regions, backend=each).mask() for each in backends]
    together = regions[0] == regions[0, :, None]
    for mask in masks:
        assert not (mask & ~together).any()
        assert torch.equal(mask.sum(-1), together.sum(-1).clamp_max(k).expand(2, -1))
        assert torch.equal(mask, masks[0])


@settings(deadline=None, max_examples=100)
@given(st.integers(1, 40), st.integers(1, 45), st.integers(1, 3), st.booleans(), st.integers(0, 10_000))
@pytest.mark.parametrize("backend", ["threshold", NATIVE])
def test_numbers_at_the_edges_are_ranked_as_naive_ranks_them(backend, n, k, c, split, seed):
    generator = torch.Generator().manual_seed(seed)
    # Powers of two, and no products beyond the largest float: sums are the same whether or not products are rounded.
    odd = torch.tensor([torch.nan, torch.inf, -torch.inf, 2.0**63, -(2.0**63), 2.0**-66, 0.0, -0.0, 1.0, -1.0])
    x = odd[torch.randint(0, 10, (2, n, c), generator=generator)]
    regions = torch.randint(0, 3, (1, n), generator=generator) if split else None
    masks = [build_key_semantics(x, k, regions=regions, backend=each).mask() for each in ("naive", backend)]
    assert torch.equal(*masks)


@pytest.mark.parametrize("split", [False, True])
def test_nothing_is_searched_where_everything_is_kept(monkeypatch, split):
    monkeypatch.setattr(threshold, "_select", None)
    x = torch.full((2, 6, 4), torch.nan)
    regions = torch.tensor([[0, 1, 0, 2, 2, 1]]) if split else None
    expected = build_key_semantics(x, 6, regions=regions, backend="naive").mask()
    assert torch.equal(build_key_semantics(x, 9, regions=regions, backend="threshold").mask(), expected)


@pytest.mark.parametrize("backend", ["auto", "naive", "threshold", NATIVE])
@pytest.mark.parametrize("ties", [False, True])
def test_it_compiles_whole(backend, ties):
    def build(x, regions):
        return build_key_semantics(x, 7, regions=regions, backend=backend).mask()

    torch._dynamo.reset()
    build_compiled = torch.compile(build, fullgraph=True, backend="aot_eager")
    for b, n in ((2, 40), (3, 50)):  # the second time sizes are symbols
        x = integer_features(b, n, 3) if ties else torch.randn(b, n, 3)
        regions = torch.arange(n)[None] // 20
        assert torch.equal(build_compiled(x, regions), build(x, regions))


@pytest.mark.parametrize("cosine", [False, True])
@pytest.mark.parametrize("backend", ["threshold", NATIVE])
def test_the_op_is_registered_in_full(cosine, backend):
    regions = torch.arange(20)[None] // 10 if cosine else None
    op = (threshold if backend == "threshold" else native_backend).select_keys
    torch.library.opcheck(op._opoverload, (torch.randn(2, 20, 5), 7, regions, cosine))


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 3), st.integers(1, 40), st.integers(1, 8), st.booleans(), st.integers(0, 10_000))
def test_the_order_is_a_permutation_whatever_the_features(b, n, c, split, seed):
    generator = torch.Generator().manual_seed(seed)
    odd = torch.tensor([torch.nan, torch.inf, -torch.inf, 3e38, 1e-40, 0.0, 1.0, -1.0])
    x = odd[torch.randint(0, 8, (b, n, c), generator=generator)]
    regions = torch.randint(0, 3, (1, n), generator=generator) if split else None
    order = order_queries(x, regions)
    assert order.dtype == torch.int32
    assert torch.equal(order.sort(-1).values, torch.arange(n, dtype=torch.int32).expand(b, n))
    assert torch.equal(order, order_queries(x, regions))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16, torch.float64])
def test_the_order_follows_the_first_principal_component(dtype):
    along = torch.randn(2, 50)
    direction = torch.tensor([1.0, -1.0, 0.5])
    x = 100 + 10 * along[..., None] * direction + 0.01 * torch.randn(2, 50, 3)
    regions = torch.arange(50)[None] % 2
    if dtype in (torch.bfloat16, torch.float16):
        x = x - 100  # whose digits end before those of the tokens' differences begin
    order = order_queries(x.to(dtype), None).long()
    centred = (x - x.mean(1, keepdim=True)).double()
    exact = (centred @ torch.linalg.svd(centred, full_matrices=False).Vh[:, 0, :, None]).squeeze(-1).gather(1, order)
    steps = exact.diff(dim=1) * (exact[:, -1:] - exact[:, :1]).sign()
    assert (steps > -0.2).all()
    grouped = order_queries(x.to(dtype), regions).long()
    assert torch.equal(grouped % 2, (torch.arange(50) // 25).expand(2, -1))
    for parity in (0, 1):
        expected = [[i for i in window if i % 2 == parity] for window in order.tolist()]
        assert grouped[:, 25 * parity : 25 * parity + 25].tolist() == expected


# Dispatch


def test_auto_on_a_cpu(monkeypatch):
    monkeypatch.setenv("TRITON_INTERPRET", "1")  # which is never taken
    x = torch.zeros(1, 8, 4)
    assert choose_backend(x, 3)[0] == ("threshold" if NO_NATIVE else "native")
    assert choose_backend(x.double(), 3)[0] == "threshold"
    assert choose_backend(x, 8)[0] == "threshold"
    monkeypatch.setattr(native_support, "why_not", lambda *_: "no compiler, say")
    assert choose_backend(x, 3) == ("threshold", "no compiler, say")
    with pytest.raises(ValueError, match="'native' cannot run here: no compiler, say"):
        build_key_semantics(x, 3, backend="native")


def test_without_triton_auto_takes_torch_and_asking_for_it_is_an_error(monkeypatch):
    monkeypatch.setattr(triton_support, "find_spec", lambda name: None)
    with FakeTensorMode():
        x = torch.zeros(1, 8, 4, device="cuda")
    assert choose_backend(x, 3) == ("threshold", "triton is not installed")
    with pytest.raises(ValueError, match="'triton' cannot run here: triton is not installed"):
        build_key_semantics(x, 3, backend="triton")


@pytest.mark.skipif(find_spec("triton") is None, reason="triton is not installed")
def test_where_no_kernel_runs_asking_for_it_is_an_error(monkeypatch):
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    with pytest.raises(ValueError, match="'triton' cannot run here: Triton has no kernels for cpu tensors"):
        build_key_semantics(torch.zeros(1, 8, 4), 3, backend="triton")


def test_ops_can_be_imported_without_triton():
    block = "import sys; sys.modules['triton'] = None; import semanir_plugin.ops"
    done = subprocess.run([sys.executable, "-c", block], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_k_may_be_a_symbol_of_a_compiler():
    def half(x):
        return build_key_semantics(x, x.shape[1] // 2, backend="threshold").mask()

    compiled = torch.compile(half, fullgraph=True, dynamic=True, backend="aot_eager")
    for tokens in (6, 9):
        x = torch.randn(2, tokens, 4)
        assert torch.equal(compiled(x), half(x))
    free = ({1: torch.export.Dim.DYNAMIC},)
    exported = torch.export.export(Selecting(half), (x,), dynamic_shapes=free, strict=False)
    assert torch.equal(exported.module()(x), half(x))


class Selecting(torch.nn.Module):
    def __init__(self, function):
        super().__init__()
        self.forward = function


@pytest.mark.parametrize(("n", "m"), [(3, 1), (5, 31), (4, 32), (7, 33), (2, 100)])
def test_packed_masks_come_back(n, m):
    mask = torch.rand(2, n, m) < 0.5
    packed = pack(mask)
    assert packed.shape == (2, n, -(-m // 32))
    assert packed.dtype == torch.int32
    assert torch.equal(unpack(packed, m), mask)
    for j in (0, m - 1):
        assert torch.equal((packed[..., j // 32] >> (j % 32)) & 1 == 1, mask[..., j])


def test_a_dictionary_is_the_same_from_either_form():
    made = build_key_semantics(torch.randn(2, 37, 5), 6)
    other = KeySemantics(6, packed=made.packed())
    assert other.shape == made.shape
    assert torch.equal(other.mask(), made.mask())
    assert torch.equal(other.indices(), made.indices())
    with pytest.raises(ValueError, match="neither"):
        KeySemantics(6)
