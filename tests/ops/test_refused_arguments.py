"""What every op refuses, whichever backend is asked for, and the batch of no windows that all of them take."""

from __future__ import annotations

import pytest
import torch

from semanir_plugin.ops import (
    adaptive_sparse_attention,
    build_key_semantics,
    cosine_qkv,
    key_semantic_attention,
    key_semantics,
)
from semanir_plugin.ops.adaptive_sparse_attention import BACKENDS as ADAPTIVE
from semanir_plugin.ops.common import native_support
from semanir_plugin.ops.cosine_qkv import BACKENDS as COSINE
from semanir_plugin.ops.key_semantic_attention import BACKENDS as ATTENTION
from semanir_plugin.ops.key_semantics import BACKENDS as DICTIONARY
from semanir_plugin.ops.key_semantics import KeySemantics

NO_NATIVE = native_support.why_not(key_semantics.native_backend.SOURCE, torch.device("cpu"), torch.float32)
OPS = {
    "dictionary": (build_key_semantics, tuple(DICTIONARY)),
    "attention": (key_semantic_attention, tuple(ATTENTION)),
    "adaptive": (adaptive_sparse_attention, tuple(ADAPTIVE)),
    "cosine": (cosine_qkv, tuple(COSINE)),
}
HEADS = ("attention", "adaptive")
REGIONS = ("dictionary", "adaptive")


def arguments_of(op, windows=2):
    """Return arguments that are right: windows of 9 tokens, 2 heads of 4."""
    if op == "dictionary":
        return {"x": torch.zeros(windows, 9, 4), "k": 3}
    if op == "cosine":
        return {"qkv": torch.zeros(windows, 9, 24), "scale": torch.ones(2)}
    heads = {name: torch.zeros(windows, 2, 9, 4) for name in "qkv"}
    if op == "adaptive":
        return heads | {"weights": torch.ones(2)}
    return heads | {"semantics": dictionary(windows, 9)}


def dictionary(windows, tokens):
    return KeySemantics(3, mask=torch.ones(windows, tokens, tokens, dtype=torch.bool))


def heads(*shape, **options):
    return dict.fromkeys("qkv", torch.zeros(shape, **options))


def labels(*shape, dtype=torch.int64):
    return {"regions": torch.zeros(shape, dtype=dtype)}


