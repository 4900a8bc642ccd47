"""Restore photographs: each in its own depth, in bands from top to bottom, within the memory there is."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from itertools import chain
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from semanir_plugin.errors import UserError
from semanir_plugin.inference.bleeding import bleed_colours
from semanir_plugin.inference.photograph_writing import check_writable, is_streamed
from semanir_plugin.inference.photographs import Photograph, PhotographInBands
from semanir_plugin.inference.restoration import Restoration
from semanir_plugin.inference.tile_memory import PROBE, free_memory
from semanir_plugin.inference.tile_sources import PixelSource, TileSource
from semanir_plugin.inference.tiling import Progress, least_tile
from semanir_plugin.pixels import to_float

__all__ = ["PhotographRestoration", "is_out_of_memory", "restore_photograph"]

OUT_OF_MEMORY = ("out of memory", "can't allocate memory", "not enough memory")  # what torch's allocators say

FULL_PRECISION = "restore it in full precision, of the command: --precision fp32"
OTHER_WEIGHTS = "take other weights, those of a training that went well"

LARGE = 1 << 20
"""Pixels of a photograph above which it is restored in tiles where nothing is said of them."""

LARGE_TILE = 512
"""Side of these tiles: overlaps cost a sixth more, a small network takes less than a gigabyte."""

WHOLE = 4  # bytes of a pixel of a result that is written as a whole


@dataclass(frozen=True)
class PhotographRestoration:
    """A network and its settings for restoring photographs.

    Attributes:
        restoration: In tiles or whole, once or eight ways; whole photographs of more than `LARGE` pixels in tiles too.
        network: Maps (1, C, h, w) to (1, C, s * h, s * w), C of 1 or 3.
        device: Where the network is.
    """

    restoration: Restoration
    network: torch.nn.Module
    device: torch.device

    def restore(self, photograph: Photograph, *, held: int = 0, progress: Progress | None = None) -> PhotographInBands:
        """Restore a photograph; the first band at once, the others when they are asked for.

        Args:
            photograph: Photograph to restore.
            held: Bytes of the result that the caller keeps until it is whole, which `tile="auto"` leaves free.
            progress: Called with the number of tiles done and of all tiles.

        Raises:
            ValueError: As `restore_photograph`.
        """

        def run(source: TileSource) -> Iterator[Tensor]:
            restore = self._restoration_of(photograph).restore_in_rows
            return restore(self.network, source, device=self.device, held=held, progress=progress)

        cure = OTHER_WEIGHTS if self.restoration.precision is None else FULL_PRECISION
        return restore_photograph(photograph, run, self.restoration.descriptor.in_channels, cure=cure)

    def _restoration_of(self, photograph: Photograph) -> Restoration:
        options, (height, width) = self.restoration.options, photograph.pixels.shape[:2]
        if options.tile is not None or height * width <= LARGE:
            return self.restoration
        least = least_tile(options.overlap, self.restoration.multiple_of)
        return replace(self.restoration, options=replace(options, tile=max(LARGE_TILE, least)))

    def restore_for_file(
        self, photograph: Photograph, suffix: str, progress: Progress | None = None
    ) -> PhotographInBands:
        """Restore a photograph, as `restore` does, for a file with a suffix.

        Raises:
            ValueError: As `restore`; or the format or the memory cannot hold the result, before any work.
        """
        held = 0 if is_streamed(suffix) else self._check_whole(photograph, suffix)
        return self.restore(photograph, held=held, progress=progress)

    def _check_whole(self, photograph: Photograph, suffix: str) -> int:
        """Return the bytes of memory for a result that is written as a whole; raise ValueError where it cannot be."""
        scale, (height, width, colours) = self.restoration.descriptor.scale, photograph.pixels.shape
        height, width = scale * height, scale * width
        check_writable((height, width, colours + (photograph.alpha is not None)), suffix)
        held: int = WHOLE * height * width
        if held > _free_on_host():
            raise ValueError(
                f"its result of {width:,} x {height:,} pixels does not fit into memory, where a {suffix} file is made "
                "as a whole; name it .png or .tif, which are written as they come"
            )
        return held

    def advise_on_memory(self, photograph: Photograph | None) -> str:
        """Return a message that a photograph, None if it could not be read, needs too much memory, with advice."""
        if self.device.type == "cuda":
            torch.cuda.empty_cache()
        if photograph is None:
            return "needs more memory than there is to be read; cut it into parts"
        least = least_tile(self.restoration.options.overlap, self.restoration.multiple_of)
        restoration = self._restoration_of(photograph)
        if restoration.options.tile is None:
            tile = self._fitting_tile(photograph, least)
            return f"needs more memory than there is; restore it in tiles: --tile auto, or --tile {tile}"
        taken = restoration.tile_taken or PROBE
        if taken > least:
            return f"needs more memory than there is; give --tile {self._half(taken, least)}"
        return (
            f"needs more memory than there is, even in tiles of {least} pixels; give a smaller --tile-overlap, "
            "--precision bf16 or another --device"
        )

    def _fitting_tile(self, photograph: Photograph, least: int) -> int:
        """Return the side of tiles that can be restored where the whole cannot."""
        side = max(photograph.pixels.shape[:2])
        try:
            source = PixelSource(photograph.pixels, self.restoration.descriptor.in_channels)
            tile = self.restoration.largest_tile(self.network, source, device=self.device)
        except Exception:  # whatever fails, the advice should not
            tile = PROBE // 2
        return max(least, min(tile, self._half(side, least)))

    def _half(self, side: int, least: int) -> int:
        multiple = self.restoration.multiple_of
        return max(least, side // 2 // multiple * multiple)


def is_out_of_memory(error: Exception) -> bool:
    """Return whether an error says that memory was used up, of the host or of a device."""
    if isinstance(error, torch.cuda.OutOfMemoryError | MemoryError):
        return True
    return any(words in str(error).lower() for words in OUT_OF_MEMORY)


def _free_on_host() -> float:
    try:
        return free_memory(torch.device("cpu"))
    except UserError:  # it cannot be told here
        return math.inf


def restore_photograph(
    photograph: Photograph,
    restore: Callable[[TileSource], Iterator[Tensor]],
    channels: int,
    *,
    cure: str = FULL_PRECISION,
) -> PhotographInBands:
    """Restore a photograph in its own depth; its transparency is only enlarged, and colours are bled under it before.

    A gray one passes a colour network as three equal channels, and the mean of what comes out is its result. The first
    band is restored at once, the others when they are asked for.

    Args:
        photograph: Photograph to restore.
        restore: Yields (1, C, h, s * W) in [0, 1] from top to bottom, of an image of (1, C, H, W).
        channels: C, 1 or 3.
        cure: Advice where the network makes what is no number.

    Raises:
        ValueError: It has colours and the network has none, or the network made of it what is no number; of bands but
            the first, when they are asked for.
    """
    height, width, colours = photograph.pixels.shape
    if channels == 1 and colours > 1:
        raise ValueError("is in colour, but the network restores gray; convert it, or take a network for colour")
    pixels = photograph.pixels if photograph.alpha is None else bleed_colours(photograph.pixels, photograph.alpha)
    bands = _round_bands(restore(PixelSource(pixels, channels)), photograph, cure)
    first = next(bands)
    scale = first.shape[1] // width
    return PhotographInBands(
        shape=(height * scale, width * scale, first.shape[2]),
        dtype=first.dtype,
        bands=chain([first], bands),
        metadata=photograph.metadata.of_size(width * scale, height * scale),
    )


def _round_bands(bands: Iterator[Tensor], photograph: Photograph, cure: str) -> Iterator[NDArray[Any]]:
    """Yield (h, W, C) bands of a photograph's depth, with its transparency where it has some."""
    top, (_, width, colours), dtype = 0, photograph.pixels.shape, photograph.pixels.dtype
    while (band := next(bands, None)) is not None:
        if not band.isfinite().all():
            raise ValueError(f"the network made infinite values of it; {cure}")
        colour = band[0].float()
        pixels = _round((colour.mean(0, keepdim=True) if colours == 1 else colour).permute(1, 2, 0).numpy(), dtype)
        del band, colour  # before the next one is made
        if photograph.alpha is not None:
            alpha = _enlarge(photograph.alpha, pixels.shape[1] // width, top, top + len(pixels))
            pixels = np.concatenate([pixels, alpha[..., None]], axis=2)
        top += len(pixels)
        yield pixels


def _round(image: NDArray[Any], dtype: Any) -> NDArray[Any]:
    """Round [0, 1] to whole numbers, a row at a time: in double precision, which takes eight bytes a value."""
    if np.dtype(dtype).kind == "f":
        result: NDArray[Any] = np.clip(image, 0, 1).astype(dtype)
        return result
    whole, rounded = np.iinfo(dtype).max, np.empty(image.shape, dtype)
    for row, target in zip(image, rounded, strict=True):
        target[:] = np.clip(np.round(row.astype(np.float64) * whole), 0, whole)
    return rounded


def _enlarge(alpha: NDArray[Any], scale: int, top: int, bottom: int) -> NDArray[Any]:
    """Return the rows from `top` to `bottom` of (H, W) opacity, enlarged bicubically."""
    if scale == 1:
        return alpha[top:bottom]
    first, last = top // scale - 2, -(-bottom // scale) + 2  # cubic: two rows further on either side
    rows = to_float(alpha[np.arange(first, last).clip(0, len(alpha) - 1)])
    size = (alpha.shape[1] * scale, (last - first) * scale)
    enlarged = cv2.resize(rows, size, interpolation=cv2.INTER_CUBIC)
    return _round(enlarged[top - first * scale : bottom - first * scale], alpha.dtype)
