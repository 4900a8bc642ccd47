"""Runs the native kernels on shapes of all kinds under the compiler's address and undefined-behaviour checks.

To be started by `test_native_memory.py`, with the checks' libraries loaded before Python.
"""

from __future__ import annotations

import random

import torch

from semanir_plugin.ops import build_key_semantics, cosine_qkv, key_semantic_attention
from semanir_plugin.ops.common import native_compiler
from semanir_plugin.ops.layer_norm import layer_norm
from semanir_plugin.ops.linear.native_backend import parameter_gradients

CHECKS = ("-fsanitize=address,undefined", "-fno-sanitize-recover=undefined", "-O1", "-g")


def attend(rng: random.Random) -> None:
    """Forward and backward of the attention on a window, or a few, of any size."""
    n, width = rng.choice([1, 2, 7, 16, 31, 33, 64, 65, 100, 144, 200, 256]), rng.choice([1, 3, 8, 15, 16, 17, 30, 34])
    b, h, values = rng.randint(1, 3), rng.randint(1, 3), rng.choice([width, width + 16, 5])
    dtype = rng.choice([torch.float32, torch.bfloat16])
    regions = torch.randint(0, 3, (1, n)) if rng.random() < 0.4 else None
    x = torch.randn(b, n, rng.choice([1, 5, 16, 17]))
    semantics = build_key_semantics(x, rng.randint(1, n), regions=regions, backend="native")
    q, k = (torch.randn(b, n, h, width, dtype=dtype).transpose(1, 2).requires_grad_() for _ in range(2))
    v = torch.randn(b, h, n, values, dtype=dtype, requires_grad=True)
    if rng.random() < 0.3:
        with torch.no_grad():
            k[0, 0, 0, 0], v[0, 0, -1, -1], q[0, 0, n // 2, 0] = torch.nan, torch.inf, -torch.inf
    side = round(n**0.5)
    shapes = [None, (n, n), (2 * side - 1, 2 * side - 1) if side * side == n else None]
    shape, scale = rng.choice(shapes), rng.choice([0.1, 1.0, 60.0])
    bias = None if shape is None else torch.randn(h, *shape, requires_grad=True)
    key_semantic_attention(q, k, v, semantics, bias=bias, scale=scale, backend="native").sum().backward()


def split(rng: random.Random) -> None:
    """Forward and backward of the heads of cosine attention."""
    h, width = rng.randint(1, 3), rng.choice([1, 5, 16, 30])
    dtype = rng.choice([torch.float32, torch.bfloat16])
    qkv = torch.randn(2, rng.randint(1, 70), 3 * h * width, dtype=dtype, requires_grad=True)
    sum(each.sum() for each in cosine_qkv(qkv, torch.rand(h, requires_grad=True), backend="native")).backward()


def normalise(rng: random.Random) -> None:
    """Forward and backward of layer normalisation."""
    rows, width, dtype = (
        rng.choice([1, 3, 4, 257, 600]),
        rng.randint(1, 50),
        rng.choice([torch.float32, torch.bfloat16]),
    )
    x, residual = (torch.randn(rows, width, dtype=dtype, requires_grad=True) for _ in range(2))
    weight, bias = (torch.randn(width, requires_grad=True) for _ in range(2))
    layer_norm(x, weight, bias, residual=rng.choice([None, residual])).sum().backward()


def multiply(rng: random.Random) -> None:
    """The gradients of a linear layer's weight and bias."""
    tokens, inputs, outputs = rng.choice([0, 1, 63, 64, 2100]), rng.randint(1, 70), rng.randint(1, 110)
    parameter_gradients(torch.randn(tokens, inputs), torch.randn(tokens, outputs))


if __name__ == "__main__":
    native_compiler.FLAGS = (*native_compiler.FLAGS, *CHECKS)
    torch.set_num_threads(2)
    torch.manual_seed(0)
    cases = random.Random(0)
    for _ in range(40):
        attend(cases)
        split(cases)
        normalise(cases)
        multiply(cases)
    print("all within their memory")
