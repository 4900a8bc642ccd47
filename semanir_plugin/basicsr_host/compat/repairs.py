"""Repairs of the imported BasicSR: each function here replaces a faulty one of BasicSR's.

The replacements are set on BasicSR's own classes and modules, so its stock models and datasets gain from them as well.
Each docstring names the failure. Import this module after `basicsr`; `semanir_plugin.import_hooks` sees to it.
"""

from __future__ import annotations

import functools
import inspect
import os
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any
from weakref import WeakValueDictionary

import cv2
import lmdb
import numpy as np
import torch
from basicsr.data import data_util
from basicsr.data.prefetch_dataloader import PrefetchGenerator
from basicsr.models import lr_scheduler as host_schedulers
from basicsr.models.base_model import BaseModel
from basicsr.utils import get_root_logger, img_util
from basicsr.utils.dist_util import master_only
from basicsr.utils.file_client import FileClient, LmdbBackend
from basicsr.utils.registry import DATASET_REGISTRY, Registry
from torch import nn
from torch.nn.parallel import DataParallel, DistributedDataParallel
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from semanir_plugin.atomic_io import save_atomic
from semanir_plugin.errors import UserError, near_match
from semanir_plugin.inference.checkpoints import (
    describe_network,
    fit_weights,
    read_checkpoint,
    select_weights,
    write_safetensors,
)
from semanir_plugin.inference.image_limits import check_pixels
from semanir_plugin.pixels import to_float

__all__ = ["construct", "known_optimizers", "known_schedulers", "repair_host"]


def repair_host() -> None:
    """Put every replacement in its place. Repeating it changes nothing."""
    for owner, name, replacement in REPAIRS:
        setattr(owner, name, replacement)


def get_registered(self: Any, name: str, suffix: str = "basicsr") -> Any:
    """`Registry.get` prints that it uses `name_basicsr` instead, also right before the KeyError that says it does not.

    Raises:
        KeyError: Neither `name` nor `name_suffix` is registered; the message names a near match.
    """
    for key in (name, f"{name}_{suffix}"):
        if key in self:
            return self._obj_map[key]
    near = near_match(name, self.keys())
    raise KeyError(f"no '{name}' in the {self._name} registry{f'; did you mean {near!r}?' if near else ''}")


_scandir = inspect.unwrap(data_util.scandir)


@functools.wraps(_scandir)
def scan_in_order(*args: Any, **kwargs: Any) -> list[str]:
    """Pairs of folders are listed as the file system has them: another machine numbers the same images otherwise.

    Then neither does a seed mean the same there, nor have processes on both of them each their share of a set.
    """
    return sorted(_scandir(*args, **kwargs))


# An image whose first bytes are the key is complete if the value occurs: PNG's last chunk, JPEG's end of image.
END_OF_IMAGE = {b"\x89PNG\r\n\x1a\n": b"IEND\xaeB`\x82", b"\xff\xd8\xff": b"\xff\xd9"}

_get = inspect.unwrap(FileClient.get)
_imfrombytes = inspect.unwrap(img_util.imfrombytes)


@functools.wraps(_get)
def get_complete(self: Any, filepath: str, client_key: str = "default") -> bytes:
    """`FileClient.get` hands on what is not a whole image.

    OpenCV 4 decodes a truncated PNG to a partly black image. OpenCV 5 returns None for it, as both do for an empty file
    and for the None of a key that the LMDB lacks, and `imfrombytes` dies of that with an AttributeError without a name.

    Raises:
        UserError: The file is empty or truncated, has more pixels than are decoded, or the LMDB lacks the key.
    """
    content = _get(self, filepath, client_key)
    if content is None:
        path = dict(zip(self.client._client, self.client.db_paths, strict=True))[client_key]
        raise UserError(f"{path}: the LMDB lacks the key '{filepath}'; write it and its meta_info.txt again")
    if not content:
        raise UserError(f"{filepath}: the file is empty; replace it or take it out of the dataset")
    for start, end in END_OF_IMAGE.items():
        if content.startswith(start) and content.rfind(end) < 0:
            raise UserError(f"{filepath}: the image is truncated; replace it or take it out of the dataset")
    try:
        check_pixels(content)
    except ValueError as error:
        raise UserError(f"{filepath}: {error}") from error
    return content


def opening_first(getitem: Callable[[Any, int], Any]) -> Callable[[Any, int], Any]:
    """Host datasets pop 'type' from their io_backend options at the first item.

    A copy made before, which shares the options, then dies of `KeyError: 'type'`. Opening the client beforehand, from a
    copy of the options, leaves them whole.
    """
    getitem = inspect.unwrap(getitem)

    @functools.wraps(getitem)
    def wrapper(self: Any, index: int) -> Any:
        if self.file_client is None:
            options = dict(self.io_backend_opt)
            self.file_client = FileClient(options.pop("type"), **options)
        return getitem(self, index)

    return wrapper


