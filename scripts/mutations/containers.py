"""Files that are made of parts, with parts that are changed, missing, doubled, in another order, or of another kind.

Lengths and checksums are those of the parts as they are then, so that what reads the file gets past them.
"""

from __future__ import annotations

import io
import json
import struct
import zipfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from random import Random
from typing import Any

from mutations.bytestrings import change_bytes
from mutations.pickles import change_pickle
from mutations.trees import change_tree

__all__ = ["Part", "change_container", "change_image", "change_safetensors", "change_zip"]


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


def change_image(random: Random, content: bytes) -> bytes:
    """Return an image with parts changed as its format has them, or bytes of it."""
    for is_one, form in FORMATS:
        if is_one(content) and random.random() < 0.7:
            return form(random, content)
    return change_bytes(random, content)


PNG = b"\x89PNG\r\n\x1a\n"
PNG_KINDS = (
    "IHDR",
    "PLTE",
    "IDAT",
    "IEND",
    "tRNS",
    "gAMA",
    "cICP",
    "iCCP",
    "sRGB",
    "eXIf",
    "tEXt",
    "zTXt",
    "iTXt",
    "pHYs",
    "acTL",
)


def change_png(random: Random, content: bytes) -> bytes:
    """Change chunks of a PNG; of IDAT the pixels now and then, which are packed anew."""
    parts, where = [], len(PNG)
    while where + 8 <= len(content):
        length, kind = struct.unpack(">I4s", content[where : where + 8])
        parts.append(Part(kind.decode("latin-1"), content[where + 8 : where + 8 + length]))
        where += length + 12

    def change(random: Random, part: Part) -> bytes:
        if part.kind in ("IDAT", "iCCP") and random.random() < 0.5:
            head = part.data[: part.data.index(0) + 2] if part.kind == "iCCP" and 0 in part.data else b""
            unpacked = zlib.decompressobj().decompress(part.data[len(head) :], 1_000_000)
            return head + zlib.compress(change_bytes(random, unpacked))
        return change_bytes(random, part.data, 2)

    def packed(part: Part) -> bytes:
        kind = part.kind.encode("latin-1")
        return struct.pack(">I", len(part.data)) + kind + part.data + struct.pack(">I", zlib.crc32(kind + part.data))

    return PNG + b"".join(map(packed, change_container(random, parts, PNG_KINDS, change)))


def change_jpeg(random: Random, content: bytes) -> bytes:
    """Change segments of a JPEG up to its first scan, which is left as it is, or bytes of it."""
    parts, where = [], 2
    while where + 4 <= len(content) and content[where + 1] != 0xDA:
        marker, length = content[where + 1], int.from_bytes(content[where + 2 : where + 4], "big")
        parts.append(Part(chr(marker), content[where + 4 : where + 2 + length]))
        where += 2 + length
    scan = content[where:] if random.random() < 0.7 else change_bytes(random, content[where:])

    def packed(part: Part) -> bytes:
        data = part.data[:0xFFFD]
        return b"\xff" + part.kind.encode("latin-1") + struct.pack(">H", len(data) + 2) + data

    kinds = tuple(map(chr, (0xC0, 0xC1, 0xC2, 0xC4, 0xDB, 0xDD, 0xE0, 0xE1, 0xE2, 0xED, 0xEE, 0xFE)))
    return b"\xff\xd8" + b"".join(map(packed, change_container(random, parts, kinds))) + scan


def change_webp(random: Random, content: bytes) -> bytes:
    """Change chunks of a WebP."""
    parts, where = [], 12
    while where + 8 <= len(content):
        kind, length = struct.unpack("<4sI", content[where : where + 8])
        parts.append(Part(kind.decode("latin-1"), content[where + 8 : where + 8 + length]))
        where += 8 + length + length % 2

    def packed(part: Part) -> bytes:
        padding = bytes(len(part.data) % 2)
        return part.kind.encode("latin-1") + struct.pack("<I", len(part.data)) + part.data + padding

    kinds = ("VP8 ", "VP8L", "VP8X", "ALPH", "ANIM", "ANMF", "EXIF", "ICCP", "XMP ")
    body = b"WEBP" + b"".join(map(packed, change_container(random, parts, kinds)))
    return b"RIFF" + struct.pack("<I", len(body)) + body


TIFF_TAGS = (
    256,
    257,
    258,
    259,
    262,
    266,
    273,
    274,
    277,
    278,
    279,
    282,
    284,
    317,
    320,
    322,
    323,
    324,
    325,
    338,
    339,
    347,
    34665,
    34675,
)
TIFF_NUMBERS = (
    0,
    1,
    2,
    3,
    4,
    5,
    7,
    8,
    9,
    16,
    32,
    64,
    1000,
    65_535,
    65_536,
    2**31 - 1,
    2**31,
    2**32 - 1,
    32_773,
    34_712,
    50_000,
)


def change_tiff(random: Random, content: bytes) -> bytes:
    """Change entries of the first directory of a TIFF of 32-bit offsets and little-endian numbers."""
    where = int.from_bytes(content[4:8], "little")
    count = int.from_bytes(content[where : where + 2], "little")
    changed = bytearray(content)
    for _ in range(random.choice((1, 1, 2, 3))):
        entry = where + 2 + 12 * random.randrange(count)
        field, form, numbers = random.choice(
            ((0, "<H", TIFF_TAGS), (2, "<H", tuple(range(20))), (4, "<I", TIFF_NUMBERS), (8, "<I", TIFF_NUMBERS))
        )
        struct.pack_into(form, changed, entry + field, random.choice(numbers))
    return bytes(changed)


FORMATS: tuple[tuple[Callable[[bytes], bool], Callable[[Random, bytes], bytes]], ...] = (
    (lambda content: content.startswith(PNG), change_png),
    (lambda content: content.startswith(b"\xff\xd8"), change_jpeg),
    (lambda content: content[:4] == b"RIFF" and content[8:12] == b"WEBP", change_webp),
    (lambda content: content.startswith(b"II*\0"), change_tiff),
)


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
            archive.writestr(name, data)
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
