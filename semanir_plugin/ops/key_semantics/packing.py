"""Masks at one bit per pair of tokens: bit j % 32 of word j // 32 says whether key j is kept."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["WORD", "pack", "unpack"]

# Bits per word; the words are int32, the widest integer that every kernel loads at once.
WORD = 32


def pack(mask: Tensor) -> Tensor:
    """Pack a (B, N, M) bool mask into (B, N, ceil(M / 32)) int32; the bits past M are 0."""
    b, n, m = mask.shape
    words = -(-m // WORD)
    padded = torch.nn.functional.pad(mask, (0, words * WORD - m)).view(b, n, words, WORD)
    shifts = torch.arange(WORD, device=mask.device, dtype=torch.int32)
    return (padded.to(torch.int32) << shifts).sum(-1, dtype=torch.int32)


def unpack(packed: Tensor, m: int) -> Tensor:
    """Undo `pack`: (B, N, ceil(M / 32)) int32 into a (B, N, M) bool mask."""
    shifts = torch.arange(WORD, device=packed.device, dtype=torch.int32)
    return ((packed[..., None] >> shifts) & 1).bool().flatten(2)[..., :m]
