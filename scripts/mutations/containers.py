"""Files that are made of parts, with parts that are changed, missing, doubled, in another order, or of another kind.

Lengths and checksums are those of the parts as they are then, so that what reads the file gets past them.
"""

from __future__ import annotations

import io
import json
import struct
import zipfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from random import Random
from typing import Any

from mutations.bytestrings import change_bytes
from mutations.pickles import change_pickle
from mutations.trees import change_tree

__all__ = ["Part", "change_container", "change_safetensors", "change_zip"]


@dataclass(frozen=True)
class Part:
    """A part of a file: its kind, or its name, and its content."""

    kind: str
    data: bytes


def change_container(
    random: Random, parts: list[Part], kinds: tuple[str, ...], change: Callable[[Random, Part], bytes] | None = None
) -> list[Part]:
    """Return parts of which one to three were changed.

    Args:
        random: Which, and how.
        parts: Of a file.
        kinds: That a part may get.
        change: Draws other content of a part; by default bytes of it are changed.
    """
    parts = list(parts)
    for _ in range(random.choice((1, 1, 2, 3))):
        if not parts:
            break
        index, other = random.randrange(len(parts)), random.randrange(len(parts))
        part = parts[index]
        match random.choice(("content", "content", "content", "remove", "double", "swap", "kind", "new")):
            case "content":
                parts[index] = replace(part, data=change(random, part) if change else change_bytes(random, part.data))
            case "remove":
                del parts[index]
            case "double":
                parts.insert(other, part)
            case "swap":
                parts[index], parts[other] = parts[other], part
            case "kind":
                parts[index] = replace(part, kind=random.choice(kinds))
            case _:
                parts.insert(index, Part(random.choice(kinds), random.randbytes(random.randint(0, 20))))
    return parts


def change_zip(random: Random, content: bytes) -> bytes:
    """Return a checkpoint of torch's with changed entries, of its pickle the instructions, with checksums that fit."""
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        parts = [Part(each.filename, archive.read(each)) for each in archive.infolist()]

    def change(random: Random, part: Part) -> bytes:
        return (change_pickle if part.kind.endswith(".pkl") else change_bytes)(random, part.data)

    pickles = [index for index, part in enumerate(parts) if part.kind.endswith(".pkl")]
    if random.random() < 0.7:
        index = random.choice(pickles)
        parts[index] = replace(parts[index], data=change_pickle(random, parts[index].data))
    else:
        parts = change_container(random, parts, tuple(part.kind for part in parts), change)
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for name, data in {part.kind: part.data for part in parts}.items():
            archive.writestr(zipfile.ZipInfo(name), data)  # of 1980, as torch's: of now, no case would come again
    return file.getvalue()


SAFETENSORS_VALUES = ("F32", "F16", "BF16", "I64", "BOOL", "F8_E4M3", "C64", "F4", "", "__metadata__")


def change_safetensors(random: Random, content: bytes) -> bytes:
    """Return a file of safetensors with changes in its header, of which the length is right."""
    length = int.from_bytes(content[:8], "little")
    header, data = json.loads(content[8 : 8 + length]), content[8 + length :]
    for _ in range(random.choice((1, 1, 2, 3))):
        change_tree(random, header, draw_header_value)
    text = json.dumps(header).encode()
    if random.random() < 0.1:
        text = change_bytes(random, text)
    return struct.pack("<Q", len(text)) + text + data


def draw_header_value(random: Random) -> Any:
    """Return what a header of safetensors may hold, mostly in another place."""
    kind = random.choice(("number", "shape", "text", "options"))
    if kind == "options":
        return json.dumps({"type": random.choice(("SemanIR", "SwinIR", "x")), "depths": [random.randint(-1, 9)]})
    if kind == "text":
        return random.choice(SAFETENSORS_VALUES)
    numbers = (-1, 0, 1, 2, 3, 16, 1000, 2**31, 2**63, 2**64, 0.5)
    return random.choice(numbers) if kind == "number" else [random.choice(numbers) for _ in range(random.randint(0, 4))]
