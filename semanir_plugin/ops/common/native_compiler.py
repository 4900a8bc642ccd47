"""Compile the C file of an op by the machine's own compiler, for its own processor."""

from __future__ import annotations

import functools
import hashlib
import os
import platform
import shutil
import subprocess
import tempfile
from pathlib import Path

import torch

from semanir_plugin.ops.common.native_prebuilt import files_of

__all__ = ["CompilationError", "compile_source", "find_compiler", "fingerprint", "has_instructions"]

FLAGS = ("-O3", "-Wfatal-errors", "-fno-math-errno", "-fno-trapping-math", "-shared", "-fPIC", "-std=gnu11")
# For this processor: the first that the compiler knows.
TARGETS = ("-march=native", "-mcpu=native")
# What PyTorch itself was told not to use, by ATEN_CPU_CAPABILITY, the kernels do without too; DEFAULT is SSE alone.
LIMITS = {"AVX2": ("-mno-avx512f",), "DEFAULT": ("-mno-avx",)}
HEADERS = Path(__file__).parent
# Bytes that a compiled kernel and the compiler's own files take at most.
ROOM = 4 << 20


class CompilationError(Exception):
    """The compiler cannot make a kernel of a C file."""


def find_compiler() -> str | None:
    """Return the path of the C compiler: what CC names, else cc, gcc or clang."""
    return next(filter(None, map(shutil.which, (os.environ.get("CC", "cc"), "gcc", "clang"))), None)


def fingerprint(source: Path, compiler: str) -> str:
    """Return a digest of all that a compiled kernel depends on."""
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
    text = "\n".join(map(str, facts)).encode() + b"".join(each.read_bytes() for each in files_of(source))
    return hashlib.sha256(text).hexdigest()[:20]


def _limits() -> tuple[str, ...]:
    if platform.machine() not in ("x86_64", "AMD64"):
        return ()
    return LIMITS.get(torch.backends.cpu.get_cpu_capability(), ())


@functools.cache
def has_instructions(flag: str) -> bool:
    """Return whether the processor has the instructions that Linux calls by this flag."""
    return flag in _processor().split()


@functools.cache
def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next((line for line in lines if line.startswith(("flags", "Features"))), "")


def compile_source(compiler: str, source: Path, folder: Path) -> bytes:
    """Return the shared library that a C file makes; the compiler writes in a folder of its own within `folder`.

    Raises:
        CompilationError: It makes none.
        OSError: The folder cannot be written to.
    """
    error = ""
    with tempfile.TemporaryDirectory(dir=folder, prefix=".compiling_") as name:
        target = Path(name, "kernel.so")
        target.write_bytes(bytes(ROOM))  # a full disk is told at once, and not after the work
        for processor in TARGETS:
            flags = [*FLAGS, processor, *_limits(), f"-I{HEADERS}"]
            command = [compiler, *flags, str(source), "-o", str(target), "-lm", "-lpthread"]
            try:
                result = subprocess.run(
                    command,
                    capture_output=True,
                    text=True,
                    errors="replace",
                    timeout=300,
                    env={**os.environ, "TMPDIR": name},
                )
            except (OSError, subprocess.TimeoutExpired) as failure:
                raise CompilationError(f"{compiler}: {failure}") from failure
            if result.returncode == 0:
                return target.read_bytes()
            error = next(
                (line for line in result.stderr.splitlines() if "error" in line), f"exit code {result.returncode}"
            )
    raise CompilationError(f"{compiler} could not compile the native kernels: {error}")
