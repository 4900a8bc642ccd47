"""The images of a test set: listed and checked before any work, read and degraded as a protocol says."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any

from semanir_plugin.basicsr_host.data.checks import Size, read_size
from semanir_plugin.basicsr_host.data.drawn_degradations import ScoredDegradation
from semanir_plugin.basicsr_host.data.pairing import Found, find_pairs, find_singles
from semanir_plugin.basicsr_host.scoring import Protocol
from semanir_plugin.errors import UserError
from semanir_plugin.inference.images import Channels, decode_image
from semanir_plugin.pixels import FloatImage
from semanir_plugin.schema.values import FromZero, Range

__all__ = ["Sample", "TestSet", "TestSetOptions", "hash_files", "read_image", "slugify"]

_LONGEST_SLUG = 200  # bytes


@dataclass(frozen=True, kw_only=True)
class TestSetOptions:
    """A test set in an option file.

    Attributes:
        gt: Folder of ground truths, or a pattern such as `GoPro/test/*/sharp`.
        lq: Folder of inputs, or a pattern; None: they are made of the ground truths.
        filename_tmpl: Stem of an input, `{}` being that of its ground truth.
        pair_by: Instead, a regular expression for what the stems of both have in common.
        sigma: Standard deviation of the noise on the scale of 0 to 255.
        quality: Of JPEGs, 1 to 100.
        degradations: A section for one, under its name, as `MixedDegradationDataset` takes it where images are scored.
        seed: Of what it draws, which also follows from the pixels.
        benchmark: Name of the set in published tables; None: that of the entry.
        averaged: Whether the column of the mean counts this set.
    """

    __test__ = False  # for pytest, which takes the name for that of a test

    gt: str
    lq: str | None = None
    filename_tmpl: str = "{}"
    pair_by: str | None = None
    sigma: Annotated[float, Range(least=0, most=255)] | None = None
    quality: Annotated[int, Range(least=1, most=100)] | None = None
    degradations: Mapping[str, Mapping[str, Any] | None] | None = None
    seed: FromZero = 0
    benchmark: str | None = None
    averaged: bool = True


@dataclass(frozen=True)
class Sample:
    """An image to restore.

    Attributes:
        name: Of the image.
        input: (h, w, C) in BGR order, in [0, 1] but for noise.
        truth: (s * h, s * w, C) in [0, 1], s being the scale.
    """

    name: str
    input: FloatImage
    truth: FloatImage


@dataclass(frozen=True)
class TestSet:
    """A test set by a protocol.

    Attributes:
        name: Of the set in this leaderboard.
        options: Where it lies and how it is degraded.
        protocol: How it is read and scored.
        scale: Factor between the sizes of ground truth and input.
    """

    __test__ = False

    name: str
    options: TestSetOptions
    protocol: Protocol
    scale: int = 1

    def __len__(self) -> int:
        return len(self.found)

    @property
    def slug(self) -> str:
        """The name as that of a folder."""
        return slugify(self.name)

    @property
    def benchmark(self) -> str:
        """The test set's name in published tables."""
        return self.options.benchmark or self.name

    @property
    def level(self) -> float | ScoredDegradation | None:
        """The value of the protocol's condition."""
        if self.protocol.condition == "degradations":
            return self.degradation
        levels = {"scale": self.scale, "sigma": self.options.sigma, "quality": self.options.quality}
        return None if self.protocol.condition is None else levels[self.protocol.condition]

    @property
    def degradation(self) -> ScoredDegradation | None:
        """The degradation of its own that is drawn for each image; None: there is none."""
        sections = self.options.degradations
        return None if sections is None else ScoredDegradation.read(sections, int(self.options.seed))

    @property
    def short_level(self) -> str:
        """The level as a part of a file's name: a number, or the name of a degradation; empty where there is none."""
        level = self.level
        return level.name if isinstance(level, ScoredDegradation) else "" if level is None else f"{level:g}"

    @cached_property
    def found(self) -> list[Found]:
        """The images, by name: ground truths, with their inputs where these are files."""
        options = self.options
        if options.lq is None:
            return find_singles(options.gt)
        return find_pairs(options.gt, options.lq, filename_tmpl=options.filename_tmpl, pair_by=options.pair_by)

    def check(self) -> None:
        """Look at the header of every file.

        Raises:
            UserError: A folder or an image is missing or cannot be read, or a size does not fit.
        """
        for each in self.found:
            try:
                truth, *inputs = (read_size(path) for path in each.paths)
            except ValueError as error:
                raise UserError(str(error)) from error
            self._check_sizes(each, truth, *inputs)

    def _check_sizes(self, each: Found, truth: Size, lq: Size | None = None) -> None:
        least, (height, width) = self.protocol.least_side(self.scale), self.protocol.crop(*truth[::-1], self.scale)
        if min(height, width) < least:
            raise UserError(f"{each.paths[0]} is {_format(truth)}, but both sides need {least} pixels; take it out")
        if lq is not None and (lq[0] * self.scale, lq[1] * self.scale) != (width, height):
            cropped = "" if (width, height) == truth else f", {_format((width, height))} of which are scored"
            raise UserError(
                f"{each.paths[0]} is {_format(truth)}{cropped}, but {each.paths[1]} is {_format(lq)} at scale "
                f"{self.scale}; make the sizes fit"
            )

    @cached_property
    def digest(self) -> str:
        """A hash of the files' contents and names, and of the condition."""
        names = "\n".join(each.name for each in self.found)
        paths = [path for each in self.found for path in each.paths]
        return hash_files(paths, f"{self.scale} {self.level!r} {len(self.found)}\n{names}")

    def sample(self, index: int) -> Sample:
        """Read an image.

        Raises:
            UserError: A file cannot be read.
        """
        each = self.found[index]
        truth = self.protocol.make_truth(read_image(each.paths[0], self.protocol.channels), self.scale)
        if self.options.lq is not None:
            return Sample(each.name, read_image(each.paths[1], self.protocol.channels), truth)
        assert self.protocol.degrade is not None
        return Sample(each.name, self.protocol.degrade(truth, self.level), truth)


def read_image(path: Path, channels: Channels) -> FloatImage:
    """Read an image file as `decode_image` does.

    Raises:
        UserError: It cannot be read.
    """
    try:
        return decode_image(path.read_bytes(), channels)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise UserError(f"{path}: {reason}{'' if '; ' in reason else '; replace it'}") from error


def hash_files(paths: list[Path], head: str = "") -> str:
    """Return a SHA-256 of some text and of each file's content.

    Raises:
        UserError: A file cannot be read.
    """
    digest = hashlib.sha256(head.encode())
    for path in paths:
        try:
            digest.update(hashlib.sha256(path.read_bytes()).digest())
        except OSError as error:
            raise UserError(f"{path}: cannot be opened ({error.strerror}); check the path") from error
    return digest.hexdigest()


def slugify(name: str) -> str:
    """Return a name as a folder's; of a long one the beginning, and a hash of it all."""
    slug = re.sub(r"[^\w.+-]+", "-", name).strip("-._") or "unnamed"
    if len(slug.encode()) <= _LONGEST_SLUG:
        return slug
    beginning = slug.encode()[: _LONGEST_SLUG - 13].decode(errors="ignore")
    return f"{beginning}-{hashlib.sha256(name.encode()).hexdigest()[:12]}"


def _format(size: Size) -> str:
    return f"{size[0]}x{size[1]}"
