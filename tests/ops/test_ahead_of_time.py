"""Every configuration that dispatch can choose compiles for GPUs that are not here, in registers and shared memory."""

from __future__ import annotations

import importlib.util
import os

import pytest

from tests.ops.ahead_of_time import ARCHITECTURES, Compiled, compile_module, loop_lengths, modules_with_kernels

EVERYTHING = os.environ.get("SEMANIR_AOT") == "full"
# The newest has no less than Hopper: it is left to a full run.
GPUS = ARCHITECTURES if EVERYTHING else ARCHITECTURES[:2]

pytestmark = pytest.mark.skipif(importlib.util.find_spec("triton") is None, reason="triton is not installed")


@pytest.fixture(scope="session")
def cache(request, tmp_path_factory):
    """Triton's cache: kept between runs where pytest keeps anything."""
    kept = getattr(request.config, "cache", None)
    return tmp_path_factory.mktemp("triton") if kept is None else kept.mkdir("triton")


@pytest.mark.timeout(0 if EVERYTHING else 600)
@pytest.mark.parametrize("module", modules_with_kernels())
def test_configurations_run_without_spills(module, cache):
    # What our networks launch, each for one GPU, by turns; all that dispatch can choose takes many minutes.
    compiled = compile_module(module, cache, GPUS, everything=EVERYTHING, by_turns=not EVERYTHING)
    assert {each.architecture for each in compiled} == set(GPUS)
    assert [fault for each in compiled if (fault := each.fault())] == []
    if "key_semantics." in module:  # features of fp32, as a LayerNorm has them under autocast
        assert any("NP=1024" in each.name and "HALVES=True" in each.name for each in compiled)


@pytest.fixture(scope="session")
def wasteful(cache):
    """Return the report on each kernel of `wasteful_kernels`, by its name."""
    told = {}
    for each in compile_module("tests.ops.wasteful_kernels", cache, everything=True):
        told.setdefault(each.name.partition("[")[0], []).append(each)
    return told


@pytest.mark.parametrize(
    ("kernel", "fault"),
    [
        ("spilling_kernel", r"spills [1-9]\d+ bytes per thread beside 64 registers"),
        ("hoarding_kernel", r"needs 3\d{5} bytes of shared memory"),
        ("wrong_kernel", "CompilationError"),
    ],
)
def test_a_wasteful_kernel_is_told(wasteful, kernel, fault):
    assert [each.architecture for each in wasteful[kernel]] == list(ARCHITECTURES)
    for each in wasteful[kernel]:
        with pytest.raises(AssertionError, match=fault):
            assert each.fault() is None


def test_a_modest_kernel_has_no_fault(wasteful):
    for each in wasteful["modest_kernel"]:
        assert each.fault() is None
        assert 0 < each.registers < 64


def test_what_ptxas_spares_for_more_blocks_is_no_fault():
    assert Compiled("k", 90, registers=128, spilled=12, threads=128).fault() is None
    assert "spills 12 bytes" in Compiled("k", 90, registers=128, spilled=12, threads=512).fault()
    assert "spills 12 bytes" in Compiled("k", 90, registers=255, spilled=12, threads=128).fault()
    assert "spills 40 bytes" in Compiled("k", 90, registers=128, spilled=40, threads=128).fault()


def test_the_first_innermost_loops_over_pairs_are_counted():
    jumps = {2: "`(.L_x_0)", 6: "`(.L_x_1)", 8: "`(.L_x_0)", 11: "`(.L_x_2)"}  # the loops begin at 0, 3, 0 and 9
    code = ["MUFU.EX2 R1, R2" if i in (4, 10) else f"@P0 BRA {jumps[i]}" if i in jumps else "FADD" for i in range(13)]
    lines = [f"        /*{16 * i:04x}*/   {each} ;" for i, each in enumerate(code)]
    for label, start in ((2, 9), (1, 3), (0, 0)):
        lines.insert(start, f".L_x_{label}:")
    listing = "\n".join(lines)
    assert loop_lengths(listing) == (4,)
    assert loop_lengths(listing.replace("MUFU.EX2", "MUFU.RCP")) == ()
    assert loop_lengths(listing.replace("MUFU.EX2", "FSET.BF.GE", 1).replace("MUFU.EX2", "HMMA.16816")) == (3, 4)


def test_a_module_that_cannot_be_imported_is_an_error(tmp_path):
    with pytest.raises(RuntimeError, match=r"No module named 'tests\.ops\.absent'"):
        compile_module("tests.ops.absent", tmp_path)


def test_nothing_is_compiled_twice(wasteful, cache):
    before = set(cache.rglob("*.cubin"))
    assert len(before) >= 3 * len(ARCHITECTURES)
    compile_module("tests.ops.wasteful_kernels", cache, everything=True)
    assert set(cache.rglob("*.cubin")) == before
