"""OpenVINO: an .xml with the graph and a .bin with the weights beside it, made of ONNX."""

from __future__ import annotations

import io
import tempfile
from collections.abc import Mapping
from pathlib import Path

from torch.export import ExportedProgram

from semanir_plugin.export.formats.interface import Files, Format, Run
from semanir_plugin.export.formats.onnx_file import run_in_openvino, to_onnx

__all__ = ["FORMAT"]


def _write(program: ExportedProgram, about: Mapping[str, str], opset: int | None) -> Files:
    import openvino

    model = openvino.Core().read_model(io.BytesIO(to_onnx(program, {}, opset)))
    for key, value in about.items():
        model.set_rt_info(value, ["semanir_plugin", key])
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "network.xml")
        openvino.save_model(model, path, compress_to_fp16=False)
        return {each: path.with_suffix(each).read_bytes() for each in FORMAT.suffixes}


def _runtimes(files: Files) -> dict[str, Run]:
    return {"OpenVINO": run_in_openvino(files[".xml"], files[".bin"])}


FORMAT = Format((".xml", ".bin"), _write, _runtimes, packages=("onnx", "onnxscript", "openvino"), has_opset=True)
