"""Native kernels read and write nothing but what they were given."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.ops import checked_memory


def library(name: str) -> Path:
    found = subprocess.run(["cc", f"-print-file-name=lib{name}.so"], capture_output=True, text=True, check=True)
    return Path(found.stdout.strip())


@pytest.mark.skipif(shutil.which("cc") is None, reason="there is no C compiler")
def test_kernels_stay_within_their_memory(tmp_path):
    checks = [library("asan"), library("ubsan")]
    if not all(each.is_file() for each in checks):
        pytest.skip("the compiler has no address checks")
    settings = {
        "LD_PRELOAD": " ".join(map(str, checks)),
        "ASAN_OPTIONS": "detect_leaks=0",  # Python's own
        "XDG_CACHE_HOME": str(tmp_path),
        "PYTHONPATH": str(Path(checked_memory.__file__).parents[2]),
    }
    command = [sys.executable, checked_memory.__file__]
    result = subprocess.run(command, env={**os.environ, **settings}, capture_output=True, text=True, timeout=300)
    assert "all within their memory" in result.stdout, result.stderr[-3000:]
