"""Have commands read files that were changed at random: each may refuse, in one line, and do nothing else.

A traceback, an exit code of its own, a file left half-written, a case that takes too long or ends the process is a
finding: its files stay, and `--only ... --case N` tries it again.
"""

from __future__ import annotations

import argparse
import logging
import random
import shutil
import tempfile
from collections import Counter
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from bootstrap import run_in_venv
from mutations.targets import TARGETS

SECONDS = 20
"""A case may take."""


def main() -> int:
    """Run the test; return the exit code: 1 where something was found."""
    args = parse_arguments()
    run_in_venv()
    found = False
    folder = Path(tempfile.mkdtemp(prefix="mutation_test_"))
    quieten()
    for name in args.only or TARGETS:
        target = TARGETS[name](folder / name.replace(" ", "_"))
        cases = args.case or range(max(1, round(target.count * args.share)))
        found |= test(name, target, cases, args)
    shutil.rmtree(folder)
    return int(found)


def parse_arguments() -> argparse.Namespace:
    """Return the command line's arguments."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0], allow_abbrev=False)
    parser.add_argument("--share", type=float, default=1.0, help="of the cases of a full test (default: 1)")
    parser.add_argument(
        "--only", nargs="+", choices=list(TARGETS), metavar="KIND", help=f"of files: {', '.join(TARGETS)}"
    )
    parser.add_argument("--case", type=int, nargs="+", help="numbers of cases, which the test gives")
    parser.add_argument("--seed", type=int, default=0, help="of the changes (default: 0)")
    parser.add_argument("--processes", type=int, default=2, help="(default: 2)")
    return parser.parse_args()


def test(name: str, target: Any, cases: Sequence[int], args: argparse.Namespace) -> bool:
    """Try the cases of a kind of files and print what came of them; return whether something was found."""
    from mutations.pool import run_cases
    from tqdm import tqdm

    reports = run_cases(partial(attempt, target, args.seed), cases, args.processes, SECONDS)
    counts: Counter[str] = Counter()
    slowest = (0.0, 0)
    for report in tqdm(reports, desc=name, total=len(cases), unit="case", disable=None):
        counts[summary_of(report)] += 1
        slowest = max(slowest, (report.seconds, report.case))
        if report.problem:
            tqdm.write(f"{name} {report.case}: {report.problem}; see {report.folder}")
    print(f"{name}: {describe(counts)}; the slowest, {slowest[1]}, took {slowest[0]:.1f} s", flush=True)
    return any(counts[kind] for kind in KINDS)


KINDS = {"traceback": "tracebacks", "hang": "hangs", "crash": "crashes", "other finding": "other findings"}


def summary_of(report: Any) -> str:
    """Return what a case counts as."""
    if report.problem is None:
        return "refused" if report.refused else "read"
    return next((kind for kind in KINDS if f"{kind}:" in report.problem), "other finding")


def describe(counts: Counter[str]) -> str:
    """Return the line of a kind of files."""
    found = ", ".join(f"{counts[kind]} {plural}" for kind, plural in KINDS.items())
    return f"{counts.total():,} cases, {counts['refused']:,} refused, {counts['read']:,} read; {found}"


def attempt(target: Any, seed: int, case: int) -> tuple[str | None, bool]:
    """Try a case: what changes follows from the seed, the kind of files and the number of the case."""
    found: tuple[str | None, bool] = target.attempt(random.Random(f"{seed}/{type(target).__name__}/{case}"))
    return found


def quieten() -> None:
    """Have processes compute with one thread each, which is what can be forked, and log nothing of libraries."""
    import cv2
    import torch

    import semanir_plugin  # noqa: F401  # attaches to BasicSR, which comes next
    import basicsr  # noqa: F401  # isort: skip

    torch.set_num_threads(1)
    cv2.setNumThreads(0)
    logging.getLogger("PIL").setLevel(logging.CRITICAL)


if __name__ == "__main__":
    raise SystemExit(main())
