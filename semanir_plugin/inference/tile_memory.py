"""Find the largest tiles of an image that the free memory allows."""

from __future__ import annotations

import ctypes
import gc
import math
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from semanir_plugin.blocks.padding import pad_to_multiple
from semanir_plugin.errors import UserError
from semanir_plugin.inference.tile_sources import TileSource, as_source
from semanir_plugin.inference.tiling import least_tile

__all__ = ["PROBE", "TileCost", "free_memory", "keep_freed_memory", "largest_tile", "measure_tiles", "peak_memory"]

PROBE = 128
"""Side in pixels of the tile whose memory is measured, before it is rounded up to what the network needs."""

# Control groups, which containers and batch systems limit memory by, of both versions: controller, root, limit, usage.
_OWN_CGROUPS = "/proc/self/cgroup"
_CGROUPS = (
    ("", "/sys/fs/cgroup", "memory.max", "memory.current"),
    ("memory", "/sys/fs/cgroup/memory", "memory.limit_in_bytes", "memory.usage_in_bytes"),
)


@torch.no_grad()
def largest_tile(
    restore: Callable[[Tensor], Tensor],
    image: Tensor | TileSource,
    *,
    overlap: int,
    multiple_of: int = 1,
    device: torch.device | str | None = None,
    held: int | None = None,
    free: int | None = None,
) -> int:
    """Return the side of the largest tile that half of the free memory allows.

    A corner of the image is restored and its peak measured. Memory is taken to grow with the area: an overestimate for
    networks that work in windows or patches, and an underestimate for those whose pixels all see one another. Where
    the image lies, a row of tiles is counted as well, and what is held of the result.

    Args:
        restore: As of `restore_tiled`.
        image: The image, (B, C, H, W).
        overlap: As of `restore_tiled`.
        multiple_of: As of `restore_tiled`.
        device: As of `restore_tiled`.
        held: Bytes of the result that are kept until it is whole; None: all of it, in fp32.
        free: Bytes that are free wherever memory is taken, beside what is held; None: as `free_memory` says.

    Returns:
        A multiple of `multiple_of`, at least the smallest that can overlap so.

    Raises:
        UserError: Memory cannot be measured here.
    """
    source, where = as_source(image), torch.device(device or (image.device if isinstance(image, Tensor) else "cpu"))
    cost = measure_tiles(restore, source, multiple_of=multiple_of, device=where)
    if held is None:
        held = 4 * cost.values * math.prod(source.shape[-2:])
    on_host, on_device = (free, free) if free is not None else _free(where, held)
    return max(least_tile(overlap, multiple_of), cost.side(on_host, on_device) // multiple_of * multiple_of)


@dataclass(frozen=True)
class TileCost:
    """Memory for restoring an image in tiles, in bytes, beside the image and the result.

    Attributes:
        pixel: For each pixel of a tile, where tiles are restored.
        values: Values in the result per pixel of the image: channels times the square of the scale.
        width: Of the image, in pixels.
        together: Whether tiles are restored where the image lies.
    """

    pixel: float
    values: int
    width: int
    together: bool

    @property
    def row(self) -> float:
        """For each pixel of a tile's side, where the image lies: fp32, and as much again while rows change."""
        return 2 * 4 * self.values * self.width

    def peak(self, side: int) -> float:
        """Return the bytes that tiles of a side take, on host and device together."""
        return self.pixel * side**2 + self.row * side

    def side(self, host: int, device: int) -> int:
        """Return the side of the tiles that half of the free memory allows, of the host and of the device."""
        if self.together:
            return _root(min(host, device) / 2, self.pixel, self.row)
        return min(_root(device / 2, self.pixel, 0), _root(host / 2, 0, self.row))


def _root(budget: float, square: float, linear: float) -> int:
    """Return the largest whole x with `square * x**2 + linear * x` within the budget."""
    budget = max(budget, 0)
    return int(2 * budget / (linear + math.sqrt(linear**2 + 4 * square * budget)))


@torch.no_grad()
def measure_tiles(
    restore: Callable[[Tensor], Tensor], image: TileSource, *, multiple_of: int, device: torch.device
) -> TileCost:
    """Restore a corner of an image, of `PROBE` pixels a side, and return its cost; arguments of `restore_tiled`.

    Raises:
        UserError: Memory cannot be measured here.
    """
    side = -(-PROBE // multiple_of) * multiple_of
    corner = image.cut(*(torch.arange(min(size, side)) for size in image.shape[-2:]))
    probe = pad_to_multiple(corner.to(device), multiple_of)
    output = restore(probe)  # and what is set up once is set up
    pixels, values, least = probe[0, 0].numel(), output.numel(), _bytes(probe) + _bytes(output)
    del output
    peak = max(peak_memory(lambda: restore(probe), device), least)
    return TileCost(peak / pixels, values // pixels, image.shape[-1], device.type != "cuda")


def _free(device: torch.device, held: int) -> tuple[int, int]:
    """Return the free bytes on the host, less those `held` there, and on the device."""
    host = free_memory(torch.device("cpu")) - held
    return host, free_memory(device) if device.type == "cuda" else host


def peak_memory(run: Callable[[], object], device: torch.device) -> int:
    """Return by how many bytes a call raises the memory in use at its peak.

    On CUDA by PyTorch's allocator; else by the process's high-water mark, on Linux only.

    Raises:
        UserError: It cannot be measured here.
    """
    gc.collect()
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        run()
        return torch.cuda.max_memory_allocated(device) - before
    try:
        _give_back_unused()
        Path("/proc/self/clear_refs").write_text("5")  # the peak starts anew from what is in use
        before = _kib("/proc/self/status", "VmRSS")
        run()
        return (_kib("/proc/self/status", "VmHWM") - before) * 1024
    except OSError as error:
        raise UserError(f"val.tile: auto cannot measure memory here ({error}); give a number of pixels") from error


def free_memory(device: torch.device) -> int:
    """Return the bytes that can still be allocated: on CUDA, or on a Linux host within the limits of this process."""
    if device.type == "cuda":
        reserved = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return torch.cuda.mem_get_info(device)[0] + reserved
    try:
        return min([1024 * _kib("/proc/meminfo", "MemAvailable"), *_left_by_rlimit(), *_left_by_cgroups()])
    except OSError as error:
        raise UserError(f"val.tile: auto cannot read the free memory ({error}); give a number of pixels") from error


def _left_by_rlimit() -> Iterator[int]:
    import resource  # on Unix only

    limit = resource.getrlimit(resource.RLIMIT_AS)[0]
    if limit != resource.RLIM_INFINITY:
        yield limit - 1024 * _kib("/proc/self/status", "VmSize")


def _left_by_cgroups() -> Iterator[int]:
    """Yield the bytes that each control group around this process leaves it."""
    groups = [line.split(":", 2) for line in Path(_OWN_CGROUPS).read_text().splitlines()]
    for controller, root, limit, usage in _CGROUPS:
        for path in (path for _, controllers, path in groups if controller in controllers.split(",")):
            folder = Path(root, path.strip("/"))
            for each in (folder, *folder.parents):
                if each.is_relative_to(root) and (each / limit).is_file():
                    text = (each / limit).read_text().strip()
                    if text != "max":
                        yield int(text) - int((each / usage).read_text())


def _give_back_unused() -> None:
    """Return freed memory that glibc keeps to the system, or a call that reuses it would seem to need none."""
    try:
        trim = ctypes.CDLL(None).malloc_trim
    except (AttributeError, OSError, TypeError):  # another C library; Windows knows none of the process itself
        return
    trim(0)


# Of glibc's mallopt: from which size on blocks are mapped one by one, and how much may stay free at the heap's end.
_MMAP_THRESHOLD, _TRIM_THRESHOLD = -3, -1
_LARGEST_KEPT = 1 << 30


def keep_freed_memory() -> None:
    """Let the process keep what a tile has freed for the next one; without glibc, nothing changes.

    Nor does it where the environment tells glibc how to, by `MALLOC_MMAP_THRESHOLD_` or `MALLOC_TRIM_THRESHOLD_`.
    The system gives memory page by page, and fills each with zeros: at features of 40 MiB that is a tenth of the time.
    """
    if any(f"MALLOC_{each}_THRESHOLD_" in os.environ for each in ("MMAP", "TRIM")):
        return
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):
        return
    for limit in (_MMAP_THRESHOLD, _TRIM_THRESHOLD):
        mallopt(limit, _LARGEST_KEPT)


def _kib(path: str, key: str) -> int:
    value = Path(path).read_text().partition(f"{key}:")[2]
    if not value:
        raise OSError(f"{path} has no {key}")
    return int(value.split()[0])


def _bytes(image: Tensor) -> int:
    return image.numel() * max(image.element_size(), 4)
