"""Measure the memory of `basicsr restore --tile` beside its network, in bytes per pixel of the result; a line per case.

`python -m tests.inference.restoring_memory MEGAPIXELS SCALE.SUFFIX.BITS.CHANNELS ...`, in a process of its own; the
photographs are noise, which no file can pack.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import numpy as np
import torch

from semanir_plugin.inference.checkpoints import save_weights
from semanir_plugin.inference.loading import build_network
from semanir_plugin.inference.photographs import Photograph
from semanir_plugin.inference.restore_files import RestoreArguments, restore_files
from semanir_plugin.inference.tile_memory import peak_memory
from tests.inference.encoding import encode_photograph


def make(folder: Path, scale: int, suffix: str, bits: int, channels: int, pixels: float) -> RestoreArguments:
    """Write a network and a photograph whose result has about so many pixels."""
    options = {"type": "SRVGGNetCompact", "num_feat": 4, "num_conv": 1, "upscale": scale}
    save_weights(folder / "net.safetensors", build_network(options, folder), options)
    side = int((pixels / scale**2 / 12) ** 0.5)
    shape, dtype = (4 * side, 3 * side, channels), np.dtype(f"uint{bits}")
    samples = np.random.default_rng(0).integers(0, 2**bits, shape, dtype)
    opaque = channels in (1, 3)
    photograph = Photograph(samples) if opaque else Photograph(samples[..., :-1], samples[..., -1])
    path = folder / f"photo.{suffix}"
    path.write_bytes(encode_photograph(photograph, path.suffix))
    arguments = {"model": str(folder / "net.safetensors"), "tile": 128, "device": "cpu", "overwrite": True}
    return RestoreArguments(inputs=[str(path)], output=str(folder / "out"), **arguments)


def measure(case: str, megapixels: float) -> float:
    """Return the bytes per pixel of the result of a case."""
    scale, suffix, bits, channels = case.split(".")
    taken = []
    for pixels in (1e5, 1e6 * megapixels):  # first what is set up once
        with tempfile.TemporaryDirectory() as folder:
            arguments = make(Path(folder), int(scale), suffix, int(bits), int(channels), pixels)
            taken.append(
                peak_memory(lambda arguments=arguments: restore_files(arguments), torch.device("cpu")) / pixels
            )
    return taken[-1]


if __name__ == "__main__":
    torch.set_num_threads(1)
    for each in sys.argv[2:]:
        print(each, round(measure(each, float(sys.argv[1])), 1), flush=True)
