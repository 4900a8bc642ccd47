"""Conversion of the kinds of images that `Restorer.restore` takes: files, PIL images, NumPy arrays, tensors."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from semanir_plugin.errors import UserError
from semanir_plugin.inference.photograph_reading import decode_photograph
from semanir_plugin.inference.photographs import Metadata, Photograph, PhotographInBands
from semanir_plugin.path_safety import check_ordinary

__all__ = ["check_tensor", "to_kind_of", "to_photograph"]

WHOLE = (np.dtype(np.uint8), np.dtype(np.uint16))


def to_photograph(image: str | Path | Image.Image | NDArray[Any]) -> Photograph:
    """Return an image of any kind as a photograph: its pixels, transparency and metadata.

    Args:
        image: The path of a file; a PIL image; or an array, (H, W), (H, W, 1), (H, W, 3) or, with opacity last,
            (H, W, 4), in RGB order, of 8 or 16 bit or floats in [0, 1].

    Raises:
        ValueError: It has another shape, other values or another type of them, or is no image that can be read.
    """
    if isinstance(image, str | Path):
        return _read(Path(image))
    if isinstance(image, Image.Image):
        return _of_pil(image)
    if isinstance(image, np.ndarray):
        return _of_array(image)
    raise ValueError(
        f"an image is a path, a PIL image, a NumPy array or a tensor, not a {type(image).__name__}; convert it"
    )


def to_kind_of(photograph: PhotographInBands, like: object) -> Any:
    """Return a photograph as an image of the kind of another.

    Of a file it is a PIL image, or an array where the file has 16 bit, which colours of PIL images lack.
    """
    pixels = photograph.gather()
    flat = pixels[..., 0] if pixels.shape[2] == 1 else pixels
    if isinstance(like, np.ndarray):
        return flat if like.ndim == 2 else pixels
    if pixels.dtype != np.uint8 and not (isinstance(like, Image.Image) and like.mode == "I;16"):
        return flat
    image = Image.fromarray(flat)
    told = photograph.metadata
    about = {"icc_profile": told.icc, "exif": told.exif, "dpi": told.dpi}
    image.info.update({key: value for key, value in about.items() if value})
    return image


def check_tensor(image: Tensor, channels: int) -> None:
    """Refuse a tensor that is not a batch of images, (B, C, H, W) in [0, 1], with the given number of channels.

    Raises:
        ValueError: It has another shape, other values or another type of them.
    """
    if image.ndim != 4 or image.shape[1] != channels:
        raise ValueError(f"a tensor must be (B, {channels}, H, W) for this network, got {tuple(image.shape)}")
    if not image.is_floating_point():
        raise ValueError(f"a tensor must be of floats in [0, 1], not {image.dtype}; divide by its largest value")
    if image.numel() == 0:
        raise ValueError(f"the tensor is empty: {tuple(image.shape)}")
    _check_range(*(float(each) for each in torch.aminmax(image.detach())))


def _read(path: Path) -> Photograph:
    check_ordinary(os.path.expanduser(path))
    try:
        return decode_photograph(Path(os.path.expanduser(path)).read_bytes())
    except OSError as error:
        raise UserError(f"{path}: cannot be opened ({error.strerror}); check the path") from error
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


def _of_pil(image: Image.Image) -> Photograph:
    if 0 in image.size:
        raise ValueError(f"the image is empty: {image.size[0]} x {image.size[1]}")
    if image.mode not in ("1", "L", "LA", "P", "PA", "RGB", "RGBA", "I;16"):
        raise ValueError(f"the image has pixels of kind {image.mode}; convert it to RGB")
    gray = image.mode in ("1", "L", "LA", "I;16")
    kind = "I;16" if image.mode == "I;16" else ("L" if gray else "RGB") + "A" * image.has_transparency_data
    photograph = _of_array(np.asarray(image if image.mode == kind else image.convert(kind)), two_is_alpha=True)
    metadata = Metadata(icc=image.info.get("icc_profile"), exif=image.info.get("exif"), dpi=image.info.get("dpi"))
    return Photograph(photograph.pixels, photograph.alpha, metadata)


def _of_array(image: NDArray[Any], *, two_is_alpha: bool = False) -> Photograph:
    channels = 1 if image.ndim == 2 else image.shape[-1]
    if image.ndim not in (2, 3) or (channels not in (1, 3, 4) and not (two_is_alpha and channels == 2)):
        raise ValueError(f"an array must be (H, W), (H, W, 3) or (H, W, 4), got {image.shape}")
    if image.size == 0:
        raise ValueError(f"the array is empty: {image.shape}")
    if image.dtype not in WHOLE:
        if image.dtype.kind != "f":
            raise ValueError(f"an array must be of uint8, uint16 or floats in [0, 1], not {image.dtype}")
        _check_range(float(image.min()), float(image.max()))
    pixels, alpha = np.split(image.reshape(*image.shape[:2], channels), [channels - (channels in (2, 4))], axis=2)
    return Photograph(pixels, alpha[..., 0] if alpha.size else None)


def _check_range(least: float, most: float) -> None:
    """Refuse floats outside [0, 1], within a tolerance for rounding."""
    if not (least >= -1e-3 and most <= 1 + 1e-3):  # NaN is refused, too
        cure = "; divide by 255" if 2 < most <= 255 else ""
        raise ValueError(f"floats must lie in [0, 1], got {least:g} to {most:g}{cure}")
