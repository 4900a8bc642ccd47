from __future__ import annotations

import ctypes
import errno
import os
import platform
import re
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from semanir_plugin.ops.common import (
    dispatch,
    native_cache,
    native_compiler,
    native_signatures,
    native_support,
    triton_support,
)

CPU = torch.device("cpu")
ANSWER = '#include "threads.h"\nint answer(void) { return 42; }'
needs_compiler = pytest.mark.skipif(shutil.which("cc") is None, reason="there is no C compiler")


FILES_OF_C = sorted(native_compiler.HEADERS.parent.glob("*/*.[ch]"))
BF16_FILES = {(path.parent.name, "BF16") for path in FILES_OF_C if path.name == "native_bf16.c"}


@pytest.fixture(autouse=True)
def _own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("TMPDIR", str(tmp_path / "temporary"))
    monkeypatch.delenv("CC", raising=False)
    monkeypatch.setattr(dispatch, "_told", [])
    native_support._compiled.cache_clear()
    yield
    native_support._compiled.cache_clear()


def source(tmp_path, text=ANSWER):
    folder = tmp_path / "some_op"
    folder.mkdir(exist_ok=True)
    (folder / "native.c").write_text(text)
    return folder / "native.c"


def cached(tmp_path):
    return sorted((tmp_path / "cache" / "semanir_plugin").iterdir())


@needs_compiler
def test_compiles_once_and_anew_when_the_source_changes(tmp_path):
    path = source(tmp_path)
    assert native_support.why_not(path, CPU, torch.float32) is None
    assert native_support.load(path).answer() == 42
    (library,) = cached(tmp_path)
    stamp = library.stat().st_mtime_ns
    native_support._compiled.cache_clear()
    assert native_support.load(path).answer() == 42
    assert library.stat().st_mtime_ns == stamp
    native_support._compiled.cache_clear()
    assert native_support.load(source(tmp_path, ANSWER.replace("42", "43"))).answer() == 43
    assert len(cached(tmp_path)) == 2


@needs_compiler
def test_what_does_not_compile_is_told_and_leaves_nothing(tmp_path):
    path = source(tmp_path, ANSWER.replace("42", "oops"))
    assert "oops" in native_support.why_not(path, CPU, torch.float32)
    assert cached(tmp_path) == []
    with pytest.raises(RuntimeError, match="oops"):
        native_support.load(path)


SUM = """
#include <stddef.h>
#include "threads.h"
static int add(int a, int b) { return a + b; }
int total(const float *x, int factor, ptrdiff_t count, float more,
          int threads) {
    return x && threads ? add((int)count, factor) + (int)more : -1;
}
"""


@needs_compiler
def test_arguments_of_another_type_than_c_takes_are_refused(tmp_path):
    path, x, count = source(tmp_path, SUM), torch.zeros(3), ctypes.c_ssize_t(3)
    native_support.run(path, "total", x, -3, count, 0.0)
    for wrong in ((x, -3.0, count, 0.0), (x, -3, 3, 0.0), (x, -3, count, 0), (3, -3, count, 0.0), (x, x, count, 0.0)):
        with pytest.raises(ctypes.ArgumentError):
            native_support.run(path, "total", *wrong)


def test_every_function_of_the_shipped_kernels_is_declared():
    functions = {}
    for path in native_compiler.HEADERS.parent.glob("*/native.c"):
        functions[path.parent.name] = set(native_signatures.signatures_of(path.read_text()))
    assert functions == {
        "cosine_qkv": {"join", "last_offset", "split", "structure_size", "task_count"},
        "gelu": {"gelu", "gradient"},
        "key_semantic_attention": {
            *("attention_backward", "attention_forward", "group_size", "lane_count"),
            *("last_offset", "list_keys", "list_step", "side_step", "structure_size", "transpose_matrices"),
        },
        "key_semantics": {"multiply", "packed_tokens", "select_keys"},
        "layer_norm": {"gradients", "normalise", "task_count"},
        "linear": {"gradients"},
    }


STRUCTURE = """
#include <stddef.h>
#include "threads.h"
typedef struct { int count; float scale; const float *x; int last; } Numbers;
int structure_size(void) { return sizeof(Numbers); }
int last_offset(void) { return offsetof(Numbers, last); }
"""
FIELDS = [("count", ctypes.c_int), ("scale", ctypes.c_float), ("x", ctypes.c_void_p), ("last", ctypes.c_int)]


