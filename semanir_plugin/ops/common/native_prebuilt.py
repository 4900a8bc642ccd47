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

__all__ = ["FOLDER", "LEVELS", "files_of", "find", "name_of"]

FOLDER = Path(__file__).with_name("prebuilt")

LEVELS = {
    "x86_64": {"avx512": {"AVX512"}, "avx2": {"AVX512", "AVX2"}},
    "aarch64": {"neon": {"DEFAULT", "SVE128", "SVE256"}},
}
"""Kinds of instructions of a machine, the widest first, and what PyTorch calls processors that have them.

PyTorch calls a processor less than it is where ATEN_CPU_CAPABILITY says so.
"""


def find(source: Path) -> Path | None:
    """Return the kernel that came with the package for the C file of an op and this processor, if there is one."""
    if sys.platform != "linux":
        return None
    capability = torch.backends.cpu.get_cpu_capability()
    names = (
        name_of(source, level)
        for level, capabilities in LEVELS.get(platform.machine(), {}).items()
        if capability in capabilities
    )
    return next((path for name in names if (path := FOLDER / name).is_file()), None)


def name_of(source: Path, level: str) -> str:
    """Return what the kernel of a C file is called, compiled for a kind of instructions."""
    digest = hashlib.sha256(b"".join(each.read_bytes() for each in files_of(source)))
    return f"{source.parent.name}_{level}_{digest.hexdigest()[:16]}.so"


def files_of(source: Path) -> list[Path]:
    """Return the C file of an op and all headers that it may take."""
    return [*sorted(Path(__file__).parent.glob("*.h")), *sorted(source.parent.glob("*.h")), source]
