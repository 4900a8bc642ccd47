"""The machine that runs PTX: what instructions give, and that faulty programs are told."""

from __future__ import annotations

import contextlib
import re
import struct

import numpy as np
import pytest
import torch

from tests.ops.emulated_gpu.arithmetic import bfloat16_bits, rule
from tests.ops.emulated_gpu.machine import Machine
from tests.ops.emulated_gpu.memory import AccessError, GlobalMemory
from tests.ops.emulated_gpu.parsing import parse

THREADS = 64
HEAD = """
.version 8.7
.target sm_90
.address_size 64
.extern .shared .align 16 .b8 global_smem[];
.visible .entry kernel(
    .param .u64 .ptr .global .align 1 kernel_param_0,
    .param .u32 kernel_param_1
)
.reqntid 64
{
    .reg .pred %p<9>; .reg .b16 %rs<9>; .reg .b32 %r<40>; .reg .b64 %rd<9>;
    ld.param.b64 %rd1, [kernel_param_0];
    ld.param.b32 %r9, [kernel_param_1];
    mov.u32 %r1, %tid.x;
    mad.wide.u32 %rd2, %r1, 4, %rd1;  // where this thread's number is
    shl.b32 %r2, %r1, 2;
    xor.b32 %r3, %r2, 128;  // the place in shared memory of a thread of the other warp
"""


def run(body: str, x: torch.Tensor, number: int = 0, programs: int = 1) -> list[int]:
    """Run a program of 64 threads on x, and return it."""
    memory = GlobalMemory({(x.data_ptr(), x.nbytes)})
    arguments = [struct.pack("<Q", x.data_ptr()), struct.pack("<I", number)]
    Machine(parse(f"{HEAD}{body}\n}}\n"), arguments, memory, (programs, 1, 1), 4 * THREADS).run()
    return x.tolist()


@pytest.fixture
def x():
    return torch.arange(THREADS, dtype=torch.int32)


EXCHANGE = "st.shared.b32 [%r2], %r1; {barrier} ld.shared.b32 %r4, [%r3]; st.global.b32 [%rd2], %r4; ret;"


def test_warps_exchange_numbers_across_a_barrier(x):
    assert run(EXCHANGE.format(barrier="bar.sync 0;"), x) == [*range(32, 64), *range(32)]


def test_an_exchange_without_a_barrier_is_told(x):
    with pytest.raises(AccessError, match="read what another warp wrote") as error:
        run(EXCHANGE.format(barrier=""), x)
    assert "ld.shared.b32 %r4, [%r3]" in error.value.__notes__[0]


def test_a_barrier_of_one_warp_orders_nothing_between_warps(x):
    with pytest.raises(AccessError, match="read what another warp wrote"):
        run(EXCHANGE.format(barrier="bar.warp.sync -1;"), x)


def test_writing_what_another_warp_may_still_read_is_told(x):
    body = "st.shared.b32 [%r2], %r1; bar.sync 0; ld.shared.b32 %r4, [%r3]; st.shared.b32 [%r2], %r4; ret;"
    with pytest.raises(AccessError, match="while another warp may still read"):
        run(body, x)


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("and.b32 %r4, %r2, 127; st.shared.b32 [%r4], %r1; ret;", "different values to one place at once"),
        ("st.global.b32 [%rd1], %r1; ret;", "different values to one place at once"),
        ("st.global.b32 [%rd1], 7; ret;", None),
        (
            "setp.lt.u32 %p1, %r1, 32; @%p1 st.shared.b32 [%r2], 1; @!%p1 st.shared.b32 [%r3], 2; ret;",
            "two warps write",
        ),
    ],
)
def test_threads_that_write_one_place_are_told(x, body, message):
    with pytest.raises(AccessError, match=message) if message else contextlib.nullcontext():
        run(body, x)


COPY = (
    "cp.async.ca.shared.global [ %r2 + 0 ], [ %rd2 + 0 ], 0x4, %r9; cp.async.commit_group; {wait} bar.sync 0;"
    "ld.shared.b32 %r4, [%r2]; st.global.b32 [%rd2], %r4; ret;"
)


