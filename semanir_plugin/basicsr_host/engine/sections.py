"""The engine's own sections of an option file; models, datasets, networks and losses declare theirs where they are."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from semanir_plugin.basicsr_host.data.dataset_options import Problem
from semanir_plugin.path_safety import can_name_file
from semanir_plugin.schema.values import Count, FromZero, Range

__all__ = [
    "OF_ANY_MODEL",
    "DistributedOptions",
    "LoggerOptions",
    "NetworkPathOptions",
    "PathOptions",
    "RunOptions",
    "TrainingOptions",
    "ValidationOptions",
    "WandbOptions",
]

_LONGEST_TIMEOUT = 7 * 24 * 60


@dataclass(frozen=True, kw_only=True)
class RunOptions:
    """Options at the top level of an option file for `basicsr train` and `basicsr test`.

    Attributes:
        name: Of the run, and of its folder.
        model_type: Model, which trains or tests the networks: `SemanIRModel`, or one of BasicSR.
        base: Option file, seen from this one or shipped, of everything that is not said here.
        scale: Factor between the sizes of ground truth and input; 1 where both have one size.
        imports: Packages of other people to import first; each must be installed, or named by `--import`.
        sigma: Noise level, or range, of the datasets that take one and have none of their own.
        quality: JPEG quality, or range, likewise.
        num_gpu: GPUs to use, of those that are there; 0: the CPU; `auto`: all there are.
        manual_seed: Seed of all random numbers; without, one is drawn and logged.
        deterministic: Whether a run on GPUs gives the same bits again, which takes more time.
        find_unused_parameters: Whether distributed training copes with weights that a step does not reach.
        datasets: A section for each: `train`, `val`, `val_2`, ... to train, `test_1`, `test_2`, ... to test; null
            leaves one out that a base has.
        path: Section of weights to start from, and of folders.
        train: Section of the training.
        val: Section of validation and testing.
        logger: Section of messages and checkpoints.
        dist_params: Section of distributed runs.
    """

    name: str
    model_type: str
    base: str | None = None
    scale: Count | None = None
    imports: Sequence[str] | None = None
    sigma: float | Sequence[float] | None = None
    quality: int | Sequence[int] | None = None
    num_gpu: Literal["auto"] | FromZero = "auto"
    manual_seed: Annotated[int, Range(least=0, below=2**32)] | None = None
    deterministic: bool = False
    find_unused_parameters: bool = False
    datasets: Mapping[str, Any]
    path: Mapping[str, Any] | None = None
    train: Mapping[str, Any] | None = None
    val: Mapping[str, Any] | None = None
    logger: Mapping[str, Any] | None = None
    dist_params: Mapping[str, Any] | None = None

    def problems(self) -> Iterator[Problem]:
        """Yield the problems of the values."""
        if not can_name_file(self.name):
            yield "name", f"name must be a string that can name a folder, not {self.name!r}"


@dataclass(frozen=True, kw_only=True)
class NetworkPathOptions:
    """Options of the section `path` for each network, with its label: `_g` of `network_g`.

    Attributes:
        pretrain_network: Checkpoint to start from, or to test; or a name of weights that come with the package.
        param_key: Entry of the checkpoint that has the weights: `params`, or `params_ema` of averaged ones.
        strict_load: Whether every weight must be there, and no other.
    """

    pretrain_network: str | None = None
    param_key: str | None = None
    strict_load: bool = True


@dataclass(frozen=True, kw_only=True)
class PathOptions:
    """Options of the section `path`.

    Attributes:
        resume_state: Training state to go on from; `--auto_resume` finds the newest one.
        ignore_resume_networks: Networks whose weights are not resumed.
        experiments_root: Folder in which each training has a folder; `experiments` if not set.
        results_root: Folder in which each test has a folder; `results` if not set.
    """

    resume_state: str | None = None
    ignore_resume_networks: Sequence[str] | None = None
    experiments_root: str | None = None
    results_root: str | None = None


@dataclass(frozen=True, kw_only=True)
class TrainingOptions:
    """Options of the section `train` that any model has.

    Attributes:
        total_iter: Iterations of the whole training.
        warmup_iter: Iterations in which the learning rate rises from 0; -1: none.
        optim_g: Section of the optimiser: any of `torch.optim`, or `MuonAdamW`, as `type`, with its options.
        scheduler: Section of the learning rate's schedule: one of BasicSR's or torch's as `type`, with its options.
        pixel_opt: Section of the loss between pixels; null: none.
        perceptual_opt: Section of the loss between features; null: none.
        ema_decay: Share of themselves that averaged weights keep in each iteration; 0: weights are not averaged.
        max_unreadable: Training images that may be unreadable before the training ends; by default one in a hundred.
    """

    total_iter: Count
    warmup_iter: Annotated[int, Range(least=-1)] = -1
    optim_g: Mapping[str, Any] | None = None
    scheduler: Mapping[str, Any] | None = None
    pixel_opt: Mapping[str, Any] | None = None
    perceptual_opt: Mapping[str, Any] | None = None
    ema_decay: Annotated[float, Range(least=0, below=1)] = 0
    max_unreadable: FromZero | None = None


@dataclass(frozen=True, kw_only=True)
class ValidationOptions:
    """Options of the section `val` that any model has.

    Attributes:
        val_freq: Iterations between validations.
        save_img: Whether restored images are saved.
        suffix: What follows `_` in the names of saved images of a test; by default the name of the run.
        pbar: Whether a bar shows the progress.
        metrics: A protocol's name, or a section for each metric, under a name of its own.
    """

    val_freq: Count | None = None
    save_img: bool = False
    suffix: str | int | float | None = None
    pbar: bool = False
    metrics: str | Mapping[str, Any] | None = None

    def problems(self) -> Iterator[Problem]:
        """Yield the problems of the values."""
        if self.suffix is not None and not can_name_file(str(self.suffix)):
            yield "suffix", f"suffix must be part of a name, without folders, not {self.suffix!r}"


@dataclass(frozen=True, kw_only=True)
class LoggerOptions:
    """Options of the section `logger`.

    Attributes:
        print_freq: Iterations between two lines of the log.
        save_checkpoint_freq: Iterations between checkpoints.
        save_checkpoint_seconds: Seconds after which a checkpoint is due in any case, in runs of one process.
        keep_checkpoints: Checkpoints that are kept, the newest; by default all.
        safetensors: Whether weights are also written as safetensors.
        use_tb_logger: Whether TensorBoard records are written.
        wandb: Section of Weights & Biases.
    """

    print_freq: Count = 100
    save_checkpoint_freq: Count = 5000
    save_checkpoint_seconds: Count | None = None
    keep_checkpoints: Count | None = None
    safetensors: bool = False
    use_tb_logger: bool = False
    wandb: Mapping[str, Any] | None = None


OF_ANY_MODEL: dict[str, type] = {
    "path": PathOptions,
    "train": TrainingOptions,
    "val": ValidationOptions,
    "logger": LoggerOptions,
}
"""What the engine declares of the sections that models read as well."""


@dataclass(frozen=True, kw_only=True)
class WandbOptions:
    """Options of the section `logger:wandb`.

    Attributes:
        project: Project that TensorBoard's records are uploaded to; by default none is.
        resume_id: Run to go on with.
    """

    project: str | None = None
    resume_id: str | None = None


@dataclass(frozen=True, kw_only=True)
class DistributedOptions:
    """Options of the section `dist_params`.

    Attributes:
        backend: Taken as BasicSR has it, and not needed: NCCL on GPUs, else gloo.
        port: Port of the first process, under Slurm; 29500, or MASTER_PORT, if not set.
        timeout: Minutes that a process waits for the others.
    """

    backend: str | None = None
    port: Annotated[int, Range(least=1, most=65535)] | None = None
    timeout: Annotated[float, Range(above=0, most=_LONGEST_TIMEOUT)] | None = None
