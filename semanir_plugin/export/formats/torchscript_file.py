"""TorchScript: for libtorch and for programs that load it; compiled from the graph, whose sizes stay free."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping

import torch
from torch.export import ExportedProgram
from torch.fx import CodeGen, GraphModule, Node

from semanir_plugin.export.formats.interface import Files, Format, Run
from semanir_plugin.export.formats.torch_export_file import ABOUT, run_module
from semanir_plugin.export.lowering import quiet

__all__ = ["FORMAT"]


def _write(program: ExportedProgram, about: Mapping[str, str], opset: int | None) -> Files:
    buffer = io.BytesIO()
    with quiet():
        script = torch.jit.freeze(torch.jit.script(_scriptable(program)).eval())
        torch.jit.save(script, buffer, _extra_files={ABOUT: json.dumps(about)})
    return {".pt": buffer.getvalue()}


def _scriptable(program: ExportedProgram) -> GraphModule:
    """Return the graph in words that TorchScript's compiler knows."""
    module = program.module(check_guards=False)
    graph = module.graph
    (image,) = (node for node in graph.nodes if node.op == "placeholder")
    with graph.inserting_after(image):
        device = graph.call_function(getattr, (image, "device"))
    for node in reversed(list(graph.nodes)):
        if node.op == "call_function" and isinstance(node.target, torch._ops.OpOverload):
            _spell(node, device)
        elif node.op == "output" and isinstance(node.args[0], tuple | list):
            node.args = (node.args[0][0],)
    graph.set_codegen(CodeGen())  # plain arguments, no trees of them
    return GraphModule(module, graph)


def _spell(node: Node, device: Node) -> None:
    """Name an operator without its overload, and let what it makes be where the image is."""
    target = node.target
    assert isinstance(target, torch._ops.OpOverload)
    if not node.users:  # a check, or a value that nobody reads
        node.graph.erase_node(node)
        return
    node.target = target.overloadpacket
    if "device" in node.kwargs:
        node.kwargs = {**node.kwargs, "device": device}


def _runtimes(files: Files) -> dict[str, Run]:
    with quiet():
        return {"TorchScript": run_module(torch.jit.load(io.BytesIO(files[".pt"])))}


FORMAT = Format((".pt",), _write, _runtimes)
