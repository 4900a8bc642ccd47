"""Making super-resolution pairs from photographs, as MATLAB's bicubic makes them."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
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


def write_sr_pairs(images: Iterable[Path], folder: str | os.PathLike[str], scale: int, *, lmdb: bool = False) -> None:
    """Write ground truth and low resolution pairs to `GT` and `LR_bicubic_X{scale}` in `folder`.

    The ground truth is cropped to a multiple of the scale; the LR is MATLAB's bicubic, rounded to 8 bit. Images become
    RGB. What exists is replaced, and appears only when it is complete.

    Args:
        images: Photographs.
        folder: Where to write; made if missing.
        scale: Factor between both sizes.
        lmdb: Write `GT.lmdb` and `LR_bicubic_X{scale}.lmdb` instead of folders of PNG files.

    Raises:
        UserError: An image cannot be read, or two have the same name.
    """
    images = sorted(images)
    _check_names(images)
    suffix = ".lmdb" if lmdb else ""
    targets = [Path(folder, f"{name}{suffix}") for name in ("GT", f"LR_bicubic_X{scale}")]
    partial = [target.with_name(f".partial_{target.name}") for target in targets]
    for path in partial:
        remove_tree(path)
        path.parent.mkdir(parents=True, exist_ok=True)
    if lmdb:
        _write_lmdbs(images, partial, scale)
    else:
        _write_folders(images, partial, scale)
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


def _pair(path: Path, scale: int) -> tuple[Image, Image]:
    image = cv2.imdecode(np.fromfile(path, np.uint8), cv2.IMREAD_COLOR)
    if image is None:
        raise UserError(f"{path}: not a readable image; remove or replace it")
    gt = mod_crop(image, scale)
    lr = imresize(gt.astype(np.float32) / 255, 1 / scale)
    return gt, np.clip(np.round(lr * 255), 0, 255).astype(np.uint8)


def _write_folders(images: Sequence[Path], folders: Sequence[Path], scale: int) -> None:
    for folder in folders:
        folder.mkdir()
    for path in _progress(images):
        for folder, image in zip(folders, _pair(path, scale), strict=True):
            cv2.imencode(".png", image)[1].tofile(folder / f"{path.stem}.png")


def _write_lmdbs(images: Sequence[Path], paths: Sequence[Path], scale: int) -> None:
    makers: list[LmdbMaker] = [LmdbMaker(str(path), map_size=_map_size(images)) for path in paths]
    for path in _progress(images):
        for maker, image in zip(makers, _pair(path, scale), strict=True):
            maker.put(cv2.imencode(".png", image)[1].tobytes(), path.stem, image.shape)
    for maker in makers:
        maker.close()


def _map_size(images: Sequence[Path]) -> int:
    # LMDB reserves address space, not disk; PNG of photographs is rarely more than 20 times a JPEG's size.
    return 20 * sum(path.stat().st_size for path in images) + (64 << 20)


def _progress(images: Sequence[Path]) -> Iterable[Path]:
    return tqdm(images, desc="Writing pairs", unit="image", disable=None)
