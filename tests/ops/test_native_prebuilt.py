"""Kernels that come with a wheel: which is taken, what happens where none loads, and ARM's under emulation."""

from __future__ import annotations

import importlib.util
import platform
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from semanir_plugin.ops import build_key_semantics, key_semantic_attention
from semanir_plugin.ops.common import dispatch, native_prebuilt, native_support
from semanir_plugin.ops.key_semantic_attention import native_backend as attention
from semanir_plugin.ops.key_semantics import native_backend as dictionary
from tests.conftest import ROOT

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="wheels with kernels are Linux's")

ARM = Path("/usr/aarch64-linux-gnu")
needs_zig = pytest.mark.skipif(importlib.util.find_spec("ziglang") is None, reason="ziglang is not installed")


@pytest.fixture(autouse=True)
def _no_kernel_yet(tmp_path, monkeypatch):
    monkeypatch.setattr(native_prebuilt, "FOLDER", tmp_path / "prebuilt")
    monkeypatch.setattr(dispatch, "_told", [])
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    (tmp_path / "prebuilt").mkdir()
    native_support._compiled.cache_clear()
    yield
    native_support._compiled.cache_clear()


@pytest.mark.parametrize(
    ("machine", "capability", "there", "taken"),
    [
        ("x86_64", "AVX512", ("avx2", "avx512"), "avx512"),
        ("x86_64", "AVX512", ("avx2",), "avx2"),
        ("x86_64", "AVX2", ("avx2", "avx512"), "avx2"),
        ("x86_64", "DEFAULT", ("avx2", "avx512"), None),
        ("aarch64", "DEFAULT", ("neon",), "neon"),
        ("riscv64", "DEFAULT", ("avx2", "neon"), None),
    ],
)
def test_the_widest_kernel_that_the_processor_has(monkeypatch, machine, capability, there, taken):
    monkeypatch.setattr(platform, "machine", lambda: machine)
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: capability)
    for level in there:
        (native_prebuilt.FOLDER / native_prebuilt.name_of(dictionary.SOURCE, level)).touch()
    found = native_prebuilt.find(dictionary.SOURCE)
    assert (found and found.name) == (taken and native_prebuilt.name_of(dictionary.SOURCE, taken))


def test_a_kernel_of_other_sources_is_not_taken(tmp_path):
    folder = tmp_path / dictionary.SOURCE.parent.name
    shutil.copytree(dictionary.SOURCE.parent, folder)
    (folder / "native.c").write_text((folder / "native.c").read_text() + "\n")
    names = [native_prebuilt.name_of(each, "avx2") for each in (dictionary.SOURCE, folder / "native.c")]
    assert names[0] != names[1]
    assert [name.rpartition("_")[0] for name in names] == ["key_semantics_avx2"] * 2


@pytest.mark.skipif(shutil.which("cc") is None, reason="there is no C compiler")
def test_one_that_does_not_load_is_compiled_here(monkeypatch, caplog):
    for level in native_prebuilt.levels_of(dictionary.SOURCE, platform.machine()):
        (native_prebuilt.FOLDER / native_prebuilt.name_of(dictionary.SOURCE, level)).write_bytes(b"no library")
    assert native_support.describe(dictionary.SOURCE).startswith("compiled here: ")
    assert caplog.messages == []
    native_support._compiled.cache_clear()
    monkeypatch.setattr(native_support.native_compiler, "find_compiler", lambda: None)
    assert "file too short" in native_support.describe(dictionary.SOURCE)


@needs_zig
@pytest.mark.skipif(platform.machine() != "x86_64", reason="the kernels of this machine")
def test_wheels_have_kernels_for_every_op(tmp_path, monkeypatch):
    monkeypatch.setattr(native_support.native_compiler, "find_compiler", lambda: None)
    build(tmp_path, monkeypatch)
    tensors = [torch.randn(1, 2, 65, 9) for _ in range(3)]
    semantics = build_key_semantics(torch.randn(1, 65, 7), 11, backend="native")
    assert native_support.describe(attention.SOURCE).startswith("came with the package: ")
    made = key_semantic_attention(*tensors, semantics, backend="native")
    torch.testing.assert_close(made, key_semantic_attention(*tensors, semantics, backend="naive"))
    if native_support.native_compiler.has_instructions("avx512_bf16"):
        assert native_support.multiplies_bf16(attention.BF16_SOURCE)
        assert native_support.describe(attention.BF16_SOURCE).startswith("came with the package: ")
    monkeypatch.setenv("SEMANIR_NATIVE", "compile")
    native_support._compiled.cache_clear()
    assert native_support.describe(attention.SOURCE).startswith("native kernels need a C compiler")


