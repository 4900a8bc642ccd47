"""ONNX: one file for onnxruntime, OpenVINO and many more."""

from __future__ import annotations

import io
import logging
from collections.abc import Mapping
from importlib.util import find_spec
from typing import Any

import torch
from numpy.typing import NDArray
from torch.export import ExportedProgram

from semanir_plugin.errors import one_line
from semanir_plugin.export.formats.interface import INPUT, OUTPUT, Files, Format, Run
from semanir_plugin.export.lowering import LONGEST, quiet

__all__ = ["FORMAT", "run_in_openvino", "to_onnx"]

OPSET = 20
"""The first with GELU as one operator."""

_logger = logging.getLogger(__name__)


def to_onnx(program: ExportedProgram, about: Mapping[str, str], opset: int | None) -> bytes:
    """Return a graph as an ONNX file, with what is told about it in its metadata."""
    with quiet(), torch.no_grad():
        exported = torch.onnx.export(
            program,
            dynamo=True,
            opset_version=opset or OPSET,
            input_names=[INPUT],
            output_names=[OUTPUT],
            verbose=False,
        )
        assert exported is not None
        model = exported.model_proto
    _tidy(model)
    for key, value in about.items():
        entry = model.metadata_props.add()
        entry.key, entry.value = key, value
    result: bytes = model.SerializeToString(deterministic=True)
    return result


def _tidy(model: Any) -> None:
    """Name the free sizes, and leave out from which lines of code the nodes come."""
    model.producer_name, model.doc_string = "semanir_plugin", ""
    for each in (*model.graph.node, *model.graph.value_info, *model.graph.input, *model.graph.output):
        del each.metadata_props[:]
        each.doc_string = ""
    del model.graph.metadata_props[:]
    names = ("batch", "channels", "height", "width")
    (image,), (restored,) = model.graph.input, model.graph.output
    for value, prefix in ((image, ""), (restored, "restored_")):
        for name, size in zip(names, value.type.tensor_type.shape.dim, strict=True):
            if size.dim_param:
                size.dim_param = prefix + name
    del model.graph.value_info[:]  # whose sizes have the names of before


def run_in_onnxruntime(content: bytes) -> Run:
    """Return what restores by an ONNX file in onnxruntime, on one thread."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])

    def run(image: NDArray[Any]) -> NDArray[Any]:
        restored: NDArray[Any] = session.run([OUTPUT], {INPUT: image})[0]
        return restored

    return run


def run_in_openvino(content: bytes, weights: bytes | None = None) -> Run:
    """Return what restores by an ONNX file, or by an .xml with its weights, in OpenVINO: in fp32, on one thread."""
    import openvino

    core = openvino.Core()
    model = core.read_model(io.BytesIO(content)) if weights is None else core.read_model(content, weights)
    settings = {
        "INFERENCE_PRECISION_HINT": "f32",
        "INFERENCE_NUM_THREADS": 1,
        "PERFORMANCE_HINT": "LATENCY",
    }
    compiled = core.compile_model(model, "CPU", settings)

    def run(image: NDArray[Any]) -> NDArray[Any]:
        restored: NDArray[Any] = compiled(image)[0]
        return restored

    return run


def _write(program: ExportedProgram, about: Mapping[str, str], opset: int | None) -> Files:
    return {".onnx": to_onnx(program, about, opset)}


def _runtimes(files: Files) -> dict[str, Run]:
    content = files[".onnx"]
    runtimes = {"onnxruntime": run_in_onnxruntime(content)}
    if find_spec("openvino"):
        try:
            runtimes["OpenVINO"] = run_in_openvino(content)
        except RuntimeError as error:  # it knows fewer operators, and the file is not for it alone
            _logger.warning(f"OpenVINO cannot load the file, others may: {one_line(error)[:LONGEST]}")
    return runtimes


FORMAT = Format((".onnx",), _write, _runtimes, packages=("onnx", "onnxscript", "onnxruntime"), has_opset=True)
