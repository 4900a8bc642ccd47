"""A picture for each network to be tried on, made of the one that comes with the page."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from semanir_plugin.atomic_io import write_atomic
from semanir_plugin.degradations.bicubic import imresize_uint8
from semanir_plugin.degradations.compression import compress_jpeg
from semanir_plugin.degradations.mosaic import demosaic_malvar, mosaic_rggb
from semanir_plugin.degradations.motion_blur import blur_by_motion
from semanir_plugin.degradations.noise import add_gaussian_noise
from semanir_plugin.degradations.rain import add_rain_streaks
from semanir_plugin.pixels import to_float
from semanir_plugin.web.offers import Offer

__all__ = ["write_example"]

PICTURE = Path(__file__).parent / "example.jpg"  # Chelsea, of Stefan van der Walt, CC0; from scikit-image


def _noisy(image: NDArray[Any]) -> NDArray[Any]:
    return _rounded(add_gaussian_noise(to_float(image), 25, seed=0))


def _packed(image: NDArray[Any]) -> NDArray[Any]:
    return compress_jpeg(image, 20)


def _sent(image: NDArray[Any]) -> NDArray[Any]:
    return compress_jpeg(_rounded(add_gaussian_noise(to_float(image), 15, seed=0)), 75)


def _through_a_mosaic(image: NDArray[Any]) -> NDArray[Any]:
    return _rounded(demosaic_malvar(mosaic_rggb(to_float(image))))


def _shaken(image: NDArray[Any]) -> NDArray[Any]:
    return _rounded(blur_by_motion(to_float(image), 9, seed=0))


def _rainy(image: NDArray[Any]) -> NDArray[Any]:
    return _rounded(add_rain_streaks(to_float(image), seed=2))


SPOILT: dict[str, Callable[[NDArray[Any]], NDArray[Any]]] = {
    "semanir-mini-x4-real": _sent,
    "semanir-mini-x2-real": _sent,
    "semanirunet-mini-color-jpegblind": _packed,
    "semanirunet-mini-color-dnblind": _noisy,
    "semanirunet-mini-demosaic": _through_a_mosaic,
    "semanirunet-mini-gray-dnblind": _noisy,
    "semanirunet-mini-deblur": _shaken,
    "ast-mini-derain": _rainy,
}
"""By the names of shipped weights, what they were trained to undo."""


def write_example(offer: Offer, folder: Path) -> Path:
    """Write a picture that a network should do well on, and return its path.

    It is smaller by the network's scale, or spoilt by what the network undoes, and gray for a gray network.
    """
    image = np.asarray(cv2.imread(str(PICTURE)))
    if offer.descriptor.scale > 1:
        image = imresize_uint8(image, 1 / offer.descriptor.scale)
    image = SPOILT.get(offer.source, np.asarray)(image)
    if offer.descriptor.in_channels == 1:
        image = cv2.cvtColor(image, cv2.COLOR_BGR2GRAY)
    path = folder / "example.png"
    write_atomic(cv2.imencode(".png", image)[1].tobytes(), path)
    return path


def _rounded(image: NDArray[Any]) -> NDArray[Any]:
    return np.round(image * 255).clip(0, 255).astype(np.uint8)
