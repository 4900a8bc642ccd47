"""Times the ops backend against backend, on features of a photograph: every backend is compared with naive before.

Runs on a GPU where there is one, else on the CPU. Three tables: key-semantic attention (a row for each number of tokens
per window, N, and of keys per query, k), the dictionary, and adaptive sparse attention.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from bootstrap import run_in_venv

HEADS, WIDTH, CHANNELS = 6, 30, 180  # SemanIR's
ASSA_HEADS, ASSA_WIDTH = 4, 32  # one of AST-B's decoder stages
GATHER_LIMIT = 2**27  # copied keys, in elements, beyond which Torch-Gather takes gigabytes


@dataclass(frozen=True)
class Plan:
    """What is measured on a kind of device.

    Attributes:
        dtype: Name of the inputs' dtype.
        tokens: Pixels that are cut into windows, for attention and dictionary.
        windows: Tokens per window, N.
        attention: Backends of key-semantic attention.
        dictionary: Backends of the dictionary.
        assa: Backends of adaptive sparse attention beside naive, the plain formula.
        assa_sizes: (windows, N) for it.
    """

    dtype: str
    tokens: int
    windows: tuple[int, ...]
    attention: tuple[str, ...]
    dictionary: tuple[str, ...]
    assa: tuple[str, ...]
    assa_sizes: tuple[tuple[int, int], ...]


OPS = ("attention", "dictionary", "assa")
KEYS = (32, 64, 128, 256, 512)
PLANS = {
    "cpu": Plan(
        dtype="float32",
        tokens=4096,
        windows=(256, 1024),
        attention=("mask", "gather", "sdpa", "blockwise", "native"),
        dictionary=("threshold", "native"),
        assa=("torch",),
        assa_sizes=((1024, 64), (4, 1024)),
    ),
    "cuda": Plan(
        dtype="bfloat16",
        tokens=65536,
        windows=(512, 1024, 2048, 4096),
        attention=("mask", "gather", "sdpa", "flex", "triton"),
        dictionary=("threshold", "triton"),
        assa=("torch", "triton"),
        assa_sizes=((16384, 64), (64, 1024)),
    ),
}


def main() -> int:
    """Measure, print tables, write JSON and a plot; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, allow_abbrev=False)
    parser.add_argument("--quick", action="store_true", help="one window size and two k, fewer repetitions")
    parser.add_argument("--device", choices=("cpu", "cuda"), help="where to measure; default: a GPU if there is one")
    parser.add_argument("--ops", nargs="+", choices=OPS, default=OPS, metavar="OP", help=f"of {', '.join(OPS)} (all)")
    parser.add_argument("--out", type=Path, default=Path("results/benchmark_ops"), help="where JSON and plot go")
    args = parser.parse_args()
    run_in_venv()
    from measuring import Floor, describe_machine

    device = args.device or default_device()
    plan = PLANS[device]
    repeats = 3 if args.quick else 9
    floor = Floor(plan.dtype) if device == "cuda" else None
    report: dict[str, Any] = {"machine": describe_machine(device), "command": " ".join(sys.argv)}
    print(report["machine"])
    sizes = [(n, k) for n in plan.windows for k in KEYS if k <= n]
    if args.quick:
        sizes = [(1024, 64), (1024, 512)]
    measures: dict[str, tuple[Callable[..., dict[str, Any]], Any]] = {
        "attention": (measure_attention, sizes),
        "dictionary": (measure_dictionary, sizes),
        "assa": (measure_assa, plan.assa_sizes),
    }
    for name in args.ops:
        measure, cases = measures[name]
        rows = report[name] = []
        for case in cases:
            rows.append(measure(*case, device, repeats, floor))
            print_row(name, rows[-1], columns(name, device), header=len(rows) == 1)
    args.out.mkdir(parents=True, exist_ok=True)
    (args.out / f"benchmark_ops_{device}.json").write_text(json.dumps(report, indent=2) + "\n")
    if "attention" in report:
        plot(report["attention"], args.out / f"benchmark_ops_{device}.png")
    print(f"Written to {args.out.resolve()}")
    return 0


def default_device() -> str:
    """Return "cuda" where there is a GPU, else "cpu"."""
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


def make_attention(n: int, k: int, device: str) -> tuple[Any, list[Any], Any]:
    """Return features (B, N, C) of a photograph, q, k, v and position table, and the dictionary of the features."""
    import skimage.data
    import torch

    from semanir_plugin.blocks.windows import partition_windows
    from semanir_plugin.ops import build_key_semantics

    torch.manual_seed(0)
    plan = PLANS[device]
    dtype, w = getattr(torch, plan.dtype), round(n**0.5)
    height, width = image_size(plan.tokens, n)
    photo = torch.from_numpy(skimage.data.astronaut()[100:, 100:][:height, :width]).float() / 255
    features = torch.nn.functional.conv2d(photo.permute(2, 0, 1)[None], torch.randn(CHANNELS, 3, 3, 3) / 5, padding=1)
    x = features.permute(0, 2, 3, 1)
    # Windows that are no square, as 512 tokens are, are cut in raster order and have a dense bias.
    x = partition_windows(x, w) if w * w == n else x.reshape(-1, n, CHANNELS)
    side = 2 * w - 1 if w * w == n else n
    tensors = [torch.randn(len(x), HEADS, n, WIDTH) for _ in range(3)] + [torch.randn(HEADS, side, side)]
    x = x.to(device, dtype)
    return x, [tensor.to(device, dtype) for tensor in tensors], build_key_semantics(x, k)


