"""Restoring images of any size tile by tile, in memory that depends on the tile."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import islice, pairwise, product

import torch
from torch import Tensor

from semanir_plugin.blocks.sizes import crop_to, reflect_indices

__all__ = ["least_tile", "restore_tiled"]


@torch.no_grad()
def restore_tiled(
    restore: Callable[[Tensor], Tensor],
    image: Tensor,
    *,
    tile: int,
    overlap: int = 32,
    multiple_of: int = 1,
    batch_size: int = 1,
    device: torch.device | str | None = None,
) -> Tensor:
    """Restore an image tile by tile, and blend the tiles where they overlap.

    Tiles lie on multiples of `multiple_of`, so that the windows of a window-based network are those of the whole image.
    In the outer quarter of an overlap a tile counts for nothing, over the middle half it fades in: a network that looks
    no further than a quarter of `overlap` makes of the tiles what it would make of the whole image.

    Args:
        restore: Maps (B, C, h, w) to (B, C', s * h, s * w) with some whole s, which is found out.
        image: (B, C, H, W) of any size. It is padded by reflection to `multiple_of`, and the result cropped.
        tile: Side of the tiles in pixels of the image, rounded up to `multiple_of`; a smaller image is one tile.
        overlap: Pixels of the image that neighbouring tiles share at least.
        multiple_of: What sides and positions of tiles are multiples of.
        batch_size: Tiles of each image that are restored at once.
        device: Where tiles are restored; None: where the image is.

    Returns:
        (B, C', s * H, s * W) in at least fp32, where the image is.

    Raises:
        ValueError: Tiles of this size cannot overlap by so much, or `restore` does not enlarge by a whole number.
    """
    height, width = image.shape[-2:]
    rows, columns = (_cover(size, tile, overlap, multiple_of) for size in (height, width))
    y, x = (reflect_indices(size, axis.size, image.device) for size, axis in ((height, rows), (width, columns)))
    canvas = _Canvas(rows, columns)
    for places in _batches(product(range(len(rows.starts)), range(len(columns.starts))), batch_size):
        tiles = [image[..., y[rows.span(row), None], x[columns.span(column)]] for row, column in places]
        restored = restore(torch.cat(tiles).to(device or image.device)).to(image.device)
        for (row, column), each in zip(places, restored.chunk(len(places)), strict=True):
            canvas.add(each, row, column)
    return crop_to(canvas.pixels, height * canvas.scale, width * canvas.scale)


def least_tile(overlap: int, multiple_of: int) -> int:
    """Return the side of the smallest tile that leaves room beside its overlap."""
    return (-(-overlap // multiple_of) + 1) * multiple_of


@dataclass(frozen=True)
class _Axis:
    """Tiles along the height or the width of an image."""

    starts: list[int]
    side: int

    @property
    def size(self) -> int:
        return self.starts[-1] + self.side

    def span(self, index: int, scale: int = 1) -> slice:
        start = self.starts[index]
        return slice(start * scale, (start + self.side) * scale)

    def shares(self, scale: int) -> list[Tensor]:
        """Return for each tile what it counts at each of its pixels; all that overlap at a pixel add up to 1."""
        overlap = scale * min((before + self.side - after for before, after in pairwise(self.starts)), default=0)
        pixels = torch.arange(self.size * scale, dtype=torch.float64) + 0.5
        depths = torch.full((len(self.starts), len(pixels)), math.inf, dtype=torch.float64)
        for index, depth in enumerate(depths):  # from the nearer of the edges beyond which there is another tile
            span = self.span(index, scale)
            if index > 0:
                depth.clamp_(max=pixels - span.start)
            if index < len(depths) - 1:
                depth.clamp_(max=span.stop - pixels)
        faded = ((depths - overlap / 4) / (overlap / 2)).clamp(0, 1)
        faded = faded**2 * (3 - 2 * faded)
        faded /= faded.sum(0)
        return [share[self.span(index, scale)] for index, share in enumerate(faded)]


def _cover(size: int, tile: int, overlap: int, multiple_of: int) -> _Axis:
    """Lay as few tiles as possible, at even distances, over `size` pixels, rounded up to `multiple_of`."""
    size = -(-size // multiple_of) * multiple_of
    side = -(-tile // multiple_of) * multiple_of
    least = least_tile(overlap, multiple_of)
    if side < least:
        raise ValueError(f"tiles of {tile} pixels cannot overlap by {overlap}: they need {least} pixels")
    if size <= side:
        return _Axis([0], size)
    gaps = -(-(size - side) // ((side - overlap) // multiple_of * multiple_of))
    units = (size - side) // multiple_of
    return _Axis([units * index // gaps * multiple_of for index in range(gaps + 1)], side)


class _Canvas:
    """The restored image as it fills with tiles; the first one tells its scale."""

    def __init__(self, rows: _Axis, columns: _Axis) -> None:
        self.rows, self.columns = rows, columns
        self.scale = 0

    def add(self, tile: Tensor, row: int, column: int) -> None:
        """Add a restored (B, C, h, w) tile at its place, weighted."""
        if not self.scale:
            self._open(tile)
        place = self.pixels[..., self.rows.span(row, self.scale), self.columns.span(column, self.scale)]
        place.addcmul_(tile.to(place), self.row_shares[row][:, None] * self.column_shares[column])

    def _open(self, tile: Tensor) -> None:
        height, width = tile.shape[-2:]
        self.scale = height // self.rows.side
        if self.scale < 1 or (height, width) != (self.rows.side * self.scale, self.columns.side * self.scale):
            sides = f"{self.rows.side} x {self.columns.side}"
            raise ValueError(f"a tile of {sides} became {height} x {width}, which is no whole multiple of it")
        size = self.rows.size * self.scale, self.columns.size * self.scale
        dtype = torch.promote_types(tile.dtype, torch.float32)
        self.pixels = tile.new_zeros(*tile.shape[:2], *size, dtype=dtype)
        self.row_shares, self.column_shares = (
            [share.to(self.pixels) for share in axis.shares(self.scale)] for axis in (self.rows, self.columns)
        )


def _batches(places: Iterable[tuple[int, int]], size: int) -> Iterator[list[tuple[int, int]]]:
    places = iter(places)
    while batch := list(islice(places, size)):
        yield batch
