"""The restoring pipeline: photographs in, photographs out, by trained weights."""

from __future__ import annotations

import sys
import traceback
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Literal

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from tqdm import tqdm

from semanir_plugin.atomic_io import write_atomic
from semanir_plugin.errors import UserError, one_line, printable
from semanir_plugin.inference.devices import choose_device
from semanir_plugin.inference.loading import load
from semanir_plugin.inference.photographs import Photograph, decode_photograph, encode_photograph
from semanir_plugin.inference.restoration import Restoration
from semanir_plugin.inference.restore_plan import Job, plan_jobs
from semanir_plugin.inference.restorer import Restorer
from semanir_plugin.inference.tiling import least_tile
from semanir_plugin.option_files import read_network
from semanir_plugin.pixels import to_float

__all__ = ["PRECISIONS", "RestoreArguments", "restore_files", "restore_photograph"]

PRECISIONS = {"fp32": None, "bf16": torch.bfloat16, "fp16": torch.float16}

OUT_OF_MEMORY = ("out of memory", "can't allocate memory", "not enough memory")  # what torch's allocators say


@dataclass(frozen=True, kw_only=True)
class RestoreArguments:
    """The flags of `basicsr restore`.

    Attributes:
        inputs: Files, folders or patterns.
        output: A folder, or a file.
        model: A checkpoint, or the name of shipped weights.
        opt: An option file whose `network_g` the checkpoint is of; None: the checkpoint says it.
        tile: Side of the tiles in pixels of the input; "auto"; None: images are restored whole.
        tile_overlap: Pixels that neighbouring tiles share.
        precision: A key of `PRECISIONS`.
        topk: Keys per query; None: the network's own choice.
        self_ensemble: Whether to average all eight flips and turns.
        device: Where to restore; None: on a GPU where there is one.
        recursive: Whether folders within folders are searched.
        suffix: What names of results end with.
        overwrite: Whether results that are there are replaced.
        skip_existing: Whether photographs whose results are there are left out.
        debug: Whether failures show where they come from.
    """

    inputs: Sequence[str]
    output: str
    model: str
    opt: str | None = None
    tile: int | Literal["auto"] | None = None
    tile_overlap: int = 32
    precision: str = "fp32"
    topk: int | None = None
    self_ensemble: bool = False
    device: str | None = None
    recursive: bool = False
    suffix: str = ""
    overwrite: bool = False
    skip_existing: bool = False
    debug: bool = False


def restore_files(args: RestoreArguments) -> tuple[int, int]:
    """Restore photographs; those that cannot be are named on stderr, and do not end the run.

    Every result appears whole or not at all.

    Returns:
        How many were restored, and how many could not be.

    Raises:
        UserError: The arguments, the model or the names of the results are not right; nothing is restored then.
    """
    jobs = plan_jobs(
        args.inputs,
        args.output,
        recursive=args.recursive,
        suffix=args.suffix,
        overwrite=args.overwrite,
        skip_existing=args.skip_existing,
    )
    device = choose_device(args.device)
    options = None if args.opt is None else read_network(args.opt)
    built = load(args.model, device=device, options=options)
    channels = built.descriptor.in_channels
    restore = _prepare(args, built, device)
    failures = 0
    for job in tqdm(jobs, desc="Restoring", unit="image", disable=None):
        problem = _try_job(job, restore, channels, args)
        if problem:
            failures += 1
            tqdm.write(printable(f"{job.source}: {problem}"), file=sys.stderr)
    return len(jobs) - failures, failures


