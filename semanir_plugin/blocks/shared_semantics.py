"""Key-semantic dictionaries of token maps, and how several layers come to share them."""

from __future__ import annotations

import threading
from collections.abc import Callable, Hashable

from torch import Tensor

from semanir_plugin.blocks.windows import WindowGrid
from semanir_plugin.ops import KeySemantics, build_key_semantics
from semanir_plugin.ops.key_semantics import Similarity

__all__ = ["SharedSemantics", "build_in_windows"]


def build_in_windows(x: Tensor, grid: WindowGrid, topk: int, similarity: Similarity = "dot") -> KeySemantics:
    """Build the dictionary of each window of a token map.

    Args:
        x: (B, H, W, C), as large as the grid.
        grid: Where the windows are.
        topk: Keys per query.
        similarity: What makes two tokens alike, see `build_key_semantics`.
    """
    return build_key_semantics(grid.partition(x), topk, regions=grid.regions(x.device), similarity=similarity)


class SharedSemantics:
    """The dictionaries of one pass through a stage: the first layer that asks has one built, the others share it.

    Whoever owns it calls `clear` before each pass. A layer that is computed again in the backward pass, by activation
    checkpointing, would find another pass's dictionaries: have the stage as a whole computed again, not its layers.
    """

    def __init__(self) -> None:
        self._of_thread = threading.local()  # DataParallel runs its replicas, which share this, in threads

    def clear(self) -> None:
        """Forget the dictionaries of the last pass."""
        self._of_thread.built = {}

    def get(self, position: Hashable, build: Callable[[], KeySemantics]) -> KeySemantics:
        """Return the dictionary of a window position, built if this is the first time."""
        if not hasattr(self._of_thread, "built"):
            self.clear()
        built: dict[Hashable, KeySemantics] = self._of_thread.built
        if position not in built:
            built[position] = build()
        return built[position]

    def __reduce__(self) -> tuple[type[SharedSemantics], tuple[()]]:
        # A copy of a network has passes of its own.
        return SharedSemantics, ()
