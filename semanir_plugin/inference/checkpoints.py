"""Checkpoint formats: reading and writing weights, in our format and in those of others.

Ours have, beside the weights, the options of their network under the key that option files have for it, `network_g`,
and under `semanir_plugin` a format and the version that wrote them: plain values, which `torch.load` reads with
`weights_only`. A `.safetensors` file holds one set of weights, and the rest as JSON in its metadata. The weights of our
architectures have the options among them too, as one more tensor (`archs.network_record`), for programs that drop the
rest.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import nn

from semanir_plugin import __version__
from semanir_plugin.archs.network_record import RECORD, split_record, to_record
from semanir_plugin.archs.pretrained_network import PretrainedNetwork
from semanir_plugin.atomic_io import write_atomic
from semanir_plugin.errors import UserError, first_names
from semanir_plugin.inference.safe_loading import check_kind, load_checkpoint
from semanir_plugin.inference.weight_names import take_network, unwrap_names
from semanir_plugin.schema.forms import IfThere, form_problem
from semanir_plugin.schema.values import Count

__all__ = [
    "FORMAT",
    "check_kinds",
    "check_numbers",
    "describe_network",
    "fit_weights",
    "read_checkpoint",
    "record_options",
    "save_weights",
    "select_network",
    "select_weights",
    "write_safetensors",
]

FORMAT = 1
"""Counts up when a file is written that an older plugin would misread."""

OWNER = "semanir_plugin"

_ABOUT = {OWNER: {"format": Count, "version": IfThere(str)}}
_LONGEST_VERSION = 40  # characters in a message

_logger = logging.getLogger(__name__)


def describe_network(options: Mapping[str, Any], key: str = "network_g") -> dict[str, Any]:
    """Return a checkpoint's metadata: its network's options, as plain values, and the versions of format and package.

    Raises:
        TypeError: An option is no plain value.
    """
    return {key: json.loads(json.dumps(options)), OWNER: {"format": FORMAT, "version": __version__}}


def read_checkpoint(path: str | Path) -> Any:
    """Load the content of a checkpoint to the CPU; weights of a `.safetensors` file lie under `params`.

    Raises:
        UserError: It is not there, cannot be read, would run code, or is of a later format or does not tell it.
    """
    content = _read_safetensors(path) if Path(path).suffix == ".safetensors" else _states(load_checkpoint(path))
    if isinstance(content, Mapping) and OWNER in content:
        _check_format(content[OWNER], path)
    return content


def _states(content: Any) -> Any:
    """Return a checkpoint with the weights of modules in their place, which only trusted files hold."""
    if isinstance(content, nn.Module):
        return _state(content)
    if isinstance(content, Mapping) and any(isinstance(each, nn.Module) for each in content.values()):
        return {key: _state(each) if isinstance(each, nn.Module) else each for key, each in content.items()}
    return content


def _state(network: nn.Module) -> dict[str, torch.Tensor]:
    """Return the weights of a module, with the record of what it was built from if it is one of ours."""
    while isinstance(network, nn.DataParallel | nn.parallel.DistributedDataParallel):
        network = network.module
    options = network.options if isinstance(network, PretrainedNetwork) else None
    return record_options(network.state_dict(), network, options)


def _check_format(about: Any, path: str | Path) -> None:
    if problem := form_problem({OWNER: about}, _ABOUT):
        raise UserError(f"{path}: {problem}; download or save it again")
    if about["format"] != FORMAT:
        version = about.get("version", "of a later version")[:_LONGEST_VERSION]
        raise UserError(
            f"{path}: of format {about['format']}, written by semanir_plugin {version}; {__version__} reads format "
            f"{FORMAT}, so update it"
        )


def save_weights(path: str | Path, network: nn.Module, options: Mapping[str, Any]) -> None:
    """Write a network's weights to a `.safetensors` file, with the options of the network.

    Args:
        path: File to write; an existing one is replaced when all is written.
        network: Its state is saved, wherever it is.
        options: Those it was built from, `type` included.

    Raises:
        OSError: The file cannot be written.
        TypeError: An option is no plain value.
    """
    about = describe_network(options)
    write_safetensors(path, record_options(network.state_dict(), network, about["network_g"]), about)


def record_options(
    state: Mapping[str, torch.Tensor], network: nn.Module, options: Mapping[str, Any] | None
) -> dict[str, torch.Tensor]:
    """Return a network's state with the record of its options, if it is one of ours and they are plain values.

    Others' networks are loaded by programs that know no record.
    """
    if options is None or not isinstance(network, PretrainedNetwork):
        return dict(state)
    return {**state, RECORD: to_record(options)}


def write_safetensors(path: str | Path, state: Mapping[str, torch.Tensor], about: Mapping[str, Any]) -> None:
    """Write a network's state and its `describe_network` to a `.safetensors` file.

    Raises:
        OSError: The file cannot be written.
    """
    tensors = {key: value.detach().cpu().clone().contiguous() for key, value in state.items()}
    metadata = {key: json.dumps(value) for key, value in about.items()}
    write_atomic(_in_order(save(tensors, {"format": "pt", **metadata})), path)


def _in_order(file: bytes) -> bytes:
    """Return a safetensors file with its metadata in order, which `save` writes in any: equal weights, equal bytes."""
    length = int.from_bytes(file[:8], "little")
    head = json.loads(file[8 : 8 + length])
    head["__metadata__"] = dict(sorted(head["__metadata__"].items()))
    ordered = json.dumps(head, separators=(",", ":"), ensure_ascii=False).encode()
    ordered += b" " * (-len(ordered) % 8)
    return len(ordered).to_bytes(8, "little") + ordered + file[8 + length :]


def _read_safetensors(path: str | Path) -> dict[str, Any]:
    try:
        check_kind(path)
        with safe_open(path, "pt") as file:
            metadata = (file.metadata() or {}).items()
            content = {key: json.loads(value) for key, value in metadata if key == OWNER or key.startswith("network_")}
            content["params"] = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118  # no mapping
            return content
    except OSError as error:
        raise UserError(f"{path}: cannot be opened ({error.strerror or error}); check the path") from error
    except (SafetensorError, ValueError, RecursionError) as error:  # the latter of JSON that is nested too deeply
        raise UserError(f"{path}: not a safetensors file, or a damaged one; download or save it again") from error


def select_weights(
    checkpoint: Any,
    param_key: str | None,
    path: str | Path,
    *,
    cure: str = "set path.param_key_g to the entry with the weights, or to ~ if they lie at the top",
) -> dict[str, Any]:
    """Return the weights under `param_key`, or a checkpoint of bare weights whole, by names as of `unwrap_names`.

    'params' does for a missing 'params_ema'; for either 'state_dict', or the only entry that has weights. A record of
    the network's options is left out.

    Raises:
        UserError: There are none, for which `cure` is the advice, or they are no weights by name.
    """
    return select_network(checkpoint, param_key, path, cure=cure)[0]


def select_network(
    checkpoint: Any, param_key: str | None, path: str | Path, *, cure: str
) -> tuple[dict[str, Any], torch.Tensor | None]:
    """Return the weights as `select_weights` does, and the record that they have of their network's options, if any."""
    state, key = checkpoint, param_key
    if key is not None and isinstance(checkpoint, Mapping) and not _are_weights(checkpoint):
        if key == "params_ema" and key not in checkpoint:
            _logger.warning(f"{path} has no params_ema; its params are used.")
            key = "params"
        if key not in checkpoint and key in ("params", "params_ema"):  # of other training codes
            key = _only_entry(checkpoint) or key
        state = checkpoint.get(key)
        if state is None and _are_bare(checkpoint):
            state = checkpoint  # bare weights, beside what `unwrap_names` refuses
    if not isinstance(state, Mapping):
        names = [str(each) for each in checkpoint] if isinstance(checkpoint, Mapping) else []
        held = first_names(names) if names else f"a {type(checkpoint).__name__}"
        raise UserError(f"{path}: holds no weights under '{param_key}', but {held}; {cure}")
    _logger.info(f"Loading {path}, param key: [{key}].")
    lightning = key == "state_dict" and "pytorch-lightning_version" in checkpoint
    return split_record(unwrap_names(state, path, lightning=lightning))


