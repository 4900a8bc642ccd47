"""Times key-semantic attention and its dictionary on a CPU, backend against backend, on features of a photograph."""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from bootstrap import ROOT, run_in_venv

TOKENS, HEADS, WIDTH, CHANNELS = 4096, 6, 30, 180
TOLERANCE = 1e-4
BACKENDS = ("mask", "gather", "sdpa", "blockwise")
COLOURS = ("#0072B2", "#E69F00", "#009E73", "#D55E00", "#000000")  # Okabe-Ito, safe for the colour-blind; dense is last
GATHER_LIMIT = 128  # keys per query beyond which Torch-Gather takes gigabytes


def main() -> int:
    """Measure, print a table, write JSON and a plot; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, allow_abbrev=False)
    parser.add_argument("--quick", action="store_true", help="one window size and two k, fewer repetitions")
    parser.add_argument("--out", type=Path, default=Path("results/benchmark_ops"), help="where JSON and plot go")
    args = parser.parse_args()
    run_in_venv()
    sizes = [(1024, 64), (1024, 512)] if args.quick else [(n, k) for n in (256, 1024) for k in (32, 64, 128, 256, 512)]
    rows = []
    for n, k in (size for size in sizes if size[1] <= size[0]):
        rows.append(measure_row(n, k, repeats=3 if args.quick else 9))
        print_row(rows[-1], header=len(rows) == 1)
    args.out.mkdir(parents=True, exist_ok=True)
    report = {"machine": describe_machine(), "command": " ".join(sys.argv), "rows": rows}
    (args.out / "benchmark_ops.json").write_text(json.dumps(report, indent=2) + "\n")
    plot(rows, args.out / "benchmark_ops.png")
    print(f"{report['machine']}\nWritten to {args.out.resolve()}")
    return 0


def make_inputs(n: int, k: int) -> tuple[Any, list[Any], Any]:
    """Return features (B, N, C) of a photograph, q, k, v and bias, and the dictionary of the features."""
    import skimage.data
    import torch

    from semanir_plugin.blocks.windows import partition_windows
    from semanir_plugin.ops import build_key_semantics

    torch.manual_seed(0)
    side = int(TOKENS**0.5)
    photo = torch.from_numpy(skimage.data.astronaut()[100 : 100 + side, 100 : 100 + side]).float() / 255
    features = torch.nn.functional.conv2d(photo.permute(2, 0, 1)[None], torch.randn(CHANNELS, 3, 3, 3) / 5, padding=1)
    x = partition_windows(features.permute(0, 2, 3, 1), int(n**0.5))
    tensors = [torch.randn(TOKENS // n, HEADS, n, WIDTH) for _ in range(3)] + [torch.randn(HEADS, n, n)]
    return x, tensors, build_key_semantics(x, k)


def attend(backend: str, tensors: list[Any], semantics: Any) -> Any:
    """Run one backend; "dense" is PyTorch's attention without bias and mask, the limit."""
    import torch.nn.functional as F

    from semanir_plugin.ops import key_semantic_attention

    q, k, v, bias = tensors
    if backend == "dense":
        return F.scaled_dot_product_attention(q, k, v)
    return key_semantic_attention(q, k, v, semantics, bias=bias, backend=backend)


def step(backend: str, tensors: list[Any], semantics: Any) -> list[Any]:
    """Run one backend forward and backward; return output and gradients."""
    leaves = [tensor.detach().requires_grad_() for tensor in tensors]
    out = attend(backend, leaves, semantics)
    out.square().sum().backward()
    return [out.detach(), *(leaf.grad for leaf in leaves if leaf.grad is not None)]


def measure_row(n: int, k: int, repeats: int) -> dict[str, Any]:
    """Measure every backend at one size, after comparing it with naive."""
    import torch

    from semanir_plugin.ops import build_key_semantics

    x, tensors, semantics = make_inputs(n, k)
    truth = step("naive", tensors, semantics)
    used = semantics.mask().any(1).float().mean().item()
    row: dict[str, Any] = {"n": n, "k": k, "keys_used": used, "backends": {}}
    for backend in (*BACKENDS, "dense"):
        if backend == "gather" and k > GATHER_LIMIT:
            continue
        if backend != "dense":
            check(backend, step(backend, tensors, semantics), truth)
        with torch.no_grad():
            inference = median_ms(partial(attend, backend, tensors, semantics), repeats)
        training = median_ms(partial(step, backend, tensors, semantics), repeats)
        memory = None if backend == "dense" else peak_mb(backend, n, k)
        row["backends"][backend] = {"inference_ms": inference, "training_ms": training, "training_mb": memory}
    row["dictionary_ms"] = median_ms(lambda: build_key_semantics(x, k), repeats)
    row["matmul_topk_ms"] = median_ms(lambda: (x @ x.mT).topk(k), repeats)
    return row


