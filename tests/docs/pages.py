"""Fenced blocks of pages, and what runs a tutorial's from top to bottom as a reader would.

python -m tests.docs.pages PAGE    # in an empty folder, with `photographs` and `held_out`
"""

from __future__ import annotations

import re
import shlex
import sys
from pathlib import Path
from typing import NamedTuple

FENCE = re.compile(
    r"^(?P<note><!-- not run -->\n)?(?P<indent> *)```(?P<language>\w*)(?: title=\"(?P<title>[^\"]+)\")?\n"
    r"(?P<text>.*?)^(?P=indent)```$",
    re.MULTILINE | re.DOTALL,
)


class Block(NamedTuple):
    """A fenced block.

    Attributes:
        language: "sh", "python", "yaml" or another.
        text: What stands in it.
        title: Name of the file that it is, where it is one.
        runs: Whether a tutorial runs it.
        line: Where it begins on its page.
    """

    language: str
    text: str
    title: str | None
    runs: bool
    line: int


def blocks_of(page: Path) -> list[Block]:
    """Return the fenced blocks of a page."""
    content = page.read_text(encoding="utf-8")
    return [
        Block(
            language=found["language"],
            text=re.sub(rf"^{found['indent']}", "", found["text"], flags=re.MULTILINE),
            title=found["title"],
            runs=not found["note"],
            line=content.count("\n", 0, found.start()) + 1,
        )
        for found in FENCE.finditer(content)
    ]


def commands_of(block: Block) -> list[list[str]]:
    """Return the commands of a shell block, each as its words."""
    lines = block.text.replace("\\\n", " ").splitlines()
    return [words for line in lines if (words := shlex.split(line, comments=True))]


def run_page(page: Path) -> None:
    """Write the files of a page, and run its commands and its Python, in one process."""
    names: dict[str, object] = {"__name__": "__main__"}
    for block in filter(lambda each: each.runs, blocks_of(page)):
        if block.title:
            Path(block.title).write_text(block.text, encoding="utf-8")
        elif block.language == "python":
            exec(compile(block.text, f"{page.name}:{block.line}", "exec"), names)
        elif block.language == "sh":
            for command in commands_of(block):
                run_command(command, f"{page.name}:{block.line}")


def run_command(command: list[str], place: str) -> None:
    """Run `basicsr ...` here, which saves starting Python again."""
    from semanir_plugin.cli import main

    program, *arguments = command
    if program != "basicsr" or main(arguments) != 0:
        raise SystemExit(f"{place}: {shlex.join(command)} failed, or is no command of basicsr")


if __name__ == "__main__":
    run_page(Path(sys.argv[1]).resolve())
