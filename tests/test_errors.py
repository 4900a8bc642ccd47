"""How messages are shown."""

from __future__ import annotations

import logging

import pytest

from semanir_plugin.errors import MessageFormatter, UserError, one_line, shorten

LONG = f"net.pth: what is wrong, {'x' * 100_000}; what to do"


def test_short_messages_stay():
    assert shorten("a" * 4_000) == "a" * 4_000


@pytest.mark.parametrize("shown", [str(UserError(LONG)), one_line(ValueError(LONG)), one_line(UserError(LONG))])
def test_of_a_long_message_both_ends_stay(shown):
    assert shown.startswith("net.pth: what is wrong, x")
    assert shown.endswith("x; what to do")
    assert f"{len(LONG) - 3_900:,} characters left out" in shown
    assert len(shown) <= 4_000


def test_a_long_type_less_message_is_cut_too():
    carried = f"Caught it.\nOriginal Traceback (most recent call last):\n  File 'a'\nValueError: {LONG}"
    assert len(one_line(RuntimeError(carried))) <= 4_000
    assert len(one_line(RuntimeError(LONG))) <= 4_000


def _format(message: str) -> str:
    return MessageFormatter("%(levelname)s: %(message)s").format(logging.makeLogRecord({"msg": message}))


def test_what_a_log_line_shows():
    assert _format("two\n\tlines") == "Level None: two\n\tlines"
    assert _format("\x1b[2Jclear\r") == "Level None: \\x1b[2Jclear\\r"
    assert len(_format("x" * 100_000 + "\nsecond")) < 4_200
    assert _format("x" * 100_000 + "\nsecond").endswith("\nsecond")
