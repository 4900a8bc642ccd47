"""A short run of each target of `guided_fuzz`."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from tests.conftest import ROOT

pytest.importorskip("atheris", reason="atheris is not installed: pip install -e .[fuzz]")


@pytest.mark.slow
@pytest.mark.parametrize("target", ["options", "overrides", "images"])
def test_nothing_but_refusals_in_one_line(target, tmp_path):
    command = [sys.executable, "-m", "tests.security.guided_fuzz", target, "-runs=60", "-seed=1"]
    paths = os.pathsep.join([str(ROOT), *sys.path])
    environment = {**os.environ, "PYTHONPATH": paths}
    done = subprocess.run(command, cwd=tmp_path / "work", capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr[-3000:]
    assert "Done 60 runs" in done.stderr
