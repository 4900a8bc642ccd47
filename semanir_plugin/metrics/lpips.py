"""LPIPS, by its authors' package, which is optional."""

from __future__ import annotations

from functools import cache
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from semanir_plugin.downloads import telling_what_to_fetch
from semanir_plugin.errors import UserError
from semanir_plugin.metrics.images import InputOrder, prepare
from semanir_plugin.registry import METRICS

__all__ = ["calculate_lpips"]

Backbone = Literal["alex", "vgg", "squeeze"]


@METRICS.register
def calculate_lpips(
    img: NDArray[Any],
    img2: NDArray[Any],
    crop_border: int,
    input_order: InputOrder = "HWC",
    net: Backbone = "alex",
    better: Literal["lower"] = "lower",
) -> float:
    """Return the perceptual distance of Zhang et al., "The Unreasonable Effectiveness of Deep Features" (CVPR 2018).

    Version 0.1 of the linear layers, on a GPU where there is one.

    Args:
        img: In [0, 255], (H, W, C), (C, H, W) or (H, W), BGR; a gray image counts three times.
        img2: The ground truth.
        crop_border: Pixels that are left out at each border.
        input_order: "HWC" or "CHW".
        net: Backbone; papers mostly report "alex".
        better: For BasicSR, which passes it on.

    Returns:
        The distance, 0 for equal images.

    Raises:
        UserError: The package is not installed, or the weights of the backbone could not be downloaded.
        ValueError: The shapes differ, or nothing is left within the border.
    """
    pair = prepare(img, img2, crop_border=crop_border, input_order=input_order)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    network = _load(net, device)
    with torch.no_grad():
        result: float = network(*(_to_tensor(image, device) for image in pair)).item()
        return result


@cache
def _load(net: Backbone, device: torch.device) -> Any:
    try:
        from lpips import LPIPS
    except ImportError as error:
        message = "calculate_lpips needs the package lpips: pip install 'semanir_plugin[lpips]', or remove the metric"
        raise UserError(message) from error
    with telling_what_to_fetch():
        return LPIPS(net=net, verbose=False).eval().to(device)


def _to_tensor(image: NDArray[np.float64], device: torch.device) -> Tensor:
    rgb = np.repeat(image, 3, axis=2) if image.shape[2] == 1 else image[..., ::-1]
    tensor = torch.from_numpy(np.ascontiguousarray(rgb.transpose(2, 0, 1)))
    return tensor[None].to(device, torch.float32) / 127.5 - 1
