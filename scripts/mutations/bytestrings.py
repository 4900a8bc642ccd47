"""Bytes of which some are others, gone, doubled, or cut off."""

from __future__ import annotations

import struct
from random import Random

__all__ = ["change_bytes"]

HEAD = 64
LENGTHS = (0, 1, 2, 0x7F, 0x80, 0xFF, 0x7FFF, 0x8000, 0xFFFF, 0x10000, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF)


def change_bytes(random: Random, content: bytes, most: int = 6) -> bytes:
    """Return bytes with up to so many changes; beginnings, where most is decided, are hit as often as all the rest."""
    changed = bytearray(content)
    for _ in range(random.choice((1, 1, most // 2, most))):
        where = random.randint(0, max(len(changed) - 1, 0))
        where = where % HEAD if random.random() < 0.5 else where
        match random.choice(("set", "flip", "number", "cut", "double", "end", "insert")):
            case "set":
                changed[where : where + 1] = random.randbytes(1)
            case "flip" if where < len(changed):
                changed[where] ^= 1 << random.randrange(8)
            case "number":
                form = random.choice(("<H", ">H", "<I", ">I"))
                number = random.choice(LENGTHS) & (0xFFFF if form[1] == "H" else 0xFFFFFFFF)
                changed[where : where + struct.calcsize(form)] = struct.pack(form, number)
            case "cut":
                del changed[where : where + random.randint(1, 16)]
            case "double":
                changed[where:where] = changed[where : where + 16]
            case "end":
                del changed[max(where, 1) :]
            case _:
                changed[where:where] = random.randbytes(random.randint(1, 4))
    return bytes(changed)
