"""Any architecture with this package's blocks mixed in, from an option file."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

from torch import Tensor, nn

from semanir_plugin.archs.descriptor import NetworkDescriptor, describe
from semanir_plugin.archs.pretrained_network import PretrainedNetwork
from semanir_plugin.mixing import mix, translate_host_weights
from semanir_plugin.registry import ARCHS

__all__ = ["MixedArch"]

PREFIX = "network."

_logger = logging.getLogger(__name__)


@ARCHS.register
class MixedArch(PretrainedNetwork):
    """A registered architecture in which blocks replace modules, or follow them.

    Checkpoints of the architecture itself load too: its weights are taken, and those of the blocks stay as they are.

    Args:
        base: The architecture: `type` and its options, as they would stand under `network_g`.
        mix: Entries with `where`, `what` and `how`, see `semanir_plugin.mixing.MixEntry`.
        example: Channels, height and another width of an image that the architecture takes; by default tried out.

    Attributes:
        network: The mixed network.
        changes: What was changed, see `semanir_plugin.mixing.Change`.

    Raises:
        ValueError: An entry is wrong, matches nothing, or asks for a block where it cannot go.
    """

    def __init__(
        self, *, base: Mapping[str, Any], mix: Sequence[Mapping[str, Any]], example: Sequence[int] | None = None
    ) -> None:
        super().__init__()
        host = build_host(base)
        self.network, self.changes = _mix(host, mix, example)
        self._base = base

    @cached_property
    def descriptor(self) -> NetworkDescriptor:
        """The descriptor of the architecture; mixing changes nothing about it."""
        return describe(self.network, self._base)

    def forward(self, x: Tensor, **options: Any) -> Tensor:
        """Restore a batch of images, (B, C, H, W), as the architecture does; `options` are its own."""
        out: Tensor = self.network(x, **options).contiguous()
        return out

    def translate_state(self, state: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        """Return weights under this network's names; those of the architecture alone are completed."""
        if any(name.startswith(PREFIX) for name in state) and not _is_own(self.network, state):
            return state
        translate = getattr(self.network, "translate_state", None)
        if translate is not None:
            state = translate(state)
        translated, account = translate_host_weights(self.network, state)
        _logger.info(f"{type(self.network).__name__}: {account}.")
        return {f"{PREFIX}{name}": value for name, value in translated.items()}

    def extra_repr(self) -> str:
        """Show the changes."""
        return "\n".join(map(str, self.changes))


def build_host(options: Mapping[str, Any]) -> nn.Module:
    """Build a registered architecture.

    Raises:
        ValueError: `options` name none.
    """
    if not isinstance(options, Mapping) or "type" not in options:
        raise ValueError(f"base must have the type and options of an architecture, got {options!r}")
    try:
        architecture = ARCHS.find(str(options["type"]))
    except KeyError as error:
        raise ValueError(error.args[0]) from error
    host: nn.Module = architecture(**{key: value for key, value in options.items() if key != "type"})
    return host


def _mix(host: nn.Module, entries: Any, example: Sequence[int] | None) -> tuple[nn.Module, tuple[Any, ...]]:
    if not isinstance(entries, Sequence) or isinstance(entries, str):
        raise ValueError(f"mix must be a list of entries with where, what and how, got {entries!r}")
    mixed = mix(host, entries, example=example)
    return mixed.network, mixed.changes


def _is_own(network: nn.Module, state: Mapping[str, Tensor]) -> bool:
    """Tell whether weights are of a network whose own names begin with this module's prefix."""
    return any(name in network.state_dict() for name in state)
