"""What docs/security.md and docs/reliability.md promise: each row and paragraph names tests, which exist."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path

import pytest

from tests.conftest import ROOT

DOCUMENTS = ("security.md", "reliability.md")
# Sections of what is not promised, of what was measured, and of the footnotes themselves.
WITHOUT = {"What is not", "Tests"}
# Heads of tables, and paragraphs of what was measured.
PLAIN = ("| Attack", "| | |", "|---", "With atheris", "A training of 2,000")
REFERENCE = re.compile(r"\[\^([\w-]+)\]")
FOOTNOTE = re.compile(r"^\[\^([\w-]+)\]: (.*)$", re.MULTILINE)


def split(name: str) -> tuple[str, dict[str, str]]:
    """Return a document without its code, and its footnotes."""
    text = re.sub(r"^```.*?^```$", "", (ROOT / "docs" / name).read_text(), flags=re.DOTALL | re.MULTILINE)
    return FOOTNOTE.sub("", text), dict(FOOTNOTE.findall(text))


def paragraphs(text: str) -> list[str]:
    """Return paragraphs and rows of tables, but for those of sections that promise nothing."""
    sections = re.split(r"^#+ ", text, flags=re.MULTILINE)
    kept = [body for title, _, body in (each.partition("\n") for each in sections) if title not in WITHOUT]
    blocks = [block.strip() for body in kept for block in body.split("\n\n")]
    return [row for block in blocks if block for row in (block.split("\n") if block.startswith("|") else [block])]


@cache
def functions_of(path: Path) -> set[str]:
    tree = ast.parse(path.read_text())
    return {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}


@pytest.mark.parametrize("name", DOCUMENTS)
def test_footnotes_are_there_and_used(name):
    text, footnotes = split(name)
    assert set(REFERENCE.findall(text)) == footnotes.keys()


@pytest.mark.parametrize("name", DOCUMENTS)
def test_tests_that_are_named_exist(name):
    for note, content in split(name)[1].items():
        for part in content.split("; "):
            path, *functions = re.findall(r"`([^`]+)`", part)
            assert functions, note
            assert set(functions) <= functions_of(ROOT / "tests" / path), note


@pytest.mark.parametrize("name", DOCUMENTS)
def test_each_promise_names_a_test(name):
    lacking = [each for each in paragraphs(split(name)[0]) if not REFERENCE.search(each)]
    assert not [each for each in lacking if not each.startswith(PLAIN)]
