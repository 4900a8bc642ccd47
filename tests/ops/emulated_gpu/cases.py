"""Cases that run compiled kernels: each op against its definition in float64, forward and backward.

`python -m tests.ops.emulated_gpu.cases 90` runs all on compute capability 9.0, and tells one JSON line for each: its
name, seconds, the kernels that ran, and the largest relative error of a result, or what went wrong. Of dictionaries the
error is the number of keys that differ.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from unittest import mock

import torch
from torch import Tensor

from tests.ops.emulated_gpu import driver

__all__ = ["NAMES"]

DTYPES = {"fp16": torch.float16, "bf16": torch.bfloat16, "fp32": torch.float32}


def dictionary(dtype: str, tokens: int, channels: int, k: int, kind: str = "") -> Iterator[float]:
    """Number of keys that differ, of features that are whole numbers: sums are exact, with many ties."""
    from semanir_plugin.ops.key_semantics import build_key_semantics, triton_backend

    x = torch.randn(2, tokens, channels).mul(2).round().to(DTYPES[dtype])
    regions = torch.arange(2 * tokens).reshape(2, tokens) // (tokens // 3) if kind == "regions" else None
    if kind == "infinite":
        x[0, 3, 1] = torch.inf
        x[1, 5] = torch.nan
    similarity = "cosine" if kind == "cosine" else "dot"
    if kind == "cosine":
        x = torch.where(x > 0, 1.0, -1.0)  # of one length
    with mock.patch.object(triton_backend, "_is_roomy", return_value=kind != "small"):
        found, expected = (
            build_key_semantics(each, k, regions=regions, similarity=similarity, backend=name).mask()
            for each, name in ((x, "triton"), (x.double(), "naive"))
        )
    yield float((found != expected).sum())


def attention(dtype: str, side: int, width: int, k: int, kind: str = "table") -> Iterator[float]:
    """Errors of the result and of all gradients."""
    from semanir_plugin.ops.key_semantic_attention import key_semantic_attention
    from semanir_plugin.ops.key_semantics import build_key_semantics

    batch, heads, tokens = 2, 2, side * side
    semantics = build_key_semantics(torch.randn(batch, tokens, 8), k, backend="naive")
    q, k_, v = (torch.randn(batch, heads, tokens, width).to(DTYPES[dtype]) for _ in range(3))
    shape = {"table": (heads, 2 * side - 1, 2 * side - 1), "dense": (heads, tokens, tokens)}.get(kind)
    bias = [torch.randn(shape)] if shape else []

    def attend(inputs: Sequence[Tensor], backend: str) -> Tensor:
        more = {"bias": inputs[3]} if bias else {}
        return key_semantic_attention(*inputs[:3], semantics, backend=backend, **more)

    yield from _errors(attend, [q, k_, v, *bias])


def sparse_attention(dtype: str, tokens: int, width: int, kind: str = "bias") -> Iterator[float]:
    """Errors of the result and of all gradients."""
    from semanir_plugin.ops.adaptive_sparse_attention import adaptive_sparse_attention

    batch, heads = 2, 2
    q, k, v = (torch.randn(batch, heads, tokens, width).to(DTYPES[dtype]) for _ in range(3))
    weights = torch.tensor([0.3, 0.7])
    regions = torch.arange(batch * tokens).reshape(batch, tokens) // (tokens // 3) if kind == "regions" else None

    def attend(inputs: Sequence[Tensor], backend: str) -> Tensor:
        return adaptive_sparse_attention(*inputs[:4], bias=inputs[4], regions=regions, backend=backend)

    yield from _errors(attend, [q, k, v, weights, torch.randn(heads, tokens, tokens)])


def cosine(dtype: str, tokens: int, width: int) -> Iterator[float]:
    """Errors of the results and of all gradients."""
    from semanir_plugin.ops.cosine_qkv import cosine_qkv

    qkv, scale = torch.randn(2, tokens, 3 * 2 * width).to(DTYPES[dtype]), torch.rand(2) + 1

    def split(inputs: Sequence[Tensor], backend: str) -> Tensor:
        return torch.stack(cosine_qkv(*inputs, backend=backend))

    yield from _errors(split, [qkv, scale])


def _errors(compute: Callable[[Sequence[Tensor], str], Tensor], inputs: Sequence[Tensor]) -> Iterator[float]:
    """Yield the relative errors of a result and of its gradients, by kernels and by the definition in float64."""
    results = []
    gradient = None
    for backend, dtype in (("triton", None), ("naive", torch.float64)):
        own = [each.detach().to(dtype or each.dtype).requires_grad_() for each in inputs]
        result = compute(own, backend)
        gradient = torch.randn_like(result) if gradient is None else gradient
        results.append([result, *torch.autograd.grad(result, own, gradient.to(result.dtype))])
    for found, expected in zip(*results, strict=True):
        found, expected = found.detach().double(), expected.detach().double()
        yield float((found - expected).norm() / expected.norm())


CASES: dict[str, Callable[[], Iterator[float]]] = {
    "dictionary fp32": lambda: dictionary("fp32", 64, 16, 8),
    "dictionary fp32, odd channels": lambda: dictionary("fp32", 64, 20, 8),
    "dictionary fp32, regions": lambda: dictionary("fp32", 64, 16, 8, "regions"),
    "dictionary fp32, not finite": lambda: dictionary("fp32", 64, 16, 8, "infinite"),
    "dictionary fp32, cosine": lambda: dictionary("fp32", 64, 16, 8, "cosine"),
    "dictionary bf16": lambda: dictionary("bf16", 64, 16, 8),
    "dictionary fp32, 256 tokens": lambda: dictionary("fp32", 256, 48, 64),
    "dictionary fp16, 100 tokens": lambda: dictionary("fp16", 100, 12, 100),
    "attention fp32": lambda: attention("fp32", 8, 30, 8),
    "attention bf16": lambda: attention("bf16", 8, 30, 8),
    "attention fp16, 256 tokens": lambda: attention("fp16", 16, 16, 100),
    "attention bf16, dense bias": lambda: attention("bf16", 8, 32, 24, "dense"),
    "attention fp32, no bias": lambda: attention("fp32", 7, 12, 5, "none"),
    "sparse attention fp32": lambda: sparse_attention("fp32", 64, 16),
    "sparse attention bf16": lambda: sparse_attention("bf16", 64, 32),
    "sparse attention bf16, regions": lambda: sparse_attention("bf16", 64, 32, "regions"),
    "sparse attention fp16, 144 tokens": lambda: sparse_attention("fp16", 144, 24),
    "cosine_qkv fp32": lambda: cosine("fp32", 64, 30),
    "cosine_qkv bf16": lambda: cosine("bf16", 64, 16),
}
NAMES = tuple(CASES)
# At sizes of networks: some take a minute each.
LARGE: dict[str, Callable[[], Iterator[float]]] = {
    "dictionary fp32, 1024 tokens": lambda: dictionary("fp32", 1024, 60, 512),
    "dictionary bf16, 1024 tokens": lambda: dictionary("bf16", 1024, 180, 512),
    "dictionary fp32, 1024 tokens, not finite": lambda: dictionary("fp32", 1024, 60, 64, "infinite"),
    "dictionary fp32, 1024 tokens, regions": lambda: dictionary("fp32", 1024, 60, 512, "regions"),
    "dictionary fp32, 4096 tokens": lambda: dictionary("fp32", 4096, 16, 64),
    "attention bf16, 1024 tokens": lambda: attention("bf16", 32, 30, 512),
    "attention bf16, 1024 tokens, few keys": lambda: attention("bf16", 32, 30, 64),
    "attention fp32, 1024 tokens": lambda: attention("fp32", 32, 30, 512),
    "attention fp16, 1024 tokens, wide": lambda: attention("fp16", 32, 64, 128, "dense"),
    "attention bf16, 256 tokens, widest": lambda: attention("bf16", 16, 128, 64),
    "sparse attention bf16, 256 tokens": lambda: sparse_attention("bf16", 256, 32),
    "dictionary fp32, 1024 tokens, little shared memory": lambda: dictionary("fp32", 1024, 60, 512, "small"),
}


def _main() -> int:
    parser = argparse.ArgumentParser(description="Run compiled kernels instruction by instruction on a CPU.")
    parser.add_argument("architecture", type=int, choices=driver.MOST_SHARED, help="compute capability times ten")
    parser.add_argument(
        "names", nargs="*", metavar="NAME", help="cases; default: all, which takes a quarter of an hour"
    )
    options = parser.parse_args()
    if unknown := set(options.names) - (CASES | LARGE).keys():
        parser.error(f"no such case: {', '.join(sorted(unknown))}; there are {', '.join(CASES | LARGE)}")
    driver.install(options.architecture)
    for name in options.names or (CASES | LARGE):
        torch.manual_seed(0)
        driver.LAUNCHED.clear()
        start, told = time.perf_counter(), {}
        try:
            told["error"] = max((CASES | LARGE)[name]())
        except Exception:
            told["failure"] = traceback.format_exc()
        seconds = round(time.perf_counter() - start, 1)
        print(json.dumps({"name": name, "seconds": seconds, "kernels": driver.LAUNCHED, **told}), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(_main())
