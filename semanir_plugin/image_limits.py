"""How large an image may be: a file of some kilobytes can stand for gigabytes of equal pixels."""

from __future__ import annotations

import io

from PIL import Image

__all__ = ["check_pixels"]


def check_pixels(content: bytes) -> None:
    """Refuse an image of more pixels than Pillow decodes, by its header; what Pillow does not know is left to others.

    OpenCV decodes six times as many, and takes the memory for them before it looks at the data.

    Raises:
        ValueError: It has too many.
    """
    try:
        Image.open(io.BytesIO(content)).close()
    except Image.DecompressionBombError as error:
        raise ValueError(f"the image has more pixels than are decoded: {error}; cut it into parts") from error
    except Exception:  # Pillow's parsers raise many kinds on damaged headers; the decoder tells what is wrong
        return
