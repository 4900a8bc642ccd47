"""Count a network's parameters, and by PyTorch's counter its operations, before it is run."""

from __future__ import annotations

import copy
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import accumulate
from math import prod
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import adaptive_avg_pool2d
from torch.nn.modules.module import register_module_forward_hook, register_module_forward_pre_hook
from torch.utils.flop_counter import FlopCounterMode
from torch.utils.module_tracker import ModuleTracker

from semanir_plugin.archs import input_channels
from semanir_plugin.blocks.row_chunking import map_row_chunks
from semanir_plugin.ops import KeySemantics, adaptive_sparse_attention, build_key_semantics, key_semantic_attention

__all__ = ["count_by_module", "count_flops", "count_parameters", "functions_swapped"]

Shape = Sequence[int]


def count_parameters(network: nn.Module) -> int:
    """Return the number of parameters, shared ones once, buffers not at all."""
    return sum(parameter.numel() for parameter in network.parameters())


def count_flops(network: nn.Module, size: tuple[int, int], *, channels: int | None = None) -> int:
    """Return the operations of restoring one image, a multiplication with its addition counted as one.

    So count the tables of papers. Counted are convolutions, linear layers, products of matrices, attention, resampling
    and normalisations, 5 for an element. Our own ops count as what they stand for, whatever backend runs: a token is
    compared with all N of its window, a query meets min(k, N) keys. All else is computed once, where the network is.

    Args:
        network: Maps (1, C, H, W) to an image.
        size: Height and width of the input in pixels, before the network pads it.
        channels: Of the input; None: as many as the network's first convolution takes.
    """
    return count_by_module(network, size, channels=channels)[""]


@torch.no_grad()
def count_by_module(network: nn.Module, size: tuple[int, int], *, channels: int | None = None) -> Counter[str]:
    """Return the operations of each module by its name, "" being the network's, in the terms of `count_flops`."""
    shape = (1, input_channels(network) if channels is None else channels, *size)
    device = next((parameter.device for parameter in network.parameters()), torch.device("cpu"))
    network = copy.deepcopy(network).eval()
    for module in network.modules():
        vars(module).pop("forward", None)  # a compiled one hides what it does
    counter = FlopCounterMode(display=False, custom_mapping=FORMULAS)
    counter.mod_tracker = _Holders(network)
    with functions_swapped(STAND_INS), counter:
        network(torch.zeros(shape, device=device))
    return Counter({name: sum(each.values()) // 2 for name, each in counter.get_flop_counts().items()})


class _Holders(ModuleTracker):
    """Track the modules that an operation belongs to: the one that runs and all that hold it, lists of modules too."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self._names = {module: name for name, module in network.named_modules()}
        self._running = [""]
        self.parents = {""}

    def __enter__(self) -> _Holders:
        self._handles = register_module_forward_pre_hook(self._enter), register_module_forward_hook(self._leave)
        return self

    def __exit__(self, *_: Any) -> None:
        for handle in self._handles:
            handle.remove()

    def _enter(self, module: nn.Module, *_: Any) -> None:
        self._running.append(self._names.get(module, self._running[-1]))
        self._update()

    def _leave(self, *_: Any) -> None:
        self._running.pop()
        self._update()

    def _update(self) -> None:
        self.parents = {"", *accumulate(self._running[-1].split("."), "{}.{}".format)}


@torch.library.custom_op("semanir_plugin::stand_in", mutates_args=())
def stand_in(like: Tensor, flops: int) -> Tensor:
    """Stand in for an op while operations are counted: the result has the shape of `like`."""
    return torch.zeros_like(like)


def _count_norm(weight: int) -> Callable[..., int]:
    """Return the formula of a normalisation whose weight is the argument at that place."""
    return lambda *shapes, **_: 2 * prod(shapes[0]) * (4 if shapes[weight] is None else 5)


def _count_batch_norm(x: Shape, weight: Shape | None, *others: Any, **_: Any) -> int:
    training = others[3]  # so are instances normalised, too
    return 2 * prod(x) * ((4 if training else 1) + (weight is not None))


def _count_attention(q: Shape, k: Shape, v: Shape, *_: Any, **__: Any) -> int:
    return 2 * prod(q[:-1]) * k[-2] * (q[-1] + v[-1])


def _count_input(x: Shape, *_: Any, **__: Any) -> int:
    return 2 * prod(x)


def _count_output(each: int) -> Callable[..., int]:
    return lambda *_, out_shape, **__: 2 * each * prod(out_shape)


# By shapes, in PyTorch's terms, where a multiplication and an addition are two; what it knows already is not here.
_BY_OP: dict[Any, Callable[..., int]] = {
    torch.ops.semanir_plugin.stand_in: lambda _, flops, **__: 2 * flops,
    torch.ops.aten.native_layer_norm: _count_norm(weight=2),
    torch.ops.aten.native_group_norm: _count_norm(weight=1),
    torch.ops.aten.native_batch_norm: _count_batch_norm,
    torch.ops.aten.cudnn_batch_norm: _count_batch_norm,
    torch.ops.aten._scaled_dot_product_flash_attention_for_cpu: _count_attention,
    torch.ops.aten.mv: _count_input,
    torch.ops.aten.dot: _count_input,
    torch.ops.aten.upsample_nearest2d: _count_output(1),
    torch.ops.aten.upsample_bilinear2d: _count_output(4),
    torch.ops.aten.grid_sampler_2d: _count_output(4),
}
# The counter looks for an op's overload before it would take the op apart, then for the op.
FORMULAS = {key: formula for op, formula in _BY_OP.items() for key in (op, op.default)}


def _build(x: Tensor, k: int, **_: Any) -> KeySemantics:
    b, n, c = x.shape
    return KeySemantics(min(k, n), packed=stand_in(x, b * n * n * c))


def _attend(q: Tensor, k: Tensor, v: Tensor, semantics: KeySemantics, **_: Any) -> Tensor:
    out: Tensor = stand_in(v, (q.numel() + v.numel()) * semantics.k)
    return out


def _attend_to_all(q: Tensor, k: Tensor, v: Tensor, weights: Tensor, **_: Any) -> Tensor:
    out: Tensor = stand_in(v, 2 * q.numel() * q.shape[-2])
    return out


def _pool(x: Tensor, output_size: Any) -> Tensor:
    out: Tensor = stand_in(adaptive_avg_pool2d(x, output_size), x.numel())  # to one pixel, PyTorch calls it a mean
    return out


def _map_whole(function: Callable[..., Tensor], x: Tensor, *parameters: Tensor, width: int) -> Tensor:
    return function(x, slice(None), *parameters)  # chunks compute their borders twice, and hide what they do


STAND_INS: dict[Callable[..., Any], Callable[..., Any]] = {
    build_key_semantics: _build,
    key_semantic_attention: _attend,
    adaptive_sparse_attention: _attend_to_all,
    map_row_chunks: _map_whole,
    adaptive_avg_pool2d: _pool,
}


@contextmanager
def functions_swapped(replacements: dict[Callable[..., Any], Callable[..., Any]]) -> Iterator[None]:
    """Replace functions within the block, under whatever name modules have imported them."""
    found = [
        (names, name, original)
        for original in replacements
        for names in _names_of_modules()
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


def _names_of_modules() -> Iterator[dict[str, Any]]:
    """Yield the namespaces of all modules but this one; some entries are no modules: None forbids an import."""
    for module in list(sys.modules.values()):
        names = getattr(module, "__dict__", None)
        if isinstance(names, dict) and module is not sys.modules[__name__]:
            yield names
