"""Instructions that each thread does for itself: on arrays with one number per thread."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

__all__ = ["TYPES", "Rule", "bfloat16_bits", "rule"]

TYPES = {
    **{f"{kind}{bits}": np.dtype(f"u{bits // 8}") for kind in "bu" for bits in (8, 16, 32, 64)},
    **{f"s{bits}": np.dtype(f"i{bits // 8}") for bits in (16, 32, 64)},
    **{"f16": np.dtype("f2"), "bf16": np.dtype("u2"), "f32": np.dtype("f4"), "pred": np.dtype(bool)},
    **{"f16x2": np.dtype("u4"), "bf16x2": np.dtype("u4")},
    "f32x2": np.dtype("f4"),  # two for each thread, one after the other
}
# Modifiers that stand between a name and the type; `setp`, `set` and `cvt` have others.
MODIFIERS = {"approx", "ftz", "full", "hi", "lo", "NaN", "rn", "wide"}
TINIEST = np.float32(2.0**-126)


class Rule(NamedTuple):
    """How one opcode computes: types of what it reads and of what it writes, and the function."""

    reads: tuple[str, ...]
    writes: str
    compute: Callable[..., Any]


def rule(opcode: tuple[str, ...]) -> Rule:
    """Return how an opcode computes.

    Raises:
        NotImplementedError: It is not one that our kernels have.
    """
    name, *modifiers = opcode
    kind = modifiers[-1]
    if name not in ("setp", "set", "cvt") and not MODIFIERS.issuperset(modifiers[:-1]):
        raise NotImplementedError(".".join(opcode))  # as of two types
    if name in ("max", "min"):
        return Rule((kind, kind), kind, _extreme(name, modifiers))
    if name in _BINARY:
        return Rule((kind, kind), kind, _BINARY[name])
    if name in _UNARY:
        compute = _UNARY[name]
        return Rule((kind,), kind, _flushed(compute) if "ftz" in modifiers else compute)
    if name == "not":
        return Rule((kind,), kind, np.logical_not if kind == "pred" else np.invert)
    if name in ("mul", "mad", "fma"):
        return _product(name, modifiers, kind)
    if name in ("div", "rem"):
        return Rule((kind, kind), kind, np.divide if kind == "f32" else _DIVISIONS[name])
    if name in ("shl", "shr"):
        return Rule((kind, "u32"), kind, _shift(name, TYPES[kind].itemsize * 8))
    if name == "bfe":
        return Rule((kind, "u32", "u32"), kind, _field(signed=kind[0] == "s"))
    if name == "popc":
        return Rule((kind,), "u32", lambda x: np.bitwise_count(x).astype("u4"))
    if name == "selp":
        return Rule((kind, kind, "pred"), kind, lambda x, y, p: np.where(p, x, y))
    if name == "setp":
        return Rule((kind, kind), "pred", _comparison(modifiers[0]))
    if name == "set":
        compare = _comparison(modifiers[0])
        return Rule((kind, kind), modifiers[1], lambda x, y: compare(x, y).astype(TYPES[modifiers[1]]))
    if name == "cvt":
        return _conversion(modifiers)
    raise NotImplementedError(".".join(opcode))


def bfloat16_bits(x: Any) -> Any:
    """Return float32 rounded to bfloat16, to nearest and even, as its 16 bits."""
    bits = np.asarray(x, "f4").view("u4").astype("u8")
    rounded = (bits + 0x7FFF + (bits >> np.uint64(16) & np.uint64(1))) >> np.uint64(16)
    return np.where(np.isnan(x), 0x7FFF, rounded).astype("u2")


def _flushed(compute: Callable[..., Any]) -> Callable[..., Any]:
    """Return a function whose subnormal arguments and results are 0."""

    def flush(x: Any) -> Any:
        return np.where(np.abs(x) < TINIEST, np.copysign(np.float32(0), x), x)

    return lambda *arguments: flush(compute(*map(flush, arguments)))


def _extreme(name: str, modifiers: list[str]) -> Callable[..., Any]:
    if modifiers[-1] != "f32" or "NaN" in modifiers:
        return np.maximum if name == "max" else np.minimum
    return np.fmax if name == "max" else np.fmin


def _product(name: str, modifiers: list[str], kind: str) -> Rule:
    reads = (kind, kind)
    if "wide" in modifiers:
        wide = f"{kind[0]}{2 * TYPES[kind].itemsize * 8}"
        product = lambda x, y: x.astype(TYPES[wide]) * y.astype(TYPES[wide])  # noqa: E731
        return Rule(reads, wide, product) if name == "mul" else Rule((*reads, wide), wide, _plus(product))
    if "hi" in modifiers:
        raise NotImplementedError(".".join((name, *modifiers)))
    if name == "mul":
        return Rule(reads, kind, np.multiply)
    if kind[0] != "f":
        return Rule((*reads, kind), kind, _plus(np.multiply))
    compute = lambda x, y, z: (np.float64(x) * y + z).astype("f4")  # noqa: E731  # all but exact: the product is
    return Rule((*reads, kind), kind, _flushed(compute) if "ftz" in modifiers else compute)


def _plus(product: Callable[..., Any]) -> Callable[..., Any]:
    return lambda x, y, z: product(x, y) + z


def _quotient(x: Any, y: Any) -> Any:
    """Return x / y, rounded towards 0; of a division by 0 nothing is promised."""
    y = np.where(y == 0, 1, y).astype(y.dtype)
    quotient = x // y
    return (quotient + ((quotient < 0) & (quotient * y != x))).astype(x.dtype)


def _shift(name: str, bits: int) -> Callable[..., Any]:
    shift = np.left_shift if name == "shl" else np.right_shift

    def compute(x: Any, by: Any) -> Any:
        most = bits - 1
        signed = np.asarray(x).dtype.kind == "i"
        shifted = shift(x, np.minimum(by, most).astype(np.asarray(x).dtype))
        return shifted if signed else np.where(by > most, 0, shifted).astype(np.asarray(x).dtype)

    return compute


def _field(*, signed: bool) -> Callable[..., Any]:
    def compute(x: Any, start: Any, length: Any) -> Any:
        wide = np.asarray(x).astype("i8" if signed else "u8")
        one = wide.dtype.type(1)
        field = (wide >> start.astype(wide.dtype)) & ((one << length.astype(wide.dtype)) - one)
        if signed:
            sign = one << (length.astype(wide.dtype) - one)
            field = (field ^ sign) - sign
        return field.astype(np.asarray(x).dtype)

    return compute


def _comparison(name: str) -> Callable[..., Any]:
    if name == "num":
        return lambda x, y: ~(np.isnan(x) | np.isnan(y))
    if name == "nan":
        return lambda x, y: np.isnan(x) | np.isnan(y)
    if name == "ne":  # of numbers alone
        return lambda x, y: (x != y) & (x == x) & (y == y)
    compare = _COMPARISONS[name.removesuffix("u")]
    if name.endswith("u"):  # true of what is no number, too
        return lambda x, y: compare(x, y) | (x != x) | (y != y)
    return compare


def _conversion(modifiers: list[str]) -> Rule:
    *_, target, source = modifiers
    if target in ("f16x2", "bf16x2"):  # the first argument comes to the upper half

        def pack(high: Any, low: Any) -> Any:
            halves = [bfloat16_bits(x) if target[0] == "b" else x.astype("f2").view("u2") for x in (high, low)]
            return halves[0].astype("u4") << np.uint32(16) | halves[1]

        return Rule(("f32", "f32"), target, pack)
    if target == "bf16":
        return Rule(("f32",), "bf16", bfloat16_bits)
    if source == "bf16":
        return Rule(("bf16",), "f32", lambda x: (x.astype("u4") << np.uint32(16)).view("f4"))
    if source[0] == "f" and target[0] != "f":
        round_to = {"rni": np.rint, "rzi": np.trunc, "rmi": np.floor, "rpi": np.ceil}[modifiers[0]]
        return Rule((source,), target, lambda x: round_to(x).astype(TYPES[target]))
    if source[0] != "f" and target[0] == "f" and "rn" not in modifiers:
        raise NotImplementedError(f"cvt.{'.'.join(modifiers)}")
    return Rule((source,), target, lambda x: x.astype(TYPES[target]))


_BINARY = {
    **{"add": np.add, "sub": np.subtract},
    **{"and": np.bitwise_and, "or": np.bitwise_or, "xor": np.bitwise_xor},
}
_UNARY: dict[str, Callable[..., Any]] = {
    **{"mov": lambda x: x, "neg": np.negative, "abs": np.abs, "sqrt": np.sqrt},
    "ex2": lambda x: np.exp2(x.astype("f8")).astype("f4"),
    "lg2": lambda x: np.log2(x.astype("f8")).astype("f4"),
    "rcp": lambda x: np.float32(1) / x,
    "rsqrt": lambda x: (1 / np.sqrt(x.astype("f8"))).astype("f4"),
}
_DIVISIONS = {"div": _quotient, "rem": lambda x, y: x - _quotient(x, y) * y}
_COMPARISONS = {
    **{"eq": np.equal, "ne": np.not_equal, "lt": np.less, "le": np.less_equal, "gt": np.greater},
    **{"ge": np.greater_equal, "lo": np.less, "ls": np.less_equal, "hi": np.greater, "hs": np.greater_equal},
}
