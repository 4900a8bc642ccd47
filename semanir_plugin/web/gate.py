"""Gate before the page's server: only what the page needs passes, from this page, and nothing comes from elsewhere."""

from __future__ import annotations

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

LEAST_FREE = 1 << 30  # bytes of the disk, below which nothing is taken in

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
        if path == "/gradio_api/upload" and shutil.disk_usage(self.folder).free < LEAST_FREE:
            return 507, "the disk is nearly full; try again later"
        return None

    def _is_served(self, name: str) -> bool:
        try:
            path = Path(name).resolve()
            return path.is_absolute() and path.is_relative_to(self.folder) and path.is_file()
        except (OSError, ValueError, RuntimeError):  # what can be no path, or leads round in a circle
            return False


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
