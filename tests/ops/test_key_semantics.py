from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from semanir_plugin.ops import KeySemantics, build_key_semantics
from semanir_plugin.ops.key_semantics.packing import pack, unpack

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
def test_threshold_equals_naive(b, n, c, k, similarity):
    x = torch.randn(b, n, c)
    masks = [build_key_semantics(x, k, similarity=similarity, backend=each).mask() for each in ("naive", "threshold")]
    assert masks[0].shape == (b, n, n)
    # cosine normalises in two ways: allow a key in ten thousand to differ at the threshold
    assert (masks[0] != masks[1]).float().mean().nan_to_num() <= (0 if similarity == "dot" else 1e-4)


@pytest.mark.parametrize(("b", "n", "c", "k"), SHAPES)
@pytest.mark.parametrize("backend", ["naive", "threshold"])
def test_ties_go_to_the_lower_index(b, n, c, k, backend):
    x = integer_features(b, n, c)[..., :3]
    semantics = build_key_semantics(x, k, backend=backend)
    assert semantics.indices().tolist() == [by_hand(window, k) for window in x]


@pytest.mark.parametrize("backend", ["naive", "threshold"])
def test_regions_limit_the_candidates(backend):
    x = integer_features(4, 30, 5)
    regions = torch.randint(0, 3, (2, 30))
    regions[0, 0] = 7  # a region of one token
    semantics = build_key_semantics(x, 12, regions=regions, backend=backend)
    for window, labels, mask in zip(x, regions.repeat(2, 1), semantics.mask(), strict=True):
        expected = by_hand(window, 12, labels.tolist())
        assert [row.nonzero().flatten().tolist() for row in mask] == expected
    assert semantics.counts()[0, 0] == 1


@pytest.mark.parametrize("backend", ["naive", "threshold"])
def test_indices_stay_in_range_and_repeat_the_first_key(backend):
    regions = torch.tensor([[0, 0, 1, 1, 1]])
    indices = build_key_semantics(torch.randn(1, 5, 4), 3, regions=regions, backend=backend).indices()
    assert indices[0, 0].tolist() == [0, 1, 0]
    assert indices[0, 3].tolist() == [2, 3, 4]


@pytest.mark.parametrize("backend", ["naive", "threshold"])
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


def test_long_batches_are_cut_into_chunks(monkeypatch):
    from semanir_plugin.ops.key_semantics import threshold

    x, regions = torch.randn(6, 20, 4), torch.randint(0, 2, (3, 20))
    whole = build_key_semantics(x, 5, regions=regions).mask()
    monkeypatch.setattr(threshold, "CHUNK_ELEMENTS", 20 * 20 * 4)
    assert torch.equal(build_key_semantics(x, 5, regions=regions).mask(), whole)


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


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"x": torch.zeros(3, 4)}, r"shape \(B, N, C\)"),
        ({"x": torch.zeros(1, 3, 4, dtype=torch.int64)}, "floating"),
        ({"k": 0}, "at least 1"),
        ({"similarity": "euclid"}, "similarity"),
        ({"backend": "cuda"}, "backend"),
        ({"regions": torch.zeros(1, 5, dtype=torch.int64)}, "regions"),
        ({"regions": torch.zeros(3, 8, dtype=torch.int64)}, "divisor"),
        ({"regions": torch.zeros(1, 8)}, "integers"),
    ],
)
def test_wrong_arguments_are_named(kwargs, message):
    with pytest.raises(ValueError, match=message):
        build_key_semantics(**{"x": torch.zeros(2, 8, 4), "k": 3, **kwargs})


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
