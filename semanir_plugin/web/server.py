"""Server of the page, from its arguments to its end, when nothing of it is left on the disk."""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import signal
import socket
import tempfile
import threading
import traceback
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from semanir_plugin.errors import UserError, require_package
from semanir_plugin.inference.devices import choose_device
from semanir_plugin.inference.tile_memory import free_memory
from semanir_plugin.web.gate import Gate
from semanir_plugin.web.offers import find_offers
from semanir_plugin.web.page import LOOKS, build_page
from semanir_plugin.web.workshop import Workshop

__all__ = ["FIRST_PORT", "WebArguments", "serve"]

FIRST_PORT = 7860
TRIED = 100  # ports from there on, where none is named

FONTS = ["system-ui", "-apple-system", "Segoe UI", "Roboto", "Noto Sans", "sans-serif"]
MONOSPACED = ["ui-monospace", "SFMono-Regular", "Menlo", "Consolas", "monospace"]

ENVIRONMENT = {
    "GRADIO_ANALYTICS_ENABLED": "False",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "HF_HUB_OFFLINE": "1",
    "GRADIO_ALLOWED_PATHS": "",
    "GRADIO_NUM_WORKERS": "0",
}
"""What Gradio reads when it is imported: it sends nothing, asks nobody, and serves nothing else."""


@dataclass(frozen=True, kw_only=True)
class WebArguments:
    """The flags of `basicsr web`.

    Attributes:
        models: Networks of the user's own, as of `find_offers`.
        host: Address to listen at.
        port: Port to listen at; None: the first that is free; 0: any.
        most_pixels: Pixels that a picture may have.
        most_megabytes: Megabytes that a file may have.
        device: Where to restore; None: on a GPU where there is one.
        debug: Whether the server logs what it does.
    """

    models: Sequence[str] = ()
    host: str = "127.0.0.1"
    port: int | None = None
    most_pixels: int = 16_000_000
    most_megabytes: int = 64
    device: str | None = None
    debug: bool = False


def serve(args: WebArguments) -> None:
    """Serve the page until it is told to stop.

    Raises:
        UserError: Gradio is not installed, the address cannot be listened at, or a network cannot be loaded.
    """
    require_package("gradio", "the page", "'semanir_plugin[web]'")
    choose_device(args.device)
    with _listening(args.host, args.port) as opened, _stopped_by_signals():
        print("Loading the networks ...", flush=True)
        offers = find_offers(args.models, args.device)
        with tempfile.TemporaryDirectory(prefix="semanir_web_", ignore_cleanup_errors=True) as name:
            folder = Path(name)
            workshop = Workshop(offers, folder, most_pixels=args.most_pixels, device=args.device)
            try:
                _run(args, workshop, opened)
            finally:
                workshop.close()


def _run(args: WebArguments, workshop: Workshop, opened: socket.socket) -> None:
    os.environ.update(ENVIRONMENT, GRADIO_TEMP_DIR=str(workshop.folder))  # before it is imported
    import gradio as gr
    import uvicorn

    if not args.debug:
        _log_no_tracebacks()
    local = args.host in ("127.0.0.1", "localhost", "::1")
    page = build_page(workshop, local=local, measurable=_is_measurable()).queue(max_size=64)
    app = Gate(_mounted(gr, page, args), workshop.folder, local=local)
    level = "info" if args.debug else "critical"
    logging.getLogger("httpx").setLevel(logging.WARNING)
    config = uvicorn.Config(app, log_level=level, access_log=args.debug, timeout_graceful_shutdown=1, ws="none")
    print(f"{_address(args.host, opened.getsockname()[1])}  (Ctrl-C ends it)", flush=True)
    with contextlib.suppress(KeyboardInterrupt):
        uvicorn.Server(config).run(sockets=[opened])
    print("stopped")


class _NoTracebacks:
    """Stands for the module `traceback`: a visitor who sends what Gradio refuses fills no terminal."""

    def __getattr__(self, name: str) -> Any:
        return getattr(traceback, name)

    def print_exc(self, *_: Any, **__: Any) -> None:
        """Print nothing; the visitor is told."""


def _log_no_tracebacks() -> None:
    from gradio import queueing, routes

    for module in (queueing, routes):
        setattr(module, "traceback", _NoTracebacks())  # noqa: B010  (not exported, say the types)


def _mounted(gr: Any, page: Any, args: WebArguments) -> Any:
    from fastapi import FastAPI

    return gr.mount_gradio_app(
        FastAPI(docs_url=None, redoc_url=None, openapi_url=None),
        page,
        path="/",
        footer_links=[],
        run_history=False,
        enable_monitoring=False,
        ssr_mode=False,
        pwa=False,
        mcp_server=False,
        show_error=True,
        max_file_size=args.most_megabytes << 20,
        theme=_theme(gr),
        css_paths=[LOOKS],
    )


def _theme(gr: Any) -> Any:
    """Return Gradio's own theme, with the fonts of whoever looks at it, and pale texts that can be read."""
    theme = gr.themes.Default(font=FONTS, font_mono=MONOSPACED, primary_hue="blue", radius_size="md")
    pale = {"body_text_color_subdued": "*neutral_600", "body_text_color_subdued_dark": "*neutral_300"}
    return theme.set(**pale, block_info_text_color="*neutral_600", block_info_text_color_dark="*neutral_300")


@contextlib.contextmanager
def _listening(host: str, port: int | None) -> Iterator[socket.socket]:
    """Open a socket at a port, or at the first free one, before any work.

    Raises:
        UserError: It is taken or may not be opened, or there is no such address.
    """
    tried = range(FIRST_PORT, FIRST_PORT + TRIED) if port is None else [port]
    opened = None
    for each in tried:
        try:
            opened = _open(host, each)
            break
        except OSError as error:
            if error.errno != errno.EADDRINUSE or port is not None:
                raise UserError(f"cannot listen at {host}:{each}: {_reason(error)}") from error
    if opened is None:
        raise UserError(f"ports {tried[0]} to {tried[-1]} of {host} are all taken; name another: --port")
    with opened:
        yield opened


def _open(host: str, port: int) -> socket.socket:
    family, *_, place = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    opened = socket.socket(family, socket.SOCK_STREAM)
    try:
        if os.name == "posix":  # elsewhere it would share a port that is taken
            opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        opened.bind(place)
        opened.listen(128)
    except OSError:
        opened.close()
        raise
    return opened


def _reason(error: OSError) -> str:
    if error.errno == errno.EADDRINUSE:
        return "the port is taken; name another, or leave --port out"
    if error.errno in (errno.EACCES, errno.EPERM):
        return f"{error.strerror}; name a port above 1023"
    return f"{error.strerror}; name an address of this computer: --host"


def _address(host: str, port: int) -> str:
    return f"http://{f'[{host}]' if ':' in host else host}:{port}/"


def _is_measurable() -> bool:
    import torch

    try:
        return free_memory(torch.device("cpu")) > 0
    except UserError:
        return False


@contextlib.contextmanager
def _stopped_by_signals() -> Iterator[None]:
    """Within the block, have SIGTERM end the program as Ctrl-C does, so that its folder is removed."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
