"""Base of the architectures: networks that know what they were built from, and that pass over a record of it."""

from __future__ import annotations

from typing import Any

from torch import nn

from semanir_plugin.archs.network_record import RECORD

__all__ = ["PortableNetwork"]


class PortableNetwork(nn.Module):
    """A network whose weights may have a record of its options among them (`network_record`).

    Attributes:
        given_options: What the constructor was given.
    """

    given_options: dict[str, Any]

    def __new__(cls, *_: Any, **options: Any) -> Any:
        """Make an instance that keeps its options."""
        network = super().__new__(cls)
        network.given_options = options
        return network

    @property
    def options(self) -> dict[str, Any]:
        """What it was built from, as under `network_g` in an option file, `type` included."""
        return {"type": type(self).__name__, **self.given_options}

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any) -> None:
        state_dict.pop(prefix + RECORD, None)
        super()._load_from_state_dict(state_dict, prefix, *args)
