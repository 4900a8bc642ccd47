"""From a trained network to a graph of standard operators, in which height and width are free."""

from __future__ import annotations

import copy
import io
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout

import torch
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram, export
from torch.utils._sympy.numbers import int_oo
from torch.utils._sympy.value_ranges import ValueRanges

from semanir_plugin.archs.descriptor import NetworkDescriptor
from semanir_plugin.blocks.position_bias import ContinuousPositionBias, FactorisedPositionBias, FixedPositionBias
from semanir_plugin.errors import UserError, one_line, printable
from semanir_plugin.export.swin_masks import free_masks
from semanir_plugin.inference.restoration import Restoration, RestorationOptions
from semanir_plugin.inference.restorer import Restorer
from semanir_plugin.ops.common.portable import portable_ops

__all__ = ["LONGEST", "PortableNetwork", "bytes_per_pixel", "quiet", "restoration_of", "trace", "traced_size"]

Size = tuple[int, int]

# What exporters keep of where a node comes from: paths of the machine and names of modules.
LONGEST = 300
"""Characters of a message of PyTorch's."""

ORIGINS = ("stack_trace", "nn_module_stack", "source_fn_stack", "torch_fn", "from_node", "custom")


class PortableNetwork(nn.Module):
    """A network as programs of others run it: an image of any size to the restored one, padded and cropped inside.

    Args:
        restorer: The trained network, on the CPU; it stays as it is.
        topk: Keys per query, for networks that choose keys; None: the network's own choice.
    """

    def __init__(self, restorer: Restorer, topk: int | None) -> None:
        super().__init__()
        self.network = free_masks(_with_fixed_biases(copy.deepcopy(restorer.module)))
        self.restoration = restoration_of(restorer.descriptor, topk)

    def forward(self, image: Tensor) -> Tensor:
        """Restore (1, C, H, W) in [0, 1]; the result is (1, C', s * H, s * W), in about [0, 1]."""
        return self.restoration.restore(self.network, image)


def restoration_of(descriptor: NetworkDescriptor, topk: int | None) -> Restoration:
    """Return how `basicsr restore` restores a whole image by a network."""
    return Restoration(descriptor=descriptor, options=RestorationOptions(topk=topk))


def traced_size(descriptor: NetworkDescriptor) -> Size:
    """Return the size of the image on which a network of any size is traced: several windows, none of them whole."""
    multiple = descriptor.size.multiple_of
    return 2 * multiple + 1, 3 * multiple - 1 if multiple > 1 else 5


def trace(network: PortableNetwork, channels: int, size: Size, *, free: bool) -> ExportedProgram:
    """Return the graph of a network.

    Args:
        network: Network to trace.
        channels: Those of its images.
        size: Height and width of the image that it is traced on.
        free: Whether images may have any size, or only this one.

    Raises:
        UserError: PyTorch cannot trace it; it may still be traced for one size.
    """
    sizes = ({2: Dim.DYNAMIC, 3: Dim.DYNAMIC},) if free else None
    try:
        with torch.no_grad(), portable_ops(), quiet():
            program = export(network.eval(), (torch.rand(1, channels, *size),), dynamic_shapes=sizes, strict=False)
    except Exception as error:  # whatever a network of others raises
        cure = "one size may do: --size HxW" if free else "it is restored with by basicsr restore alone"
        raise UserError(f"{_name(network)} cannot be exported: {_first_line(error)}; {cure}") from error
    _check_standard(program, network)
    # Guards on layouts of memory, true of the traced size alone: what is computed does not depend on them.
    program._guards_code = []
    for size_symbol in program.range_constraints:
        program.range_constraints[size_symbol] = ValueRanges(1, int_oo)
    for node in program.graph.nodes:
        for key in ORIGINS:
            node.meta.pop(key, None)
    return program


@contextmanager
def quiet() -> Iterator[None]:
    """Within the block, exporters keep their warnings and their advice to developers to themselves."""
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        with warnings.catch_warnings(), redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)


def bytes_per_pixel(program: ExportedProgram, size: Size) -> int:
    """Return what memory the graph takes per pixel of its image, while each result is kept until it was last read.

    Args:
        program: The graph.
        size: Height and width of the image that it was traced on.
    """
    last_read = {source: node for node in program.graph.nodes for source in node.all_input_nodes}
    ending: dict[torch.fx.Node, list[torch.fx.Node]] = {}
    for source, node in last_read.items():
        ending.setdefault(node, []).append(source)
    held, most = 0, 0
    for node in program.graph.nodes:
        held += _bytes(node)
        most = max(most, held)
        held -= sum(map(_bytes, ending.get(node, ())))
    return most // (size[0] * size[1])


def _bytes(node: torch.fx.Node) -> int:
    """Return the bytes of what a node computes; shapes that are symbols have those of the traced image."""
    value = node.meta.get("val")
    if node.op != "call_function" or not isinstance(value, Tensor) or "expand" in str(node.target):
        return 0
    elements = 1
    for each in value.shape:
        elements *= each if isinstance(each, int) else each.node.hint
    return elements * value.element_size()


def _with_fixed_biases(network: nn.Module) -> nn.Module:
    for module in list(network.modules()):
        for name, child in list(module.named_children()):
            if isinstance(child, ContinuousPositionBias | FactorisedPositionBias):
                setattr(module, name, FixedPositionBias(child))
    return network


def _check_standard(program: ExportedProgram, network: PortableNetwork) -> None:
    foreign = {str(node.target) for node in program.graph.nodes if _is_foreign(node.target)}
    if foreign:
        raise UserError(f"{_name(network)} cannot be exported: {sorted(foreign)[0]} is no standard operator")


def _is_foreign(target: object) -> bool:
    return isinstance(target, torch._ops.OpOverload) and target.namespace not in ("aten", "prims", "prim")


def _name(network: PortableNetwork) -> str:
    return type(network.network).__name__


def _first_line(error: Exception) -> str:
    """Return what went wrong, without the pages on what a developer might do."""
    text = str(error).strip().partition("\n")[0]
    return printable(f"{type(error).__name__}: {text[:LONGEST]}" if text else one_line(error))
