"""The dictionary for CPUs by a native kernel, see `native.c`."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from semanir_plugin.ops.common import native_support
from semanir_plugin.ops.key_semantics.similarity import comparable, each_chunk

__all__ = ["SOURCE", "select_keys"]

SOURCE = Path(__file__).with_name("native.c")
# Similarities held at once: 4 MiB, to be found in the cache again.
CHUNK_ELEMENTS = 1 << 20


@torch.library.custom_op("semanir_plugin::select_keys_native", mutates_args=())
def select_keys(x: Tensor, k: int, regions: Tensor | None, cosine: bool) -> Tensor:
    """Return the (B, N, N) bool mask of kept keys; arguments as in `build_key_semantics`, k <= N."""
    b, n, channels = x.shape
    x = comparable(x, cosine).contiguous()
    mask = x.new_empty(b, n, n, dtype=torch.bool)
    labels = None if regions is None else regions.long().contiguous()
    chunks = list(each_chunk(b, n, CHUNK_ELEMENTS))
    largest = chunks[0].stop if chunks else 0
    s = x.new_empty(largest, n, n, dtype=torch.float32)
    packed = x.new_empty(largest, native_support.load(SOURCE).packed_tokens(n), channels, dtype=torch.float32)
    for part in chunks:
        windows = part.stop - part.start
        native_support.run(SOURCE, "multiply", x[part], packed, s, windows, n, channels)
        regions_and_first = (0 if labels is None else len(labels), part.start)
        native_support.run(SOURCE, "select_keys", s, labels, mask[part], windows, n, k, *regions_and_first)
    return mask


@select_keys.register_fake
def _(x: Tensor, k: int, regions: Tensor | None, cosine: bool) -> Tensor:
    return x.new_empty((x.shape[0], x.shape[1], x.shape[1]), dtype=torch.bool)
