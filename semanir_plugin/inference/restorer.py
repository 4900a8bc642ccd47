"""A trained network that restores images of any kind and size."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import Any, Literal, TypeVar, overload

import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn

from semanir_plugin.archs.descriptor import NetworkDescriptor
from semanir_plugin.inference.image_kinds import check_tensor, to_kind_of, to_photograph
from semanir_plugin.inference.photograph_restoration import PhotographRestoration
from semanir_plugin.inference.restoration import Restoration, RestorationOptions
from semanir_plugin.inference.tiling import Progress
from semanir_plugin.schema.declarations import value_problems

__all__ = ["PRECISIONS", "Restorer"]

PRECISIONS = {"fp32": None, "bf16": torch.bfloat16, "fp16": torch.float16}

Same = TypeVar("Same", Image.Image, NDArray[Any], Tensor)


@dataclass(frozen=True)
class Restorer:
    """A network with its weights; `semanir_plugin.load` returns one.

    Attributes:
        module: The network, an ordinary module in evaluation mode.
        options: Those it was built from, as under `network_g` in an option file, `type` included.
        descriptor: Its scale, channels and sizes.
        device: Where it is.
    """

    module: nn.Module = field(repr=False)
    options: Mapping[str, Any] = field(repr=False)
    descriptor: NetworkDescriptor
    device: torch.device

    @overload
    def restore(self, image: str | Path, **settings: Any) -> Image.Image | NDArray[Any]: ...

    @overload
    def restore(self, image: Same, **settings: Any) -> Same: ...

    def restore(self, image: Any, *, progress: Progress | None = None, **settings: Any) -> Any:
        """Restore an image, and return it as the same kind of image.

        Args:
            image: One of

                - the path of a file; a PIL image comes back, or an array where the file has 16 bit;
                - a PIL image, gray or RGB, with or without transparency;
                - a NumPy array in RGB order, (H, W), (H, W, 3) or with opacity last (H, W, 4), of uint8, uint16, or
                  floats in [0, 1];
                - a tensor, (B, C, H, W) of floats in [0, 1], C as many as the network takes, anywhere.

                A gray image passes a network for colour as three equal channels. Transparency is enlarged alike.
            progress: Called with the number of tiles done and of all tiles.
            **settings: As of `configure`.

        Raises:
            ValueError: The image has another shape, other values or channels, or is empty; or a setting is wrong.
            UserError: The file cannot be opened.
        """
        how = self.configure(**settings)
        if isinstance(image, Tensor):
            return self._restore_tensor(image, how.restoration, progress)
        return to_kind_of(how.restore(to_photograph(image), progress=progress), image)

    def configure(
        self,
        *,
        tile: int | Literal["auto"] | None = None,
        tile_overlap: int | None = None,
        precision: str = "fp32",
        topk: int | None = None,
        self_ensemble: bool = False,
    ) -> PhotographRestoration:
        """Return a restoration of photographs with these settings.

        Args:
            tile: As of `RestorationOptions`.
            tile_overlap: As of `RestorationOptions`.
            precision: "fp32", "bf16" or "fp16", what the network computes in.
            topk: As of `RestorationOptions`.
            self_ensemble: As of `RestorationOptions`.

        Raises:
            ValueError: A setting does not go with the network, or with another.
        """
        told, name = self.descriptor, self.options.get("type", type(self.module).__name__)
        if told.in_channels not in (1, 3) or told.out_channels != told.in_channels:
            channels = f"{told.in_channels} channels to {told.out_channels}"
            raise ValueError(f"{name} maps images of {channels}; images have 1 or 3, before and after")
        if precision not in PRECISIONS or (precision != "fp32" and not told.half_precision):
            known = list(PRECISIONS) if told.half_precision else ["fp32"]
            raise ValueError(f"precision must be one of {known} for {name}, not {precision!r}")
        options = RestorationOptions(topk=topk, tile=tile, tile_overlap=tile_overlap, self_ensemble=self_ensemble)
        for _, problem in chain(value_problems(options), options.problems(), options.problems_with(told, name)):
            raise ValueError(problem)
        restoration = Restoration(descriptor=told, options=options, precision=PRECISIONS[precision])
        return PhotographRestoration(restoration, self.module, self.device)

    def _restore_tensor(self, image: Tensor, restoration: Restoration, progress: Progress | None) -> Tensor:
        check_tensor(image, self.descriptor.in_channels)
        bands = restoration.restore_in_rows(self.module, image.float(), device=self.device, progress=progress)
        return torch.cat(list(bands), dim=-2).clamp(0, 1).to(image)
