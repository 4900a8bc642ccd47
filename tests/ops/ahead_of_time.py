"""Compile Triton kernels for absent GPUs and report the resources of each: registers, spills, shared memory.

An op's `triton_backend.py` has a function `compilations()` that yields every configuration its dispatch can choose as
(kernel, signature, constexprs, num_warps, num_stages). The signature maps the arguments that are not in `constexprs`
to type strings: "*bf16", "i32", "fp32", and "i32:16" for an integer that is always a multiple of 16. Pointers count as
aligned to 16 bytes, as torch allocates them. An argument that is None or always 1 belongs to `constexprs`, as Triton's
launcher has it.

`compile_module` does so in a process of its own, because kernels imported under TRITON_INTERPRET=1 cannot be compiled.
By hand: `python -m tests.ops.ahead_of_time semanir_plugin.ops.key_semantics.triton_backend`; `--count` adds how many
instructions each kernel issues per pairs of tokens.
"""

from __future__ import annotations

import contextlib
import importlib
import io
import itertools
import json
import multiprocessing
import os
import re
import subprocess
import sys
from argparse import ArgumentParser, Namespace
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

__all__ = ["ARCHITECTURES", "SHARED_LIMIT", "Compiled", "compile_module", "loop_lengths", "modules_with_kernels"]

ROOT = Path(__file__).resolve().parents[2]
ARCHITECTURES = (80, 90, 100)
# Bytes of shared memory that one block may use, by architecture.
SHARED_LIMIT = {80: 163 << 10, 90: 227 << 10, 100: 227 << 10}
WORKERS = 2
# Registers of a thread, and of all threads of a block.
THREAD_REGISTERS, BLOCK_REGISTERS = 255, 1 << 16
# Where a jump of the disassembly goes.
TARGET = re.compile(r"BRA.*`\((\.L_x_\d+)\)")
# Instructions by which loops over pairs of tokens are known: exponentials of attention; in kernels without, products
# of 16 channels and comparisons of a search.
MARKS = (("MUFU.EX2",), ("HMMA|FFMA", "FSET.BF"))
# ptxas may spill a few words, of registers that it has, to let more blocks run side by side.
SPARED_BYTES = 32


