"""Time the ops backend against backend, by turns, after comparing every backend with naive.

Runs on a GPU where there is one, else on the CPU. Three tables: key-semantic attention (a row for each number of tokens
per window, N, and of keys per query, k), the dictionary, and adaptive sparse attention. Attention and dictionary are
measured on what the shipped semanir-mini-x4 gives them for a photograph (network; shifted: of its stage with shifted
windows). Random projections of pixels (raw) are an easy case: a few of their tokens are chosen by nearly all.

Times are the least processor times, in ms; lines of JSON have medians by the clock too. `used` is the share of keys
that 16 neighbouring queries choose together, and that a whole window does.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any

from bootstrap import run_in_venv

HEADS, WIDTH, CHANNELS = 6, 30, 180  # SemanIR-S's
MINI_WINDOW = 16  # side of the shipped network's windows; larger ones are given the widths of S
NEIGHBOURS = 16
ASSA_HEADS, ASSA_WIDTH = 4, 32  # one of AST-B's decoder stages
GATHER_LIMIT = 2**27  # copied keys, in elements, beyond which Torch-Gather takes gigabytes


@dataclass(frozen=True)
class Plan:
    """Plan of the measurements on a kind of device.

    Attributes:
        dtype: Name of the inputs' dtype.
        tokens: Pixels of the square that is cut into windows, for attention and dictionary.
        windows: Tokens per window, N, squares.
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
FEATURES = ("network", "shifted", "raw")
TASKS = ("inference", "training")
FASTEST = {"cpu": "native", "cuda": "triton"}
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
        windows=(256, 1024, 4096),
        attention=("mask", "gather", "sdpa", "flex", "triton"),
        dictionary=("threshold", "triton"),
        assa=("torch", "triton"),
        assa_sizes=((16384, 64), (64, 1024)),
    ),
}


def main() -> int:
    """Measure, print tables, write lines of JSON, ratios and a plot; return the exit code."""
    run_in_venv()
    args = parse_arguments()
    from semanir_plugin.errors import UserError, require_package
    from semanir_plugin.evaluation.benchmark.configurations import read_configurations
    from semanir_plugin.path_safety import check_folder

    device = args.device or default_device()
    path = args.out / f"benchmark_ops_{device}.jsonl"
    try:
        if "attention" in args.ops:
            require_package("matplotlib", "the plot of attention")
        check_folder(args.out)
        path.write_text("")
        for each in read_configurations(args):
            each.run(measure_all, args, device, path)
    except UserError as error:
        print(f"benchmark_ops: {error}", file=sys.stderr)
        return 2
    rows = [row for row in map(json.loads, path.read_text().splitlines()) if row["op"] == "attention"]
    if rows:
        table = "\n".join(make_table(rows, FASTEST[device]))
        path.with_suffix(".md").write_text(f"{table}\n")
        print(f"\n{table}")
        plot(rows, path.with_suffix(".png"))
    print(f"\nWritten to {args.out.resolve()}")
    return 0


def parse_arguments() -> argparse.Namespace:
    """Read the command line."""
    from semanir_plugin.evaluation.benchmark.configurations import add_configurations

    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("--quick", action="store_true", help="one window size and two k, fewer turns")
    parser.add_argument("--device", choices=("cpu", "cuda"), help="where to measure (a GPU where there is one)")
    parser.add_argument("--ops", nargs="+", choices=OPS, default=OPS, metavar="OP", help=f"of {', '.join(OPS)} (all)")
    parser.add_argument("--features", nargs="+", choices=FEATURES, default=FEATURES[:1], help="of what (network)")
    parser.add_argument("--backends", nargs="+", metavar="NAME", help="of key-semantic attention (all but naive)")
    parser.add_argument("--data", type=Path, help="a folder of photographs (one of scikit-image's)")
    add_configurations(parser)
    parser.add_argument("--out", type=Path, default=Path("results/benchmark_ops"), help="results/benchmark_ops")
    args = parser.parse_args()
    known = sorted({name for plan in PLANS.values() for name in plan.attention})
    if unknown := sorted(set(args.backends or ()) - set(known)):
        parser.error(f"unknown backend {unknown[0]!r}: it is one of {', '.join(known)}")
    return args


def default_device() -> str:
    """Return "cuda" where there is a GPU, else "cpu"."""
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


def measure_all(args: argparse.Namespace, device: str, path: Path) -> None:
    """Measure what was asked for; print a line of a table, and append one of JSON to a file, for every size."""
    from measuring import Floor

    from semanir_plugin.evaluation.benchmark.measuring import describe_machine

    machine = describe_machine(device)
    print(machine)
    floor = Floor(PLANS[device].dtype) if device == "cuda" else None
    for name in args.ops:
        for index, row in enumerate(measure(name, args, device, floor)):
            with path.open("a") as file:
                file.write(f"{json.dumps({'op': name, **row, 'machine': machine})}\n")
            print_row(name, row, columns(name, device, args.backends), header=index == 0)


