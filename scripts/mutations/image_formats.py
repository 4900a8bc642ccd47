"""Images with chunks, segments or tags that are changed, of lengths and checksums that are right again."""

from __future__ import annotations

import contextlib
import struct
import zlib
from collections.abc import Callable
from random import Random

from mutations.bytestrings import change_bytes
from mutations.containers import Part, change_container

__all__ = ["change_image"]


def change_image(random: Random, content: bytes) -> bytes:
    """Return an image with parts changed as its format has them, or bytes of it."""
    for is_one, form in FORMATS:
        if is_one(content) and random.random() < 0.7:
            return form(random, content)
    return change_bytes(random, content)


PNG = b"\x89PNG\r\n\x1a\n"
PNG_KINDS = (
    *("IHDR", "PLTE", "IDAT", "IEND", "tRNS", "gAMA", "cICP", "iCCP"),
    *("sRGB", "eXIf", "tEXt", "zTXt", "iTXt", "pHYs", "acTL"),
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
            with contextlib.suppress(zlib.error):  # of data that were changed before
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
    *(256, 257, 258, 259, 262, 266, 273, 274, 277, 278, 279, 282),
    *(284, 317, 320, 322, 323, 324, 325, 338, 339, 347, 34665, 34675),
)
TIFF_NUMBERS = (
    *(0, 1, 2, 3, 4, 5, 7, 8, 9, 16, 32),
    *(64, 1000, 65_535, 65_536, 2**31 - 1, 2**31, 2**32 - 1, 32_773, 34_712, 50_000),
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
