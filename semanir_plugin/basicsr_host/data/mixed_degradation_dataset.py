"""Clean images with one of several degradations each, for networks that learn many restorations at once."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from semanir_plugin.basicsr_host.data.clean_image_dataset import CleanImageDataset
from semanir_plugin.basicsr_host.data.dataset_options import CleanImageOptions, Problem
from semanir_plugin.basicsr_host.data.drawn_degradations import (
    DEGRADATIONS,
    ScoredDegradation,
    problems_of_degradations,
    read_degradations,
)
from semanir_plugin.pixels import FloatImage, to_float, to_uint8
from semanir_plugin.registry import DATASETS
from semanir_plugin.schema.values import FromZero

__all__ = ["MixedDegradationDataset", "MixedDegradationOptions"]


@dataclass(frozen=True, kw_only=True)
class MixedDegradationOptions(CleanImageOptions):
    """Options of `MixedDegradationDataset`.

    Attributes:
        degradations: A section for each, under its name; one where images are scored. Null leaves one out.
        margin: Pixels around a patch that are degraded with it and cut off, so that what is beyond its border moves
            into it, as within an image; fewer where an image has no more. Scored images have none.
        seed: Of what is drawn where images are scored, which also follows from their pixels; training draws anew.
    """

    degradations: Mapping[str, Mapping[str, Any] | None]
    margin: FromZero = 0
    seed: FromZero = 0

    def phase_problems(self, *, training: bool) -> Iterator[Problem]:
        """Yield the problems of the values."""
        for problem in problems_of_degradations(self.degradations, training=training):
            yield "degradations", problem


@DATASETS.register
class MixedDegradationDataset(CleanImageDataset):
    """Clean images and degraded copies, both of 8 bit, as files have them; each with a degradation drawn by weight.

    Options are `MixedDegradationOptions` and those of `CleanImageDataset`. Where images are scored, each has draws of
    its own, which follow from `seed` and the image's pixels.
    """

    OPTIONS = MixedDegradationOptions
    SECTIONS: ClassVar[dict[str, Mapping[str, type]]] = {"degradations": DEGRADATIONS}

    def __init__(self, opt: Mapping[str, Any]) -> None:
        super().__init__(opt)
        self.degradations = list(read_degradations(self.options.degradations).values())
        self.weights = [each.weight for each in self.degradations]

    def degraded_side(self, clean: FloatImage) -> int:
        """Return the side of a patch with its margin, as far as the image has one."""
        side = super().degraded_side(clean)
        with_margin: int = min(side + 2 * self.options.margin, *clean.shape[:2])
        return max(side, with_margin)

    def degrade(self, clean: FloatImage) -> tuple[FloatImage, FloatImage]:
        """Draw a degradation, and degrade."""
        truth = to_float(to_uint8(clean))
        if not self.training:
            return ScoredDegradation.read(self.options.degradations, self.options.seed)(truth), truth
        (drawn,) = random.choices(self.degradations, self.weights)
        return self._without_margin(to_float(to_uint8(drawn.apply(truth)))), self._without_margin(truth)

    def _without_margin(self, image: FloatImage) -> FloatImage:
        side: int = self.opt["gt_size"]
        start = (image.shape[0] - side) // 2
        return image[start : start + side, start : start + side]
