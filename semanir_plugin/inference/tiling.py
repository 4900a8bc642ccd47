"""Restore images of any size tile by tile, in memory that depends on the tile."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice, pairwise, product

import torch
from torch import Tensor

from semanir_plugin.blocks.padding import crop_to, reflect_indices
from semanir_plugin.inference.tile_sources import TileSource, as_source

__all__ = ["Progress", "least_tile", "restore_in_rows", "restore_tiled"]


Progress = Callable[[int, int], None]
"""Is told after each step how many tiles are done, and how many there are in all."""


@torch.no_grad()
def restore_tiled(
    restore: Callable[[Tensor], Tensor],
    image: Tensor | TileSource,
    *,
    tile: int,
    overlap: int = 32,
    multiple_of: int = 1,
    batch_size: int = 1,
    device: torch.device | str | None = None,
    progress: Progress | None = None,
) -> Tensor:
    """Restore an image tile by tile, and blend the tiles where they overlap.

    Tiles lie on multiples of `multiple_of`, so that the windows of a window-based network are those of the whole image.
    In the outer quarter of an overlap a tile counts for nothing, over the middle half it fades in: a network that looks
    no further than a quarter of `overlap` makes of the tiles what it would make of the whole image.

    Args:
        restore: Maps (B, C, h, w) to (B, C', s * h, s * w) with some whole s, which is found out.
        image: (B, C, H, W) of any size. It is padded by reflection to `multiple_of`, and the result cropped.
        tile: Side of the tiles in pixels of the image, rounded up to `multiple_of`; a smaller image is one tile, and
            tiles are smaller where as many of them cover the image.
        overlap: Pixels of the image that neighbouring tiles share at least.
        multiple_of: Number of which sides and positions of tiles are multiples.
        batch_size: Tiles of each image that are restored at once.
        device: Where tiles are restored; None: where the image is.
        progress: Called with the number of tiles done and of all tiles.

    Returns:
        (B, C', s * H, s * W) in at least fp32, where the image is.

    Raises:
        ValueError: Tiles of this size cannot overlap by so much, or `restore` does not enlarge by a whole number.
    """
    source = as_source(image)
    bands = restore_in_rows(
        restore,
        source,
        tile=tile,
        overlap=overlap,
        multiple_of=multiple_of,
        batch_size=batch_size,
        device=device,
        progress=progress,
    )
    return _join(bands, *source.shape[-2:])


def _join(bands: Iterator[Tensor], height: int, width: int) -> Tensor:
    """Put the bands of a result together; `height` and `width` are those of the image."""
    first = next(bands)
    rows, done = first.shape[-1] // width * height, first.shape[-2]
    if done == rows:
        return first
    whole = first.new_empty(*first.shape[:2], rows, first.shape[-1])
    whole[..., :done, :] = first
    del first  # before the next one is made
    for band in bands:
        whole[..., done : done + band.shape[-2], :] = band
        done += band.shape[-2]
        del band
    return whole


def restore_in_rows(
    restore: Callable[[Tensor], Tensor],
    image: Tensor | TileSource,
    *,
    tile: int,
    overlap: int = 32,
    multiple_of: int = 1,
    batch_size: int = 1,
    device: torch.device | str | None = None,
    progress: Progress | None = None,
) -> Iterator[Tensor]:
    """Yield the result of `restore_tiled` in bands from top to bottom, each as soon as a row of tiles completes it.

    Only a row of tiles is held at a time: twice while a band lives on that the caller was given before.

    Args:
        restore: As of `restore_tiled`; so are the others.
        image: As of `restore_tiled`.
        tile: As of `restore_tiled`.
        overlap: As of `restore_tiled`.
        multiple_of: As of `restore_tiled`.
        batch_size: As of `restore_tiled`.
        device: As of `restore_tiled`.
        progress: As of `restore_tiled`.

    Yields:
        (B, C', h, s * W) whose h add up to s * H.

    Raises:
        ValueError: As `restore_tiled`.
    """
    source = as_source(image)
    height, width = source.shape[-2:]
    rows, columns = (_cover(size, tile, overlap, multiple_of) for size in (height, width))
    y, x = (reflect_indices(size, axis.size, torch.device("cpu")) for size, axis in ((height, rows), (width, columns)))
    canvas, total = _Canvas(rows, columns), len(rows.starts) * len(columns.starts)
    for places in _batches(product(range(len(rows.starts)), range(len(columns.starts))), batch_size):
        tiles = [source.cut(y[rows.span(row)], x[columns.span(column)]) for row, column in places]
        for (row, column), each in zip(places, _restore_batch(restore, tiles, device), strict=True):
            if row > canvas.row:
                yield canvas.finished(height, width)
                canvas.move_on()
            canvas.add(each, row, column)
        if progress is not None:
            row, column = places[-1]
            progress(row * len(columns.starts) + column + 1, total)
    yield canvas.finished(height, width)


@torch.no_grad()
def _restore_batch(
    restore: Callable[[Tensor], Tensor], tiles: Sequence[Tensor], device: torch.device | str | None
) -> tuple[Tensor, ...]:
    home = tiles[0].device
    return restore(torch.cat(list(tiles)).to(device or home)).to(home).chunk(len(tiles))


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
        """Return each tile's blending weights, by pixel; those of all tiles at a pixel add up to 1."""
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
    """Lay as few tiles as possible, no larger than they must be, at even distances over `size` pixels.

    All is rounded up to `multiple_of`.
    """
    size = -(-size // multiple_of) * multiple_of
    side = -(-tile // multiple_of) * multiple_of
    least = least_tile(overlap, multiple_of)
    if side < least:
        raise ValueError(f"tiles of {tile} pixels cannot overlap by {overlap}: they need {least} pixels")
    if size <= side:
        return _Axis([0], size)
    gaps = -(-(size - side) // ((side - overlap) // multiple_of * multiple_of))
    side = min(side, _least_side(size, gaps + 1, overlap, multiple_of))
    units = (size - side) // multiple_of
    return _Axis([units * index // gaps * multiple_of for index in range(gaps + 1)], side)


def _least_side(size: int, tiles: int, overlap: int, multiple_of: int) -> int:
    """Return the side of so many tiles over `size` pixels, whose distances are multiples as they are."""
    shared = -(-overlap // multiple_of)
    return -(-(size // multiple_of + (tiles - 1) * shared) // tiles) * multiple_of


class _Canvas:
    """Accumulator of a row of tiles and of their overlap with the next row; the first tile gives the scale."""

    def __init__(self, rows: _Axis, columns: _Axis) -> None:
        self.rows, self.columns = rows, columns
        self.row = self.scale = 0
        self.pixels: Tensor

    def add(self, tile: Tensor, row: int, column: int) -> None:
        """Add a restored (B, C, h, w) tile at its place in the present row, weighted."""
        if not self.scale:
            self._open(tile)
        place = self.pixels[..., self.columns.span(column, self.scale)]
        place.addcmul_(tile.to(place), self.row_shares[row][:, None] * self.column_shares[column])

    def finished(self, height: int, width: int) -> Tensor:
        """Return the rows that no later tile changes, without the padding beyond the image's `height` and `width`."""
        stop = min(self._next_start(), height)
        return crop_to(self.pixels, (stop - self.rows.starts[self.row]) * self.scale, width * self.scale)

    def move_on(self) -> None:
        """Go to the next row; bands that were returned stay as they are."""
        stride = self._next_start() - self.rows.starts[self.row]
        rest = self.pixels[..., stride * self.scale :, :].clone()
        shape = self.pixels.shape
        del self.pixels  # so that there are never two, if nobody keeps the band
        self.pixels = rest.new_zeros(shape)
        self.pixels[..., : rest.shape[-2], :] = rest
        self.row += 1

    def _next_start(self) -> int:
        return [*self.rows.starts, self.rows.size][self.row + 1]

    def _open(self, tile: Tensor) -> None:
        height, width = tile.shape[-2:]
        self.scale = height // self.rows.side
        if self.scale < 1 or (height, width) != (self.rows.side * self.scale, self.columns.side * self.scale):
            sides = f"{self.rows.side} x {self.columns.side}"
            raise ValueError(f"a tile of {sides} became {height} x {width}, which is no whole multiple of it")
        dtype = torch.promote_types(tile.dtype, torch.float32)
        self.pixels = tile.new_zeros(*tile.shape[:2], height, self.columns.size * self.scale, dtype=dtype)
        self.row_shares, self.column_shares = (
            [share.to(dtype).to(tile.device) for share in axis.shares(self.scale)] for axis in (self.rows, self.columns)
        )


def _batches(places: Iterable[tuple[int, int]], size: int) -> Iterator[list[tuple[int, int]]]:
    places = iter(places)
    while batch := list(islice(places, size)):
        yield batch
