"""Native kernels for CPUs: C files compiled on first use, by the machine's own compiler for its own processor.

PyTorch's operators pass whole tensors through memory; kernels that skip most pairs of tokens cannot be made of them. A
compiled kernel is kept in the user's cache folder (XDG_CACHE_HOME, else ~/.cache) under a name that its source, the
compiler and the processor determine. SEMANIR_NATIVE=0 switches native kernels off.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import hashlib
import os
import platform
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import torch

__all__ = ["constant", "load", "why_not"]

Function = TypeVar("Function", bound=Callable[..., Any])

FLAGS = ("-O3", "-fno-math-errno", "-fno-trapping-math", "-shared", "-fPIC", "-std=gnu11")
# For this processor: the first that the compiler knows.
TARGETS = ("-march=native", "-mcpu=native")
# What PyTorch itself was told not to use, by ATEN_CPU_CAPABILITY, the kernels do without too.
LIMITS = {"AVX2": ("-mno-avx512f",)}
HEADERS = Path(__file__).parent
DTYPES = (torch.float32, torch.bfloat16, torch.float16)


def why_not(source: Path, device: torch.device, dtype: torch.dtype) -> str | None:
    """Return why the kernels of a C file cannot run on tensors like this, None if they can."""
    if device.type != "cpu":
        return f"native kernels are for CPU tensors, not {device.type} ones"
    if dtype not in DTYPES:
        return f"native kernels compute in fp32, and {dtype} has more digits"
    return _objection(str(source))


def constant(function: Function) -> Function:
    """Let torch.compile call a function when it traces, instead of tracing it, and take the result for constant.

    The same as torch.compiler.assume_constant_result, without importing the compiler, and Triton with it, at once.
    """
    function._dynamo_marked_constant = True  # type: ignore[attr-defined]
    return function


@constant
def _objection(source: str) -> str | None:
    return _compiled(Path(source))[1]


def load(source: Path) -> ctypes.CDLL:
    """Return the compiled kernels of a C file for which `why_not` has no objection."""
    library, reason = _compiled(source)
    if library is None:
        raise RuntimeError(reason)
    return library


@functools.cache
def _compiled(source: Path) -> tuple[ctypes.CDLL | None, str | None]:
    if os.environ.get("SEMANIR_NATIVE") == "0":
        return None, "native kernels are switched off by SEMANIR_NATIVE=0"
    if os.name != "posix":
        return None, f"native kernels need POSIX threads, which {platform.system()} lacks"
    compiler = next(filter(None, map(shutil.which, (os.environ.get("CC", "cc"), "gcc", "clang"))), None)
    if compiler is None:
        return None, "native kernels need a C compiler, and none of cc, gcc, clang was found"
    target = _cache_folder() / f"{source.parent.name}_{_fingerprint(source, compiler)}.so"
    if not target.is_file() and (error := _compile(compiler, source, target)):
        return None, error
    try:
        library = ctypes.CDLL(str(target))
    except OSError as error:
        return None, f"the compiled native kernels do not load: {error}"
    library.use_openmp(_openmp())
    return library, None


def _openmp() -> ctypes.c_void_p:
    """Return the function by which PyTorch's own threads run a task, or a null pointer; see `threads.h`."""
    for path in (Path(torch.__file__).parent / "lib").glob("libtorch_cpu.*"):
        with contextlib.suppress(OSError, AttributeError):
            return ctypes.cast(ctypes.CDLL(str(path)).GOMP_parallel, ctypes.c_void_p)  # also of what it depends on
    return ctypes.c_void_p()


def _fingerprint(source: Path, compiler: str) -> str:
    status = Path(compiler).stat()
    facts = [
        *FLAGS,
        *TARGETS,
        *_limits(),
        compiler,
        status.st_size,
        status.st_mtime_ns,
        platform.machine(),
        _processor(),
    ]
    files = [*sorted(HEADERS.glob("*.h")), *sorted(source.parent.glob("*.h")), source]
    text = "\n".join(map(str, facts)).encode() + b"".join(each.read_bytes() for each in files)
    return hashlib.sha256(text).hexdigest()[:20]


def _limits() -> tuple[str, ...]:
    if platform.machine() not in ("x86_64", "AMD64"):
        return ()
    return LIMITS.get(torch.backends.cpu.get_cpu_capability(), ())


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next((line for line in lines if line.startswith(("flags", "Features"))), "")


def _cache_folder() -> Path:
    folder = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "semanir_plugin"
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    except OSError:
        return _private_folder()
    # What others could write here would be run.
    mine = folder.stat().st_uid == os.getuid() and not folder.stat().st_mode & 0o022
    return folder if mine and os.access(folder, os.W_OK) else _private_folder()


@functools.cache
def _private_folder() -> Path:
    return Path(tempfile.mkdtemp(prefix="semanir_plugin_"))


def _compile(compiler: str, source: Path, target: Path) -> str | None:
    """Compile `source` into `target`, which appears whole or not at all; return the error message, None on success."""
    handle, name = tempfile.mkstemp(suffix=".so", dir=target.parent)
    os.close(handle)
    partial, error = Path(name), ""
    for processor in TARGETS:
        flags = [*FLAGS, processor, *_limits(), f"-I{HEADERS}"]
        command = [compiler, *flags, str(source), "-o", name, "-lm", "-lpthread"]
        try:
            result = subprocess.run(command, capture_output=True, text=True, timeout=300)
        except (OSError, subprocess.TimeoutExpired) as failure:
            error = str(failure)
            break
        if result.returncode == 0:
            partial.replace(target)
            return None
        error = next((line for line in result.stderr.splitlines() if "error" in line), result.stderr.strip())
    partial.unlink()
    return f"{compiler} could not compile the native kernels: {error}"
