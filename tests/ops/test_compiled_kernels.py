"""Compiled kernels, run instruction by instruction on a CPU: each op against its definition in float64.

Here are small sizes, for one architecture each, by turns; `python -m tests.ops.emulated_gpu.cases 90` runs all, large
ones too, for one.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from tests.conftest import ROOT
from tests.ops.emulated_gpu.cases import NAMES

# By the dtype that a case names; of a dictionary keys are counted, of which none may differ.
TOLERANCES = {"fp32": 1e-6, "fp16": 1e-3, "bf16": 5e-3}
ARCHITECTURES = (80, 90)


@pytest.fixture(scope="module")
def told(pytestconfig):
    """Run all cases; return what was told of each."""
    cache = pytestconfig.cache.mkdir("emulated_triton")
    environment = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    environment |= {"TRITON_CACHE_DIR": str(cache), "OMP_NUM_THREADS": "1"}
    runs = [
        subprocess.Popen(
            [sys.executable, "-m", "tests.ops.emulated_gpu.cases", str(architecture), *NAMES[first::2]],
            **{"cwd": ROOT, "env": environment, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True},
        )
        for first, architecture in enumerate(ARCHITECTURES)
    ]
    outputs = [run.communicate() for run in runs]
    assert not any(run.returncode for run in runs), outputs
    lines = [json.loads(line) for output, _ in outputs for line in output.splitlines()]
    return {line["name"]: line for line in lines}


@pytest.mark.parametrize("name", NAMES)
def test_a_compiled_kernel_gives_what_its_op_is_defined_as(told, name):
    case = told[name]
    assert "failure" not in case, case["failure"]
    assert case["kernels"]
    tolerance = 0 if name.startswith("dictionary") else next(TOLERANCES[each] for each in TOLERANCES if each in name)
    assert case["error"] <= tolerance
