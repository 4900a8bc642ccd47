"""Pickles of which some instructions are others."""

from __future__ import annotations

import pickle
import pickletools
import struct
from random import Random

from mutations.bytestrings import change_bytes
from mutations.trees import TEXTS

__all__ = ["change_pickle"]

CALLED = (
    *("torch._utils _rebuild_tensor_v2", "torch._utils _rebuild_parameter", "torch._utils _rebuild_sparse_tensor"),
    *(
        "torch._utils _rebuild_meta_tensor_no_storage",
        "torch._utils _rebuild_qtensor",
        "torch._tensor _rebuild_from_type_v2",
    ),
    *(
        "torch FloatStorage",
        "torch HalfStorage",
        "torch ComplexFloatStorage",
        "torch.storage UntypedStorage",
        "torch Size",
    ),
    *(
        "collections OrderedDict",
        "collections Counter",
        "collections defaultdict",
        "builtins set",
        "builtins bytearray",
    ),
    *(
        "_codecs encode",
        "torch float32",
        "torch device",
        "os system",
        "builtins eval",
        "torch.nn.modules.linear Linear",
        "x y",
    ),
)
INTEGERS = (-1, 0, 1, 3, 16, 255, 10**6, 2**31, 2**40, 2**63, 2**64, -(2**63), 10**300)


def change_pickle(random: Random, content: bytes) -> bytes:
    """Return a pickle with one to three of its instructions changed, missing, doubled or swapped."""
    steps = split(content)
    if steps is None or random.random() < 0.1:
        return change_bytes(random, content)
    for _ in range(random.choice((1, 1, 2, 3))):
        index, other = random.randrange(len(steps)), random.randrange(len(steps))
        match random.choice(("argument", "argument", "argument", "remove", "double", "swap", "insert")):
            case "argument":
                index = random.choice([at for at, step in enumerate(steps) if is_constant(step)] or [index])
                steps[index] = draw_constant(random)
            case "remove" if len(steps) > 1:
                del steps[index]
            case "double":
                steps.insert(other, steps[index])
            case "swap":
                steps[index], steps[other] = steps[other], steps[index]
            case _:
                steps.insert(index, draw_constant(random))
    return b"".join(steps)


def split(content: bytes) -> list[bytes] | None:
    """Return the instructions of a pickle one by one; None where it is none."""
    try:
        starts = [position or 0 for _, _, position in pickletools.genops(content)]
    except Exception:  # whatever the bytes made it raise
        return None
    return [content[start:end] for start, end in zip(starts, [*starts[1:], len(content)], strict=True)]


def is_constant(step: bytes) -> bool:
    """Return whether an instruction puts a number, a text or the name of something on the stack."""
    return step[:1] in (b"K", b"M", b"J", b"\x8a", b"X", b"\x8c", b"c", b"G", b"N", b"\x88", b"\x89")


def draw_constant(random: Random) -> bytes:
    """Return an instruction that puts a single value, an empty container or the name of something on the stack."""
    match random.choice(("integer", "float", "text", "called", "other")):
        case "integer":
            packed = pickle.encode_long(random.choice(INTEGERS))
            return b"\x8a" + bytes([len(packed)]) + packed
        case "float":
            return b"G" + struct.pack(">d", random.choice((0.5, float("nan"), float("inf"), -1.0)))
        case "text":
            text = random.choice((*TEXTS, "params", "params_ema", "network_g", "storage", "cpu", "meta", "cuda:7", "0"))
            encoded = text.encode(errors="surrogatepass")
            return b"X" + struct.pack("<I", len(encoded)) + encoded
        case "called":
            return b"c" + random.choice(CALLED).replace(" ", "\n").encode() + b"\n"
        case _:
            return random.choice(
                (b"N", b"\x88", b"\x89", b"}", b"]", b")", b"(", b"0", b"2", b"R", b"t", b"u", b"s", b"b", b"Q")
            )
