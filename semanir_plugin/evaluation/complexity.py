"""Multiply-adds of a network, by mmengine's complexity analysis.

The analysis traces a network and counts what PyTorch's own operators do. The plugin's ops hide that in kernels of
their own, so for the length of the trace each is replaced by operators that do as much arithmetic as its definition
asks for:

- `build_key_semantics`: the similarities of a window's tokens, N * N * C.
- `key_semantic_attention`: scores and weighted values over k keys, 2 * N * k * D for each head; of fewer keys where
  regions are smaller than k it counts k.
- `adaptive_sparse_attention`: scores, which both branches share, and weighted values, 2 * N * N * D for each head.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FunctionType
from typing import Any

import torch
from mmengine.analysis import FlopAnalyzer
from torch import Tensor, nn

from semanir_plugin.blocks import bands
from semanir_plugin.blocks.sizes import pad_to_multiple
from semanir_plugin.ops import KeySemantics, adaptive_sparse_attention, build_key_semantics, key_semantic_attention

__all__ = ["count_multiply_adds"]


def count_multiply_adds(net: nn.Module, image: Tensor, *, multiple_of: int = 1, topk: int | None = None) -> int:
    """Return the multiply-adds with which a network restores an image; each counts once, as papers count FLOPs.

    Convolutions, matrix products, attention, normalisation and resampling count; element-wise operators do not.

    Args:
        net: Maps (B, C, H, W) to an image.
        image: (1, C, H, W) where the network is.
        multiple_of: To which the image is padded first.
        topk: Keys per query, for networks with a `topk`; None: the network's own choice.
    """
    net = net.eval() if topk is None else _WithKeys(net, topk).eval()
    analyzer = FlopAnalyzer(net, pad_to_multiple(image, multiple_of))
    analyzer.set_op_handle("aten::scaled_dot_product_attention", _count_sdpa)
    analyzer.unsupported_ops_warnings(False).uncalled_modules_warnings(False).tracer_warnings("none")
    with torch.no_grad(), _countable_ops():
        return int(analyzer.total())


class _WithKeys(nn.Module):
    """A network at a number of keys per query."""

    def __init__(self, net: nn.Module, topk: int) -> None:
        super().__init__()
        self.net = net
        self.topk = topk

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x, topk=self.topk)


def _count_sdpa(inputs: list[Any], outputs: list[Any]) -> int:
    """Count q k^T and the product with v: (..., N, D), (..., M, D) and (..., M, E)."""
    query, key, value = (each.type().sizes() for each in inputs[:3])
    scores = torch.Size(query[:-1]).numel() * key[-2]
    return int(scores * (query[-1] + value[-1]))


def _select(x: Tensor, k: int, **_: Any) -> KeySemantics:
    return KeySemantics(min(k, int(x.shape[1])), mask=x @ x.transpose(-2, -1) > 0)


def _attend_to_keys(
    q: Tensor, k: Tensor, v: Tensor, semantics: KeySemantics, *, bias: Tensor | None = None, **_: Any
) -> Tensor:
    keys = semantics.k
    scores = q @ k[:, :, :keys].transpose(-2, -1)
    return _depend_on(scores @ v[:, :, :keys], semantics.mask(), bias)


def _attend_to_all(q: Tensor, k: Tensor, v: Tensor, weights: Tensor, *, bias: Tensor | None = None, **_: Any) -> Tensor:
    return _depend_on(q @ k.transpose(-2, -1) @ v, weights, bias)


def _depend_on(x: Tensor, *others: Tensor | None) -> Tensor:
    """Return `x`, made to depend on what the op would read: a trace leaves out what nothing depends on."""
    for other in others:
        x = x if other is None else x + other.sum()
    return x


def _map_whole(function: Callable[..., Tensor], x: Tensor, *parameters: Tensor, width: int) -> Tensor:
    return function(x, slice(None), *parameters)


_STAND_INS: dict[Any, Callable[..., Any]] = {
    build_key_semantics: _select,
    key_semantic_attention: _attend_to_keys,
    adaptive_sparse_attention: _attend_to_all,
    bands.map_bands: _map_whole,
}

_USERS = ("semanir_plugin.blocks", "semanir_plugin.archs")


@contextmanager
def _countable_ops() -> Iterator[None]:
    """Give every module of the plugin the stand-ins in place of the ops that it has imported."""
    modules = [module for name, module in sys.modules.items() if name.startswith(_USERS)]
    replaced = [
        (module, name, value)
        for module in modules
        for name, value in vars(module).items()
        if isinstance(value, FunctionType) and value in _STAND_INS
    ]
    try:
        for module, name, value in replaced:
            setattr(module, name, _STAND_INS[value])
        yield
    finally:
        for module, name, value in replaced:
            setattr(module, name, value)