@pytest.mark.parametrize(
    ("wait", "size", "expected"),
    [
        ("cp.async.wait_group 0;", 4, [*range(64)]),
        ("cp.async.wait_group 0;", 0, [0] * 64),
        ("cp.async.wait_group 1;", 4, [-1] * 64),  # the one group may still be under way
    ],
)
def test_a_copy_is_there_once_it_was_waited_for(x, wait, size, expected):
    assert run(COPY.format(wait=wait), x, size) == expected


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("ld.global.b32 %r4, [%rd2+4]; ret;", "4 bytes at 256 of a storage of 256"),
        ("ld.global.b32 %r4, [%rd1+-4]; ret;", "global memory"),
        ("ld.global.b32 %r4, [%rd2+2]; ret;", "not a multiple of 4"),
        ("ld.shared.b32 %r4, [%r2+4]; ret;", "byte 259 of 256"),
        ("ld.shared.v2.b32 {%r4, %r5}, [%r2]; ret;", "not a multiple of 8"),
        ("setp.lt.u32 %p1, %r1, 7; @%p1 bra $L1; shfl.sync.bfly.b32 %r4, %r1, 1, 31, -1; $L1: ret;", "only some of 32"),
        ("setp.lt.u32 %p1, %r1, 7; @%p1 bra $L1; bar.sync 0; ret; $L1: bar.sync 0; ret;", "different barriers"),
    ],
)
def test_faults_are_told(x, body, message):
    with pytest.raises(AccessError, match=message):
        run(body, x)


def test_programs_that_meet_in_one_place_are_told(x):
    with pytest.raises(AccessError, match="two programs"):
        run("st.global.b32 [%rd2], %r1; ret;", x, programs=2)


def test_threads_that_take_different_ways_meet_again(x):
    """Each thread counts to its own number, then all shuffle."""
    body = (
        "mov.b32 %r4, 0; $L1: setp.ge.u32 %p1, %r4, %r1; @%p1 bra $L2; add.s32 %r4, %r4, 1; bra.uni $L1;"
        "$L2: shfl.sync.idx.b32 %r5, %r4, 5, 31, -1; st.global.b32 [%rd2], %r5; ret;"
    )
    assert run(body, x) == [5] * 32 + [37] * 32


def test_names_of_an_inner_scope_are_its_own(x):
    body = "{ .reg .pred p; setp.lt.u32 p, %r1, 3; selp.b32 %r4, 1, 2, p; } st.global.b32 [%rd2], %r4; ret;"
    assert run(body, x)[:4] == [1, 1, 1, 2]


@pytest.mark.parametrize(
    "text", ["prmt.b32 %r4, %r1, %r2, 7;", "fma.rn.f32.bf16 %r4, %rs1, %rs2, %r1;", "bar.sync 1;", "bar.arrive 0, 64;"]
)
def test_an_instruction_that_is_not_known_is_refused(x, text):
    with pytest.raises(NotImplementedError, match=re.escape(text.split()[0])):
        run(f"{text} ret;", x)


@pytest.mark.parametrize(
    ("text", "arguments", "expected"),
    [
        ("div.s32", (np.int32(-7), np.int32(2)), -3),
        ("rem.s32", (np.int32(-7), np.int32(2)), -1),
        ("shl.b32", (np.uint32(1), np.uint32(32)), 0),
        ("shr.s32", (np.int32(-8), np.uint32(40)), -1),
        ("bfe.u32", (np.uint32(0xABCD), np.uint32(4), np.uint32(8)), 0xBC),
        ("bfe.s32", (np.int32(0xABCD), np.uint32(4), np.uint32(8)), 0xBC - 256),
        ("mul.wide.s32", (np.int32(-(2**31)), np.int32(4)), -(2**33)),
        ("max.f32", (np.float32("nan"), np.float32(2)), 2),
        ("setp.ne.f32", (np.float32("nan"), np.float32(2)), False),
        ("setp.neu.f32", (np.float32("nan"), np.float32(2)), True),
        ("setp.ltu.f32", (np.float32(3), np.float32(2)), False),
        ("setp.num.f32", (np.float32(3), np.float32(2)), True),
        ("set.ge.f32.f32", (np.float32(2), np.float32(2)), 1),
        ("cvt.rn.bf16x2.f32", (np.float32(1), np.float32(-2)), 0x3F80C000),
        ("ex2.approx.ftz.f32", (np.float32(-130),), 0),
    ],
)
def test_arithmetic(text, arguments, expected):
    computed = rule(tuple(text.split("."))).compute(*[np.full(3, each) for each in arguments])
    assert computed.tolist() == [expected] * 3


def test_bfloat16_is_rounded_as_pytorch_does():
    x = torch.cat([torch.randn(10_000), torch.tensor([torch.inf, -torch.inf, 0.0, 1 + 2**-8, 1 + 3 * 2**-8])])
    assert (bfloat16_bits(x.numpy()).view("i2") == x.bfloat16().view(torch.int16).numpy()).all()
