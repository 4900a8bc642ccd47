"""Options that datasets share, and options given as one number or as a range."""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal, TypeVar

from semanir_plugin.schema.declarations import ToTrain, pick_options
from semanir_plugin.schema.values import Count, Range

__all__ = [
    "CleanImageOptions",
    "LoaderOptions",
    "PairedImageOptions",
    "PatchOptions",
    "Problem",
    "SingleImageOptions",
    "check_range",
    "read_options",
    "sample_integer",
    "sample_uniform",
]

Problem = tuple[str, str]  # an option, and what is wrong with it


Options = TypeVar("Options", bound="PatchOptions")


@dataclass(frozen=True, kw_only=True)
class LoaderOptions:
    """Options of every dataset, read where it is loaded.

    Attributes:
        type: Class of the dataset.
        name: Of the dataset, for people and folders; by default that of its section.
        phase: Set to that of the section, whatever it is.
        scale: Set to that of the top level, where that is given.
        io_backend: Section whose `type` is `disk` or `lmdb`.
        use_shuffle: Taken as BasicSR has it: training always shuffles, and scoring never does.
        dataset_enlarge_ratio: Taken as BasicSR has it, and not needed: trainings end by iterations.
        batch_size_per_gpu: Samples of each process in an iteration.
        num_worker_per_gpu: Processes that read ahead of each training process; 0: it reads itself.
        pin_memory: Whether batches go through memory from which GPUs can copy them faster.
        persistent_workers: Whether workers live on from one pass over the data to the next.
        prefetch_mode: Where batches wait: `cuda` copies the next one to the GPU ahead, `cpu` reads ahead in a thread.
        num_prefetch_queue: Batches that wait with `cpu`.
    """

    type: str
    name: str | None = None
    phase: str | None = None
    scale: Count | None = None
    io_backend: Mapping[str, Any] | None = None
    use_shuffle: bool = True
    dataset_enlarge_ratio: Count | Literal["auto"] = 1
    batch_size_per_gpu: Annotated[Annotated[int, Range(least=1, most=100_000)] | None, ToTrain()] = None
    num_worker_per_gpu: Annotated[int, Range(least=0, most=1000)] = 0
    pin_memory: bool = False
    persistent_workers: bool = False
    prefetch_mode: Literal["cpu", "cuda"] | None = None
    num_prefetch_queue: Count = 1


@dataclass(frozen=True, kw_only=True)
class PatchOptions:
    """Options of datasets that cut patches out of images, in training.

    Attributes:
        gt_size: Side of the patches of ground truth in pixels, a multiple of the scale.
        use_hflip: Whether patches are flipped at random.
        use_rot: Whether they are turned at random.
    """

    gt_size: Annotated[Count | None, ToTrain()] = None
    use_hflip: Annotated[bool | None, ToTrain()] = None
    use_rot: Annotated[bool | None, ToTrain()] = None

    def phase_problems(self, *, training: bool) -> Iterable[Problem]:
        """Yield the problems of values whose types are right, in training or else where images are scored."""
        return ()


@dataclass(frozen=True, kw_only=True)
class CleanImageOptions(PatchOptions):
    """Options of datasets that degrade clean images.

    Attributes:
        dataroot_gt: Folder of images, or LMDB; to train also a list of them.
        meta_info_file: Lists the images to read, one per line; by default all are read.
    """

    dataroot_gt: str | Sequence[str]
    meta_info_file: str | Sequence[str] | None = None


@dataclass(frozen=True, kw_only=True)
class PairedImageOptions(CleanImageOptions):
    """Options of BasicSR's `PairedImageDataset`.

    Attributes:
        dataroot_lq: Folder or LMDB of the inputs, or a list as that of `dataroot_gt`.
        filename_tmpl: Name of an input, `{}` being that of its ground truth.
        color: `y` for the Y of YCbCr alone.
        mean: Subtracted from each channel.
        std: Each channel is divided by it.
    """

    dataroot_lq: str | Sequence[str]
    filename_tmpl: str = "{}"
    color: Literal["y"] | None = None
    mean: Sequence[float] | None = None
    std: Sequence[float] | None = None


@dataclass(frozen=True, kw_only=True)
class SingleImageOptions:
    """Options of BasicSR's `SingleImageDataset`.

    Attributes:
        dataroot_lq: Folder or LMDB of the inputs.
        meta_info_file: Lists the images to read, one per line; by default all are read.
        color: `y` for the Y of YCbCr alone.
        mean: Subtracted from each channel.
        std: Each channel is divided by it.
    """

    dataroot_lq: str
    meta_info_file: str | None = None
    color: Literal["y"] | None = None
    mean: Sequence[float] | None = None
    std: Sequence[float] | None = None


def read_options(kind: type[Options], opt: Mapping[str, Any]) -> Options:
    """Return the options of one schema from those of a dataset, checked.

    Raises:
        ValueError: A value cannot be right.
    """
    options = pick_options(kind, opt)
    for _, problem in options.phase_problems(training=opt["phase"] == "train"):
        raise ValueError(problem)
    return options


def check_range(name: str, value: Any, *, least: float, most: float, training: bool) -> Iterator[Problem]:
    """Yield the problems of a number or [low, high]: its form, its limits, or that scores need one number."""
    ends = value if isinstance(value, Sequence) else [value, value]
    if len(ends) != 2 or ends[0] > ends[1]:
        yield name, f"{name} must be one number or [low, high], not {value}"
    elif not least <= ends[0] <= ends[1] <= most:
        yield name, f"{name} must lie from {least} to {most}, not {value}"
    elif isinstance(value, Sequence) and not training:
        yield name, f"{name} must be one number where images are scored, not {value}; add a dataset for each"


def sample_uniform(value: float | Sequence[float]) -> float:
    """Sample uniformly from [low, high], with Python's global generator; one number is itself."""
    return random.uniform(*value) if isinstance(value, Sequence) else value


def sample_integer(value: int | Sequence[int]) -> int:
    """Sample an integer of [low, high], both included; one number is itself."""
    return random.randint(*value) if isinstance(value, Sequence) else value
