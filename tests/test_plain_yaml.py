from __future__ import annotations

import pytest

from semanir_plugin.errors import UserError
from semanir_plugin.plain_yaml import parse_yaml

IN_QUOTES = "put a value that has ': ' in quotes, a space behind each colon, and the keys of a section one below the"
AS_A_WHOLE = "put a value that begins with a quote or a bracket in quotes as a whole, and the keys of a section one"
BRACKET = "close the bracket, or put the whole value in quotes"
STAR = "put a value that begins with * or & in quotes"


@pytest.mark.parametrize(
    ("text", "line", "cure"),
    [
        ("a: b: c", 1, IN_QUOTES),
        ("name:x\nb: 1", 2, IN_QUOTES),
        ("a: 1\n b: 2", 2, IN_QUOTES),
        ("a:\n\tb: 1", 2, "indent by spaces, not tabs"),
        ("a: @x", 1, "put the value in quotes"),
        ("a: %x", 1, "put the value in quotes"),
        ("a: [1, 2", 1, BRACKET),
        ("a: {b: 1]", 1, BRACKET),
        ("a: {:>9}", 1, BRACKET),
        ('a: "x', 1, "close the quotes"),
        (r'a: "C:\data"', 1, r"use single quotes, in which \ is no escape"),
        ("a: *.png", 1, STAR),
        ("a: &v 1\nb: &v 2", 2, STAR),
        ("a: 1\n---\nb: 2", 2, "leave one, and no line ---"),
        ("a: {}x4", 1, AS_A_WHOLE),
        ("a:\n  b: 1\n c: 2", 3, AS_A_WHOLE),
    ],
)
def test_a_mistake_in_yaml_is_told_with_what_mends_it(text, line, cure):
    with pytest.raises(UserError) as caught:
        parse_yaml(text, lambda line: f"a.yml:{line}")
    assert str(caught.value).startswith(f"a.yml:{line}: ")
    assert f"; {cure}" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_what_the_cures_say_mends_it():
    values = {"a": "b: c", "b": "@x", "c": "{}x4", "d": r"C:\data", "e": "*.png"}
    text = r"""{a: 'b: c', b: '@x', c: '{}x4', d: 'C:\data', e: '*.png'}"""
    assert parse_yaml(text, str)[0] == values
