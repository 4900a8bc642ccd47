"""Comparison pictures: photographs and enlarged crops, beside their scores."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from semanir_plugin.atomic_io import write_atomic
from semanir_plugin.errors import UserError, require_package
from semanir_plugin.path_safety import check_target

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["Comparison", "check_picture_path", "compare_crops", "most_detailed_crop", "save_figure"]

Pixels = NDArray[np.uint8]

MARGIN = 12
TEXT_SIZE = 20
BOX_COLOUR = (230, 159, 0)  # orange of the colour-blind-safe Okabe-Ito palette


KINDS = (".png", ".pdf", ".svg")


@dataclass(frozen=True)
class Comparison:
    """One row of a comparison picture.

    Attributes:
        title: Name of the photograph.
        reference: (H, W, 3) RGB ground truth, shown whole with the crop marked.
        versions: By caption, (h, w, 3) RGB versions of the photograph; smaller ones are enlarged without smoothing.
    """

    title: str
    reference: Pixels
    versions: Mapping[str, Pixels]


def check_picture_path(path: Path) -> None:
    """Refuse a name that no picture can be written to, before any work.

    Raises:
        UserError: Its ending is of no known kind, `check_target` refuses it, or matplotlib is not installed.
    """
    if path.suffix.lower() not in KINDS:
        raise UserError(f"{path}: a picture's name ends in {', '.join(KINDS[:-1])} or {KINDS[-1]}; give it one of them")
    check_target(path)
    require_package("matplotlib", f"{path}: a picture")


def save_figure(figure: Figure, path: Path) -> None:
    """Write a figure of matplotlib's, whole or not at all.

    Raises:
        UserError: The file cannot be written.
    """
    content = io.BytesIO()
    figure.savefig(content, dpi=150, format=path.suffix.lower()[1:])
    try:
        write_atomic(content.getvalue(), path)
    except OSError as error:
        raise UserError(f"{path}: cannot be written ({error.strerror}); choose another place") from error


def most_detailed_crop(image: Pixels, size: int | tuple[int, int]) -> tuple[int, int]:
    """Return (top, left) of the crop of an (H, W, 3) image with the most squared gradient.

    Args:
        image: The image.
        size: Side of the crop, or its height and width; at most the image's.
    """
    height, width = (size, size) if isinstance(size, int) else size
    gray = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY).astype(np.float32)
    energy = np.square(cv2.Sobel(gray, cv2.CV_32F, 1, 0)) + np.square(cv2.Sobel(gray, cv2.CV_32F, 0, 1))
    total = cv2.integral(energy)
    sums = total[height:, width:] - total[:-height, width:] - total[height:, :-width] + total[:-height, :-width]
    top, left = np.unravel_index(np.argmax(sums), sums.shape)
    return int(top), int(left)


def compare_crops(comparisons: Sequence[Comparison], *, crop: int = 72, zoom: int = 4) -> Image.Image:
    """Plot one row per photograph: the whole of it, then the same crop of every version, enlarged and captioned.

    Args:
        comparisons: The rows; all with as many versions.
        crop: Side of the crop in pixels of the reference; smaller references use their shorter side.
        zoom: Enlargement of the crop.
    """
    rows = [_plot_row(each, crop, zoom) for each in comparisons]
    picture = Image.new("RGB", (max(row.width for row in rows), sum(row.height for row in rows)), "white")
    top = 0
    for row in rows:
        picture.paste(row, (0, top))
        top += row.height
    return picture


def _plot_row(comparison: Comparison, crop: int, zoom: int) -> Image.Image:
    height, width = comparison.reference.shape[:2]
    side = crop * zoom
    crop = min(crop, height, width)
    top, left = most_detailed_crop(comparison.reference, crop)
    whole = Image.fromarray(comparison.reference)
    outline = max(3, round(3 * height / side))
    ImageDraw.Draw(whole).rectangle((left, top, left + crop, top + crop), outline=BOX_COLOUR, width=outline)
    panels = [(comparison.title, whole.resize((round(width * side / height), side), Image.Resampling.LANCZOS))]
    for caption, version in comparison.versions.items():
        scale = height / version.shape[0]
        box = (left / scale, top / scale, (left + crop) / scale, (top + crop) / scale)
        panels.append((caption, Image.fromarray(version).resize((side, side), Image.Resampling.NEAREST, box=box)))
    return _label(panels)


def _label(panels: Sequence[tuple[str, Image.Image]]) -> Image.Image:
    width = sum(panel.width + MARGIN for _, panel in panels) + MARGIN
    row = Image.new("RGB", (width, panels[0][1].height + TEXT_SIZE + 2 * MARGIN), "white")
    draw, font = ImageDraw.Draw(row), ImageFont.load_default(TEXT_SIZE)
    left = MARGIN
    for caption, panel in panels:
        draw.text((left, MARGIN // 2), caption, fill="black", font=font)
        row.paste(panel, (left, TEXT_SIZE + MARGIN))
        left += panel.width + MARGIN
    return row
