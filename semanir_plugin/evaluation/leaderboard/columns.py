"""What a leaderboard calls its columns: one table for the terminal, Markdown, CSV, JSON and the page."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

__all__ = ["AVERAGE", "COSTS", "NO_COST", "ROW_FIELDS", "CostColumn", "format_short"]


@dataclass(frozen=True)
class CostColumn:
    """A column of costs.

    Attributes:
        key: In `results.json` and `results.csv`: the label, and the unit of what these hold.
        label: In tables for people.
        unit: Of the figures in tables for people.
        factor: That unit in the one of the key.
        about: What the figure is, in a few words.
    """

    key: str
    label: str
    unit: str
    factor: float = 1
    about: str = ""


COSTS = (
    CostColumn("parameters", "parameters", "M", 1e6),
    CostColumn("mult_adds", "mult-adds", "G", 1e9, about="a multiplication and its addition counted as one"),
    CostColumn("time_ms", "time", "ms", about="the median of the runs, with its quartiles"),
    CostColumn("processor_time_ms", "processor time", "ms", about="the least of the runs, of all threads together"),
    CostColumn("memory_mib", "memory", "MiB", about="what the peak adds to the weights"),
)
_TIMES = ("time_ms", "time_low_ms", "time_high_ms", "processor_time_ms", "disturbed")
NO_COST: dict[str, Any] = dict.fromkeys(("parameters", "mult_adds", *_TIMES, "memory_mib"))
"""The costs of a row of which none is known, in the order of `results.json` and `results.csv`."""
AVERAGE = "average"
"""Name of the column that has the mean of all test sets."""
ROW_FIELDS = ("model", "kind", "source", *NO_COST)
"""What `results.json` and `results.csv` say of each row beside its scores."""


def format_short(value: float) -> str:
    """Return three digits of a quantity of any magnitude, fewer where it is below a thousandth."""
    if value == 0 or not math.isfinite(value):
        return f"{value:.0f}"
    digits = max(0, 2 - math.floor(math.log10(abs(value))))
    return f"{value:,.{min(digits, 5)}f}"
