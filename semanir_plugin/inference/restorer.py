"""A trained network that restores images of any kind and size."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeVar, overload

import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn

from semanir_plugin.archs.descriptor import NetworkDescriptor
from semanir_plugin.inference.image_kinds import check_tensor, to_kind_of, to_photograph
from semanir_plugin.inference.photograph_restoration import PhotographRestoration
from semanir_plugin.inference.restoration import Restoration
from semanir_plugin.inference.tiling import Progress, least_tile

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
        tile_overlap: int = 32,
        precision: str = "fp32",
        topk: int | None = None,
        self_ensemble: bool = False,
    ) -> PhotographRestoration:
        """Return a restoration of photographs with these settings.

        Args:
            tile: Side of the tiles in pixels of the image; "auto": as large as half of the free memory allows; None:
                images are restored whole.
            tile_overlap: Pixels that neighbouring tiles share.
            precision: "fp32", "bf16" or "fp16", what the network computes in.
            topk: Keys per query, for networks that choose keys; None: the network's own choice.
            self_ensemble: Whether to average all eight flips and turns, which takes eight times as long.

        Raises:
            ValueError: A setting does not go with the network, or with another.
        """
        told, name = self.descriptor, type(self.module).__name__
        if told.in_channels not in (1, 3) or told.out_channels != told.in_channels:
            channels = f"{told.in_channels} channels to {told.out_channels}"
            raise ValueError(f"{name} maps images of {channels}; images have 1 or 3, before and after")
        if topk is not None and told.topk is None:
            raise ValueError(f"topk is for networks that choose keys, which {name} does not; leave it out")
        if precision not in PRECISIONS or (precision != "fp32" and not told.half_precision):
            known = list(PRECISIONS) if told.half_precision else ["fp32"]
            raise ValueError(f"precision must be one of {known} for {name}, not {precision!r}")
        least = least_tile(tile_overlap, told.size.multiple_of) - told.size.multiple_of + 1
        if isinstance(tile, int) and tile < least:
            raise ValueError(f"a tile of {tile} leaves no room beside an overlap of {tile_overlap}; use {least}")
        restoration = Restoration(
            descriptor=told,
            topk=topk,
            tile=tile,
            tile_overlap=tile_overlap,
            self_ensemble=self_ensemble,
            precision=PRECISIONS[precision],
        )
        return PhotographRestoration(restoration, self.module, self.device)

    def _restore_tensor(self, image: Tensor, restoration: Restoration, progress: Progress | None) -> Tensor:
        check_tensor(image, self.descriptor.in_channels)
        bands = restoration.restore_in_rows(self.module, image.float(), device=self.device, progress=progress)
        return torch.cat(list(bands), dim=-2).clamp(0, 1).to(image)
