"""Options of `SemanIRModel` in the sections `train` and `val`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, Literal

from semanir_plugin.basicsr_host.data.dataset_options import Problem
from semanir_plugin.inference.restoration import RestorationOptions
from semanir_plugin.schema.values import Count, Positive

__all__ = ["EXTRA_LOSSES", "SemanIRTrainingOptions", "SemanIRValidationOptions"]

EXTRA_LOSSES = {"fft_opt": "l_fft", "ssim_opt": "l_ssim", "distill_opt": "l_distill"}
"""Options of losses that the host does not have, and their names in logs."""


@dataclass(frozen=True, kw_only=True)
class SemanIRTrainingOptions:
    """Options of the section `train` for `SemanIRModel`, beyond what every model has.

    Attributes:
        amp: Precision of the forward pass, `bf16`, or `fp16` with loss scaling on CUDA; null: that of the weights.
        grad_clip: Largest L2 norm of the gradients; null: any.
        mixup: MixUp (Zhang et al., ICLR 2018): each sample becomes a mean of itself and another of its batch, in a
            share drawn from the Beta distribution of this parameter; null: off.
        accumulation_steps: Parts in which a batch passes the network, to save memory; the step is the same.
        ema_warmup: Whether averages of the weights begin short: in iteration t they keep (1 + t) / (10 + t) of
            themselves, and no more than `ema_decay`, as TensorFlow's do. What weights began as is forgotten sooner.
        fft_opt: Section of a loss that is added to the others, such as `FFTLoss`; null: none.
        ssim_opt: Section of one more, such as `SSIMLoss`; null: none.
        distill_opt: Section of a loss that is added, between the network's results and those of `teacher`
            (distillation, Hinton et al., 2015), such as `L1Loss`; null: none.
        teacher: Weights of the network for `distill_opt`, as a rule a larger one: a file, those that come with this
            package by their name, or a repository of the Hugging Face hub.
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
    ema_warmup: bool = False
    fft_opt: Mapping[str, Any] | None = None
    ssim_opt: Mapping[str, Any] | None = None
    distill_opt: Mapping[str, Any] | None = None
    teacher: str | None = None
    max_nan_steps: Count = 10
    zero_redundancy: bool = False
    channels_last: bool = False


@dataclass(frozen=True, kw_only=True)
class SemanIRValidationOptions(RestorationOptions):
    """Options of the section `val` for `SemanIRModel`.

    Attributes:
        topk: Keys per query, for networks that choose keys; a list in a test: each is scored. Null: the network's own.
    """

    topk: Count | Sequence[Count] | None = None  # type: ignore[assignment]  # more than images are restored with

    def problems(self) -> Iterator[Problem]:
        """Yield the problems of values that contradict one another."""
        if self.topk == []:
            yield "topk", "topk must list one number or more, not []"
        yield from super().problems()

    @property
    def first(self) -> RestorationOptions:
        """Options to restore with, of several `topk` the largest."""
        values = {each.name: getattr(self, each.name) for each in fields(RestorationOptions)}
        return RestorationOptions(**{**values, "topk": max(self.topk) if isinstance(self.topk, list) else self.topk})
