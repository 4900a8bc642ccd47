"""Programs of a launch: registers, control flow, barriers, and what each instruction does."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from tests.ops.emulated_gpu import exchange
from tests.ops.emulated_gpu.arithmetic import TYPES, rule
from tests.ops.emulated_gpu.exchange import GROUP, WARP
from tests.ops.emulated_gpu.memory import AccessError, GlobalMemory, SharedMemory
from tests.ops.emulated_gpu.parsing import Address, Block, Instruction, Kernel, Operand

__all__ = ["Machine"]

Array = np.ndarray[Any, Any]
Step = Callable[["Program", "Array | None"], None]
Read = Callable[["Program"], Any]
# What this machine does at once, or does not need.
NOTHING = ("fence", "wgmma.fence", "wgmma.commit_group", "wgmma.wait_group")


class Program:
    """One program: its threads in step, as far as they take the same way.

    Attributes:
        registers: The bits of each register, of all threads.
        position: The block in which each thread is.
        pending: Asynchronous copies that were issued, and `groups` of those that were committed.
    """

    def __init__(self, machine: Machine, index: tuple[int, int, int], number: int) -> None:
        self.machine, self.number = machine, number
        threads = machine.kernel.threads
        lanes = np.arange(threads, dtype=np.uint32)
        self.warps = (lanes // WARP).astype(np.int64)
        self.everyone = np.ones(threads, bool)
        special = {"%tid.x": lanes, "%laneid": lanes % WARP, "%warpid": lanes // WARP}
        for axis, at, size in zip("xyz", index, machine.grid, strict=True):
            special[f"%ctaid.{axis}"] = np.full(threads, at, np.uint32)
            special[f"%nctaid.{axis}"] = np.full(threads, size, np.uint32)
        self.registers: dict[str, Array] = special
        self.position = np.zeros(threads, np.int64)
        self.shared = SharedMemory(machine.shared)
        self.pending: list[Callable[[], None]] = []
        self.groups: list[list[Callable[[], None]]] = []

    def run(self) -> None:
        """Run until all threads have returned; those that are furthest behind go first."""
        blocks = self.machine.blocks
        end = len(blocks)
        waiting = np.zeros(len(self.everyone), bool)
        while True:
            ready = ~waiting & (self.position < end)
            if not ready.any():
                if not waiting.any():
                    return
                if len(set(self.position[waiting])) > 1:
                    raise AccessError("threads wait at different barriers")
                waiting[:] = False
                self.shared.epoch += 1
                continue
            at = int(self.position[ready].min())
            here = ready & (self.position == at)
            steps, barrier = blocks[at]
            self.position[here] = at + 1
            for step in steps:
                step(self, None if here.all() else here)
            if barrier:
                waiting |= here

    def write(self, name: str, value: Any, mask: Array | None) -> None:
        """Set a register, of those threads that are in the mask."""
        value = np.asarray(value)
        if value.dtype != bool:
            value = value.view(f"u{value.itemsize}")
        if not value.shape:
            value = np.broadcast_to(value, self.everyone.shape)
        if mask is not None:
            value = np.where(mask, value, self.registers.get(name, value.dtype.type(0)))
        self.registers[name] = value


class Machine:
    """A launch of a kernel.

    Args:
        kernel: The kernel.
        arguments: The bits of each parameter.
        memory: What pointers among them point to.
        grid: Programs along each axis.
        shared: Bytes of shared memory of a program.
    """

    def __init__(
        self,
        kernel: Kernel,
        arguments: Sequence[bytes],
        memory: GlobalMemory,
        grid: tuple[int, int, int],
        shared: int,
    ) -> None:
        self.kernel, self.memory, self.grid, self.shared = kernel, memory, grid, shared
        self.arguments: Mapping[str, bytes] = dict(zip(kernel.parameters, arguments, strict=True))
        self.blocks = [self._compile(block) for block in kernel.blocks]

    def run(self) -> None:
        """Run all programs, one after the other."""
        x, y, z = map(range, self.grid)
        with np.errstate(all="ignore"):
            for number, (k, j, i) in enumerate(itertools.product(z, y, x)):
                Program(self, (i, j, k), number).run()

    def _compile(self, block: Block) -> tuple[list[Step], bool]:
        """Return what a block does, and whether its threads wait behind it for all others."""
        barriers = [each for each in block if each.opcode == ("bar", "sync")]
        for each in barriers:
            if each.operands != ("0",) or each.guard:
                raise NotImplementedError(each.text)
        return [self._step(each) for each in block if each not in barriers], bool(barriers)

    def _step(self, instruction: Instruction) -> Step:
        opcode = ".".join(instruction.opcode)
        done = next((make for prefix, make in _MAKERS.items() if opcode.startswith(prefix)), None)
        step = done(self, instruction) if done else _compute(instruction)
        return _told(_guarded(instruction, step), instruction)


def _told(step: Step, instruction: Instruction) -> Step:
    def run(program: Program, mask: Array | None) -> None:
        try:
            step(program, mask)
        except Exception as error:
            error.add_note(f"{instruction.text}  (program {program.number})")
            raise

    return run


def _guarded(instruction: Instruction, step: Step) -> Step:
    guard, negated = instruction.guard, instruction.negated
    if guard is None:
        return step

    def run(program: Program, mask: Array | None) -> None:
        holds = program.registers[guard]
        chosen = ~holds if negated else holds
        if mask is not None:
            chosen = chosen & mask
        if chosen.all():
            step(program, None)
        elif chosen.any():
            step(program, chosen)

    return run


def _reader(operand: Operand, kind: str) -> Read:
    """Return a function that reads a register, an immediate or a symbol as numbers of a type."""
    dtype = TYPES[kind]
    assert isinstance(operand, str), operand
    if operand.startswith("0f"):
        number = np.frombuffer(bytes.fromhex(operand[2:])[::-1], dtype)[0]
        return lambda program: np.broadcast_to(number, program.everyone.shape)
    if operand.lstrip("-")[:1].isdigit():
        if kind == "pred":
            value = np.bool_(int(operand, 0))
        else:
            value = np.array(int(operand, 0) % (1 << dtype.itemsize * 8), f"u{dtype.itemsize}").view(dtype)[()]
        return lambda program: np.broadcast_to(value, program.everyone.shape)
    if operand == "global_smem":
        return lambda program: np.zeros(program.everyone.shape, dtype)

    def read(program: Program) -> Any:
        bits = program.registers[operand]
        if kind == "pred":
            return bits
        if bits.itemsize != dtype.itemsize and kind != "f32x2":  # a register may be wider than what is taken of it
            bits = bits.astype(f"u{dtype.itemsize}")
        return np.ascontiguousarray(bits).view(dtype)

    return read


def _compute(instruction: Instruction) -> Step:
    opcode = instruction.opcode
    target, *sources = instruction.operands
    if opcode[0] == "mov" and (isinstance(target, tuple) or isinstance(sources[0], tuple)):
        return _repack(opcode[-1], target, sources[0])
    reads, kind, compute = rule(opcode)
    readers = [_reader(source, each) for source, each in zip(sources, reads, strict=True)]
    width = np.dtype("u8") if kind == "f32x2" else TYPES[kind]

    def step(program: Program, mask: Array | None) -> None:
        value = compute(*[read(program) for read in readers])
        program.write(target, value.view(width) if kind == "f32x2" else value, mask)

    return step


def _repack(kind: str, target: Operand, source: Operand) -> Step:
    """`mov` between one register and its parts, the lowest first."""
    whole = TYPES[kind].itemsize

    def split(program: Program, mask: Array | None) -> None:
        bits = np.ascontiguousarray(program.registers[source]).view(f"u{whole // len(target)}").reshape(-1, len(target))
        for name, part in zip(target, bits.T, strict=True):
            if name != "_":
                program.write(name, np.ascontiguousarray(part), mask)

    def join(program: Program, mask: Array | None) -> None:
        readers = [_reader(name, f"b{8 * whole // len(source)}") for name in source]
        parts = np.stack([read(program) for read in readers], -1)
        program.write(target, np.ascontiguousarray(parts).view(f"u{whole}")[:, 0], mask)

    return split if isinstance(target, tuple) else join


def _addresses(address: Operand, kind: str) -> Read:
    assert isinstance(address, Address)
    base = _reader(address.base, kind)
    offset = TYPES[kind].type(address.offset % (1 << 8 * TYPES[kind].itemsize))
    return lambda program: base(program) + offset


def _names(operand: Operand) -> tuple[str, ...]:
    return operand if isinstance(operand, tuple) else (operand,)


def _load_parameter(machine: Machine, instruction: Instruction) -> Step:
    target, address = instruction.operands
    bits = np.frombuffer(machine.arguments[address.base], f"u{TYPES[instruction.opcode[-1]].itemsize}")[0]
    return lambda program, mask: program.write(target, bits, mask)


def _load(machine: Machine, instruction: Instruction) -> Step:
    names, dtype = _names(instruction.operands[0]), np.dtype(f"u{TYPES[instruction.opcode[-1]].itemsize}")
    is_shared = instruction.opcode[1] == "shared"
    addresses = _addresses(instruction.operands[1], "u32" if is_shared else "u64")

    def step(program: Program, mask: Array | None) -> None:
        chosen = program.everyone if mask is None else mask
        at = addresses(program)[chosen]
        if is_shared:
            loaded = program.shared.load(at, dtype, len(names), program.warps[chosen])
        else:
            loaded = machine.memory.load(at, dtype, len(names), program.number)
        for name, values in zip(names, loaded.T, strict=True):
            if name == "_":
                continue
            whole = np.zeros(program.everyone.shape, dtype)
            whole[chosen] = values
            program.write(name, whole, mask)

    return step


def _store(machine: Machine, instruction: Instruction) -> Step:
    kind = f"b{TYPES[instruction.opcode[-1]].itemsize * 8}"
    is_shared = instruction.opcode[1] == "shared"
    addresses = _addresses(instruction.operands[0], "u32" if is_shared else "u64")
    readers = [_reader(name, kind) for name in _names(instruction.operands[1])]

    def step(program: Program, mask: Array | None) -> None:
        chosen = program.everyone if mask is None else mask
        values = np.stack([read(program)[chosen] for read in readers], -1)
        at = addresses(program)[chosen]
        if is_shared:
            program.shared.store(at, values, program.warps[chosen])
        else:
            machine.memory.store(at, values, program.number)

    return step


def _copy(machine: Machine, instruction: Instruction) -> Step:
    """`cp.async`: what it copies is there only after it was waited for."""
    if instruction.opcode[2] == "commit_group":

        def commit(program: Program, mask: Array | None) -> None:
            _require_whole(program, mask, len(program.everyone))
            program.groups.append(program.pending)
            program.pending = []

        return commit
    if instruction.opcode[2] == "wait_group":
        left = int(instruction.operands[0])

        def wait(program: Program, mask: Array | None) -> None:
            _require_whole(program, mask, len(program.everyone))
            done = max(len(program.groups) - left, 0)
            for each in itertools.chain(*program.groups[:done]):
                each()
            program.groups = program.groups[done:]

        return wait
    to, source, size, *given = instruction.operands
    count = int(size, 0)
    into, out = _addresses(to, "u32"), _addresses(source, "u64")
    length = _reader(given[0], "u32") if given else None

    def issue(program: Program, mask: Array | None) -> None:
        chosen = program.everyone if mask is None else mask
        values = np.zeros((len(program.everyone), count), np.uint8)
        sizes = np.full(len(program.everyone), count) if length is None else length(program)
        if not np.isin(sizes[chosen], (0, count)).all():
            raise NotImplementedError("cp.async of a part")
        there = chosen & (sizes == count)
        values[there] = machine.memory.load(out(program)[there], np.dtype("u1"), count, program.number)
        at, copied, warps = into(program)[chosen], values[chosen].view("u4"), program.warps[chosen]
        program.shared.check_overwriting(at, copied, warps)
        program.pending.append(lambda: program.shared.store(at, copied, warps))

    return issue


def _require_whole(program: Program, mask: Array | None, size: int) -> None:
    """Raise where some threads of a warp, or of a larger group, are elsewhere."""
    if mask is not None and (mask.reshape(-1, size).any(1) != mask.reshape(-1, size).all(1)).any():
        raise AccessError(f"only some of {size} threads are here")


def _shuffle(machine: Machine, instruction: Instruction) -> Step:
    _, _, kind, _ = instruction.opcode
    target, source, lane, clamp, members = instruction.operands
    whole_warp = {"bfly": WARP - 1, "idx": WARP - 1, "up": 0}
    if int(clamp) != whole_warp.get(kind) or int(members, 0) not in (-1, 0xFFFFFFFF):
        raise NotImplementedError(instruction.text)
    value, argument = _reader(source, "b32"), _reader(lane, "u32")

    def step(program: Program, mask: Array | None) -> None:
        _require_whole(program, mask, WARP)
        program.write(target, exchange.shuffle(kind, value(program), argument(program)), mask)

    return step


def _reduce(machine: Machine, instruction: Instruction) -> Step:
    _, _, kind, dtype = instruction.opcode
    target, source, _ = instruction.operands
    value = _reader(source, dtype)

    def step(program: Program, mask: Array | None) -> None:
        _require_whole(program, mask, WARP)
        program.write(target, exchange.reduce_warps(kind, value(program)), mask)

    return step


def _fragments(names: Operand) -> Read:
    readers = [_reader(name, "b32") for name in _names(names)]
    return lambda program: np.stack([read(program) for read in readers], -1)


def _write_fragments(program: Program, names: Operand, values: Array, mask: Array | None) -> None:
    for name, column in zip(_names(names), values.T, strict=True):
        program.write(name, np.ascontiguousarray(column), mask)


def _multiply(machine: Machine, instruction: Instruction) -> Step:
    shape, kind = instruction.opcode[3], instruction.opcode[7]
    target, *factors = instruction.operands
    a, b, c = map(_fragments, factors)

    def step(program: Program, mask: Array | None) -> None:
        _require_whole(program, mask, WARP)
        product = exchange.matrix_product(shape, kind, a(program), b(program), c(program))
        _write_fragments(program, target, product, mask)

    return step


def _matrices(machine: Machine, instruction: Instruction) -> Step:
    transposed = "trans" in instruction.opcode
    is_load = instruction.opcode[0] == "ldmatrix"
    names, address = instruction.operands if is_load else instruction.operands[::-1]
    addresses, registers = _addresses(address, "u32"), None if is_load else _fragments(names)

    def step(program: Program, mask: Array | None) -> None:
        _require_whole(program, mask, WARP)
        chosen = program.everyone if mask is None else mask
        at, warps = addresses(program)[chosen], program.warps[chosen]
        if registers:
            values = registers(program)[chosen]
            exchange.write_matrices(program.shared, at, values, warps, transposed=transposed)
            return
        whole = np.zeros((len(program.everyone), len(_names(names))), np.uint32)
        whole[chosen] = exchange.read_matrices(program.shared, at, whole.shape[1], warps, transposed=transposed)
        _write_fragments(program, names, whole, mask)

    return step


def _multiply_groups(machine: Machine, instruction: Instruction) -> Step:
    n, kind = int(instruction.opcode[4].partition("n")[2].partition("k")[0]), instruction.opcode[6]
    target, a, b, accumulate, *modes = instruction.operands
    in_registers = isinstance(a, tuple)
    if modes[:2] != ["1", "1"]:
        raise NotImplementedError(instruction.text)
    *_, trans_a, trans_b = (["0"] if in_registers else []) + [mode == "1" for mode in modes[2:]]
    left = _fragments(a) if in_registers else _reader(a, "u64")
    right, keep, sums = _reader(b, "u64"), _reader(accumulate, "pred"), _fragments(target)

    def step(program: Program, mask: Array | None) -> None:
        _require_whole(program, mask, GROUP)
        kept = keep(program)
        c = np.zeros((len(kept), len(target)), np.uint32)  # registers that may not have been written yet
        if kept.any():
            c = np.where(kept[:, None], sums(program), c)
        result = c.copy()
        for first in range(0, len(c), GROUP):
            if mask is not None and not mask[first]:
                continue
            here, warp, memory = slice(first, first + GROUP), first // WARP, program.shared
            factor = left(program)[here]
            if not in_registers:
                factor = exchange.read_descriptor(memory, int(factor[0]), 64, transposed=trans_a, warp=warp)
            other = int(right(program)[first])
            other = exchange.read_descriptor(memory, other, n, transposed=trans_b, warp=warp)
            result[here] = exchange.warpgroup_product(n, kind, factor, other, c[here]).view(np.uint32)
        _write_fragments(program, target, result, mask)

    return step


def _branch(machine: Machine, instruction: Instruction) -> Step:
    target = machine.kernel.labels[instruction.operands[0]]

    def step(program: Program, mask: Array | None) -> None:
        program.position[program.everyone if mask is None else mask] = target

    return step


def _return(machine: Machine, instruction: Instruction) -> Step:
    def step(program: Program, mask: Array | None) -> None:
        program.position[program.everyone if mask is None else mask] = len(machine.blocks)

    return step


def _meet_in_warp(machine: Machine, instruction: Instruction) -> Step:
    """`bar.warp.sync`: it orders nothing between warps."""
    return lambda program, mask: _require_whole(program, mask, WARP)


def _nothing(machine: Machine, instruction: Instruction) -> Step:
    return lambda program, mask: None


_MAKERS: dict[str, Callable[[Machine, Instruction], Step]] = {
    "ld.param": _load_parameter,
    **dict.fromkeys(("ld.global", "ld.shared"), _load),
    **dict.fromkeys(("st.global", "st.shared"), _store),
    "cp.async": _copy,
    "shfl": _shuffle,
    "redux": _reduce,
    "mma": _multiply,
    **dict.fromkeys(("ldmatrix", "stmatrix"), _matrices),
    "wgmma.mma_async": _multiply_groups,
    "bar.warp.sync": _meet_in_warp,
    "bra": _branch,
    "ret": _return,
    **dict.fromkeys(NOTHING, _nothing),
}
