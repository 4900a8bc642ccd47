"""What the C functions of a library take, read from its own sources: ctypes would guess it from each call otherwise."""

from __future__ import annotations

import ctypes
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

__all__ = ["declare", "signatures_of"]

# A function that others can call begins a line; those of the library alone are static.
FUNCTION = re.compile(r"^(?:int|void) (\w+)\(([^()]*)\) \{", re.MULTILINE)
NUMBERS: dict[str, Any] = {"int": ctypes.c_int, "float": ctypes.c_float, "ptrdiff_t": ctypes.c_ssize_t}


def declare(library: ctypes.CDLL, sources: Iterable[Path]) -> None:
    """Have a library refuse arguments of other types than its functions take, by `ctypes.ArgumentError`.

    Args:
        library: A compiled C file.
        sources: All files that it was compiled of.
    """
    for source in sources:
        for name, types in signatures_of(source.read_text()).items():
            getattr(library, name).argtypes = types


def signatures_of(text: str) -> dict[str, list[Any]]:
    """Return the types of the arguments of each function in a C file that others can call."""
    return {
        name: [] if given == "void" else [_type_of(each) for each in given.split(",")]
        for name, given in FUNCTION.findall(text)
    }


def _type_of(declaration: str) -> Any:
    return ctypes.c_void_p if "*" in declaration else NUMBERS[declaration.split()[0]]
