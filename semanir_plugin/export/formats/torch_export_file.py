"""torch.export: the graph in PyTorch's own operators, for PyTorch alone, on any of its devices."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping
from typing import Any

import torch
from numpy.typing import NDArray
from torch.export import ExportedProgram

from semanir_plugin.export.formats.interface import Files, Format, Run
from semanir_plugin.export.lowering import quiet

__all__ = ["ABOUT", "FORMAT", "run_module"]

ABOUT = "about.json"


def run_module(module: torch.nn.Module) -> Run:
    """Return what restores by a module of PyTorch."""

    def run(image: NDArray[Any]) -> NDArray[Any]:
        with torch.no_grad():
            restored: NDArray[Any] = module(torch.from_numpy(image)).numpy()
        return restored

    return run


def _write(program: ExportedProgram, about: Mapping[str, str], opset: int | None) -> Files:
    buffer = io.BytesIO()
    with quiet():
        torch.export.save(program, buffer, extra_files={ABOUT: json.dumps(about)})
    return {".pt2": buffer.getvalue()}


def _runtimes(files: Files) -> dict[str, Run]:
    with quiet():
        return {"torch.export": run_module(torch.export.load(io.BytesIO(files[".pt2"])).module())}


FORMAT = Format((".pt2",), _write, _runtimes)
