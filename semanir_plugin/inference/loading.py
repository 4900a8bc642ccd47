"""Load networks from files of weights alone: ours, of AST's authors, of BasicSR's architectures, of spandrel's."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import nn

from semanir_plugin.archs import describe
from semanir_plugin.archs.ast_checkpoints import infer_options, is_authors_layout
from semanir_plugin.archs.network_record import RECORD, options_of_record
from semanir_plugin.errors import UserError, one_line
from semanir_plugin.inference.arch_recognition import recognize
from semanir_plugin.inference.checkpoints import fit_weights, read_checkpoint, select_network
from semanir_plugin.inference.construction_limits import no_larger_than
from semanir_plugin.inference.devices import choose_device
from semanir_plugin.inference.hub import WEIGHTS, fetch, is_repository
from semanir_plugin.inference.nameable_archs import check_network
from semanir_plugin.inference.plain_options import plain_options
from semanir_plugin.inference.restorer import Restorer
from semanir_plugin.inference.shipped_weights import find_weights
from semanir_plugin.inference.spandrel_networks import is_spandrel_there, load_by_spandrel
from semanir_plugin.inference.weight_names import wrapped_networks
from semanir_plugin.registry import ARCHS

__all__ = ["build_network", "describe_weights", "load", "load_class", "load_state"]

Network = TypeVar("Network", bound=nn.Module)

_NAME_OPTIONS = "name the option file it was trained with: -opt, or in Python semanir_plugin.load(..., options=)"


def load(
    name: str | Path,
    *,
    device: torch.device | str | None = None,
    options: Mapping[str, Any] | None = None,
    revision: str | None = None,
) -> Restorer:
    """Return a trained network that restores images, with its averaged weights where there are some.

    What network it is, the file says where this package wrote it. Of files by AST's authors, and of BasicSR's SwinIR,
    RRDBNet, SRVGGNetCompact and EDSR, names and shapes of the weights do; BasicSR must be installed for these four.
    Other networks are those that spandrel knows, where it is installed; they are built by it, and `options` then has
    no more than `type`.

    Args:
        name: Weights that come with this package, such as "semanir-mini-x4"; a `.pth` or `.safetensors` file; a folder
            with such a file and a `config.json` that has the network's options; or a repository of the Hugging Face
            hub, "org/name" or "org/name@revision", which takes the extra `[hub]`. What the first are for, each,
            `semanir_plugin.inference.purposes` and docs/which_network.md say.
        device: Where the network goes; None: to a GPU where there is one.
        options: The network's options as they stand under `network_g` in an option file, `type` included, instead of
            what the file says.
        revision: Of a repository: a branch, a tag or a commit.

    Raises:
        UserError: There is no such file or repository, it cannot be read, says nothing of its network, or does not fit
            it; or the architecture is unknown or refuses the options.
    """
    place = choose_device(None if device is None else str(device), asked="device")
    path = _locate(name, revision=revision)
    chosen, file, _, weights = _read(path, options)
    if chosen is not None:
        return _restorer(chosen, weights, file, place, given=bool(options))
    return _load_recognized(weights, file, place)


def load_class(
    cls: type[Network],
    name: str | Path,
    options: Mapping[str, Any],
    settings: Mapping[str, Any],
    *,
    device: torch.device | str = "cpu",
    strict: bool = True,
) -> Network:
    """Return a network of a class, as `load` does.

    Args:
        cls: The class that it must be of.
        name: As of `load`.
        options: Instead of those that the file has.
        settings: Of `hub.fetch`.
        device: Where the network goes.
        strict: As of `fit_weights`.

    Raises:
        UserError: As `load`; or it is of another class.
    """
    place = choose_device(str(device), asked="map_location")
    chosen, file, _, weights = _read(_locate(name, **settings), None)
    if chosen is None:
        raise _unknown(file)
    cure = f"correct what you gave: {', '.join(options)}" if options else None
    network = _restorer(
        {**chosen, **options}, weights, file, place, given=False, strict=strict, options_cure=cure
    ).module
    if not isinstance(network, cls):
        raise UserError(f"{name}: is of {type(network).__name__}, not of {cls.__name__}; take semanir_plugin.load")
    return network


def _locate(name: str | Path, **settings: Any) -> Path:
    """Return the file or folder of a network, downloaded if it is that of a repository."""
    return fetch(str(name), **settings) if is_repository(name) else find_weights(name)


def load_state(state: Mapping[str, Any], told: str, *, device: torch.device | str = "cpu") -> Restorer:
    """Return the network of weights that are in memory already, as `load` does of those in a file.

    Args:
        state: Weights by name.
        told: What messages call them.
        device: Where the network goes.

    Raises:
        UserError: They say nothing of their network, or do not fit it.
    """
    weights, record = select_network(state, None, told, cure="hand over a state_dict")
    options = _find_options({}, weights, record, told)
    if options is None:
        raise _unknown(told)
    return _restorer(options, weights, told, torch.device(device), given=False)


def _restorer(
    options: dict[str, Any],
    weights: Mapping[str, Any],
    path: str | Path,
    place: torch.device,
    *,
    given: bool,
    strict: bool = True,
    options_cure: str | None = None,
) -> Restorer:
    """Return a network with its weights.

    Args:
        options: Of the network.
        weights: By name.
        path: The file that they are of, for messages.
        place: Where the network goes.
        given: Whether the options are the user's own, and not of a file.
        strict: As of `fit_weights`.
        options_cure: Advice where the network refuses its options, or does not fit; None: of `given`.
    """
    with contextlib.nullcontext() if given else no_larger_than(weights):
        net = build_network(options, path, cure=options_cure or ("correct them" if given else "correct its network_g"))
    translate = getattr(net, "translate_state", None)
    if translate is not None:
        weights = translate(weights)
    cure = options_cure or (
        "name other options (of the command: another option file) or another checkpoint" if given else _NAME_OPTIONS
    )
    fit_weights(net, weights, path, strict=strict, cure=cure)
    net = net.eval().to(place)
    try:
        return Restorer(net, options, describe(net, options), place)
    except ValueError as error:
        raise UserError(f"{path}: {error}") from error


def describe_weights(path: Path) -> tuple[dict[str, Any], Path, str]:
    """Return the `network_g` of a checkpoint or a folder, the file with its weights, and the entry there that has them.

    Averaged weights count, if there are some.

    Raises:
        UserError: The file cannot be read, or says nothing of its network.
    """
    options, file, entry, weights = _read(path, None)
    options = options or _recognize(weights, file)
    if options is None:
        raise _unknown(file)
    return options, file, entry


def build_network(options: Mapping[str, Any], path: str | Path, *, cure: str = "correct its network_g") -> nn.Module:
    """Return the network of a `network_g` without weights, uncompiled; messages name `path`, and end in `cure`.

    Raises:
        UserError: The architecture is unknown or refuses the options.
    """
    name = options["type"]
    arguments = {key: value for key, value in options.items() if key not in ("type", "compile_backend")}
    try:
        architecture = ARCHS.find(name)
    except KeyError as error:
        raise UserError(f"{path}: {error.args[0]}; import the package that has it, or update this one") from error
    try:
        network: nn.Module = architecture(**arguments)
    except Exception as error:  # whatever a constructor raises, its options are what the user can mend
        raise UserError(f"{path}: {name} refuses its options: {one_line(error)}; {cure}") from error
    return network


def _load_recognized(weights: Mapping[str, Any], path: Path, place: torch.device) -> Restorer:
    """Return the network of bare weights, by their names and shapes: one of BasicSR's, else one that spandrel knows.

    Others than BasicSR's four share their names, such as HAT those of SwinIR.

    Raises:
        UserError: It is none of them, or does not fit.
    """
    options, problem = _recognize(weights, path), None
    if options is not None:
        try:
            return _restorer(options, weights, path, place, given=False)
        except UserError as error:
            problem = error
    try:
        found = load_by_spandrel(weights, path, place)
    except UserError as error:
        raise problem or error from None
    if found is None:
        raise problem or _unknown(path)
    return found


def _unknown(path: str | Path) -> UserError:
    more = "" if is_spandrel_there() else "; or install what knows more: pip install 'semanir_plugin[spandrel]'"
    return UserError(f"{path}: does not say what network it is of; {_NAME_OPTIONS}{more}")


def _read(path: Path, options: Mapping[str, Any] | None) -> tuple[dict[str, Any] | None, Path, str, Mapping[str, Any]]:
    """Return the options of a network, the file with its weights, their entry in it, and the weights.

    Options that only names and shapes would tell are None.
    """
    if path.is_dir():
        options = options or _read_config(path / "config.json")
        path = _only_weights(path)
    checkpoint = read_checkpoint(path)
    entry = _best_entry(checkpoint)
    weights, record = select_network(checkpoint, entry, path, cure="name a file that has some")
    return dict(options) if options else _find_options(checkpoint, weights, record, path), path, entry, weights


def _best_entry(checkpoint: Any) -> str:
    return "params_ema" if isinstance(checkpoint, Mapping) and "params_ema" in checkpoint else "params"


def _find_options(
    checkpoint: Any, weights: Mapping[str, Any], record: torch.Tensor | None, path: str | Path
) -> dict[str, Any] | None:
    """Return the options that a file has of its network, or that follow from its being of AST's authors."""
    options = checkpoint.get("network_g") if isinstance(checkpoint, Mapping) else None
    if isinstance(options, Mapping) and isinstance(options.get("type"), str):
        return _trusted(options, path)
    if record is not None:
        return _trusted(_recorded(record, path), path)
    if is_authors_layout(weights):
        try:
            return infer_options(weights)
        except ValueError as error:
            raise UserError(f"{path}: {error}; download it again") from error
    return None


