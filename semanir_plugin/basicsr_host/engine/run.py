"""Run set-up, shared by training and testing: from the command's arguments to datasets, a model and a folder."""

from __future__ import annotations

import logging
import os
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from basicsr.models import build_model
from basicsr.utils import get_env_info, get_time_str, set_random_seed
from basicsr.utils.dist_util import get_dist_info
from basicsr.utils.options import dict2str

from semanir_plugin.atomic_io import write_atomic
from semanir_plugin.basicsr_host.data.checks import check_datasets
from semanir_plugin.basicsr_host.data.guarded_dataset import GuardedDataset
from semanir_plugin.basicsr_host.data.joined_dataset import build_joined
from semanir_plugin.basicsr_host.engine.deterministic import log_workspace, make_deterministic
from semanir_plugin.basicsr_host.engine.distributed import init_distributed, read_timeout
from semanir_plugin.basicsr_host.engine.fork_options import take_fork_options
from semanir_plugin.basicsr_host.engine.log import log_to_file, start_logging
from semanir_plugin.basicsr_host.engine.options import adaptations, resolve_options
from semanir_plugin.basicsr_host.engine.shared_levels import share_levels
from semanir_plugin.basicsr_host.engine.training_as_test import as_test
from semanir_plugin.basicsr_host.engine.validation import validate_options
from semanir_plugin.errors import UserError, one_line
from semanir_plugin.extensions import import_for
from semanir_plugin.option_files import OptionFile, copy_options, load_options, read_option_file, self_contained_text
from semanir_plugin.path_safety import check_inside

__all__ = [
    "Run",
    "RunArguments",
    "build_guarded_dataset",
    "build_run_model",
    "open_run_folder",
    "read_run_options",
    "start_run",
]


@dataclass(frozen=True)
class RunArguments:
    """The flags of `basicsr train` and `basicsr test`.

    Attributes:
        opt: The option file.
        launcher: "none", "pytorch" or "slurm".
        auto_resume: Continue from the newest training state of the experiment.
        debug: Short intervals, and an experiment name that starts with `debug_`.
        force_yml: Overrides of the form `section:key=value`.
    """

    opt: str
    launcher: str = "none"
    auto_resume: bool = False
    debug: bool = False
    force_yml: Sequence[str] = ()


@dataclass(frozen=True)
class Run:
    """Checked options and a logger; nothing is written yet.

    Attributes:
        file: The option file with its overrides.
        opt: The options as BasicSR's parts expect them.
        logger: BasicSR's logger.
        train_options: The section `train` with all defaults, of which models take what they use out of `opt`.
    """

    file: OptionFile
    opt: dict[str, Any]
    logger: logging.Logger
    train_options: dict[str, Any]


def start_run(args: RunArguments, *, is_train: bool) -> Run:
    """Read and check everything that can be checked before any work.

    Raises:
        UserError: The options or the data are not right.
    """
    file = read_run_options(args.opt, args.force_yml, is_train=is_train)
    warnings = [*file.warnings, *validate_options(file, is_train=is_train)]
    if file.data.get("deterministic"):
        make_deterministic()  # before anything starts CUDA
    port = (file.data.get("dist_params") or {}).get("port")
    init_distributed(args.launcher, port=port, timeout=read_timeout(file.data))
    logger = start_logging(get_dist_info()[0])
    if file.recipe:
        logger.info(f"{file.path} is {file.recipe}.")
    for warning in warnings:
        logger.warning(warning)
    opt = resolve_options(
        file,
        is_train=is_train,
        root=Path.cwd(),
        launcher=args.launcher,
        auto_resume=args.auto_resume,
        debug=args.debug,
    )
    for line in adaptations(file, opt):
        logger.warning(line)
    check_datasets(opt, file.where, resuming=_is_resumed(opt))
    set_random_seed(opt["manual_seed"] + opt["rank"])
    torch.backends.cudnn.benchmark = not torch.are_deterministic_algorithms_enabled()
    if opt.get("deterministic"):
        log_workspace()
    return Run(file, opt, logger, copy_options(opt.get("train") or {}))


