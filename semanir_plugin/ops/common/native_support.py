"""Native kernels for CPUs: C files that came compiled, or are compiled on first use by the machine's own compiler.

PyTorch's operators pass whole tensors through memory; kernels that skip most pairs of tokens cannot be made of them.
Wheels for a platform bring kernels (`native_prebuilt`). Where there are none, or they do not load, one is compiled for
this processor and kept in the user's cache folder (`native_cache`), else in one among the temporary files, under a name
that its source, the compiler and the processor determine. SEMANIR_NATIVE=0 switches native kernels off,
SEMANIR_NATIVE=compile those that came; where there are none for another reason, one warning says so.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import os
import platform
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor

from semanir_plugin.ops.common import native_cache, native_compiler, native_prebuilt, native_signatures
from semanir_plugin.ops.common.dispatch import warn_of_slow_path
from semanir_plugin.ops.common.eager import are_plain
from semanir_plugin.ops.common.native_compiler import CompilationError

__all__ = [
    "constant",
    "describe",
    "load",
    "mirrors",
    "multiplies_bf16",
    "processor_multiplies_bf16",
    "run",
    "why_not",
    "why_not_directly",
]

Function = TypeVar("Function", bound=Callable[..., Any])
Mirror = TypeVar("Mirror", bound=type[ctypes.Structure])

DTYPES = (torch.float32, torch.bfloat16, torch.float16)


def why_not(source: Path, device: torch.device, dtype: torch.dtype) -> str | None:
    """Return why the kernels of a C file cannot run on tensors like this, None if they can."""
    if device.type != "cpu":
        return f"native kernels are for CPU tensors, not {device.type} ones"
    if dtype not in DTYPES:
        return f"native kernels compute with no more digits than fp32, and {dtype} has more"
    return _objection(source)


def why_not_directly(tensors: Sequence[Tensor], source: Path, bf16_source: Path) -> str | None:
    """Return why the kernels of an op's C files cannot be called on tensors of one dtype without a registered op.

    Args:
        tensors: All that they read.
        source: The C file for fp32.
        bf16_source: The one for bfloat16.
    """
    if not are_plain(tensors):
        return "off CPUs, and for compilers, exporters and torch.func, PyTorch's own operators are the better ones"
    dtype = tensors[0].dtype
    if dtype == torch.bfloat16 and multiplies_bf16(bf16_source):
        return None
    if dtype != torch.float32:
        return f"native kernels take fp32, and bfloat16 where the processor multiplies it, not {dtype}"
    return why_not(source, tensors[0].device, dtype)


def constant(function: Function) -> Function:
    """Let torch.compile call a function when it traces, instead of tracing it, and take the result for constant.

    The same as torch.compiler.assume_constant_result, without importing the compiler, and Triton with it, at once.
    """
    function._dynamo_marked_constant = True  # type: ignore[attr-defined]
    return function


@constant
def _objection(source: Path) -> str | None:
    # Not traced: a path keeps its string, by which PyTorch's compiler would find another trace the second time.
    library, reason = _compiled(str(source))
    if library is None and not _switched_off():
        warn_of_slow_path(str(reason))
    return reason


@constant
def multiplies_bf16(source: Path) -> bool:
    """Return whether this processor multiplies pairs of bfloat16, and a C file's kernels for them run."""
    return processor_multiplies_bf16() and _compiled(str(source))[0] is not None


def processor_multiplies_bf16() -> bool:
    """Return whether this processor has such instructions, and PyTorch was not told to do without."""
    return torch.backends.cpu.get_cpu_capability() == "AVX512" and native_compiler.has_instructions("avx512_bf16")


def load(source: Path) -> ctypes.CDLL:
    """Return the compiled kernels of a C file for which `why_not` or `multiplies_bf16` has no objection."""
    library, reason = _compiled(str(source))
    if library is None:
        raise RuntimeError(reason)
    return library


def run(source: Path, function: str, *arguments: Any) -> None:
    """Call a C function of a file's kernels, on as many threads as PyTorch takes.

    Args:
        source: The C file.
        function: One that takes the number of threads last, and returns 0, or 1 where memory ran out.
        *arguments: Its others: tensors and None become pointers, floats are float and integers int.

    Raises:
        ctypes.ArgumentError: The function takes another type.
        MemoryError: There was no memory to work in.
        OverflowError: An integer is too large for C's.
    """
    if getattr(load(source), function)(*map(_in_c, arguments), torch.get_num_threads()):
        raise MemoryError(f"no memory was left to run {function} of {source.parent.name}")


def _in_c(argument: Any) -> Any:
    if isinstance(argument, Tensor):
        return ctypes.c_void_p(argument.data_ptr())
    if isinstance(argument, int):
        if not -(2**31) <= argument < 2**31:
            raise OverflowError(f"native kernels count up to {2**31 - 1}, not to {argument}")
        return ctypes.c_int(argument)
    return ctypes.c_float(argument) if isinstance(argument, float) else argument


