"""Features laid out for the dictionary's kernels: a row per channel, those of fp32 in halves for tensor cores."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
import triton
from torch import Tensor

from semanir_plugin.ops.common.triton_support import TYPES
from semanir_plugin.ops.key_semantics.triton_kernels import key_semantics_rows_kernel

__all__ = ["CHANNELS", "Rows", "compilations", "lay_out"]

# Channels per step of a product, the fewest that Triton takes: rows come in multiples of them.
CHANNELS = 16
# Tokens and channels of a program, its warps, and loads under way at a time.
TOKENS_AT_ONCE = 64
CHANNELS_AT_ONCE = 64
WARPS, STAGES = 4, 1


class Rows(NamedTuple):
    """(B, N, C) features, a row of `NP` tokens for each of `CP` channels, zeros past N and C.

    Attributes:
        whole: (B, CP, NP) of the features' dtype.
        halves: (B, 2, CP, NP) fp16 in the same memory, first halves and what they leave. None unless fp32.
        scale: (B,) fp32, the power of two by which a window in `halves` was multiplied, 0 for windows that lie in
            `whole`. None unless fp32: all lie there.
    """

    whole: Tensor
    halves: Tensor | None
    scale: Tensor | None


def lay_out(x: Tensor, tokens: int) -> Rows:
    """Return (B, N, C) features as `Rows` of `tokens`, 64 or a multiple of it, so that no load of them needs a mask."""
    b, n, c = x.shape
    channels = -(-c // CHANNELS) * CHANNELS
    whole = torch.empty(b, channels, tokens, dtype=x.dtype, device=x.device)
    largest = halves = scale = None
    if x.dtype == torch.float32:
        largest = torch.linalg.vector_norm(x, torch.inf, dim=-1)  # (B, N); NaN of tokens that have one
        halves = whole.view(torch.float16).view(b, 2, channels, tokens)
        scale = torch.empty(b, dtype=torch.float32, device=x.device)
    key_semantics_rows_kernel[(b, tokens // TOKENS_AT_ONCE, triton.cdiv(channels, CHANNELS_AT_ONCE))](
        **{"p_x": x.contiguous(), "p_largest": largest, "p_scale": scale, "p_rows": whole, "p_halves": halves},
        **{"N": n, "C": c, "CP": channels, **_constexprs(tokens), "num_warps": WARPS, "num_stages": STAGES},
    )
    return Rows(whole, halves, scale)


def compilations(tokens: tuple[int, ...]) -> Iterator[tuple[Any, dict[str, str], dict[str, Any], int, int]]:
    """Yield every configuration that can be launched for rows of so many tokens, see `triton_backend.compilations`."""
    integers = dict.fromkeys(("N", "C", "CP"), "i32")
    for dtype, name in TYPES.items():
        signature = {"p_x": f"*{name}", "p_rows": f"*{name}", **integers}
        absent: dict[str, Any] = {}
        if dtype == torch.float32:
            signature |= {"p_largest": "*fp32", "p_scale": "*fp32", "p_halves": "*fp16"}
        else:
            absent = {"p_largest": None, "p_scale": None, "p_halves": None}
        for each in tokens:
            yield key_semantics_rows_kernel, signature, {**_constexprs(each), **absent}, WARPS, STAGES


def _constexprs(tokens: int) -> dict[str, int]:
    return {"NP": tokens, "BN": TOKENS_AT_ONCE, "BC": CHANNELS_AT_ONCE}