def fit_weights(
    net: nn.Module, state: Mapping[str, Any], path: str | Path, *, strict: bool = True, cure: str = "check network_g"
) -> None:
    """Load weights into a network.

    Args:
        net: The network.
        state: Weights by name.
        path: The file, for messages.
        strict: Whether every weight must be there, and no other; else at least one must.
        cure: Advice where they do not fit.

    Raises:
        UserError: They do not fit, are of another kind of numbers than the network's, or have what is no number.
    """
    own = net.state_dict()
    state = take_network(state, own.keys(), path)
    check_kinds(own, state, path)
    if not strict and own and not any(name in own and own[name].shape == state[name].shape for name in state):
        raise UserError(f"{path}: none of its weights fits {type(net).__name__} ({first_names(sorted(state))}); {cure}")
    try:
        net.load_state_dict(state, strict=strict)
    except RuntimeError as error:
        differences = _differences(net.state_dict(), state)
        raise UserError(f"{path} does not fit {type(net).__name__}: {differences}; {cure}") from error
    check_numbers({name: value for name, value in net.state_dict().items() if name in state}, path)


def check_numbers(weights: Mapping[str, torch.Tensor], path: str | Path) -> None:
    """Refuse weights that are no numbers.

    Raises:
        UserError: One has NaN.
    """
    for name, value in weights.items():
        if value.is_floating_point() and value.isnan().any():
            raise UserError(f"{path}: its '{name}' has values that are no numbers (NaN); download or save it again")


