"""Ground truths and inputs as image files, to look at beside results."""

from __future__ import annotations

from collections.abc import Iterable

from semanir_plugin.evaluation.leaderboard.cache import Cache
from semanir_plugin.evaluation.leaderboard.test_sets import Sample, TestSet
from semanir_plugin.pixels import FloatImage, Image, to_uint8

__all__ = ["image_path", "reference_paths", "write_references"]


def image_path(owner: str, test_set: TestSet, name: str) -> str:
    """Return an image's path below the folder of the results; `owner` is a row's name, or the kind of reference."""
    return f"images/{owner}/{test_set.slug}/{name}.png"


def reference_paths(test_set: TestSet, name: str) -> dict[str, str]:
    """Return the paths of an image's input, enlarged to the size of the truth, and of the truth."""
    return {kind: image_path(f"_{kind}", test_set, name) for kind in ("input", "truth")}


def write_references(cache: Cache, test_set: TestSet, indices: Iterable[int]) -> None:
    """Write the references of some images, unless they exist.

    Raises:
        UserError: A file cannot be read.
        OSError: One cannot be written.
    """
    key = cache.key("references", test_set.digest, protocol=test_set.protocol.label)
    for index in indices:
        name = test_set.found[index].name
        if cache.load(key, name) is None:
            cache.save(key, name, {}, _render(test_set.sample(index), test_set))


def _render(sample: Sample, test_set: TestSet) -> dict[str, Image]:
    enlarged = sample.input.repeat(test_set.scale, axis=0).repeat(test_set.scale, axis=1)
    pictures: dict[str, FloatImage] = {"input": enlarged, "truth": sample.truth}
    paths = reference_paths(test_set, sample.name)
    return {paths[kind]: to_uint8(picture) for kind, picture in pictures.items()}
