"""How large the tiles of an image may be for the memory that is free."""

from __future__ import annotations

import ctypes
import gc
import math
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from torch import Tensor

from semanir_plugin.blocks.sizes import pad_to_multiple
from semanir_plugin.errors import UserError
from semanir_plugin.inference.tiling import least_tile

__all__ = ["PROBE", "free_memory", "largest_tile", "peak_memory"]

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
    image: Tensor,
    *,
    overlap: int,
    multiple_of: int = 1,
    free: int | None = None,
) -> int:
    """Return the side of the largest tile that half of the free memory allows.

    A corner of the image is restored and its peak measured. Memory is taken to grow with the area: an overestimate for
    networks that work in windows or patches, and an underestimate for those whose pixels all see one another.

    Args:
        restore: As of `restore_tiled`.
        image: The image, (B, C, H, W), where tiles are restored.
        overlap: As of `restore_tiled`.
        multiple_of: As of `restore_tiled`.
        free: Bytes that are free; None: as `free_memory` says, less the restored image where that will lie there too.

    Returns:
        A multiple of `multiple_of`, at least the smallest that can overlap so.

    Raises:
        UserError: Memory cannot be measured here.
    """
    side, device = -(-PROBE // multiple_of) * multiple_of, image.device
    probe = pad_to_multiple(image[..., :side, :side], multiple_of)
    enlargement = restore(probe).numel() / probe.numel()  # and what is set up once is set up
    peak = max(peak_memory(lambda: restore(probe), device), math.ceil((1 + enlargement) * _bytes(probe)))
    if free is None:
        free = free_memory(device) - (0 if device.type == "cuda" else math.ceil(enlargement * _bytes(image)))
    pixels = max(free, 0) / 2 / (peak / (probe.shape[-2] * probe.shape[-1]))
    return max(least_tile(overlap, multiple_of), math.isqrt(int(pixels)) // multiple_of * multiple_of)


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
    """Yield what each control group around this process leaves it."""
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
    """Return what is freed but kept by glibc to the system, else a call that takes it again seems to need nothing."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)


def _kib(path: str, key: str) -> int:
    return int(Path(path).read_text().partition(f"{key}:")[2].split()[0])


def _bytes(image: Tensor) -> int:
    return image.numel() * max(image.element_size(), 4)
