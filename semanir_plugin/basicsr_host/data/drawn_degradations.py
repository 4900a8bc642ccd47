"""Degradations of which a dataset draws one for each patch: the section of each in an option file, and what it does."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, ClassVar

from semanir_plugin.basicsr_host.data.dataset_options import Problem, check_range, sample_integer, sample_uniform
from semanir_plugin.basicsr_host.data.seeding import seeded
from semanir_plugin.degradations import (
    add_gaussian_noise,
    add_haze,
    add_rain_streaks,
    add_raindrops,
    blur_by_motion,
    compress_jpeg,
    darken,
    generator_of,
)
from semanir_plugin.degradations.haze import AIRLIGHT
from semanir_plugin.degradations.raindrops import SIZE, STRENGTH
from semanir_plugin.pixels import FloatImage, to_float, to_uint8
from semanir_plugin.schema.declarations import pick_options
from semanir_plugin.schema.values import Positive

__all__ = ["DEGRADATIONS", "Clean", "ScoredDegradation", "problems_of_degradations", "read_degradations"]

Level = float | Sequence[float]
Quality = int | Sequence[int]


@dataclass(frozen=True, kw_only=True)
class Clean:
    """What leaves an image as it is, so that a network learns to.

    Attributes:
        weight: How often patches are degraded so, in proportion to the other weights.
    """

    LEVELS: ClassVar[Mapping[str, tuple[float, float]]] = {}
    """Limits of options that are one number where images are scored, or in training [low, high] as well."""
    DETAILS: ClassVar[Mapping[str, tuple[float, float]]] = {}
    """Limits of options that may be [low, high] anywhere."""

    weight: Positive = 1.0

    def problems_of_levels(self, *, training: bool) -> Iterator[Problem]:
        """Yield the problems of the values."""
        for limits, drawn in ((self.LEVELS, training), (self.DETAILS, True)):
            for name, (least, most) in limits.items():
                if (value := getattr(self, name)) is not None:
                    yield from check_range(name, value, least=least, most=most, training=drawn)

    def apply(self, image: FloatImage) -> FloatImage:
        """Degrade (H, W, 3), BGR, in [0, 1]; all that is random comes from Python's global generator."""
        return image


@dataclass(frozen=True, kw_only=True)
class Jpeg(Clean):
    """JPEG by OpenCV's encoder.

    Attributes:
        quality: Of the encoder, or in training [low, high] to draw it from, both included.
    """

    LEVELS = {"quality": (1, 100)}

    quality: Quality

    def apply(self, image: FloatImage) -> FloatImage:
        """Compress."""
        return to_float(compress_jpeg(to_uint8(image), sample_integer(self.quality)))


@dataclass(frozen=True, kw_only=True)
class Compressible(Clean):
    """What a JPEG may be made of afterwards.

    Attributes:
        quality: Of a JPEG that is made of the result, or in training [low, high]; by default none is.
    """

    LEVELS = {"quality": (1, 100)}

    quality: Quality | None = None

    def apply(self, image: FloatImage) -> FloatImage:
        """Degrade, and compress."""
        degraded = self.degrade(image)
        return degraded if self.quality is None else Jpeg(quality=self.quality).apply(degraded)

    def degrade(self, image: FloatImage) -> FloatImage:
        """Degrade."""
        raise NotImplementedError


@dataclass(frozen=True, kw_only=True)
class Noise(Compressible):
    """White Gaussian noise.

    Attributes:
        sigma: Standard deviation on the scale of 0 to 255, or in training [low, high].
    """

    LEVELS = {**Compressible.LEVELS, "sigma": (0, 255)}

    sigma: Level

    def degrade(self, image: FloatImage) -> FloatImage:
        """Add noise."""
        return add_gaussian_noise(image, sample_uniform(self.sigma), seed=_draw_seed())


@dataclass(frozen=True, kw_only=True)
class Rain(Compressible):
    """Streaks of rain.

    Attributes:
        amount: How many times the usual number of drops fall, or in training [low, high]; 4 is a downpour.
    """

    LEVELS = {**Compressible.LEVELS, "amount": (0, 100)}

    amount: Level

    def degrade(self, image: FloatImage) -> FloatImage:
        """Let it rain."""
        return add_rain_streaks(image, seed=_draw_seed(), amount=sample_uniform(self.amount))


@dataclass(frozen=True, kw_only=True)
class Haze(Compressible):
    """Haze by atmospheric scattering, at a depth that is drawn.

    Attributes:
        beta: Optical thickness of the haze as far as one sees, or in training [low, high].
        airlight: Value of what is infinitely far, or [low, high], also where images are scored.
    """

    LEVELS = {**Compressible.LEVELS, "beta": (0, 20)}
    DETAILS = {"airlight": (0, 1)}

    beta: Level
    airlight: Level = AIRLIGHT

    def degrade(self, image: FloatImage) -> FloatImage:
        """Lay haze over the image."""
        airlight = sample_uniform(self.airlight)
        return add_haze(image, sample_uniform(self.beta), seed=_draw_seed(), airlight=airlight)


@dataclass(frozen=True, kw_only=True)
class LowLight(Compressible):
    """Too little light, and the noise of a sensor.

    Attributes:
        exposure: Share of the light that is left, or in training [low, high].
        gamma: Exponent of the scene in linear light, or [low, high], also where images are scored.
    """

    LEVELS = {**Compressible.LEVELS, "exposure": (0.001, 1)}
    DETAILS = {"gamma": (0.2, 5)}

    exposure: Level
    gamma: Level = 1.0

    def degrade(self, image: FloatImage) -> FloatImage:
        """Take light away."""
        gamma = sample_uniform(self.gamma)
        return darken(image, sample_uniform(self.exposure), seed=_draw_seed(), gamma=gamma)


