"""The one exception type whose message is meant for the user of the command line."""

from __future__ import annotations

__all__ = ["UserError"]


class UserError(Exception):
    """Something the user can mend: what is wrong, where, and what to do, in one line.

    The command prints the message alone and ends with exit code 2.
    """

    def __str__(self) -> str:
        # torch's DataLoader raises a worker's exception again with the traceback as text; the message is its end.
        return super().__str__().rsplit("UserError: ", 1)[-1].strip()
