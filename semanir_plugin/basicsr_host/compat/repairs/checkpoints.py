"""Repairs of how BasicSR's models load and save networks and training states."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from basicsr.models.base_model import BaseModel
from basicsr.utils import get_root_logger
from basicsr.utils.dist_util import get_dist_info, master_only
from torch import nn

from semanir_plugin.atomic_io import save_atomic
from semanir_plugin.basicsr_host.compat.repairs.resuming import gather_memories
from semanir_plugin.basicsr_host.compat.repairs.table import Repair
from semanir_plugin.errors import UserError, near_match
from semanir_plugin.inference.checkpoints import (
    describe_network,
    fit_weights,
    read_checkpoint,
    record_options,
    select_weights,
    write_safetensors,
)
from semanir_plugin.inference.shipped_weights import shipped_file, shipped_weights
from semanir_plugin.inference.weight_names import take_network

__all__ = ["REPAIRS"]


def load_network(
    self: Any, net: nn.Module, load_path: str, strict: bool = True, param_key: str | None = "params"
) -> None:
    """`load_network` unpickles anything, code included, and answers a wrong file with pages of keys or a KeyError.

    Names of shipped weights are taken as well, whose only entry is loaded whatever `param_key` says.

    Raises:
        UserError: There is no such file, nor weights of its name; or it cannot be read or is refused, lacks
            `param_key`, or does not fit the network.
    """
    net = self.get_bare_model(net)
    if shipped := shipped_file(load_path):
        load_path, param_key = str(shipped), "params"
    elif near := near_match(str(load_path), shipped_weights()) if not os.path.lexists(load_path) else None:
        raise UserError(f"no file and no weights '{load_path}'; did you mean '{near}'?")
    checkpoint = read_checkpoint(load_path)
    state: Mapping[str, Any] = select_weights(checkpoint, param_key, load_path)
    state = take_network(state, net.state_dict().keys(), load_path)
    translate = getattr(net, "translate_state", None)  # a network may know the layout of others' files
    if translate is not None:
        state = translate(state)
    if not strict:
        self._print_different_keys_loading(net, state, strict)  # sets aside what differs in shape
    cure = "check network_g" + (", or set path.strict_load_g: false to load what fits" if strict else "")
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
    entry = net_label.replace("net", "network", 1)
    about = _describe(self.opt, entry)
    states = {
        key: _portable_state(self.get_bare_model(net), about.get(entry)) for key, net in zip(keys, nets, strict=True)
    }
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


def _portable_state(net: nn.Module, options: Mapping[str, Any] | None) -> dict[str, Any]:
    """Return the state on the CPU, in order and with its metadata, under keys without the wrappers' prefix.

    One of our networks has a record of its options in it.
    """
    state = net.state_dict()
    for key in list(state):
        state[key.removeprefix("module.")] = state.pop(key).cpu()
    state.update(record_options({}, net, options))
    return state


def save_training_state(self: Any, epoch: int, current_iter: int) -> None:
    """`save_training_state` writes in place and ignores that it could not write, as `save_network` does.

    It leaves out what models remember, of which each process may have its own: all take part.

    Raises:
        OSError: The file cannot be written.
    """
    if current_iter == -1:
        return
    memories = gather_memories(self)
    if get_dist_info()[0] == 0:
        state = {
            "epoch": epoch,
            "iter": current_iter,
            "optimizers": [optimizer.state_dict() for optimizer in self.optimizers],
            "schedulers": [scheduler.state_dict() for scheduler in self.schedulers],
            **({"memories": memories} if any(memories) else {}),
            **self.training_state(),
            **getattr(self, "run_state", {}),  # the engine's
        }
        save_atomic(state, Path(self.opt["path"]["training_states"], f"{current_iter}.state"))


REPAIRS: tuple[Repair, ...] = (
    (BaseModel, "load_network", load_network),
    (BaseModel, "save_network", save_network),
    (BaseModel, "save_training_state", save_training_state),
)