def check_kinds(own: Mapping[str, torch.Tensor], state: Mapping[str, Any], path: str | Path) -> None:
    """Refuse weights of other kinds of numbers than a network's own.

    Raises:
        UserError: Some are.
    """
    for name in sorted(own.keys() & state.keys()):
        _check_kind(name, own[name], state[name], path)


def _check_kind(name: str, own: torch.Tensor, loaded: torch.Tensor, path: str | Path) -> None:
    """Refuse numbers that torch would convert without a word."""
    if loaded.is_complex() and not own.is_complex():
        raise UserError(f"{path}: its '{name}' is complex; save plain weights")
    if own.is_floating_point() and not loaded.is_floating_point():
        kind = str(loaded.dtype).removeprefix("torch.")
        raise UserError(f"{path}: its '{name}' is of {kind}, no fractions; save plain weights")


def _are_bare(checkpoint: Mapping[Any, Any]) -> bool:
    values = list(checkpoint.values())
    return any(isinstance(each, torch.Tensor) for each in values) and not any(isinstance(each, dict) for each in values)


def _only_entry(checkpoint: Mapping[Any, Any]) -> str | None:
    """Return the key of the weights in a checkpoint of other training codes; None where it has several, or none."""
    found = [key for key, value in checkpoint.items() if isinstance(key, str) and _are_weights(value)]
    return "state_dict" if "state_dict" in found else found[0] if len(found) == 1 else None


def _are_weights(checkpoint: Any) -> bool:
    values = checkpoint.values() if isinstance(checkpoint, Mapping) else ()
    return len(values) > 0 and all(isinstance(value, torch.Tensor) for value in values)


def _differences(own: Mapping[str, Any], loaded: Mapping[str, Any]) -> str:
    """Return a summary of the keys in which a network and a checkpoint differ: numbers and examples."""
    shared = own.keys() & loaded.keys()
    kinds = {
        "missing": sorted(own.keys() - loaded.keys()),
        "unexpected": sorted(loaded.keys() - own.keys()),
        "mis-shaped": sorted(key for key in shared if own[key].shape != loaded[key].shape),
    }
    return ", ".join(f"{len(keys)} {kind} ({first_names(keys)})" for kind, keys in kinds.items() if keys)
