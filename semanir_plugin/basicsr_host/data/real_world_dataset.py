"""Clean images and what is left of them on their way to a screen, for networks that restore real pictures."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar

import numpy as np
from basicsr.data.transforms import mod_crop

from semanir_plugin.basicsr_host.data.clean_image_dataset import CleanImageDataset
from semanir_plugin.basicsr_host.data.dataset_options import CleanImageOptions, Problem
from semanir_plugin.degradations.bicubic import downsample_bicubic, least_side
from semanir_plugin.degradations.drawings import draw_picture
from semanir_plugin.degradations.own_draws import generator_of
from semanir_plugin.degradations.real_world import MILD, DegradationStage, degrade
from semanir_plugin.pixels import FloatImage, to_float, to_uint8
from semanir_plugin.registry import DATASETS
from semanir_plugin.schema.declarations import ToTrain, pick_options
from semanir_plugin.schema.values import FromZero, Share

__all__ = ["RealWorldDataset", "RealWorldOptions"]


@dataclass(frozen=True, kw_only=True)
class RealWorldOptions(CleanImageOptions):
    """Options of `RealWorldDataset`.

    Attributes:
        stages: A section for each round of damage, under a name of its own, in their order. Where images are scored,
            by default the mild one of the protocol `sr_real_rgb`.
        clean_prob: Share of the patches that are only reduced, by bicubic, so that a network learns to leave clean
            pictures as they are; in training only.
        drawing_prob: Share of the patches that are text, widgets and line art, drawn anew, instead of photographs; in
            training only.
        fonts: Files of fonts that these are written in; by default the one that Pillow brings.
        seed: Of the damage on which images are scored, which also follows from their pixels; training draws anew.
    """

    stages: Annotated[Mapping[str, Mapping[str, Any]] | None, ToTrain()] = None
    clean_prob: Share = 0.1
    drawing_prob: Share = 0.2
    fonts: Sequence[str] = ()
    seed: FromZero = 0

    def phase_problems(self, *, training: bool) -> Iterator[Problem]:
        """Yield the problems of the values."""
        if training and not self.stages:
            yield "stages", "stages is empty: add one"
        for name, stage in make_stages(self.stages).items():
            for _, problem in stage.problems():
                yield "stages", f"stages: {name}: {problem}"
        for font in self.fonts:
            if not Path(font).is_file():
                yield "fonts", f"fonts: there is no file {font}; name TrueType or OpenType files"


def make_stages(sections: Mapping[str, Mapping[str, Any]] | None) -> dict[str, DegradationStage]:
    """Return the stages of an option file's sections; what is null there has its default."""
    return {name: pick_options(DegradationStage, values) for name, values in (sections or {}).items()}


@DATASETS.register
class RealWorldDataset(CleanImageDataset):
    """Clean images, and smaller ones with blur, noise and artefacts of compression, as pictures from the web have.

    Options are `RealWorldOptions`, those of `CleanImageDataset`, and `scale`, which may be 1. Images are of 8 bit.
    """

    OPTIONS = RealWorldOptions
    SECTIONS: ClassVar[dict[str, type]] = {"stages": DegradationStage}

    def __init__(self, opt: Mapping[str, Any]) -> None:
        super().__init__(opt)
        self.scale: int = opt["scale"]
        self.stages = tuple(make_stages(self.options.stages).values()) or (MILD,)
        self.generator = np.random.default_rng()  # of the patch that is made

    @classmethod
    def least_side(cls, opt: Mapping[str, Any]) -> int:
        """Return the least side that an image may have."""
        return least_side(opt["scale"])

    @classmethod
    def truth_size(cls, opt: Mapping[str, Any], size: tuple[int, int]) -> tuple[int, int]:
        """Return the width and height to which an image is cropped."""
        return size[0] // opt["scale"] * opt["scale"], size[1] // opt["scale"] * opt["scale"]

    def read_pair(self, path: str) -> tuple[FloatImage, FloatImage]:
        """Return the input and the ground truth, (H, W, 3) in BGR order."""
        if not self.training:
            return super().read_pair(path)
        self.generator = np.random.default_rng(random.getrandbits(64))
        if self._happens(self.options.drawing_prob):
            clean = to_float(draw_picture(self.opt["gt_size"], self.generator, self.options.fonts))
            return self.degrade(self.augment([clean])[0])
        return super().read_pair(path)

    def degrade(self, clean: FloatImage) -> tuple[FloatImage, FloatImage]:
        """Reduce and damage."""
        clean = to_float(to_uint8(mod_crop(clean, self.scale)))
        if self.training and self._happens(self.options.clean_prob):
            return (to_float(downsample_bicubic(clean, self.scale)) if self.scale > 1 else clean), clean
        size = clean.shape[0] // self.scale, clean.shape[1] // self.scale
        generator = self.generator if self.training else generator_of(clean, self.options.seed)
        return degrade(clean, size, self.stages, generator), clean

    def _happens(self, share: float) -> bool:
        return bool(self.generator.random() < share)
