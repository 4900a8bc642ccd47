"""Cutting photographs into sub-images as files, from which training reads no more than it uses."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path

import cv2
from tqdm import tqdm

from semanir_plugin.basicsr_host.data.in_order import in_order
from semanir_plugin.basicsr_host.data.outputs import publishing
from semanir_plugin.basicsr_host.data.pairing import Found
from semanir_plugin.basicsr_host.data.sub_images import SubImages
from semanir_plugin.errors import UserError, one_line
from semanir_plugin.inference.images import decode_pixels
from semanir_plugin.path_safety import check_fits

__all__ = ["write_sub_images"]


def write_sub_images(found: Sequence[Found], folder: Path, grid: SubImages, workers: int = 1) -> int:
    """Write the sub-images of photographs as PNG, `NAME_s001.png` and so on, to a folder that appears complete.

    Gray and 16 bit are kept; alpha is dropped.

    Args:
        found: The photographs.
        folder: Where to write; must not be there yet.
        grid: Where sub-images lie.
        workers: Threads that decode and encode.

    Returns:
        The number of sub-images.

    Raises:
        UserError: The folder is there already or cannot be written, or a photograph cannot be read.
    """
    if folder.exists():
        raise UserError(f"{folder} is there already; remove it or choose another folder")
    for each in found:
        check_fits(folder / _name(each, 1), f"rename {each.paths[0]}, or choose another folder")
    with publishing([folder]) as (draft,):
        draft.mkdir()
        counts = in_order(partial(_cut, folder=draft, grid=grid), found, workers)
        return sum(tqdm(counts, desc="Writing", total=len(found), unit="image", disable=None))


def _cut(each: Found, folder: Path, grid: SubImages) -> int:
    try:
        pixels = decode_pixels(each.paths[0].read_bytes())
    except ValueError as error:
        raise UserError(f"{each.paths[0]}: {one_line(error)}") from error
    corners = grid.corners(*pixels.shape[:2])
    for number, (top, left) in enumerate(corners, 1):
        part = pixels[top : top + grid.side, left : left + grid.side]
        cv2.imencode(".png", part)[1].tofile(folder / _name(each, number))
    return len(corners)


def _name(each: Found, number: int) -> str:
    return f"{each.name}_s{number:03d}.png"
