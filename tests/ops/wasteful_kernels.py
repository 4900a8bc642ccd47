"""Kernels that no GPU runs well, and one that all do, for `ahead_of_time` to tell apart."""

from __future__ import annotations

from collections.abc import Iterator

import triton
import triton.language as tl


@triton.jit
def modest_kernel(x, out, SIZE: tl.constexpr):
    i = tl.arange(0, SIZE)
    tl.store(out + i, tl.load(x + i) + 1)


@triton.jit
def spilling_kernel(x, out, SIZE: tl.constexpr):
    # All of it is read before anything is written: at 32 warps 128 values per thread, which has 64 registers.
    i = tl.arange(0, SIZE)
    b = tl.load(x + i)
    tl.store(out + i, b / tl.sum(b))


@triton.jit
def hoarding_kernel(x, out, n, SIZE: tl.constexpr):
    # Each stage of the loop holds two tiles of SIZE * SIZE in shared memory.
    i = tl.arange(0, SIZE)[:, None] * SIZE + tl.arange(0, SIZE)[None, :]
    acc = tl.zeros((SIZE, SIZE), tl.float32)
    for start in range(0, n):
        p_x = x + 2 * start * SIZE * SIZE + i
        # (SIZE, SIZE) @ (SIZE, SIZE)
        acc = tl.dot(tl.load(p_x), tl.load(p_x + SIZE * SIZE), acc)
    tl.store(out + i, acc)


@triton.jit
def wrong_kernel(x, out, SIZE: tl.constexpr):
    tl.store(out + tl.arange(0, SIZE), tl.load(x + tl.arange(0, 2 * SIZE)))


def compilations() -> Iterator[tuple]:
    signature = {"x": "*fp32", "out": "*fp32"}
    yield modest_kernel, signature, {"SIZE": 1024}, 4, 2
    yield spilling_kernel, signature, {"SIZE": 32 * 32 * 128}, 32, 2
    yield hoarding_kernel, {"x": "*fp16", "out": "*fp32", "n": "i32"}, {"SIZE": 64}, 4, 20
    yield wrong_kernel, signature, {"SIZE": 32}, 4, 2