def measure(name: str, args: argparse.Namespace, device: str, floor: Any) -> Iterator[dict[str, Any]]:
    """Yield a row for every size of an op."""
    plan, turns = PLANS[device], 3 if args.quick else 9
    if name == "assa":
        for windows, n in plan.assa_sizes:
            yield measure_assa(windows, n, device, turns, floor)
        return
    sizes = [(n, k) for n in plan.windows for k in KEYS if k <= n]
    for features in args.features:
        for n, k in [(1024, 64), (1024, 512)] if args.quick else sizes:
            case = Case(n, k, device, features, args.data)
            if name == "attention":
                yield measure_attention(case, args.backends or plan.attention, turns, floor)
            else:
                yield measure_dictionary(case, turns)


@dataclass(frozen=True)
class Case:
    """Windows of a photograph, as attention and dictionary are given them.

    Attributes:
        n: Tokens per window, a square.
        k: Keys per query.
        device: "cpu" or "cuda".
        features: One of `FEATURES`.
        data: A folder of photographs; None: one of scikit-image's.
    """

    n: int
    k: int
    device: str
    features: str = "network"
    data: Path | None = None

    def make(self) -> tuple[Any, list[Any], Any]:
        """Return the tokens (B, N, C), q, k, v and position table for a scale of 1, and the dictionary."""
        import torch

        from semanir_plugin.ops import build_key_semantics

        plan = PLANS[self.device]
        inputs = raw_inputs if self.features == "raw" else network_inputs
        given = inputs(round(self.n**0.5), round(plan.tokens**0.5), self.features, self.data)
        x, *tensors = (
            each.to(self.device, getattr(torch, plan.dtype))
            for each in (given.tokens, given.q, given.k, given.v, given.bias)
        )
        regions = None if given.regions is None else given.regions.to(self.device)
        return x, tensors, build_key_semantics(x, self.k, regions=regions)


