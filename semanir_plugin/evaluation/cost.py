"""What a network costs before it is run: its parameters, and its operations by mmengine's analysis."""

from __future__ import annotations

import copy
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from math import prod
from typing import Any

import torch
from mmengine.analysis import FlopAnalyzer
from mmengine.analysis.jit_handles import get_shape
from torch import Tensor, nn

from semanir_plugin.archs import describe
from semanir_plugin.blocks.row_chunking import map_row_chunks
from semanir_plugin.ops import KeySemantics, adaptive_sparse_attention, build_key_semantics, key_semantic_attention

__all__ = ["analyze_flops", "count_flops", "count_parameters", "swapped"]


def count_parameters(network: nn.Module) -> int:
    """Return the number of parameters, shared ones once, buffers not at all."""
    return sum(parameter.numel() for parameter in network.parameters())


def count_flops(network: nn.Module, size: tuple[int, int], *, channels: int | None = None) -> float:
    """Return the operations of restoring one image, a multiplication with its addition counted as one.

    So count mmengine and the tables of papers. Counted are convolutions, linear layers, products of matrices, attention
    and normalisations, 5 for an element. Our own ops count as what they stand for, whatever backend runs: a token is
    compared with all N of its window, a query meets min(k, N) keys. All else is computed once, where the network is.

    Args:
        network: Maps (1, C, H, W) to an image.
        size: Height and width of the input in pixels, before the network pads it.
        channels: Of the input; None: as many as the network's first convolution takes.
    """
    return float(analyze_flops(network, size, channels=channels).total())


def analyze_flops(network: nn.Module, size: tuple[int, int], *, channels: int | None = None) -> Any:
    """Return mmengine's analysis, which also knows the operations `by_module`, in the terms of `count_flops`."""
    shape = (1, describe(network).in_channels if channels is None else channels, *size)
    device = next((parameter.device for parameter in network.parameters()), torch.device("cpu"))
    network = copy.deepcopy(network).eval()
    for module in network.modules():
        vars(module).pop("forward", None)  # a compiled one hides what it does
    analyzer = FlopAnalyzer(network, (torch.zeros(shape, device=device),))
    analyzer.set_op_handle("semanir_plugin::stand_in", lambda inputs, _: {"own ops": inputs[2].toIValue()})
    analyzer.set_op_handle("aten::scaled_dot_product_attention", _count_attention)
    analyzer.unsupported_ops_warnings(False).uncalled_modules_warnings(False).tracer_warnings("none")
    with torch.no_grad(), swapped(STAND_INS):
        analyzer.total()
    return analyzer


def _count_attention(inputs: Sequence[Any], outputs: Sequence[Any]) -> int:
    queries, keys = get_shape(inputs[0]), get_shape(inputs[1])
    return prod(queries) * keys[-2] + prod(get_shape(outputs[0])) * keys[-2]


@torch.library.custom_op("semanir_plugin::stand_in", mutates_args=())
def stand_in(like: Tensor, others: list[Tensor], flops: int) -> Tensor:
    """Stand in a trace for an op: the result has the shape of `like`, and the node carries the count."""
    return torch.zeros_like(like)


@stand_in.register_fake
def _(like: Tensor, others: list[Tensor], flops: int) -> Tensor:
    return torch.empty_like(like)


def _build(x: Tensor, k: int, **_: Any) -> KeySemantics:
    b, n, c = x.shape
    return KeySemantics(min(k, n), packed=stand_in(x, [], b * n * n * c))


def _attend(
    q: Tensor, k: Tensor, v: Tensor, semantics: KeySemantics, *, bias: Tensor | None = None, **_: Any
) -> Tensor:
    given = [q, k, semantics.packed(), *([] if bias is None else [bias])]  # what none is given drops out of the trace
    return stand_in(v, given, (q.numel() + v.numel()) * semantics.k)


def _attend_to_all(q: Tensor, k: Tensor, v: Tensor, weights: Tensor, **_: Any) -> Tensor:
    return stand_in(v, [q, k, weights], 2 * q.numel() * q.shape[-2])


def _map_whole(function: Callable[..., Tensor], x: Tensor, *parameters: Tensor, width: int) -> Tensor:
    return function(x, slice(None), *parameters)  # chunks compute their borders twice, and hide what they do


STAND_INS: dict[Callable[..., Any], Callable[..., Any]] = {
    build_key_semantics: _build,
    key_semantic_attention: _attend,
    adaptive_sparse_attention: _attend_to_all,
    map_row_chunks: _map_whole,
}


@contextmanager
def swapped(replacements: dict[Callable[..., Any], Callable[..., Any]]) -> Iterator[None]:
    """Put functions in the place of others for a while, under whatever name modules have imported those."""
    found = [
        (names, name, original)
        for original in replacements
        for names in [vars(module) for module in list(sys.modules.values()) if module is not sys.modules[__name__]]
        for name, value in list(names.items())
        if value is original
    ]
    try:
        for names, name, original in found:
            names[name] = replacements[original]
        yield
    finally:
        for names, name, original in found:
            names[name] = original
