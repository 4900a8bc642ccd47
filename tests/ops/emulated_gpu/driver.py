"""In place of Triton's driver for CUDA: compiles for a GPU that is not here, and runs the result on CPU tensors.

Kernels must be imported without TRITON_INTERPRET=1, and after `install`. What is compiled here lacks the machine code,
so it goes to a cache of its own: TRITON_CACHE_DIR, or a folder beside Triton's.
"""

from __future__ import annotations

import os
import struct
from typing import Any

import torch

from tests.ops.emulated_gpu.machine import Machine
from tests.ops.emulated_gpu.memory import GlobalMemory
from tests.ops.emulated_gpu.parsing import Kernel, parse

__all__ = ["LAUNCHED", "install"]

# Names of the kernels that ran, as often as they did.
LAUNCHED: list[str] = []
# Of architectures whose instructions are known.
MOST_SHARED = {80: 163 << 10, 90: 227 << 10}
FORMATS = {"fp32": "<f", "i1": "<B", "i32": "<i", "u32": "<I", "i64": "<q", "u64": "<Q"}


class _Utils:
    """What Triton asks of a device before a launch."""

    def __init__(self, architecture: int) -> None:
        self.architecture = architecture

    def get_device_properties(self, device: int) -> dict[str, int]:
        return {"max_shared_mem": MOST_SHARED[self.architecture], "multiprocessor_count": 1, "warpSize": 32}

    def load_binary(self, *arguments: Any) -> tuple[Any, Any, int, int, int]:
        return object(), None, 0, 0, 1024


class _Launcher:
    """Runs one compiled kernel; made by Triton, once for each."""

    ptx: str  # set once the kernel is compiled

    def __init__(self, source: Any, metadata: Any) -> None:
        self.types = list(source.signature.values())
        self.shared = metadata.shared
        self.kernel: Kernel | None = None

    def __call__(self, x: int, y: int, z: int, stream: Any, function: Any, *more: Any) -> None:
        given = more[4:]  # behind metadata and hooks
        values = [each for each, kind in zip(given, self.types, strict=True) if kind != "constexpr"]
        types = [kind for kind in self.types if kind != "constexpr"]
        self.kernel = self.kernel or parse(self.ptx)
        tensors = [each for each in values if isinstance(each, torch.Tensor)]
        storages = {(each.untyped_storage().data_ptr(), each.untyped_storage().nbytes()) for each in tensors}
        arguments = [_bits(value, kind) for value, kind in zip(values, types, strict=True)]
        arguments += [struct.pack("<Q", 0)] * (len(self.kernel.parameters) - len(arguments))  # scratch of none
        LAUNCHED.append(self.kernel.name)
        Machine(self.kernel, arguments, GlobalMemory(storages), (x, y, z), self.shared).run()


def _bits(value: Any, kind: str) -> bytes:
    if isinstance(value, torch.Tensor):
        return struct.pack("<Q", value.data_ptr())
    return struct.pack(FORMATS[kind], value)


class _Driver:
    """As much of a driver as launches need."""

    launcher_cls = _Launcher

    def __init__(self, architecture: int) -> None:
        from triton.backends.compiler import GPUTarget

        self.utils = _Utils(architecture)
        self._target = GPUTarget("cuda", architecture, 32)

    def get_current_target(self) -> Any:
        return self._target

    def get_current_device(self) -> int:
        return 0

    def get_current_stream(self, device: int) -> int:
        return 0

    def get_active_torch_device(self) -> torch.device:
        return torch.device("cpu")


def install(architecture: int) -> None:
    """Let the kernels of all ops be compiled for an architecture, and run here on CPU tensors."""
    from triton import knobs, runtime
    from triton.backends.nvidia.compiler import CUDABackend
    from triton.compiler.compiler import CompiledKernel

    from semanir_plugin.ops.common import triton_support

    prepare = CompiledKernel._init_handles

    def prepare_with_code(self: Any) -> None:
        prepare(self)
        self._run.ptx = self.asm["ptx"]

    knobs.cache.dir = os.environ.get("TRITON_CACHE_DIR") or f"{knobs.cache.dir}_emulated"
    CUDABackend.make_cubin = lambda *arguments: b"none"  # machine code takes as long as all stages before
    CompiledKernel._init_handles = prepare_with_code
    runtime.driver.set_active(_Driver(architecture))
    triton_support.why_not = lambda device: None
