"""Stage 2: the cost of each op by each of its backends, beside the least that this GPU could need."""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable, Iterator
from dataclasses import asdict
from functools import partial
from itertools import product
from typing import Any

import torch
from torch import Tensor

from gpu_stages import problems
from gpu_stages.cases import Case
from gpu_stages.clock import HOW, Work, measure_rates, median_ms, peak_mib, top_kernels
from gpu_stages.journal import Row
from gpu_stages.problems import DENSE, Problem
from gpu_stages.sizes import Sizes
from semanir_plugin.ops import build_key_semantics

__all__ = ["cases"]

Shape = tuple[int, int]


def cases(sizes: Sizes, _: argparse.Namespace) -> Iterator[Case]:
    """Yield the cases, the most valuable first."""
    yield Case("rates", partial(_tell_rates, sizes))
    first, *rest = sizes.shapes
    yield _attention_case(sizes, first, sizes.timed_keys[0], DENSE)
    for keys in sizes.timed_keys:
        yield _attention_case(sizes, first, keys, "triton")
    yield Case("kernels of a step", partial(_tell_kernels, sizes, first))
    for backend, keys in product(sizes.others, sizes.timed_keys):
        yield _attention_case(sizes, first, keys, backend)
    yield from _dictionary_cases(sizes, first)
    yield Case("kernels of a dictionary", partial(_tell_dictionary_kernels, sizes, first))
    yield from _other_cases(sizes)
    for shape in rest:
        torch._dynamo.reset()  # else FlexAttention, compiled for a few sizes, would run uncompiled from the next one on
        yield _attention_case(sizes, shape, sizes.timed_keys[0], DENSE)
        for keys, backend in product(sizes.timed_keys, ("triton", *sizes.others)):
            yield _attention_case(sizes, shape, keys, backend)


def _tell_rates(sizes: Sizes) -> Iterator[Row]:
    rates = measure_rates(sizes.device, _dtype(sizes))
    yield {"per_ms": asdict(rates), "dtype": sizes.dtypes[0], "how": HOW}


def _dtype(sizes: Sizes) -> torch.dtype:
    result: torch.dtype = getattr(torch, sizes.dtypes[0])
    return result


def _attention_case(sizes: Sizes, shape: Shape, keys: int, backend: str) -> Case:
    n = math.prod(shape)
    work = partial(_attention_work, keys=n if backend == DENSE else keys, dense=backend == DENSE)
    name = f"attention N={n} k={keys} {backend}"
    make = partial(_make_attention, sizes, shape, keys)
    # Compiling FlexAttention forward and backward takes long, and only for it.
    seconds = 60 if backend == "flex" else 30
    # The number of keys changes nothing of what is compiled.
    compiles = backend in ("triton", "flex") and keys == sizes.timed_keys[0]
    return Case(name, partial(_time, sizes, make, backend, work), seconds, compiles)


def _make_attention(sizes: Sizes, shape: Shape, keys: int) -> Problem:
    return problems.attention(sizes, shape, _windows(sizes, shape), keys, _dtype(sizes))


def _windows(sizes: Sizes, shape: Shape) -> int:
    return sizes.tokens // math.prod(shape)


def _attention_work(problem: Problem, *, keys: int, dense: bool) -> tuple[Work, Work]:
    """Return the work forward, and that of the backward."""
    q = problem.tensors["q"]
    b, h, n, d = q.shape
    pairs, rows = b * h * n * keys, q.numel() * q.itemsize
    given = 0 if dense else b * n * n / 8 + problem.tensors["bias"].nbytes
    forward = Work(4 * pairs * d, pairs, 4 * rows + given)
    return forward, Work(10 * pairs * d, pairs, 8 * rows + 2 * given)


def _time(
    sizes: Sizes, make: Callable[[], Problem], backend: str, work: Callable[[Problem], tuple[Work, Work]]
) -> Iterator[Row]:
    """Yield the times forward, and forward and backward, beside the floors, and the memory of the latter."""
    problem = make()
    forward, backward = work(problem)
    rates = measure_rates(sizes.device, _dtype(sizes))
    with torch.no_grad():
        ms = median_ms(partial(problem.forward, backend), sizes.runs, sizes.device)
    yield {"forward_ms": ms, "floor_ms": rates.floor_ms(forward), "windows": problem.windows}
    step = problem.prepare_step(backend)
    ms = median_ms(step, sizes.runs, sizes.device)
    yield {"both_ms": ms, "floor_ms": rates.floor_ms(forward) + rates.floor_ms(backward)}
    yield {"both_mib": peak_mib(step, sizes)}


def _tell_kernels(sizes: Sizes, shape: Shape) -> Iterator[Row]:
    for keys in sizes.timed_keys[:2]:
        step = _make_attention(sizes, shape, keys).prepare_step("triton")
        step()
        yield {"k": keys, "kernels": top_kernels(step, sizes)}


def _dictionary_cases(sizes: Sizes, shape: Shape) -> Iterator[Case]:
    for dtype, keys in product(dict.fromkeys(("float32", sizes.dtypes[0])), sizes.timed_keys):
        yield Case(f"dictionary {dtype} k={keys}", partial(_time_dictionary, sizes, shape, keys, getattr(torch, dtype)))


def _tell_dictionary_kernels(sizes: Sizes, shape: Shape) -> Iterator[Row]:
    x, keys = problems.features(sizes, shape, _windows(sizes, shape)), sizes.timed_keys[0]
    build = partial(build_key_semantics, x, keys, backend="triton")
    build()
    yield {"k": keys, "dtype": "float32", "kernels": top_kernels(build, sizes)}


def _time_dictionary(sizes: Sizes, shape: Shape, keys: int, dtype: torch.dtype) -> Iterator[Row]:
    x = problems.features(sizes, shape, _windows(sizes, shape)).to(dtype)
    b, n, c = x.shape
    work = Work(flops=2 * b * n * n * c, bytes=x.nbytes + b * n * n / 8)
    floor = measure_rates(sizes.device, dtype).floor_ms(work)
    functions: dict[str, Callable[[], Any]] = {
        "triton": partial(build_key_semantics, x, keys, backend="triton"),
        "matmul+topk": lambda: (x @ x.mT).topk(keys),
    }
    for name, function in functions.items():
        yield {"backend": name, "ms": median_ms(function, sizes.runs, sizes.device), "floor_ms": floor}


def _other_cases(sizes: Sizes) -> Iterator[Case]:
    dtype = _dtype(sizes)
    for backend in ("triton", "naive"):
        sparse, split = (
            partial(make, sizes, dtype) for make in (problems.sparse_attention, problems.heads_of_projection)
        )
        yield Case(f"adaptive_sparse_attention {backend}", partial(_time, sizes, sparse, backend, _sparse_work))
        yield Case(f"cosine_qkv {backend}", partial(_time, sizes, split, backend, _split_work))


def _sparse_work(problem: Problem) -> tuple[Work, Work]:
    q: Tensor = problem.tensors["q"]
    b, h, n, d = q.shape
    pairs, rows = b * h * n * n, q.numel() * q.itemsize
    return Work(4 * pairs * d, pairs, 4 * rows), Work(10 * pairs * d, pairs, 8 * rows)


def _split_work(problem: Problem) -> tuple[Work, Work]:
    projection = problem.tensors["qkv"].nbytes
    return Work(bytes=2 * projection), Work(bytes=3 * projection)
