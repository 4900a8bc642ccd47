"""PTX as instructions in basic blocks."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

__all__ = ["Address", "Block", "Instruction", "Kernel", "Operand", "parse"]

_HEAD = re.compile(r"(?:@(!?)(\S+)\s+)?([a-z][\w.:]*)\s*(.*)", re.DOTALL)
_PARAMETER = re.compile(r"\.param \.(\w+)(?: \.ptr [^,)]*?)? (\w+)\s*[,)\n]")
_REGISTERS = re.compile(r"\.reg\s+\.(\w+)\s+(.*)")
# What no thread does anything for.
_DIRECTIVES = (".loc", ".pragma", ".file", ".section")
# After these a basic block ends; `bar.warp.sync` is of one warp, whose threads are in step.
_ENDS = ("bra", "bar.sync", "ret")


@dataclass(frozen=True)
class Address:
    """An operand in square brackets: what a register or a symbol holds, and an offset in bytes."""

    base: str
    offset: int


Operand = str | Address | tuple[str, ...]


@dataclass(frozen=True)
class Instruction:
    """One instruction.

    Attributes:
        opcode: Its name and modifiers, as `("setp", "lt", "s32")`.
        operands: Names of registers, immediates, addresses, or tuples of registers.
        guard: Register of the predicate under which it is done, None if always.
        negated: Whether it is done where the predicate does not hold.
        text: As it stands in the file.
    """

    opcode: tuple[str, ...]
    operands: tuple[Operand, ...]
    guard: str | None
    negated: bool
    text: str


# Instructions that follow each other; the last one may jump or wait.
Block = list[Instruction]


@dataclass(frozen=True)
class Kernel:
    """One kernel: blocks in their order, the block of each label, the parameters' names, and threads of a program."""

    name: str
    blocks: list[Block]
    labels: dict[str, int]
    parameters: tuple[str, ...]
    threads: int


def parse(text: str) -> Kernel:
    """Return the one kernel of a PTX file.

    Raises:
        ValueError: There is not one kernel, or a line that is not understood.
    """
    text = re.sub(r"//.*", "", text)
    found = re.findall(r"\.entry (\w+)\((.*?)\)\s*((?:\.\w+ [\d, ]+\s*)*)\{(.*?)\n\}", text, re.DOTALL)
    if len(found) != 1:
        raise ValueError(f"{len(found)} kernels, not one")
    name, parameters, directives, body = found[0]
    threads = re.search(r"\.reqntid (\d+)", directives)
    if not threads:
        raise ValueError(f"{name}: no .reqntid")
    blocks, labels = _blocks(body)
    names = tuple(name for _, name in _PARAMETER.findall(f"{parameters}\n"))
    return Kernel(name, blocks, labels, names, int(threads[1]))


def _blocks(body: str) -> tuple[list[Block], dict[str, int]]:
    blocks: list[Block] = [[]]
    labels = {}
    for statement in _statements(body):
        if statement.endswith(":"):
            if blocks[-1]:
                blocks.append([])
            labels[statement[:-1]] = len(blocks) - 1
            continue
        instruction = _instruction(statement)
        blocks[-1].append(instruction)
        if ".".join(instruction.opcode).startswith(_ENDS):
            blocks.append([])
    return blocks, labels


def _statements(body: str) -> Iterator[str]:
    """Yield instructions and labels; registers of an inner scope get names of their own."""
    scopes: list[dict[str, str]] = []
    count = 0
    rest = body
    while rest := rest.strip():
        if rest[0] == "{":
            scopes.append({})
            count += 1
            rest = rest[1:]
        elif rest[0] == "}":
            scopes.pop()
            rest = rest[1:]
        elif label := re.match(r"([\w$]+):", rest):
            yield label[0]
            rest = rest[label.end() :]
        elif rest.startswith(_DIRECTIVES[0]):
            rest = rest.partition("\n")[2]
        else:
            statement, _, rest = rest.partition(";")
            if statement.startswith(_DIRECTIVES):
                continue
            if declared := _REGISTERS.match(statement):
                if scopes:
                    scopes[-1] |= {name.strip(): f"{name.strip()}@{count}" for name in declared[2].split(",")}
                continue
            for scope in scopes:
                for name, inner in scope.items():
                    statement = re.sub(rf"(?<![\w%.]){re.escape(name)}(?![\w@])", inner, statement)
            yield statement.strip()


def _instruction(statement: str) -> Instruction:
    head = _HEAD.fullmatch(statement)
    if not head:
        raise ValueError(f"not understood: {statement}")
    negated, guard, opcode, operands = head.groups()
    return Instruction(
        tuple(opcode.replace("::", "_").split(".")), tuple(_operands(operands)), guard, bool(negated), statement
    )


def _operands(text: str) -> Iterator[Operand]:
    for match in re.finditer(r"\{([^}]*)\}|\[([^\]]*)\]|[^,\s][^,]*", text):
        vector, address = match.groups()
        if vector is not None:
            yield tuple(each.strip() for each in vector.split(","))
        elif address is not None:
            base, _, offset = address.replace(" ", "").partition("+")
            yield Address(base, int(offset or "0", 0))
        else:
            yield match[0].strip()
