"""Limits on the size of images: a file of some kilobytes can stand for gigabytes of equal pixels."""

from __future__ import annotations

import io
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from PIL import Image, PngImagePlugin

from semanir_plugin.inference.orientation import orientation_of
from semanir_plugin.inference.png_chunks import PNG, read_chunks
from semanir_plugin.inference.tiff_samples import check_tiff_data
from semanir_plugin.inference.tiff_tags import TIFF

__all__ = ["check_pixels", "large_metadata"]

LARGEST_METADATA = 64 << 20
"""Bytes that a PNG's text or profile may unpack to: editors write workflows of megabytes there."""


class _LargeMetadata:
    """Pillow's limit of a PNG's text, a megabyte, raised while a thread is within."""

    def __init__(self) -> None:
        self.lock, self.within, self.limit = threading.Lock(), 0, 0

    @contextmanager
    def __call__(self) -> Iterator[None]:
        with self.lock:
            if self.within == 0:
                self.limit = PngImagePlugin.MAX_TEXT_CHUNK
                PngImagePlugin.MAX_TEXT_CHUNK = max(self.limit, LARGEST_METADATA)
            self.within += 1
        try:
            yield
        finally:
            with self.lock:
                self.within -= 1
                if self.within == 0:
                    PngImagePlugin.MAX_TEXT_CHUNK = self.limit


large_metadata = _LargeMetadata()
"""Context in which Pillow reads PNGs with up to `LARGEST_METADATA` of text or profile, in any number of threads."""


def check_pixels(content: bytes) -> int:
    """Refuse an image of more pixels than Pillow decodes, by its header; what Pillow does not know is left to others.

    OpenCV decodes six times as many, and takes the memory for them before it looks at the data; so it does for parts of
    a PNG, whose lengths are compared with what there is, and what a TIFF lacks it makes black.

    Returns:
        The orientation, as of `orientation_of`.

    Raises:
        ValueError: It has too many, is a PNG that ends within a part, or a TIFF with fewer than its header says.
    """
    if content.startswith(PNG):
        for _ in read_chunks(content):
            pass
    if content.startswith(TIFF):
        try:
            check_tiff_data(content)
        except ValueError as error:
            raise ValueError(f"the image {error}; replace it") from error
    try:
        with large_metadata(), Image.open(io.BytesIO(content)) as image:
            return orientation_of(image)
    except Image.DecompressionBombError as error:
        raise ValueError(f"the image has more pixels than are decoded: {error}; cut it into parts") from error
    except Exception:  # Pillow's parsers raise many kinds on damaged headers; the decoder tells what is wrong
        return 1
