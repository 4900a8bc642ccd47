"""Stage 5, when asked for: the tests of the ops, those too that only a GPU does not skip, on all cores."""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from xml.etree import ElementTree

from bootstrap import ROOT

from gpu_stages.cases import Case
from gpu_stages.journal import Row
from gpu_stages.sizes import Sizes

__all__ = ["cases"]

TESTS = ("tests/ops", "--deselect", "tests/ops/test_ahead_of_time.py")
DRY_RUN_TESTS = ("tests/ops/test_position_table.py",)


def cases(sizes: Sizes, args: argparse.Namespace) -> Iterator[Case]:
    """Yield the one case."""
    yield Case("tests", partial(_test, DRY_RUN_TESTS if sizes.small else TESTS), seconds=args.seconds)


def _test(what: tuple[str, ...]) -> Iterator[Row]:
    with TemporaryDirectory() as folder:
        report = Path(folder, "report.xml")
        workers = str(min(os.cpu_count() or 1, 12))
        command = [sys.executable, "-m", "pytest", *what, "-q", "-n", workers, f"--junitxml={report}"]
        subprocess.run(command, cwd=ROOT, stdout=sys.stderr)
        yield from _read(ElementTree.parse(report).getroot())


def _read(report: ElementTree.Element) -> Iterator[Row]:
    """Yield a row for each test that failed, and one with the counts."""
    tests = list(report.iter("testcase"))
    wrong = [(test, fault) for test in tests for fault in test if fault.tag in ("failure", "error")]
    for test, fault in wrong:
        name = f"{test.get('classname')}::{test.get('name')}"
        yield {"test": name, "message": (fault.get("message") or "")[:300], "passed": False}
    skipped = sum(test.find("skipped") is not None for test in tests)
    yield {"tests": len(tests), "failed": len(wrong), "skipped": skipped}
