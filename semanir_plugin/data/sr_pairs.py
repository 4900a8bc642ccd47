"""Making super-resolution pairs from photographs, as MATLAB's bicubic makes them."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from itertools import product
from pathlib import Path

import cv2
import numpy as np
from basicsr.data.transforms import mod_crop
from basicsr.utils.lmdb_util import LmdbMaker
from basicsr.utils.matlab_functions import imresize
from numpy.typing import NDArray
from tqdm import tqdm

from semanir_plugin.data.checks import IMAGE_SUFFIXES
from semanir_plugin.errors import UserError

__all__ = ["find_images", "write_sr_pairs"]

Image = NDArray[np.uint8]


def find_images(folder: str | os.PathLike[str]) -> list[Path]:
    """Return the images directly in a folder, sorted by name.

    Raises:
        UserError: There is no such folder, or no image in it.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder; name a folder of photographs")
    images = sorted(path for path in folder.iterdir() if path.suffix.lower() in IMAGE_SUFFIXES)
    if not images:
        raise UserError(f"{folder}: no images ({', '.join(sorted(IMAGE_SUFFIXES))}) in it")
    return images


def write_sr_pairs(
    images: Iterable[Path], folder: str | os.PathLike[str], scale: int, *, crop: int | None = None, lmdb: bool = False
) -> None:
    """Write ground truth and low resolution pairs to `GT` and `LR_bicubic_X{scale}` in `folder`.

    The ground truth is cropped to a multiple of the scale; the LR is MATLAB's bicubic, rounded to 8 bit. Images become
    RGB. What exists is replaced, and appears only when it is complete.

    Args:
        images: Photographs.
        folder: Where to write; made if missing.
        scale: Factor between both sizes.
        crop: Cut the ground truth into sub-images of at most this side, and the LR alike: training then decodes little
            more than it uses. The last ones of a row overlap their neighbours.
        lmdb: Write `GT.lmdb` and `LR_bicubic_X{scale}.lmdb` instead of folders of PNG files.

    Raises:
        UserError: An image cannot be read, two have the same name, or `crop` is not a multiple of the scale.
    """
    images = sorted(images)
    if crop is not None and (crop < scale or crop % scale):
        raise UserError(f"the side of the sub-images, {crop}, is not a multiple of the scale {scale}")
    _check_names(images)
    suffix = ".lmdb" if lmdb else ""
    targets = [Path(folder, f"{name}{suffix}") for name in ("GT", f"LR_bicubic_X{scale}")]
    partial = [target.with_name(f".partial_{target.name}") for target in targets]
    for path in partial:
        remove_tree(path)
        path.parent.mkdir(parents=True, exist_ok=True)
    pairs = (pair for path in _progress(images) for pair in _cut(path.stem, *_read_pair(path, scale), scale, crop))
    if lmdb:
        _write_lmdbs(pairs, partial, _map_size(images))
    else:
        _write_folders(pairs, partial)
    for source, target in zip(partial, targets, strict=True):
        remove_tree(target)
        source.rename(target)


def remove_tree(path: Path) -> None:
    """Remove a folder that this module wrote, if it is there."""
    if path.is_dir():
        for child in path.iterdir():
            child.unlink()
        path.rmdir()


def _check_names(images: Sequence[Path]) -> None:
    names: dict[str, Path] = {}
    for path in images:
        if path.stem in names:
            raise UserError(f"{path} and {names[path.stem]} would both be called {path.stem}; rename one")
        names[path.stem] = path


def _read_pair(path: Path, scale: int) -> tuple[Image, Image]:
    image = cv2.imdecode(np.fromfile(path, np.uint8), cv2.IMREAD_COLOR)
    if image is None:
        raise UserError(f"{path}: not a readable image; remove or replace it")
    gt = mod_crop(image, scale)
    lr = imresize(gt.astype(np.float32) / 255, 1 / scale)
    return gt, np.clip(np.round(lr * 255), 0, 255).astype(np.uint8)


def _cut(name: str, gt: Image, lr: Image, scale: int, crop: int | None) -> Iterator[tuple[str, Image, Image]]:
    """Yield (name, GT, LR) of the sub-images, named as BasicSR's extract_subimages does."""
    if crop is None:
        yield name, gt, lr
        return
    corners = product(*(_starts(size, crop) for size in gt.shape[:2]))
    for index, (top, left) in enumerate(corners, 1):
        sides = [
            image[top // factor : (top + crop) // factor, left // factor : (left + crop) // factor]
            for image, factor in ((gt, 1), (lr, scale))
        ]
        yield f"{name}_s{index:03d}", sides[0], sides[1]


def _starts(size: int, crop: int) -> list[int]:
    return [*range(0, size - crop, crop), max(size - crop, 0)]


def _write_folders(pairs: Iterable[tuple[str, Image, Image]], folders: Sequence[Path]) -> None:
    for folder in folders:
        folder.mkdir()
    for name, *images in pairs:
        for folder, image in zip(folders, images, strict=True):
            cv2.imencode(".png", image)[1].tofile(folder / f"{name}.png")


def _write_lmdbs(pairs: Iterable[tuple[str, Image, Image]], paths: Sequence[Path], map_size: int) -> None:
    makers: list[LmdbMaker] = [LmdbMaker(str(path), map_size=map_size) for path in paths]
    for name, *images in pairs:
        for maker, image in zip(makers, images, strict=True):
            maker.put(cv2.imencode(".png", image)[1].tobytes(), name, image.shape)
    for maker in makers:
        maker.close()


def _map_size(images: Sequence[Path]) -> int:
    # LMDB reserves address space, not disk; PNG of photographs is rarely more than 20 times a JPEG's size.
    return 20 * sum(path.stat().st_size for path in images) + (64 << 20)


def _progress(images: Sequence[Path]) -> Iterable[Path]:
    return tqdm(images, desc="Writing pairs", unit="image", disable=None)
