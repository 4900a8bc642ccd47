"""A short run of each target of `guided_fuzz`."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from tests.conftest import ROOT

pytest.importorskip("atheris", reason="atheris is not installed: pip install -e .[fuzz]")


@pytest.mark.parametrize("target", ["options", "overrides", "images"])
def test_nothing_but_refusals_in_one_line(target):
    command = [sys.executable, "-m", "tests.security.guided_fuzz", target, "-runs=200", "-seed=1"]
    paths = os.pathsep.join([str(ROOT), *sys.path])
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "PYTHONPATH": paths})
    assert done.returncode == 0, done.stderr[-3000:]
    assert "Done 200 runs" in done.stderr
