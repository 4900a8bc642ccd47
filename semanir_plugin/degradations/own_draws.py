"""Random numbers of an image's own: the one rule by which everything that degrades images to be scored draws."""

from __future__ import annotations

import zlib

import numpy as np

from semanir_plugin.pixels import FloatImage, to_uint8

__all__ = ["generator_of"]


def generator_of(clean: FloatImage, seed: int) -> np.random.Generator:
    """Return a generator that follows from the pixels, at 8 bit, and a seed: each picture has damage of its own.

    Names do not matter: a file that is renamed, or becomes an entry of an LMDB, gets the same damage.

    Args:
        clean: Image in [0, 1].
        seed: At least 0; another one draws other damage for all images.
    """
    return np.random.default_rng([seed, zlib.crc32(to_uint8(clean).tobytes())])
