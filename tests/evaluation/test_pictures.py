from __future__ import annotations

import numpy as np
import skimage.data

from semanir_plugin.evaluation.pictures import Comparison, compare_crops, most_detailed_crop


def test_the_most_detailed_crop_is_where_the_detail_is():
    image = np.zeros((90, 140, 3), np.uint8)
    image[40:60, 100:120] = np.random.default_rng(0).integers(0, 255, (20, 20, 3))
    assert most_detailed_crop(image, 22) == (39, 99)


def test_every_version_shows_the_same_place():
    photo = skimage.data.astronaut()[:120, :160]
    picture = compare_crops(
        [Comparison("astronaut", photo, {"same": photo, "small": photo[::4, ::4]})], crop=40, zoom=4
    )
    whole, same, small = (np.asarray(picture).astype(int)[32 : 32 + 160, left : left + 160] for left in (12, 237, 409))
    top, left = most_detailed_crop(photo, 40)
    expected = photo[top : top + 40, left : left + 40].repeat(4, 0).repeat(4, 1)
    assert np.array_equal(same, expected)
    assert np.abs(small - expected).mean() < 40
    assert not np.array_equal(whole, same)


def test_small_photographs_are_shown_whole():
    photo = np.random.default_rng(0).integers(0, 255, (30, 50, 3), dtype=np.uint8)
    assert compare_crops([Comparison("small", photo, {"same": photo})], crop=72).width > 0
