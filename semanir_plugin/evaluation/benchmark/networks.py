"""Networks of option files, timed by turns: restorations of a photograph, or steps of training on patches."""

from __future__ import annotations

import inspect
import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from semanir_plugin.archs import input_channels
from semanir_plugin.atomic_io import write_atomic
from semanir_plugin.basicsr_host.data.pairing import find_images
from semanir_plugin.degradations import downsample_bicubic, least_side
from semanir_plugin.errors import UserError
from semanir_plugin.evaluation.benchmark.configurations import Configuration
from semanir_plugin.evaluation.benchmark.measuring import describe_machine, peak_mib, take_turns
from semanir_plugin.evaluation.profiling.attention_inputs import read_photo
from semanir_plugin.inference.images import decode_image
from semanir_plugin.inference.loading import build_network
from semanir_plugin.option_files import read_network, read_option_file
from semanir_plugin.path_safety import check_folder
from semanir_plugin.pixels import to_float

__all__ = ["BenchmarkArguments", "benchmark_option_files"]

ROW = "{name:28s} {speed:>9} {median:>10} {processor:>13} {ratio:>6} {memory:>8}"


@dataclass(frozen=True, kw_only=True)
class BenchmarkArguments:
    """What is measured, and how: the arguments of `basicsr benchmark`, whose help describes them."""

    files: Sequence[str]
    training: bool = False
    data: str | None = None
    size: tuple[int, int] = (64, 64)
    batch: int | None = None
    patch: int | None = None
    bf16: bool = False
    compile: bool = False
    device: str = "cpu"
    repeats: int = 9


@dataclass(frozen=True)
class Setup:
    """What a process needs to run a network: its options and an image, of a training also the truth."""

    file: str
    network: dict[str, Any]
    image: Tensor  # (B, C, h, w) in [0, 1]
    truth: Tensor | None
    bf16: bool
    compile: bool
    device: str

    def prepare(self) -> Callable[[], Any]:
        """Return a restoration or a step of training, ready to run."""
        net, image = self.build(), self.image.to(self.device)
        if self.truth is None:
            image = image[:, : input_channels(net)]
            return lambda: self._restore(net, image)
        optimizer, truth = torch.optim.Adam(net.parameters(), lr=1e-4), self.truth.to(self.device)
        return lambda: self._train(net, optimizer, image, truth)

    def build(self) -> nn.Module:
        """Return the network with random weights, compiled where that is asked for: ours by stages, others whole."""
        torch.manual_seed(0)
        net = build_network(self.network, self.file)
        ours = "compile_backend" in inspect.signature(type(net)).parameters
        if self.compile and ours:
            options = {key: value for key, value in self.network.items() if key != "type"}
            net = type(net)(**options | {"compile_backend": "inductor"})
        net = net.to(self.device).train(self.truth is not None)
        return torch.compile(net) if self.compile and not ours else net  # type: ignore[return-value]

    def _restore(self, net: nn.Module, image: Tensor) -> None:
        with torch.no_grad(), torch.autocast(self.device, torch.bfloat16, enabled=self.bf16):
            net(image)

    def _train(self, net: nn.Module, optimizer: torch.optim.Optimizer, image: Tensor, truth: Tensor) -> None:
        optimizer.zero_grad()
        with torch.autocast(self.device, torch.bfloat16, enabled=self.bf16):
            out = net(image)
        (out.float() - truth).abs().mean().backward()
        optimizer.step()


