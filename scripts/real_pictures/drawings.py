"""Drawings: ink, flat colours within outlines, hatching, a comic's panel, charts; and icons on nothing."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from real_pictures.canvas import Canvas, Point

__all__ = ["DRAWINGS", "ICONS"]

SIZE = (128, 112)
SIDE = 40  # of icons


def ink(pixels: int) -> Canvas:
    """Curves of a pen on white, thin and thick."""
    canvas = Canvas(SIZE, pixels)
    for number in range(9):
        phase, height = 0.7 * number, 14 + 11 * number
        wave = [(x, height + 6 * math.sin(x / 9 + phase) + 3 * math.sin(x / 3.1)) for x in np.arange(4, 124, 0.5)]
        canvas.line(wave, "#101010", 0.4 + 0.2 * number)
    return canvas


def figure(pixels: int) -> Canvas:
    """A landscape in flat colours, each within an outline."""
    canvas = Canvas(SIZE, pixels, "#bfe3f5")
    canvas.ellipse((100, 24), (13, 13), "#ffd447", "#1c1c1c", 1.2)
    canvas.polygon([(-4, 84), (34, 30), (66, 84)], "#8f9bb3", "#1c1c1c", 1.2)
    canvas.polygon([(22, 47), (34, 30), (45, 48), (37, 53), (31, 49)], "white", "#1c1c1c", 0.8)
    canvas.polygon([(-4, 74), (40, 66), (132, 80), (132, 118), (-4, 118)], "#7ac36a", "#1c1c1c", 1.2)
    canvas.box((72, 58), (34, 32), "#e4572e", line="#1c1c1c", width=1.2)
    canvas.polygon([(66, 60), (89, 40), (112, 60)], "#7a4b2a", "#1c1c1c", 1.2)
    canvas.box((84, 72), (10, 18), "#5b3a29", line="#1c1c1c", width=0.8)
    canvas.ellipse((28, 92), (12, 8), "#3f8f4f", "#1c1c1c", 1)
    return canvas


def hatching(pixels: int) -> Canvas:
    """A sphere and its shadow by lines that cross where it is dark."""
    canvas = Canvas(SIZE, pixels, "#fdfcf7")
    for angle, reach in ((45, 1.0), (135, 0.62), (90, 0.35)):
        for offset in np.arange(-40, 41, 2.6):
            for start, end in _chords(offset, angle, reach):
                canvas.line([start, end], "#222222", 0.45)
    canvas.ellipse((60, 52), (38, 38), None, "#222222", 0.9)
    for number in range(12):
        canvas.line([(38 + 5 * number, 94 + (number % 3)), (58 + 5 * number, 104)], "#222222", 0.45)
    return canvas


def comic(pixels: int) -> Canvas:
    """A panel: a face, halftone dots, lines of speed, and somebody speaks."""
    canvas = Canvas(SIZE, pixels, "#ffe9a8")
    for row, y in enumerate(range(2, 112, 4)):
        for x in range(2 + 2 * (row % 2), 128, 4):
            canvas.ellipse((x, y), (0.9, 0.9), "#f3b562")
    canvas.ellipse((38, 70), (26, 30), "#f8cfae", "black", 1.6)
    canvas.polygon([(12, 62), (16, 38), (36, 30), (60, 40), (64, 60), (48, 50), (30, 54)], "#3b2a20", "black", 1.2)
    for x in (29, 47):
        canvas.ellipse((x, 70), (4, 5), "white", "black", 1)
        canvas.ellipse((x + 1, 71), (1.8, 2.2), "black")
    canvas.line([(28, 86), (38, 90), (49, 85)], "black", 1.4)
    canvas.ellipse((92, 26), (32, 20), "white", "black", 1.4)
    canvas.polygon([(74, 40), (64, 58), (86, 45)], "white")
    canvas.line([(74, 41), (64, 58), (86, 45)], "black", 1.4)
    canvas.text((68, 13), "IT ISN'T\nTUESDAY?!", 8.5, "black", "bold")
    for number in range(7):
        canvas.line([(126, 62 + 7 * number), (82 + 3 * number, 66 + 6 * number)], "black", 0.8)
    canvas.box((0.8, 0.8), (126.4, 110.4), None, line="black", width=1.6)
    return canvas


def bars(pixels: int) -> Canvas:
    """A chart of bars, with a grid and labels."""
    canvas = _axes(pixels, ("0", "25", "50", "75"))
    for number, (height, colour) in enumerate(zip((62, 35, 71, 48, 20), COLOURS, strict=True)):
        canvas.box((26 + 20 * number, 94 - height), (13, height), colour)
        canvas.text((28 + 20 * number, 97), "ABCDE"[number], 8, "#303030")
    return canvas


def curves(pixels: int) -> Canvas:
    """A chart of curves, with marks and a legend."""
    canvas = _axes(pixels, ("-1", "0", "1", "2"))
    for number, colour in enumerate(COLOURS[:3]):
        course = [(22 + t, 60 - 24 * math.sin(t / (13 + 5 * number)) - 6 * number) for t in np.arange(0, 101, 0.5)]
        canvas.line(course, colour, 1.1)
        for point in course[::25]:
            canvas.ellipse(point, (1.8, 1.8), "white", colour, 0.8)
        canvas.line([(28 + 32 * number, 104), (36 + 32 * number, 104)], colour, 1.6)
        canvas.text((38 + 32 * number, 99), f"run {number + 1}", 7, "#303030")
    return canvas


def badge(pixels: int) -> Canvas:
    """A red badge with a tick."""
    canvas = Canvas((SIDE, SIDE), pixels, None)
    canvas.ellipse((20, 20), (17, 17), "#d7263d")
    canvas.line([(11, 21), (18, 28), (30, 13)], "white", 3.4)
    return canvas


def star(pixels: int) -> Canvas:
    """A star in yellow, with an outline."""
    canvas = Canvas((SIDE, SIDE), pixels, None)
    radii = (17, 7.5) * 5
    points = [(20 + r * math.sin(i * math.pi / 5), 21 - r * math.cos(i * math.pi / 5)) for i, r in enumerate(radii)]
    canvas.polygon(points, "#ffc93c", "#6b3e00", 1.4)
    return canvas


def letter(pixels: int) -> Canvas:
    """An envelope in blue and white."""
    canvas = Canvas((SIDE, SIDE), pixels, None)
    canvas.box((4, 9), (32, 22), "#f7fbff", line="#1b4965", radius=3, width=1.6)
    canvas.line([(5, 11), (20, 23), (35, 11)], "#1b4965", 1.6)
    return canvas


def leaf(pixels: int) -> Canvas:
    """A dark leaf with veins."""
    canvas = Canvas((SIDE, SIDE), pixels, None)
    side = [(20 + 12 * math.sin(math.pi * t), 4 + 30 * t) for t in np.linspace(0, 1, 30)]
    canvas.polygon([*side, *((40 - x, y) for x, y in reversed(side))], "#1d6b3a")
    canvas.line([(20, 6), (20, 38)], "#0d3b1e", 1.4)
    for y in (14, 20, 26):
        canvas.line([(13, y - 3), (20, y + 3), (27, y - 3)], "#0d3b1e", 0.8)
    return canvas


COLOURS = ("#0072b2", "#e69f00", "#009e73", "#d55e00", "#cc79a7")


def _axes(pixels: int, labels: tuple[str, ...]) -> Canvas:
    canvas = Canvas(SIZE, pixels)
    for number, label in enumerate(labels):
        y = 94 - 26 * number
        canvas.line([(22, y), (124, y)], "#d8d8d8", 0.5)
        canvas.text((4, y - 5), label, 8, "#303030")
    canvas.line([(22, 8), (22, 94), (124, 94)], "#303030", 0.8)
    return canvas


def _chords(offset: float, angle: float, reach: float) -> list[tuple[Point, Point]]:
    """Return the part of a line within the sphere that lies in its shade; the darker lines reach less far."""
    radius, direction = 38.0, math.radians(angle)
    if abs(offset) >= radius:
        return []
    half = math.sqrt(radius**2 - offset**2)
    along, across = (math.cos(direction), math.sin(direction)), (-math.sin(direction), math.cos(direction))
    ends = (half - 2 * half * reach if reach < 1 else -half + 14, half)
    start, end = (
        (60 + offset * across[0] + t * along[0], 52 + offset * across[1] + t * along[1]) for t in sorted(ends)
    )
    return [(start, end)]


DRAWINGS: dict[str, Callable[[int], Canvas]] = {
    each.__name__: each for each in (ink, figure, hatching, comic, bars, curves)
}
ICONS: dict[str, Callable[[int], Canvas]] = {each.__name__: each for each in (badge, star, letter, leaf)}
