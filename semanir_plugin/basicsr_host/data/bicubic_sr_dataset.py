"""Dataset of HR images and their MATLAB-bicubic LR images, for super-resolution without an LQ folder."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
from basicsr.data.transforms import mod_crop, paired_random_crop

from semanir_plugin.atomic_io import write_atomic
from semanir_plugin.basicsr_host.data.clean_image_dataset import CleanImageDataset
from semanir_plugin.basicsr_host.data.dataset_options import CleanImageOptions, Problem
from semanir_plugin.degradations.bicubic import downsample_bicubic, least_side
from semanir_plugin.errors import UserError
from semanir_plugin.inference.images import decode_image, decode_pixels
from semanir_plugin.pixels import FloatImage, Image, to_float
from semanir_plugin.registry import DATASETS

__all__ = ["BicubicSRDataset", "BicubicSROptions"]


@dataclass(frozen=True, kw_only=True)
class BicubicSROptions(CleanImageOptions):
    """Options of `BicubicSRDataset`.

    Attributes:
        lq_cache: Folder in which the LR images are kept as PNG for this and later runs; made if missing. A name has a
            digest of the HR file in it, so that one folder serves several datasets and never gives an outdated image.
            Without a folder, each process that reads keeps them in memory.
    """

    lq_cache: str | None = None

    def phase_problems(self, *, training: bool) -> Iterable[Problem]:
        """Yield no problems: all values of the right types are valid."""
        return ()


@DATASETS.register
class BicubicSRDataset(CleanImageDataset):
    """HR images, cropped to a multiple of `scale`, and LR images made of them, rounded to 8 bit.

    Options are `BicubicSROptions`, those of `CleanImageDataset`, and `scale`. Where LR images exist, PairedImageDataset
    reads them.
    """

    OPTIONS = BicubicSROptions

    def __init__(self, opt: Mapping[str, Any]) -> None:
        super().__init__(opt)
        self.scale: int = opt["scale"]
        self.made: dict[str, Image] = {}
        cache = self.options.lq_cache
        if cache and os.path.realpath(cache) == os.path.realpath(opt["dataroot_gt"]):
            raise ValueError(f"lq_cache is the folder of the ground truth, {cache}; choose another")

    @classmethod
    def least_side(cls, opt: Mapping[str, Any]) -> int:
        """Return the least side that an image may have."""
        return least_side(opt["scale"])

    def read_pair(self, path: str) -> tuple[FloatImage, FloatImage]:
        """Return the LR and the HR image or patch, (H, W, 3) in BGR order."""
        content = self.read(path)
        gt = mod_crop(decode_image(content, self.channels), self.scale)
        lq = to_float(self._find_lq(path, content, gt))
        if self.training:
            gt, lq = paired_random_crop(gt, lq, self.opt["gt_size"], self.scale, path)
            gt, lq = self.augment([gt, lq])
        return lq, gt

    def degrade(self, clean: FloatImage) -> tuple[FloatImage, FloatImage]:
        """Downsample."""
        return to_float(downsample_bicubic(clean, self.scale)), clean

    def _find_lq(self, path: str, content: bytes, gt: FloatImage) -> Image:
        if self.options.lq_cache is None:
            if path not in self.made:
                self.made[path] = downsample_bicubic(gt, self.scale)
            return self.made[path]
        digest = hashlib.blake2b(content, digest_size=8).hexdigest()
        file = Path(self.options.lq_cache, f"{Path(path).stem}_{digest}x{self.scale}.png")
        return _read_or_make(file, gt, self.scale)


def _read_or_make(file: Path, gt: FloatImage, scale: int) -> Image:
    """Read an LR image, or make it and leave it there for others; those that make it at the same time write the same.

    Raises:
        UserError: It cannot be written.
    """
    try:
        return decode_pixels(file.read_bytes())
    except (OSError, ValueError):  # not there yet, or damaged
        lq = downsample_bicubic(gt, scale)
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(cv2.imencode(".png", lq)[1].tobytes(), file)
    except OSError as error:
        raise UserError(f"{file.parent}: lq_cache cannot be written: {error.strerror}; choose another") from error
    return lq
