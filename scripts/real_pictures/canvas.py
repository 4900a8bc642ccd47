"""A canvas that is laid out in points, and drawn crisply at any number of pixels per point."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Literal

from PIL import Image, ImageDraw, ImageFont

__all__ = ["OVERSAMPLING", "Canvas", "Face", "Point"]

OVERSAMPLING = 4  # of what is drawn without anti-aliasing of its own
Point = tuple[float, float]
Face = Literal["sans", "bold", "mono", "serif", "book", "plain"]

# matplotlib's copies of DejaVu and STIX; "plain" is Aileron, which Pillow has built in.
FONTS = {
    "sans": "DejaVuSans.ttf",
    "bold": "DejaVuSans-Bold.ttf",
    "mono": "DejaVuSansMono.ttf",
    "serif": "DejaVuSerif.ttf",
    "book": "STIXGeneral.ttf",
}


class Canvas:
    """What shapes and letters are drawn on; sizes and places are in points, from the upper left.

    Shapes come first, at four times the resolution, and are averaged down; letters lie on top, as FreeType has them.

    Args:
        size: Width and height.
        pixels: Per point.
        ground: Colour, as Pillow names it; None: transparent.
    """

    def __init__(self, size: Point, pixels: int, ground: str | None = "white") -> None:
        self.pixels = pixels
        self._fine = pixels * OVERSAMPLING
        whole = tuple(round(each * self._fine) for each in size)
        self._shapes = Image.new("RGBA", (whole[0], whole[1]), ground or (0, 0, 0, 0))
        self._draw = ImageDraw.Draw(self._shapes)
        self._letters: list[tuple[Point, str, ImageFont.FreeTypeFont | ImageFont.ImageFont, str]] = []

    def box(self, corner: Point, size: Point, fill: str | None, *, line: str | None = None, **look: float) -> None:
        """Draw a rectangle; `look` may give its `radius` and the `width` of its line."""
        corners = [self._at(corner), self._at((corner[0] + size[0], corner[1] + size[1]))]
        width = self._length(look.get("width", 1)) if line else 0
        radius = look.get("radius", 0) * self._fine
        self._draw.rounded_rectangle([corners[0], corners[1]], radius, fill=fill, outline=line, width=width)

    def ellipse(self, centre: Point, radii: Point, fill: str | None, line: str | None = None, width: float = 1) -> None:
        """Draw an ellipse."""
        low, high = ((centre[0] + sign * radii[0], centre[1] + sign * radii[1]) for sign in (-1, 1))
        stroke = self._length(width) if line else 0
        self._draw.ellipse([self._at(low), self._at(high)], fill=fill, outline=line, width=stroke)

    def polygon(self, points: Sequence[Point], fill: str | None, line: str | None = None, width: float = 1) -> None:
        """Draw an area, and its outline."""
        if fill:
            self._draw.polygon([self._at(each) for each in points], fill=fill)
        if line:
            self.line([*points, points[0], points[1]], line, width)

    def line(self, points: Sequence[Point], colour: str, width: float = 1) -> None:
        """Draw a line with round joints."""
        self._draw.line([self._at(each) for each in points], fill=colour, width=self._length(width), joint="curve")

    def text(self, corner: Point, text: str, size: float, colour: str, face: Face = "sans") -> None:
        """Write from the upper left, several lines where the text has them."""
        self._letters.append((corner, text, _font(face, round(size * self.pixels)), colour))

    def finish(self) -> Image.Image:
        """Return what was drawn, RGBA."""
        width, height = self._shapes.size
        image = self._shapes.resize((width // OVERSAMPLING, height // OVERSAMPLING), Image.Resampling.BOX)
        draw = ImageDraw.Draw(image)
        for (x, y), text, font, colour in self._letters:
            draw.text((round(x * self.pixels), round(y * self.pixels)), text, fill=colour, font=font)
        return image

    def _at(self, point: Point) -> Point:
        return point[0] * self._fine, point[1] * self._fine

    def _length(self, points: float) -> int:
        return max(1, round(points * self._fine))


@lru_cache(maxsize=64)
def _font(face: Face, size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    if face == "plain":
        return ImageFont.load_default(size)
    import matplotlib

    return ImageFont.truetype(str(Path(matplotlib.get_data_path(), "fonts", "ttf", FONTS[face])), size)
