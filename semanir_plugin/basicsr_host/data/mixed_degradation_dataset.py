"""Clean images with one of several degradations each, for networks that learn many restorations at once."""

from __future__ import annotations

import random
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from semanir_plugin.basicsr_host.data.clean_image_dataset import CleanImageDataset
from semanir_plugin.basicsr_host.data.dataset_options import CleanImageOptions, Problem
from semanir_plugin.basicsr_host.data.drawn_degradations import DEGRADATIONS, read_degradations
from semanir_plugin.basicsr_host.data.seeding import derive_seed, seeded
from semanir_plugin.pixels import FloatImage, to_float, to_uint8
from semanir_plugin.registry import DATASETS
from semanir_plugin.schema.values import FromZero

__all__ = ["MixedDegradationDataset", "MixedDegradationOptions"]


@dataclass(frozen=True, kw_only=True)
class MixedDegradationOptions(CleanImageOptions):
    """Options of `MixedDegradationDataset`.

    Attributes:
        degradations: A section for each, under its name; one where images are scored. Null leaves one out.
        seed: With the name of an image, decides what is drawn where images are scored; training draws anew.
    """

    degradations: Mapping[str, Mapping[str, Any] | None]
    seed: FromZero = 0

    def phase_problems(self, *, training: bool) -> Iterator[Problem]:
        """Yield the problems of the values."""
        degradations = read_degradations(self.degradations)
        for name, each in degradations.items():
            for _, problem in each.problems_of_levels(training=training):
                yield "degradations", f"{name}: {problem}"
        if not degradations:
            yield "degradations", f"degradations is empty: add one of {', '.join(DEGRADATIONS)}"
        elif len(degradations) > 1 and not training:
            told = f"give one degradation where images are scored, not {', '.join(degradations)}"
            yield "degradations", f"{told}; add a dataset for each"


@DATASETS.register
class MixedDegradationDataset(CleanImageDataset):
    """Clean images and degraded copies, both of 8 bit, as files have them; each with a degradation drawn by weight.

    Options are `MixedDegradationOptions` and those of `CleanImageDataset`. Where images are scored, each has draws of
    its own, which follow `seed` and the image's name.
    """

    OPTIONS = MixedDegradationOptions
    SECTIONS: ClassVar[dict[str, Mapping[str, type]]] = {"degradations": DEGRADATIONS}

    def __init__(self, opt: Mapping[str, Any]) -> None:
        super().__init__(opt)
        degradations = read_degradations(self.options.degradations)
        self.degradations = list(degradations.values())
        self.weights = [each.weight for each in self.degradations]

    def read_pair(self, path: str) -> tuple[FloatImage, FloatImage]:
        """Return the input and the ground truth, (H, W, C) in BGR order."""
        if self.training:
            return super().read_pair(path)
        name = path if self.io_backend_opt["type"] == "lmdb" else Path(path).stem
        with seeded(derive_seed(self.options.seed, zlib.crc32(name.encode()))):
            return super().read_pair(path)

    def degrade(self, clean: FloatImage) -> tuple[FloatImage, FloatImage]:
        """Draw a degradation, and degrade."""
        truth = to_float(to_uint8(clean))
        (drawn,) = random.choices(self.degradations, self.weights)
        return to_float(to_uint8(drawn.apply(truth))), truth
