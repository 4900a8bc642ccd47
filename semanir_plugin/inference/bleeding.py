"""Colours under transparent pixels: nobody sees them, but a network's neighbourhoods would."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

__all__ = ["bleed_colours"]

REACH = 64  # pixels; what lies further away from anything visible hardly reaches it through a network
BARELY = 0.01  # opacity; lossy formats and rounding leave some of it, with any colour
ROWS = 256  # that are filled at once, so that distances and labels of the whole image are never in memory


def bleed_colours(pixels: NDArray[Any], alpha: NDArray[Any]) -> NDArray[Any]:
    """Return pixels whose colours that can hardly be seen are those of the nearest visible ones, up to `REACH` away.

    An editor leaves any colour under full transparency, often black, which a network would mix into edges: a dark rim.
    So it is under an opacity below `BARELY`, unless there is no other.

    Args:
        pixels: (H, W, C).
        alpha: (H, W) opacity; 0 is transparent.

    Returns:
        (H, W, C); `pixels` itself where all of it is visible.
    """
    hidden = _hardly_seen(alpha)
    if not hidden.any() or hidden.all():
        return pixels
    filled = pixels.copy()
    for top in range(0, len(pixels), ROWS):
        first, last = max(0, top - REACH), min(len(pixels), top + ROWS + REACH)
        part = slice(top - first, min(top + ROWS, len(pixels)) - first)
        _fill(filled[first:last][part], pixels[first:last], hidden[first:last], part)
    return filled


def _hardly_seen(alpha: NDArray[Any]) -> NDArray[np.bool_]:
    most = 1.0 if alpha.dtype.kind == "f" else np.iinfo(alpha.dtype).max
    hidden: NDArray[np.bool_] = alpha < BARELY * most
    return alpha == 0 if hidden.all() else hidden


def _fill(target: NDArray[Any], pixels: NDArray[Any], hidden: NDArray[np.bool_], part: slice) -> None:
    """Fill the hidden pixels of a part of a strip from the visible ones of all of it."""
    if not hidden[part].any() or hidden.all():
        return
    distances, labels = cv2.distanceTransformWithLabels(
        hidden.astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_5, labelType=cv2.DIST_LABEL_PIXEL
    )
    sources = np.zeros(int(labels.max()) + 1, np.int64)
    sources[labels[~hidden]] = np.flatnonzero(~hidden)
    reached = hidden[part] & (distances[part] <= REACH)
    target[reached] = pixels.reshape(-1, pixels.shape[2])[sources[labels[part][reached]]]
