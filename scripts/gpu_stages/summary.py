"""The results of all stages as tables, short enough to be read at the end of a run's output."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path

from gpu_stages.journal import Row

__all__ = ["summarize"]


def summarize(results: Path) -> str:
    """Return Markdown of a results.jsonl: what is wrong, times of ops and steps, and the training."""
    rows = [json.loads(line) for line in results.read_text().splitlines()]
    cases: dict[tuple[str, str], Row] = {}
    for row in rows:
        if "case" in row:
            _add(cases.setdefault((row["stage"], row["case"]), {}), row)
    parts = [_faults(rows), _ops(cases), _steps(cases), _training(rows), _endings(rows)]
    return "\n\n".join(filter(None, parts)) + "\n"


def _add(case: Row, row: Row) -> None:
    """Bring the lines of one case together; floors forward, and forward and backward, keep apart."""
    floor = {"both_floor_ms" if "both_ms" in row else "floor_ms": row["floor_ms"]} if "floor_ms" in row else {}
    case |= {key: value for key, value in row.items() if key not in ("stage", "case", "floor_ms")} | floor
    if "backend" in row:
        case[row["backend"]] = row["ms"]


def _faults(rows: Sequence[Row]) -> str:
    wrong = [row for row in rows if row.get("passed") is False or "error" in row]
    lines = [f"- {row['case']}: {row.get('error') or json.dumps(_told(row))}" for row in wrong]
    return "\n".join([f"{len(lines)} faults", *lines])


def _told(row: Row) -> Row:
    return {key: value for key, value in row.items() if key not in ("stage", "case", "passed")}


def _ops(cases: dict[tuple[str, str], Row]) -> str:
    timed = {name: case for (stage, name), case in cases.items() if stage == "kernels"}
    ops = ("forward_ms", "floor_ms", "both_ms", "both_floor_ms", "both_mib")
    dictionaries = ("triton", "matmul+topk", "floor_ms")
    return "\n\n".join(filter(None, [_chosen("op", ops, timed), _chosen("ms", dictionaries, timed)]))


def _chosen(title: str, keys: Sequence[str], cases: dict[str, Row]) -> str:
    """Return a table of some numbers of those cases that have the first one."""
    lines = ([name, *(case.get(key) for key in keys)] for name, case in cases.items() if keys[0] in case)
    return _table((title, *keys), lines)


def _steps(cases: dict[tuple[str, str], Row]) -> str:
    timed = {name: case for (stage, name), case in cases.items() if stage == "steps"}
    return _chosen("training step", ("images_per_second", "ms", "mib", "first_step_s"), timed)


def _training(rows: Sequence[Row]) -> str:
    last: Row = {}
    for row in rows:
        if row["stage"] == "training" and "error" not in row:
            last |= {key: row[key] for key in ("iteration", "loss", "seconds_per_iteration", "psnr") if key in row}
    return f"training: {json.dumps(last)}" if last else ""


def _endings(rows: Sequence[Row]) -> str:
    keys = ("stage", "ended", "after_s", "limit_s")
    return _table(keys, ([row[key] for key in keys] for row in rows if "ended" in row))


def _table(head: Sequence[str], lines: Iterable[Sequence[object]]) -> str:
    cells = [[_cell(each) for each in line] for line in lines]
    rows = [head, ["---"] * len(head), *cells]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows) if cells else ""


def _cell(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.3g}" if abs(value) < 100 else f"{value:.0f}"
    return "-" if value is None else str(value)