@needs_compiler
@pytest.mark.parametrize(
    ("fields", "told"),
    [
        (FIELDS, None),
        (FIELDS[:3], r"last field x, \(16, 8\) against \(24, 16\)"),
        ([*FIELDS[:1], *FIELDS[2:], FIELDS[1]], r"last field scale, \(24, 20\) against \(24, 16\)"),
        ([("count", ctypes.c_ssize_t), *FIELDS[1:]], r"last field last, \(32, 24\) against \(24, 16\)"),
    ],
    ids=["right", "one too few", "out of order", "too wide"],
)
def test_a_structure_that_is_not_that_of_c_is_told_when_kernels_are_loaded(tmp_path, monkeypatch, fields, told):
    monkeypatch.setattr(native_support, "_structures", {})
    path = source(tmp_path, STRUCTURE)
    native_support.mirrors(path)(type("Mirror", (ctypes.Structure,), {"_fields_": fields}))
    if told is None:
        native_support.load(path)
    else:
        with pytest.raises(RuntimeError, match=rf"Mirror is not the structure of .*native\.c: .*{told}"):
            native_support.load(path)


def test_every_structure_that_is_filled_in_python_is_compared():
    exporting = {each.parent.name for each in FILES_OF_C if "int structure_size(void)" in each.read_text()}
    filling = {
        each.parent.name
        for each in native_compiler.HEADERS.parent.glob("*/native_backend.py")
        if "ctypes.Structure" in each.read_text()
    }
    compared = {Path(each).parent.name for each in native_support._structures}
    assert exporting == filling == compared == {"cosine_qkv", "key_semantic_attention"}
    assert {Path(each).name for each in native_support._structures} == {"native.c", "native_bf16.c"}


SQUARES = """
#include "threads.h"
static void square(const void *numbers, int task, void *scratch) { (void)scratch; ((int *)numbers)[task] *= task; }
int squares(int *numbers, int count, int threads) { return run_tasks(square, numbers, count, threads, 100); }
"""


@needs_compiler
@pytest.mark.parametrize("openmp", [True, False], ids=["PyTorch's threads", "own threads"])
def test_every_task_runs_once(tmp_path, monkeypatch, openmp):
    if not openmp:
        monkeypatch.setattr(native_support, "_openmp", lambda: (ctypes.c_void_p(), ctypes.c_void_p()))
    elif not torch.backends.openmp.is_available():
        pytest.skip("this PyTorch has no OpenMP")
    assert [bool(each) for each in native_support._openmp()] == [openmp, openmp]
    squares = native_support.load(source(tmp_path, SQUARES)).squares
    for count, threads in ((0, 2), (1, 4), (1000, 1), (1000, 2), (1000, 7), (1000, 300)):
        numbers = (ctypes.c_int * count)(*range(count))
        assert squares(numbers, count, threads) == 0
        assert list(numbers) == [i * i for i in range(count)]


WORKERS = """
#include <unistd.h>
#include "threads.h"
static pthread_t caller;
static void note(const void *by_caller, int task, void *scratch) {
    (void)scratch;
    ((int *)by_caller)[task] = pthread_equal(caller, pthread_self()) != 0;
    usleep(task < 20 ? 10000 : 2000);
}
int workers(int *by_caller, int threads) {
    caller = pthread_self();
    return run_tasks(note, by_caller, 40, threads, 0);
}
"""


@needs_compiler
@pytest.mark.parametrize("openmp", [True, False], ids=["PyTorch's threads", "own threads"])
def test_threads_begin_with_a_part_of_their_own_and_help_each_other(tmp_path, monkeypatch, openmp):
    if not openmp:
        monkeypatch.setattr(native_support, "_openmp", lambda: (ctypes.c_void_p(), ctypes.c_void_p()))
    elif not torch.backends.openmp.is_available():
        pytest.skip("this PyTorch has no OpenMP")
    by_caller = (ctypes.c_int * 40)()
    assert native_support.load(source(tmp_path, WORKERS)).workers(by_caller, 2) == 0
    assert (by_caller[0], by_caller[20]) == (1, 0)
    assert sum(by_caller[20:]) < 5  # the caller is the slower one, and hardly comes to these
    assert 0 in by_caller[:20]  # the other has helped


def again(path):
    """Load as the next process does."""
    native_support._compiled.cache_clear()
    return native_support.load(path)


