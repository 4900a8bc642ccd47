"""Share key-semantic dictionaries among layers that were mixed into a network one by one."""

from __future__ import annotations

import threading
from collections.abc import Hashable

from torch import Tensor

from semanir_plugin.blocks.attention import Attention, Context
from semanir_plugin.blocks.windows import Windows
from semanir_plugin.ops.common.portable import only_standard_operators

__all__ = ["SharedSemantics"]


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

    def context(self, attn: Attention, x: Tensor, windows: Windows, topk: int, *, position: Hashable) -> Context:
        """Return `attn.context(x, windows, topk)`, cached by position, shape, device, `topk` and similarity.

        Args:
            attn: Attention on windows.
            x: Tokens, as they come before `windows.partition`; of a later layer's only shape and device matter.
            windows: Where its windows are.
            topk: Keys per query.
            position: Equal for layers whose windows lie alike.
        """
        if not hasattr(self._of_thread, "built"):
            self.clear()
        built: dict[Hashable, Context] = self._of_thread.built
        key: Hashable = (position, x.shape[:-1], x.device, topk, attn.similarity)
        if only_standard_operators():
            key = repr(key)  # symbols of an exporter cannot be hashed; equal ones are written alike
        if key not in built:
            built[key] = attn.context(x, windows, topk)
        return built[key]

    def __reduce__(self) -> tuple[type[SharedSemantics], tuple[()]]:
        # A copy of a network has passes of its own.
        return SharedSemantics, ()
