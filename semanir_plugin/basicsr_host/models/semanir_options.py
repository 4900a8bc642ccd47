"""Options of `SemanIRModel` in the sections `train` and `val`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Annotated, Literal

from semanir_plugin.basicsr_host.data.dataset_options import Problem
from semanir_plugin.schema.values import Count, FromZero, Positive, Range

__all__ = ["SemanIRTrainingOptions", "SemanIRValidationOptions"]


@dataclass(frozen=True, kw_only=True)
class SemanIRTrainingOptions:
    """Options of the section `train` for `SemanIRModel`, beyond what every model has.

    Attributes:
        amp: Precision of the forward pass, `bf16`, or `fp16` with loss scaling on CUDA; null: that of the weights.
        grad_clip: Largest L2 norm of the gradients; null: any.
        mixup: MixUp (Zhang et al., ICLR 2018): each sample becomes a mean of itself and another of its batch, in a
            share drawn from the Beta distribution of this parameter; null: off.
        accumulation_steps: Parts in which a batch passes the network, to save memory; the step is the same.
        max_nan_steps: Steps in a row that are left out because their loss or gradients are not finite, before the
            training ends and names their images in `nonfinite_steps_<rank>.json`.
        zero_redundancy: Whether each of several processes keeps the optimiser's state of a part of the weights only
            (ZeRO-1).
        channels_last: Whether weights and images lie in memory with channels last, as convolutions on GPUs, and the
            way to tokens and back, are faster.
    """

    amp: Literal["bf16", "fp16", False] | None = None
    grad_clip: Positive | None = None
    mixup: Positive | None = None
    accumulation_steps: Count = 1
    max_nan_steps: Count = 10
    zero_redundancy: bool = False
    channels_last: bool = False


@dataclass(frozen=True, kw_only=True)
class SemanIRValidationOptions:
    """Options of the section `val` for `SemanIRModel`.

    Attributes:
        topk: Keys per query, for networks with a `topk`; a list in a test: each is scored. Null: the network's own.
        tile: Side in pixels of the tiles in which images are restored, rounded up to what the network's windows need;
            `auto`: as large as half of the free memory allows; null: images are restored whole.
        tile_overlap: Pixels that neighbouring tiles share at least; 32 by default.
        self_ensemble: Whether to average what becomes of an image flipped and turned in all eight ways.
    """

    topk: Count | Sequence[Count] | None = None
    tile: Literal["auto"] | Annotated[int, Range(least=1)] | None = None
    tile_overlap: FromZero | None = None
    self_ensemble: bool = False

    def problems(self) -> Iterator[Problem]:
        """Yield the problems of values that contradict one another."""
        if self.topk == []:
            yield "topk", "topk must list one number or more, not []"
        if self.tile_overlap is not None and self.tile is None:
            yield "tile_overlap", "tile_overlap needs tile: a number, or auto"
        if isinstance(self.tile, int) and (self.tile_overlap or 0) >= self.tile:
            yield "tile_overlap", f"tile_overlap {self.tile_overlap} must be less than tile {self.tile}"
