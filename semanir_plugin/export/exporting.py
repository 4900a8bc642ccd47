"""Exporting pipeline of `basicsr export`: load, trace, write, check, and only then put the files in their place."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from semanir_plugin import __version__
from semanir_plugin.atomic_io import write_together
from semanir_plugin.errors import UserError, one_line, require_package
from semanir_plugin.export.checking import Comparison, check_sizes, compare, picture
from semanir_plugin.export.formats import FORMATS
from semanir_plugin.export.formats.interface import Files, Format
from semanir_plugin.export.lowering import LONGEST, PortableNetwork, bytes_per_pixel, restoration_of, trace, traced_size
from semanir_plugin.inference.loading import load
from semanir_plugin.inference.restorer import Restorer
from semanir_plugin.inference.shipped_weights import shipped_weights
from semanir_plugin.path_safety import check_target

__all__ = ["ExportArguments", "Exported", "export_network"]

Size = tuple[int, int]

OPSETS = range(18, 24)
"""Versions of ONNX's operators that PyTorch writes."""

LICENCE = "Apache-2.0"
"""Of weights that come with this package."""


@dataclass(frozen=True, kw_only=True)
class ExportArguments:
    """The flags of `basicsr export`.

    Attributes:
        model: A checkpoint, or the name of shipped weights.
        format: A key of `FORMATS`.
        output: The file; None: named after the model, in the working directory.
        opt: An option file whose `network_g` the checkpoint is of; None: the checkpoint says it.
        size: The one height and width that images have; None: they may have any.
        opset: Version of ONNX's operators; None: the format's own choice.
        topk: Keys per query; None: the network's own choice.
        overwrite: Whether a file that is there is replaced.
    """

    model: str
    format: str
    output: str | None = None
    opt: str | None = None
    size: Size | None = None
    opset: int | None = None
    topk: int | None = None
    overwrite: bool = False


@dataclass(frozen=True)
class Exported:
    """What became of a network.

    Attributes:
        paths: The files; the first is the one that programs are given.
        bytes_per_pixel: Memory that the graph takes for each pixel of the image.
        comparisons: How the file does beside PyTorch.
    """

    paths: tuple[Path, ...]
    bytes_per_pixel: int
    comparisons: tuple[Comparison, ...]


def export_network(args: ExportArguments) -> Exported:
    """Write a network to a file that needs nothing of this package, after checking what it restores.

    Raises:
        UserError: The arguments or the model are not right, a package is missing, the network cannot be exported, or
            the file does not restore as PyTorch does; nothing is written then.
    """
    target = FORMATS[args.format]
    paths = _plan(args, target)
    restorer = _load(args)
    network = PortableNetwork(restorer, args.topk)
    size = args.size or traced_size(restorer.descriptor)
    program = trace(network, restorer.descriptor.in_channels, size, free=args.size is None)
    memory = bytes_per_pixel(program, size)
    try:
        files = target.write(program, _about(args, restorer, memory), args.opset)
    except Exception as error:  # whatever an exporter raises
        what = f"{type(restorer.module).__name__} cannot be written as {args.format}"
        raise UserError(f"{what}: {one_line(error)[:LONGEST]}; take another --format") from error
    comparisons = _check(args, target, restorer, files)
    write_together(dict(zip(paths, files.values(), strict=True)))
    return Exported(paths, memory, tuple(comparisons))


def _plan(args: ExportArguments, target: Format) -> tuple[Path, ...]:
    """Return the paths of the files, after checking what can be checked before any work."""
    if args.opset is not None and not target.has_opset:
        raise UserError(f"--opset is a version of ONNX's operators, of which {args.format} has none; leave it out")
    if args.opset is not None and args.opset not in OPSETS:
        raise UserError(f"--opset must be from {OPSETS[0]} to {OPSETS[-1]}, not {args.opset}")
    for name in target.packages:
        require_package(name, f"--format {args.format}", "'semanir_plugin[export]'")
    suffix = target.suffixes[0]
    path = Path(args.output or f"{Path(args.model).stem}{suffix}")
    if path.suffix != suffix:
        raise UserError(f"-o {path}: files of {args.format} are called NAME{suffix}")
    paths = tuple(path.with_suffix(each) for each in target.suffixes)
    for each in paths:
        check_target(each)
        if each.exists() and not args.overwrite:
            raise UserError(f"{each} is there already; give --overwrite to replace it, or another -o")
    return paths


def _load(args: ExportArguments) -> Restorer:
    restorer = load(args.model, device="cpu", options=_read_options(args.opt))
    descriptor, name = restorer.descriptor, type(restorer.module).__name__
    options = restoration_of(descriptor, args.topk).options
    for _, problem in options.problems_with(descriptor, name):
        raise UserError(problem)
    if descriptor.size.square and args.size is None:
        raise UserError(f"{name} takes square images alone, which a file for any size cannot do; give --size HxW")
    return restorer


def _read_options(opt: str | None) -> dict[str, object] | None:
    if opt is None:
        return None
    from semanir_plugin.option_files import read_network  # with PyYAML, for this alone

    return read_network(opt)


def _about(args: ExportArguments, restorer: Restorer, memory: int) -> dict[str, str]:
    """Return what a file says of itself."""
    told = restorer.descriptor
    topk = args.topk or (max(told.topk) if told.topk else None)
    about = {
        "model": args.model if args.model in shipped_weights() else Path(args.model).name,
        "network": type(restorer.module).__name__,
        "network_g": json.dumps(dict(restorer.options)),
        "task": told.task,
        "scale": told.scale,
        "layout": "NCHW, N = 1",
        "channels": "RGB" if told.in_channels == 3 else "gray" if told.in_channels == 1 else told.in_channels,
        "value_range": "0 (black) to 1 (white), fp32; clip and round the result",
        "size": f"{args.size[0]} x {args.size[1]}" if args.size else "any height and width",
        "topk": topk,
        "bytes_per_pixel": memory,
        "licence": LICENCE if args.model in shipped_weights() else None,
        "written_by": f"semanir_plugin {__version__}",
    }
    return {key: str(value) for key, value in about.items() if value is not None}


def _check(args: ExportArguments, target: Format, restorer: Restorer, files: Files) -> Iterable[Comparison]:
    descriptor = restorer.descriptor
    sizes = check_sizes(descriptor) if args.size is None else (args.size, args.size)
    images = [picture(descriptor.in_channels, size, seed) for seed, size in enumerate(sizes)]
    restore = partial(restoration_of(descriptor, args.topk).restore, restorer.module)
    try:
        runtimes = target.runtimes(files)
    except Exception as error:  # whatever a runtime raises
        raise UserError(f"the file cannot be loaded: {one_line(error)[:LONGEST]}; nothing was written") from error
    return compare(restore, runtimes, images)