def mirrors(*sources: Path) -> Callable[[Mirror], Mirror]:
    """Let a ctypes.Structure stand for the one that C files take, and compare both when their kernels are loaded.

    Args:
        *sources: C files that export `structure_size` and `last_offset`, where the last field begins.
    """

    def register(structure: Mirror) -> Mirror:
        _structures.update(dict.fromkeys(map(str, sources), structure))
        return structure

    return register


_structures: dict[str, type[ctypes.Structure]] = {}


def _check_structure(library: ctypes.CDLL, source: str) -> None:
    if (structure := _structures.get(source)) is None:
        return
    last = structure._fields_[-1][0]
    ours = (ctypes.sizeof(structure), getattr(structure, last).offset)
    theirs = (library.structure_size(), library.last_offset())
    if ours != theirs:
        raise RuntimeError(
            f"{structure.__module__}.{structure.__name__} is not the structure of {source}: in bytes, and up to its "
            f"last field {last}, {ours} against {theirs}"
        )


def describe(source: Path) -> str:
    """Return in words where the kernels of a C file come from, or why there are none."""
    library, reason = _compiled(str(source))
    if library is None:
        return str(reason)
    place = Path(library._name)
    return f"{'came with the package' if place.parent == native_prebuilt.FOLDER else 'compiled here'}: {place}"


@functools.cache  # by text, which is kept with a path: to compare paths takes longer than some ops
def _compiled(source: str) -> tuple[ctypes.CDLL | None, str | None]:
    if _switched_off():
        return None, "native kernels are switched off by SEMANIR_NATIVE=0"
    try:
        library = _library(Path(source))
    except _UnavailableError as reason:
        return None, str(reason)
    native_signatures.declare(library, native_prebuilt.files_of(Path(source)))
    _check_structure(library, source)
    library.use_openmp(*_openmp())
    return library, None


def _switched_off() -> bool:
    return os.environ.get("SEMANIR_NATIVE") == "0"


class _UnavailableError(Exception):
    """Why there are no native kernels, and what helps."""


def _library(source: Path) -> ctypes.CDLL:
    if os.name != "posix":
        raise _UnavailableError(
            f"native kernels need POSIX threads, which {platform.system()} lacks; take Linux, or WSL 2"
        )
    faults: list[str] = []
    if os.environ.get("SEMANIR_NATIVE") != "compile" and (prebuilt := native_prebuilt.find(source)):
        try:
            return ctypes.CDLL(str(prebuilt))
        except OSError as error:
            faults.append(str(error))
    return _library_of_this_machine(source, faults)


def _library_of_this_machine(source: Path, faults: list[str]) -> ctypes.CDLL:
    compiler = native_compiler.find_compiler()
    if compiler is None:
        raise _UnavailableError(
            "native kernels need a C compiler, and none of cc, gcc, clang was found; install one, or name one by CC"
            + "".join(f" ({fault})" for fault in faults)
        )
    key = f"{native_prebuilt.label_of(source)}_{native_compiler.fingerprint(source, compiler)}"
    folders, objections = native_cache.folders()
    faults += objections
    kept = {folder: native_cache.find(folder, key) for folder in folders}
    ways = [functools.partial(Path, path) for path in kept.values() if path]
    ways += [functools.partial(_make, compiler, source, folder, key) for folder, path in kept.items() if not path]
    for way in ways:
        try:
            return ctypes.CDLL(str(way()))
        except (CompilationError, OSError) as error:  # also of a folder from which nothing may be executed
            faults.append(str(error))
    raise _UnavailableError(
        f"native kernels cannot be made or kept ({'; '.join(dict.fromkeys(faults))}); they need a C compiler that "
        "works, and a folder of your own to be kept in, which XDG_CACHE_HOME can name"
    )


def _make(compiler: str, source: Path, folder: Path, key: str) -> Path:
    return native_cache.keep(native_compiler.compile_source(compiler, source, folder), folder, key)


def _openmp() -> tuple[ctypes.c_void_p, ctypes.c_void_p]:
    """Return how PyTorch's own threads run a function, and what numbers them, or null pointers; see `threads.h`."""
    for path in (Path(torch.__file__).parent / "lib").glob("libtorch_cpu.*"):
        with contextlib.suppress(OSError, AttributeError):
            library = ctypes.CDLL(str(path))  # and what it depends on
            functions = (library.GOMP_parallel, library.omp_get_thread_num)
            return ctypes.cast(functions[0], ctypes.c_void_p), ctypes.cast(functions[1], ctypes.c_void_p)
    return ctypes.c_void_p(), ctypes.c_void_p()
