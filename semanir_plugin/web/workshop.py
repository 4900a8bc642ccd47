"""What the page does: restore the pictures of several visitors one after another, and keep results for a while."""

from __future__ import annotations

import secrets
import shutil
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from semanir_plugin.errors import UserError
from semanir_plugin.inference.photograph_restoration import PhotographRestoration
from semanir_plugin.inference.restorer import Restorer
from semanir_plugin.web.batch import Batch, Report
from semanir_plugin.web.offers import Offer
from semanir_plugin.web.stopping import Stopped

__all__ = ["MOST_FILES", "Settings", "Workshop"]

MOST_FILES = 100
"""Pictures that are restored at once."""

KEPT = 60 * 60
"""Seconds that results are kept of someone who has gone without saying so."""

INTERVAL = 0.25  # seconds between reports
STARTING = "starting"
WAITING = "waiting for pictures of others"


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What a visitor chose.

    Attributes:
        offer: The label of a network.
        topk: Keys per query; None: the network's own choice.
        tile: As of `RestorationOptions`.
        self_ensemble: As of `RestorationOptions`.
    """

    offer: str
    topk: int | None = None
    tile: int | Literal["auto"] | None = None
    self_ensemble: bool = False


@dataclass
class Visitor:
    """Someone's folder, and whether their work is to stop."""

    folder: Path
    stop: threading.Event = field(default_factory=threading.Event)
    seen: float = field(default_factory=time.monotonic)


class Workshop:
    """Restores pictures, one at a time whoever asks, in a folder of its own.

    Attributes:
        offers: The networks, by label.
        folder: Where results lie: in a folder for each visitor, whose name nobody can guess.
        most_pixels: Pixels that a picture may have.
    """

    def __init__(self, offers: Sequence[Offer], folder: Path, *, most_pixels: int, device: str | None = None) -> None:
        self.offers = {offer.label: offer for offer in offers}
        self.folder, self.most_pixels, self._device = folder, most_pixels, device
        self._visitors: dict[str, Visitor] = {}
        self._loaded: tuple[str, Restorer] | None = None  # one at a time: they may be large
        self._bench = ThreadPoolExecutor(1, thread_name_prefix="restoring")

    def restore(self, visitor: str, pictures: Sequence[Path], settings: Settings) -> Iterator[Report]:
        """Restore a visitor's pictures, and report a few times a second; earlier results of theirs are removed.

        Closing the iterator stops the work.

        Raises:
            UserError: There are no pictures, or too many, or the settings do not go with the network.
        """
        if not pictures:
            raise UserError("drop a picture first, or take the example")
        if len(pictures) > MOST_FILES:
            raise UserError(f"{len(pictures)} pictures are too many; drop at most {MOST_FILES} at once")
        self.forget(visitor)
        self._forget_who_has_gone()
        here = self._visitors[visitor] = Visitor(self.new_folder())
        batch = Batch(here.folder, here.stop, pictures)
        work = self._bench.submit(self._run, batch, settings)
        try:
            yield Report(doing=STARTING)
            while not wait([work], timeout=INTERVAL).done:
                here.seen = time.monotonic()
                yield batch.report if work.running() else Report(doing=WAITING)
            work.result()
            yield batch.report
        except GeneratorExit:
            here.stop.set()
            work.cancel()
            raise

    def stop(self, visitor: str) -> None:
        """Stop a visitor's work; what is restored stays."""
        if visitor in self._visitors:
            self._visitors[visitor].stop.set()

    def forget(self, visitor: str) -> None:
        """Stop a visitor's work, and remove their results."""
        here = self._visitors.pop(visitor, None)
        if here is not None:
            here.stop.set()
            shutil.rmtree(here.folder, ignore_errors=True)

    def close(self) -> None:
        """Stop all work, and wait for its end."""
        for here in self._visitors.values():
            here.stop.set()
        self._bench.shutdown(wait=True, cancel_futures=True)

    def new_folder(self) -> Path:
        """Make a folder whose name nobody can guess, and return it."""
        folder = self.folder / secrets.token_urlsafe(16)
        folder.mkdir()
        return folder

    def _forget_who_has_gone(self) -> None:
        now = time.monotonic()
        for visitor in [name for name, here in self._visitors.items() if now - here.seen > KEPT]:
            self.forget(visitor)

    def _run(self, batch: Batch, settings: Settings) -> None:
        """Restore a batch; on the bench, where nothing else runs meanwhile."""
        try:
            batch.run(self._configure(settings), self.most_pixels)
        except Stopped:
            pass  # what is done is kept
        finally:
            batch.finish()

    def _configure(self, settings: Settings) -> PhotographRestoration:
        restorer = self._load(settings.offer)
        try:
            return restorer.configure(tile=settings.tile, topk=settings.topk, self_ensemble=settings.self_ensemble)
        except ValueError as error:
            raise UserError(str(error)) from error

    def _load(self, label: str) -> Restorer:
        if label not in self.offers:
            raise UserError("there is no such network; choose one of the list")
        if self._loaded is None or self._loaded[0] != label:
            self._loaded = None  # before the next one is made
            self._loaded = label, self.offers[label].load(self._device)
        return self._loaded[1]