def restore_photograph(photograph: Photograph, restore: Callable[[Tensor], Tensor], channels: int) -> Photograph:
    """Restore a photograph in its own depth; what is not colour, its transparency, is only enlarged alike.

    A gray one passes a colour network as three equal channels, and the mean of what comes out is its result.

    Args:
        photograph: What to restore.
        restore: Maps (1, C, H, W) in [0, 1] to (1, C, s * H, s * W).
        channels: C, 1 or 3.

    Raises:
        ValueError: It has colours and the network has none, or the network made of it what is no number.
    """
    gray = photograph.pixels.shape[2] == 1
    if channels == 1 and not gray:
        raise ValueError("is in colour, but the network restores gray; convert it, or take a network for colour")
    image = torch.from_numpy(to_float(photograph.pixels)).permute(2, 0, 1)[None]
    restored = restore(image.expand(-1, channels, -1, -1))[0].float().cpu()
    if not restored.isfinite().all():
        raise ValueError("the network made infinite values of it; give --precision fp32")
    if gray:
        restored = restored.mean(0, keepdim=True)
    pixels = _round(restored.permute(1, 2, 0).numpy(), photograph.pixels.dtype)
    return replace(photograph, pixels=pixels, alpha=_enlarge(photograph.alpha, *pixels.shape[:2]))


def _round(image: NDArray[Any], dtype: Any) -> NDArray[Any]:
    whole = np.iinfo(dtype).max
    return np.clip(np.round(image.astype(np.float64) * whole), 0, whole).astype(dtype)


def _enlarge(alpha: NDArray[Any] | None, height: int, width: int) -> NDArray[Any] | None:
    if alpha is None or alpha.shape == (height, width):
        return alpha
    return _round(cv2.resize(to_float(alpha), (width, height), interpolation=cv2.INTER_CUBIC), alpha.dtype)


def _try_job(job: Job, restore: Callable[[Tensor], Tensor], channels: int, args: RestoreArguments) -> str | None:
    """Restore one photograph; return what went wrong, if anything did: no failure of one ends the others."""
    try:
        restored = restore_photograph(decode_photograph(job.source.read_bytes()), restore, channels)
        job.target.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(encode_photograph(restored, job.target.suffix.lower()), job.target)
    except OSError as error:
        return f"{error.strerror or error}; check {error.filename or job.source}"
    except Exception as error:
        if args.debug:
            traceback.print_exc()
        return _memory_cure(args.tile) if _is_out_of_memory(error) else one_line(error)
    return None


def _is_out_of_memory(error: Exception) -> bool:
    if isinstance(error, torch.cuda.OutOfMemoryError):
        torch.cuda.empty_cache()
        return True
    return isinstance(error, MemoryError) or any(words in str(error).lower() for words in OUT_OF_MEMORY)


def _memory_cure(tile: int | str | None) -> str:
    if tile is None:
        return "needs more memory than there is; restore it in tiles: --tile auto, or --tile 256"
    return "needs more memory than there is; give a smaller --tile"


def _prepare(args: RestoreArguments, built: Restorer, device: torch.device) -> Callable[[Tensor], Tensor]:
    """Return what maps (1, C, H, W) on the CPU to its restoration.

    Raises:
        UserError: Flags do not go with the network.
    """
    network, told = built.module, built.descriptor
    name, multiple, channels = type(network).__name__, told.size.multiple_of, told.in_channels
    if channels not in (1, 3):
        raise UserError(f"{name} takes images of {channels} channels; photographs have 1 or 3")
    if args.topk is not None and told.topk is None:
        raise UserError(f"--topk is for networks that choose keys, which {name} does not; leave it out")
    least = least_tile(args.tile_overlap, multiple) - multiple + 1
    if isinstance(args.tile, int) and args.tile < least:
        raise UserError(f"--tile {args.tile} leaves no room beside --tile-overlap {args.tile_overlap}; use {least}")
    restoration = Restoration(
        multiple_of=multiple,
        topk=args.topk,
        tile=args.tile,
        tile_overlap=args.tile_overlap,
        self_ensemble=args.self_ensemble,
    )
    return partial(_restore, restoration, network, device, PRECISIONS[args.precision])


def _restore(
    restoration: Restoration, network: torch.nn.Module, device: torch.device, dtype: torch.dtype | None, image: Tensor
) -> Tensor:
    autocast: AbstractContextManager[Any] = nullcontext() if dtype is None else torch.autocast(device.type, dtype)
    with torch.inference_mode(), autocast:
        return restoration.restore(network, image.to(device))
