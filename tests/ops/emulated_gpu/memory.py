"""Global and shared memory, with checks of what a GPU would not tell, or only by a wrong result."""

from __future__ import annotations

import bisect
import ctypes
from typing import Any

import numpy as np

__all__ = ["AccessError", "GlobalMemory", "SharedMemory"]

Array = np.ndarray[Any, Any]
# Bytes that are told apart by checks of order.
CELL = 2
NOBODY = -1
# Contents of shared memory before anything is written: not a number, and no offset of anything.
GARBAGE = 0xFF


class AccessError(Exception):
    """Memory that is not the kernel's, an address that is not aligned, or an access in no order with another."""


class _Order:
    """Who wrote and read each cell: threads of one group may do so in any order, others with a barrier between.

    Args:
        size: Bytes of memory.
    """

    def __init__(self, size: int) -> None:
        cells = -(-size // CELL)
        self.written_by = np.full(cells, NOBODY, np.int32)
        self.written_in = np.full(cells, NOBODY, np.int32)
        self.readers = np.zeros(cells, np.uint64)
        self.read_in = np.full(cells, NOBODY, np.int32)

    def read(self, cells: Array, groups: Array, epoch: int) -> Array:
        """Note reads; return where another group wrote since the last barrier."""
        self.readers[cells[self.read_in[cells] != epoch]] = 0
        self.read_in[cells] = epoch
        np.bitwise_or.at(self.readers, cells, np.uint64(1) << groups.astype(np.uint64))
        return (self.written_in[cells] == epoch) & (self.written_by[cells] != groups)

    def conflicts(self, cells: Array, groups: Array, epoch: int) -> tuple[Array, Array]:
        """Return where another group wrote, and where one read, since the last barrier."""
        others = self.readers[cells] & ~(np.uint64(1) << groups.astype(np.uint64))
        written = (self.written_in[cells] == epoch) & (self.written_by[cells] != groups)
        return written, (self.read_in[cells] == epoch) & (others != 0)

    def write(self, cells: Array, groups: Array, epoch: int) -> None:
        self.written_by[cells], self.written_in[cells] = groups, epoch


def _cells(addresses: Array, size: int) -> tuple[Array, int]:
    """Return the cells of accesses of `size` bytes, and how many cells each has."""
    per = max(size // CELL, 1)
    return (addresses[:, None] // CELL + np.arange(per)).ravel(), per


class SharedMemory:
    """Shared memory of one program: reads and writes of warps must have a barrier between them."""

    def __init__(self, size: int) -> None:
        self.bytes = np.full(-(-size // 16) * 16, GARBAGE, np.uint8)
        self._order = _Order(len(self.bytes))
        self.epoch = 0

    def load(self, addresses: Array, dtype: np.dtype[Any], count: int, warps: Array) -> Array:
        """Return `count` neighbours from each address: (threads, count)."""
        places = self._places(addresses, dtype, count)
        cells, per = _cells(addresses.astype(np.int64), dtype.itemsize * count)
        if self._order.read(cells, np.repeat(warps, per), self.epoch).any():
            raise AccessError("shared memory: read what another warp wrote, with no barrier between")
        return self.bytes.view(dtype)[places]

    def store(self, addresses: Array, values: Array, warps: Array) -> None:
        """Write the neighbours `values` (threads, count) from each address on."""
        places = self._places(addresses, values.dtype, values.shape[1])
        self.check_overwriting(addresses, values, warps)
        cells, per = _cells(addresses.astype(np.int64), values.itemsize * values.shape[1])
        self._order.write(cells, np.repeat(warps, per), self.epoch)
        memory = self.bytes.view(values.dtype)
        memory[places] = values
        if (memory[places] != values).any():
            raise AccessError("shared memory: threads write different values to one place at once")

    def check_overwriting(self, addresses: Array, values: Array, warps: Array) -> None:
        """Raise if another warp may still read what a write replaces, or writes something else there."""
        places = self._places(addresses, values.dtype, values.shape[1])
        cells, per = _cells(addresses.astype(np.int64), values.itemsize * values.shape[1])
        written, read = self._order.conflicts(cells, np.repeat(warps, per), self.epoch)
        if not (written | read).any():
            return
        changed = (self.bytes.view(values.dtype)[places] != values).any(1)
        changed = np.repeat(changed, per)
        if (written & changed).any():
            raise AccessError("shared memory: two warps write different values, with no barrier between")
        if (read & changed).any():
            raise AccessError("shared memory: written while another warp may still read, with no barrier between")

    def _places(self, addresses: Array, dtype: np.dtype[Any], count: int) -> Array:
        width = dtype.itemsize * count
        if (addresses % width).any():
            raise AccessError(f"shared memory: an address is not a multiple of {width} bytes")
        if len(addresses) and int(addresses.max()) + width > len(self.bytes):
            raise AccessError(f"shared memory: byte {int(addresses.max()) + width - 1} of {len(self.bytes)}")
        return (addresses // dtype.itemsize).astype(np.int64)[:, None] + np.arange(count)


class GlobalMemory:
    """What a launch was given: storages of tensors. Programs must not meet in it, since nothing orders them.

    Args:
        extents: First address and bytes of each storage.
    """

    def __init__(self, extents: set[tuple[int, int]]) -> None:
        self._starts = sorted(start for start, size in extents if size)
        self._bytes, self._order = {}, {}
        for start, size in extents:
            if size:
                buffer = (ctypes.c_uint8 * size).from_address(start)
                self._bytes[start] = np.frombuffer(buffer, np.uint8)
                self._order[start] = _Order(size)

    def load(self, addresses: Array, dtype: np.dtype[Any], count: int, program: int) -> Array:
        """Return `count` neighbours from each address: (threads, count)."""
        result = np.empty((len(addresses), count), dtype)
        for start, chosen in self._by_storage(addresses, dtype.itemsize * count):
            at = (addresses[chosen] - np.uint64(start)).astype(np.int64)
            self._check(start, at, dtype.itemsize * count, program)
            flat = self._bytes[start]
            places = at[:, None] + np.arange(dtype.itemsize * count)
            result[chosen] = flat[places].view(dtype)
        return result

    def store(self, addresses: Array, values: Array, program: int) -> None:
        """Write the neighbours `values` (threads, count) from each address on."""
        width = values.itemsize * values.shape[1]
        for start, chosen in self._by_storage(addresses, width):
            at = (addresses[chosen] - np.uint64(start)).astype(np.int64)
            cells = self._check(start, at, width, program)
            self._order[start].written_by[cells] = program
            places, written = at[:, None] + np.arange(width), np.ascontiguousarray(values[chosen]).view(np.uint8)
            written = written.reshape(places.shape)
            self._bytes[start][places] = written
            if (self._bytes[start][places] != written).any():
                raise AccessError("global memory: threads write different values to one place at once")

    def _check(self, start: int, at: Array, width: int, program: int) -> Array:
        cells, _ = _cells(at, width)
        writers = self._order[start].written_by[cells]
        if ((writers != NOBODY) & (writers != program)).any():
            raise AccessError("global memory: two programs of a launch meet in one place")
        return cells

    def _by_storage(self, addresses: Array, width: int) -> list[tuple[int, Any]]:
        if not len(addresses):
            return []
        if (addresses % np.uint64(width)).any():
            raise AccessError(f"global memory: an address is not a multiple of {width} bytes")
        rest, found = np.ones(len(addresses), bool), []
        while rest.any():
            address = int(addresses[rest.argmax()])
            index = bisect.bisect_right(self._starts, address) - 1
            start = self._starts[max(index, 0)]
            inside = (addresses >= np.uint64(start)) & (
                addresses + np.uint64(width) <= np.uint64(start + len(self._bytes[start]))
            )
            if not inside[rest.argmax()]:
                raise AccessError(
                    f"global memory: {width} bytes at {address - start} of a storage of {len(self._bytes[start])}"
                )
            found.append((start, inside & rest))
            rest &= ~inside
        return found