_environments: WeakValueDictionary[tuple[int, str], lmdb.Environment] = WeakValueDictionary()


def open_lmdbs(self: Any, db_paths: str | list[str], client_keys: str | list[str] = "default", **options: Any) -> None:
    """`LmdbBackend.__init__` cannot open what another dataset reads from in this process, or in the one it forked from.

    lmdb refuses to open an LMDB twice. Here datasets share it; workers close what they inherited and open it anew.
    """
    self.db_paths, keys = ([each] if isinstance(each, str) else list(each) for each in (db_paths, client_keys))
    self._options = {"readonly": True, "lock": False, "readahead": False, **options}
    self._process = os.getpid()
    self._client = {key: _open_lmdb(path, self._options) for key, path in zip(keys, self.db_paths, strict=True)}


def _open_lmdb(path: str, options: Mapping[str, Any]) -> lmdb.Environment:
    key = os.getpid(), os.path.realpath(path)
    for (process, place), environment in list(_environments.items()):
        if place == key[1] and process != key[0]:
            environment.close()
    opened = _environments.get(key)
    if opened is None:
        opened = _environments[key] = lmdb.open(path, **options)
    return opened


_get_from_lmdb = inspect.unwrap(LmdbBackend.get)


@functools.wraps(_get_from_lmdb)
@functools.wraps(_imfrombytes)
def decode_in_own_depth(content: bytes, flag: str = "color", float32: bool = False) -> Any:
    """`imfrombytes` reads files of 16 bit as of 8 where it makes floats of them, too.

    Raises:
        AttributeError: As the host, without a name, where the content is no image.
    """
    if not float32 or flag == "unchanged":
        return _imfrombytes(content, flag, float32)
    flags = (cv2.IMREAD_GRAYSCALE if flag == "grayscale" else cv2.IMREAD_COLOR) | cv2.IMREAD_ANYDEPTH
    pixels: Any = cv2.imdecode(np.frombuffer(content, np.uint8), flags)  # None of what is no image
    return to_float(pixels)


def get_in_this_process(self: Any, filepath: str, client_key: str) -> bytes | None:
    """`LmdbBackend.get` reads in a forked worker from what its parent opened, which LMDB does not allow."""
    if self._process != os.getpid():
        open_lmdbs(self, self.db_paths, list(self._client), **self._options)
    return _get_from_lmdb(self, filepath, client_key)


def reopen_lmdb(self: Any) -> tuple[Any, ...]:
    """A dataset that has been read from cannot be sent to a spawned worker: an open LMDB does not pickle."""
    return type(self), (self.db_paths, list(self._client))


def share_lmdb(self: Any, memo: dict[int, Any]) -> Any:
    """A dataset that has been read from cannot be deep-copied: a process may open an LMDB only once."""
    return self


def prefetch_all(self: Any) -> None:
    """`PrefetchGenerator.run` dies of what its loader raises, and whoever reads from it waits for ever."""
    try:
        for item in self.generator:
            self.queue.put(item)
        self.queue.put(None)
    except Exception as error:
        self.queue.put(error)


def next_prefetched(self: Any) -> Any:
    """`PrefetchGenerator.__next__` gives a failure out as a batch."""
    item = self.queue.get()
    if item is None:
        raise StopIteration
    if isinstance(item, Exception):
        raise item
    return item


def get_optimizer(self: Any, optim_type: str, params: Any, lr: float, **kwargs: Any) -> Optimizer:
    """`get_optimizer` knows Adam only; here any class of `torch.optim` goes by its name.

    Raises:
        UserError: There is no such optimiser, or it refuses the options.
    """
    return construct("optimizer", optim_type, known_optimizers(), params, lr=lr, **kwargs)


def setup_schedulers(self: Any) -> None:
    """`setup_schedulers` knows the host's two schedulers only, and pops 'type' from the options it was given.

    Here any class of `torch.optim.lr_scheduler` goes by its name; the host's own come first.

    Raises:
        UserError: There is no such scheduler, or it refuses the options.
    """
    known = known_schedulers()
    options = dict(self.opt["train"]["scheduler"])
    name = options.pop("type")
    self.schedulers += [construct("scheduler", name, known, optimizer, **options) for optimizer in self.optimizers]


# What a training loop that calls `step()` cannot drive, or an option file cannot express.
NEEDS_MORE = {
    *("LBFGS", "SparseAdam"),  # a closure; sparse gradients
    *("ReduceLROnPlateau", "LambdaLR", "MultiplicativeLR", "SequentialLR", "ChainedScheduler"),  # a metric; functions
}