def build(tmp_path, monkeypatch):
    """Have the kernels of this machine's wheel built into the folder where they are looked for."""
    wheels = import_build_wheels()
    made = wheels.compile_kernels(platform.machine(), ROOT, native_prebuilt.FOLDER)
    sources = {
        path.parent.name + path.stem.removeprefix("native") for path in ROOT.glob("semanir_plugin/ops/*/native*.c")
    }
    assert {"key_semantics", "key_semantic_attention", "key_semantic_attention_bf16"} <= sources
    levels = {each: ("avx512bf16",) if each.endswith("bf16") else ("avx512", "avx2") for each in sources}
    expected = {f"{op}_{level}" for op, each in levels.items() for level in each}
    assert {path.name.rpartition("_")[0] for path in made} == expected
    assert all(path.stat().st_size < 200_000 for path in made)


def import_build_wheels():
    sys.path.append(str(ROOT / "scripts"))
    import build_wheels

    return build_wheels


@pytest.fixture(scope="module")
def emulated(tmp_path_factory):
    """Return a function that runs a program, compiled for ARM with NEON, on bytes."""
    if importlib.util.find_spec("ziglang") is None or not shutil.which("qemu-aarch64") or not ARM.is_dir():
        pytest.skip("ziglang, or Debian's qemu-user and libc6-arm64-cross, are not installed")
    wheels, folder = import_build_wheels(), tmp_path_factory.mktemp("emulated")
    ops = ROOT / "semanir_plugin" / "ops"

    def run(name, sizes, *given):
        program = folder / name
        if not program.exists():
            options = [flag for flag in wheels.flags_for("aarch64", "neon") if flag != "-shared"]
            files = [f"-I{ops}", f"-I{ops / 'common'}", str(Path(__file__).with_name(f"{name}.c")), "-lm", "-lpthread"]
            wheels.run("ziglang", "cc", *options, *files, "-o", str(program))
        content = b"".join(each.numpy().tobytes() for each in given)
        command = ["qemu-aarch64", "-L", str(ARM), str(program), *map(str, sizes)]
        return subprocess.run(command, input=content, check=True, capture_output=True).stdout

    return run


@pytest.mark.parametrize(("windows", "n", "channels", "k"), [(2, 64, 16, 9), (1, 37, 5, 36), (3, 100, 33, 1)])
def test_the_dictionary_of_arm(emulated, windows, n, channels, k):
    x = torch.randint(-8, 9, (windows, n, channels)).float()  # products are exact, and there are ties
    mask = np.frombuffer(emulated("emulated_dictionary", (windows, n, channels, k), x), bool)
    expected = build_key_semantics(x, k, backend="naive").mask()
    np.testing.assert_array_equal(mask.reshape(windows, n, n), expected.numpy())


@pytest.mark.parametrize(("heads", "n", "d", "k"), [(2, 64, 16, 9), (1, 37, 5, 37), (3, 100, 30, 1)])
def test_the_attention_of_arm(emulated, heads, n, d, k):
    q, key, v = (torch.randn(1, heads, n, d, requires_grad=True) for _ in range(3))
    semantics, grad = build_key_semantics(torch.randn(1, n, 6), k), torch.randn(1, heads, n, d)
    out = key_semantic_attention(q, key, v, semantics, scale=0.5, backend="naive")
    out.backward(grad)
    inputs = [each.detach() for each in (q, key, v, grad)]
    parts = np.frombuffer(emulated("emulated_attention", (heads, n, d), *inputs, semantics.mask()), np.float32)
    for part, expected in zip(np.split(parts, 4), (out, q.grad, key.grad, v.grad), strict=True):
        torch.testing.assert_close(torch.from_numpy(part.copy()).view_as(out), expected.detach(), rtol=1e-4, atol=1e-4)
