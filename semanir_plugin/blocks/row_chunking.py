"""Apply a function to a token map some rows at a time, so that its intermediate results stay in the cache."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from semanir_plugin.ops.common.autocast import is_autocast
from semanir_plugin.ops.common.eager import differentiated_by_transform

__all__ = ["map_row_chunks"]

# Elements of a chunk where it is widest: 4 MiB of fp32 for a CPU's cache; elsewhere so many that few kernels start.
CHUNK_ELEMENTS = 1 << 20
CHUNK_ELEMENTS_OFF_CPU = 1 << 26
# Each chunk also computes a row above and one below, so it should have more than a few of its own.
LEAST_ROWS = 4


def map_row_chunks(function: Callable[..., Tensor], x: Tensor, *parameters: Tensor, width: int) -> Tensor:
    """Return `function(x, slice(None), *parameters)`, computed chunk by chunk where the map is too large for the cache.

    The backward pass computes each chunk again, which takes less time than reading back what it had computed, and only
    `x` is kept for it. On other devices than CPUs, training takes the map as a whole; so does `torch.compile`.

    Args:
        function: Maps `(rows, inner, *parameters)` to its inner rows: `rows` are (b, h, W, C) of the map, `inner` is a
            slice of h that leaves out neighbours. Each row of the result, (b, 1, W, C'), depends on that row and the
            next one above and below, or zeros where `rows` end.
        x: (B, H, W, C), cast to autocast's dtype where that is on.
        parameters: All other tensors that have gradients.
        width: Channels where `function` is widest.

    Returns:
        (B, H, W, C).
    """
    device = x.device.type
    if is_autocast(device):
        x = x.to(torch.get_autocast_dtype(device))
    learning = torch.is_grad_enabled() and any(tensor.requires_grad for tensor in (x, *parameters))
    whole = torch.compiler.is_compiling() or differentiated_by_transform() or (learning and device != "cpu")
    if whole or len(list(_row_chunks(x, width))) == 1:
        return function(x, slice(None), *parameters)
    out: Tensor = _RowChunked.apply(function, width, x, *parameters)
    return out


class _RowChunked(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, function: Callable[..., Tensor], width: int, x: Tensor, *parameters: Tensor) -> Tensor:
        ctx.function, ctx.width = function, width
        ctx.save_for_backward(x, *parameters)
        parameters = tuple(parameter.to(x.dtype) for parameter in parameters)
        out = torch.empty_like(x, memory_format=torch.contiguous_format)
        for images, rows, around in _row_chunks(x, width):
            out[images, rows] = function(x[images, around], _within(rows, around), *parameters)
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Any, ...]:
        # Leaves of our own, in which the chunks' gradients add up, those of parameters in their own precision.
        needed = ctx.needs_input_grad[2:]
        x, *parameters = (t.detach().requires_grad_(need) for t, need in zip(ctx.saved_tensors, needed, strict=True))
        dx = torch.zeros_like(x) if x.requires_grad else None
        for images, rows, around in _row_chunks(x, ctx.width):
            chunk = x[images, around].detach().requires_grad_(x.requires_grad)
            with torch.enable_grad():
                out = ctx.function(chunk, _within(rows, around), *(p.to(x.dtype) for p in parameters))
            out.backward(grad[images, rows])
            if dx is not None:
                dx[images, around] += chunk.grad
        return None, None, dx, *(parameter.grad for parameter in parameters)


def _row_chunks(x: Tensor, width: int) -> Iterator[tuple[slice, slice, slice]]:
    """Yield images, rows, and these rows with their neighbours: whole images where they fit, else rows of one."""
    batch, height, w, _ = x.shape
    elements = CHUNK_ELEMENTS if x.device.type == "cpu" else CHUNK_ELEMENTS_OFF_CPU
    images = max(1, elements // (height * w * width))
    step = max(LEAST_ROWS, elements // (w * width)) if images == 1 else height
    for image in range(0, batch, images):
        for top in range(0, height, step):
            bottom = min(top + step, height)
            yield slice(image, image + images), slice(top, bottom), slice(max(top - 1, 0), min(bottom + 1, height))


def _within(rows: slice, around: slice) -> slice:
    return slice(rows.start - around.start, rows.stop - around.start)
