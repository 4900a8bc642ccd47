"""Networks from files of weights alone."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import nn

from semanir_plugin.archs.ast_checkpoints import infer_options, is_authors_layout
from semanir_plugin.errors import UserError, near_match, one_line
from semanir_plugin.inference.checkpoints import fit_weights, read_checkpoint, select_weights
from semanir_plugin.registry import ARCHS

__all__ = ["Built", "build_from_checkpoint", "build_network", "describe_weights", "find_weights", "load_network"]

SHIPPED = Path(__file__).parents[1] / "weights"
STAND_INS = {
    "semanir-light-x2": "semanir-mini-x2",
    "semanir-light-x4": "semanir-mini-x4",
    "semanirunet-color-dn25": "semanirunet-mini-color-dn25",
    "semanirunet-color-jpeg10": "semanirunet-mini-color-jpeg10",
}

_logger = logging.getLogger(__name__)


class Built(NamedTuple):
    """A network with its weights, and the options it was built from, `type` included."""

    network: nn.Module
    options: dict[str, Any]


def build_from_checkpoint(
    path: str | Path, *, device: torch.device | str = "cpu", options: Mapping[str, Any] | None = None
) -> nn.Module:
    """Return the network of a checkpoint with its weights, the averaged ones where there are some, to restore images.

    The file says what network it is of where this plugin wrote it; of files by AST's authors the names of the weights
    do. `compile_backend` is left out: it is about how a network is trained.

    Args:
        path: A `.pth` or `.safetensors` file.
        device: Where the network goes.
        options: Its `network_g`, `type` included, instead of what the file says.

    Raises:
        UserError: The file cannot be read, says nothing of its network, or does not fit it; or the architecture is
            unknown or refuses the options.
    """
    return load_network(path, device=device, options=options).network


def load_network(
    path: str | Path, *, device: torch.device | str = "cpu", options: Mapping[str, Any] | None = None
) -> Built:
    """As `build_from_checkpoint`, with the options that were found."""
    checkpoint = read_checkpoint(path)
    state: Mapping[str, Any] = select_weights(checkpoint, _best_entry(checkpoint), path)
    chosen = dict(options) if options else _options_inside(checkpoint, state, path)
    net = build_network(chosen, path)
    translate = getattr(net, "translate_state", None)
    if translate is not None:
        state = translate(state)
    cure = "name another option file or checkpoint" if options else "name the option file it was trained with: -opt"
    fit_weights(net, state, path, cure=cure)
    return Built(net.eval().to(device), chosen)


def describe_weights(path: str | Path) -> tuple[dict[str, Any], str]:
    """Return the `network_g` that a checkpoint says it is of, and the entry with its weights, the averaged ones if any.

    Raises:
        UserError: The file cannot be read, or says nothing of its network.
    """
    checkpoint = read_checkpoint(path)
    entry = _best_entry(checkpoint)
    return _options_inside(checkpoint, select_weights(checkpoint, entry, path), path), entry


def _best_entry(checkpoint: Any) -> str:
    return "params_ema" if isinstance(checkpoint, Mapping) and "params_ema" in checkpoint else "params"


def find_weights(name: str) -> Path:
    """Return the file that a user means: a path, or the name of weights that come with this plugin.

    Names of sizes that have not been trained in full yet stand for what has been: see `STAND_INS`.

    Raises:
        UserError: There is neither; the message lists the names.
    """
    path = Path(name).expanduser()
    if path.is_file():
        return path
    shipped = {file.stem: file for file in sorted(SHIPPED.glob("*.safetensors"))}
    if name in shipped:
        return shipped[name]
    if (stand_in := STAND_INS.get(name, "")) in shipped:
        _logger.warning(f"{name} has not been trained yet; {stand_in} stands in, a smaller network trained on a CPU.")
        return shipped[stand_in]
    near = near_match(name, shipped)
    hint = f"; did you mean '{near}'?" if near else ""
    known = f"names: {', '.join(shipped)}" if shipped else "no weights come with this version, so name a file"
    raise UserError(f"no file and no weights '{name}'{hint}; {known}")


def _options_inside(checkpoint: Any, state: Mapping[str, Any], path: str | Path) -> dict[str, Any]:
    options = checkpoint.get("network_g") if isinstance(checkpoint, Mapping) else None
    if isinstance(options, Mapping) and isinstance(options.get("type"), str):
        return dict(options)
    if is_authors_layout(state):
        try:
            return infer_options(state)
        except ValueError as error:
            raise UserError(f"{path}: {error}; download it again") from error
    raise UserError(f"{path}: does not say what network it is of; name the option file it was trained with: -opt")


def build_network(options: Mapping[str, Any], path: str | Path) -> nn.Module:
    """Return the network of a `network_g` without weights, uncompiled; `path` is what messages name.

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
        return architecture(**arguments)
    except Exception as error:  # whatever a constructor raises, its options are what the user can mend
        raise UserError(f"{path}: {name} refuses its options: {one_line(error)}; correct its network_g") from error
