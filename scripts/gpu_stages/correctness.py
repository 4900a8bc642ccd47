"""Stage 1: every output and gradient of the kernels at a training's size, against float64, and the same in every run.

A race, or a compiler's fault, shows at the size at which a GPU is full, or nowhere.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from functools import partial

import torch
from measuring import TOLERANCES
from torch import Tensor

from gpu_stages import problems
from gpu_stages.cases import Case
from gpu_stages.journal import Row
from gpu_stages.problems import Problem
from gpu_stages.sizes import Sizes
from semanir_plugin.ops import build_key_semantics

__all__ = ["cases"]

BACKEND = "triton"
TRUTH_ENTRIES = 1 << 25  # scores in float64 that the truth holds at a time: 256 MiB, some ten times
SIMILARITY_TOLERANCE = 1e-5  # of similarities in fp32, relative to the features' lengths


def cases(sizes: Sizes, _: argparse.Namespace) -> Iterator[Case]:
    """Yield the cases, the most valuable first."""
    for keys in sizes.keys:
        for name in sizes.dtypes:
            check = partial(_check, sizes, name, partial(_attention, sizes, keys))
            later = keys == sizes.keys[0] and name != sizes.dtypes[0]  # and so compiled while the first one runs
            yield Case(f"attention k={keys} {name}", check, compiles=later)
    for name in sizes.dtypes:
        yield Case(f"dictionary {name}", partial(_check_dictionary, sizes, getattr(torch, name)), compiles=True)
    for name in sizes.dtypes:
        sparse, split = problems.sparse_attention, problems.heads_of_projection
        yield Case(f"adaptive_sparse_attention {name}", partial(_check, sizes, name, sparse), compiles=True)
        yield Case(f"cosine_qkv {name}", partial(_check, sizes, name, split), compiles=True)


def _attention(sizes: Sizes, keys: int, _: Sizes, dtype: torch.dtype) -> Problem:
    return problems.attention(sizes, (sizes.window, sizes.window), sizes.windows, keys, dtype)


def _check(sizes: Sizes, dtype: str, make: Callable[[Sizes, torch.dtype], Problem]) -> Iterator[Row]:
    problem = make(sizes, getattr(torch, dtype))
    first = problem.step(BACKEND)
    yield _compare(first, problem.truth(_windows_at_a_time(problem)), TOLERANCES[dtype])
    yield _repeat(first, partial(problem.step, BACKEND), sizes)


def _windows_at_a_time(problem: Problem) -> int:
    q = problem.tensors.get("q")
    return problem.windows if q is None else max(1, TRUTH_ENTRIES // (q.shape[1] * q.shape[2] ** 2))


def _compare(results: dict[str, Tensor], truth: dict[str, Tensor], tolerance: float) -> Row:
    """Return the relative errors, ||x - truth|| / ||truth||; NaN is above every tolerance."""
    errors = {name: ((x.double() - truth[name]).norm() / truth[name].norm()).item() for name, x in results.items()}
    return {"errors": errors, "tolerance": tolerance, "passed": all(each < tolerance for each in errors.values())}


def _repeat(first: dict[str, Tensor], run: Callable[[], dict[str, Tensor]], sizes: Sizes) -> Row:
    """Return the number of runs with other bits, of several, each in memory that held NaN before."""
    moved = dict.fromkeys(first, 0)
    for _ in range(sizes.repeats):
        _poison(first)
        for name, x in run().items():
            moved[name] += not torch.equal(x, first[name])
    return {"runs": sizes.repeats, "runs_with_other_bits": moved, "passed": not any(moved.values())}


def _poison(like: dict[str, Tensor]) -> None:
    """Leave NaN in the memory that the allocator gives out next."""
    held = [
        torch.full(x.shape, torch.nan, device=x.device, dtype=x.dtype) for x in like.values() if x.is_floating_point()
    ]
    del held


def _check_dictionary(sizes: Sizes, dtype: torch.dtype) -> Iterator[Row]:
    x = problems.features(sizes, (sizes.window, sizes.window), sizes.windows).to(dtype)
    for keys in sizes.keys:
        mask = build_key_semantics(x, keys, backend=BACKEND).mask()
        yield {"keys": keys, **_judge(mask, x.double(), keys)}
        again = partial(_masks, x, keys)
        yield {"keys": keys, **_repeat({"mask": mask}, again, sizes)}


def _masks(x: Tensor, keys: int) -> dict[str, Tensor]:
    return {"mask": build_key_semantics(x, keys, backend=BACKEND).mask()}


def _judge(mask: Tensor, x: Tensor, keys: int) -> Row:
    """Return by how much dropped similarities exceed those that were kept; equal ones may change places."""
    similarity = x @ x.mT
    least_kept = similarity.masked_fill(~mask, torch.inf).amin(-1)
    most_dropped = similarity.masked_fill(mask, -torch.inf).amax(-1)
    longest = x.norm(dim=-1).amax(-1, keepdim=True)  # of the window
    excess = ((most_dropped - least_kept) / (x.norm(dim=-1) * longest)).max().item()
    unlike = (most_dropped > least_kept).sum().item()
    whole = bool((mask.sum(-1) == keys).all())
    told = {"excess": excess, "rows_unlike_float64": unlike, "all_have_k_keys": whole}
    return {**told, "passed": whole and excess < SIMILARITY_TOLERANCE}
