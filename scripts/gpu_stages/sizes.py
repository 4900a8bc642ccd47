"""Sizes of all problems: those of a training on a GPU, and those of a dry run on a CPU."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["DRY_RUN", "FULL", "Sizes"]


@dataclass(frozen=True)
class Sizes:
    """Sizes of the stages.

    Attributes:
        device: Where it all runs.
        windows: B of a training.
        window: Side of its windows, N = window * window.
        heads: H.
        width: D of each head.
        channels: C of the features that dictionaries are made of.
        keys: Numbers of keys per query whose results are checked, the most common first.
        sparse: (B, H, N, D) of AST's windows.
        dtypes: Names of what is checked; the first one is timed.
        repeats: Runs whose results must be the same to the bit.
        tokens: That are cut into the windows that are timed.
        shapes: Height and width of these windows, the most common first.
        timed_keys: Numbers of keys per query that are timed.
        others: Backends that ours is timed beside.
        runs: Of which the median time counts.
        batches: Patches in a training step.
        patch: Side of the networks' inputs in pixels.
        steps: Training steps of which the mean time counts.
        small: Whether networks are made small.
    """

    device: str
    windows: int
    window: int
    heads: int
    width: int
    channels: int
    keys: tuple[int, ...]
    sparse: tuple[int, int, int, int]
    dtypes: tuple[str, ...]
    repeats: int
    tokens: int
    shapes: tuple[tuple[int, int], ...]
    timed_keys: tuple[int, ...]
    others: tuple[str, ...]
    runs: int
    batches: tuple[int, ...]
    patch: int
    steps: int
    small: bool


FULL = Sizes(
    device="cuda",
    windows=32,
    window=32,
    heads=6,
    width=30,
    channels=180,
    keys=(512, 64),
    sparse=(2048, 4, 64, 32),
    dtypes=("bfloat16", "float16", "float32"),
    repeats=20,
    tokens=32768,
    shapes=((32, 32), (64, 64), (16, 32), (32, 64)),
    timed_keys=(512, 128, 256, 64, 32),
    others=("sdpa", "flex", "mask", "gather"),
    runs=20,
    batches=(32, 4),
    patch=64,
    steps=10,
    small=False,
)
DRY_RUN = Sizes(
    device="cpu",
    windows=2,
    window=8,
    heads=2,
    width=6,
    channels=48,
    keys=(12,),
    sparse=(4, 2, 16, 4),
    dtypes=("float32",),
    repeats=1,
    tokens=64,
    shapes=((8, 8), (4, 8)),
    timed_keys=(6,),
    others=("sdpa", "mask"),
    runs=1,
    batches=(1,),
    patch=16,
    steps=1,
    small=True,
)
