"""Profile the attention of a network by each backend that can run here."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from semanir_plugin.errors import UserError, one_line
from semanir_plugin.evaluation.cost import functions_swapped
from semanir_plugin.evaluation.profiling.clock import median_ms, peak_mib
from semanir_plugin.inference.tile_memory import free_memory
from semanir_plugin.ops import KeySemantics, adaptive_sparse_attention, key_semantic_attention
from semanir_plugin.ops.adaptive_sparse_attention import BACKENDS as SPARSE_BACKENDS
from semanir_plugin.ops.adaptive_sparse_attention import choose_backend as choose_sparse
from semanir_plugin.ops.key_semantic_attention import BACKENDS as SEMANTIC_BACKENDS
from semanir_plugin.ops.key_semantic_attention import choose_backend as choose_semantic

__all__ = ["OpCost", "profile_ops"]


class Op(NamedTuple):
    """A function with backends, their names, and what chooses among them by queries and bias."""

    function: Callable[..., Tensor]
    backends: tuple[str, ...]
    choose: Callable[[Tensor, Tensor | None], tuple[str, str]]


def _that_run(backends: Iterable[str]) -> tuple[str, ...]:
    """Return the names without that of what files for other programs are made of."""
    return tuple(name for name in backends if name != "portable")


OPS = (
    Op(
        key_semantic_attention,
        _that_run(SEMANTIC_BACKENDS),
        lambda q, bias: choose_semantic(q, biased=bias is not None),
    ),
    Op(adaptive_sparse_attention, _that_run(SPARSE_BACKENDS), lambda q, _: choose_sparse(q)),
)


@dataclass(frozen=True)
class OpCost:
    """Cost of one backend on a network's calls of one shape.

    Attributes:
        op: Name of the function.
        shape: (B, H, N, D) of the queries.
        keys: Keys per query.
        calls: How often the network calls it so for one image.
        backend: Name of the backend.
        chosen: Whether "auto" takes it.
        milliseconds: Median time of a call; None: it cannot run here.
        mib: By how much a call raises the memory in use at its peak; None: it cannot run, or be measured, here.
        reason: Why it cannot run here.
    """

    op: str
    shape: tuple[int, ...]
    keys: int
    calls: int
    backend: str
    chosen: bool
    milliseconds: float | None = None
    mib: float | None = None
    reason: str | None = None


@dataclass
class Calls:
    """Calls with queries of one shape; the first represents all."""

    op: Op
    queries: Tensor
    keys: int
    run: Callable[..., Tensor]
    chosen: str
    count: int = field(default=0)


@torch.no_grad()
def profile_ops(network: nn.Module, size: tuple[int, int], *, channels: int, repeats: int = 3) -> list[OpCost]:
    """Measure every backend on the inputs of the network's attention, shape by shape, in the order of calls.

    Args:
        network: In evaluation mode, where it is to be measured.
        size: Height and width of the image.
        channels: Of the image.
        repeats: Runs of which the median time counts, after one that warms up.
    """
    device = next((parameter.device for parameter in network.parameters()), torch.device("cpu"))
    image = torch.rand(1, channels, *size, generator=torch.Generator().manual_seed(0)).to(device)
    return [cost for calls in _record(network, image) for cost in _measure(calls, repeats)]


def _record(network: nn.Module, image: Tensor) -> list[Calls]:
    found: dict[tuple[Any, ...], Calls] = {}

    def record(op: Op, q: Tensor, k: Tensor, v: Tensor, given: Any, **options: Any) -> Tensor:
        run = partial(op.function, q, k, v, given, **options)
        keys = given.k if isinstance(given, KeySemantics) else q.shape[-2]
        chosen, _ = op.choose(q, options.get("bias"))
        calls = found.setdefault((op.function.__name__, *q.shape, keys), Calls(op, q, keys, run, chosen))
        calls.count += 1
        return run()

    with functions_swapped({op.function: partial(record, op) for op in OPS}):
        network(image)
    return list(found.values())


def _measure(calls: Calls, repeats: int) -> Iterator[OpCost]:
    device = calls.queries.device
    for backend in calls.op.backends:
        cost = partial(
            OpCost,
            calls.op.function.__name__,
            tuple(calls.queries.shape),
            calls.keys,
            calls.count,
            backend,
            backend == calls.chosen,
        )
        reason, run = _why_not(calls, backend), partial(calls.run, backend=backend)
        if reason is None:
            try:
                yield cost(*_measure_call(run, device, repeats))
                continue
            except (ValueError, RuntimeError) as error:  # it says itself why it cannot run
                reason = one_line(error)
        yield cost(reason=reason)


def _measure_call(run: Callable[[], object], device: torch.device, repeats: int) -> tuple[float, float | None]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # FlexAttention has much to say where it is not compiled
        return median_ms(run, device, repeats), peak_mib(run, device)


def _why_not(calls: Calls, backend: str) -> str | None:
    """Return the reason not to try a backend: its time would be meaningless, or it would fill the memory."""
    q = calls.queries
    if backend == "triton" and q.device.type == "cpu":
        return "its kernels are for GPUs"
    entries = {"gather": 2 * q.numel() * calls.keys, "native": 0, "triton": 0, "torch": 0, "blockwise": 0}
    mib: float = 4 * entries.get(backend, 4 * q.numel() // q.shape[-1] * q.shape[-2]) / 2**20
    try:
        fits = mib < free_memory(q.device) / 2**21
    except UserError:  # it cannot be told here
        fits = True
    return None if fits else f"it would need about {mib / 1024:.1f} GiB"
