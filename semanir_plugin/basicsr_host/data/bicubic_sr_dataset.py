"""Dataset of HR images and their MATLAB-bicubic LR images, for super-resolution without an LQ folder."""

from __future__ import annotations

import hashlib
import math
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
from basicsr.data.transforms import mod_crop, paired_random_crop

from semanir_plugin.atomic_io import write_atomic
from semanir_plugin.basicsr_host.data.clean_image_dataset import CleanImageDataset
from semanir_plugin.basicsr_host.data.dataset_options import CleanImageOptions
from semanir_plugin.degradations.bicubic import BicubicVariant, downsample_bicubic, least_side
from semanir_plugin.errors import UserError
from semanir_plugin.inference.images import decode_image, decode_pixels
from semanir_plugin.pixels import FloatImage, Image, to_float
from semanir_plugin.registry import DATASETS
from semanir_plugin.schema.values import Count

__all__ = ["BicubicSRDataset", "BicubicSROptions"]


@dataclass(frozen=True, kw_only=True)
class BicubicSROptions(CleanImageOptions):
    """Options of `BicubicSRDataset`.

    Attributes:
        lq_cache: Folder in which the LR images are kept as PNG for this and later runs; made if missing. A name has a
            digest of the HR file in it, so that one folder serves several datasets and never gives an outdated image.
            Without a folder, each process that reads keeps them in memory.
        bicubic: How the LR images are made: "matlab", to the bit as those of benchmarks; "basicsr", in floats and
            rounded once.
        multiple_of: Whole number that both sides of the HR images are cropped to a multiple of, beside `scale`; the
            protocol `basicsr_rgb_mod12` has 12.
    """

    lq_cache: str | None = None
    bicubic: BicubicVariant = "matlab"
    multiple_of: Count = 1


@DATASETS.register
class BicubicSRDataset(CleanImageDataset):
    """HR images, cropped to a multiple of `scale`, and LR images of 8 bit made of them.

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

    @classmethod
    def truth_size(cls, opt: Mapping[str, Any], size: tuple[int, int]) -> tuple[int, int]:
        """Return the width and height to which an image is cropped."""
        multiple = math.lcm(opt["scale"], opt.get("multiple_of") or 1)
        return size[0] // multiple * multiple, size[1] // multiple * multiple

    def read_pair(self, path: str) -> tuple[FloatImage, FloatImage]:
        """Return the LR and the HR image or patch, (H, W, 3) in BGR order."""
        content = self.read(path)
        gt = mod_crop(decode_image(content, self.channels), math.lcm(self.scale, self.options.multiple_of))
        lq = to_float(self._find_lq(path, content, gt))
        if self.training:
            gt, lq = paired_random_crop(gt, lq, self.opt["gt_size"], self.scale, path)
            gt, lq = self.augment([gt, lq])
        return lq, gt

    def degrade(self, clean: FloatImage) -> tuple[FloatImage, FloatImage]:
        """Downsample."""
        return to_float(self._downsample(clean)), clean

    def _downsample(self, clean: FloatImage) -> Image:
        return downsample_bicubic(clean, self.scale, self.options.bicubic)

    def _find_lq(self, path: str, content: bytes, gt: FloatImage) -> Image:
        if self.options.lq_cache is None:
            if path not in self.made:
                self.made[path] = self._downsample(gt)
            return self.made[path]
        digest = hashlib.blake2b(content, digest_size=8).hexdigest()
        file = Path(self.options.lq_cache, f"{Path(path).stem}_{digest}x{self.scale}{self._cache_suffix()}.png")
        return _read_or_make(file, lambda: self._downsample(gt))

    def _cache_suffix(self) -> str:
        """Return what tells LR images apart that are made otherwise; `basicsr` has none, as caches had before."""
        variant = "" if self.options.bicubic == "basicsr" else f"_{self.options.bicubic}"
        return variant + (f"_mod{self.options.multiple_of}" if self.options.multiple_of > 1 else "")


def _read_or_make(file: Path, make: Callable[[], Image]) -> Image:
    """Read an LR image, or make it and leave it there for others; those that make it at the same time write the same.

    Raises:
        UserError: It cannot be written.
    """
    try:
        return decode_pixels(file.read_bytes())
    except (OSError, ValueError):  # not there yet, or damaged
        lq = make()
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(cv2.imencode(".png", lq)[1].tobytes(), file)
    except OSError as error:
        raise UserError(f"{file.parent}: lq_cache cannot be written: {error.strerror}; choose another") from error
    return lq
