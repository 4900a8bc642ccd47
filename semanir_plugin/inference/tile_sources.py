"""Tile sources: images from which tiles are cut, as tensors or as the pixels of photographs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import torch
from numpy.typing import NDArray
from torch import Tensor

from semanir_plugin.pixels import to_float

__all__ = ["PixelSource", "TensorSource", "TileSource", "as_source"]


class TileSource(Protocol):
    """A batch of images that is read tile by tile, so that it need not lie in memory as floats."""

    @property
    def shape(self) -> tuple[int, ...]:
        """(B, C, H, W)."""

    def cut(self, rows: Tensor, columns: Tensor) -> Tensor:
        """Return the pixels where rows and columns cross, float (B, C, len(rows), len(columns)) in [0, 1]."""


@dataclass(frozen=True)
class TensorSource:
    """A tensor of images.

    Attributes:
        image: (B, C, H, W), anywhere; tiles are cut where it lies.
    """

    image: Tensor

    @property
    def shape(self) -> tuple[int, ...]:
        """(B, C, H, W)."""
        return tuple(self.image.shape)

    def cut(self, rows: Tensor, columns: Tensor) -> Tensor:
        """Return the pixels where rows and columns cross."""
        return self.image[..., rows.to(self.image.device)[:, None], columns.to(self.image.device)]


@dataclass(frozen=True)
class PixelSource:
    """The pixels of one photograph, which become floats tile by tile.

    Attributes:
        pixels: (H, W, C) of 8 or 16 bit, or float in [0, 1].
        channels: Of the tiles; a gray photograph, with C of 1, is repeated to as many.
    """

    pixels: NDArray[Any]
    channels: int

    @property
    def shape(self) -> tuple[int, ...]:
        """(1, channels, H, W)."""
        return (1, self.channels, *self.pixels.shape[:2])

    def cut(self, rows: Tensor, columns: Tensor) -> Tensor:
        """Return the pixels where rows and columns cross."""
        tile = torch.from_numpy(to_float(self.pixels[rows.numpy()[:, None], columns.numpy()]))
        return tile.permute(2, 0, 1)[None].expand(-1, self.channels, -1, -1).contiguous()


def as_source(image: Tensor | TileSource) -> TileSource:
    """Return a tile source for an image; a tile source unchanged."""
    return TensorSource(image) if isinstance(image, Tensor) else image
