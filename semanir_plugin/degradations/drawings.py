"""Text, widgets and line art, drawn at random: what screenshots and drawings are made of, and photographs are not."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

import cv2
import numpy as np
from PIL import Image as Pictures
from PIL import ImageDraw, ImageFont

from semanir_plugin.pixels import Image

__all__ = ["draw_picture"]

# What is drawn for each picture: from, to.
FONT_SIZES = (9.0, 48.0)  # pixels
WIDTHS = (1, 6)  # of lines
SHAPES = (3, 12)
POINTS = (3, 9)  # of polygons and curves

LETTERS = "abcdefghijklmnopqrstuvwxyzabcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
MARKS = ".,;:!?()[]{}<>=+-*/%&#@$\"'_|"
# How often text begins with something else than a letter, and how often a background is nearly white or black.
MARKS_SHARE = 0.15
PLAIN_SHARE = 0.7

Colour = tuple[int, int, int]


def draw_picture(side: int, generator: np.random.Generator, fonts: Sequence[str] = ()) -> Image:
    """Draw a square picture of text, of widgets, of lines, or of several of them.

    Args:
        side: Of the picture in pixels.
        generator: Decides everything that is drawn.
        fonts: Files of fonts, TrueType or OpenType; by default the one that Pillow brings.

    Returns:
        (side, side, 3), BGR.
    """
    canvas = np.full((side, side, 3), _background(generator), np.uint8)
    kind = generator.random()
    if kind < 0.15:
        canvas = _gradient(side, generator)
    if kind < 0.75:
        _draw_widgets(canvas, generator)
        _write_text(canvas, generator, fonts)
    else:
        _draw_lines(canvas, generator)
        if generator.random() < 0.3:
            _write_text(canvas, generator, fonts)
    return canvas


def _background(generator: np.random.Generator) -> Colour:
    """Return a colour that screens and paper have: mostly nearly white, or nearly black, otherwise any."""
    if generator.random() < PLAIN_SHARE:
        dark = generator.random() < 0.3
        level = int(
            generator.integers(0, 48) if dark else generator.choice([255, 255, int(generator.integers(225, 256))])
        )
        return level, level, level
    return _colour(generator)


def _colour(generator: np.random.Generator) -> Colour:
    blue, green, red = generator.integers(0, 256, 3)
    return int(blue), int(green), int(red)


def _ink(generator: np.random.Generator, ground: Any) -> Colour:
    """Return a colour that can be read on a ground: black or white, or any that differs enough."""
    level = float(np.mean(ground))
    if generator.random() < 0.6:
        return (0, 0, 0) if level > 127 else (255, 255, 255)
    colours = (_colour(generator) for _ in range(4))
    return max(colours, key=lambda colour: abs(float(np.mean(colour)) - level))


def _gradient(side: int, generator: np.random.Generator) -> Image:
    first, last = (np.array(_colour(generator), np.float32) for _ in range(2))
    y, x = np.mgrid[:side, :side].astype(np.float32) / max(side - 1, 1)
    share = (x if generator.random() < 0.5 else y)[..., None]
    return np.asarray(np.round(first + (last - first) * share), np.uint8)


def _draw_widgets(canvas: Image, generator: np.random.Generator) -> None:
    """Draw boxes, buttons and rules."""
    side = len(canvas)
    for _ in range(generator.integers(0, 4)):
        x, y = generator.integers(-side // 4, side, 2)
        width, height = generator.integers(side // 8, side, 2)
        corners = (int(x), int(y)), (int(x + width), int(y + height) if generator.random() < 0.8 else int(y))
        cv2.rectangle(canvas, *corners, _background(generator), cv2.FILLED)
        if generator.random() < 0.5:
            cv2.rectangle(canvas, *corners, _colour(generator), int(generator.integers(1, 3)))


def _write_text(canvas: Image, generator: np.random.Generator, fonts: Sequence[str]) -> None:
    """Write lines of one size from a place at the left downwards, each in a colour that suits its ground."""
    side = len(canvas)
    size = float(np.exp(generator.uniform(*np.log(FONT_SIZES))))
    font = _font(fonts[int(generator.integers(len(fonts)))] if fonts else None, round(size * 2) / 2)
    picture = Pictures.fromarray(canvas)
    pen = ImageDraw.Draw(picture)
    left, line = generator.integers(-int(size), side // 4 + 1), float(generator.uniform(1.1, 1.8)) * size
    ink = None
    for top in np.arange(generator.uniform(-size, line), side, line):
        if ink is None or generator.random() < 0.1:
            ground = canvas[int(np.clip(top + size / 2, 0, side - 1)), int(np.clip(left, 0, side - 1))]
            ink = _ink(generator, ground)
        if generator.random() < 0.9:
            pen.text((float(left), float(top)), _words(generator, int(side / size * 2)), font=font, fill=ink)
    canvas[:] = np.asarray(picture)


def _words(generator: np.random.Generator, length: int) -> str:
    """Return letters in words of two to nine, numbers and marks among them."""
    letters = "".join(LETTERS[each] for each in generator.integers(0, len(LETTERS), length + 1))
    marks = generator.random(length + 1) < MARKS_SHARE / 2
    spaces = generator.random(length + 1) < 1 / 6
    text = [
        " " if space else MARKS[ord(letter) % len(MARKS)] if mark else letter
        for letter, mark, space in zip(letters, marks, spaces, strict=True)
    ]
    return "".join(text)


@cache
def _font(path: str | None, size: float) -> Any:
    return ImageFont.load_default(size) if path is None else ImageFont.truetype(path, size)


def _draw_lines(canvas: Image, generator: np.random.Generator) -> None:
    """Draw filled and outlined shapes, curves and hatching."""
    draws: tuple[Callable[[Image, np.random.Generator, Colour], None], ...] = (_polygon, _ellipse, _curve, _hatching)
    for _ in range(generator.integers(*SHAPES)):
        draws[generator.integers(len(draws))](canvas, generator, _ink(generator, canvas[::8, ::8].mean((0, 1))))


_FRACTION_BITS = 4  # of coordinates: OpenCV draws at sixteenths of a pixel


def _points(canvas: Image, generator: np.random.Generator, count: int) -> Any:
    side = len(canvas) << _FRACTION_BITS
    return generator.integers(-side // 4, side + side // 4, (count, 2)).astype(np.int32)


def _width(generator: np.random.Generator) -> int:
    return int(generator.integers(*WIDTHS))


def _polygon(canvas: Image, generator: np.random.Generator, ink: Colour) -> None:
    corners = _points(canvas, generator, int(generator.integers(*POINTS)))
    if generator.random() < 0.5:
        cv2.fillPoly(canvas, [corners], _colour(generator), cv2.LINE_AA, _FRACTION_BITS)
    cv2.polylines(canvas, [corners], True, ink, _width(generator), cv2.LINE_AA, _FRACTION_BITS)


def _ellipse(canvas: Image, generator: np.random.Generator, ink: Colour) -> None:
    centre = _points(canvas, generator, 1)[0].tolist()
    axes = generator.integers(16, max(len(canvas) << (_FRACTION_BITS - 1), 17), 2).tolist()
    angle = float(generator.uniform(0, 180))
    if generator.random() < 0.5:
        cv2.ellipse(canvas, centre, axes, angle, 0, 360, _colour(generator), cv2.FILLED, cv2.LINE_AA, _FRACTION_BITS)
    cv2.ellipse(canvas, centre, axes, angle, 0, 360, ink, _width(generator), cv2.LINE_AA, _FRACTION_BITS)


def _curve(canvas: Image, generator: np.random.Generator, ink: Colour) -> None:
    """Draw a Bezier curve of third order."""
    first, second, third, last = _points(canvas, generator, 4).astype(np.float64)
    t = np.linspace(0, 1, 32)[:, None]
    path = (1 - t) ** 3 * first + 3 * t * (1 - t) ** 2 * second + 3 * t**2 * (1 - t) * third + t**3 * last
    cv2.polylines(canvas, [path.astype(np.int32)], False, ink, _width(generator), cv2.LINE_AA, _FRACTION_BITS)


def _hatching(canvas: Image, generator: np.random.Generator, ink: Colour) -> None:
    """Draw parallel lines."""
    (x, y), reach = _points(canvas, generator, 1)[0], len(canvas) << (_FRACTION_BITS - 1)
    angle, gap = generator.uniform(0, np.pi), generator.uniform(3, 12) * (1 << _FRACTION_BITS)
    along, across = np.array([np.cos(angle), np.sin(angle)]), np.array([-np.sin(angle), np.cos(angle)])
    width = int(generator.integers(1, 3))
    for step in range(int(generator.integers(3, 12))):
        middle = np.array([x, y]) + across * gap * step
        ends = (middle - along * reach / 2).astype(int).tolist(), (middle + along * reach / 2).astype(int).tolist()
        cv2.line(canvas, *ends, ink, width, cv2.LINE_AA, _FRACTION_BITS)
