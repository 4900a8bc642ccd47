"""Scoring protocols of the field, one per task: named, versioned, and the only place for details that move numbers.

A protocol's version goes up whenever its numbers may change; results of another version are computed again.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, Literal

import numpy as np
from basicsr.metrics import calculate_metric
from numpy.typing import NDArray

from semanir_plugin.degradations import (
    MILD,
    BicubicVariant,
    NoiseOrder,
    add_gaussian_noise,
    compress_jpeg,
    degrade,
    demosaic_malvar,
    downsample_bicubic,
    generator_of,
    least_side,
    mosaic_rggb,
)
from semanir_plugin.inference.images import Channels
from semanir_plugin.pixels import FloatImage, to_float, to_uint8

__all__ = ["PROTOCOLS", "SSIM_WINDOW", "Condition", "Degradation", "Metric", "Protocol", "mean_score"]

Condition = Literal["scale", "sigma", "quality", "degradations"]

SSIM_WINDOW = 11
"""Side in pixels of the windows of BasicSR's SSIM, the least image that it scores."""

_LABELS = {"scale": "x{:g}", "sigma": "sigma {:g}", "quality": "quality {:g}", "degradations": "{}"}


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

    def compute(self, images: Mapping[str, NDArray[Any]], border: int) -> float:
        """Compare `img` with its ground truth `img2`, (H, W, C) in [0, 255], without a border."""
        return float(calculate_metric(images, {"type": self.function, "crop_border": border, **self.options}))


@dataclass(frozen=True, kw_only=True)
class Degradation:
    """How a protocol makes inputs of ground truths.

    Attributes:
        function: Makes the input of a ground truth, (H, W, C) in [0, 1], and the condition's value.
        dataset: Type of the dataset that makes the same.
        options: What that dataset's options must be for it.
        whole: Whether inputs are scored as results are, of 8 bit, and equal to the truth where nothing is degraded.
    """

    function: Callable[[FloatImage, Any], FloatImage]
    dataset: str
    options: Mapping[str, Any] = field(default_factory=dict)
    whole: bool = False

    def __call__(self, truth: FloatImage, level: Any) -> FloatImage:
        """Return the input, (h, w, C)."""
        return self.function(truth, level)


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
        condition: The option that says how much, or how, is degraded; None: there is none.
        degrade: Makes the input of a ground truth and the condition's value; None: inputs are files.
        border: Pixels that are left out of the score at each border; "scale": as many as the scale.
        multiple_of: Ground truths are cropped, at the bottom and right, to a multiple of this and of the scale.
        rounded: Whether results are rounded to 8 bit before they are scored; they are clipped in any case.
    """

    name: str
    version: int = 1
    task: str
    description: str
    metrics: tuple[Metric, ...]
    channels: Channels = "color"
    condition: Condition | None = None
    degrade: Degradation | None = None
    border: int | Literal["scale"] = 0
    multiple_of: int = 1
    rounded: bool = True

    @property
    def label(self) -> str:
        """Name and version."""
        return f"{self.name}-v{self.version}"

    @property
    def num_channels(self) -> int:
        """Channels of a network's input and output."""
        return 3 if self.channels == "color" else 1

    def describe_condition(self, level: Any) -> str:
        """Return the condition in words, `x4` or `rain, amount 2`; an empty string where there is none."""
        return "" if self.condition is None or level is None else _LABELS[self.condition].format(level)

    def problem_of_scale(self, scale: int) -> str | None:
        """Return why images are not scored at a scale, or None where they are."""
        if (self.condition == "scale") == (scale > 1):
            return None
        needed = "needs a scale above 1" if scale == 1 else f"has images of one size: remove scale {scale}"
        return f"the protocol {self.name} {needed}"

    def crop(self, height: int, width: int, scale: int) -> tuple[int, int]:
        """Return the height and width to which a ground truth is cropped before it is scored."""
        multiple = math.lcm(scale, self.multiple_of)
        return height // multiple * multiple, width // multiple * multiple

    def make_truth(self, clean: FloatImage, scale: int) -> FloatImage:
        """Crop a clean image, (H, W, C), to the part that is scored."""
        height, width = self.crop(clean.shape[0], clean.shape[1], scale)
        return clean[:height, :width]

    def least_side(self, scale: int) -> int:
        """Return the least side of a ground truth that can be degraded and scored."""
        return max(least_side(scale), SSIM_WINDOW + 2 * self._border(scale))

    def score(self, output: FloatImage, truth: FloatImage, scale: int, *, as_is: bool = False) -> dict[str, float]:
        """Compare a result with its ground truth.

        Args:
            output: (H, W, C) in BGR order, [0, 1]; what lies outside is clipped.
            truth: Of the same shape.
            scale: Factor between the sizes of ground truth and input.
            as_is: It is an input: neither clip nor round it, as noisy ones are defined, unless the protocol has all of
                8 bit.

        Returns:
            Each metric by name.

        Raises:
            ValueError: The shapes differ.
        """
        if output.shape != truth.shape:
            raise ValueError(f"the result is {_format(output)}, but the ground truth is {_format(truth)}")
        exact = as_is and not (self.degrade is not None and self.degrade.whole)
        result = output.astype(np.float64) * 255 if exact else self._quantise(output)
        images = {"img": result, "img2": self._quantise(truth)}
        return {metric.name: metric.compute(images, self._border(scale)) for metric in self.metrics}

    def _border(self, scale: int) -> int:
        return scale if self.border == "scale" else self.border

    def _quantise(self, image: FloatImage) -> NDArray[Any]:
        return to_uint8(image) if self.rounded else np.clip(image.astype(np.float64), 0, 1) * 255


