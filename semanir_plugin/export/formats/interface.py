"""What a format of exported networks consists of."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray
from torch.export import ExportedProgram

__all__ = ["INPUT", "OUTPUT", "Files", "Format", "Run"]

INPUT, OUTPUT = "image", "restored"

Files = dict[str, bytes]
"""Contents of an exported network's files by their suffixes; the first is the one that programs are given."""

Run = Callable[[NDArray[Any]], NDArray[Any]]
"""Restores (1, C, H, W) of fp32."""


@dataclass(frozen=True)
class Format:
    """A format of exported networks.

    Attributes:
        suffixes: Of its files; that of the one that programs are given comes first.
        write: Returns the files of a graph: of what is told about it, by name, and the version of ONNX's operators,
            None for the format's own choice.
        runtimes: Returns what runs the files here, by name.
        packages: Names of packages that it takes.
        has_opset: Whether versions of ONNX's operators mean anything to it.
    """

    suffixes: tuple[str, ...]
    write: Callable[[ExportedProgram, Mapping[str, str], int | None], Files]
    runtimes: Callable[[Files], dict[str, Run]]
    packages: tuple[str, ...] = ()
    has_opset: bool = False
