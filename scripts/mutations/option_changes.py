"""Option files with changed text, and options of runs that compute, with other values that ask for little memory."""

from __future__ import annotations

from random import Random
from typing import Any

from mutations.bytestrings import change_bytes
from mutations.trees import at, draw_text, places

__all__ = ["change_text", "change_whole"]


def change_text(random: Random, content: bytes) -> bytes:
    """Return the text of an option file with changed bytes, or with symbols of YAML among them."""
    if random.random() < 0.3:
        return change_bytes(random, content)
    text = content.decode()
    for _ in range(random.randint(1, 3)):
        where = random.randint(0, len(text))
        tag = random.choice(
            ("!!int ", "!!bool ", "!!set ", "!!binary ", "!!timestamp ", "!!python/name:x ", "&a ", "*a ", "<<: ")
        )
        inserted = tag if random.random() < 0.5 else draw_text(random)
        text = text[:where] + inserted + text[where + random.randint(0, 6) :]
    return text.encode(errors="surrogatepass")


def change_whole(random: Random, options: Any) -> None:
    """Give an option of a run that computes another value, in place; what would take gigabytes is not among them."""
    known = [keys for keys in places(options) if keys[-1] not in ("dataroot_gt", "gt")]
    *parents, last = random.choice(known)
    section = at(options, parents)
    section[last] = draw_near(random, section[last]) if random.random() < 0.6 else draw_small_value(random)


def draw_near(random: Random, value: Any) -> Any:
    """Return a value of the same kind as another one."""
    match value:
        case bool():
            return not value
        case int() | float():
            return random.choice((value + 1, value - 1, value * 2, value / 2, -value, 0))
        case list():
            return [draw_near(random, each) for each in value]
        case _:
            return draw_small_value(random)


def draw_small_value(random: Random) -> Any:
    """Return a value that asks for little memory, whichever option gets it."""
    words = ("", "x", "key_semantic", "assa", "window", "mlp", "frfn", "leff", "cosine", "1conv", "~", float("nan"))
    match random.choice(("none", "bool", "integer", "float", "word", "list", "lists", "section")):
        case "none":
            return None
        case "bool":
            return random.random() < 0.5
        case "integer":
            return random.randint(-2, 12)
        case "float":
            return random.uniform(-1, 2)
        case "word":
            return random.choice(words)
        case "list":
            return [random.randint(-1, 8) for _ in range(random.randint(0, 3))]
        case "lists":
            return [[random.randint(0, 3)] * random.randint(0, 2) for _ in range(random.randint(0, 2))]
        case _:
            return {key: random.randint(0, 3) for key in random.sample(("type", "where", "dim"), random.randint(0, 2))}