def check(backend: str, results: list[Any], truth: list[Any]) -> None:
    """Refuse to time what is not right."""
    errors = [((a - b).norm() / b.norm()).item() for a, b in zip(results, truth, strict=True)]
    if not max(errors) < TOLERANCE:
        sys.exit(f"{backend} differs from naive by {max(errors):.1e}; nothing is measured")


def median_ms(function: Callable[[], Any], repeats: int) -> float:
    """Return the median of several runs in milliseconds, after one that warms up."""
    function()
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        function()
        times.append(time.perf_counter() - start)
    return 1000 * statistics.median(times)


def peak_mb(backend: str, n: int, k: int) -> float | None:
    """Return by how much one training step raises the peak memory of a fresh process, in MiB; Linux only."""
    if not Path("/proc/self/clear_refs").exists():
        return None
    with get_context("spawn").Pool(1) as pool:
        return pool.apply(_peak_mb, (backend, n, k))


def _peak_mb(backend: str, n: int, k: int) -> float:
    _, tensors, semantics = make_inputs(n, k)
    Path("/proc/self/clear_refs").write_text("5")  # the peak starts anew from what is in use
    before = _high_water_mb()
    step(backend, tensors, semantics)
    return _high_water_mb() - before


def _high_water_mb() -> float:
    status = Path("/proc/self/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) / 1024


def print_row(row: dict[str, Any], *, header: bool) -> None:
    """Print one line: inference ms / training ms / training MiB of each backend."""
    if header:
        print(f"{TOKENS} tokens, {HEADS} heads of width {WIDTH}, fp32: inference ms / training ms / training MiB")
        titles = "".join(f"{name:>22s}" for name in (*BACKENDS, "dense"))
        print(f"{'N':>5s} {'k':>4s} {'keys used':>9s} {titles} {'dictionary':>11s} {'matmul+topk':>12s}")
    cells = ""
    for name in (*BACKENDS, "dense"):
        cell = row["backends"].get(name)
        memory = "" if not cell or cell["training_mb"] is None else f" / {cell['training_mb']:.0f}"
        text = f"{cell['inference_ms']:.0f} / {cell['training_ms']:.0f}{memory}" if cell else "-"
        cells += f"{text:>22s}"
    print(
        f"{row['n']:5d} {row['k']:4d} {row['keys_used']:9.0%} {cells} "
        f"{row['dictionary_ms']:11.0f} {row['matmul_topk_ms']:12.0f}",
        flush=True,
    )


def describe_machine() -> str:
    """Say on what this was measured."""
    import torch

    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, capture_output=True, text=True).stdout
    return (
        f"{platform.machine()}, {torch.get_num_threads()} threads, {torch.backends.cpu.get_cpu_capability()}, "
        f"Python {platform.python_version()}, torch {torch.__version__}, commit {commit.strip() or 'unknown'}"
    )


def plot(rows: list[dict[str, Any]], path: Path) -> None:
    """Draw time against k, inference and training, for the largest window measured."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    n = max(row["n"] for row in rows)
    rows = [row for row in rows if row["n"] == n]
    figure, axes = plt.subplots(1, 2, figsize=(11, 4.2), layout="constrained")
    for axis, key in zip(axes, ("inference_ms", "training_ms"), strict=True):
        for backend, marker, colour in zip((*BACKENDS, "dense"), "osD^x", COLOURS, strict=True):
            points = [(row["k"], row["backends"][backend][key]) for row in rows if backend in row["backends"]]
            axis.plot(*zip(*points, strict=True), marker=marker, color=colour, label=backend)
        axis.set(title=f"{key.partition('_')[0]}, N = {n}", xlabel="keys per query", ylabel="milliseconds")
        axis.set_xscale("log", base=2)
        axis.xaxis.set_major_formatter("{x:.0f}")
        axis.set_yscale("log")
        axis.grid(alpha=0.3)
    axes[0].legend()
    figure.savefig(path, dpi=110)


if __name__ == "__main__":
    sys.exit(main())