def read_run_options(path: str | os.PathLike[str], force_yml: Sequence[str] = (), *, is_train: bool) -> OptionFile:
    """Read the option file of a training or of a test, with everything in its place, to be validated.

    What it imports is imported, since what stands in other sections depends on the classes that they name.

    Raises:
        UserError: A file cannot be read, or its parts do not fit together.
    """
    file = read_option_file(path, force_yml)
    file = replace(file, warnings=tuple(import_for(file)))
    return share_levels(take_fork_options(file) if is_train else as_test(file))


def _is_resumed(opt: Mapping[str, Any]) -> bool:
    if not opt["is_train"]:
        return False
    saved = opt["auto_resume"] and any(Path(opt["path"]["training_states"]).glob("*.state"))
    return bool(saved or opt["path"].get("resume_state"))


def build_guarded_dataset(dataset_opt: Mapping[str, Any]) -> GuardedDataset:
    """Build a dataset of any registered type.

    Raises:
        UserError: The dataset refuses its options, or is empty.
    """
    name = dataset_opt["name"]
    try:
        dataset = GuardedDataset(build_joined(dataset_opt))
    except Exception as error:
        raise UserError(f"dataset '{name}': {dataset_opt['type']} cannot be built: {_reason(error)}") from error
    if len(dataset) == 0:
        raise UserError(f"dataset '{name}' is empty; check its dataroot")
    return dataset


def build_run_model(run: Run) -> Any:
    """Build the model with its networks, losses and weights.

    Raises:
        UserError: The network, a loss or the optimiser refuses its options, or the weights do not fit.
    """
    try:
        return build_model(run.opt)
    except UserError:
        raise
    except Exception as error:  # whatever a constructor raises, its options are what the user can mend
        raise UserError(f"{run.file.path}: {run.opt['model_type']} cannot be built: {_reason(error)}") from error


def _reason(error: Exception) -> str:
    """Say why a constructor failed; the host's read options that validation cannot know to be needed."""
    if isinstance(error, KeyError) and str(error.args[0]).isidentifier():
        return f"it needs '{error.args[0]}', which is missing"
    if isinstance(error, FileNotFoundError) and error.filename:
        return f"no such file: {error.filename}"
    return one_line(error)


def open_run_folder(run: Run, *, resumed: bool = False) -> None:
    """Make the folders of the run, copy the options there and start the log file; all processes wait for it.

    What an earlier run of the same name left is kept: its folder gets `_archived_` and the time appended.

    Raises:
        UserError: The folders cannot be made, or a link of an earlier run leads out of them.
    """
    try:
        if run.opt["rank"] == 0:
            _open_run_folder(run, resumed)
    except OSError as error:
        raise UserError(f"cannot write to {error.filename}: {error.strerror}; choose path.experiments_root") from error
    if run.opt["dist"]:
        dist.barrier()  # else images of another process would be set aside with what an earlier run left


def _open_run_folder(run: Run, resumed: bool) -> None:
    is_train = run.opt["is_train"]
    paths = run.opt["path"]
    folder = Path(paths["experiments_root" if is_train else "results_root"])
    if not resumed:
        for path in [folder, *([Path(paths["tb_logger"])] if is_train else [])]:
            _archive(path, run.logger)
    for key in ("models", "training_states", "visualization") if is_train else ("visualization",):
        check_inside(Path(paths[key]), folder)
        Path(paths[key]).mkdir(parents=True, exist_ok=True)
    command = " ".join(sys.argv)
    header = f"# {time.asctime()}\n# {command}\n\n"
    text = self_contained_text(load_options(run.file.path))
    write_atomic((header + text).encode(), folder / run.file.path.name)
    log_to_file(run.logger, folder / f"{'train' if is_train else 'test'}_{run.opt['name']}_{get_time_str()}.log")
    run.logger.info(get_env_info().rpartition("Version Information: ")[2].strip())
    run.logger.debug(dict2str(run.opt))


def _archive(folder: Path, logger: logging.Logger) -> None:
    if folder.exists():
        archived = folder.with_name(f"{folder.name}_archived_{get_time_str()}")
        folder.rename(archived)
        logger.info(f"{folder} is of an earlier run; kept as {archived}")
