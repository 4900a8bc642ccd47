"""Screens full of text and widgets: pages, a chat in the dark, buttons, code, tables, menus."""

from __future__ import annotations

from collections.abc import Callable

from real_pictures.canvas import Canvas

__all__ = ["SCREENS"]

SIZE = (160, 120)
TALE = """The ferry left at half past six, and
nobody on deck looked back. Below,
a radio told the depth of the river
in a voice that was almost asleep:
four metres ten, four metres two.
Anna counted the lamps of the quay
until there were none, and then she
opened the letter (No. 17, 3 pages)."""
CODE = """def nearest(keys, query, k=8):
    # squared distances
    d = [(a - query) ** 2 for a in keys]
    order = sorted(range(len(d)),
                   key=d.__getitem__)
    if k > len(order):
        raise ValueError(f"k={k}")
    return order[:k]"""


def page(pixels: int) -> Canvas:
    """Black on white, under a heading."""
    canvas = Canvas(SIZE, pixels)
    canvas.text((8, 6), "Chapter two", 12, "black", "bold")
    canvas.text((8, 26), TALE, 8, "black", "sans")
    return canvas


def book(pixels: int) -> Canvas:
    """Serifs on cream, with a rule and a page number."""
    canvas = Canvas(SIZE, pixels, "#f6efdf")
    canvas.text((10, 8), TALE, 10, "#2b2118", "book")
    canvas.line([(10, 108), (150, 108)], "#2b2118", 0.5)
    canvas.text((74, 109), "204", 8, "#2b2118", "serif")
    return canvas


def chat(pixels: int) -> Canvas:
    """Dark mode: bubbles, names and times."""
    canvas = Canvas(SIZE, pixels, "#121417")
    said = (("Did the parcel arrive?", False), ("Yes, at 9:40. Thanks!", True), ("Mind the corner, it's", False))
    for number, (words, own) in enumerate(said):
        x, y = (38, 8 + 36 * number) if own else (8, 8 + 36 * number)
        canvas.box((x, y), (114, 28), "#0b5cff" if own else "#272b31", radius=8)
        canvas.text((x + 7, y + 4), words, 9, "#f2f2f2", "plain")
        canvas.text((x + 7, y + 16), f"1{number}:0{number} · read", 7, "#a9b0ba", "plain")
    return canvas


def buttons(pixels: int) -> Canvas:
    """Coloured buttons, a switch, a field and a bar of progress on light gray."""
    canvas = Canvas(SIZE, pixels, "#f0f0f3")
    looks = (("Save", "#1e8e3e"), ("Delete", "#d93025"), ("Share", "#1a73e8"), ("Later", "#f9ab00"))
    for number, (label, colour) in enumerate(looks):
        x, y = 8 + 76 * (number % 2), 8 + 26 * (number // 2)
        canvas.box((x, y), (68, 20), colour, radius=4)
        canvas.text((x + 16, y + 4), label, 9, "white", "bold")
    canvas.box((8, 62), (100, 16), "white", line="#8a8a8a", radius=2, width=0.75)
    canvas.text((12, 64), "name@example.org", 8, "#444444", "sans")
    canvas.box((118, 63), (28, 14), "#34a853", radius=7)
    canvas.ellipse((139, 70), (5.5, 5.5), "white")
    canvas.box((8, 90), (144, 6), "#d6d6dc", radius=3)
    canvas.box((8, 90), (91, 6), "#1a73e8", radius=3)
    canvas.text((8, 100), "63 % of 1,204 files, 2 min left", 8, "#333333", "plain")
    return canvas


def code(pixels: int) -> Canvas:
    """A listing on white, in the colours of an editor."""
    return _listing(pixels, "white", "#f3f3f3", ("#237893", "#0000c0", "#008000", "#1f1f1f"))


def dark_code(pixels: int) -> Canvas:
    """A listing in the dark."""
    return _listing(pixels, "#1e1e1e", "#252526", ("#858585", "#569cd6", "#6a9955", "#d4d4d4"))


def table(pixels: int) -> Canvas:
    """Figures within rules, rows shaded by turns."""
    canvas = Canvas(SIZE, pixels)
    rows = (
        ("Station", "mm", "°C"),
        *(("Aalen", "12.4", "8.1"), ("Bremen", "0.0", "11.6"), ("Celle", "3.7", "10.9"), ("Dachau", "21.5", "6.4")),
        *(("Emden", "1.2", "12.0"), ("Fulda", "8.8", "9.3")),
    )
    for number, row in enumerate(rows):
        y = 4 + 16 * number
        canvas.box((4, y), (152, 16), _shade(number), line="#b5b5b5", width=0.5)
        for x, words in zip((8, 86, 124), row, strict=True):
            canvas.text((x, y + 3), words, 8, "white" if number == 0 else "#202020", "bold" if number == 0 else "sans")
    return canvas


def menu(pixels: int) -> Canvas:
    """A menu over a coloured desktop, one entry chosen."""
    canvas = Canvas(SIZE, pixels, "#2f6f8f")
    canvas.box((16, 8), (118, 104), "#fafafa", line="#9a9a9a", radius=3, width=0.5)
    entries = (("New window", "Ctrl+N"), ("Open file…", "Ctrl+O"), ("Save as…", "F12"), ("Print", "Ctrl+P"))
    for number, (label, keys) in enumerate((*entries, ("Settings", ""), ("Quit", "Ctrl+Q"))):
        y, chosen = 12 + 16 * number, number == 2
        if chosen:
            canvas.box((18, y), (114, 15), "#0a64ad", radius=2)
        canvas.text((24, y + 2), label, 8, "white" if chosen else "#1a1a1a", "plain")
        canvas.text((96, y + 2), keys, 8, "#dbe9f5" if chosen else "#777777", "plain")
    return canvas


def _shade(row: int) -> str:
    return "#3c4a5e" if row == 0 else ("#eef2f7" if row % 2 else "white")


def _listing(pixels: int, ground: str, margin: str, colours: tuple[str, str, str, str]) -> Canvas:
    canvas, (numbers, words, comments, rest) = Canvas(SIZE, pixels, ground), colours
    canvas.box((0, 0), (14, 120), margin)
    for number, text in enumerate(CODE.split("\n")):
        y = 5 + 14 * number
        stripped = text.lstrip()
        colour = comments if stripped.startswith("#") else words if stripped.split()[0] in WORDS else rest
        canvas.text((4, y), str(number + 1), 7, numbers, "mono")
        canvas.text((18, y), text, 6.5, colour, "mono")
    return canvas


WORDS = {"def", "if", "raise", "return"}
SCREENS: dict[str, Callable[[int], Canvas]] = {
    each.__name__.replace("_", "-"): each for each in (page, book, chat, buttons, code, dark_code, table, menu)
}
