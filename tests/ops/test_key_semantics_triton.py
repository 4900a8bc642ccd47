"""The dictionary's kernel, on a GPU or in Triton's interpreter."""

from __future__ import annotations

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch._subclasses import FakeTensorMode

from semanir_plugin.evaluation.profiling.network_features import stage_inputs
from semanir_plugin.ops import build_key_semantics, key_semantics
from semanir_plugin.ops.key_semantics import choose_backend
from semanir_plugin.ops.key_semantics.packing import pack
from semanir_plugin.ops.key_semantics.query_order import order_queries

pytest.importorskip("triton")

import triton
import triton.language as tl

from semanir_plugin.ops.key_semantics import triton_backend, triton_rows
from semanir_plugin.ops.key_semantics.triton_kernels import number_at

SHAPES = [
    pytest.param(2, 1, 10, 1, id="B2-N1-C10-k1"),
    pytest.param(2, 63, 30, 7, id="B2-N63-C30-k7"),
    pytest.param(1, 100, 180, 1, id="B1-N100-C180-k1"),
    pytest.param(1, 100, 512, 64, id="B1-N100-C512-k64"),
    pytest.param(3, 33, 30, 33, id="B3-N33-C30-k33"),
    pytest.param(1, 257, 10, 256, id="B1-N257-C10-k256"),
    pytest.param(1, 1024, 180, 1024, id="B1-N1024-C180-k1024"),
    pytest.param(0, 16, 10, 7, id="B0-N16-C10-k7"),
]
DTYPES = [torch.float32, torch.bfloat16, torch.float16]
# Each example of a property runs the interpreter: few, and the fixtures may be shared by all of them.
FEW = settings(deadline=None, max_examples=8, suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.fixture(autouse=True)
def _poison(monkeypatch):
    """Fill new tensors with -1, all bits set, so that elements which a kernel leaves unwritten fail."""
    empty = torch.empty
    monkeypatch.setattr(torch, "empty", lambda *size, **options: empty(*size, **options).fill_(-1))


@pytest.fixture
def short_rows(monkeypatch):
    """Treat rows of 128 similarities as too long for the registers."""
    monkeypatch.setattr(triton_backend, "TILES", (triton_backend._Tile(128, 32, 64, 16, 4),))


def integer_features(b, n, c, device):
    # Small integers give exact products in every dtype, and many ties.
    return torch.randint(-2, 3, (b, n, c), device=device).float()


def build(x, k, backend="triton", **options):
    return build_key_semantics(x, k, backend=backend, **options)


def assert_equal(x, k, **options):
    """Assert that kernel and naive keep the same keys, with nothing in the bits past the window."""
    expected = pack(build(x, k, backend="naive", **options).mask())
    assert torch.equal(build(x, k, **options).packed(), expected)


def assert_keeps_the_largest(x, k):
    """Assert that no dropped key is more similar than a kept one, but for rounding."""
    mask = build(x, k).mask()
    s = x.double() @ x.double().mT
    assert (mask.sum(-1) == min(k, x.shape[1])).all()
    smallest_kept = s.masked_fill(~mask, torch.inf).amin(-1)
    largest_dropped = s.masked_fill(mask, -torch.inf).amax(-1)
    norms = x.double().norm(dim=-1)
    assert (smallest_kept >= largest_dropped - 1e-6 * norms.amax() ** 2).all()


@pytest.mark.parametrize(("b", "n", "c", "k"), SHAPES)
def test_ties_go_to_the_lower_index(kernel_device, b, n, c, k):
    x = integer_features(b, n, c, kernel_device)
    x[..., 2:] *= torch.rand(b, 1, 1, device=kernel_device) < 0.5  # in two channels nearly all are ties
    assert_equal(x, k)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("b", "n", "c", "k"), [(1, 63, 30, 7), (1, 100, 180, 64)])
def test_the_largest_are_kept_in_every_dtype(kernel_device, dtype, b, n, c, k):
    x = torch.randn(b, n, c, device=kernel_device).to(dtype)
    assert_keeps_the_largest(x, k)
    assert_equal(integer_features(b, n, c, kernel_device).to(dtype), k)


def test_a_window_of_the_published_size(kernel_device):
    assert_keeps_the_largest(torch.randn(1, 1024, 10, device=kernel_device), 64)


def test_equal_tokens_are_all_ties(kernel_device):
    mask = build(torch.ones(1, 70, 4, device=kernel_device), 9).mask()
    assert mask[..., :9].all()
    assert not mask[..., 9:].any()


