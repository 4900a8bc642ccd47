"""Samples of TIFF files that Pillow has no mode for: 16 bit in colour, floats, planes apart, associated opacity.

TIFF 6.0 (Adobe, 1992): `ExtraSamples` (page 31), `PlanarConfiguration` (38), `PhotometricInterpretation` (37).
"""

from __future__ import annotations

import io
import math
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from semanir_plugin.inference.orientation import ORIENTATION, turn_upright

__all__ = ["read_tiff_samples"]

_NO_COMPRESSION = 1
_WHITE_IS_ZERO, _BLACK_IS_ZERO, _RGB = 0, 1, 2
_WHOLE_BITS = (8, 16, 32, 64)
_PLANES = 2  # of a PlanarConfiguration: each sample's in a row of their own
_ASSOCIATED, _UNASSOCIATED = 1, 2


def read_tiff_samples(content: bytes) -> NDArray[Any]:
    """Return the samples of a file of one page, (H, W, C): gray or RGB, each with its unassociated opacity if any.

    They are upright, of 8 or 16 bit, or floats in [0, 1] as float32.

    Raises:
        ValueError: It is damaged, or of another kind.
    """
    import tifffile  # for this alone

    try:
        with tifffile.TiffFile(io.BytesIO(content)) as file:
            if len(file.pages) > 1:
                raise ValueError(f"has {len(file.pages)} frames or pages; save the one to restore")
            page: Any = file.pages[0]
            _check_data(page)
            return _read_page(page, content)
    except ValueError:
        raise
    except Exception as error:  # tifffile's parser raises many kinds on damaged files
        raise ValueError(f"cannot be decoded: {' '.join(str(error).split()) or type(error).__name__}") from error


def check_tiff_data(content: bytes) -> None:
    """Refuse a TIFF with data of fewer pixels than its header says; those who decode it make the rest black.

    Raises:
        ValueError: It is one. What tifffile does not understand is left to others.
    """
    import tifffile

    try:
        with tifffile.TiffFile(io.BytesIO(content)) as file:
            _check_data(file.pages[0])
    except _ShortError:
        raise
    except Exception:  # tifffile's parser raises many kinds
        return


class _ShortError(ValueError):
    """Error that there are data of fewer pixels than a header says."""


def _check_data(page: Any) -> None:
    expected, present = math.prod(page.chunked), sum(page.databytecounts)
    if len(page.dataoffsets) < expected or (page.compression == _NO_COMPRESSION and present < _packed_bytes(page)):
        raise _ShortError("is damaged: it has fewer pixels than its header says")


def _packed_bytes(page: Any) -> int:
    """Return the bytes of a page's pixels without compression: bits side by side, each row in whole bytes."""
    bits = page.bitspersample if isinstance(page.bitspersample, tuple) else (page.bitspersample,) * page.samplesperpixel
    rows = bits if page.planarconfig == _PLANES else (sum(bits),)
    return int(page.imagedepth * page.imagelength * sum(-(-page.imagewidth * each // 8) for each in rows))


def _read_page(page: Any, content: bytes) -> NDArray[Any]:
    if page.photometric not in (_WHITE_IS_ZERO, _BLACK_IS_ZERO, _RGB):
        raise ValueError(
            f"has colours of kind {getattr(page.photometric, 'name', page.photometric)}; convert it to RGB"
        )
    if page.dtype not in ("uint8", "uint16", "float16", "float32", "float64"):
        raise ValueError(f"has {page.dtype} pixels; convert it to 8 or 16 bit")
    samples = _decode(page)
    upright = samples is None
    if samples is None:
        samples = _decode_with_opencv(page, content)
    colours = 3 if page.photometric == _RGB else 1
    opacity = int(page.extrasamples[0]) if page.extrasamples else 0
    samples = samples[..., : colours + (opacity in (_ASSOCIATED, _UNASSOCIATED))]
    if samples.dtype.kind == "f":
        samples = _check_floats(samples.astype(np.float32))
    if page.photometric == _WHITE_IS_ZERO:
        samples[..., 0] = _most(samples) - samples[..., 0]
    if opacity == _ASSOCIATED:
        _dissociate(samples)
    tag = None if upright else page.tags.get(ORIENTATION)
    return turn_upright(samples, int(tag.value) if tag is not None and tag.value in range(1, 9) else 1)


def _decode(page: Any) -> NDArray[Any] | None:
    """Return (H, W, samples) as they are stored; None where tifffile alone does not know the compression."""
    if page.bitspersample not in _WHOLE_BITS:  # which it reads as small numbers, where it reads them
        return None
    try:
        stored = page.asarray()
    except Exception:
        return None
    if stored.ndim == 3 and page.axes.startswith("S"):
        stored = np.moveaxis(stored, 0, 2)
    if stored.ndim not in (2, 3):
        raise ValueError(f"has {stored.ndim} dimensions; save it as one image")
    result: NDArray[Any] | None = stored.reshape(*stored.shape[:2], -1).copy()
    return result


def _decode_with_opencv(page: Any, content: bytes) -> NDArray[Any]:
    """Return (H, W, samples), upright."""
    samples = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_UNCHANGED)
    if samples is None or samples.dtype != page.dtype or page.planarconfig != 1:  # it mixes up planes
        if page.bitspersample not in _WHOLE_BITS:
            raise ValueError(f"has samples of {page.bitspersample} bits; convert it to 8 or 16 bit")
        raise ValueError("cannot be decoded; save it without compression, or with that of zlib")
    if page.bitspersample not in _WHOLE_BITS:  # OpenCV leaves the lowest bits 0, so that white is none
        samples = np.bitwise_or(samples, np.right_shift(samples, page.bitspersample))
    samples = samples.reshape(*samples.shape[:2], -1)
    return samples[..., [2, 1, 0, 3][: samples.shape[2]]] if samples.shape[2] > 1 else samples


def _most(samples: NDArray[Any]) -> Any:
    return np.iinfo(samples.dtype).max if samples.dtype.kind == "u" else np.float32(1)


def _check_floats(samples: NDArray[np.float32]) -> NDArray[np.float32]:
    least, most = float(samples.min()), float(samples.max())
    if not (least >= 0 and most <= 1):  # NaN is refused, too
        raise ValueError(f"has floats from {least:g} to {most:g}; those in 0 to 1 are restored: scale them")
    return samples


def _dissociate(samples: NDArray[Any]) -> None:
    """Divide colours, which are stored times the opacity, by it, in place; where that is 0, they stay."""
    for row in samples:
        opacity = row[:, -1:].astype(np.float64)
        colours = row[:, :-1] * (_most(samples) / np.where(opacity > 0, opacity, _most(samples)))
        row[:, :-1] = np.clip(colours if samples.dtype.kind == "f" else np.round(colours), 0, _most(samples))