def image_size(tokens: int, n: int) -> tuple[int, int]:
    """Return height and width of a crop that windows of n tokens cut without a rest, of about `tokens` pixels."""
    side = round(tokens**0.5)
    w = round(n**0.5)
    return (side, side) if w * w != n else (side // w * w, side // w * w)


def attend(backend: str, tensors: list[Any], semantics: Any) -> Any:
    """Run one backend; "dense" is PyTorch's attention without bias and mask, the limit."""
    import torch.nn.functional as F

    from semanir_plugin.ops import key_semantic_attention

    q, k, v, bias = tensors
    if backend == "dense":
        return F.scaled_dot_product_attention(q, k, v)
    return key_semantic_attention(q, k, v, semantics, bias=bias, backend=backend)


def forward_backward(function: Callable[[list[Any]], Any], tensors: list[Any]) -> list[Any]:
    """Run a function of the tensors forward and backward; return output and gradients."""
    leaves = [tensor.detach().requires_grad_() for tensor in tensors]
    out = function(leaves)
    out.float().square().sum().backward()
    return [out.detach(), *(leaf.grad for leaf in leaves if leaf.grad is not None)]


def attention_step(backend: str, tensors: list[Any], semantics: Any) -> list[Any]:
    """Run one backend forward and backward; return output and gradients."""
    return forward_backward(lambda leaves: attend(backend, leaves, semantics), tensors)


def prepare_attention_step(backend: str, n: int, k: int, device: str) -> Callable[[], Any]:
    """Return a training step that is ready to run."""
    _, tensors, semantics = make_attention(n, k, device)
    return partial(attention_step, backend, tensors, semantics)


def measure_attention(n: int, k: int, device: str, repeats: int, floor: Any) -> dict[str, Any]:
    """Measure every backend at one size, after comparing it with naive."""
    import torch
    from measuring import check, median_ms, peak_mib

    _, tensors, semantics = make_attention(n, k, device)
    b = len(tensors[0])
    truth = attention_step("naive", tensors, semantics)
    row: dict[str, Any] = {"n": n, "k": k, "windows": b, "keys_used": semantics.mask().any(1).float().mean().item()}
    row["backends"] = {}
    for backend in (*PLANS[device].attention, "dense"):
        if backend == "gather" and b * HEADS * n * k * WIDTH > GATHER_LIMIT:
            continue
        if backend != "dense":
            check(backend, attention_step(backend, tensors, semantics), truth)
        with torch.no_grad():
            inference = median_ms(partial(attend, backend, tensors, semantics), repeats, device)
        training = median_ms(partial(attention_step, backend, tensors, semantics), repeats, device)
        memory = None if backend == "dense" else peak_mib(prepare_attention_step, (backend, n, k, device), device)
        row["backends"][backend] = {"inference_ms": inference, "training_ms": training, "training_mib": memory}
    if floor is not None:
        pairs = b * HEADS * n * k
        row["floor_ms"] = floor.ms(4 * pairs * WIDTH, pairs)
    return row


def measure_dictionary(n: int, k: int, device: str, repeats: int, _: Any) -> dict[str, Any]:
    """Measure building the dictionary beside a bare matrix product and top-k."""
    from measuring import median_ms

    from semanir_plugin.ops import build_key_semantics

    x, _, _ = make_attention(n, k, device)
    build_key_semantics(x, k, backend="naive")
    row: dict[str, Any] = {"n": n, "k": k, "windows": len(x), "backends": {}}
    for backend in PLANS[device].dictionary:
        compare_dictionaries(backend, x, k)
        build = partial(build_key_semantics, x, k, backend=backend)
        row["backends"][backend] = {"inference_ms": median_ms(build, repeats, device)}
    row["backends"]["matmul+topk"] = {"inference_ms": median_ms(lambda: (x @ x.mT).topk(k), repeats, device)}
    return row


def compare_dictionaries(backend: str, x: Any, k: int) -> None:
    """Refuse a dictionary that differs from naive by more than what rounding decides."""
    from semanir_plugin.ops import build_key_semantics

    masks = [build_key_semantics(x, k, backend=each).mask() for each in (backend, "naive")]
    if (differing := (masks[0] ^ masks[1]).float().mean().item()) > 1e-3 or not (masks[0].sum(-1) == k).all():
        sys.exit(f"the {backend} dictionary differs from naive in {differing:.1e} of all pairs; nothing is measured")


def make_assa(windows: int, n: int, device: str) -> list[Any]:
    """Return q, k, v, the two weights and a position table."""
    import torch

    torch.manual_seed(0)
    w = round(n**0.5)
    shapes = [(windows, ASSA_HEADS, n, ASSA_WIDTH)] * 3 + [(2,), (ASSA_HEADS, 2 * w - 1, 2 * w - 1)]
    dtype = getattr(torch, PLANS[device].dtype)
    tensors = [torch.randn(shape).to(device, dtype) for shape in shapes]
    tensors[3] = tensors[3].float().softmax(0).to(dtype)
    return tensors


def assa(backend: str, tensors: list[Any]) -> Any:
    """Run one backend of adaptive sparse attention."""
    from semanir_plugin.ops import adaptive_sparse_attention

    return adaptive_sparse_attention(*tensors[:4], bias=tensors[4], backend=backend)


def prepare_assa_step(backend: str, windows: int, n: int, device: str) -> Callable[[], Any]:
    """Return a training step that is ready to run."""
    return partial(forward_backward, partial(assa, backend), make_assa(windows, n, device))


def measure_assa(windows: int, n: int, device: str, repeats: int, floor: Any) -> dict[str, Any]:
    """Measure every backend at one size, after comparing it with naive; naive is the plain formula."""
    import torch
    from measuring import check, median_ms, peak_mib

    tensors = make_assa(windows, n, device)
    row: dict[str, Any] = {"n": n, "k": n, "windows": windows, "backends": {}}
    truth = forward_backward(partial(assa, "naive"), tensors)
    for backend in ("naive", *PLANS[device].assa):
        step = partial(forward_backward, partial(assa, backend), tensors)
        check(backend, step(), truth)
        with torch.no_grad():
            inference = median_ms(partial(assa, backend, tensors), repeats, device)
        training = median_ms(step, repeats, device)
        memory = peak_mib(prepare_assa_step, (backend, windows, n, device), device)
        row["backends"][backend] = {"inference_ms": inference, "training_ms": training, "training_mib": memory}
    if floor is not None:
        pairs = windows * ASSA_HEADS * n * n
        row["floor_ms"] = floor.ms(4 * pairs * ASSA_WIDTH, pairs)
    return row


TITLES = {
    "attention": "Key-semantic attention, 6 heads of width 30: inference ms / forward + backward ms / MiB",
    "dictionary": "Dictionary, 180 channels: ms",
    "assa": "Adaptive sparse attention, 4 heads of width 32: inference ms / forward + backward ms / MiB",
}


def columns(name: str, device: str) -> list[str]:
    """Return what a table compares."""
    plan = PLANS[device]
    return {
        "attention": [*plan.attention, "dense"],
        "dictionary": [*plan.dictionary, "matmul+topk"],
        "assa": ["naive", *plan.assa],
    }[name]


def print_row(name: str, row: dict[str, Any], backends: list[str], *, header: bool) -> None:
    """Print one line, and before the first one what the columns are."""
    if header:
        titles = "".join(f"{backend:>20s}" for backend in backends)
        print(f"\n{TITLES[name]}")
        print(f"{'windows':>7s} {'N':>5s} {'k':>5s} {'used':>5s}{titles}{'floor ms':>10s}{'x floor':>8s}")
    cells = "".join(f"{cell(row['backends'].get(backend)):>20s}" for backend in backends)
    used = f"{row['keys_used']:.0%}" if "keys_used" in row else ""
    floor = row.get("floor_ms")
    best = row["backends"].get("triton", {}).get("inference_ms")
    ratio = f"{floor:10.3f}{best / floor:8.1f}" if floor and best else f"{'-':>10s}{'-':>8s}"
    print(f"{row['windows']:7d} {row['n']:5d} {row['k']:5d} {used:>5s}{cells}{ratio}", flush=True)


def cell(measured: dict[str, float | None] | None) -> str:
    """Return the numbers of one backend."""
    if measured is None:
        return "-"
    numbers = [measured.get(key) for key in ("inference_ms", "training_ms", "training_mib")]
    return " / ".join(f"{number:.3g}" if number < 10 else f"{number:.0f}" for number in numbers if number is not None)


def plot(rows: list[dict[str, Any]], path: Path) -> None:
    """Draw time against k, inference and training, for the largest window measured."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt
    from measuring import COLOURS

    n = max(row["n"] for row in rows)
    rows = [row for row in rows if row["n"] == n]
    backends = list(dict.fromkeys(backend for row in rows for backend in row["backends"]))
    figure, axes = plt.subplots(1, 2, figsize=(11, 4.2), layout="constrained")
    for axis, key in zip(axes, ("inference_ms", "training_ms"), strict=True):
        for backend, marker, colour in zip(backends, "osD^vPx", COLOURS, strict=False):
            points = [(row["k"], row["backends"][backend][key]) for row in rows if backend in row["backends"]]
            axis.plot(*zip(*points, strict=True), marker=marker, color=colour, label=backend)
        axis.set(title=f"{key.partition('_')[0]}, N = {n}", xlabel="keys per query", ylabel="milliseconds")
        axis.set_xscale("log", base=2)
        axis.xaxis.set_major_formatter("{x:.0f}")
        axis.set_yscale("log")
        axis.grid(alpha=0.3)
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside right upper")
    figure.savefig(path, dpi=110)


if __name__ == "__main__":
    sys.exit(main())
