"""Gate before the page's server: only what the page needs passes, from this page, and nothing comes from elsewhere."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

__all__ = ["Gate"]

Scope = dict[str, Any]
Asgi = Callable[[Scope, Any, Any], Awaitable[None]]

ALLOWED = {
    "GET": re.compile(
        r"/|/config/?|/theme\.css|/manifest\.json|/robots\.txt|/favicon\.ico|/(assets|static)/.*"
        r"|/gradio_api/(app_id|info/?|startup-events|theme\.css|upload_progress|queue/data|heartbeat/\w+|file=.*)"
    ),
    "POST": re.compile(r"/gradio_api/(upload|queue/join|cancel|reset/?|run/predict/?|api/predict/?)"),
}
"""Of Gradio's routes, those that the page uses; others fetch addresses, record runs or have models write code."""

LOCAL = ("localhost", "127.0.0.1", "[::1]")

UPLOAD = "/gradio_api/upload"

LEAST_FREE = 1 << 30  # bytes of the disk, below which nothing is taken in

LONGEST_BODY = 1 << 20  # bytes of a request that is no upload

POLICY = (
    "default-src 'self'; script-src 'self' 'unsafe-inline' 'unsafe-eval'; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data: blob:; media-src 'self' data: blob:; font-src 'self' data:; worker-src 'self' blob:; "
    "form-action 'self'; base-uri 'self'; frame-ancestors 'self'; object-src 'none'"
)
HEADERS = [
    (b"content-security-policy", POLICY.encode()),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
]


class Gate:
    """Lets requests through to an application, or answers them with a line.

    Attributes:
        app: The application.
        folder: The only folder whose files are served.
        local: Whether requests must name this computer, so that no page elsewhere can pass by a name of its own.
    """

    def __init__(self, app: Asgi, folder: Path, *, local: bool) -> None:
        self.app, self.folder, self.local = app, folder.resolve(), local

    async def __call__(self, scope: Scope, receive: Any, send: Any) -> None:
        """Answer a request, or have the application do it."""
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
        elif scope["type"] == "http":
            problem = self._problem(scope)
            if not problem and scope["method"] == "POST" and scope["path"] != UPLOAD:
                body = await _read(receive)
                problem, receive = self._problem_within(body), _again(body, receive)
            if problem:
                await _answer(send, *problem)
            else:
                await self.app(scope, receive, _with_headers(send))
        # A websocket, which the page has none of, is closed by returning.

    def _problem(self, scope: Scope) -> tuple[int, str] | None:
        """Return why a request does not pass, with its status."""
        path, headers = scope["path"], dict(scope["headers"])
        host = headers.get(b"host", b"").decode("latin-1")
        if self.local and re.sub(r":\d+$", "", host) not in LOCAL:
            return 403, f"this page is for this computer, not for {host}"
        origin = headers.get(b"origin", b"").decode("latin-1")
        if origin and origin.partition("://")[2] != host:
            return 403, f"requests of {origin} are not taken"
        method = "GET" if scope["method"] == "HEAD" else scope["method"]
        if method not in ALLOWED or not ALLOWED[method].fullmatch(path):
            return 404, "there is no such page"
        if path.startswith("/gradio_api/file=") and not self._is_served(path.partition("=")[2]):
            return 403, "this file is not served"
        if path == UPLOAD and shutil.disk_usage(self.folder).free < LEAST_FREE:
            return 507, "the disk is nearly full; try again later"
        return None

    def _problem_within(self, body: bytes) -> tuple[int, str] | None:
        """Return why a request does not pass for what it says, with its status.

        Wherever it names a file, whatever for, Gradio would copy that to where it is served from, or fetch an address.
        """
        if len(body) > LONGEST_BODY:
            return 413, f"requests have at most {LONGEST_BODY:,} bytes"
        named: list[object] = []
        try:
            json.loads(body, object_pairs_hook=lambda pairs: named.extend(each for key, each in pairs if key == "path"))
        except (ValueError, RecursionError):
            return 400, "this is no JSON"
        if not all(isinstance(each, str) and self._is_served(each) for each in named):
            return 403, "drop a file; no others are taken, and addresses are not fetched"
        return None

    def _is_served(self, name: str) -> bool:
        try:
            path = Path(name).resolve()
            return path.is_absolute() and path.is_relative_to(self.folder) and path.is_file()
        except (OSError, ValueError, RuntimeError):  # what can be no path, or leads round in a circle
            return False


async def _read(receive: Any) -> bytes:
    """Return the body of a request; of one that is too long, the beginning, which is too long as well."""
    body, more = b"", True
    while more and len(body) <= LONGEST_BODY:
        message = await receive()
        body += message.get("body", b"")
        more = message.get("more_body", False)
    return body


def _again(body: bytes, receive: Any) -> Callable[[], Awaitable[dict[str, Any]]]:
    """Return what receives a body that was read, and then what comes after it."""
    messages = [{"type": "http.request", "body": body, "more_body": False}]

    async def give() -> dict[str, Any]:
        message: dict[str, Any] = messages.pop() if messages else await receive()
        return message

    return give


def _with_headers(send: Any) -> Any:
    async def add(message: dict[str, Any]) -> None:
        if message["type"] == "http.response.start":
            message = {**message, "headers": [*message.get("headers", []), *HEADERS]}
        await send(message)

    return add


async def _answer(send: Any, status: int, line: str) -> None:
    headers = [(b"content-type", b"text/plain; charset=utf-8"), *HEADERS]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": line.encode()})