@pytest.mark.parametrize("k", [1, 40])
def test_rows_too_long_for_the_registers(kernel_device, short_rows, k):
    # more blocks than programs, in the interpreter: a scratch is used again
    assert_equal(integer_features(2, 70, 5, kernel_device), k)
    assert_keeps_the_largest(torch.randn(1, 100, 20, device=kernel_device), k)


@pytest.mark.parametrize("n", [1, 64, 65, 128])
def test_rows_too_long_for_the_registers_with_regions(kernel_device, short_rows, n):
    regions = torch.arange(n, device=kernel_device)[None] % 3
    assert_equal(integer_features(1, n, 5, kernel_device), 25, regions=regions)


def test_a_window_longer_than_the_published(kernel_device):
    n = 1025
    x = integer_features(1, n, 3, kernel_device)
    regions = torch.arange(n, device=kernel_device)[None] // 7
    assert_equal(x, 7, regions=regions)  # regions as large as k: there is nothing to search, which takes minutes here


@pytest.mark.parametrize(
    "dtype", [torch.int64, torch.int32, torch.int16, torch.uint8, torch.bool], ids=lambda dtype: str(dtype)[6:]
)
def test_regions_limit_the_candidates(kernel_device, dtype):
    labels = torch.tensor([0, 1] if dtype == torch.bool else [3, 0, 77], device=kernel_device)
    regions = labels[torch.randint(0, len(labels), (2, 30), device=kernel_device)].to(dtype)
    assert_equal(integer_features(4, 30, 5, kernel_device), 9, regions=regions)


def test_regions_may_have_any_labels(kernel_device):
    regions = torch.tensor([[-1, -1, 0, 1 << 32, 1 << 33, -(1 << 62), 5, 0, -1, 1 << 32]], device=kernel_device)
    assert_equal(integer_features(1, 10, 3, kernel_device), 2, regions=regions)


def test_cosine(kernel_device):
    x = torch.randn(1, 64, 12, device=kernel_device)
    wrong = build(x, 9, similarity="cosine").mask() ^ build(x, 9, "naive", similarity="cosine").mask()
    assert wrong.sum() <= 2  # normalised in two ways: a pair may change places at the threshold
    assert not torch.equal(build(x, 9, similarity="cosine").mask(), build(x, 9).mask())


