"""Account of a training's unreadable images: logged, counted over all its runs; too many end it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from basicsr.utils import get_root_logger
from basicsr.utils.dist_util import get_dist_info

from semanir_plugin.atomic_io import write_atomic
from semanir_plugin.basicsr_host.data.tolerant_dataset import UNREADABLE
from semanir_plugin.errors import UserError
from semanir_plugin.schema.forms import form_problem
from semanir_plugin.schema.values import FromZero

__all__ = ["UnreadableImages"]


class UnreadableImages:
    """Account of the images that were skipped.

    An image counts once, however often it is met.

    Args:
        most: Images that may be unreadable.
        report: Where they are named; what an earlier run of this training named there counts too.

    Raises:
        UserError: The report is there, but is none.
    """

    def __init__(self, *, most: int, report: Path) -> None:
        self.most = most
        self.report = report
        self.found = _read(report)

    def take(self, iteration: int, batch: dict[str, Any]) -> None:
        """Remove a batch's record of unreadable images, and count them.

        Raises:
            UserError: There are too many, or nothing could be read in place of one.
        """
        passed = batch.pop(UNREADABLE)
        new = {each["image"]: {"iteration": iteration, **each} for each in passed if each["image"] not in self.found}
        if new:
            self.found |= new
            write_atomic(json.dumps(list(self.found.values()), indent=1).encode(), self.report)
        if passed and (len(self.found) > self.most or not batch):
            raise UserError(self._too_many(passed[-1]["reason"]))
        for number, each in enumerate(new.values(), start=len(self.found) - len(new) + 1):
            text = f"Iteration {iteration:,}: {each['reason']}; another image takes its place"
            _warn(f"{text}: {number:,} of at most {self.most:,}.")

    def _too_many(self, last: str) -> str:
        if not self.most:
            return f"{last} (train.max_unreadable: 0)"
        count = f"{len(self.found):,} image{'s' if len(self.found) > 1 else ''}"
        return (
            f"{count} cannot be read, where train.max_unreadable allows {self.most:,}: {self.report} names them; mend "
            f"them and remove it, or raise the limit; the last: {last}"
        )


def _warn(text: str) -> None:
    """Log a warning; on processes but the first as an error, the only kind of message that those show."""
    rank, _ = get_dist_info()
    if rank == 0:
        get_root_logger().warning(text)
    else:
        get_root_logger().error(f"Process {rank}: {text}")


def _read(report: Path) -> dict[str, Mapping[str, Any]]:
    if not report.exists():
        return {}
    try:
        images = json.loads(report.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"{report}: not the list of unreadable images that it was; remove it") from error
    if problem := form_problem(images, [{"image": str, "iteration": FromZero, "reason": str}]):
        raise UserError(f"{report}: not the list of unreadable images that it was, as {problem}; remove it")
    return {each["image"]: each for each in images}
