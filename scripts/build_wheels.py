"""Build what goes to a package index: the sdist, a wheel for every system, and wheels with native kernels for Linux.

The wheels for x86-64 and ARM are that for every system with kernels beside, compiled by Zig's C compiler for a C
library as old as PyTorch's own wheels take. pip takes them where they fit, and nobody needs a compiler.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from bootstrap import ROOT, run_in_venv

AVX512 = "x86_64+avx2+fma+avx512f+avx512bw+avx512dq+avx512vl"
BASELINES = {
    "x86_64": {"avx2": "x86_64+avx2+fma", "avx512": AVX512, "avx512bf16": f"{AVX512}+avx512bf16"},
    "aarch64": {"neon": "generic"},
}
"""What Zig calls a processor that has just the instructions for which `native_prebuilt` has a kernel."""

GLIBC = "2.17"
TAG = "manylinux_2_17_{machine}.manylinux2014_{machine}"


class BuildError(Exception):
    """What cannot be built, and why."""


def main() -> int:
    """Build and check; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0], allow_abbrev=False)
    parser.add_argument("-o", "--output", type=Path, default=ROOT / "dist", help="folder (default: dist)")
    parser.add_argument(
        "--machines", nargs="*", choices=list(BASELINES), default=list(BASELINES), help="(default: all)"
    )
    args = parser.parse_args()
    run_in_venv(tests=True)
    try:
        built = build(args.output, args.machines)
        check(built)
    except (BuildError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(*built, sep="\n")
    return 0


def build(output: Path, machines: Sequence[str]) -> list[Path]:
    """Build the sdist, of it the wheel for every system, and of that those for machines; return what was built.

    Raises:
        BuildError: A part of it failed.
    """
    output.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        run("build", "--no-isolation", "--outdir", str(work / "built"), str(ROOT))
        built = sorted((work / "built").iterdir())
        pure = next(each for each in built if each.suffix == ".whl")
        built += [add_kernels(pure, machine, work / machine) for machine in machines]
        return [Path(shutil.copy2(each, output)) for each in built]


def check(built: Sequence[Path]) -> None:
    """Have twine look at what an index will show of it.

    Raises:
        BuildError: It would refuse that.
    """
    run("twine", "check", "--strict", *map(str, built))


def add_kernels(wheel: Path, machine: str, work: Path) -> Path:
    """Return a copy of a wheel, in the folder `work`, with kernels for a machine."""
    run("wheel", "unpack", "--dest", str(work), str(wheel))
    (content,) = work.iterdir()
    folder = content / "semanir_plugin" / "ops" / "common" / "prebuilt"
    folder.mkdir()
    compile_kernels(machine, content, folder)
    (info,) = content.glob("*.dist-info")
    about = (info / "WHEEL").read_text(encoding="utf-8")
    (info / "WHEEL").write_text(about.replace("Root-Is-Purelib: true", "Root-Is-Purelib: false"), encoding="utf-8")
    run("wheel", "pack", "--dest-dir", str(work), str(content))
    (packed,) = work.glob("*.whl")
    run("wheel", "tags", "--remove", "--platform-tag", TAG.format(machine=machine), str(packed))
    (tagged,) = work.glob("*.whl")
    return tagged


def compile_kernels(machine: str, tree: Path, folder: Path) -> list[Path]:
    """Compile the kernels of all ops in a tree of this package, into a folder; return them."""
    from semanir_plugin.ops.common.native_prebuilt import levels_of, name_of

    ops = tree / "semanir_plugin" / "ops"
    kernels = []
    for source in sorted(ops.glob("*/native*.c")):
        for level in levels_of(source, machine):
            kernels.append(folder / name_of(source, level))
            compile_source(source, ops / "common", flags_for(machine, level), kernels[-1])
    return kernels


def compile_source(source: Path, headers: Path, options: Sequence[str], kernel: Path) -> None:
    """Compile a C file by Zig's compiler."""
    run("ziglang", "cc", *options, f"-I{headers}", str(source), "-o", str(kernel), "-lm", "-lpthread")


def flags_for(machine: str, level: str) -> tuple[str, ...]:
    """Return the compiler's flags; debugging information, most of a kernel's size, is left out."""
    from semanir_plugin.ops.common.native_compiler import FLAGS

    return (*FLAGS, "-target", f"{machine}-linux-gnu.{GLIBC}", f"-mcpu={BASELINES[machine][level]}", "-s")


def run(module: str, *arguments: str) -> None:
    """Run a module of this interpreter's.

    Raises:
        BuildError: It failed; what it said stands on stderr.
    """
    done = subprocess.run([sys.executable, "-m", module, *arguments], stdout=subprocess.PIPE, text=True, cwd=ROOT)
    if done.returncode:
        sys.stderr.write(done.stdout)
        raise BuildError(f"{module} failed with exit code {done.returncode}; mend what it says and run again")


if __name__ == "__main__":
    sys.exit(main())
