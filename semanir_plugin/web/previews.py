"""Pictures to look at in a browser, of a photograph before and after, of one size and not too large."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from semanir_plugin.inference.photographs import Photograph, PhotographInBands

__all__ = ["LARGEST_SIDE", "Comparison"]

LARGEST_SIDE = 1600  # pixels
ROWS = 64  # of a preview, that are made at once


@dataclass
class Comparison:
    """Looks at a photograph and its result as that is written, and keeps both by a whole number smaller.

    Attributes:
        before: (H, W, C) of the photograph, once it has been seen.
        after: (H, W, C) of the result.
    """

    before: tuple[int, ...] = ()
    after: tuple[int, ...] = ()
    _photograph: Photograph | None = None
    _parts: list[Image.Image] = field(default_factory=list)

    def watch(self, photograph: Photograph, result: PhotographInBands) -> PhotographInBands:
        """Return a result that leaves its pixels here as it is written."""
        self.before, self.after, self._photograph = photograph.pixels.shape, result.shape, photograph
        return replace(result, bands=self._look(result))

    def _look(self, result: PhotographInBands) -> Iterator[NDArray[Any]]:
        factor = -(-max(result.shape[:2]) // LARGEST_SIDE)
        for block in result.blocks(ROWS * factor):
            self._parts.append(_to_image(block).reduce(factor))
            yield block

    def write(self, folder: Path) -> tuple[Path, Path]:
        """Write pictures of before and after, of one size, to a new folder, and return their paths."""
        assert self._photograph is not None, "a result was written"
        folder.mkdir()
        after, icc = _joined(self._parts), self._photograph.metadata.icc
        before = _whole(self._photograph).resize(after.size, Image.Resampling.BICUBIC)
        return _write(before, folder / "before", icc), _write(after, folder / "after", icc)


def _joined(parts: list[Image.Image]) -> Image.Image:
    whole, top = Image.new(parts[0].mode, (parts[0].width, sum(part.height for part in parts))), 0
    for part in parts:
        whole.paste(part, (0, top))
        top += part.height
    return whole


def _whole(photograph: Photograph) -> Image.Image:
    if photograph.alpha is None:
        return _to_image(photograph.pixels)
    return _to_image(np.concatenate([photograph.pixels, photograph.alpha[..., None]], axis=2))


def _write(image: Image.Image, path: Path, icc: bytes | None) -> Path:
    """Write a picture as a JPEG, or as a PNG where it is transparent, and return its path."""
    transparent = "A" in image.mode
    path = path.with_suffix(".png" if transparent else ".jpg")
    how: dict[str, Any] = {} if transparent else {"quality": 93, "subsampling": 0}
    image.save(path, icc_profile=icc, **how)
    return path


def _to_image(samples: NDArray[Any]) -> Image.Image:
    """Return (H, W, C) samples of any depth as a picture of 8 bit."""
    if samples.dtype != np.uint8:
        whole = 65535 if samples.dtype == np.uint16 else 1
        samples = np.round(samples.astype(np.float32) * (255 / whole)).clip(0, 255).astype(np.uint8)
    return Image.fromarray(samples[..., 0] if samples.shape[2] == 1 else samples)
