from __future__ import annotations

import ctypes
import shutil
import subprocess
import sys

import pytest
import torch

from semanir_plugin.ops.common import native_support

CPU = torch.device("cpu")
ANSWER = '#include "threads.h"\nint answer(void) { return 42; }'
needs_compiler = pytest.mark.skipif(shutil.which("cc") is None, reason="there is no C compiler")


@pytest.fixture(autouse=True)
def _own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv("CC", raising=False)
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


SQUARES = """
#include "threads.h"
static void square(const void *numbers, int task, void *scratch) { (void)scratch; ((int *)numbers)[task] *= task; }
int squares(int *numbers, int count, int threads) { return run_tasks(square, numbers, count, threads, 100); }
"""


@needs_compiler
@pytest.mark.parametrize("openmp", [True, False], ids=["PyTorch's threads", "own threads"])
def test_every_task_runs_once(tmp_path, monkeypatch, openmp):
    if not openmp:
        monkeypatch.setattr(native_support, "_openmp", ctypes.c_void_p)
    elif not torch.backends.openmp.is_available():
        pytest.skip("this PyTorch has no OpenMP")
    assert bool(native_support._openmp()) == openmp
    squares = native_support.load(source(tmp_path, SQUARES)).squares
    for count, threads in ((0, 2), (1, 4), (1000, 1), (1000, 2), (1000, 7)):
        numbers = (ctypes.c_int * count)(*range(count))
        assert squares(numbers, count, threads) == 0
        assert list(numbers) == [i * i for i in range(count)]


@needs_compiler
def test_a_folder_that_others_can_write_to_is_not_trusted(tmp_path):
    folder = tmp_path / "cache" / "semanir_plugin"
    folder.mkdir(parents=True)
    folder.chmod(0o777)
    assert native_support.load(source(tmp_path)).answer() == 42
    assert list(folder.iterdir()) == []


def test_why_not(tmp_path, monkeypatch):
    path = source(tmp_path)
    assert "cuda" in native_support.why_not(path, torch.device("cuda"), torch.float32)
    assert "float64" in native_support.why_not(path, CPU, torch.float64)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert "none of cc, gcc, clang" in native_support.why_not(path, CPU, torch.float32)
    native_support._compiled.cache_clear()
    monkeypatch.setenv("SEMANIR_NATIVE", "0")
    assert "SEMANIR_NATIVE=0" in native_support.why_not(path, CPU, torch.float32)


@needs_compiler
@pytest.mark.parametrize("op", ["cosine_qkv", "key_semantics", "key_semantic_attention"])
def test_the_shipped_kernels_have_no_warning(op):
    source = native_support.HEADERS.parent / op / "native.c"
    command = ["cc", "-Wall", "-Wextra", "-Werror", "-fsyntax-only", f"-I{native_support.HEADERS}", str(source)]
    for target in ([], ["-mavx2", "-mfma"], ["-mavx512f"]):
        assert subprocess.run([*command, *target], capture_output=True, text=True).stderr == ""


def test_importing_the_ops_compiles_nothing_and_leaves_triton_alone(tmp_path):
    code = "import semanir_plugin.ops, sys; print('triton' in sys.modules)"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert result.stdout.strip() == "False", result.stderr
    assert not (tmp_path / "cache").exists()
