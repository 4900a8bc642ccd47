"""Repairs of how BasicSR reads and decodes image files, and of how its datasets open what they read."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import cv2
from basicsr.utils import img_util
from basicsr.utils.file_client import FileClient
from basicsr.utils.registry import DATASET_REGISTRY

from semanir_plugin.atomic_io import write_atomic
from semanir_plugin.basicsr_host.compat.repairs.table import Repair, modules_with
from semanir_plugin.errors import UserError
from semanir_plugin.inference.image_limits import check_pixels
from semanir_plugin.inference.images import decode_upright
from semanir_plugin.pixels import to_float

__all__ = ["END_OF_IMAGE", "REPAIRS"]

# An image whose first bytes are the key is complete if the value occurs: PNG's last chunk, JPEG's end of image.
END_OF_IMAGE = {b"\x89PNG\r\n\x1a\n": b"IEND\xaeB`\x82", b"\xff\xd8\xff": b"\xff\xd9"}

_get = inspect.unwrap(FileClient.get)
_imfrombytes = inspect.unwrap(img_util.imfrombytes)


@functools.wraps(_get)
def get_complete(self: Any, filepath: str, client_key: str = "default") -> bytes:
    """`FileClient.get` hands on what is not a whole image.

    OpenCV 4 decodes a truncated PNG to a partly black image. OpenCV 5 returns None for it, as both do for an empty file
    and for the None of a key that the LMDB lacks, and `imfrombytes` dies of that with an AttributeError without a name.

    Raises:
        UserError: The file is empty or truncated, has more pixels than are decoded, or the LMDB lacks the key.
    """
    content: bytes = _get(self, filepath, client_key)
    if content is None:
        path = dict(zip(self.client._client, self.client.db_paths, strict=True))[client_key]
        raise UserError(f"{path}: the LMDB lacks the key '{filepath}'; write it and its meta_info.txt again")
    if not content:
        raise UserError(f"{filepath}: the file is empty; replace it or take it out")
    for start, end in END_OF_IMAGE.items():
        if content.startswith(start) and content.rfind(end) < 0:
            raise UserError(f"{filepath}: the image is truncated; replace it or take it out")
    try:
        check_pixels(content)
    except ValueError as error:
        raise UserError(f"{filepath}: {error}") from error
    return content


@functools.wraps(_imfrombytes)
def decode_in_own_depth(content: bytes, flag: str = "color", float32: bool = False) -> Any:
    """`imfrombytes` reads files of 16 bit as of 8 where it makes floats of them, too.

    Which files are turned upright depends on OpenCV's version.

    Raises:
        AttributeError: As the host, without a name, where the content is no image.
    """
    if flag == "unchanged":
        return _imfrombytes(content, flag, float32)
    flags = cv2.IMREAD_GRAYSCALE if flag == "grayscale" else cv2.IMREAD_COLOR
    pixels: Any = decode_upright(content, flags | (cv2.IMREAD_ANYDEPTH if float32 else 0))  # None of what is no image
    return to_float(pixels) if float32 else pixels


def write_whole(img: Any, file_path: str, params: Sequence[int] | None = None, auto_mkdir: bool = True) -> None:
    """`imwrite` leaves an image cut off where the disk is full, and takes it for written.

    Raises:
        OSError: The file cannot be written; none of it is there then.
        ValueError: There is no such format.
    """
    path = Path(file_path)
    if auto_mkdir:
        path.parent.mkdir(parents=True, exist_ok=True)
    try:
        _, content = cv2.imencode(path.suffix, img, params or [])
    except cv2.error as error:
        raise ValueError(f"{path}: images of {img.dtype} cannot be written as '{path.suffix}'") from error
    write_atomic(content.tobytes(), path)


def opening_first(getitem: Callable[[Any, int], Any]) -> Callable[[Any, int], Any]:
    """Host datasets pop 'type' from their io_backend options at the first item.

    A copy made before, which shares the options, then dies of `KeyError: 'type'`. Opening the client beforehand, from a
    copy of the options, leaves them whole.
    """

    @functools.wraps(getitem)
    def wrapper(self: Any, index: int) -> Any:
        if self.file_client is None:
            options = dict(self.io_backend_opt)
            self.file_client = FileClient(options.pop("type"), **options)
        return getitem(self, index)

    return wrapper


class _Content:
    """A file client that gives the content of one file, whichever is asked for."""

    def __init__(self, content: bytes) -> None:
        self.content = content

    def get(self, *which: str) -> bytes:
        return self.content


# Datasets that try again, and the keys of their LMDBs.
RETRYING: dict[str, tuple[str, ...]] = {"FFHQDataset": (), "RealESRGANDataset": ("gt",)}


def reading_once(getitem: Callable[[Any, int], Any], *client_key: str) -> Callable[[Any, int], Any]:
    """`FFHQDataset` and `RealESRGANDataset` sleep a second where a file cannot be read, and take another, three times.

    So a missing folder took minutes, and was an UnboundLocalError; another is drawn unseeded, and may be past the end.
    """

    @functools.wraps(getitem)
    def wrapper(self: Any, index: int) -> Any:
        client = self.file_client
        self.file_client = _Content(client.get(self.paths[index], *client_key))
        try:
            return getitem(self, index)
        finally:
            self.file_client = client

    return wrapper


def _getitem(dataset: Any) -> Callable[[Any, int], Any]:
    getitem = inspect.unwrap(dataset.__getitem__)
    keys = RETRYING.get(dataset.__name__)
    return opening_first(getitem if keys is None else reading_once(getitem, *keys))


def _host_datasets() -> list[Any]:
    """Return the host's own dataset classes."""
    return [cls for _, cls in DATASET_REGISTRY if cls.__module__.startswith("basicsr.")]


REPAIRS: tuple[Repair, ...] = (
    (FileClient, "get", get_complete),
    *((module, "imfrombytes", decode_in_own_depth) for module in modules_with("imfrombytes")),
    *((module, "imwrite", write_whole) for module in modules_with("imwrite")),
    *((cls, "__getitem__", _getitem(cls)) for cls in _host_datasets()),
)
