"""What mkdocs calls while it builds the site: pages made of files outside docs/, and links between them."""

from __future__ import annotations

import argparse
import posixpath
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

ELSEWHERE = {
    "CHANGELOG.md": "changes.md",
    "CONTRIBUTING.md": "contributing.md",
    "README.md": "index.md",
    "semanir_plugin/weights/README.md": "weights.md",
}
"""Files outside docs/, seen from the repository, and the pages that they become or that stand for them."""

LINK = re.compile(r"(!?\[[^]]*\])\((?!https?:|#)([^)#\s]+)(#[^)]*)?\)")


def on_files(files: Any, config: Any) -> Any:
    """Add pages that have no file in docs/."""
    from mkdocs.structure.files import File

    texts = {page: (ROOT / source).read_text(encoding="utf-8") for source, page in ELSEWHERE.items()}
    del texts["index.md"]  # which is written for the site
    for page, text in {**texts, "commands.md": describe_commands()}.items():
        files.append(File.generated(config, page, content=text))
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Lead links to files of the repository to their pages; of a file that has none, its text remains."""
    origins = {name: source for source, name in ELSEWHERE.items() if name != "index.md"}
    origin = origins.get(page.file.src_uri, f"docs/{page.file.src_uri}")
    return LINK.sub(lambda link: lead(link, origin, page.file.src_uri), markdown)


def lead(link: re.Match[str], origin: str, page: str) -> str:
    """Return a link as the site needs it."""
    text, target, anchor = link.groups()
    path = posixpath.normpath(posixpath.join(posixpath.dirname(origin), target))
    place = ELSEWHERE.get(path) or (path.removeprefix("docs/") if path.startswith("docs/") else None)
    if place is None:
        return text.strip("![]")
    return f"{text}({posixpath.relpath(place, posixpath.dirname(page) or '.')}{anchor or ''})"


def describe_commands() -> str:
    """Return the page of the command and its subcommands, as they explain themselves."""
    from semanir_plugin.cli import build_parser

    parts = ["# The command `basicsr`\n\nEach of these is printed by `basicsr SUBCOMMAND --help`.\n"]
    parts += [
        f"## {name}\n\n```text\n{parser.format_help().strip()}\n```\n" for name, parser in parsers(build_parser())
    ]
    return "\n".join(parts)


def parsers(parser: argparse.ArgumentParser, prefix: str = "") -> Iterator[tuple[str, argparse.ArgumentParser]]:
    """Yield the names and parsers of all subcommands, and of theirs."""
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for name, inner in action.choices.items():
                yield f"{prefix}{name}", inner
                yield from parsers(inner, f"{prefix}{name} ")
