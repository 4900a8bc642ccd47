"""Option files in BasicSR's format: read, overridden and completed.

Stands in for `basicsr.utils.options`, whose YAML loader constructs arbitrary Python objects and whose `--force_yml` is
executed. Here nothing in a file or on the command line is ever run.
"""

from __future__ import annotations

import os
import random
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
import yaml
from basicsr.utils.dist_util import get_dist_info

from semanir_plugin.errors import UserError

__all__ = ["COUNTS", "COUNT_LISTS", "FILE_KEYS", "OptionFile", "apply_overrides", "load_options", "resolve_options"]

Keys = tuple[str, ...]

COUNTS: dict[str, dict[str, int]] = {
    "": {"scale": 1, "manual_seed": 0},
    "datasets": {
        **{"batch_size_per_gpu": 1, "num_worker_per_gpu": 0, "num_prefetch_queue": 1, "gt_size": 1},
        **{"gt_sizes": 1, "batch_sizes_per_gpu": 1, "iters": 1},
    },
    "train": {"total_iter": 1, "warmup_iter": -1, "accumulation_steps": 1, "max_nan_steps": 1, "max_unreadable": 0},
    "val": {"val_freq": 1, "topk": 1, "tile_overlap": 0},
    "logger": {"print_freq": 1, "save_checkpoint_freq": 1, "save_checkpoint_seconds": 1, "keep_checkpoints": 1},
}
"""Options that are whole numbers, with their least value: of the top level, each dataset, and the sections.

Recipes often write them as floats (`!!float 5e3`). What `COUNT_LISTS` names may be, or is, a list of them.
"""
COUNT_LISTS = {"gt_sizes", "batch_sizes_per_gpu", "iters", "topk"}

FILE_KEYS = ("dataroot", "meta_info", "lq_cache")
"""What options of datasets that are paths start with."""

_MAX_NODES = 100_000
_MAX_BYTES = 256 << 10  # some seconds of parsing; our own files have 5 KB
_MAX_INTEGER = 2**63  # which nothing takes, and which cannot always be printed


@dataclass(frozen=True)
class OptionFile:
    """What an option file says, and where it says it.

    Attributes:
        path: The file, as the user named it.
        data: Its content: nested dicts, lists and scalars, none of them shared.
        places: For each key path, `file:line` or the command line flag that set it.
    """

    path: Path
    data: dict[str, Any]
    places: dict[Keys, str] = field(default_factory=dict)

    def where(self, keys: Keys) -> str:
        """Return the place of a key path, or of the nearest enclosing section that stands in the file."""
        ends = range(len(keys), 0, -1)
        return next((self.places[keys[:end]] for end in ends if keys[:end] in self.places), str(self.path))


class _OptionLoader(yaml.SafeLoader):
    """YAML's safe loader, plus YAML 1.2's floats: `1e-4` is a number, not a string."""

    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:
        try:
            value = super().construct_object(node, deep)
        except (ValueError, AttributeError) as error:  # a tag that does not fit its text, as in `!!float fast`
            raise _marked(f"'{node.value}' is not a valid {node.tag.rpartition(':')[2]}", node) from error
        if isinstance(value, int) and abs(value) >= _MAX_INTEGER:
            raise _marked("an integer of more than 64 bits, correct it", node)
        return value

    def refuse(self, node: yaml.Node) -> Any:
        """Stand in for the constructor of any tag that is not plain data, such as `!!python/object/apply`."""
        raise _marked(f"the tag '{node.tag}' is not plain data, remove it", node)


_OptionLoader.add_constructor(None, _OptionLoader.refuse)
_OptionLoader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"^[-+]?([0-9]+(\.[0-9]*)?|\.[0-9]+)[eE][-+]?[0-9]+$"),
    list("-+.0123456789"),
)


def load_options(path: str | os.PathLike[str]) -> OptionFile:
    """Read an option file.

    Raises:
        UserError: The file cannot be read, is not valid YAML, repeats a key, or asks for anything but plain data.
    """
    path = Path(path)
    try:
        text = _read(path)
    except OSError as error:
        raise UserError(f"{path}: cannot read the option file: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: not a text file; -opt takes a YAML file") from error
    data, lines = _parse(text, lambda line: f"{path}:{line}")
    if not isinstance(data, dict):
        raise UserError(f"{path}:1: the top level must be a mapping of options, such as 'name: my_experiment'")
    return OptionFile(path, data, {keys: f"{path}:{line}" for keys, line in lines.items()})