def mean_score(values: Iterable[float]) -> float:
    """Return a test set's score: the mean of its images', whose sum is exact, so that their order does not matter."""
    return statistics.fmean(values)


def _format(image: FloatImage) -> str:
    return f"{image.shape[1]}x{image.shape[0]} with {image.shape[2]} channels"


def _bicubic(truth: FloatImage, scale: int, variant: BicubicVariant) -> FloatImage:
    return to_float(downsample_bicubic(truth, scale, variant))


def _jpeg(truth: FloatImage, quality: int) -> FloatImage:
    return to_float(compress_jpeg(to_uint8(truth), quality))


def _damage(truth: FloatImage, scale: int) -> FloatImage:
    size = truth.shape[0] // scale, truth.shape[1] // scale
    return degrade(to_float(to_uint8(truth)), size, (MILD,), generator_of(truth, 0))


def _draw(truth: FloatImage, degradation: Callable[[FloatImage], FloatImage]) -> FloatImage:
    return degradation(truth)


def _malvar(truth: FloatImage, _: None) -> FloatImage:
    return demosaic_malvar(mosaic_rggb(truth))


def _downsampling(variant: BicubicVariant, multiple_of: int = 1) -> Degradation:
    options = {"bicubic": variant, "multiple_of": multiple_of}
    return Degradation(function=partial(_bicubic, variant=variant), dataset="BicubicSRDataset", options=options)


def _noise(num_channels: int, order: NoiseOrder) -> Degradation:
    options = {"num_channels": num_channels, "noise_seed": 0, "noise_order": order, "rounded": False}
    function = partial(add_gaussian_noise, seed=0, order=order)
    return Degradation(function=function, dataset="GaussianNoiseDataset", options=options)


def _noisy_file(truth: FloatImage, sigma: float) -> FloatImage:
    return to_float(to_uint8(add_gaussian_noise(truth, sigma, seed=0, order="rgb")))


def _compression(num_channels: int) -> Degradation:
    return Degradation(function=_jpeg, dataset="JPEGDataset", options={"num_channels": num_channels})


_DAMAGE = Degradation(function=_damage, dataset="RealWorldDataset", options={"stages": None, "seed": 0})
_DRAWN = Degradation(function=_draw, dataset="MixedDegradationDataset", whole=True)
_NOISY_FILE = Degradation(
    function=_noisy_file,
    dataset="GaussianNoiseDataset",
    options={"num_channels": 3, "noise_seed": 0, "noise_order": "rgb", "rounded": True},
)
_MOSAIC = Degradation(function=_malvar, dataset="DemosaicDataset")

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


def _by_name(protocols: Iterable[Protocol]) -> dict[str, Protocol]:
    """Return protocols by the name that option files give: NAME is the newest, NAME@VERSION one of several."""
    by_name: dict[str, Protocol] = {}
    for protocol in protocols:
        older = by_name.get(protocol.name)
        for each in (older, protocol) if older is not None else ():
            by_name[f"{each.name}@{each.version}"] = each
        by_name[protocol.name] = protocol
    return by_name


_SSIM_7 = replace(_SSIM, label="SSIM (7x7)", function="calculate_ssim_uniform7")
_FLOAT: dict[str, Any] = {"task": "weather", "rounded": False, "metrics": (_PSNR, _SSIM_7)}

_ALL_IN_ONE = Protocol(
    name="all_in_one_3",
    task="all_in_one",
    description="One network for haze, rain and noise (AirNet, PromptIR): pairs as they are; noise of "
    "np.random.seed(0) for each image, drawn in the order height, width, RGB, clipped and rounded to 8 bit; RGB of "
    "8 bit images, no crop.",
    condition="sigma",
    degrade=_NOISY_FILE,
    metrics=(_PSNR, _SSIM_7),
)

_SR_BY = (
    "Ground truth cropped to a multiple of the scale, input by bicubic {}; PSNR and SSIM on the Y channel, not "
    "rounded, without as many border pixels as the scale."
)
_SR_Y_CROP = Protocol(
    name="sr_y_crop",
    version=2,
    task="sr",
    description=_SR_BY.format("as MATLAB resizes 8 bit, to the bit"),
    condition="scale",
    degrade=_downsampling("matlab"),
    border="scale",
    metrics=(replace(_PSNR_Y, name="psnr", label="PSNR"), replace(_SSIM_Y, name="ssim", label="SSIM")),
)

