"""Groups of like queries and the keys each group needs: found once per dictionary, for all heads and layers."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from semanir_plugin.ops.key_semantic_attention import triton_group_kernels as kernels
from semanir_plugin.ops.key_semantics import KeySemantics

__all__ = ["GROUP", "by_key", "by_query"]

GROUP: int = kernels.GROUP.value
# Words of a row of the packed mask that are listed at once.
LISTED_WORDS = 8


def by_query(semantics: KeySemantics) -> list[Tensor]:
    """Return the groups of a dictionary's queries, with the keys that any of a group chose.

    Returns:
        order: (B, T * 64) int32 for T = ceil(N / 64), each window's tokens so that 64 after one another are a group, as
            `KeySemantics.query_order` has them side by side, ascending in the group. N is padding.
        lists: (B, T, T * 64) int32, the listed tokens of each group, ascending; what goes beyond them up to a multiple
            of 64 repeats the first, and behind that is undefined.
        bits: (B, T, T * 2, 64) int32, for each 32 of a list a word for each token of the group, its bits the pairs.
        counts: (B, T) int32, how many tokens are listed.
    """
    result: list[Tensor] = semantics.shared("groups by query", lambda: _list(semantics, semantics.packed()))
    return result


def by_key(semantics: KeySemantics) -> list[Tensor]:
    """Return the same groups as those of keys, with the queries that chose any of a group."""
    result: list[Tensor] = semantics.shared("groups by key", lambda: _list(semantics, transpose(semantics.packed())))
    return result


def _list(semantics: KeySemantics, packed: Tensor) -> list[Tensor]:
    order = semantics.shared("groups", lambda: _group(semantics))
    return [order, *list_pairs(packed, order)]


def _group(semantics: KeySemantics) -> Tensor:
    b, n, _ = semantics.shape
    order = semantics.query_order
    if order is None:
        order = torch.arange(n, dtype=torch.int32, device=semantics.device).expand(b, n)
    # Within a group any order will do: neighbours side by side share cache lines.
    groups = F.pad(order, (0, -n % GROUP), value=n).unflatten(-1, (-1, GROUP))
    out: Tensor = groups.sort(-1).values.flatten(1)
    return out


@torch.library.custom_op("semanir_plugin::transpose_packed", mutates_args=())
def transpose(packed: Tensor) -> Tensor:
    """Return the (B, N, ceil(N / 32)) packed mask with rows and columns exchanged."""
    b, n, words = packed.shape
    packed, transposed = packed.contiguous(), packed.new_empty(packed.shape)
    if packed.numel():
        with torch.cuda.device_of(packed):
            kernels.key_semantic_attention_transpose_kernel[(b * words,)](packed, transposed, n, words)
    return transposed


@transpose.register_fake
def _(packed: Tensor) -> Tensor:
    return packed.new_empty(packed.shape)


@torch.library.custom_op("semanir_plugin::list_pairs", mutates_args=())
def list_pairs(packed: Tensor, order: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return the lists, bits and counts of groups in the given order; see `by_query`."""
    (b, n, words), packed, order = packed.shape, packed.contiguous(), order.contiguous()
    lists, bits, counts = _empty_lists(packed, order)
    t = counts.shape[1]
    if packed.numel():
        with torch.cuda.device_of(packed):
            shared = (packed, order, lists, counts)
            kernels.key_semantic_attention_list_kernel[(b * t,)](*shared, n, words, t, WORDS=LISTED_WORDS)
            kernels.key_semantic_attention_pack_kernel[(b * t * t * (GROUP // 32),)](*shared, bits, n, words, t)
    return lists, bits, counts


@list_pairs.register_fake
def _empty_lists(packed: Tensor, order: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    b, length = order.shape
    t = length // GROUP
    return (
        order.new_empty((b, t, length)),
        order.new_empty((b, t, length // 32, GROUP)),
        order.new_empty((b, t)),
    )
