"""Kernels that were compiled before, for those without a compiler: wheels for a platform hold them.

A kernel is named by its op, by the instructions that it takes, and by a digest of the C that it was made of, so that
none is taken for that of other sources. `scripts/build_wheels.py` makes them; a checkout has none.
"""

from __future__ import annotations

import hashlib
import platform
import sys
from pathlib import Path

import torch

__all__ = ["FOLDER", "files_of", "find", "label_of", "levels_of", "name_of"]

FOLDER = Path(__file__).with_name("prebuilt")

LEVELS = {
    "x86_64": {"avx512": {"AVX512"}, "avx2": {"AVX512", "AVX2"}},
    "aarch64": {"neon": {"DEFAULT", "SVE128", "SVE256"}},
}
"""Kinds of instructions of a machine, the widest first, and what PyTorch calls processors that have them.

PyTorch calls a processor less than it is where ATEN_CPU_CAPABILITY says so.
"""
BF16_LEVELS = {"x86_64": {"avx512bf16": {"AVX512"}}}
"""The same for kernels of bfloat16, for which a processor also needs what `native_support.multiplies_bf16` asks for."""


def find(source: Path) -> Path | None:
    """Return the kernel that came with the package for the C file of an op and this processor, if there is one."""
    if sys.platform != "linux":
        return None
    capability = torch.backends.cpu.get_cpu_capability()
    names = (
        name_of(source, level)
        for level, capabilities in levels_of(source, platform.machine()).items()
        if capability in capabilities
    )
    return next((path for name in names if (path := FOLDER / name).is_file()), None)


def levels_of(source: Path, machine: str) -> dict[str, set[str]]:
    """Return the kinds of instructions that a C file is compiled for, and what PyTorch calls processors with them."""
    return (BF16_LEVELS if source.stem.endswith("bf16") else LEVELS).get(machine, {})


def name_of(source: Path, level: str) -> str:
    """Return what the kernel of a C file is called, compiled for a kind of instructions."""
    digest = hashlib.sha256(b"".join(each.read_bytes() for each in files_of(source)))
    return f"{label_of(source)}_{level}_{digest.hexdigest()[:16]}.so"


def label_of(source: Path) -> str:
    """Return the name of an op, and what is behind "native" in that of its C file."""
    return source.parent.name + source.stem.removeprefix("native")


def files_of(source: Path) -> list[Path]:
    """Return the C file of an op, and all other files that it may take."""
    included = [] if source.name == "native.c" else [source.with_name("native.c")]
    return [*sorted(Path(__file__).parent.glob("*.h")), *sorted(source.parent.glob("*.h")), *included, source]
