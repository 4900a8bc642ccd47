"""Position biases for windowed attention."""

from __future__ import annotations

import math
from typing import Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from semanir_plugin.blocks.inference_cache import InferenceCache
from semanir_plugin.blocks.linear import Linear
from semanir_plugin.ops.common.autocast import without_autocast
from semanir_plugin.ops.common.position_table import dense_bias

__all__ = [
    "ContinuousPositionBias",
    "FactorisedPositionBias",
    "FixedPositionBias",
    "PositionBias",
    "build_position_bias",
]

# By the names that options give them.
PositionBias = Literal["table", "factorised"]


class ContinuousPositionBias(nn.Module):
    """A small MLP from log-spaced relative coordinates to one bias per head (Swin V2, section 3.3).

    Args:
        window_size: Side of the window in tokens.
        num_heads: Heads that get a bias each.
        hidden: Width of the MLP.
    """

    MAXIMUM = 16.0

    coordinates: Tensor

    def __init__(self, window_size: int, num_heads: int, *, hidden: int = 512) -> None:
        super().__init__()
        self.window_size = window_size
        self.mlp = nn.Sequential(Linear(2, hidden), nn.ReLU(inplace=True), Linear(hidden, num_heads, bias=False))
        self.register_buffer("coordinates", _log_coordinates(window_size), persistent=False)
        self._cache = InferenceCache()

    def table(self) -> Tensor:
        """Return (heads, 2w - 1, 2w - 1): the bias of every relative position, in (0, 16); fp32 also under autocast."""
        with without_autocast(self.coordinates.device.type):
            return self.MAXIMUM * torch.sigmoid(self.mlp(self.coordinates)).permute(2, 0, 1)

    def apply_to(self, q: Tensor, k: Tensor) -> tuple[Tensor, Tensor, Tensor | None]:
        """Return the inputs of attention: queries and keys, (B, heads, N, D), unchanged, and a table of biases."""
        return self.combine(q, k, self._cache.get((*self.parameters(), self.coordinates), self.values))

    @staticmethod
    def combine(q: Tensor, k: Tensor, values: Tensor) -> tuple[Tensor, Tensor, Tensor | None]:
        """Return what `apply_to` does, given `values`."""
        return q, k, values

    def values(self) -> Tensor:
        """Return all that `apply_to` computes from the parameters: the table around zero."""
        # Softmax does not see a common shift of the scores, and around 0 the bias keeps more digits in half precision.
        return self.table() - self.MAXIMUM / 2

    def forward(self) -> Tensor:
        """Return the dense bias, (heads, N, N) for N = window_size ** 2, query first."""
        return dense_bias(self.table(), self.window_size**2)


class FactorisedPositionBias(nn.Module):
    """A bias of low rank: features of a query's place in the window times features of a key's, by a small MLP.

    Appended to queries and keys they become part of the scores: attention computes no other bias, nor a gradient of
    one, and reads nothing of the size of the scores. A rank-factorised implicit neural bias, arXiv 2603.06738. The MLP
    sees sines and cosines of a place, whose products give any wave of the distance; at the start the bias is small.

    Args:
        window_size: Side of the window in tokens.
        num_heads: Heads that get a bias each.
        rank: Features of a place, for each head; by so much queries and keys become wider.
        hidden: Width of the MLP.
        waves: Sines, and cosines, of each coordinate.
    """

    # Deviation of the MLP's outputs at the start, about: a bias is a sum of `rank` products of two such numbers.
    INITIAL_FEATURE = 0.1

    encoding: Tensor

    def __init__(self, window_size: int, num_heads: int, *, rank: int = 16, hidden: int = 32, waves: int = 8) -> None:
        super().__init__()
        self.register_buffer("encoding", _encode_places(window_size, waves), persistent=False)
        self.inner = nn.Parameter(torch.randn(self.encoding.shape[1], hidden) / math.sqrt(2 * waves))
        self.outer = nn.Parameter(torch.randn(num_heads, hidden, 2 * rank) * (self.INITIAL_FEATURE / math.sqrt(hidden)))
        self._cache = InferenceCache()

    def values(self) -> Tensor:
        """Return (2, heads, N, rank), the features of queries and of keys; fp32 also under autocast."""
        with without_autocast(self.encoding.device.type):
            return torch.stack((F.gelu(self.encoding @ self.inner) @ self.outer).chunk(2, dim=-1))

    def apply_to(self, q: Tensor, k: Tensor) -> tuple[Tensor, Tensor, Tensor | None]:
        """Return the inputs of attention: queries and keys, (B, heads, N, D + rank), and no separate bias."""
        return self.combine(q, k, self._cache.get((*self.parameters(), self.encoding), self.values))

    @staticmethod
    def combine(q: Tensor, k: Tensor, values: Tensor) -> tuple[Tensor, Tensor, Tensor | None]:
        """Return what `apply_to` does, given `values`."""
        of_queries, of_keys = values
        return _append(q, of_queries), _append(k, of_keys), None

    def forward(self) -> Tensor:
        """Return the dense bias, (heads, N, N) for N = window_size ** 2, query first."""
        queries, keys = self.values()
        out: Tensor = queries @ keys.mT
        return out


class FixedPositionBias(nn.Module):
    """A position bias that learns no more: what it computes from its parameters, computed once.

    Args:
        bias: The one that it takes the place of.
    """

    fixed: Tensor

    def __init__(self, bias: ContinuousPositionBias | FactorisedPositionBias) -> None:
        super().__init__()
        self.register_buffer("fixed", bias.values().detach().clone())
        self._combine = bias.combine

    def apply_to(self, q: Tensor, k: Tensor) -> tuple[Tensor, Tensor, Tensor | None]:
        """Return the inputs of attention: queries, keys, and a bias where there is a separate one."""
        return self._combine(q, k, self.fixed)


def build_position_bias(kind: str, window_size: int, num_heads: int) -> ContinuousPositionBias | FactorisedPositionBias:
    """Return the position bias of that kind.

    Raises:
        ValueError: There is no such kind.
    """
    if kind not in get_args(PositionBias):
        raise ValueError(f"position_bias must be one of {list(get_args(PositionBias))}, got {kind!r}")
    return (ContinuousPositionBias if kind == "table" else FactorisedPositionBias)(window_size, num_heads)


def _log_coordinates(window_size: int) -> Tensor:
    offsets = torch.arange(1 - window_size, window_size, dtype=torch.float32) * (8 / max(window_size - 1, 1))
    offsets = torch.sign(offsets) * torch.log2(1 + offsets.abs()) / 3
    return torch.stack(torch.meshgrid(offsets, offsets, indexing="ij"), dim=-1)  # (2w - 1, 2w - 1, 2)


def _encode_places(window_size: int, waves: int) -> Tensor:
    """Return (N, 1 + 4 waves): one, and sines and cosines of both coordinates of each token of a window, row by row."""
    places = (torch.arange(window_size, dtype=torch.float32) + 0.5) / window_size
    angles = places[:, None] * torch.arange(1, waves + 1) * math.pi  # the longest wave spans two windows
    axis = torch.cat([angles.sin(), angles.cos()], dim=1)
    y, x = axis.repeat_interleave(window_size, 0), axis.repeat(window_size, 1)
    return torch.cat([torch.ones(len(y), 1), y, x], dim=1)


def _append(x: Tensor, features: Tensor) -> Tensor:
    """Return (B, H, N, D + R): `x` beside the features, (H, N, R), of every window."""
    return torch.cat([x, features.to(x.dtype).expand(x.shape[0], -1, -1, -1)], dim=-1)
