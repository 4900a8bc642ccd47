"""Runs on a GPU what needs one: the tests of the kernels, benchmarks of the ops and of training steps, and a training.

Each part has a file in OUT, and its own limit of time; one that fails does not keep the others from running. Takes the
interpreter that it is started with, if SEMANIR_VENV=0. SEMANIR_DATA names a folder with train/BSD400.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from pathlib import Path

from bootstrap import ROOT, run_in_venv

# Name, seconds, what to run with Python.
TESTS = ("tests", 600, ["-m", "pytest", "tests/ops", "-q", "--deselect", "tests/ops/test_ahead_of_time.py"])
BENCHMARK = ("benchmark", 600, [str(ROOT / "scripts" / "benchmark_ops.py"), "--device", "cuda"])
LIGHT = [str(ROOT / "options" / f"train_{name}_light_SRx4.yml") for name in ("SemanIR", "SwinIR")]
THROUGHPUT_OPTIONS = ["--batch", "32", "--bf16", "--compile", "--device", "cuda"]
THROUGHPUT = ("throughput", 400, [str(ROOT / "scripts" / "benchmark_training.py"), *LIGHT, *THROUGHPUT_OPTIONS])
TRAINING = ("training", 400, [str(ROOT / "scripts" / "demo.py"), "--seconds", "60"])


def main() -> int:
    """Run the parts; return 0 if all succeeded."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("results/check_gpu"), help="default: results/check_gpu")
    args = parser.parse_args()
    run_in_venv()
    import torch

    if not torch.cuda.is_available():
        print("check_gpu: torch finds no CUDA device here; run it on a machine with one", file=sys.stderr)
        return 2
    args.out.mkdir(parents=True, exist_ok=True)
    print(f"{torch.cuda.get_device_name()}, torch {torch.__version__}", flush=True)
    benchmarks = [(*each[:2], [*each[2], "--out", str(args.out.resolve())]) for each in (BENCHMARK, THROUGHPUT)]
    parts = [TESTS, *benchmarks, TRAINING]
    return max(run_part(name, seconds, command, args.out) for name, seconds, command in parts)


def run_part(name: str, seconds: float, command: list[str], out: Path) -> int:
    """Run one part into its file, say how it ended, and return 0 if it succeeded."""
    start, path = time.monotonic(), out / f"{name}.txt"
    cwd = ROOT if name == "tests" else out
    with path.open("w") as file:
        try:
            code = subprocess.run(
                [sys.executable, *command], cwd=cwd, stdout=file, stderr=subprocess.STDOUT, timeout=seconds
            ).returncode
            ending = "succeeded" if code == 0 else f"failed ({code})"
        except subprocess.TimeoutExpired:
            code, ending = 1, f"stopped after {seconds} s"
    print(f"{name}: {ending} in {time.monotonic() - start:.0f} s; see {path}", flush=True)
    return int(code != 0)


if __name__ == "__main__":
    sys.exit(main())