@pytest.mark.filterwarnings("ignore:(invalid value|overflow) encountered in matmul")
@pytest.mark.parametrize("value", [torch.nan, torch.inf, -torch.inf, 2.0**125])
def test_what_is_not_finite_ends_and_ranks_as_in_naive(kernel_device, value):
    x = integer_features(3, 30, 4, kernel_device)  # four times 2 times 2^125 is too large, in any order of sums
    x[0, 3, 2] = value
    x[1, :20] = value
    x[2] = value
    assert_equal(x, 7)
    assert_equal(x, 7, regions=torch.arange(30, device=kernel_device)[None] // 12)


def test_nan_ranks_below_all_others_of_the_region(kernel_device):
    x = torch.randn(1, 40, 4, device=kernel_device)
    x[0, 5] = torch.nan
    regions = torch.arange(40, device=kernel_device)[None] // 20
    assert not build(x, 19, regions=regions).mask()[0, 0, 5]
    assert build(x, 20, regions=regions).mask()[0, 0, 5]
    assert not build(x, 40, regions=regions).mask()[0, 0, 20:].any()


@triton.jit
def number_at_kernel(places, out, SIZE: tl.constexpr):  # noqa: N803
    i = tl.arange(0, SIZE)
    tl.store(out + i, number_at(tl.load(places + i).to(tl.uint32, bitcast=True)))


def test_places_are_in_the_order_of_their_numbers(kernel_device):
    places = torch.tensor(
        [0x007FFFFF, 0x00800000, 0x3FFFFFFF, 0x7FFFFFFE, 0x7FFFFFFF, 0x80000000, 0x80000001, 0xFF800000]
    )
    out = torch.zeros(len(places), device=kernel_device)
    number_at_kernel[(1,)](places.to(torch.uint32).view(torch.int32).to(kernel_device), out, SIZE=len(places))
    least, most = 2.0**-149, torch.finfo(torch.float32).max
    assert out.tolist() == [-torch.inf, -most, -2.0, -least, 0.0, 0.0, least, torch.inf]
    assert out[4].signbit()


@pytest.mark.filterwarnings("ignore:(invalid value|overflow) encountered in matmul")
def test_similarities_at_the_ends_of_fp32_keep_their_order(kernel_device):
    numbers = [torch.inf, 3e38, 2.0, 1.0, 1e-38, 1e-45, 0.0, -1e-45, -1e-38, -1.0, -2.0, -3e38, -torch.inf]
    x = torch.tensor([1.0, *numbers], device=kernel_device).view(1, -1, 1)  # the similarities of query 0
    for k in range(1, x.shape[1] + 1):
        kept = build(x, k).mask()[0, 0]
        assert torch.equal(kept, build(x, k, "naive").mask()[0, 0])
        assert kept.sum() == k


# Features of fp32 in halves


def scales(x):
    return triton_rows.lay_out(x, 64 * -(-x.shape[1] // 64)).scale


def unlike_float64(mask, x):
    """Return how many rows of a mask keep other keys than similarities in fp64 would."""
    s = x.double() @ x.double().mT
    return (s.masked_fill(mask, -torch.inf).amax(-1) > s.masked_fill(~mask, torch.inf).amin(-1)).sum().item()


@pytest.mark.parametrize("k", [16, 64])
def test_a_trained_network_has_the_keys_of_fp32(kernel_device, k):
    x = stage_inputs(4, (16, 16), 48, stage=0).to(kernel_device)
    assert scales(x).all()
    other = [unlike_float64(build(each, k).mask(), x) for each in (x, x.half())]
    assert other[0] <= 5  # of 1,024, where naive has 1 or 2: a rounding decides them
    assert other[1] > 100


def test_the_last_bits_count(kernel_device):
    x = torch.ones(1, 64, 2, device=kernel_device)
    x[0, :, 1] = 1 + torch.randperm(64, device=kernel_device) * 2.0**-22
    assert scales(x).all()
    kept = build(x, 20).mask()[0]
    assert torch.equal(kept, (x[0, :, 1] > 1 + 43 * 2.0**-22).expand(64, 64))


SCALES = {
    "ones": (torch.ones(2, 3), 2.0**14),
    "just below two": (torch.tensor([[2 - 2.0**-23, 0.1], [1.0, -0.5]]), 2.0**14),
    "a token of zeros": (torch.tensor([[0.0, 0.0], [0.0, -8.0]]), 2.0**11),
    "a token at the end of the span": (torch.tensor([[2.0**-10, 0.0], [-1.0, 0.0]]), 2.0**14),
    "a token past it": (torch.tensor([[2.0**-10 - 2.0**-34, 0.0], [1.0, 0.0]]), 0.0),
    "only zeros": (torch.zeros(2, 3), 0.0),
    "not a number": (torch.tensor([[1.0, torch.nan], [1.0, 1.0]]), 0.0),
    "infinite": (torch.tensor([[1.0, 1.0], [-torch.inf, 1.0]]), 0.0),
    "huge": (torch.full((2, 2), 2.0**50), 0.0),
    "tiny": (torch.full((2, 2), 2.0**-50), 0.0),
    "large": (torch.full((2, 2), -1e12), 2.0**-25),
    "small": (torch.full((2, 2), 1e-12), 2.0**54),
}


@pytest.mark.parametrize(("x", "scale"), SCALES.values(), ids=SCALES)
def test_a_window_is_scaled_where_halves_are_exact(kernel_device, x, scale):
    found = scales(torch.stack([x, torch.ones_like(x)]).to(kernel_device))
    assert found.tolist() == [scale, 2.0**14]


@pytest.mark.parametrize(("n", "c", "tokens"), [(1, 1, 64), (64, 16, 64), (70, 100, 256)])
def test_halves_are_features_and_the_rest_is_zeros(kernel_device, n, c, tokens):
    x = torch.randn(3, n, c, device=kernel_device) * torch.logspace(-2, 0, n, device=kernel_device)[:, None]
    x[1] *= 1e20  # is left as it is
    rows = triton_rows.lay_out(x, tokens)
    scales = rows.scale[:, None, None].double()
    assert rows.scale.bool().tolist() == [True, False, True]
    halves = rows.halves.double().sum(1) / scales
    largest = x.abs().amax(-1)[:, None].double()
    for i in (0, 2):
        assert ((halves[i, :c, :n] - x[i].mT).abs() <= 2.0**-23 * largest[i]).all()
        assert not halves[i, c:].any()
        assert not halves[i, :, n:].any()
    assert torch.equal(rows.whole[1, :c, :n], x[1].mT)
    assert not rows.whole[1, c:].any()
    assert not rows.whole[1, :, n:].any()


@pytest.mark.parametrize("dtype", DTYPES[1:])
def test_halves_are_for_fp32_alone(kernel_device, dtype):
    x = torch.randn(2, 30, 20, device=kernel_device).to(dtype)
    whole, halves, scale = triton_rows.lay_out(x, 64)
    assert halves is scale is None
    assert torch.equal(whole[:, :20, :30], x.mT)
    assert not whole[:, 20:].any()
    assert not whole[:, :, 30:].any()


@pytest.mark.parametrize("tiles", ["published", "short"])
def test_windows_of_both_kinds_side_by_side(kernel_device, request, tiles):
    if tiles == "short":
        request.getfixturevalue("short_rows")
    x = integer_features(5, 70, 6, kernel_device)
    x[1] *= torch.where(torch.arange(70, device=kernel_device) % 2 == 0, 2.0**-40, 1)[:, None]
    x[3] *= 2.0**60
    x[4] *= 2.0**-30
    assert scales(x).bool().tolist() == [True, False, True, False, True]
    assert_equal(x, 9)
    assert_equal(x, 9, regions=torch.arange(70, device=kernel_device)[None] // 25)


@FEW
@given(n=st.integers(1, 64), c=st.integers(1, 20), k=st.integers(1, 70), seed=st.integers(0, 10_000))
def test_every_row_keeps_its_k_largest(kernel_device, n, c, k, seed):
    assert_keeps_the_largest(torch.randn(1, n, c, generator=torch.Generator().manual_seed(seed)).to(kernel_device), k)


@FEW
@given(n=st.integers(1, 64), k=st.integers(1, 70), labels=st.integers(1, 9), seed=st.integers(0, 10_000))
def test_every_row_keeps_as_many_as_its_region_has(kernel_device, n, k, labels, seed):
    generator = torch.Generator().manual_seed(seed)
    regions = torch.randint(0, labels, (1, n), generator=generator).to(kernel_device)
    x = torch.randint(-2, 3, (2, n, 3), generator=generator).float().to(kernel_device)
    counts = build(x, k, regions=regions).counts()
    assert torch.equal(counts[0], (regions[0] == regions[0, :, None]).sum(1).clamp_max(k))
    assert_equal(x, k, regions=regions)


@FEW
@given(n=st.integers(2, 64), k=st.integers(1, 64), seed=st.integers(0, 10_000))
def test_permuting_the_tokens_permutes_the_dictionary(kernel_device, n, k, seed):
    generator = torch.Generator().manual_seed(seed)
    # Large integers: exact products of which hardly two are equal; x drawn with ties would need their lower index.
    x = torch.randint(-500, 501, (1, n, 8), generator=generator).float().to(kernel_device)
    order = torch.randperm(n, generator=generator).to(kernel_device)
    s = (x[0].double() @ x[0].double().T).sort(-1).values
    mask = build(x, k).mask()[0][order][:, order]
    permuted = build(x[:, order], k).mask()[0]
    tied = (s.diff(dim=-1) == 0).any(-1)[order]
    assert torch.equal(permuted[~tied], mask[~tied])


def test_strides_gradients_and_autocast_do_not_matter(kernel_device):
    x = torch.randint(-2, 3, (9, 40, 2), device=kernel_device).float().requires_grad_()
    expected = build(x.mT[..., ::2, :].contiguous(), 5).packed()
    with torch.autocast(kernel_device, dtype=torch.bfloat16):
        semantics = build(x.mT[..., ::2, :], 5)
    assert torch.equal(semantics.packed(), expected)
    assert semantics.shape == (9, 1, 1)
    assert not semantics.packed().requires_grad


def test_the_kernel_gives_an_order_the_torch_backends_none(kernel_device):
    x = torch.randn(2, 40, 5, device=kernel_device)
    regions = torch.arange(40, device=kernel_device)[None] // 20
    assert torch.equal(build(x, 7, regions=regions).query_order, order_queries(x, regions))
    assert build(x, 7, "threshold").query_order is None


# Dispatch


@pytest.fixture
def on_cuda():
    """Tensors that are on a GPU as far as dispatch can tell."""
    with FakeTensorMode():
        yield lambda *shape, dtype=torch.float32: torch.zeros(shape, dtype=dtype, device="cuda")


def test_auto_takes_the_kernel_on_a_gpu(on_cuda, monkeypatch):
    monkeypatch.undo()  # what fakes a GPU has no memory to poison
    x = on_cuda(2, 40, 8)
    assert choose_backend(x, 7) == ("triton", "a GPU is there and the kernel takes these features")
    semantics = build_key_semantics(x, 7, regions=on_cuda(1, 40, dtype=torch.int64))
    assert semantics.packed().shape == (2, 40, 2)
    assert semantics.packed().dtype == torch.int32
    assert semantics.query_order.shape == (2, 40)


@pytest.mark.parametrize(
    ("shape", "dtype", "k", "reason"),
    [
        ((1, 8, 4), torch.float32, 8, "k = 8 keeps all 8 tokens"),
        ((1, 8, 4), torch.float64, 3, "no torch.float64"),
        ((1, 4097, 4), torch.float32, 3, "up to 4096 tokens, got 4097"),
    ],
)
def test_auto_says_why_it_does_not_take_the_kernel(on_cuda, shape, dtype, k, reason):
    name, why = choose_backend(on_cuda(*shape, dtype=dtype), k)
    assert name == "threshold"
    assert reason in why


def test_dispatch_knows_what_the_kernel_takes():
    assert triton_backend.TILES[-1].tokens == key_semantics.KERNEL_TOKENS
    assert tuple(triton_backend.TYPES) == key_semantics.KERNEL_DTYPES


# Compilation


SIZES = ("NP", "BM", "BN", "BC", "BR")


class Recorder:
    """Record the arguments of a launch instead of running the kernel."""

    def __init__(self, kernel):
        self.names, self.launches = kernel.arg_names, []

    def __getitem__(self, grid):
        def launch(*, num_warps, num_stages, **arguments):
            assert arguments.keys() == set(self.names)
            fixed = [name for name, value in arguments.items() if value is None or name in ("HALVES", *SIZES)]
            constexprs = {name: arguments.pop(name) for name in fixed}
            kinds = {
                name: "*" + triton_backend.TYPES.get(value.dtype, "i32") if torch.is_tensor(value) else "i32"
                for name, value in arguments.items()
            }
            self.launches.append((self, kinds, constexprs, num_warps, num_stages))

        return launch


@pytest.mark.parametrize("roomy", [True, False])
def test_whatever_is_launched_is_compiled_ahead_of_time(kernel_device, monkeypatch, roomy):
    recorders = []
    for module, name in (
        (triton_backend, "key_semantics_kernel"),
        (triton_backend, "key_semantics_long_kernel"),
        (triton_rows, "key_semantics_rows_kernel"),
    ):
        recorders.append(Recorder(getattr(module, name)))
        monkeypatch.setattr(module, name, recorders[-1])
    monkeypatch.setattr(triton_backend, "_is_roomy", lambda device: roomy)
    dtypes = DTYPES if kernel_device == "cuda" else [torch.float32, torch.float16]  # the interpreter has no bf16
    for n in (1, 64, 65, 256, 257, 1024, 1025, 2048, 2049, 4096):
        for dtype in dtypes:
            triton_backend._run(torch.zeros(1, n, 3, dtype=dtype, device=kernel_device), 1, None)
    launches = [launch for recorder in recorders for launch in recorder.launches]
    assert len(launches) == 10 * (2 * len(dtypes) + 1)  # rows and a search for each, for fp32 another search
    compiled = list(triton_backend.compilations())
    assert all(launch in compiled for launch in launches)


def test_a_second_tile_is_loaded_where_there_is_room(monkeypatch):
    monkeypatch.setattr(triton_backend, "_properties", lambda device: {"max_shared_mem": (99 << 10) * device.index})
    assert not triton_backend._is_roomy(torch.device("cuda", 1))
    assert triton_backend._is_roomy(torch.device("cuda", 2))


@pytest.mark.parametrize("split", [False, True])
def test_the_op_is_registered_in_full(kernel_device, split):
    x = integer_features(2, 20, 5, kernel_device)
    regions = torch.arange(20, device=kernel_device)[None] // 10 if split else None
    torch.library.opcheck(torch.ops.semanir_plugin.select_keys_packed.default, (x, 7, regions))


def test_it_compiles_whole(kernel_device):
    x = integer_features(2, 40, 5, kernel_device)

    @torch.compile(fullgraph=True, backend="aot_eager")
    def build_compiled(x):
        semantics = build(x, 7)
        return semantics.mask(), semantics.query_order

    mask, order = build_compiled(x)
    assert torch.equal(mask, build(x, 7).mask())
    assert torch.equal(order, build(x, 7).query_order)
