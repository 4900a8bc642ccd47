"""Stage 3: training steps of our networks and of BasicSR's, in images per second, and their longest kernels."""

from __future__ import annotations

import argparse
import inspect
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from basicsr.archs import build_network
from basicsr.utils.registry import ARCH_REGISTRY
from bootstrap import ROOT
from torch import Tensor
from trainings.files import read_yaml

from gpu_stages.cases import Case
from gpu_stages.clock import peak_mib, top_kernels
from gpu_stages.journal import Row
from gpu_stages.sizes import Sizes

__all__ = ["cases"]

PHOTOS = ("astronaut.png", "chelsea.png", "coffee.png", "rocket.jpg")
SWINIR = {"embed_dim": 180, "depths": [6] * 6, "num_heads": [6] * 6, "upsampler": "pixelshuffle"}


@dataclass(frozen=True)
class Network:
    """Network to train.

    Attributes:
        recipe: Option file whose `network_g` it is.
        patch: Side of its inputs, as a multiple of `Sizes.patch`.
        changes: To the recipe's network.
        small: Changes of a dry run on a CPU.
    """

    recipe: str
    patch: int = 1
    changes: dict[str, Any] = field(default_factory=dict)
    small: dict[str, Any] = field(default_factory=dict)


SMALL_COLUMN = {"embed_dim": 8, "depths": [1], "num_heads": [2], "window_size": 8}
SMALL_UNET = {"embed_dim": 8, "head_dim": 4, "depths": [1, 1], "refinement_depth": 1, "window_sizes": [8, 4]}
NETWORKS = {
    "SemanIR-light": Network("SemanIR_light_SRx4", small=SMALL_COLUMN | {"topk": 12}),
    "SwinIR-light": Network("SwinIR_light_SRx4", small=SMALL_COLUMN),
    "SemanIR-S": Network("SemanIR_SRx4", small=SMALL_COLUMN | {"topk": 12}),
    "SwinIR": Network("SwinIR_light_SRx4", changes=SWINIR, small=SMALL_COLUMN),
    "SemanIRUNet": Network("SemanIRUNet_color_DN25", patch=2, small=SMALL_UNET),
    "AST-B": Network("AST_B_derain_SPAD", patch=2, small={"embed_dim": 4, "depths": [1] * 9}),
}


def cases(sizes: Sizes, _: argparse.Namespace) -> Iterator[Case]:
    """Yield the cases, the most valuable first; compiling takes longest, and comes last."""
    for compiled, batch, name in product((False, True), sizes.batches, NETWORKS):
        if compiled and sizes.small:
            return
        label = f"{name} batch {batch}{' compiled' if compiled else ''}"
        measure = partial(_time, sizes, NETWORKS[name], batch, compiled)
        # A small batch launches the same kernels as a large one.
        warms = batch == sizes.batches[-1] and not compiled
        yield Case(label, measure, seconds=90 if compiled else 45, compiles=warms)


def _time(sizes: Sizes, network: Network, batch: int, compiled: bool) -> Iterator[Row]:
    start = time.perf_counter()
    step = _prepare(sizes, network, batch, compiled)
    step()
    _wait(sizes)
    first = time.perf_counter() - start
    seconds = _seconds_per_step(step, sizes)
    yield {"images_per_second": batch / seconds, "ms": 1000 * seconds, "first_step_s": round(first, 1)}
    yield {"mib": peak_mib(step, sizes)}
    yield {"kernels": top_kernels(step, sizes)}


def _seconds_per_step(step: Callable[[], None], sizes: Sizes) -> float:
    """Return the time of a step among others, the host's part included where the device waits for it."""
    step()
    _wait(sizes)
    start = time.perf_counter()
    for _ in range(sizes.steps):
        step()
    _wait(sizes)
    return (time.perf_counter() - start) / sizes.steps


def _wait(sizes: Sizes) -> None:
    if sizes.device == "cuda":
        torch.cuda.synchronize()


def _prepare(sizes: Sizes, network: Network, batch: int, compiled: bool) -> Callable[[], None]:
    """Return a step as the recipes train: bf16, channels last, Adam in one kernel."""
    options = read_yaml(ROOT / "options" / f"train_{network.recipe}.yml")
    net = _build({**options["network_g"], **network.changes, **(network.small if sizes.small else {})}, compiled)
    net = net.to(device=sizes.device, memory_format=torch.channels_last).train()
    optimizer = torch.optim.Adam(net.parameters(), lr=1e-4, fused=True)
    truth = _patches(batch, sizes.patch * network.patch * options.get("scale", 1))
    image = F.interpolate(truth, scale_factor=1 / options.get("scale", 1), mode="bicubic", antialias=True)
    truth, image = (x.to(sizes.device, memory_format=torch.channels_last) for x in (truth, image))

    def step() -> None:
        optimizer.zero_grad()
        with torch.autocast(sizes.device, torch.bfloat16):
            out = net(image)
        (out.float() - truth).abs().mean().backward()
        optimizer.step()

    return step


def _build(options: dict[str, Any], compiled: bool) -> Any:
    """Return a network with random weights, compiled by stages where it is ours, else whole."""
    torch.manual_seed(0)
    ours = "compile_backend" in inspect.signature(ARCH_REGISTRY.get(options["type"])).parameters
    if compiled and ours:
        options["compile_backend"] = "inductor"
    net = build_network(options)
    return torch.compile(net) if compiled and not ours else net


def _patches(batch: int, side: int) -> Tensor:
    """Return (B, 3, side, side) in [0, 1], of places in scikit-image's photographs."""
    import skimage
    from skimage.io import imread

    photos = [imread(Path(skimage.__file__).parent / "data" / name)[..., :3] for name in PHOTOS]
    patches = []
    for index in range(batch):
        photo = photos[index % len(photos)]
        top, left = ((37 * index) % (extent - side + 1) for extent in photo.shape[:2])
        patches.append(torch.from_numpy(photo[top : top + side, left : left + side].copy()))
    return torch.stack(patches).permute(0, 3, 1, 2) / 255
