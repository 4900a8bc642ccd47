from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

import semanir_plugin

ROOT = Path(semanir_plugin.__file__).parents[1]


@pytest.fixture
def python(tmp_path):
    """Runs code in a fresh interpreter that has imported nothing yet, and returns what it printed."""

    def run(code: str) -> str:
        env = {**os.environ, "PYTHONPATH": str(ROOT)}
        command = [sys.executable, "-c", code]
        done = subprocess.run(command, env=env, cwd=tmp_path, capture_output=True, text=True, timeout=120)
        assert done.returncode == 0, done.stderr
        return done.stdout

    return run


@pytest.fixture
def stock():
    """Executes one of BasicSR's modules afresh, under no name, so that its classes are as BasicSR wrote them."""

    def load(name: str) -> ModuleType:
        spec = importlib.util.find_spec(name)
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module

    return load
