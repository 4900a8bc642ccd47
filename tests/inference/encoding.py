"""Photographs in memory, as the bytes of files."""

from __future__ import annotations

import io

import numpy as np

from semanir_plugin.inference.photograph_writing import write_photograph
from semanir_plugin.inference.photographs import Photograph, PhotographInBands


def encode_photograph(photograph: Photograph, suffix: str) -> bytes:
    """Return a file's bytes, as `write_photograph` writes them."""
    planes = [photograph.pixels] if photograph.alpha is None else [photograph.pixels, photograph.alpha[..., None]]
    samples = np.concatenate(planes, axis=2)
    whole = PhotographInBands(shape=samples.shape, dtype=samples.dtype, bands=[samples], metadata=photograph.metadata)
    file = io.BytesIO()
    write_photograph(file, whole, suffix)
    return file.getvalue()
