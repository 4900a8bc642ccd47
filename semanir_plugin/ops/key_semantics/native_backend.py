"""The dictionary for CPUs by a native kernel, see `native.c`."""

from __future__ import annotations

import ctypes
from pathlib import Path

import torch
from torch import Tensor

from semanir_plugin.ops import native_support
from semanir_plugin.ops.key_semantics.similarity import each_chunk, similarities

__all__ = ["SOURCE", "select_keys"]

SOURCE = Path(__file__).with_name("native.c")
# Similarities held at once: 4 MiB, to be found in the cache again.
CHUNK_ELEMENTS = 1 << 20


@torch.library.custom_op("semanir_plugin::select_keys_native", mutates_args=())
def select_keys(x: Tensor, k: int, regions: Tensor | None, cosine: bool) -> Tensor:
    """Return the (B, N, N) bool mask of kept keys; arguments as in `build_key_semantics`, k <= N."""
    b, n, _ = x.shape
    mask = torch.empty(b, n, n, dtype=torch.bool)
    labels = None if regions is None else regions.long().contiguous()
    kernel = native_support.load(SOURCE).select_keys
    for part in each_chunk(b, n, CHUNK_ELEMENTS):
        s = similarities(x[part], cosine).contiguous()
        failed = kernel(
            *(ctypes.c_void_p(each) for each in (s.data_ptr(), _pointer(labels), mask[part].data_ptr())),
            *(len(s), n, k, 0 if labels is None else len(labels), part.start, torch.get_num_threads()),
        )
        if failed:
            raise MemoryError("no memory was left to select the keys of a window")
    return mask


@select_keys.register_fake
def _(x: Tensor, k: int, regions: Tensor | None, cosine: bool) -> Tensor:
    return x.new_empty((x.shape[0], x.shape[1], x.shape[1]), dtype=torch.bool)


def _pointer(x: Tensor | None) -> int | None:
    return None if x is None else x.data_ptr()
