"""Weights of a network as it was before blocks were mixed in."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor, nn

from semanir_plugin.mixing.stand_ins import StandIn, WindowsStandIn

__all__ = ["HostWeights", "is_mixed", "load_host_weights", "translate_host_weights"]


@dataclass(frozen=True)
class HostWeights:
    """Account of the weights of an unmixed network after loading.

    Attributes:
        taken: Names of the weights that the mixed network has too.
        new: Names of the mixed blocks' own, which stay as they are.
        left_out: Names of those of modules that blocks replaced.
    """

    taken: tuple[str, ...]
    new: tuple[str, ...]
    left_out: tuple[str, ...]

    def __str__(self) -> str:
        parts = [f"{len(self.taken)} weights of the host taken", f"{len(self.new)} of mixed blocks are new"]
        if self.left_out:
            parts.append(f"{len(self.left_out)} of replaced modules left out")
        return ", ".join(parts)


def is_mixed(name: str) -> bool:
    """Tell whether a weight belongs to a mixed block, by its name."""
    return any(part.startswith("mixed") for part in name.split("."))


def translate_host_weights(network: nn.Module, state: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], HostWeights]:
    """Complete the weights of an unmixed network to those of a mixed one.

    Args:
        network: Network that `mix` changed.
        state: Weights of the unmixed network, under its names. Unknown ones are kept, so that strict loading
            finds them.

    Returns:
        Weights to load, with the network's own of mixed blocks, and an account of them.
    """
    replaced = [f"{name}." for name, module in network.named_modules() if isinstance(module, StandIn | WindowsStandIn)]
    own = network.state_dict()
    new = {name: value for name, value in own.items() if is_mixed(name) and name not in state}
    left_out = [name for name in state if name not in own and name.startswith(tuple(replaced))]
    kept = {name: value for name, value in state.items() if name not in left_out}
    taken = tuple(name for name in kept if name in own)
    return {**kept, **new}, HostWeights(taken, tuple(new), tuple(left_out))


def load_host_weights(network: nn.Module, state: Mapping[str, Tensor]) -> HostWeights:
    """Load weights of a network as it was before `mix` changed it.

    Args:
        network: Network that `mix` changed.
        state: Weights of the network as it was.

    Raises:
        RuntimeError: They are of another network.
    """
    translated, account = translate_host_weights(network, state)
    network.load_state_dict(translated)
    return account
