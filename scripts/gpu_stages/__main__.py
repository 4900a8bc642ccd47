"""Run one stage in this process; `check_gpu.py` starts it."""

from __future__ import annotations

import argparse
import importlib
import sys
from pathlib import Path

from gpu_stages.cases import run_cases, warm_up
from gpu_stages.journal import Journal
from gpu_stages.sizes import DRY_RUN, FULL
from gpu_stages.supervision import STAGES


def main() -> int:
    """Run the stage's cases; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, allow_abbrev=False)
    parser.add_argument("stage", choices=[stage.name for stage in STAGES])
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--seconds", type=float)
    parser.add_argument("--warm", type=int, nargs=2, metavar=("INDEX", "COUNT"), help="compile one of COUNT shares")
    parser.add_argument("--dry-run", action="store_true")
    parser.add_argument("--data", type=Path)
    parser.add_argument("--start", type=Path)
    args = parser.parse_args()
    module = importlib.import_module(f"gpu_stages.{args.stage}")
    cases = module.cases(DRY_RUN if args.dry_run else FULL, args)
    if args.warm:
        warm_up(cases, *args.warm)
    else:
        run_cases(cases, Journal(args.output, args.stage))
    return 0


if __name__ == "__main__":
    sys.exit(main())
