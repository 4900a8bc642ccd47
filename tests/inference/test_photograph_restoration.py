from __future__ import annotations

import sys
from dataclasses import replace

import cv2
import numpy as np
import pytest
import torch

from semanir_plugin.archs import NetworkDescriptor
from semanir_plugin.blocks import SizeRequirements
from semanir_plugin.inference import photograph_restoration
from semanir_plugin.inference.photograph_restoration import PhotographRestoration, restore_photograph
from semanir_plugin.inference.photographs import Photograph, PhotographInBands
from semanir_plugin.inference.restoration import Restoration, RestorationOptions
from tests.memory import measure_alone


def noise(*shape, dtype=np.uint8):
    return np.random.default_rng(0).integers(0, np.iinfo(dtype).max + 1, shape, dtype=dtype)


def in_bands(restored, *heights):
    """Return a stand-in for a restoration, which yields a (1, C, H, W) result in bands of some heights."""
    return lambda source: iter(restored.split(heights, dim=-2))


def whole(photograph: PhotographInBands):
    return np.concatenate(list(photograph.bands))


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_results_are_rounded_exactly(dtype):
    largest = np.iinfo(dtype).max
    ties = (torch.arange(largest, dtype=torch.float64) + 0.5).float() / largest
    values = torch.cat([torch.rand(20_000) * 1.2 - 0.1, ties])
    restored = values[: len(values) // 6 * 6].view(1, 3, 2, -1)
    source = Photograph(noise(2, restored.shape[-1], 3, dtype=dtype))
    photograph = restore_photograph(source, in_bands(restored, 1, 1), 3)
    expected = (restored.double() * largest).round().clamp(0, largest)[0].permute(1, 2, 0).numpy().astype(dtype)
    assert (photograph.shape, photograph.dtype) == (expected.shape, dtype)
    np.testing.assert_array_equal(whole(photograph), expected)


def test_a_gray_result_is_the_mean_of_the_colours():
    restored = torch.full((1, 3, 2, 3), 100 / 255) * torch.tensor([0.5, 1, 0.9])[:, None, None]
    gray = restore_photograph(Photograph(noise(2, 3, 1)), in_bands(restored, 2), 3)
    assert whole(gray).tolist() == [[[80]] * 3] * 2


@pytest.mark.parametrize("scale", [1, 2, 3, 4])
def test_transparency_is_enlarged_in_bands_as_a_whole(scale):
    alpha = noise(11, 7)
    heights = [1, 3, 11 * scale - 4]
    restored = torch.zeros(1, 3, 11 * scale, 7 * scale)
    photograph = restore_photograph(Photograph(noise(11, 7, 3), alpha), in_bands(restored, *heights), 3)
    enlarged = cv2.resize(alpha.astype(np.float32) / 255, (7 * scale, 11 * scale), interpolation=cv2.INTER_CUBIC)
    expected = (enlarged * 255).round().clip(0, 255)
    assert photograph.shape == (11 * scale, 7 * scale, 4)
    np.testing.assert_allclose(whole(photograph)[..., 3], expected, atol=0 if scale != 3 else 1)


def test_what_is_no_number_is_told_wherever_it_lies():
    restored = torch.zeros(1, 3, 4, 4)
    restored[..., 3, 3] = torch.inf
    with pytest.raises(ValueError, match="infinite values of it; restore it in full precision"):
        whole(restore_photograph(Photograph(noise(4, 4, 3)), in_bands(restored, 2, 2), 3))


def enlarging(scale=4, multiple_of=1, **how):
    def net(x):
        return x.repeat_interleave(scale, -1).repeat_interleave(scale, -2)

    descriptor = NetworkDescriptor(scale=scale, size=SizeRequirements(multiple_of=multiple_of))
    restoration = Restoration(descriptor=descriptor, options=RestorationOptions(**how))
    return PhotographRestoration(restoration, net, torch.device("cpu"))


def blank(height, width):
    return Photograph(np.broadcast_to(np.uint8(0), (height, width, 3)))


@pytest.mark.parametrize(
    ("suffix", "size", "told"),
    [
        (
            ".webp",
            (8, 4096),
            r"result of 16,384 x 32 pixels is too large for WEBP, of 16,383 a side at most; name",
        ),
        (
            ".jpg",
            (16_376, 8),
            r"result of 32 x 65,504 pixels is too large for JPEG, of 65,500 a side at most; name",
        ),
        (".bmp", (10_000, 10_000), r"too large for BMP, of 4 GiB at most; name it \.png or \.tif"),
        (".jpg", (10_000, 10_000), r"its result of 40,000 x 40,000 pixels does not fit into memory.*name it \.png"),
    ],
)
def test_results_that_cannot_be_are_told_before_any_work(suffix, size, told, monkeypatch):
    monkeypatch.setattr(photograph_restoration, "free_memory", lambda device: 5 * 10**9)
    monkeypatch.setattr(Restoration, "restore_in_rows", None)
    with pytest.raises(ValueError, match=told):
        enlarging().restore_for_file(blank(*size), suffix)


def test_large_photographs_are_restored_in_tiles_where_nothing_is_said():
    def sides(height, width, **way):
        seen, restoration = set(), enlarging(1, multiple_of=16, **way)
        restoration = replace(restoration, network=lambda x: seen.add(tuple(x.shape[-2:])) or x)
        assert sum(len(band) for band in restoration.restore(blank(height, width)).bands) == height
        return seen

    assert sides(1024, 1024) == {(1024, 1024)}
    assert sides(1000, 1200) == {(368, 432)}
    assert sides(1000, 1200, tile=2000) == {(1008, 1200)}
    assert enlarging().advise_on_memory(blank(1200, 1000)).endswith("than there is; give --tile 256")


def test_advice_on_memory_is_a_tile_that_fits():
    photograph, tiles = blank(700, 900), []
    for way in ({}, {"tile": "auto"}, {"tile": 200}, {"tile": 60}, {"tile": 40}):
        advice = enlarging(multiple_of=8, **way).advise_on_memory(photograph)
        tiles.append(advice.rpartition("--tile ")[2])
    assert tiles[:4] == ["448", "64", "96", "40"]
    assert tiles[4] == (
        "needs more memory than there is, even in tiles of 40 pixels; give a smaller --tile-overlap, "
        "--precision bf16 or another --device"
    )


@pytest.mark.skipif(sys.platform != "linux", reason="memory of the host is measured on Linux only")
def test_peak_memory_is_at_most_16_bytes_per_pixel_of_the_result():
    cases = ["1.png.8.3", "4.png.8.3", "1.jpg.8.3", "4.jpg.8.3"]
    lines = measure_alone("-m", "tests.inference.restoring_memory", "4", *cases).splitlines()
    taken = dict(line.split() for line in lines)
    assert list(taken) == cases
    assert all(3 < float(each) <= 16 for each in taken.values()), taken
