"""Calls that a pickle asks for, of those that torch makes for files of tensors: what they may make of little.

`torch.load` with `weights_only` calls some thirty functions and classes. With numbers of its choice a file could have
them fill the memory, as `bytearray` does with one, or a tensor without its storage.
"""

from __future__ import annotations

import math
import re
from _compat_pickle import IMPORT_MAPPING, NAME_MAPPING
from dataclasses import dataclass, field
from typing import Any

import torch

__all__ = ["Calls", "Value", "check_change"]

MOST_EXPANDED = 2**26  # elements of all tensors beyond those of their storages, as of expanded ones

CALLS = ("REDUCE", "NEWOBJ")
_PLAIN = {  # with plain values alone: of a tensor they would take element by element
    *("builtins.bytearray", "builtins.complex", "builtins.set", "_codecs.encode"),
    *("collections.Counter", "collections.OrderedDict"),
    *("torch.Size", "torch.device", "torch.serialization._get_layout"),
}
_OF_STORAGES = {f"torch._utils._rebuild_{each}" for each in ("tensor", "tensor_v2", "tensor_v3", "qtensor")}
_TENSORS = ("torch.Tensor", "torch.nn.parameter.Parameter")
_CALLING = "torch._tensor._rebuild_from_type_v2"
_REFUSED = re.compile(r"torch\.(\w+\.)*(\w*Tensor|\w*Storage|_rebuild_device_tensor_from_\w+)")
_STORAGE = re.compile(r"(\w+)Storage$")
_BYTES = {
    **dict.fromkeys(("ComplexDouble",), 16),
    **dict.fromkeys(("Double", "Long", "ComplexFloat"), 8),
    **dict.fromkeys(("Float", "Int", "QInt32"), 4),
    **dict.fromkeys(("Half", "BFloat16", "Short"), 2),
}


@dataclass(eq=False, slots=True)
class Value:
    """A value of a pickle: the instruction that makes it, with its argument, and the parts that it is made of.

    `units` says how many plain values its own text is worth.
    """

    instruction: str = ""
    argument: Any = None
    units: int = 1
    parts: list[Value] = field(default_factory=list)

    @property
    def name(self) -> str:
        """What a class or function is called; empty for other values."""
        if self.instruction != "GLOBAL":
            return ""
        module, name = self.argument.split(" ", 1)
        module, name = NAME_MAPPING.get((module, name), (IMPORT_MAPPING.get(module, module), name))
        return f"{module}.{name}"


class Calls:
    """Check of the calls of a file's pickles, one after the other.

    Args:
        size: Bytes of the file, which is not compressed.
    """

    def __init__(self, size: int) -> None:
        self.size = size
        self.storages: dict[Any, int] = {}
        self.expanded = 0

    def check(self, value: Value) -> None:
        """Check a value that is about to be made.

        Raises:
            OverflowError: It may take far more memory than the file has, or is nothing that tensors need.
        """
        if value.instruction in CALLS:
            self._check_call(*value.parts)
        elif value.instruction == "BINPERSID":
            self._take_storage(value.parts[0].parts)

    def _check_call(self, function: Value, arguments: Value) -> None:
        name, given = function.name, arguments.parts
        refused = bool(given) and _REFUSED.fullmatch(name) is not None
        if name in _PLAIN:
            refused = not _are_plain(name, given)
        elif name in _OF_STORAGES and len(given) > 3:
            self._check_tensor(given)
        elif name == _CALLING and len(given) > 2:
            self._check_call(given[0], given[2])
        if refused or (name in _PLAIN | _OF_STORAGES | {_CALLING} and "TUPLE" not in arguments.instruction):
            raise OverflowError(f"a call of {name} that no tensor needs")

    def _take_storage(self, described: list[Value]) -> None:
        """Compare the storages so far, by their keys, with the file that has them."""
        if len(described) < 5 or type(described[4].argument) is not int:
            return  # torch refuses it
        kind = _STORAGE.search(described[1].name)
        taken = described[4].argument * _BYTES.get(kind[1] if kind else "", 1)
        key = described[2].argument
        self.storages[key] = max(taken, self.storages.get(key, 0))
        if (claimed := sum(self.storages.values())) > self.size:
            raise OverflowError(f"storages of {claimed:,} bytes in a file of {self.size:,}")

    def _check_tensor(self, given: list[Value]) -> None:
        storage, offset, size, stride = given[0], given[1].argument, _numbers(given[2]), _numbers(given[3])
        if storage.instruction != "BINPERSID" or type(offset) is not int or size is None or stride is None:
            raise OverflowError("a tensor without a storage and sizes")
        held = self._elements(storage, given)
        last = offset + sum((length - 1) * step for length, step in zip(size, stride, strict=False))
        if min(offset, 0, *size, *stride) < 0 or (0 not in size and last >= held):
            raise OverflowError(f"a tensor of {tuple(size)} beyond the {held:,} elements of its storage")
        self.expanded += max(math.prod(size) - held, 0)
        if self.expanded > MOST_EXPANDED:
            raise OverflowError(f"tensors of {MOST_EXPANDED:,} elements more than their storages have")

    @staticmethod
    def _elements(storage: Value, given: list[Value]) -> int:
        """Return how many elements a storage has; one without a type, in bytes, of that which the tensor is given."""
        count = storage.parts[0].parts[4].argument
        dtype = getattr(torch, given[6].name.rpartition(".")[2], None) if len(given) > 6 else None
        result: int = count // dtype.itemsize if isinstance(dtype, torch.dtype) else count
        return result


def check_change(value: Value) -> None:
    """Check a value that is about to be changed; torch changes tensors so, but never writes it.

    Raises:
        OverflowError: It is a tensor, which might be given a size.
    """
    name = value.parts[0].name if value.instruction in CALLS else ""
    if name.startswith(("torch._utils.", "torch._tensor.")) or name in _TENSORS:
        raise OverflowError("a tensor that is changed after it was made")


def _are_plain(name: str, given: list[Value]) -> bool:
    if name == "builtins.bytearray":
        return not any(type(each.argument) is int or _is_made(each) for each in given if not _is_text(each))
    if any(map(_is_made, given)):
        return False
    return name != "_codecs.encode" or [each.argument for each in given[1:]] in (["latin1"], [b"latin1"])


def _is_made(value: Value) -> bool:
    return value.instruction in (*CALLS, "BINPERSID")


def _is_text(value: Value) -> bool:
    return value.instruction in CALLS and value.parts[0].name == "_codecs.encode"


def _numbers(value: Value) -> list[int] | None:
    """Return the numbers of a tuple, be it a torch.Size; None if it has others."""
    if value.instruction in CALLS and value.parts[0].name == "torch.Size" and value.parts[1].parts:
        value = value.parts[1].parts[0]
    numbers = [each.argument for each in value.parts]
    return numbers if all(type(each) is int for each in numbers) else None