def known_optimizers() -> dict[str, type]:
    """Return the optimisers that `train.optim_*` can name."""
    return _classes(torch.optim, Optimizer)


def known_schedulers() -> dict[str, type]:
    """Return the schedulers that `train.scheduler` can name: torch's, and the host's own, which come first."""
    known = _classes(torch.optim.lr_scheduler, LRScheduler) | _classes(host_schedulers, LRScheduler)
    return {**known, "MultiStepLR": host_schedulers.MultiStepRestartLR}


def update_learning_rate(self: Any, current_iter: int, warmup_iter: int = -1) -> None:
    """`update_learning_rate` writes the warm-up's rate where schedulers read the last one they set.

    Those that go on from it, MultiStepLR among them, keep the warm-up's last rate for good.
    """
    for scheduler in self.schedulers:
        groups = scheduler.optimizer.param_groups
        for group, lr in zip(groups, scheduler.get_last_lr(), strict=True):
            group["lr"] = lr
        if current_iter > 1:
            scheduler.step()
        if current_iter < warmup_iter:
            for group in groups:
                group["lr"] = group["initial_lr"] * current_iter / warmup_iter


def _classes(module: ModuleType, base: type) -> dict[str, type]:
    """Return the public proper subclasses of `base` found in a module, by name."""
    found = {name: obj for name, obj in vars(module).items() if isinstance(obj, type) and not name.startswith("_")}
    return {
        name: obj for name, obj in found.items() if issubclass(obj, base) and obj is not base and name not in NEEDS_MORE
    }


def construct(kind: str, name: str, known: Mapping[str, type], *args: Any, **options: Any) -> Any:
    """Build the class of that name among the known ones.

    Raises:
        UserError: There is none, or it refuses the options.
    """
    if name not in known:
        near = near_match(name, known)
        hint = f"did you mean '{near}'? " if near else ""
        raise UserError(f"no {kind} '{name}'; {hint}known: {', '.join(sorted(known))}")
    try:
        return known[name](*args, **options)
    except (TypeError, ValueError) as error:
        raise UserError(f"{kind} '{name}': {error}; correct its options") from error


@torch.no_grad()
def model_ema(self: Any, decay: float = 0.999) -> None:
    """`model_ema` skips buffers, so that an averaged network keeps the batch statistics it was initialised with.

    On GPUs it launches two kernels for each parameter, hundreds in each iteration.
    """
    net = self.get_bare_model(self.net_g)
    parameters, buffers = dict(net.named_parameters()), dict(net.named_buffers())
    averages = dict(self.net_g_ema.named_parameters())
    if averages:
        torch._foreach_mul_(list(averages.values()), decay)
        torch._foreach_add_(list(averages.values()), [parameters[name] for name in averages], alpha=1 - decay)
    persistent = self.net_g_ema.state_dict().keys()
    for name, buffer in self.net_g_ema.named_buffers():
        if name in persistent:
            buffer.copy_(buffers[name])


def model_to_device(self: Any, net: nn.Module) -> nn.Module:
    """`model_to_device` asks for a CUDA device whenever it is distributed, on CPUs too, and wraps what cannot learn."""
    net = net.to(self.device)
    if self.opt["dist"] and any(parameter.requires_grad for parameter in net.parameters()):
        device_ids = [torch.cuda.current_device()] if self.device.type == "cuda" else None
        unused = self.opt.get("find_unused_parameters", False)
        return DistributedDataParallel(net, device_ids=device_ids, find_unused_parameters=unused)
    return DataParallel(net) if self.opt["num_gpu"] > 1 and not self.opt["dist"] else net


def load_network(
    self: Any, net: nn.Module, load_path: str, strict: bool = True, param_key: str | None = "params"
) -> None:
    """`load_network` unpickles anything, code included, and answers a wrong file with pages of keys or a KeyError.

    Raises:
        UserError: The file cannot be read or is refused, lacks `param_key`, or does not fit the network.
    """
    net = self.get_bare_model(net)
    checkpoint = read_checkpoint(load_path)
    state: Mapping[str, Any] = select_weights(checkpoint, param_key, load_path)
    translate = getattr(net, "translate_state", None)  # a network may know the layout of others' files
    if translate is not None:
        state = translate(state)
    if not strict:
        self._print_different_keys_loading(net, state, strict)  # sets aside what differs in shape
    cure = "check network_g, or set path.strict_load_g: false to load what fits"
    fit_weights(net, state, load_path, strict=strict, cure=cure)
    if strict and isinstance(checkpoint, Mapping):
        _tell_other_img_size(checkpoint.get("network_g"), self.opt.get("network_g"), load_path)


