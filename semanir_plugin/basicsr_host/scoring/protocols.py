"""Scoring protocols of the field, one per task: named, versioned, and the only place for details that move numbers.

A protocol's version goes up whenever its numbers may change; results of another version are computed again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Literal

import numpy as np
from basicsr.metrics import calculate_metric
from numpy.typing import NDArray

from semanir_plugin.degradations import (
    add_gaussian_noise,
    compress_jpeg,
    demosaic_malvar,
    downsample_bicubic,
    least_side,
    mosaic_rggb,
)
from semanir_plugin.inference.images import Channels
from semanir_plugin.pixels import FloatImage, to_float, to_uint8

__all__ = ["PROTOCOLS", "Condition", "Metric", "Protocol"]

Condition = Literal["scale", "sigma", "quality"]

_SSIM_WINDOW = 11
_LABELS = {"scale": "x{:g}", "sigma": "sigma {:g}", "quality": "quality {:g}"}


@dataclass(frozen=True, kw_only=True)
class Metric:
    """A column of a leaderboard.

    Attributes:
        name: By which results hold it.
        label: As people read it.
        function: Its name in METRIC_REGISTRY.
        unit: Of its values.
        digits: Decimals that are shown.
        options: Arguments beyond the images and `crop_border`.
        better: Which values are better.
    """

    name: str
    label: str
    function: str
    unit: str = ""
    digits: int = 4
    options: Mapping[str, Any] = field(default_factory=dict)
    better: Literal["higher", "lower"] = "higher"


@dataclass(frozen=True, kw_only=True)
class Protocol:
    """A protocol: how images are read, degraded and scored.

    Attributes:
        name: By which option files name it.
        version: Raised when its numbers may change.
        task: Restoration task, such as `sr` or `denoising`.
        description: The protocol in a line or two.
        metrics: Metrics of each image; a test set has the mean.
        channels: How files are decoded, see `decode_image`.
        condition: The option that says how much is degraded; None: there is none.
        degrade: Makes the input of a ground truth and the condition's value; None: inputs are files.
        border: Pixels that are left out of the score at each border; "scale": as many as the scale.
        multiple_of: Ground truths are cropped, at the bottom and right, to a multiple of this; "scale": of the scale.
        rounded: Whether results are rounded to 8 bit before they are scored; they are clipped in any case.
    """

    name: str
    version: int = 1
    task: str
    description: str
    metrics: tuple[Metric, ...]
    channels: Channels = "color"
    condition: Condition | None = None
    degrade: Callable[[FloatImage, Any], FloatImage] | None = None
    border: int | Literal["scale"] = 0
    multiple_of: int | Literal["scale"] = 1
    rounded: bool = True

    @property
    def label(self) -> str:
        """Name and version."""
        return f"{self.name}-v{self.version}"

    @property
    def num_channels(self) -> int:
        """Channels of a network's input and output."""
        return 3 if self.channels == "color" else 1

    def describe_condition(self, level: float | None) -> str:
        """Return the condition in words, `x4` or `sigma 25`; an empty string where there is none."""
        return "" if self.condition is None or level is None else _LABELS[self.condition].format(level)

    def crop(self, height: int, width: int, scale: int) -> tuple[int, int]:
        """Return the height and width to which a ground truth is cropped before it is scored."""
        multiple = scale if self.multiple_of == "scale" else self.multiple_of
        return height // multiple * multiple, width // multiple * multiple

    def make_truth(self, clean: FloatImage, scale: int) -> FloatImage:
        """Crop a clean image, (H, W, C), to the part that is scored."""
        height, width = self.crop(clean.shape[0], clean.shape[1], scale)
        return clean[:height, :width]

    def least_side(self, scale: int) -> int:
        """Return the least side of a ground truth that can be degraded and scored."""
        border = scale if self.border == "scale" else self.border
        return max(least_side(scale), _SSIM_WINDOW + 2 * border)

    def score(self, output: FloatImage, truth: FloatImage, scale: int, *, as_is: bool = False) -> dict[str, float]:
        """Compare a result with its ground truth.

        Args:
            output: (H, W, C) in BGR order, [0, 1]; what lies outside is clipped.
            truth: Of the same shape.
            scale: Factor between the sizes of ground truth and input.
            as_is: Neither clip nor round the output: noisy inputs are defined without.

        Returns:
            Each metric by name.

        Raises:
            ValueError: The shapes differ.
        """
        if output.shape != truth.shape:
            raise ValueError(f"the result is {_format(output)}, but the ground truth is {_format(truth)}")
        result = output.astype(np.float64) * 255 if as_is else self._quantise(output)
        images = {"img": result, "img2": self._quantise(truth)}
        border = scale if self.border == "scale" else self.border
        return {
            metric.name: float(
                calculate_metric(images, {"type": metric.function, "crop_border": border, **metric.options})
            )
            for metric in self.metrics
        }

    def _quantise(self, image: FloatImage) -> NDArray[Any]:
        return to_uint8(image) if self.rounded else np.clip(image.astype(np.float64), 0, 1) * 255


def _format(image: FloatImage) -> str:
    return f"{image.shape[1]}x{image.shape[0]} with {image.shape[2]} channels"


def _bicubic(truth: FloatImage, scale: int) -> FloatImage:
    return to_float(downsample_bicubic(truth, scale))


def _jpeg(truth: FloatImage, quality: int) -> FloatImage:
    return to_float(compress_jpeg(to_uint8(truth), quality))


def _malvar(truth: FloatImage, _: None) -> FloatImage:
    return demosaic_malvar(mosaic_rggb(truth))


