"""Run an exported network beside PyTorch: by how much they differ, and how long each takes."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from semanir_plugin.archs.descriptor import NetworkDescriptor
from semanir_plugin.errors import UserError, one_line
from semanir_plugin.export.formats.interface import Run

__all__ = ["LEAST_PSNR", "Comparison", "check_sizes", "compare", "picture"]

LEAST_PSNR = 60.0
"""dB between a file's result and PyTorch's; less is another network."""

ENOUGH = 0.5
"""Seconds after which no more runs are timed; there are at least three, and at most a hundred."""

LEAST_SIDE = 8
"""Of windows; what needs smaller multiples works in none."""

Size = tuple[int, int]
Image = NDArray[np.float32]


@dataclass(frozen=True)
class Comparison:
    """A file's result beside PyTorch's, on one image.

    Attributes:
        size: Height and width of the image.
        runtime: What ran the file.
        difference: Largest difference of two values, of [0, 1].
        psnr: Of the result against PyTorch's, in dB; infinite where they are equal.
        seconds: Least processor time of the file's runs, on one thread.
        torch_seconds: Of PyTorch's, with the kernels of this package.
    """

    size: Size
    runtime: str
    difference: float
    psnr: float
    seconds: float
    torch_seconds: float


def check_sizes(descriptor: NetworkDescriptor) -> tuple[Size, Size]:
    """Return two sizes to check a network of any size on: a single row of windows, and several; none of them whole."""
    multiple = descriptor.size.multiple_of
    side = multiple if multiple >= LEAST_SIDE else -(-2 * LEAST_SIDE // multiple) * multiple
    return (side - 1, 2 * side + 3), (3 * side + 1, 2 * side - 1)


def compare(
    reference: Callable[[torch.Tensor], torch.Tensor], runtimes: Mapping[str, Run], images: Sequence[Image]
) -> list[Comparison]:
    """Return how each runtime does on each image, beside PyTorch.

    Args:
        reference: Restores (1, C, H, W) as this package does.
        runtimes: What runs the file, by name.
        images: (1, C, H, W) in [0, 1].

    Raises:
        UserError: One fails, or gives another result: less than 60 dB, or no numbers.
    """

    def run_torch(image: Image) -> Image:
        restored: Image = reference(torch.from_numpy(image)).numpy()
        return restored

    with _one_thread():
        return [_compare(name, run, run_torch, image) for image in images for name, run in runtimes.items()]


def picture(channels: int, size: Size, seed: int = 0) -> Image:
    """Return an image that is neither noise nor flat, of waves, edges and some grain: (1, channels, H, W) in [0, 1]."""
    random = np.random.default_rng(seed)
    y, x = np.meshgrid(*(np.arange(each) / 16 for each in size), indexing="ij")
    angles = random.uniform(0, 2 * math.pi, (channels, 3, 1, 1))
    turned = np.cos(angles) * x + np.sin(angles) * y  # (channels, 3, H, W)
    waves = np.sin(turned * np.array([0.7, 2.3, 5.9])[:, None, None] + angles).mean(1)
    edges = np.sign(np.sin(turned[:, 0] + 1))
    image = 0.5 + 0.25 * waves + 0.15 * edges + random.normal(0, 0.02, waves.shape)
    return np.ascontiguousarray(image[None].clip(0, 1), dtype=np.float32)


@contextmanager
def _one_thread() -> Iterator[None]:
    """Within the block, PyTorch has one thread, as the runtimes have: several wait for each other on a busy machine."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def _compare(name: str, run: Run, run_torch: Run, image: Image) -> Comparison:
    size = (image.shape[2], image.shape[3])
    expected = run_torch(image)
    try:
        restored = run(image)
    except Exception as error:  # whatever a runtime raises
        raise UserError(f"the file fails in {name} on {size[0]} x {size[1]} pixels: {one_line(error)}") from error
    difference, psnr = _differ(restored, expected)
    if not psnr >= LEAST_PSNR:
        told = f"{psnr:.1f} dB beside PyTorch's result, the least is {LEAST_PSNR:.0f}"
        raise UserError(f"the file is wrong in {name}: on {size[0]} x {size[1]} pixels {told}; nothing was written")
    seconds, torch_seconds = _times(run, run_torch, image)
    return Comparison(size, name, difference, psnr, seconds, torch_seconds)


def _differ(restored: NDArray[Any], expected: NDArray[Any]) -> tuple[float, float]:
    """Return the largest difference and the PSNR; of another shape, or no numbers, the PSNR is none."""
    if restored.shape != expected.shape:
        return math.inf, -math.inf
    differences = restored.astype(np.float64) - expected
    error = float((differences**2).mean())
    return float(np.abs(differences).max()), -10 * math.log10(error) if error else math.inf


def _times(run: Run, other: Run, image: Image) -> tuple[float, float]:
    """Return the least processor times of two that take turns."""
    least = [math.inf, math.inf]
    end = time.perf_counter() + ENOUGH
    for repeat in range(100):
        if repeat >= 3 and time.perf_counter() > end:
            break
        for index, each in enumerate((run, other)):
            start = time.process_time()
            each(image)
            least[index] = min(least[index], time.process_time() - start)
    return least[0], least[1]