def _tell_other_img_size(recorded: Any, given: Any, path: str) -> None:
    """Warn where a checkpoint was trained with another `img_size` than it runs with, which its shapes do not tell."""
    sizes = [
        each.get("img_size") for each in (recorded, given) if isinstance(each, Mapping) and each.get("type") == "AST"
    ]
    if len(sizes) == 2 and sizes[0] != sizes[1]:
        get_root_logger().warning(
            f"{path} was trained with img_size {sizes[0]}, but runs with the option file's {sizes[1]}: "
            "results differ; set network_g.img_size to that of the training."
        )


@master_only
def save_network(
    self: Any,
    net: nn.Module | list[nn.Module],
    net_label: str,
    current_iter: int,
    param_key: str | list[str] = "params",
) -> None:
    """`save_network` writes in place, so a crash destroys the last good file, and ignores that it could not write.

    The network's options are written too, so that the file alone is enough to build it (`checkpoints`). With
    `logger.safetensors` a `.safetensors` file of the same name has the weights again, the averaged ones if there are.

    Raises:
        OSError: The file cannot be written.
    """
    nets = net if isinstance(net, list) else [net]
    keys = param_key if isinstance(param_key, list) else [param_key]
    states = {key: _portable_state(self.get_bare_model(net)) for key, net in zip(keys, nets, strict=True)}
    about = _describe(self.opt, net_label.replace("net", "network", 1))
    label = "latest" if current_iter == -1 else current_iter
    path = Path(self.opt["path"]["models"], f"{net_label}_{label}.pth")
    save_atomic({**states, **about}, path)
    if (self.opt.get("logger") or {}).get("safetensors"):
        write_safetensors(path.with_suffix(".safetensors"), states[keys[-1]], about)  # of two, the average


def _describe(opt: Mapping[str, Any], key: str) -> dict[str, Any]:
    """Return the description of the network whose options lie under `key`; nothing where that cannot be told."""
    try:
        return describe_network(opt[key], key) if key in opt else {}
    except TypeError as error:  # options made in Python, such as a dtype; the weights are worth saving all the same
        get_root_logger().warning(f"{key} is not saved with its weights: {error}.")
        return {}


def _portable_state(net: nn.Module) -> dict[str, Any]:
    """Return the state on the CPU, in order and with its metadata, under keys without the wrappers' prefix."""
    state = net.state_dict()
    for key in list(state):
        state[key.removeprefix("module.")] = state.pop(key).cpu()
    return state


@master_only
def save_training_state(self: Any, epoch: int, current_iter: int) -> None:
    """`save_training_state` writes in place and ignores that it could not write, as `save_network` does.

    Raises:
        OSError: The file cannot be written.
    """
    if current_iter == -1:
        return
    state = {
        "epoch": epoch,
        "iter": current_iter,
        "optimizers": [optimizer.state_dict() for optimizer in self.optimizers],
        "schedulers": [scheduler.state_dict() for scheduler in self.schedulers],
        **(self.training_state() if hasattr(self, "training_state") else {}),  # what our own models add
    }
    save_atomic(state, Path(self.opt["path"]["training_states"], f"{current_iter}.state"))


def _host_datasets() -> list[Any]:
    """Return the host's own dataset classes."""
    return [cls for _, cls in DATASET_REGISTRY if cls.__module__.startswith("basicsr.")]


def _modules_with(name: str) -> list[ModuleType]:
    """Return the host's modules that have imported a function by name."""
    modules = (sys.modules[cls.__module__] for cls in _host_datasets())
    return [module for module in modules if hasattr(module, name)]


REPAIRS: tuple[tuple[type | ModuleType, str, Callable[..., Any]], ...] = (
    (Registry, "get", get_registered),
    (data_util, "scandir", scan_in_order),
    (FileClient, "get", get_complete),
    (LmdbBackend, "__init__", open_lmdbs),
    (LmdbBackend, "get", get_in_this_process),
    (LmdbBackend, "__reduce__", reopen_lmdb),
    (LmdbBackend, "__deepcopy__", share_lmdb),
    *((module, "imfrombytes", decode_in_own_depth) for module in _modules_with("imfrombytes")),
    *((cls, "__getitem__", opening_first(cls.__getitem__)) for cls in _host_datasets()),
    (PrefetchGenerator, "run", prefetch_all),
    (PrefetchGenerator, "__next__", next_prefetched),
    (BaseModel, "get_optimizer", get_optimizer),
    (BaseModel, "setup_schedulers", setup_schedulers),
    (BaseModel, "update_learning_rate", update_learning_rate),
    (BaseModel, "model_ema", model_ema),
    (BaseModel, "model_to_device", model_to_device),
    (BaseModel, "load_network", load_network),
    (BaseModel, "save_network", save_network),
    (BaseModel, "save_training_state", save_training_state),
)