@needs_compiler
@pytest.mark.parametrize(
    "damage",
    [
        lambda content: b"",
        lambda content: content[: len(content) // 2],
        lambda content: content[:4000] + bytes([content[4000] ^ 1]) + content[4001:],
        lambda content: bytes(len(content)),
    ],
    ids=["empty", "cut", "flipped", "zeros"],
)
def test_a_damaged_kernel_is_made_again(tmp_path, damage, caplog):
    path = source(tmp_path)
    native_support.load(path)
    (library,) = cached(tmp_path)
    good = library.read_bytes()
    library.unlink()  # what this process has mapped stays whole
    library.write_bytes(damage(good))
    assert again(path).answer() == 42
    assert [each.read_bytes() for each in cached(tmp_path)] == [good]
    assert caplog.messages == []


@needs_compiler
def test_a_kernel_under_the_checksum_of_another_is_made_again(tmp_path):
    path = source(tmp_path)
    native_support.load(path)
    (library,) = cached(tmp_path)
    name = library.name
    library.rename(library.with_name(f"{library.stem[:-1]}{'0' if library.stem[-1] != '0' else '1'}.so"))
    assert again(path).answer() == 42
    assert [each.name for each in cached(tmp_path)] == [name]


@needs_compiler
def test_processes_that_find_a_damaged_kernel_at_once_are_both_right(tmp_path):
    path = source(tmp_path)
    native_support.load(path)
    (library,) = cached(tmp_path)
    good = library.read_bytes()
    library.unlink()
    library.write_bytes(good[:100])
    code = (
        "import sys; from pathlib import Path; from semanir_plugin.ops.common import native_support\n"
        "print(native_support.load(Path(sys.argv[1])).answer())"
    )
    start = [sys.executable, "-c", code, str(path)]
    running = [subprocess.Popen(start, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    assert [each.communicate(timeout=120)[0] for each in running] == ["42\n"] * 2
    assert [each.read_bytes() for each in cached(tmp_path)] == [good]


def listing(folder):
    return sorted(each.name for each in folder.rglob("*"))


def plant(folder, mode):
    """Make a folder of a mode."""
    folder.mkdir(parents=True)
    folder.chmod(mode)
    return folder


@needs_compiler
def test_what_others_could_write_is_not_trusted_and_the_next_folder_taken(tmp_path):
    folder = plant(tmp_path / "cache" / "semanir_plugin", 0o777)
    assert native_support.load(source(tmp_path)).answer() == 42
    assert listing(folder) == []
    assert [each.suffix for each in (tmp_path / "temporary" / "semanir_plugin").iterdir()] == [".so"]


def test_the_folder_among_temporary_files_is_the_users_own(tmp_path, monkeypatch):
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setattr(native_cache.Path, "home", no_home)
    temporary = plant(tmp_path / "temporary", 0o1777)
    ((folder,), objections) = native_cache.folders()
    assert (folder, objections) == (
        temporary / f"semanir_plugin_{os.getuid()}",
        ["Could not determine home directory."],
    )
    assert folder.stat().st_mode & 0o777 == 0o700
    folder.rmdir()
    elsewhere = plant(tmp_path / "elsewhere", 0o700)
    folder.symlink_to(elsewhere)
    assert native_cache.folders()[0] == []
    folder.unlink()
    temporary.chmod(0o777)  # without the sticky bit others can put theirs in its place
    assert native_cache.folders()[0] == []


def test_the_folder_of_another_user_is_not_trusted(tmp_path, monkeypatch):
    folder = plant(tmp_path / "cache" / "semanir_plugin", 0o700)
    if os.getuid() == 0:  # whose own folders everyone trusts
        os.chown(folder, 4242, -1)
    else:
        monkeypatch.setattr(os, "getuid", lambda: folder.stat().st_uid + 1)
    assert folder not in native_cache.folders()[0]


def test_nothing_relative_to_the_working_directory_is_trusted(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", "cache")
    monkeypatch.setenv("TMPDIR", "temporary")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert native_cache.folders()[0][0] == tmp_path / "home" / ".cache" / "semanir_plugin"
    assert listing(tmp_path) == [".cache", "home", "semanir_plugin"]


def no_home():
    raise RuntimeError("Could not determine home directory.")


@needs_compiler
def test_without_a_folder_nothing_is_compiled_and_one_line_says_so(tmp_path, monkeypatch, caplog):
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setattr(native_cache.Path, "home", no_home)
    (tmp_path / "temporary").write_text("no folder")
    monkeypatch.setattr(native_compiler.subprocess, "run", None)
    path = source(tmp_path)
    for name in (path, path.with_name("other.c")):
        name.write_text(ANSWER)
        assert "cannot be made or kept" in native_support.why_not(name, CPU, torch.float32)
    (line,) = caplog.messages
    for part in ("home directory", str(tmp_path / "temporary"), "XDG_CACHE_HOME", "PyTorch's own operators"):
        assert part in line


@needs_compiler
def test_a_folder_that_takes_no_file_is_passed_over_at_once(tmp_path, monkeypatch):
    folder = plant(tmp_path / "cache" / "semanir_plugin", 0o700)
    write = native_compiler.Path.write_bytes

    def full(path, content):
        if path.is_relative_to(folder):
            raise OSError(errno.ENOSPC, "No space left on device", str(path))
        return write(path, content)

    monkeypatch.setattr(native_compiler.Path, "write_bytes", full)
    assert native_support.load(source(tmp_path)).answer() == 42
    assert listing(folder) == []
    monkeypatch.setattr(native_compiler.subprocess, "run", None)  # the next start compiles nothing
    assert again(source(tmp_path)).answer() == 42


@needs_compiler
def test_where_nothing_may_be_executed_the_next_folder_is_taken(tmp_path, monkeypatch):
    load = ctypes.CDLL

    def no_execution(name):
        if name.startswith(str(tmp_path / "cache")):
            raise OSError(f"{name}: failed to map segment from shared object")
        return load(name)

    monkeypatch.setattr(ctypes, "CDLL", no_execution)
    assert native_support.load(source(tmp_path)).answer() == 42
    monkeypatch.setattr(native_compiler.subprocess, "run", None)  # the next start compiles nothing
    assert again(source(tmp_path)).answer() == 42


def test_why_not(tmp_path, monkeypatch, caplog):
    path = source(tmp_path)
    assert "cuda" in native_support.why_not(path, torch.device("cuda"), torch.float32)
    assert "float64" in native_support.why_not(path, CPU, torch.float64)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert "none of cc, gcc, clang" in native_support.why_not(path, CPU, torch.float32)
    assert "install one" in caplog.text
    dispatch._told.clear()
    caplog.clear()
    native_support._compiled.cache_clear()
    monkeypatch.setenv("SEMANIR_NATIVE", "0")
    assert "SEMANIR_NATIVE=0" in native_support.why_not(path, CPU, torch.float32)
    assert caplog.messages == []  # who switches them off knows
    native_support._compiled.cache_clear()
    monkeypatch.delenv("SEMANIR_NATIVE")
    monkeypatch.setattr(native_support, "os", SimpleNamespace(name="nt", environ={}))
    assert "POSIX threads" in native_support.why_not(path, CPU, torch.float32)
    assert "WSL 2" in caplog.text


@pytest.mark.parametrize(("system", "package"), [("linux", "triton."), ("win32", "triton-windows.")])
def test_a_gpu_without_triton_is_told(monkeypatch, caplog, system, package):
    monkeypatch.setattr(triton_support, "find_spec", lambda _: None)
    monkeypatch.setattr(triton_support.sys, "platform", system)
    assert triton_support.why_not(CPU) == "triton is not installed"
    assert caplog.messages == []
    triton_support.why_not(torch.device("cuda"))
    assert caplog.messages[0].endswith(f"pip install {package}")


@needs_compiler
@pytest.mark.parametrize("op", ["cosine_qkv", "key_semantics", "key_semantic_attention"])
def test_the_shipped_kernels_have_no_warning(op):
    source = native_compiler.HEADERS.parent / op / "native.c"
    command = ["cc", "-Wall", "-Wextra", "-Werror", "-fsyntax-only", f"-I{native_compiler.HEADERS}", str(source)]
    for target in ([], ["-mavx2", "-mfma"], ["-mavx512f"]):
        assert subprocess.run([*command, *target], capture_output=True, text=True).stderr == ""


def test_what_the_headers_define_no_op_defines_again():
    defined = {path: re.findall(r"^#define (\w+)", path.read_text(), re.MULTILINE) for path in FILES_OF_C}
    shared = {name for path, names in defined.items() if path.parent == native_compiler.HEADERS for name in names}
    assert {"LANES", "ROWS", "VECTORS"} <= shared
    own = {
        (path.parent.name, name) for path, names in defined.items() if path.parent.name != "common" for name in names
    }
    assert {(op, name) for op, name in own if name in shared} == BF16_FILES


LEVELS = {"DEFAULT": (4, "sse2"), "AVX2": (8, "avx2"), "AVX512": (16, "avx512f")}


@needs_compiler
@pytest.mark.skipif(platform.machine() != "x86_64", reason="the instructions of x86")
@pytest.mark.parametrize("level", LEVELS)
def test_kernels_do_without_what_pytorch_was_told_not_to_use(tmp_path, level):
    lanes, needed = LEVELS[level]
    if not native_compiler.has_instructions(needed):
        pytest.skip(f"this processor has no {needed}")
    path = source(tmp_path, ANSWER.replace('"threads.h"', '"vectors.h"\n#include "threads.h"').replace("42", "LANES"))
    code = (
        "import sys, torch; from pathlib import Path; from semanir_plugin.ops.common import native_support\n"
        "print(torch.backends.cpu.get_cpu_capability(), native_support.load(Path(sys.argv[1])).answer())"
    )
    environment = {**os.environ, "ATEN_CPU_CAPABILITY": level.lower()}
    done = subprocess.run([sys.executable, "-c", code, str(path)], capture_output=True, text=True, env=environment)
    assert done.stdout.split() == [level, str(lanes)], done.stderr


def test_importing_the_ops_compiles_nothing_and_leaves_triton_alone(tmp_path):
    code = "import semanir_plugin.ops, sys; print('triton' in sys.modules)"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert result.stdout.strip() == "False", result.stderr
    assert not (tmp_path / "cache").exists()
