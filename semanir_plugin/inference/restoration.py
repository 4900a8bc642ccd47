"""Restore an image of any size by a network: whole or in tiles, once or as a self-ensemble."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from functools import partial
from typing import Annotated, Any, Literal

import torch
from torch import Tensor, nn

from semanir_plugin.archs.descriptor import NetworkDescriptor
from semanir_plugin.blocks.padding import crop_to
from semanir_plugin.inference.reduced_precision import reduced_precision
from semanir_plugin.inference.self_ensemble import restore_eight_ways
from semanir_plugin.inference.tile_memory import PROBE, largest_tile
from semanir_plugin.inference.tile_sources import TileSource, as_source
from semanir_plugin.inference.tiling import Progress, least_tile, restore_in_rows, restore_tiled
from semanir_plugin.schema.values import Count, FromZero, Range

__all__ = ["Restoration", "RestorationOptions"]

Problem = tuple[str, str]  # an option, and what is wrong with it
Restore = Callable[[Tensor], Tensor]

_OVERLAP = 32  # pixels, where options say none

_logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class RestorationOptions:
    """How images of any size are restored: in `val`, by `basicsr restore`, `Restorer.restore` and in leaderboards.

    Attributes:
        topk: Keys per query, for networks that choose keys; null: the network's own choice.
        tile: Side of the tiles in pixels of the input, rounded up to what the network's windows need; `auto`: as large
            as half of the memory that is free at the first image of more than 128 pixels allows; null: images are
            restored whole.
        tile_overlap: Pixels of the input that neighbouring tiles share at least; null: 32.
        self_ensemble: Whether to average what becomes of an image, or of each tile, flipped and turned in all eight
            ways, which takes eight times as long.
    """

    topk: Count | None = None
    tile: Literal["auto"] | Annotated[int, Range(least=1)] | None = None
    tile_overlap: FromZero | None = None
    self_ensemble: bool = False

    @property
    def overlap(self) -> int:
        """Pixels that neighbouring tiles share."""
        return _OVERLAP if self.tile_overlap is None else self.tile_overlap

    def problems(self) -> Iterator[Problem]:
        """Yield the problems of values that contradict one another, whatever the network."""
        if self.tile_overlap is not None and self.tile is None:
            yield "tile_overlap", "tile_overlap needs tile: a number, or auto"
        yield from self._tile_problems(multiple_of=1)

    def problems_with(self, descriptor: NetworkDescriptor, name: str) -> Iterator[Problem]:
        """Yield what does not go with a network, of which messages speak by `name`."""
        if self.topk is not None and descriptor.topk is None:
            yield "topk", f"topk is for networks that choose keys, which {name} does not; leave it out"
        yield from self._tile_problems(descriptor.size.multiple_of)

    def _tile_problems(self, multiple_of: int) -> Iterator[Problem]:
        least = least_tile(self.overlap, multiple_of) - multiple_of + 1
        if isinstance(self.tile, int) and self.tile < least:
            cure = f"use {least}, better {2 * least}, or a smaller tile_overlap"
            yield "tile", f"a tile of {self.tile} leaves no room beside an overlap of {self.overlap}; {cure}"


@dataclass(kw_only=True)
class Restoration:
    """Restores images of any size by a network that takes certain sizes.

    Attributes:
        descriptor: The network's scale, channels and sizes.
        options: Options that go with it and with one another; see their `problems` and `problems_with`.
        precision: Dtype of the network's computation where autocast allows it; None: that of its weights.
    """

    descriptor: NetworkDescriptor = field(default_factory=NetworkDescriptor)
    options: RestorationOptions = field(default_factory=RestorationOptions)
    precision: torch.dtype | None = None
    _auto_tile: int | None = field(default=None, init=False)

    @property
    def multiple_of(self) -> int:
        """Pixels that sides and positions of tiles are multiples of."""
        return self.descriptor.size.multiple_of

    @property
    def tile_taken(self) -> int | None:
        """Side of the tiles in use; None: images are restored whole, or "auto" has not chosen yet."""
        return self._auto_tile if self.options.tile == "auto" else self.options.tile

    @torch.no_grad()
    def restore(self, net: nn.Module, image: Tensor, *, progress: Progress | None = None) -> Tensor:
        """Restore a batch of images.

        Args:
            net: Maps (B, C, h, w) to (B, C', s * h, s * w) with some whole s.
            image: (B, C, H, W) where the network is.
            progress: Called with the number of tiles done and of all tiles; a whole image is one.

        Returns:
            (B, C', s * H, s * W) where the network is; on the CPU where it was put together of tiles.

        Raises:
            UserError: Of "auto" tiles, memory cannot be measured here.
        """
        forward = self._forward(net)
        if self.options.tile is None:
            return self._restore_whole(forward, image, progress)
        source = as_source(image.cpu())
        return restore_tiled(forward, source, **self._tiling(forward, source, image.device), progress=progress)

    def restore_in_rows(
        self,
        net: nn.Module,
        image: Tensor | TileSource,
        *,
        device: torch.device | str,
        held: int = 0,
        progress: Progress | None = None,
    ) -> Iterator[Tensor]:
        """Yield the restored image from top to bottom, in bands of which only one need be in memory.

        Args:
            net: As of `restore`.
            image: (B, C, H, W), on the CPU; of tiles, only one at a time goes to the device.
            device: Where the network is.
            held: Bytes of the result that the caller keeps until it is whole, which `tile="auto"` leaves free.
            progress: As of `restore`.

        Yields:
            (B, C', h, s * W), whose h add up to s * H, on the CPU; a single one where images are restored whole.

        Raises:
            UserError: As `restore`.
        """
        forward, source = self._forward(net), as_source(image)
        if self.options.tile is None:
            whole = source.cut(*(torch.arange(size) for size in source.shape[-2:]))
            yield self._restore_whole(forward, whole.to(device), progress).cpu()
            return
        tiling = self._tiling(forward, source, torch.device(device), held)
        yield from restore_in_rows(forward, source, **tiling, progress=progress)

    def largest_tile(
        self, net: nn.Module, image: TileSource, *, device: torch.device | str, held: int | None = None
    ) -> int:
        """Return the side of the largest tile that half of the free memory allows; arguments of `restore_in_rows`."""
        limits = {"overlap": self.options.overlap, "multiple_of": self.multiple_of}
        return largest_tile(self._forward(net), image, device=device, held=held, **limits)

    def _forward(self, net: nn.Module) -> Restore:
        topk = self.options.topk
        forward = partial(self._feed, net, {} if topk is None else {"topk": topk})
        return partial(restore_eight_ways, forward) if self.options.self_ensemble else forward

    @torch.no_grad()
    def _feed(self, net: nn.Module, options: Mapping[str, Any], image: Tensor) -> Tensor:
        """Run a network on an image in the size, range and precision that it takes, and crop its output."""
        (black, white), (height, width) = self.descriptor.value_range, image.shape[-2:]
        padded = self.descriptor.size.pad(image)
        context: AbstractContextManager[Any] = nullcontext()
        if self.precision is not None:
            context = reduced_precision(net, image.device.type, self.precision)
        with context:
            output = net(padded if (black, white) == (0, 1) else padded * (white - black) + black, **options)
        scale = output.shape[-1] // padded.shape[-1]
        output = crop_to(output, height * scale, width * scale)
        return output if (black, white) == (0, 1) else (output - black) / (white - black)

    def _restore_whole(self, forward: Restore, image: Tensor, progress: Progress | None) -> Tensor:
        restored = forward(image)
        if progress is not None:
            progress(1, 1)
        return restored

    def _tiling(
        self, forward: Restore, source: TileSource, device: torch.device, held: int | None = None
    ) -> dict[str, Any]:
        """Return the keyword arguments of `restore_tiled`."""
        limits: dict[str, Any] = {
            "overlap": self.options.overlap,
            "multiple_of": self.multiple_of,
            "device": device,
        }
        return {"tile": self._choose_tile(forward, source, held, limits), **limits}

    def _choose_tile(self, forward: Restore, source: TileSource, held: int | None, limits: dict[str, Any]) -> int:
        if isinstance(self.options.tile, int):
            return self.options.tile
        if max(source.shape[-2:]) <= PROBE:
            return max(PROBE, least_tile(self.options.overlap, self.multiple_of))
        if self._auto_tile is None:  # once, so that all images of a run are treated alike
            self._auto_tile = largest_tile(forward, source, held=held, **limits)
            _logger.info(f"val.tile: auto; tiles of up to {self._auto_tile:,} pixels fit into free memory.")
        return self._auto_tile