@dataclass(frozen=True, kw_only=True)
class MotionBlur(Compressible):
    """Blur of a camera that moves, in linear light.

    Attributes:
        length: Of its way in pixels, or in training [low, high].
        sigma: Of Gaussian noise that comes after the blur, on the scale of 0 to 255, or in training [low, high].
    """

    LEVELS = {**Compressible.LEVELS, "length": (0, 200), "sigma": (0, 255)}

    length: Level
    sigma: Level = 0.0

    def degrade(self, image: FloatImage) -> FloatImage:
        """Move the camera."""
        blurred = blur_by_motion(image, sample_uniform(self.length), seed=_draw_seed())
        return Noise(sigma=self.sigma).degrade(blurred) if self.sigma else blurred


@dataclass(frozen=True, kw_only=True)
class Raindrops(Compressible):
    """Drops of rain on the lens, each with a small copy of the scene upside down.

    Attributes:
        drops: How many lie on 256 x 256 pixels on average, or in training [low, high].
        size: Pixels across a drop, or [low, high] to draw it from for each, also where images are scored.
        strength: Share of the light in a drop that comes through it, or [low, high] likewise.
    """

    LEVELS = {**Compressible.LEVELS, "drops": (0, 1000)}
    DETAILS = {"size": (2, 400), "strength": (0, 1)}

    drops: Level
    size: Level = SIZE
    strength: Level = STRENGTH

    def degrade(self, image: FloatImage) -> FloatImage:
        """Let drops fall on the lens."""
        size, strength = (_both_ends(each) for each in (self.size, self.strength))
        return add_raindrops(image, sample_uniform(self.drops), seed=_draw_seed(), size=size, strength=strength)


DEGRADATIONS: Mapping[str, type[Clean]] = {
    "clean": Clean,
    "noise": Noise,
    "rain": Rain,
    "haze": Haze,
    "low_light": LowLight,
    "motion_blur": MotionBlur,
    "raindrops": Raindrops,
    "jpeg": Jpeg,
}
"""Declarations of the sections by their names."""


def read_degradations(sections: Mapping[str, Mapping[str, Any] | None]) -> dict[str, Clean]:
    """Return the degradations of an option file's sections, without those that are null."""
    given = {name: section for name, section in sections.items() if section is not None}
    return {name: pick_options(DEGRADATIONS[name], section) for name, section in given.items()}


def problems_of_degradations(sections: Mapping[str, Mapping[str, Any] | None], *, training: bool) -> Iterator[str]:
    """Yield why a training cannot draw from these sections, or why images cannot be scored on them."""
    degradations = read_degradations(sections)
    for name, each in degradations.items():
        for _, problem in each.problems_of_levels(training=training):
            yield f"{name}: {problem}"
    if not degradations:
        yield f"degradations is empty: add one of {', '.join(DEGRADATIONS)}"
    elif len(degradations) > 1 and not training:
        yield f"give one degradation where images are scored, not {', '.join(degradations)}; add a dataset for each"


@dataclass(frozen=True, kw_only=True)
class ScoredDegradation:
    """A degradation on which images are scored: each always gets the same, which follows from its pixels and a seed.

    Attributes:
        name: Under which option files have it.
        degradation: With one number for each level.
        seed: At least 0; another one draws others.
    """

    name: str
    degradation: Clean
    seed: int = 0

    @classmethod
    def read(cls, sections: Mapping[str, Mapping[str, Any] | None], seed: int) -> ScoredDegradation:
        """Return the only degradation of an option file's sections, of which `problems_of_degradations` finds none."""
        ((name, degradation),) = read_degradations(sections).items()
        return cls(name=name, degradation=degradation, seed=seed)

    def __call__(self, truth: FloatImage) -> FloatImage:
        """Degrade (H, W, 3), BGR, in [0, 1], which counts as 8 bit; the result is of 8 bit, too."""
        with seeded(int(generator_of(truth, self.seed).integers(2**32))):
            return to_float(to_uint8(self.degradation.apply(to_float(to_uint8(truth)))))

    def __str__(self) -> str:
        """Return it in words, such as `motion blur, length 9, quality 75`: what is not as by default."""
        levels = sorted(self.levels.items(), key=lambda level: level[0] == "quality")  # compressed last
        told = [f"{key} {_describe_level(value)}" for key, value in levels]
        return ", ".join([self.name.replace("_", " "), *told, *([f"seed {self.seed}"] if self.seed else [])])

    @property
    def levels(self) -> dict[str, Level]:
        """What was given to the degradation and makes a difference here."""
        given = {each.name: getattr(self.degradation, each.name) for each in fields(self.degradation)}
        defaults = {each.name: each.default for each in fields(self.degradation)}
        return {key: value for key, value in given.items() if key != "weight" and value != defaults[key]}


def _describe_level(value: Level) -> str:
    return " to ".join(f"{each:g}" for each in (value if isinstance(value, Sequence) else [value]))


def _both_ends(level: Level) -> tuple[float, float]:
    low, high = level if isinstance(level, Sequence) else (level, level)
    return low, high


def _draw_seed() -> int:
    return random.getrandbits(32)
