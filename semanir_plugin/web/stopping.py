"""Stop a network within a picture, and tell how far it is, by hooks on its modules."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch import nn

__all__ = ["Pulse", "Stopped"]


class Stopped(BaseException):
    """Nobody waits for the result any longer; no `Exception`, so that what tells of failures lets it pass."""


class Pulse:
    """Beats with every module of a network that runs.

    Attributes:
        stop: Once set, the next beat raises `Stopped`.
    """

    def __init__(self, stop: threading.Event) -> None:
        self.stop = stop
        self._beats, self._beats_of_a_tile, self._tiles = 0, 1, (0, 1)
        self._share = 0.0

    @property
    def share(self) -> float:
        """Share of a picture that is done, in [0, 1]: by its tiles, within one by the modules; it never falls."""
        done, total = self._tiles
        within = min(self._beats / self._beats_of_a_tile, 0.99)
        self._share = max(self._share, min(1.0, (done + within * (done < total)) / total))
        return self._share

    def on_tile(self, done: int, total: int) -> None:
        """Take note of a tile that is done, as a `Progress`."""
        self._tiles, self._beats = (done, total), 0

    @contextmanager
    def within(self, network: nn.Module, passes: int) -> Iterator[None]:
        """Within the block, beat with a network that sees each tile a number of times."""
        modules = list(network.modules())
        self._beats_of_a_tile = len(modules) * passes
        hooks = [module.register_forward_pre_hook(self._beat) for module in modules]
        try:
            yield
        finally:
            for hook in hooks:
                hook.remove()

    def _beat(self, *_: Any) -> None:
        if self.stop.is_set():
            raise Stopped
        self._beats += 1
