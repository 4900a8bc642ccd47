"""Held pairs of a clean picture and what people have of it, in folders: CLASS/GT/NAME.png and CLASS/LR/NAME.*."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import cycle
from pathlib import Path
from zlib import crc32

import numpy as np
from PIL import Image

from real_pictures.canvas import Canvas
from real_pictures.damage import Filter, Kernel, add_camera_noise, blur, reduce
from real_pictures.drawings import DRAWINGS, ICONS
from real_pictures.screens import SCREENS
from semanir_plugin.errors import UserError
from semanir_plugin.pixels import FloatImage, to_float, to_uint8

__all__ = ["CLASSES", "Pair", "make_pairs"]

PHOTOGRAPHS = ("Kodak24", "McMaster", "Set14")
SIDE = 320  # of what is cut out of a photograph
POINT = 1.5  # pixels of the small picture, so that most letters are 12 to 15 pixels high
FILTERS: tuple[Filter, ...] = ("area", "bicubic")
BLURS: tuple[tuple[Kernel, float], ...] = (("gauss", 0.5), ("disk", 0.7), ("sinc", 1.3), ("gauss", 0.8), ("disk", 1.1))
SHRINKING: tuple[Filter, ...] = ("area", "bilinear")


@dataclass(frozen=True)
class Pair:
    """A clean picture and what was made of it.

    Attributes:
        name: What it shows, and what was done.
        truth: RGB or RGBA.
        content: The file of the damaged one.
        suffix: Of that file.
    """

    name: str
    truth: Image.Image
    content: bytes
    suffix: str


@dataclass(frozen=True, kw_only=True)
class Source:
    """What pairs are made of.

    Attributes:
        data: Folder with folders of photographs.
        scale: By what they become smaller.
        photographs: How many of each class.
        seed: Of noise.
    """

    data: Path
    scale: int
    photographs: int = 12
    seed: int = 0

    def generator(self, name: str) -> np.random.Generator:
        """Return what draws the noise of a picture, whatever others there are."""
        return np.random.default_rng([self.seed, crc32(name.encode())])


def make_pairs(out: Path, source: Source, classes: Sequence[str]) -> None:
    """Write the pairs of some classes, the same ones every time.

    Raises:
        UserError: There are no photographs.
    """
    for each in classes:
        for part in ("GT", "LR"):
            (out / each / part).mkdir(parents=True, exist_ok=True)
        for pair in CLASSES[each](source):
            pair.truth.save(out / each / "GT" / f"{pair.name}.png")
            (out / each / "LR" / f"{pair.name}{pair.suffix}").write_bytes(pair.content)


def photographs_jpeg(source: Source) -> Iterator[Pair]:
    """Small JPEGs, of quality 40 to 90."""
    for (name, truth), quality in zip(_photographs(source), cycle((40, 60, 75, 90))):
        small = reduce(truth, source.scale, "bicubic")
        yield _pair(f"{name}_bicubic_jpeg{quality}", truth, small, quality)


def photographs_noise(source: Source) -> Iterator[Pair]:
    """Noise of a camera, from a dim room to daylight, as JPEG of quality 90."""
    for (name, truth), electrons in zip(_photographs(source), cycle((300, 1000, 4000))):
        name = f"{name}_bicubic_noise{electrons}_jpeg90"
        small = add_camera_noise(reduce(truth, source.scale, "bicubic"), electrons, source.generator(name))
        yield _pair(name, truth, small, 90)


def photographs_blur(source: Source) -> Iterator[Pair]:
    """Blur of lenses, and of resizing with a filter that is too soft or too sharp."""
    for (name, truth), (kind, strength), by in zip(_photographs(source), cycle(BLURS), cycle(SHRINKING)):
        pixels = strength * source.scale
        small = reduce(blur(truth, kind, pixels), source.scale, by)
        yield _pair(f"{name}_{kind}{pixels:.1f}_{by}", truth, small)


def screens_jpeg(source: Source) -> Iterator[Pair]:
    """Screenshots that went through a messenger: JPEG of quality 60 to 90."""
    yield from _drawn(SCREENS, source, (60, 75, 90))


def screens_png(source: Source) -> Iterator[Pair]:
    """Screenshots as they are."""
    yield from _drawn(SCREENS, source, (None,))


def drawings_jpeg(source: Source) -> Iterator[Pair]:
    """Drawings as JPEG of quality 60 to 90."""
    yield from _drawn(DRAWINGS, source, (75, 60, 90))


def drawings_png(source: Source) -> Iterator[Pair]:
    """Drawings as they are."""
    yield from _drawn(DRAWINGS, source, (None,))


def icons(source: Source) -> Iterator[Pair]:
    """Icons on nothing."""
    yield from _drawn(ICONS, source, (None,), transparent=True)


CLASSES: dict[str, Callable[[Source], Iterator[Pair]]] = {
    each.__name__.replace("_", "-"): each
    for each in (
        *(photographs_jpeg, photographs_noise, photographs_blur),
        *(screens_jpeg, screens_png, drawings_jpeg, drawings_png, icons),
    )
}


def _photographs(source: Source) -> Iterator[tuple[str, FloatImage]]:
    """Yield the names and the middles (H, W, 3) of photographs, evenly from all sets."""
    found = [path for each in PHOTOGRAPHS for path in sorted((source.data / each).glob("*.png"))]
    if not found:
        raise UserError(f"{source.data}: has no photographs in {', '.join(PHOTOGRAPHS)}; name the folder with them")
    for index in np.linspace(0, len(found) - 1, source.photographs).round().astype(int):
        path = found[index]
        with Image.open(path) as image:
            pixels = to_float(np.asarray(image.convert("RGB")))
        yield f"{path.parent.name}_{path.stem}", _middle(pixels, source.scale)


def _middle(image: FloatImage, scale: int) -> FloatImage:
    height, width = (min(SIDE, side) // scale * scale for side in image.shape[:2])
    top, left = (image.shape[0] - height) // 2, (image.shape[1] - width) // 2
    return image[top : top + height, left : left + width]


def _drawn(
    pictures: dict[str, Callable[[int], Canvas]],
    source: Source,
    qualities: Sequence[int | None],
    *,
    transparent: bool = False,
) -> Iterator[Pair]:
    for (name, draw), quality, by in zip(pictures.items(), cycle(qualities), cycle(FILTERS)):
        canvas = draw(round(POINT * source.scale)).finish()
        truth = to_float(np.asarray(canvas if transparent else canvas.convert("RGB")))
        small = reduce(_premultiplied(truth), source.scale, by)
        packed = "png" if quality is None else f"jpeg{quality}"
        yield _pair(f"{name}_{by}_{packed}", truth, _straight(small), quality)


def _premultiplied(image: FloatImage) -> FloatImage:
    """Return the colours of (H, W, 4) times its opacity; without any, the image."""
    return image if image.shape[2] == 3 else np.dstack([image[..., :3] * image[..., 3:], image[..., 3:]])


def _straight(image: FloatImage) -> FloatImage:
    if image.shape[2] == 3:
        return image
    colours = image[..., :3] / np.maximum(image[..., 3:], 1e-3)
    return np.dstack([np.clip(colours, 0, 1), image[..., 3:]])


def _pair(name: str, truth: FloatImage, small: FloatImage, quality: int | None = None) -> Pair:
    """Return a pair whose small image is a PNG, or a JPEG of a quality."""
    file, image = io.BytesIO(), Image.fromarray(to_uint8(small))
    if quality is None:
        image.save(file, "PNG")
    else:
        image.save(file, "JPEG", quality=quality)
    return Pair(name, Image.fromarray(to_uint8(truth)), file.getvalue(), ".png" if quality is None else ".jpg")