def apply_overrides(option_file: OptionFile, entries: Iterable[str]) -> OptionFile:
    """Return the options with entries of the form `section:key=value` set, as BasicSR's `--force_yml` takes them.

    A value is read as it would be in the file, so it keeps its type; `none` is also None. A key need not exist yet.

    Raises:
        UserError: An entry is malformed, or descends into something that is not a section.
    """
    data, places = _copy(option_file.data), dict(option_file.places)
    for entry in entries:
        place = f"--force_yml {entry}"
        keys, value = _parse_override(entry, place)
        section = data
        for key in keys[:-1]:
            if section.get(key) is None:
                section[key] = {}
            section = section[key]
            if not isinstance(section, dict):
                raise UserError(f"{place}: '{key}' is a value, not a section, in {option_file.where(keys)}")
        section[keys[-1]] = value
        places = {known: place for known, place in places.items() if known[: len(keys)] != keys}
        places[keys] = "--force_yml"
    return replace(option_file, data=data, places=places)


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

    Raises:
        UserError: More GPUs are asked for than there are.
    """
    opt = _copy(option_file.data)
    _normalize(opt)
    rank, world_size = get_dist_info()
    opt.update(is_train=is_train, auto_resume=auto_resume, root_path=str(root))
    opt.update(dist=launcher != "none", rank=rank, world_size=world_size, num_gpu=_count_gpus(option_file, launcher))
    if opt.get("manual_seed") is None:
        opt["manual_seed"] = _sample_seed(world_size)
    if debug and not opt["name"].startswith("debug"):
        opt["name"] = f"debug_{opt['name']}"
    _fill_sections(opt)
    _fill_datasets(opt)
    _fill_paths(opt, Path(root))
    return opt


def _read(path: Path) -> str:
    with path.open("rb") as file:
        content = file.read(_MAX_BYTES + 1)
    if len(content) > _MAX_BYTES:
        raise UserError(f"{path}: has more than {_MAX_BYTES >> 10} KiB, which no option file needs; shorten it")
    return content.decode("utf-8-sig")


def _marked(problem: str, node: yaml.Node) -> yaml.MarkedYAMLError:
    return yaml.MarkedYAMLError(problem=problem, problem_mark=node.start_mark)


def _parse(text: str, locate: Callable[[int], str]) -> tuple[Any, dict[Keys, int]]:
    """Parse YAML and map every key path to its line; `locate` turns a line number into the place an error names."""
    try:
        loader = _OptionLoader(text)
        node = loader.get_single_node()
        if node is None:
            return None, {}
        lines = dict(_walk(node, [_MAX_NODES]))
        return _copy(loader.construct_document(node)), lines
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise UserError(f"{locate(line)}: {error.problem}") from error
    except yaml.reader.ReaderError as error:
        raise UserError(f"{locate(text[: error.position].count(chr(10)) + 1)}: {error.reason}") from error
    except RecursionError as error:
        raise UserError(f"{locate(1)}: nested too deeply, or an alias that contains itself") from error


def _walk(node: yaml.Node, budget: list[int], keys: Keys = ()) -> Iterator[tuple[Keys, int]]:
    """Yield every key path with its line, entering aliases anew each time so that an alias bomb exhausts the budget."""
    budget[0] -= 1
    if budget[0] < 0:
        raise _marked(f"more than {_MAX_NODES} values once the aliases are expanded", node)
    if isinstance(node, yaml.SequenceNode):
        for child in node.value:
            yield from _walk(child, budget, (*keys, "[]"))
    elif isinstance(node, yaml.MappingNode):
        seen = set()
        for key, value in node.value:
            if key.tag not in ("tag:yaml.org,2002:str", "tag:yaml.org,2002:merge"):
                raise _marked(f"the key '{key.value}' is not a string, quote it", key)
            if key.value in seen:
                raise _marked(f"duplicate key '{key.value}', remove one", key)
            seen.add(key.value)
            yield (*keys, key.value), key.start_mark.line + 1
            yield from _walk(value, budget, (*keys, key.value))


def _parse_override(entry: str, place: str) -> tuple[Keys, Any]:
    path, equals, text = entry.partition("=")
    keys = tuple(key.strip() for key in path.split(":"))
    if not equals or not all(keys):
        raise UserError(f"{place}: write section:key=value, for example train:ema_decay=0.999")
    value, _ = _parse(text, lambda _: place)
    return keys, None if isinstance(value, str) and value.lower() == "none" else value


def _copy(value: Any) -> Any:
    """Copy nested options, so that sections which were aliases of one another become independent."""
    if isinstance(value, dict):
        return {key: _copy(child) for key, child in value.items()}
    return [_copy(child) for child in value] if isinstance(value, list) else value


def _count_gpus(option_file: OptionFile, launcher: str) -> int:
    asked, available = option_file.data.get("num_gpu"), torch.cuda.device_count()
    if asked in (None, "auto"):
        return available
    if launcher != "none":
        return min(asked, available)  # one process drives one GPU, however many the file counts in all
    if asked > available:
        where = option_file.where(("num_gpu",))
        raise UserError(f"{where}: num_gpu: {asked} GPUs asked for, {available} found; write 'num_gpu: auto'")
    return int(asked)


def _sample_seed(world_size: int) -> int:
    seed = [random.randint(1, 10000)]
    if world_size > 1:  # the order of the training images must be the same on all
        torch.distributed.broadcast_object_list(seed)
    return seed[0]


def _normalize(opt: dict[str, Any]) -> None:
    """Give values the form that BasicSR computes with; a number that is null counts as absent."""
    train = opt.get("train") or {}
    for name, counts in COUNTS.items():
        for section in opt["datasets"].values() if name == "datasets" else [opt.get(name) or {} if name else opt]:
            section.update({key: _to_int(section[key]) for key in counts if section.get(key) is not None})
            _drop_nulls(section, counts)
    _drop_nulls(train, ["ema_decay"])
    if "amp" in train:
        train["amp"] = train["amp"] or None  # YAML reads `off` as False


def _to_int(value: Any) -> Any:
    return [int(each) for each in value] if isinstance(value, list) else int(value)


def _drop_nulls(section: dict[str, Any], keys: Iterable[str]) -> None:
    for key in keys:
        if section.get(key, ...) is None:
            del section[key]


def _fill_sections(opt: dict[str, Any]) -> None:
    """Give the sections the values that BasicSR reads without a default of its own."""
    opt["path"] = opt.get("path") or {}
    opt["logger"] = {
        "print_freq": 100,
        "save_checkpoint_freq": 5000,
        "use_tb_logger": False,
        **(opt.get("logger") or {}),
    }
    if opt.get("val") is not None or not opt["is_train"]:
        opt["val"] = {"save_img": False, "suffix": None, **(opt.get("val") or {})}
    if opt["is_train"] and "debug" in opt["name"]:
        opt["logger"].update(print_freq=1, save_checkpoint_freq=8)
        if opt.get("val") is not None:
            opt["val"]["val_freq"] = 8


def _fill_datasets(opt: dict[str, Any]) -> None:
    for phase, dataset in opt["datasets"].items():
        defaults = {"name": phase, "io_backend": {"type": "disk"}, "num_worker_per_gpu": 0}
        dataset.update({key: value for key, value in defaults.items() if dataset.get(key) is None})
        dataset["phase"] = phase.partition("_")[0]  # val_1, val_2, ... are one phase
        if dataset.get("pin_memory") and not torch.cuda.is_available():
            dataset["pin_memory"] = False  # torch would warn that it does nothing
        if "scale" in opt:
            dataset["scale"] = opt["scale"]
        if "gt_sizes" in dataset:
            dataset["gt_size"] = max(dataset["gt_sizes"])  # for what is built or checked for all phases
        for section in [dataset, *(dataset.get("sources") or {}).values()]:
            for key, value in section.items():
                if key.startswith(FILE_KEYS) and isinstance(value, str):
                    section[key] = os.path.expanduser(value)


def _fill_paths(opt: dict[str, Any], root: Path) -> None:
    """Set the folders of this run: all of them lie under `root`, or under the folder the file names."""
    path = opt["path"] = {
        key: os.path.expanduser(value) if isinstance(value, str) else value for key, value in opt["path"].items()
    }
    folder = "experiments" if opt["is_train"] else "results"
    parent = path.get(f"{folder}_root")
    run = Path(parent or root / folder) / opt["name"]
    path[f"{folder}_root"] = path["log"] = str(run)
    path["visualization"] = str(run / "visualization")
    if opt["is_train"]:
        path["models"] = str(run / "models")
        path["training_states"] = str(run / "training_states")
        path["tb_logger"] = str(Path(parent or root) / "tb_logger" / opt["name"])