_noise = partial(add_gaussian_noise, seed=0)

_PSNR = Metric(name="psnr", label="PSNR", function="calculate_psnr", unit="dB", digits=2)
_SSIM = Metric(name="ssim", label="SSIM", function="calculate_ssim")
_PSNR_Y = Metric(
    name="psnr_y",
    label="PSNR (Y)",
    function="calculate_psnr",
    unit="dB",
    digits=2,
    options={"test_y_channel": True},
)
_SSIM_Y = Metric(name="ssim_y", label="SSIM (Y)", function="calculate_ssim", options={"test_y_channel": True})
_PSNR_B = Metric(name="psnr_b", label="PSNR-B", function="calculate_psnr_b", unit="dB", digits=2)


def _as(metric: Metric, **changes: Any) -> Metric:
    return Metric(**{**vars(metric), **changes})


def _by_name(protocols: Iterable[Protocol]) -> dict[str, Protocol]:
    return {protocol.name: protocol for protocol in protocols}


_FLOAT: dict[str, Any] = {
    "task": "weather",
    "rounded": False,
    "metrics": (_PSNR, _as(_SSIM, label="SSIM (7x7)", function="calculate_ssim_uniform7")),
}

PROTOCOLS: dict[str, Protocol] = _by_name(
    [
        Protocol(
            name="sr_y_crop",
            task="sr",
            description="Ground truth cropped to a multiple of the scale, input by MATLAB's bicubic at 8 bit; PSNR and "
            "SSIM on the Y channel, not rounded, without as many border pixels as the scale.",
            condition="scale",
            degrade=_bicubic,
            border="scale",
            multiple_of="scale",
            metrics=(
                _as(_PSNR_Y, name="psnr", label="PSNR"),
                _as(_SSIM_Y, name="ssim", label="SSIM"),
            ),
        ),
        Protocol(
            name="basicsr_rgb_mod12",
            task="sr",
            description="BasicSR's own: ground truth cropped to a multiple of 12, input by MATLAB's bicubic at 8 bit; "
            "PSNR and SSIM on RGB, without as many border pixels as the scale.",
            condition="scale",
            degrade=_bicubic,
            border="scale",
            multiple_of=12,
            metrics=(_PSNR, _SSIM),
        ),
        Protocol(
            name="denoising_gray",
            task="denoising",
            description="Gray images with noise of np.random.seed(0) for each, neither clipped nor quantised; no crop.",
            channels="gray",
            condition="sigma",
            degrade=_noise,
            metrics=(_PSNR, _SSIM),
        ),
        Protocol(
            name="denoising_color_bgr",
            task="denoising",
            description="Noise of np.random.seed(0) for each image, drawn in the order height, width, BGR (SwinIR, "
            "KAIR), neither clipped nor quantised; RGB, no crop.",
            condition="sigma",
            degrade=_noise,
            metrics=(_PSNR, _SSIM),
        ),
        Protocol(
            name="denoising_color_rgb",
            task="denoising",
            description="Noise of np.random.seed(0) for each image, drawn in the order height, width, RGB (Restormer), "
            "neither clipped nor quantised; RGB, no crop.",
            condition="sigma",
            degrade=partial(_noise, order="rgb"),
            metrics=(_PSNR, _SSIM),
        ),
        Protocol(
            name="jpeg_gray",
            task="jpeg",
            description="Y as 8 bit, compressed by OpenCV's encoder; no crop.",
            channels="y",
            condition="quality",
            degrade=_jpeg,
            metrics=(_PSNR, _SSIM, _PSNR_B),
        ),
        Protocol(
            name="jpeg_color",
            task="jpeg",
            description="Compressed by OpenCV's encoder, 4:2:0; RGB and Y, no crop.",
            condition="quality",
            degrade=_jpeg,
            metrics=(_PSNR, _SSIM, _PSNR_B, _PSNR_Y, _SSIM_Y),
        ),
        Protocol(
            name="demosaicking_crop10",
            task="demosaicking",
            description="RGGB mosaics, of which networks get Malvar's linear interpolation; RGB, without 10 border "
            "pixels.",
            degrade=_malvar,
            border=10,
            metrics=(_PSNR, _SSIM),
        ),
        Protocol(
            name="demosaicking_full",
            task="demosaicking",
            description="RGGB mosaics, of which networks get Malvar's linear interpolation; RGB, no crop.",
            degrade=_malvar,
            metrics=(_PSNR, _SSIM),
        ),
        Protocol(
            name="deblurring_rgb",
            task="deblurring",
            description="RGB of 8 bit images, no crop; SSIM is MATLAB's, over rows, columns and channels at once.",
            metrics=(_PSNR, _as(_SSIM, label="SSIM (3-D)", function="calculate_ssim_rgb3d")),
        ),
        Protocol(
            name="derain_y",
            task="derain",
            description="SPA-Data: the Y channel, rounded as MATLAB does; no crop.",
            metrics=(
                _as(_PSNR, label="PSNR (Y)", function="calculate_psnr_y_matlab"),
                _as(_SSIM, label="SSIM (Y)", function="calculate_ssim_y_matlab"),
            ),
        ),
        Protocol(name="raindrop_rgb", description="AST's for AGAN: RGB, results not rounded; SSIM 7x7.", **_FLOAT),
        Protocol(name="dehaze_rgb", description="AST's for Dense-Haze: RGB, results not rounded; SSIM 7x7.", **_FLOAT),
        Protocol(
            name="weather_rgb",
            task="weather",
            description="RGB of 8 bit images, no crop.",
            metrics=(_PSNR, _SSIM),
        ),
    ]
)
