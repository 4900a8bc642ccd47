"""What the threads of a warp, or of four warps, do together: shuffles, sums, and products on tensor cores.

Arrays have one number per thread, those of a warp after each other; fragments of matrices are (threads, registers).
"""

from __future__ import annotations

import re
from typing import Any

import numpy as np

from tests.ops.emulated_gpu.memory import SharedMemory

__all__ = [
    "matrix_product",
    "read_descriptor",
    "read_matrices",
    "reduce_warps",
    "shuffle",
    "warpgroup_product",
    "write_matrices",
]

Array = np.ndarray[Any, Any]
WARP = 32
GROUP = 4 * WARP  # threads of a warp group
LANES = np.arange(WARP)
# A fragment of 8 x 8: each thread has two neighbours of one row.
ROW, COLUMN = LANES // 4, LANES % 4 * 2
# One of 16 x 16 numbers of 16 bits, four such: the places of each thread's eight.
ROWS, COLUMNS = ROW[:, None] + [0, 0, 8, 8, 0, 0, 8, 8], COLUMN[:, None] + [0, 1, 0, 1, 8, 9, 8, 9]
SWIZZLES = (0, 128, 64, 32)


def shuffle(kind: str, values: Array, argument: Array) -> Array:
    """Return the value of another lane of the warp.

    Args:
        kind: "bfly" for lane ^ argument, "idx" for lane argument, "up" for lane - argument, or its own below 0.
        values: One for each thread.
        argument: The same.
    """
    lanes = np.tile(LANES, len(values) // WARP)
    argument = argument.astype(np.int64)
    source = {"bfly": lanes ^ argument, "idx": argument % WARP, "up": lanes - argument}[kind]
    return values[np.arange(len(values)) // WARP * WARP + np.where(source < 0, lanes, source)]


def reduce_warps(kind: str, values: Array) -> Array:
    """Return the sum, minimum or maximum of each warp, for all its threads."""
    combined = {"add": np.sum, "min": np.min, "max": np.max}[kind](values.reshape(-1, WARP), axis=1, keepdims=True)
    return np.repeat(combined.astype(values.dtype), WARP)


def numbers(registers: Array, kind: str) -> Array:
    """Return the numbers in 32-bit registers (..., R) as float64: (..., 2 R) of `f16` or `bf16`, (..., R) of `tf32`."""
    registers = np.ascontiguousarray(registers)
    if kind == "f16":
        return registers.view("f2").astype("f8")
    if kind == "bf16":
        return (registers.view("u2").astype("u4") << np.uint32(16)).view("f4").astype("f8")
    if kind == "tf32":
        return (registers & np.uint32(0xFFFFE000)).view("f4").astype("f8")
    raise NotImplementedError(kind)


def matrix_product(shape: str, kind: str, a: Array, b: Array, c: Array) -> Array:
    """Return a @ b + c of each warp, `mma.sync`: fragments of (16, K), (K, 8) and (16, 8), c and the result as floats.

    The sum is rounded once, which a tensor core does not promise.
    """
    k = int(re.fullmatch(r"m16n8k(\d+)", shape)[1])
    warps = len(a) // WARP
    if kind == "tf32":
        if k != 8:
            raise NotImplementedError(shape)
        rows, columns = (ROW[:, None] + [0, 8, 0, 8]), (LANES[:, None] % 4 + [0, 0, 4, 4])
        inner = LANES[:, None] % 4 + [0, 4]
    else:
        if k != 16:
            raise NotImplementedError(shape)
        rows, columns = ROWS, COLUMNS
        inner = COLUMN[:, None] + [0, 1, 8, 9]
    left, right = np.empty((warps, 16, k)), np.empty((warps, k, 8))
    left[:, rows, columns] = numbers(a, kind).reshape(warps, WARP, -1)
    right[:, inner, ROW[:, None]] = numbers(b, kind).reshape(warps, WARP, -1)
    product = (left @ right)[:, ROW[:, None] + [0, 0, 8, 8], COLUMN[:, None] + [0, 1, 0, 1]]
    return (product + c.view("f4").reshape(warps, WARP, 4)).astype("f4").reshape(-1, 4)


def read_matrices(memory: SharedMemory, addresses: Array, count: int, warps: Array, *, transposed: bool) -> Array:
    """Return fragments of `count` matrices of 8 x 8 numbers of 16 bits: (threads, count) registers, `ldmatrix`.

    Lane 8 i + r of a warp has the address of row r of matrix i.
    """
    given = np.tile(np.arange(WARP) < 8 * count, len(addresses) // WARP)
    rows = memory.load(addresses[given], np.dtype("u2"), 8, warps[given])
    matrices = rows.reshape(-1, count, 8, 8)
    if transposed:
        matrices = matrices.transpose(0, 1, 3, 2)
    pairs = np.stack([matrices[:, :, ROW, COLUMN], matrices[:, :, ROW, COLUMN + 1]], -1)  # (warps, count, 32, 2)
    return np.ascontiguousarray(pairs).view("u4")[..., 0].transpose(0, 2, 1).reshape(-1, count)


def write_matrices(memory: SharedMemory, addresses: Array, registers: Array, warps: Array, *, transposed: bool) -> None:
    """Write fragments of matrices of 8 x 8, `stmatrix`, the counterpart of `read_matrices`."""
    count = registers.shape[1]
    pairs = np.ascontiguousarray(registers).view("u2").reshape(-1, WARP, count, 2).transpose(0, 2, 1, 3)
    matrices = np.empty((len(pairs), count, 8, 8), "u2")
    matrices[:, :, ROW, COLUMN], matrices[:, :, ROW, COLUMN + 1] = pairs[..., 0], pairs[..., 1]
    if transposed:
        matrices = matrices.transpose(0, 1, 3, 2)
    given = np.tile(np.arange(WARP) < 8 * count, len(addresses) // WARP)
    memory.store(addresses[given], np.ascontiguousarray(matrices).reshape(-1, 8), warps[given])


def read_descriptor(memory: SharedMemory, descriptor: int, rows: int, *, transposed: bool, warp: int) -> Array:
    """Return a matrix (rows, 16) of 16 bits that a descriptor of `wgmma` describes.

    Args:
        memory: Where it is.
        descriptor: Start, distances and swizzle, as PTX ISA 8.7, section 9.7.15.5.1 has them.
        rows: M or N.
        transposed: Whether rows, and not the 16 of K, are neighbours in memory.
        warp: That of the warp group's first thread.
    """
    start = (descriptor & 0x3FFF) << 4
    leading, stride = (descriptor >> 16 & 0x3FFF) << 4, (descriptor >> 32 & 0x3FFF) << 4
    swizzle = SWIZZLES[descriptor >> 62 & 3]
    if descriptor >> 49 & 7:
        raise NotImplementedError("a base offset of wgmma")
    row, column = np.mgrid[:rows, :16]
    if transposed:
        # Atoms of 8 rows of K, each `swizzle` bytes of M or N; `leading` between those along M or N, `stride` along K.
        if not swizzle:
            raise NotImplementedError("a transposed matrix without swizzle")
        per = swizzle // 2
        offsets = row // per * leading + row % per * 2 + column // 8 * stride + column % 8 * swizzle
    elif swizzle:
        offsets = row // 8 * stride + row % 8 * swizzle + column * 2
    else:
        offsets = row // 8 * stride + row % 8 * 16 + column // 8 * leading + column % 8 * 2
    addresses = start + offsets
    if swizzle:  # 16 bytes each, in an order that depends on the row of 128 bytes
        addresses ^= (addresses >> 7 & (swizzle // 16 - 1)) << 4
    flat = addresses.ravel().astype(np.uint32)
    return memory.load(flat, np.dtype("u2"), 1, np.full(flat.shape, warp))[:, 0].reshape(rows, 16)


def warpgroup_product(n: int, kind: str, a: Array, b: Array, c: Array) -> Array:
    """Return a @ b.T + c of one warp group, `wgmma`: (64, 16) and (N, 16) in 16 bits, c (128, N / 2) registers.

    `a` may be fragments in registers, (128, 4).
    """
    if a.shape == (GROUP, 4):
        left = np.empty((4, 16, 16))
        left[:, ROWS, COLUMNS] = numbers(a, kind).reshape(4, WARP, 8)
    else:
        left = numbers(np.ascontiguousarray(a).view("u4"), kind).reshape(4, 16, 16)
    right = numbers(np.ascontiguousarray(b).view("u4"), kind)
    product = (left.reshape(64, 16) @ right.T).reshape(4, 16, n)
    index = np.arange(n // 2)
    rows = ROW[:, None] + index % 4 // 2 * 8
    columns = COLUMN[:, None] + index // 4 * 8 + index % 2
    return (product[:, rows, columns].reshape(GROUP, -1) + c.view("f4")).astype("f4")
