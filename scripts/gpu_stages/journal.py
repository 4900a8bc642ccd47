"""Journal of the results so far, a JSON line each, which loses nothing when the process is killed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

__all__ = ["Journal", "Row"]

Row = dict[str, Any]


class Journal:
    """Lines of results.jsonl, each written whole the moment it is known.

    A case is settled when a line says how many seconds it took, or its error.

    Args:
        folder: Where results.jsonl is; running.txt beside it names the case that is being measured.
        stage: What its lines belong to.
    """

    def __init__(self, folder: Path, stage: str) -> None:
        self.path = folder / "results.jsonl"
        self.stage = stage
        self._running = folder / "running.txt"

    def write(self, **row: Any) -> None:
        """Add a line, and show it."""
        line = json.dumps({"stage": self.stage, **row})
        with self.path.open("a") as file:
            file.write(f"{line}\n")
        print(line, flush=True)

    def rows(self) -> list[Row]:
        """Return the lines of this stage."""
        lines = self.path.read_text().splitlines() if self.path.exists() else []
        return [row for row in map(json.loads, lines) if row["stage"] == self.stage]

    def settled(self) -> set[str]:
        """Return the cases that need not be measured again."""
        return {row["case"] for row in self.rows() if "case" in row and ("seconds" in row or "error" in row)}

    @property
    def running(self) -> str | None:
        """The case that is being measured."""
        return self._running.read_text() if self._running.exists() else None

    @running.setter
    def running(self, case: str | None) -> None:
        if case is None:
            self._running.unlink(missing_ok=True)
        else:
            self._running.write_text(case)
