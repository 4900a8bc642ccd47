"""What an option file scores images by: a protocol, BasicSR's own metrics, or both."""

from __future__ import annotations

import operator
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import reduce
from typing import Any

import numpy as np
from basicsr.metrics import calculate_metric
from basicsr.utils import tensor2img
from torch import Tensor

from semanir_plugin.basicsr_host.scoring.protocols import PROTOCOLS, SSIM_WINDOW, Protocol, mean_score
from semanir_plugin.pixels import FloatImage

__all__ = ["Scorer", "split_metrics", "tensor_to_image"]

Block = Mapping[str, Any]
Scores = Mapping[str, float]

_NIQE_BLOCK = 96
_NO_REFERENCE = ("calculate_niqe",)


def split_metrics(metrics: Any) -> tuple[str | None, dict[str, Block]]:
    """Split `val.metrics` into the name of a protocol and BasicSR's metrics by name.

    Args:
        metrics: A protocol's name; BasicSR's metrics by name, where the key `protocol` may hold a protocol's; or None.
            A metric that is null counts as absent.
    """
    if isinstance(metrics, str):
        return metrics, {}
    blocks = {name: block for name, block in (metrics or {}).items() if block is not None}
    return (blocks.pop("protocol"), blocks) if isinstance(blocks.get("protocol"), str) else (None, blocks)


@dataclass(frozen=True, kw_only=True)
class Scorer:
    """The metrics of each image, those of a protocol first.

    Attributes:
        protocol: Scores images as leaderboards do; None: there is none.
        blocks: BasicSR's metrics by name: the function under `type`, and its arguments.
        scale: Factor between the sizes of ground truth and input.
    """

    protocol: Protocol | None = None
    blocks: Mapping[str, Block] = field(default_factory=dict)
    scale: int = 1

    @classmethod
    def from_options(cls, opt: Mapping[str, Any]) -> Scorer:
        """Return the scorer of resolved options; without metrics in `val`, one that gives none."""
        name, blocks = split_metrics((opt.get("val") or {}).get("metrics"))
        protocol = None if name is None else PROTOCOLS[name]
        return cls(protocol=protocol, blocks=blocks, scale=opt.get("scale") or 1)

    @property
    def functions(self) -> dict[str, str]:
        """The function of each metric, as METRIC_REGISTRY names it, by the metric's name."""
        of_protocol = () if self.protocol is None else self.protocol.metrics
        functions = {metric.name: metric.function for metric in of_protocol}
        return functions | {name: block["type"] for name, block in self.blocks.items()}

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the metrics, in order."""
        return tuple(self.functions)

    @property
    def first_psnr(self) -> str | None:
        """The metric that decides which network is best; None: there is no PSNR."""
        return next((name for name, each in self.functions.items() if each.startswith("calculate_psnr")), None)

    @property
    def with_reference(self) -> tuple[str, ...]:
        """The metrics that compare with a ground truth."""
        return tuple(name for name, function in self.functions.items() if not function.startswith(_NO_REFERENCE))

    def better(self, name: str) -> str:
        """Return which values of a metric are better, "higher" or "lower"."""
        if name in self.blocks:
            return str(self.blocks[name].get("better", "higher"))
        assert self.protocol is not None
        return next(metric.better for metric in self.protocol.metrics if metric.name == name)

    def score(self, output: Tensor, truth: Tensor | None) -> dict[str, float]:
        """Score a restored image.

        Args:
            output: (1, C, H, W) in RGB order, [0, 1]; what lies outside is clipped.
            truth: Of the same shape; None: there is none, and only metrics without reference can be asked for.

        Returns:
            Each metric by name.

        Raises:
            ValueError: The protocol does not score images of this shape.
        """
        scores: dict[str, float] = {}
        if self.protocol is not None and truth is not None:
            scores |= self._score_by_protocol(self.protocol, tensor_to_image(output), tensor_to_image(truth))
        if self.blocks:
            pair = {"img": output} if truth is None else {"img": output, "img2": truth}
            images = {key: tensor2img([image]) for key, image in pair.items()}
            scores |= {name: calculate_metric(images, block) for name, block in self.blocks.items()}
        return scores

    def _score_by_protocol(self, protocol: Protocol, output: FloatImage, truth: FloatImage) -> dict[str, float]:
        if truth.shape[2] != protocol.num_channels:
            channels = f"{protocol.num_channels} channel{'s' if protocol.num_channels > 1 else ''}"
            raise ValueError(f"the protocol {protocol.name} scores images of {channels}, not {truth.shape[2]}")
        return protocol.score(output, truth, self.scale)

    def mean(self, scores: Sequence[Scores]) -> dict[str, float]:
        """Return the mean over images of each metric: a protocol's as leaderboards have it, the others as BasicSR.

        BasicSR adds one by one, so these must come in the order of the images for the same bits whoever computed them.
        """
        values = {name: [each[name] for each in scores] for name in self.names}
        return {
            name: reduce(operator.add, each, 0) / len(each) if name in self.blocks else mean_score(each)
            for name, each in values.items()
        }

    def problem_of_size(self, width: int, height: int) -> str | None:
        """Return why a result of this size cannot be scored, or None where it can be."""
        if self.protocol is not None and (problem := self._problem_of_protocol(self.protocol, width, height)):
            return problem
        return next(filter(None, (_problem_of_block(block, width, height) for block in self.blocks.values())), None)

    def _problem_of_protocol(self, protocol: Protocol, width: int, height: int) -> str | None:
        cropped = protocol.crop(height, width, self.scale)
        if cropped != (height, width):
            scored = f"{cropped[1]}x{cropped[0]}"
            return f"of which the protocol {protocol.name} scores {scored}: make inputs of that part"
        least = protocol.least_side(self.scale)
        if min(width, height) < least:
            return f"is too small for the protocol {protocol.name}: both sides need {least} pixels; take it out"
        return None


def _problem_of_block(block: Block, width: int, height: int) -> str | None:
    """Return why a metric of BasicSR's gives no number, or dies, at this size; None where it does not."""
    border = block.get("crop_border")
    if not isinstance(border, int):
        return None
    name = block["type"].removesuffix("_basicsr")
    if name == "calculate_niqe":  # the covariance of the features of blocks needs two of them
        across, down = ((side - 2 * border) // _NIQE_BLOCK for side in (width, height))
        enough, needs = across * down >= 2, f"it needs two blocks of {_NIQE_BLOCK}x{_NIQE_BLOCK}"
    else:
        least = (SSIM_WINDOW if name == "calculate_ssim" else 1) + 2 * border
        enough, needs = min(width, height) >= least, f"both sides need {least}"
    return None if enough else f"is too small for {block['type']}: {needs} pixels with its crop_border; take it out"


def tensor_to_image(image: Tensor) -> FloatImage:
    """Return (1, C, H, W) in RGB order, or of one channel, as (H, W, C) in BGR order."""
    pixels = image[0].detach().float().cpu().numpy().transpose(1, 2, 0)
    return np.ascontiguousarray(pixels[..., ::-1])
