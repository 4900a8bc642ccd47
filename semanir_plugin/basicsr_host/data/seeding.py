"""Random numbers that depend on the sample, not on which process reads it or what was read before."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch

__all__ = ["derive_seed", "get_rng_state", "seed_all", "seeded", "set_rng_state"]


def derive_seed(*keys: int) -> int:
    """Mix non-negative integers into one 32-bit seed."""
    return int(np.random.SeedSequence(keys).generate_state(1)[0])


def seed_all(seed: int) -> None:
    """Seed Python's, NumPy's and torch's generators, those of its devices too."""
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)


def get_rng_state() -> dict[str, Any]:
    """Return the state of Python's, NumPy's and torch's CPU generators, as plain values that any loader accepts."""
    name, keys, *rest = np.random.get_state()
    return {
        "python": random.getstate(),
        "numpy": (name, torch.from_numpy(np.asarray(keys).astype(np.int64)), *rest),
        "torch": torch.get_rng_state(),
    }


def set_rng_state(state: dict[str, Any]) -> None:
    """Restore what `get_rng_state` returned."""
    version, numbers, gauss = state["python"]
    random.setstate((version, tuple(numbers), gauss))
    name, keys, *rest = state["numpy"]
    np.random.set_state((name, keys.numpy().astype(np.uint32), *rest))
    torch.set_rng_state(state["torch"])


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Seed all three generators for the length of a block, and put them back as they were."""
    before = get_rng_state()
    random.seed(seed)
    np.random.seed(seed)
    torch.default_generator.manual_seed(seed)
    try:
        yield
    finally:
        set_rng_state(before)
