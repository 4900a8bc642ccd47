"""How a network restores an image of any size: whole or in tiles, once or eight ways."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Literal

import torch
from torch import Tensor, nn

from semanir_plugin.blocks.sizes import crop_to, pad_to_multiple
from semanir_plugin.errors import UserError
from semanir_plugin.inference.self_ensemble import restore_eight_ways
from semanir_plugin.inference.tile_memory import PROBE, largest_tile
from semanir_plugin.inference.tiling import least_tile, restore_tiled

__all__ = ["Restoration"]

Restore = Callable[[Tensor], Tensor]

_logger = logging.getLogger(__name__)


@dataclass(kw_only=True)
class Restoration:
    """Restores images by networks that take a certain multiple of pixels.

    Attributes:
        multiple_of: Pixels that height and width of what the network is given are multiples of.
        topk: Keys per query, for networks with a `topk`; None: the network's own choice.
        tile: Side of the tiles in pixels, rounded up to `multiple_of`; "auto": as large as half of the memory that is
            free at the first image of more than `tile_memory.PROBE` pixels allows; None: images are restored whole.
        tile_overlap: Pixels that neighbouring tiles share at least.
        self_ensemble: Whether to average what becomes of an image flipped and turned in all eight ways.
    """

    multiple_of: int = 1
    topk: int | None = None
    tile: int | Literal["auto"] | None = None
    tile_overlap: int = 32
    self_ensemble: bool = False
    _auto_tile: int | None = field(default=None, init=False)

    @torch.no_grad()
    def restore(self, net: nn.Module, image: Tensor) -> Tensor:
        """Restore a batch of images.

        Args:
            net: Maps (B, C, h, w) to (B, C', s * h, s * w) with some whole s.
            image: (B, C, H, W) where the network is.

        Returns:
            (B, C', s * H, s * W) where the network is; on the CPU where it was put together of tiles.

        Raises:
            UserError: The network has no `topk`, or tiles leave no room beside their overlap.
        """
        if self.topk is not None and not hasattr(net, "topk"):
            raise UserError(f"val.topk is set, but {type(net).__name__} has no top-k; remove it")
        forward = net if self.topk is None else partial(net, topk=self.topk)
        restore = partial(self._restore_whole if self.tile is None else self._restore_in_tiles, forward)
        return restore_eight_ways(restore, image) if self.self_ensemble else restore(image)

    def _restore_whole(self, forward: Restore, image: Tensor) -> Tensor:
        height, width = image.shape[-2:]
        padded = pad_to_multiple(image, self.multiple_of)
        output = forward(padded)
        scale = output.shape[-1] // padded.shape[-1]
        return crop_to(output, height * scale, width * scale)

    def _restore_in_tiles(self, forward: Restore, image: Tensor) -> Tensor:
        tile = self._choose_tile(forward, image)
        limits = {"overlap": self.tile_overlap, "multiple_of": self.multiple_of}
        return restore_tiled(forward, image.cpu(), tile=tile, device=image.device, **limits)

    def _choose_tile(self, forward: Restore, image: Tensor) -> int:
        least = least_tile(self.tile_overlap, self.multiple_of)
        if isinstance(self.tile, int):
            if self.tile <= least - self.multiple_of:
                raise UserError(
                    f"val.tile: {self.tile} leaves no room beside an overlap of {self.tile_overlap}: use {least}"
                )
            return self.tile
        if max(image.shape[-2:]) <= PROBE:
            return max(PROBE, least)
        if self._auto_tile is None:  # once, so that all images of a run are treated alike
            self._auto_tile = largest_tile(forward, image, overlap=self.tile_overlap, multiple_of=self.multiple_of)
            _logger.info(f"val.tile: auto; tiles of up to {self._auto_tile:,} pixels fit into free memory.")
        return self._auto_tile
