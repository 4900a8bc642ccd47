"""Weights that torch or torchvision would download: where that cannot be, which file is needed, and where, at once."""

from __future__ import annotations

import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import torch

from semanir_plugin.errors import UserError, one_line

__all__ = ["download", "telling_what_to_fetch"]

SECONDS = 10
"""How long a server may take to answer; the look-up of its name alone can take a minute where there is no network."""

_download = torch.hub.download_url_to_file


def download(url: str, path: str, *args: Any, **options: Any) -> None:
    """Download a file as torch does, once its server has answered.

    Raises:
        UserError: It cannot be downloaded; the message says from where to fetch it, and where to put it.
    """
    try:
        _reach(url)
        _download(url, path, *args, **options)
    except OSError as error:
        raise UserError(
            f"{Path(path).name} is missing and cannot be downloaded ({one_line(error)}): fetch {url} where there is a "
            f"network, and put it at {path}"
        ) from error


@contextmanager
def telling_what_to_fetch() -> Iterator[None]:
    """Have torch download by `download` within the block, and be silent about how torchvision is asked for weights."""
    vars(torch.hub)["download_url_to_file"] = download
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", module="torchvision.models")  # as its older releases want it
            yield
    finally:
        vars(torch.hub)["download_url_to_file"] = _download


def _reach(url: str) -> None:
    """Wait for any answer of a server, through proxies as the download goes.

    Raises:
        OSError: It cannot be reached, or not in time.
    """
    failures: list[OSError] = []

    def ask() -> None:
        try:
            urlopen(Request(url, method="HEAD"), timeout=SECONDS).close()
        except HTTPError:
            pass  # it does not like the question, but is there
        except OSError as error:
            failures.append(error)

    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    thread.join(SECONDS)
    if thread.is_alive():
        failures.append(TimeoutError(f"no answer within {SECONDS} seconds"))
    if failures:
        raise failures[0]
