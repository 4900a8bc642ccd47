"""What setup.cfg cannot say: the description on a package index, which knows no files beside it."""

from __future__ import annotations

import configparser
import re
from pathlib import Path

from setuptools import setup

HERE = Path(__file__).parent
PICTURE = re.compile(r"!\[[^]]*\]\((?!https?:)[^)]*\)\n*")
LINK = re.compile(r"\[([^]]+)\]\((?!https?:|#)([^)]+)\)")


def describe(readme: str, source: str | None) -> str:
    """Return the README without pictures and links that lead nowhere on an index.

    Args:
        readme: In Markdown.
        source: Address that a path within the repository can be appended to; None: links become their text.
    """
    return LINK.sub(rf"[\1]({source}/\2)" if source else r"\1", PICTURE.sub("", readme))


def find_source() -> str | None:
    """Return where the repository lies, from the URLs of setup.cfg."""
    config = configparser.ConfigParser()
    config.read(HERE / "setup.cfg", encoding="utf-8")
    urls = dict(line.split(" = ", 1) for line in config["metadata"]["project_urls"].split("\n") if line)
    return f"{urls['Source']}/blob/main" if "Source" in urls else None


if __name__ == "__main__":
    readme = (HERE / "README.md").read_text(encoding="utf-8")
    setup(long_description=describe(readme, find_source()), long_description_content_type="text/markdown")