def benchmark_option_files(args: BenchmarkArguments, configurations: Sequence[Configuration], output: Path) -> None:
    """Time the networks of option files side by side, print a table, and write `benchmark.json` to a folder.

    Raises:
        UserError: A file is not right, of the data no such patches can be made, or the folder cannot be written.
    """
    setups = {Path(file).stem.removeprefix("train_"): make_setup(file, args) for file in args.files}
    check_folder(output)
    kind = "steps of training" if args.training else "restorations"
    print(
        f"{kind} in {'bf16' if args.bf16 else 'fp32'}{', compiled' if args.compile else ''}; ratio: of processor times"
    )
    rows = [row for each in configurations for row in each.run(measure, setups, args.repeats, args.device)]
    try:
        path = output / "benchmark.json"
        write_atomic(f"{json.dumps({'command': ' '.join(sys.argv), 'rows': rows}, indent=2)}\n".encode(), path)
    except OSError as error:
        raise UserError(f"{output}: cannot write there: {error.strerror}; choose another folder") from error
    print(f"Written to {path}")


def measure(setups: dict[str, Setup], repeats: int, device: str) -> list[dict[str, Any]]:
    """Time the networks by turns and print them; return a row for each."""
    machine = describe_machine(device)
    heads = {"speed": "images/s", "median": "median ms", "processor": "processor ms", "ratio": "ratio", "memory": "MiB"}
    print(machine, ROW.format(name="network", **heads), sep="\n", flush=True)
    rows: list[dict[str, Any]] = []
    times = take_turns([setup.prepare() for setup in setups.values()], repeats, device)
    for (name, setup), each in zip(setups.items(), times, strict=True):
        row = {"name": name, "machine": machine, "image": list(setup.image.shape), **each._asdict()}
        row["images_per_second"] = 1000 * len(setup.image) / each.median
        rows.append({**row, "mib": peak_mib(setup.prepare, (), device)})
        print(_format(rows[-1], rows[0]), flush=True)
    return rows


def _format(row: dict[str, Any], first: dict[str, Any]) -> str:
    return ROW.format(
        name=row["name"],
        speed=f"{row['images_per_second']:.2f}",
        median=f"{row['median']:.1f}",
        processor=f"{row['processor']:.1f}",
        ratio=f"{row['processor'] / first['processor']:.2f}",
        memory="-" if row["mib"] is None else f"{row['mib']:.0f}",
    )


def make_setup(file: str, args: BenchmarkArguments) -> Setup:
    """Return what is needed to run the network of an option file.

    Raises:
        UserError: The file is not right, or of the data no such patches can be made.
    """
    network = read_network(file)
    how = (args.bf16, args.compile, args.device)
    if not args.training:
        return Setup(file, network, read_photo(*args.size, None if args.data is None else Path(args.data)), None, *how)
    if args.data is None:
        raise UserError("patches to train on are cut from photographs: give --data FOLDER")
    options = read_option_file(file).data
    dataset = options.get("datasets", {}).get("train", {})
    batch, patch = args.batch or dataset.get("batch_size_per_gpu"), args.patch or dataset.get("gt_size")
    if not (batch and patch):
        raise UserError(f"{file}: names no batch_size_per_gpu and gt_size; give --batch and --patch")
    truth, image = read_pairs(args.data, batch, patch, options.get("scale", 1))
    return Setup(file, network, image, truth, *how)


def read_pairs(folder: str, batch: int, side: int, scale: int) -> tuple[Tensor, Tensor]:
    """Return patches of different photographs, (B, 3, side, side) in [0, 1], and the same made smaller by the scale.

    Raises:
        UserError: There are too few photographs, or one of them or the patch is too small.
    """
    photos = [decode_image(path.read_bytes(), "color") for path in sorted(find_images(folder))[:batch]]
    if len(photos) < batch or any(min(photo.shape[:2]) < side for photo in photos):
        raise UserError(f"{folder}: has no {batch} photographs of {side} x {side} pixels; give --batch or --patch")
    if side % scale or side < least_side(scale):
        raise UserError(f"patches of {side} cannot be made smaller by {scale}; give --patch a multiple of it")
    truths = [photo[:side, :side] for photo in photos]
    inputs = truths if scale == 1 else [to_float(downsample_bicubic(truth, scale)) for truth in truths]
    truth, image = (torch.from_numpy(np.stack(each)).permute(0, 3, 1, 2).contiguous() for each in (truths, inputs))
    return truth, image