@cache
def network_inputs(window: int, side: int, features: str, data: Path | None) -> Any:
    """Return `AttentionInputs` of the shipped network; in large windows as wide as those of S, by repetition."""
    from semanir_plugin.evaluation.profiling.attention_inputs import attention_inputs

    given = attention_inputs(window, stage=int(features == "shifted"), size=side, data=data)
    if window <= MINI_WINDOW:
        return given
    heads, width, channels = given.q.shape[1], given.q.shape[3], given.tokens.shape[2]
    times = -(-HEADS // heads), -(-WIDTH // width)
    q, k, v = (each.repeat(1, times[0], 1, times[1])[:, :HEADS, :, :WIDTH] for each in (given.q, given.k, given.v))
    tokens = given.tokens.repeat(1, 1, -(-CHANNELS // channels))[..., :CHANNELS]
    bias = given.bias.repeat(times[0], 1, 1)[:HEADS]
    return given._replace(tokens=tokens, q=q * (width / WIDTH), k=k, v=v, bias=bias)


@cache
def raw_inputs(window: int, side: int, features: str, data: Path | None) -> Any:
    """Return `AttentionInputs` with random projections of a photograph's pixels as tokens; all else is noise."""
    import torch
    import torch.nn.functional as F

    from semanir_plugin.blocks.windows import window_partition
    from semanir_plugin.evaluation.profiling.attention_inputs import AttentionInputs, read_photo

    torch.manual_seed(0)
    projected = F.conv2d(read_photo(side, side, data), torch.randn(CHANNELS, 3, 3, 3) / 5, padding=1)
    tokens = window_partition(projected.permute(0, 2, 3, 1), window)
    q, k, v = (torch.randn(len(tokens), HEADS, window**2, WIDTH) for _ in range(3))
    bias = torch.randn(HEADS, 2 * window - 1, 2 * window - 1)
    return AttentionInputs(tokens, None, q * WIDTH**-0.5, k, v, bias)


def attend(backend: str, tensors: list[Any], semantics: Any) -> Any:
    """Run one backend; "dense" is PyTorch's attention without bias and mask, the limit."""
    import torch.nn.functional as F

    from semanir_plugin.ops import key_semantic_attention

    q, k, v, bias = tensors
    if backend == "dense":
        return F.scaled_dot_product_attention(q, k, v, scale=1.0)
    return key_semantic_attention(q, k, v, semantics, bias=bias, scale=1.0, backend=backend)


def forward_backward(function: Callable[[list[Any]], Any], tensors: list[Any]) -> list[Any]:
    """Run a function of the tensors forward and backward; return output and gradients."""
    leaves = [tensor.detach().requires_grad_() for tensor in tensors]
    out = function(leaves)
    out.float().square().sum().backward()
    return [out.detach(), *(leaf.grad for leaf in leaves if leaf.grad is not None)]


def attention_step(backend: str, tensors: list[Any], semantics: Any) -> list[Any]:
    """Run one backend forward and backward; return output and gradients."""
    return forward_backward(lambda leaves: attend(backend, leaves, semantics), tensors)


def prepare_attention_step(backend: str, case: Case) -> Callable[[], Any]:
    """Return a training step that is ready to run."""
    _, tensors, semantics = case.make()
    return partial(attention_step, backend, tensors, semantics)


def measure_attention(case: Case, backends: Sequence[str], turns: int, floor: Any) -> dict[str, Any]:
    """Measure backends at one size, after comparing them with naive."""
    from measuring import check

    from semanir_plugin.evaluation.benchmark.measuring import peak_mib

    _, tensors, semantics = case.make()
    b, h, n, d = tensors[0].shape
    truth = attention_step("naive", tensors, semantics)
    backends = [each for each in backends if each != "gather" or b * h * n * case.k * d <= GATHER_LIMIT]
    for backend in backends:
        check(backend, attention_step(backend, tensors, semantics), truth)
    costs = time_backends(
        [*backends, "dense"],
        partial(attend, tensors=tensors, semantics=semantics),
        partial(attention_step, tensors=tensors, semantics=semantics),
        turns,
        case.device,
    )
    for backend in backends:
        costs[backend]["mib"] = peak_mib(prepare_attention_step, (backend, case), case.device)
    row = {
        "features": case.features,
        **facts_of(case, b),
        "keys_used": shares_used(semantics.mask()),
        "backends": costs,
    }
    if floor is not None:
        pairs = b * h * n * case.k
        row["floor_ms"] = floor.ms(4 * pairs * d, pairs)
    return row


def facts_of(case: Case, windows: int) -> dict[str, Any]:
    """Return a row's sizes, number of threads and instruction set."""
    import torch

    processor = {"threads": torch.get_num_threads(), "isa": torch.backends.cpu.get_cpu_capability()}
    return {"windows": windows, "n": case.n, "k": case.k, **processor}


def shares_used(mask: Any) -> list[float]:
    """Return the shares of keys that neighbouring queries choose together, and that a whole window does."""
    near = mask.unflatten(1, (-1, min(NEIGHBOURS, mask.shape[1]))).any(2)
    return [near.float().mean().item(), mask.any(1).float().mean().item()]


def time_backends(
    backends: Sequence[str],
    infer: Callable[[str], Any],
    step: Callable[[str], Any] | None,
    turns: int,
    device: str,
) -> dict[str, dict[str, Any]]:
    """Return the times of inference, and of training steps if any, of backends that take turns."""
    import torch

    from semanir_plugin.evaluation.benchmark.measuring import take_turns

    costs: dict[str, dict[str, Any]] = {backend: {} for backend in backends}
    for name, function in (("inference", infer), ("training", step)):
        if function is not None:
            with torch.set_grad_enabled(name == "training"):
                times = take_turns([partial(function, backend) for backend in backends], turns, device)
            for backend, each in zip(backends, times, strict=True):
                costs[backend][name] = each._asdict()
    return costs


def measure_dictionary(case: Case, turns: int) -> dict[str, Any]:
    """Measure building the dictionary beside a bare matrix product and top-k."""
    from semanir_plugin.ops import build_key_semantics

    x, _, _ = case.make()
    backends = PLANS[case.device].dictionary
    for backend in backends:
        compare_dictionaries(backend, x, case.k)

    def build(backend: str) -> Any:
        return (x @ x.mT).topk(case.k) if backend == "matmul+topk" else build_key_semantics(x, case.k, backend=backend)

    costs = time_backends([*backends, "matmul+topk"], build, None, turns, case.device)
    return {"features": case.features, **facts_of(case, len(x)), "backends": costs}


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


def assa_step(backend: str, tensors: list[Any]) -> list[Any]:
    """Run one backend forward and backward; return output and gradients."""
    return forward_backward(partial(assa, backend), tensors)


def prepare_assa_step(backend: str, windows: int, n: int, device: str) -> Callable[[], Any]:
    """Return a training step that is ready to run."""
    return partial(assa_step, backend, make_assa(windows, n, device))


def measure_assa(windows: int, n: int, device: str, turns: int, floor: Any) -> dict[str, Any]:
    """Measure every backend at one size, after comparing it with naive; naive is the plain formula."""
    from measuring import check

    from semanir_plugin.evaluation.benchmark.measuring import peak_mib

    tensors, backends = make_assa(windows, n, device), PLANS[device].assa
    truth = assa_step("naive", tensors)
    for backend in backends:
        check(backend, assa_step(backend, tensors), truth)
    costs = time_backends(
        ["naive", *backends], partial(assa, tensors=tensors), partial(assa_step, tensors=tensors), turns, device
    )
    for backend, each in costs.items():
        each["mib"] = peak_mib(prepare_assa_step, (backend, windows, n, device), device)
    row: dict[str, Any] = {"features": "", **facts_of(Case(n, n, device), windows), "backends": costs}
    if floor is not None:
        pairs = windows * ASSA_HEADS * n * n
        row["floor_ms"] = floor.ms(4 * pairs * ASSA_WIDTH, pairs)
    return row


TITLES = {
    "attention": "Key-semantic attention: inference ms / forward + backward ms / MiB",
    "dictionary": "Dictionary: ms",
    "assa": "Adaptive sparse attention, 4 heads of width 32: inference ms / forward + backward ms / MiB",
}


def columns(name: str, device: str, backends: Sequence[str] | None = None) -> list[str]:
    """Return the columns of a table: the backends it compares, for key-semantic attention those asked for."""
    plan = PLANS[device]
    return {
        "attention": [*(backends or plan.attention), "dense"],
        "dictionary": [*plan.dictionary, "matmul+topk"],
        "assa": ["naive", *plan.assa],
    }[name]


def print_row(name: str, row: dict[str, Any], backends: list[str], *, header: bool) -> None:
    """Print a row; before the first one, the names of the columns."""
    if header:
        titles = "".join(f"{backend:>20s}" for backend in backends)
        print(f"\n{TITLES[name]}")
        print(
            f"{'features':8s} {'windows':>7s} {'N':>5s} {'k':>5s} {'used':>9s}{titles}{'floor ms':>10s}{'x floor':>8s}"
        )
    cells = "".join(f"{cell(row['backends'].get(backend)):>20s}" for backend in backends)
    used = " ".join(f"{each:.0%}" for each in row.get("keys_used", ()))
    floor, best = row.get("floor_ms"), row["backends"].get("triton")
    ratio = f"{floor:10.3f}{best['inference']['median'] / floor:8.1f}" if floor and best else f"{'-':>10s}{'-':>8s}"
    sizes = f"{row['features']:8s} {row['windows']:7d} {row['n']:5d} {row['k']:5d}"
    print(f"{sizes} {used:>9s}{cells}{ratio}", flush=True)


def cell(measured: dict[str, Any] | None) -> str:
    """Return the numbers of one backend."""
    if measured is None:
        return "-"
    times = [measured[task]["processor"] for task in TASKS if task in measured]
    numbers = [*times, *(each for each in [measured.get("mib")] if each is not None)]
    return " / ".join(f"{number:.3g}" if number < 10 else f"{number:.0f}" for number in numbers)


def make_table(rows: Sequence[dict[str, Any]], backend: str) -> Iterator[str]:
    """Yield the lines of a Markdown table: a backend's times as shares of dense attention's."""
    yield f"| features | N | k | used by {NEIGHBOURS} | threads | isa | {backend} / dense | forward + backward |"
    yield "|---|---:|---:|---:|---:|---|---:|---:|"
    for row in rows:
        costs = row["backends"]
        if backend in costs:
            shares = [costs[backend][task]["processor"] / costs["dense"][task]["processor"] for task in TASKS]
            sizes = f"{row['features']} | {row['n']} | {row['k']} | {row['keys_used'][0]:.0%}"
            yield f"| {sizes} | {row['threads']} | {row['isa']} | {shares[0]:.2f} | {shares[1]:.2f} |"
    yield ""
    yield from dict.fromkeys(row["machine"] for row in rows)


def plot(rows: Sequence[dict[str, Any]], path: Path) -> None:
    """Plot time against k, inference and training, for the largest window of the first features measured."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt
    from measuring import COLOURS

    kind = {name: rows[0][name] for name in ("features", "machine")} | {"n": max(row["n"] for row in rows)}
    rows = [row for row in rows if kind.items() <= row.items()]
    backends = list(dict.fromkeys(backend for row in rows for backend in row["backends"]))
    figure, axes = plt.subplots(1, 2, figsize=(11, 4.2), layout="constrained")
    for axis, task in zip(axes, TASKS, strict=True):
        for backend, marker, colour in zip(backends, "osD^vPx", COLOURS, strict=False):
            points = [
                (row["k"], row["backends"][backend][task]["processor"]) for row in rows if backend in row["backends"]
            ]
            axis.plot(*zip(*points, strict=True), marker=marker, color=colour, label=backend)
        axis.set(title=f"{task}, N = {kind['n']}", xlabel="keys per query", ylabel="milliseconds")
        axis.set_xscale("log", base=2)
        axis.xaxis.set_major_formatter("{x:.0f}")
        axis.set_yscale("log")
        axis.grid(alpha=0.3)
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside right upper")
    figure.savefig(path, dpi=110)


if __name__ == "__main__":
    sys.exit(main())