PROTOCOLS: dict[str, Protocol] = _by_name(
    [
        replace(
            _SR_Y_CROP,
            version=1,
            description=_SR_BY.format("in floats, rounded once"),
            degrade=_downsampling("basicsr"),
        ),
        _SR_Y_CROP,
        Protocol(
            name="basicsr_rgb_mod12",
            task="sr",
            description="BasicSR's own: ground truth cropped to a multiple of 12, input by bicubic in floats, rounded "
            "once; PSNR and SSIM on RGB, without as many border pixels as the scale.",
            condition="scale",
            degrade=_downsampling("basicsr", multiple_of=12),
            border="scale",
            multiple_of=12,
            metrics=(_PSNR, _SSIM),
        ),
        Protocol(
            name="sr_real_rgb",
            task="sr",
            description="Pictures as people have them: ground truth cropped to a multiple of the scale, input blurred, "
            "reduced, noisy and compressed (JPEG or WebP, 40 to 90), or not, as follows from its pixels; PSNR and SSIM "
            "on RGB, without as many border pixels as the scale.",
            condition="scale",
            degrade=_DAMAGE,
            border="scale",
            metrics=(_PSNR, _SSIM),
        ),
        Protocol(
            name="denoising_gray",
            task="denoising",
            description="Gray images with noise of np.random.seed(0) for each, neither clipped nor quantised; no crop.",
            channels="gray",
            condition="sigma",
            degrade=_noise(1, "bgr"),
            metrics=(_PSNR, _SSIM),
        ),
        Protocol(
            name="denoising_color_bgr",
            task="denoising",
            description="Noise of np.random.seed(0) for each image, drawn in the order height, width, BGR (SwinIR, "
            "KAIR), neither clipped nor quantised; RGB, no crop.",
            condition="sigma",
            degrade=_noise(3, "bgr"),
            metrics=(_PSNR, _SSIM),
        ),
        Protocol(
            name="denoising_color_rgb",
            task="denoising",
            description="Noise of np.random.seed(0) for each image, drawn in the order height, width, RGB (Restormer), "
            "neither clipped nor quantised; RGB, no crop.",
            condition="sigma",
            degrade=_noise(3, "rgb"),
            metrics=(_PSNR, _SSIM),
        ),
        Protocol(
            name="jpeg_gray",
            task="jpeg",
            description="Y as 8 bit, compressed by OpenCV's encoder; no crop.",
            channels="y",
            condition="quality",
            degrade=_compression(1),
            metrics=(_PSNR, _SSIM, _PSNR_B),
        ),
        Protocol(
            name="jpeg_color",
            task="jpeg",
            description="Compressed by OpenCV's encoder, 4:2:0; RGB and Y, no crop.",
            condition="quality",
            degrade=_compression(3),
            metrics=(_PSNR, _SSIM, _PSNR_B, _PSNR_Y, _SSIM_Y),
        ),
        Protocol(
            name="demosaicking_crop10",
            task="demosaicking",
            description="RGGB mosaics, of which networks get Malvar's linear interpolation; RGB, without 10 border "
            "pixels.",
            degrade=_MOSAIC,
            border=10,
            metrics=(_PSNR, _SSIM),
        ),
        Protocol(
            name="demosaicking_full",
            task="demosaicking",
            description="RGGB mosaics, of which networks get Malvar's linear interpolation; RGB, no crop.",
            degrade=_MOSAIC,
            metrics=(_PSNR, _SSIM),
        ),
        Protocol(
            name="deblurring_rgb",
            task="deblurring",
            description="RGB of 8 bit images, no crop; SSIM is MATLAB's, over rows, columns and channels at once.",
            metrics=(_PSNR, replace(_SSIM, label="SSIM (3-D)", function="calculate_ssim_rgb3d")),
        ),
        Protocol(
            name="derain_y",
            task="derain",
            description="SPA-Data: the Y channel, rounded as MATLAB does; no crop.",
            metrics=(
                replace(_PSNR, label="PSNR (Y)", function="calculate_psnr_y_matlab"),
                replace(_SSIM, label="SSIM (Y)", function="calculate_ssim_y_matlab"),
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
        _ALL_IN_ONE,
        replace(
            _ALL_IN_ONE,
            name="all_in_one_5",
            description="One network for haze, rain, noise, motion blur and low light; otherwise as all_in_one_3.",
        ),
        Protocol(
            name="drawn_rgb",
            task="all_in_one",
            description="Clean images with one degradation of fixed strength (noise, rain, haze, low light, motion "
            "blur, raindrops, JPEG, none); what else is drawn follows from their pixels and a seed; RGB of 8 bit "
            "images, inputs too, no crop.",
            condition="degradations",
            degrade=_DRAWN,
            metrics=(_PSNR, _SSIM_7),
        ),
    ]
)
