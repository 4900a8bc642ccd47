"""How close a network comes to the clean pictures, and what it leaves on ground that should be flat."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from semanir_plugin.archs import describe
from semanir_plugin.errors import UserError
from semanir_plugin.inference.loading import build_network
from semanir_plugin.inference.restorer import Restorer
from semanir_plugin.metrics import calculate_ringing, calculate_specks
from semanir_plugin.metrics.images import prepare
from semanir_plugin.metrics.similarity import psnr
from semanir_plugin.pixels import Image as Pixels

__all__ = ["BICUBIC", "Restored", "Scores", "bicubic", "mean_scores", "restore_all", "table"]

BICUBIC = "bicubic"


@dataclass(frozen=True)
class Scores:
    """Of one image, or the mean of several.

    Attributes:
        psnr: Of RGB, in dB.
        psnr_y: Of Y, in dB.
        specks: `calculate_specks`, in levels; NaN where nothing is flat.
        ringing: `calculate_ringing`, likewise.
    """

    psnr: float
    psnr_y: float
    specks: float
    ringing: float


@dataclass(frozen=True)
class Restored:
    """A picture, what networks made of it, and how close that is.

    Attributes:
        name: Of the picture.
        truth: (H, W, 3), RGB; of a transparent one, on white beside on black.
        results: Likewise, by the name of the network.
        scores: Likewise.
    """

    name: str
    truth: Pixels
    results: Mapping[str, Pixels]
    scores: Mapping[str, Scores]


def bicubic(scale: int) -> Restorer:
    """Return what enlarges bicubically, and leaves a picture as it is at a scale of 1."""
    options = {"type": "Bicubic", "upscale": scale}
    network = build_network(options, BICUBIC)
    return Restorer(network, options, describe(network, options), torch.device("cpu"))


def restore_all(folder: Path, networks: Mapping[str, Restorer], scale: int, tolerance: float = 2) -> Iterator[Restored]:
    """Restore the pictures of a class by each network; `tolerance` is of `score`.

    Raises:
        UserError: A network enlarges by another factor, or there are no pictures.
    """
    for name, each in networks.items():
        if each.descriptor.scale != scale:
            raise UserError(f"{name}: enlarges by {each.descriptor.scale}, the pictures are for {scale}; give --scale")
    paths = sorted((folder / "LR").glob("*.*"))
    if not paths:
        raise UserError(f"{folder}: has no pictures in LR; make them first")
    for path in paths:
        with Image.open(folder / "GT" / f"{path.stem}.png") as image:
            truth = _shown(image)
        results = {name: _restore(network, path) for name, network in networks.items()}
        scores = {name: score(each, truth, scale, tolerance) for name, each in results.items()}
        yield Restored(path.stem, truth, results, scores)


def score(image: Pixels, truth: Pixels, border: int, tolerance: float) -> Scores:
    """Return the scores of RGB (H, W, 3), without some pixels at each border; within the tolerance ground is flat."""
    image, truth = image[..., ::-1], truth[..., ::-1]
    colours, luma = (
        prepare(image, truth, crop_border=border, input_order="HWC", test_y_channel=y) for y in (False, True)
    )
    specks, ringing = (
        metric(image, truth, border, tolerance=tolerance) for metric in (calculate_specks, calculate_ringing)
    )
    return Scores(psnr(*colours), psnr(*luma), specks, ringing)


def mean_scores(scores: Sequence[Scores]) -> Scores:
    """Return the mean of each score, of those that there are."""
    columns = {field.name: [getattr(each, field.name) for each in scores] for field in fields(Scores)}
    return Scores(**{name: _mean(values) for name, values in columns.items()})


def table(rows: Iterable[tuple[str, int, Mapping[str, Scores]]], names: Sequence[str]) -> str:
    """Return a table in Markdown: classes with their number of pictures, and a pair of columns for each score."""
    heads = {"psnr": "PSNR", "psnr_y": "of Y", "specks": "specks", "ringing": "ringing"}
    columns = [f"{head}, {name}" for head in heads.values() for name in names]
    lines = [f"| pictures | | {' | '.join(columns)} |", "|---|---:|" + "---:|" * len(columns)]
    for label, count, scores in rows:
        cells = [f"{asdict(scores[name])[key]:.2f}" for key in heads for name in names]
        lines.append(f"| {label} | {count} | {' | '.join(cells)} |")
    return "\n".join(lines).replace(" nan |", " |")


def _mean(values: Sequence[float]) -> float:
    known = [value for value in values if not math.isnan(value)]
    return float(np.mean(known)) if known else math.nan


def _restore(network: Restorer, path: Path) -> Pixels:
    with Image.open(path) as image:
        return _shown(network.restore(image.copy()))


def _shown(image: Image.Image) -> Pixels:
    """Return the RGB of an image; of a transparent one, on white beside on black."""
    if image.mode != "RGBA":
        return np.asarray(image.convert("RGB"))
    grounds = [Image.new("RGBA", image.size, colour) for colour in ("white", "black")]
    return np.hstack([np.asarray(Image.alpha_composite(ground, image).convert("RGB")) for ground in grounds])
