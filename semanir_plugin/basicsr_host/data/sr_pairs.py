"""Making super-resolution pairs from photographs, as MATLAB's bicubic makes them."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any, TypeVar

import cv2
from basicsr.data.transforms import mod_crop
from tqdm import tqdm

from semanir_plugin.basicsr_host.data.in_order import in_order
from semanir_plugin.basicsr_host.data.lmdb_writer import write_lmdbs
from semanir_plugin.basicsr_host.data.outputs import check_own, publishing
from semanir_plugin.basicsr_host.data.pairing import Found
from semanir_plugin.basicsr_host.data.sub_images import SubImages
from semanir_plugin.degradations import BicubicVariant, downsample_bicubic, least_side
from semanir_plugin.errors import UserError
from semanir_plugin.inference.images import decode_upright
from semanir_plugin.pixels import Image, to_float

__all__ = ["write_sr_pairs"]

T = TypeVar("T")


def write_sr_pairs(
    images: Iterable[Path],
    folder: str | os.PathLike[str],
    scale: int,
    *,
    bicubic: BicubicVariant = "matlab",
    crop: int | None = None,
    lmdb: bool = False,
    raw: bool = False,
    workers: int = 1,
) -> None:
    """Write ground truth and low resolution pairs to `GT` and `LR_bicubic_X{scale}` in `folder`.

    The ground truth is cropped to a multiple of the scale; the LR is MATLAB's bicubic at 8 bit. Images become RGB.
    What an earlier call wrote is replaced, and what is written appears only when it is complete.

    Args:
        images: Photographs.
        folder: Where to write; made if missing.
        scale: Factor between both sizes.
        bicubic: How the LR is made, as of `downsample_bicubic`.
        crop: Cut the ground truth into sub-images of at most this side, and the LR alike: training then decodes little
            more than it uses. The last ones of a row overlap their neighbours.
        lmdb: Write `GT.lmdb` and `LR_bicubic_X{scale}.lmdb` instead of folders of PNG files, as `write_lmdbs` does: an
            interrupted call goes on, and what was written is read back.
        raw: As of `write_lmdbs`.
        workers: Threads that read, resize and encode.

    Raises:
        UserError: An image cannot be read or is too small, two have the same name, `crop` is not a multiple of the
            scale, `folder` cannot be written, or what would be replaced holds an image of `images` or other files.
    """
    images = sorted(images)
    if crop is not None and (crop < scale or crop % scale):
        raise UserError(f"the side of the sub-images, {crop}, is not a multiple of the scale {scale}")
    _check_names(images)
    targets = [Path(folder, f"{name}{'.lmdb' if lmdb else ''}") for name in ("GT", f"LR_bicubic_X{scale}")]
    for target in targets:
        _check_sources(images, target)
        check_own(target)
    if lmdb:
        found = [Found(path.stem, (path,)) for path in images]
        grid = None if crop is None else SubImages(side=crop, step=crop)
        options: dict[str, Any] = {"downsample": bicubic, "raw": raw, "workers": workers, "overwrite": True}
        write_lmdbs(found, targets, scale=scale, sub_images=grid, **options)
    else:
        encode = partial(_encode_pair, scale=scale, bicubic=bicubic, crop=crop)
        pairs = chain.from_iterable(_progress(in_order(encode, images, workers), len(images)))
        with publishing(targets) as drafts:
            _write_folders(pairs, drafts)


@dataclass(frozen=True)
class _Encoded:
    """A sub-image: its name and its file's content."""

    name: str
    content: bytes


def _encode_pair(path: Path, *, scale: int, bicubic: BicubicVariant, crop: int | None) -> list[tuple[_Encoded, ...]]:
    """Return (GT, LR) of all sub-images of a photograph."""
    pairs = _cut(path.stem, *_read_pair(path, scale, bicubic), scale, crop)
    return [
        tuple(_Encoded(name, cv2.imencode(".png", image)[1].tobytes()) for image in images) for name, *images in pairs
    ]


def _check_sources(images: Sequence[Path], target: Path) -> None:
    for path in images:
        folders = {path.parent, path.resolve().parent} if target.is_dir() else set()
        if any(folder.is_dir() and folder.samefile(target) for folder in folders):
            raise UserError(f"{path} lies in {target}, which would be replaced; move it or choose another folder")


def _check_names(images: Sequence[Path]) -> None:
    names: dict[str, Path] = {}
    for path in images:
        if path.stem in names:
            raise UserError(f"{path} and {names[path.stem]} would both be called {path.stem}; rename one")
        names[path.stem] = path


def _read_pair(path: Path, scale: int, bicubic: BicubicVariant) -> tuple[Image, Image]:
    try:
        image = decode_upright(path.read_bytes(), cv2.IMREAD_COLOR)
    except OSError:
        image = None
    except ValueError as error:
        raise UserError(f"{path}: {error}") from error
    if image is None:
        raise UserError(f"{path}: not a readable image; remove or replace it")
    gt = mod_crop(image, scale)
    if min(gt.shape[:2]) < (least := least_side(scale)):
        raise UserError(f"{path}: too small; both sides need at least {least} pixels at scale {scale}; remove it")
    return gt, downsample_bicubic(to_float(gt), scale, bicubic)


def _cut(name: str, gt: Image, lr: Image, scale: int, crop: int | None) -> Iterator[tuple[str, Image, Image]]:
    """Yield (name, GT, LR) of the sub-images, named as BasicSR's extract_subimages does."""
    if crop is None:
        yield name, gt, lr
        return
    for index, (top, left) in enumerate(SubImages(side=crop, step=crop).corners(*gt.shape[:2]), 1):
        sides = [
            image[top // factor : (top + crop) // factor, left // factor : (left + crop) // factor]
            for image, factor in ((gt, 1), (lr, scale))
        ]
        yield f"{name}_s{index:03d}", sides[0], sides[1]


def _write_folders(pairs: Iterable[tuple[_Encoded, ...]], folders: Sequence[Path]) -> None:
    for folder in folders:
        folder.mkdir()
    for pair in pairs:
        for folder, image in zip(folders, pair, strict=True):
            (folder / f"{image.name}.png").write_bytes(image.content)


def _progress(images: Iterable[T], total: int) -> Iterable[T]:
    return tqdm(images, desc="Writing pairs", total=total, unit="image", disable=None)
