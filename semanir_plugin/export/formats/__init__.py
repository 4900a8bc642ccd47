"""The formats that networks are exported to, by their names: how each is written, and how its files are run."""

from __future__ import annotations

from semanir_plugin.export.formats import onnx_file, openvino_files, torch_export_file, torchscript_file
from semanir_plugin.export.formats.interface import Format

__all__ = ["FORMATS"]

FORMATS: dict[str, Format] = {
    "onnx": onnx_file.FORMAT,
    "torch-export": torch_export_file.FORMAT,
    "openvino": openvino_files.FORMAT,
    "torchscript": torchscript_file.FORMAT,
}
