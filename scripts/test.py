"""Install what is missing, then run the linters, the type checker and the tests."""

from __future__ import annotations

import argparse
import os
import shlex
import subprocess
import sys
import time

from bootstrap import ROOT, run_in_venv

LINT = ("ruff check .", "ruff format --check .", "mypy")


def main() -> int:
    """Run every check; return the exit code of the first that failed."""
    checks = choose_checks()
    run_in_venv(tests=True)
    results = [(shlex.join(check), *run(check)) for check in checks]
    print("\n== summary")
    for title, code, seconds in results:
        print(f"{'failed' if code else 'passed'}  {title}  ({seconds:.1f} s)")
    return next((code for _, code, _ in results if code), 0)


def choose_checks() -> list[list[str]]:
    """Read the command line; arguments it does not know are pytest's."""
    parser = argparse.ArgumentParser(
        description="Install what is missing, then run ruff, mypy and pytest. Unknown arguments go to pytest.",
        allow_abbrev=False,
    )
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--lint", action="store_true", help="only ruff and mypy")
    which.add_argument("--no-lint", action="store_true", help="only pytest")
    options, rest = parser.parse_known_args()
    if options.lint and rest:
        parser.error(f"--lint runs no pytest, which would take: {shlex.join(rest)}")
    lint = [] if options.no_lint else [shlex.split(check) for check in LINT]
    given = [argument for argument in rest if argument != "--"]
    return lint if options.lint else [*lint, ["pytest", *(given or in_parallel())]]


def in_parallel() -> list[str]:
    """Pytest's arguments for the whole suite: one process more than there are cores, since some wait for others."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    workers = min(cores + 1, 8)
    # More threads than cores wait for one another.
    os.environ.setdefault("OMP_NUM_THREADS", str(max(cores // workers, 1)))
    return ["-n", str(workers), "--dist", "worksteal"]


def run(check: list[str]) -> tuple[int, float]:
    """Run one check under its heading; return its exit code and the seconds it took."""
    print(f"\n== {shlex.join(check)}", flush=True)
    start = time.monotonic()
    code = subprocess.run([sys.executable, "-m", *check], cwd=ROOT).returncode
    return code, time.monotonic() - start


if __name__ == "__main__":
    sys.exit(main())