NO_KEYS = {"semantics": dictionary(2, 0)}
BAD = [
    (REGIONS, labels(0, 9), "R a divisor of B = 2"),
    (REGIONS, labels(3, 9), "R a divisor of B = 2"),
    (REGIONS, labels(1, 8), "N = 9"),
    (REGIONS, labels(9), "regions must have shape"),
    (REGIONS, labels(1, 9, dtype=torch.complex64), "regions must be integers or booleans on cpu, got torch.complex64"),
    (REGIONS, labels(1, 9, dtype=torch.float32), "regions must be integers or booleans on cpu, got torch.float32"),
    (REGIONS, {"regions": torch.zeros(1, 9, dtype=torch.int64, device="meta")}, "or booleans on cpu, got .* on meta"),
    (HEADS, {"q": torch.zeros(2, 9, 4)}, "one shape"),
    (HEADS, {"v": torch.zeros(2, 2, 9)}, "one shape"),
    (HEADS, {"k": torch.zeros(2, 2, 9, 5)}, "one shape"),
    (HEADS, {"v": torch.zeros(2, 2, 7, 4)}, "one shape"),
    (("adaptive",), {"v": torch.zeros(2, 2, 9, 5)}, "one shape"),
    (("attention",), {"v": torch.zeros(2, 2, 9, 0)}, "v must have H, N and D of at least 1"),
    (("attention",), heads(2, 2, 0, 4) | NO_KEYS, "q must have H, N and D of at least 1"),
    (("adaptive",), heads(2, 2, 0, 4), "q must have H, N and D of at least 1"),
    (HEADS, heads(2, 2, 9, 0), "q must have H, N and D of at least 1"),
    (HEADS, heads(2, 0, 9, 4), "q must have H, N and D of at least 1"),
    (HEADS, {"v": torch.zeros(2, 2, 9, 4, dtype=torch.float64)}, "one floating dtype"),
    (HEADS, heads(2, 2, 9, 4, dtype=torch.int64), "one floating dtype"),
    (HEADS, heads(2, 2, 9, 4, dtype=torch.complex64), "one floating dtype"),
    (HEADS, {"q": torch.zeros(2, 2, 9, 4, device="meta")}, "one device"),
    (HEADS, {"bias": torch.zeros(2, 9, 7)}, "bias must have shape"),
    (HEADS, {"bias": torch.zeros(2, 9, 9, dtype=torch.int64)}, "bias must be floating"),
    (HEADS, {"bias": torch.zeros(2, 9, 9, device="meta")}, "one device"),
    (("attention",), {"semantics": dictionary(2, 8)}, "the dictionary is of"),
    (("adaptive",), {"weights": torch.zeros(3)}, r"weights must be a floating tensor of shape \(2,\)"),
    (("dictionary",), {"x": torch.zeros(3, 4)}, r"shape \(B, N, C\)"),
    (("dictionary",), {"x": torch.zeros(2, 9, 4, dtype=torch.int64)}, "floating"),
    (("dictionary",), {"x": torch.zeros(2, 0, 4)}, "x must have N and C of at least 1"),
    (("dictionary",), {"x": torch.zeros(2, 9, 0)}, "x must have N and C of at least 1"),
    (("dictionary",), {"k": 0}, "at least 1"),
    *((("dictionary",), {"k": k}, "whole number") for k in (4.0, 1.5, float("nan"), True, "4", None, torch.tensor(4))),
    (("dictionary",), {"similarity": "euclid"}, "similarity"),
    (("cosine",), {"qkv": torch.zeros(2, 24)}, r"got \(2, 24\)"),
    (("cosine",), {"qkv": torch.zeros(2, 0, 24)}, "qkv must have N and C of at least 1"),
    (("cosine",), {"qkv": torch.zeros(2, 9, 0)}, "qkv must have N and C of at least 1"),
    (("cosine",), {"qkv": torch.zeros(2, 9, 24, dtype=torch.int64)}, "must be floating"),
    (("cosine",), {"qkv": torch.zeros(2, 9, 24, device="meta")}, "one device"),
    (("cosine",), {"scale": torch.ones(2, 1)}, r"scale must be floating and of shape \(H,\)"),
    (("cosine",), {"scale": torch.ones(0)}, r"scale must be floating and of shape \(H,\)"),
    (("cosine",), {"scale": torch.ones(2, dtype=torch.int64)}, "got torch.int64"),
    (("cosine",), {"scale": torch.ones(5)}, "C a multiple of H = 5"),
]
CASES = [
    pytest.param(op, backend, change, message, id=f"{op}-{backend}-{number}")
    for number, (ops, change, message) in enumerate(BAD)
    for op in ops
    for backend in ("auto", *OPS[op][1])
]


@pytest.mark.parametrize(("op", "backend", "change", "message"), CASES)
def test_bad_arguments_are_refused_by_every_backend(op, backend, change, message):
    with pytest.raises(ValueError, match=message):
        OPS[op][0](**arguments_of(op) | change, backend=backend)


@pytest.mark.parametrize("op", OPS)
def test_unknown_backends_are_named(op):
    with pytest.raises(ValueError, match="backend must be one of"):
        OPS[op][0](**arguments_of(op), backend="cuda")


@pytest.mark.usefixtures("kernel_device")
@pytest.mark.parametrize(("op", "backend"), [(op, each) for op in OPS for each in ("auto", *OPS[op][1])])
def test_a_batch_of_no_windows_gives_one(op, backend):
    if backend == "native" and NO_NATIVE:
        pytest.skip(NO_NATIVE)
    arguments = arguments_of(op, windows=0)
    if op in REGIONS:
        arguments["regions"] = torch.zeros(1, 9, dtype=torch.int64)
    out = OPS[op][0](**arguments, backend=backend)
    results = [out.mask()] if op == "dictionary" else out if op == "cosine" else [out]
    assert {each.shape for each in results} == {(0, 9, 9) if op == "dictionary" else (0, 2, 9, 4)}
