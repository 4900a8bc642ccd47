"""torchvision where its compiled operators do not go with PyTorch's build: imported, and with what can stand in.

PyPI's wheels are CUDA builds. Beside a CPU-only torch, torchvision passes over its operators but then registers fakes
for them, which raises `RuntimeError: operator torchvision::nms does not exist`. BasicSR, spandrel, timm and LPIPS all
import it; of the operators BasicSR needs deformable convolution alone, for EDVR and BasicVSR++.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, MutableMapping
from contextlib import contextmanager
from types import ModuleType
from typing import Any

__all__ = ["compiler_put_off", "complete_torchvision", "swapped", "torchvision_importable"]


@contextmanager
def torchvision_importable() -> Iterator[None]:
    """Make `import torchvision` succeed within the block, whether or not its operators can be loaded."""
    import torch

    register_fake = torch.library.register_fake

    def register_existing(op: Any, *args: Any, **kwargs: Any) -> Callable[..., Any]:
        namespace, _, name = str(op).partition("::")
        if namespace == "torchvision" and not hasattr(torch.ops.torchvision, name):
            return lambda function: function
        result: Callable[..., Any] = register_fake(op, *args, **kwargs)
        return result

    with swapped(vars(torch.library), "register_fake", register_existing):
        yield


def complete_torchvision() -> None:
    """Give the imported torchvision a deformable convolution, where its own cannot be loaded."""
    import torch

    ops = getattr(sys.modules["torchvision"], "ops", None)
    if ops is not None and not hasattr(torch.ops.torchvision, "deform_conv2d"):
        from semanir_plugin.torchvision_repair.deformable import deform_conv2d

        ops.deform_conv2d = ops.deform_conv.deform_conv2d = deform_conv2d


@contextmanager
def compiler_put_off() -> Iterator[None]:
    """Keep `torchvision.ops.roi_align` from importing PyTorch's compiler for a question that few ask.

    That is a quarter of the time that `import basicsr` takes. Who asks gets the compiler's own answer.
    """
    if "torch._dynamo" in sys.modules:
        yield
        return
    utils = ModuleType("torch._dynamo.utils")
    vars(utils)["is_compile_supported"] = _is_compile_supported
    with (
        swapped(sys.modules, "torch._dynamo", ModuleType("torch._dynamo")),
        swapped(sys.modules, utils.__name__, utils),
    ):
        yield


def _is_compile_supported(device_type: str) -> Any:
    from torch._dynamo.utils import is_compile_supported

    return is_compile_supported(device_type)


@contextmanager
def swapped(table: MutableMapping[str, Any], key: str, value: Any) -> Iterator[None]:
    """Set `key` to `value` for the length of the block."""
    before = {key: table[key]} if key in table else {}
    table[key] = value
    try:
        yield
    finally:
        del table[key]
        table.update(before)