def _recognize(weights: Mapping[str, Any], path: Path) -> dict[str, Any] | None:
    """Return the options of the one of BasicSR's networks that weights look like."""
    for each in (weights, *(inner for _, inner in wrapped_networks(weights, path))):
        if recognized := recognize(each):
            return recognized
    return None


def _recorded(record: torch.Tensor, path: str | Path) -> dict[str, Any]:
    try:
        return options_of_record(record)
    except ValueError as error:
        raise UserError(f"{path}: its {RECORD} is {one_line(error)}; {_NAME_OPTIONS}") from error


def _trusted(options: Mapping[Any, Any], path: str | Path) -> dict[str, Any]:
    """Return a copy of the options of a network that came with its weights, after checking them."""
    plain = plain_options(options, path, "network_g")
    check_network(plain, path)
    return plain


def _read_config(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"{path}: cannot be read as JSON ({one_line(error)}); correct it") from error
    options = content.get("network_g", content) if isinstance(content, dict) else None
    if not isinstance(options, dict) or not isinstance(options.get("type"), str):
        raise UserError(f"{path}: has no 'type' of a network beside its options; add it")
    return _trusted(options, path)


def _only_weights(folder: Path) -> Path:
    """Return a folder's file of weights: that of `save_pretrained`, else the only one."""
    if (folder / WEIGHTS).is_file():
        return folder / WEIGHTS
    found = sorted(each for each in folder.iterdir() if each.suffix in (".safetensors", ".pth"))
    if len(found) != 1:
        raise UserError(f"{folder}: has {len(found)} files of weights beside config.json, not one; name one of them")
    return found[0]
