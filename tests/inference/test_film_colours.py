"""Y'CbCr and RGB: known values, and there and back."""

from __future__ import annotations

import numpy as np
import pytest

from semanir_plugin.inference.films.colours import WEIGHTS, Coding, guess_matrix, to_planes, to_rgb

RED, WHITE, BLACK, GRAY = ([65535, 0, 0], [65535] * 3, [0, 0, 0], [32768] * 3)


def coding(**others):
    return Coding(**{"matrix": 1, "full": False, "depth": 8, "across": 1, "down": 1, **others})


def pixel(colour, height=2, width=2):
    return np.tile(np.array(colour, np.uint16), (height, width, 1))


# As tables of BT.709, BT.601 and JFIF have them.
@pytest.mark.parametrize(
    ("how", "colour", "expected"),
    [
        (coding(), RED, (63, 102, 240)),
        (coding(matrix=6), RED, (81, 90, 240)),
        (coding(matrix=6, full=True), RED, (76, 85, 255)),
        (coding(), WHITE, (235, 128, 128)),
        (coding(full=True), WHITE, (255, 128, 128)),
        (coding(), BLACK, (16, 128, 128)),
        (coding(depth=10), WHITE, (940, 512, 512)),
        (coding(depth=10, matrix=9), RED, (294, 387, 960)),
        (coding(), GRAY, (126, 128, 128)),
    ],
)
def test_known_values(how, colour, expected):
    planes = to_planes(pixel(colour), how)
    assert tuple(int(plane[0, 0]) for plane in planes) == expected
    assert np.abs(to_rgb(planes, how).astype(int) - colour).max() < 500


@pytest.mark.parametrize("matrix", WEIGHTS)
@pytest.mark.parametrize("full", [False, True])
def test_there_and_back_loses_what_rounding_does(matrix, full):
    pixels = np.random.default_rng(0).integers(0, 65536, (16, 18, 3), dtype=np.uint16)
    how = coding(matrix=matrix, full=full, depth=10)
    assert np.abs(to_rgb(to_planes(pixels, how), how).astype(int) - pixels).max() < 160


@pytest.mark.parametrize("full", [False, True])
@pytest.mark.parametrize(("across", "down"), [(2, 2), (2, 1)])
def test_fewer_colours_stay_where_they_are(across, down, full):
    y, x = np.mgrid[:32, :40]
    smooth = np.stack([np.sin(x / 8), np.cos(y / 7), np.sin((x + y) / 9)], axis=2)
    pixels = np.round(32768 + 20000 * smooth).astype(np.uint16)
    how = coding(across=across, down=down, full=full, depth=10)
    planes = to_planes(pixels, how)
    assert [plane.shape for plane in planes] == [(32, 40), *[(32 // down, 40 // across)] * 2]
    inner = np.s_[4:-4, 4:-4]
    back = to_rgb(planes, how).astype(int)
    assert np.abs(back - pixels)[inner].max() < 400, "a shift by half a pixel makes 1,250"
    again = to_planes(to_rgb(planes, how), how)
    assert max(np.abs(one.astype(int) - other)[inner].max() for one, other in zip(planes, again, strict=True)) <= 2


def test_of_odd_sizes_the_last_colours_are_shared():
    how = coding(across=2, down=2, full=True)
    planes = to_planes(pixel(RED, 5, 7), how)
    assert planes[1].shape == (3, 4)
    assert to_rgb(planes, how).shape == (5, 7, 3)


def test_gray_has_no_colours():
    planes = to_planes(np.full((4, 4, 1), 30000, np.uint16), coding(across=2, down=2))
    assert {int(each) for plane in planes[1:] for each in plane.flat} == {128}


def test_what_is_not_told_is_guessed_by_size():
    assert (guess_matrix(720, 576), guess_matrix(1280, 720), guess_matrix(1920, 480)) == (6, 1, 1)