@dataclass(frozen=True)
class Compiled:
    """Resources of a compiled kernel on one architecture.

    Attributes:
        name: The kernel and its configuration.
        architecture: Compute capability times ten.
        registers: Per thread.
        spilled: Bytes per thread that are stored to memory for want of registers.
        shared: Bytes of shared memory per block.
        threads: Of a block.
        cycles: Warp instructions of the innermost loops over pairs, see `MARKS`, that a multiprocessor's four
            schedulers issue per 64 x 64 pairs of tokens: how long they take where nothing has to be waited for.
        error: Why it does not compile, None if it does.
    """

    name: str
    architecture: int
    registers: int = 0
    spilled: int = 0
    shared: int = 0
    threads: int = 128
    cycles: tuple[int, ...] = ()
    error: str | None = None

    def fault(self) -> str | None:
        """Tell in one line why this kernel may not run well or at all, None if it may."""
        limit = SHARED_LIMIT[self.architecture]
        faults = [self.error] if self.error else []
        wanting = self.registers >= min(THREAD_REGISTERS, BLOCK_REGISTERS // self.threads)
        if self.spilled > (0 if wanting else SPARED_BYTES):
            faults.append(f"spills {self.spilled} bytes per thread beside {self.registers} registers")
        if self.shared > limit:
            faults.append(f"needs {self.shared} bytes of shared memory of {limit}")
        return f"sm_{self.architecture} {self.name}: {', '.join(faults)}" if faults else None


def modules_with_kernels() -> list[str]:
    """Name the modules of all ops that have kernels."""
    files = sorted(ROOT.glob("semanir_plugin/ops/*/triton_backend.py"))
    return [".".join(file.relative_to(ROOT).with_suffix("").parts) for file in files]


def compile_module(
    module: str,
    cache: Path,
    architectures: tuple[int, ...] = ARCHITECTURES,
    workers: int = WORKERS,
    *,
    everything: bool = False,
    by_turns: bool = False,
) -> list[Compiled]:
    """Compile all configurations of a module in a process that does not interpret kernels.

    Args:
        module: Importable from the repository's root, with a function `compilations`.
        cache: Folder for Triton's cache: what is in it already is not compiled again.
        architectures: For which GPUs.
        workers: Processes that compile at the same time.
        everything: All that dispatch can choose, and not only what our networks launch.
        by_turns: Each configuration for one architecture, by turns, where there are as many as architectures.

    Raises:
        RuntimeError: The module cannot be imported, or its `compilations` failed.
    """
    environment = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    environment |= {"TRITON_CACHE_DIR": str(cache), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "tests.ops.ahead_of_time", module, "--json", "--workers", str(workers)]
    command += [f"--architecture={architecture}" for architecture in architectures]
    command += ["--everything"] * everything + ["--by-turns"] * by_turns
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{module}: {done.stderr}")
    return [Compiled(**entry) for entry in json.loads(done.stdout.splitlines()[-1])]


def _compile_one(module: str, index: int, architecture: int, count: bool) -> Compiled:
    from triton.compiler import ASTSource

    kernel, signature, constexprs, num_warps, num_stages = list(importlib.import_module(module).compilations())[index]
    options = {"num_warps": num_warps, "num_stages": num_stages}
    name = f"{kernel.__name__}[{', '.join(f'{key}={value}' for key, value in (constexprs | options).items())}]"
    types = {argument: signature.get(argument, "constexpr") for argument in kernel.arg_names}
    aligned = {
        (position,): [["tt.divisibility", 16]]
        for position, kind in enumerate(types.values())
        if kind.startswith("*") or kind.endswith(":16")
    }
    types = {argument: kind.removesuffix(":16") for argument, kind in types.items()}
    try:
        shared, log, cubin = _assemble(ASTSource(kernel, types, constexprs, aligned), architecture, options)
    except Exception as error:
        return Compiled(name, architecture, error=f"{type(error).__name__}: {error}")
    registers = max(map(int, re.findall(r"Used (\d+) registers", log)))
    spilled = sum(map(int, re.findall(r"(\d+) bytes spill stores", log)))
    rows, columns = (constexprs.get(name, 0) for name in ("BM", "BN"))
    if constexprs.get("NP") and rows:
        columns = columns or constexprs["NP"]  # of keys in registers
    pairs = (rows or columns) * (columns or rows)
    loops = loop_lengths(_disassemble(cubin)) if count and pairs else ()
    cycles = tuple(round(length * num_warps / 4 * 64 * 64 / pairs) for length in loops)
    return Compiled(name, architecture, registers, spilled, shared, 32 * num_warps, cycles)


def _disassemble(cubin: Path) -> str:
    import triton

    disassembler = Path(triton.__file__).parent / "backends" / "nvidia" / "bin" / "nvdisasm"
    return subprocess.run([disassembler, "-c", cubin], capture_output=True, text=True, check=True).stdout


def loop_lengths(listing: str) -> tuple[int, ...]:
    """Return the instructions of the first innermost loop with each of the `MARKS` that are found first.

    Such loops go through pairs of tokens; what comes behind them runs only where a number is not finite.
    """
    labels: dict[str, int] = {}
    code: list[str] = []
    for line in listing.splitlines():
        if label := re.match(r"(\.L_x_\d+):", line.strip()):
            labels[label[1]] = len(code)
        elif instruction := re.match(r"\s+/\*[0-9a-f]+\*/\s+(.*?);", line):
            code.append(instruction[1])
    jumps = ((labels.get(target[1]), end) for end, each in enumerate(code, 1) if (target := TARGET.search(each)))
    back = sorted((end, start) for start, end in jumps if start is not None and start < end)

    def length(mark: str) -> int:
        loops = ((start, end) for end, start in back if any(re.search(mark, each) for each in code[start:end]))
        start, end = next(loops, (0, 0))
        return end - start

    lengths = ([length(mark) for mark in marks] for marks in MARKS)
    return next((tuple(each) for each in lengths if any(each)), ())


def _assemble(source: Any, architecture: int, options: dict[str, int]) -> tuple[int, str, Path]:
    """Return the bytes of shared memory, the report of ptxas, and the machine code."""
    import triton
    from triton import knobs
    from triton.backends.compiler import GPUTarget

    knobs.nvidia.dump_ptxas_log = True
    for knobs.compilation.always_compile in (False, True):
        with contextlib.redirect_stdout(io.StringIO()) as told:
            compiled = triton.compile(source, GPUTarget("cuda", architecture, 32), options)
        # ptxas tells nothing of what is in the cache already: its words are kept beside what they are about.
        cubin = next(str(path) for name, path in compiled.metadata_group.items() if name.endswith(".cubin"))
        log = Path(f"{cubin}.log")
        if told.getvalue():
            log.write_text(told.getvalue())
        if log.exists():
            break
    return compiled.metadata.shared, log.read_text(), Path(cubin)


def _compile_all(module: str, architectures: list[int], options: Namespace) -> list[Compiled]:
    every = enumerate(importlib.import_module(module).compilations())
    chosen = [index for index, (_, types, constants, *_) in every if options.everything or _is_common(types, constants)]
    pairs = [(index, architecture) for index in chosen for architecture in architectures]
    if options.by_turns and len(chosen) >= len(architectures):
        pairs = list(zip(chosen, itertools.cycle(architectures)))
    jobs = [(module, *pair, options.count) for pair in pairs]
    with ProcessPoolExecutor(options.workers, multiprocessing.get_context("fork")) as pool:
        return list(pool.map(_compile_one, *zip(*jobs, strict=True))) if jobs else []


def _is_common(types: dict[str, str], constants: dict[str, Any]) -> bool:
    """Tell whether our networks launch a configuration, or one that needs no more than theirs.

    They have windows up to 32 x 32 and a table of biases, or wider queries and keys instead; heads padded to 32,
    regions, and exact fp32 or bf16 stand for all. The dictionary has fp32 in halves, of fp16.
    """
    halves = constants.get("HALVES") or "p_halves" in types
    if constants.get("PRECISION") == "tf32":
        return False
    if not halves and any("fp16" in kind.replace("bf16", "") for kind in types.values()):
        return False
    if "p_bias" in constants:
        return (constants["BD"], constants.get("BDV")) == (64, 32)
    small = constants.get("SIDE", 32) == 32 and constants.get("NP", 0) <= 32**2
    return constants.get("BD", 32) == 32 and small and constants.get("HAS_REGIONS", True)


def _main() -> int:
    parser = ArgumentParser(description="Compile kernels for GPUs that are not here.")
    parser.add_argument("modules", nargs="*", default=modules_with_kernels(), help="default: those of all ops")
    parser.add_argument("--architecture", type=int, action="append", help=f"one or more of {ARCHITECTURES}")
    parser.add_argument("--workers", type=int, default=WORKERS)
    parser.add_argument("--everything", action="store_true", help="all that dispatch can choose: takes many minutes")
    parser.add_argument("--by-turns", action="store_true", help="each configuration for one architecture, by turns")
    parser.add_argument("--count", action="store_true", help="count the instructions per 64 x 64 pairs of tokens")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    architectures = options.architecture or list(ARCHITECTURES)
    results = []
    for module in options.modules:
        results += _compile_all(module, architectures, options)
    if options.json:
        print(json.dumps([asdict(result) for result in results]))
        return 0
    for each in results:
        print(f"sm_{each.architecture:<3} {each.registers:3} registers {each.shared:6} B shared", end=" ")
        cycles = " + ".join(map(str, each.cycles)) or "0"
        print(f"{each.spilled:4} B spilled", f"{cycles:>9} cycles" if options.count else "", end="  ")
        print(each.name + (f"  {each.error}" if each.error else ""))
    return any(result.fault() for result in results)


if __name__ == "__main__":
    sys.exit(_main())
