"""Options completed as BasicSR's models, datasets and loggers expect them; stands in for `basicsr.utils.options`."""

from __future__ import annotations

import os
import random
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from basicsr.utils.dist_util import get_dist_info
from basicsr.utils.registry import DATASET_REGISTRY, MODEL_REGISTRY

from semanir_plugin.basicsr_host.engine.declared import ModelKeys, dataset_kinds
from semanir_plugin.basicsr_host.engine.sections import OF_ANY_MODEL, RunOptions
from semanir_plugin.option_files import FILE_KEYS, OptionFile, copy_options
from semanir_plugin.schema.declarations import complete

__all__ = ["adaptations", "resolve_options"]


def resolve_options(
    option_file: OptionFile,
    *,
    is_train: bool,
    root: str | os.PathLike[str],
    launcher: str = "none",
    auto_resume: bool = False,
    debug: bool = False,
) -> dict[str, Any]:
    """Return the options as BasicSR's models, datasets and loggers expect them, with all defaults and paths filled in.

    Args:
        option_file: Validated options.
        is_train: Whether to train or to test.
        root: Folder under which `experiments`, `results` and `tb_logger` are made, unless the file says otherwise.
        launcher: `none`, `pytorch` or `slurm`; where distributed, the process group must exist already.
        auto_resume: Whether to continue from the newest training state of the experiment.
        debug: Name the experiment `debug_*`: frequent validation and checkpoints, no TensorBoard.
    """
    opt: dict[str, Any] = copy_options(option_file.data)
    opt.update(is_train=is_train, auto_resume=auto_resume, root_path=str(root))
    _complete(opt)
    rank, world_size = get_dist_info()
    opt.update(dist=launcher != "none", rank=rank, world_size=world_size, num_gpu=_count_gpus(opt["num_gpu"]))
    if opt.get("manual_seed") is None:
        opt["manual_seed"] = _sample_seed(world_size)
    if debug and not opt["name"].startswith("debug"):
        opt["name"] = f"debug_{opt['name']}"
    if is_train and "debug" in opt["name"]:
        _shorten_intervals(opt)
    _fill_datasets(opt)
    _fill_paths(opt, Path(root))
    return opt


def _count_gpus(asked: int | str) -> int:
    """Return the number of GPUs that are used, of those that are there; 0, as for BasicSR, is the CPU."""
    available = torch.cuda.device_count()
    return available if asked == "auto" else min(int(asked), available)


def adaptations(option_file: OptionFile, opt: Mapping[str, Any]) -> Iterator[str]:
    """Yield a line for what a run does otherwise than its file asks for, for want of GPUs.

    Args:
        option_file: What `opt` was made of.
        opt: Resolved options.
    """
    if line := _missing_gpus(option_file, opt):
        yield line
    backend = (opt.get("dist_params") or {}).get("backend")
    if opt["dist"] and backend not in (None, used := torch.distributed.get_backend()):
        where = option_file.where(("dist_params", "backend"))
        yield f"{where}: dist_params: backend '{backend}' is for another device; processes exchange by {used}"


def _missing_gpus(option_file: OptionFile, opt: Mapping[str, Any]) -> str | None:
    """Return a line where there are others than the file counts in all processes, and so another batch size."""
    asked, here = option_file.data.get("num_gpu"), opt["world_size"] if opt["dist"] else opt["num_gpu"]
    if asked in (None, "auto", 0, here):
        return None
    found = f"{here or 'none'} found" if not opt["dist"] else f"{here} processes started"
    line = f"{option_file.where(('num_gpu',))}: num_gpu: GPUs asked for: {asked}, {found}"
    line += "; the CPU is used" if not opt["num_gpu"] else ""
    size = opt["datasets"].get("train", {}).get("batch_size_per_gpu")
    if size is None or asked == max(here, 1):
        return line
    return f"{line}; batches are of {size * max(here, 1)}, not {size * asked}, as batch_size_per_gpu stays {size}"


def _sample_seed(world_size: int) -> int:
    seed = [random.randint(1, 10000)]
    if world_size > 1:  # the order of the training images must be the same on all
        torch.distributed.broadcast_object_list(seed)
    return seed[0]


def _complete(opt: dict[str, Any]) -> None:
    """Give each section the form and the defaults of its declarations; what is null counts as absent."""
    opt.update(complete(opt, RunOptions))
    keys = ModelKeys(MODEL_REGISTRY.get(opt["model_type"]))
    for name, engine in OF_ANY_MODEL.items():
        if opt.get(name) is not None or name in ("path", "logger") or (name == "val" and not opt["is_train"]):
            opt[name] = complete(opt.get(name) or {}, engine, *keys.declared(name))
    if opt.get("val") is not None:
        opt["val"].setdefault("suffix", None)  # which the host reads without a default of its own
    opt["datasets"] = {phase: each for phase, each in opt["datasets"].items() if each is not None}
    for phase, dataset in opt["datasets"].items():
        kinds = dataset_kinds(DATASET_REGISTRY.get(dataset["type"]), training=phase == "train")
        opt["datasets"][phase] = complete(dataset, *kinds)


def _shorten_intervals(opt: dict[str, Any]) -> None:
    """Log, save and validate often, as BasicSR does to debug."""
    opt["logger"].update(print_freq=1, save_checkpoint_freq=8)
    if opt.get("val") is not None:
        opt["val"]["val_freq"] = 8


def _fill_datasets(opt: dict[str, Any]) -> None:
    for phase, dataset in opt["datasets"].items():
        defaults = {"name": phase, "io_backend": {"type": "disk"}}
        dataset.update({key: value for key, value in defaults.items() if dataset.get(key) is None})
        dataset["phase"] = phase.partition("_")[0]  # val_1, val_2, ... are one phase
        if dataset.get("pin_memory") and not torch.cuda.is_available():
            dataset["pin_memory"] = False  # torch would warn that it does nothing
        if "scale" in opt:
            dataset["scale"] = opt["scale"]
        if "gt_sizes" in dataset:
            dataset["gt_size"] = max(dataset["gt_sizes"])  # for what is built or checked for all phases
        for section in filter(None, [dataset, *(dataset.get("sources") or {}).values()]):
            for key, value in section.items():
                if key.startswith(FILE_KEYS):
                    section[key] = _expand(value)


def _expand(value: Any) -> Any:
    """Return a path, or a list of them, with `~` for the user's folder written out."""
    if isinstance(value, list):
        return [_expand(each) for each in value]
    return os.path.expanduser(value) if isinstance(value, str) else value


def _fill_paths(opt: dict[str, Any], root: Path) -> None:
    """Set the folders of this run: all of them lie under `root`, or under the folder the file names."""
    path = opt["path"] = {key: _expand(value) for key, value in opt["path"].items()}
    folder = "experiments" if opt["is_train"] else "results"
    parent = path.get(f"{folder}_root")
    run = Path(parent or root / folder) / opt["name"]
    path[f"{folder}_root"] = path["log"] = str(run)
    path["visualization"] = str(run / "visualization")
    if opt["is_train"]:
        path["models"] = str(run / "models")
        path["training_states"] = str(run / "training_states")
        path["tb_logger"] = str(Path(parent or root) / "tb_logger" / opt["name"])
