"""Making pairs of clean and rainy images from photographs, with synthetic streaks of rain."""

from __future__ import annotations

import itertools
import zlib
from collections.abc import Sequence
from pathlib import Path

import cv2

from semanir_plugin.basicsr_host.data.outputs import publishing
from semanir_plugin.basicsr_host.data.pairing import find_images
from semanir_plugin.degradations import add_rain_streaks
from semanir_plugin.errors import UserError
from semanir_plugin.inference.images import decode_image
from semanir_plugin.pixels import to_uint8

__all__ = ["write_rain_pairs"]


def write_rain_pairs(images: str, out: Path, seed: int, amounts: Sequence[float] = (1.0,)) -> int:
    """Write `GT` and `LQ` of every image in a folder, which appear when they are complete.

    The streaks of an image depend on the seed, its name and its amount alone.

    Args:
        images: Folder of photographs.
        out: Where to write.
        seed: Decides what the rain is like.
        amounts: Times the usual number of drops; images get one after the other.

    Returns:
        The number of pairs.

    Raises:
        UserError: The folder holds no images, one cannot be read, two have the same name, or `out` has pairs already.
    """
    paths = find_images(images)
    if len({path.stem for path in paths}) < len(paths):
        raise UserError(f"{images}: some images differ in their suffix alone; rename or remove one of them")
    folders = [out / "GT", out / "LQ"]
    for folder in folders:
        if folder.exists():
            raise UserError(f"{folder} is there already; remove it or choose another folder")
    with publishing(folders) as drafts:
        for draft in drafts:
            draft.mkdir()
        for path, amount in zip(paths, itertools.cycle(amounts)):  # one of them is endless
            _write_pair(path, drafts[0], drafts[1], seed, amount)
    return len(paths)


def _write_pair(path: Path, gt: Path, lq: Path, seed: int, amount: float) -> None:
    """Write one image as it is and in the rain."""
    try:
        image = decode_image(path.read_bytes(), "color")
    except ValueError as error:
        raise UserError(f"{path}: {error}") from error
    rainy = add_rain_streaks(image, seed=zlib.crc32(f"{seed}/{path.stem}".encode()), amount=amount)
    for folder, content in ((gt, image), (lq, rainy)):
        cv2.imencode(".png", to_uint8(content))[1].tofile(folder / f"{path.stem}.png")
