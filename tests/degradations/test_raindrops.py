from __future__ import annotations

import cv2
import numpy as np
import pytest

from semanir_plugin.degradations import add_raindrops, raindrops


@pytest.fixture(scope="module")
def photo(photos):
    return cv2.imread(str(photos["coffee.png"]))[:192, :256].astype(np.float32) / 255


@pytest.mark.parametrize("shape", [(60, 90, 3), (41, 7, 1), (1, 1, 3)])
def test_form_range_and_seed(shape):
    clean = np.random.default_rng(0).random(shape, dtype=np.float32)
    kept = clean.copy()
    wet = add_raindrops(clean, 400, seed=3)
    assert np.array_equal(clean, kept)
    assert wet.shape == shape
    assert wet.dtype == np.float32
    assert wet.min() >= 0
    assert wet.max() <= 1
    assert np.array_equal(wet, add_raindrops(clean, 400, seed=3))
    assert not np.array_equal(wet, add_raindrops(clean, 400, seed=4))


def test_outside_of_the_drops_nothing_changes_to_the_bit(photo):
    wet = add_raindrops(photo, 20, seed=0)
    dry = (wet == photo).all(2)
    assert 0.6 < dry.mean() < 0.98
    assert np.abs(wet - photo).mean(2)[~dry].mean() > 0.02
    assert np.array_equal(add_raindrops(photo, 0, seed=0), photo)


@pytest.mark.parametrize("size", [(4.0, 6.0), (40.0, 40.0), (12.0, 12.0)])
def test_drops_are_as_large_and_as_many_as_asked(size, monkeypatch):
    monkeypatch.setattr(raindrops, "RIM", (-0.5, -0.5))
    gray = np.full((512, 512, 1), 0.5, np.float32)
    covered = np.mean([(add_raindrops(gray, 10, seed=seed, size=size) != gray).mean() for seed in range(8)])
    across = np.mean(np.square(size))
    expected = 10 / 256**2 * np.pi / 4 * across * np.mean(raindrops.LENGTHENING)
    assert covered == pytest.approx(expected, rel=0.3)


@pytest.fixture
def lone_drop(monkeypatch):
    """Lay a drop in the middle of an image, round and plain but for what is given."""

    def lay(image, **changes):
        height, width = image.shape[:2]
        plain = {"x": width / 2, "y": height / 2, "radius": 20.0, "strength": 1.0, "softness": 0.2, "shrinking": 4.0}
        plain |= {"rim": 0.0, "lengthening": 1.0, "roughness": np.zeros(3), "phases": np.zeros(3)}
        drop = raindrops._Drop(**(plain | changes))
        monkeypatch.setattr(raindrops, "_draw_drops", lambda *_: [drop])
        return add_raindrops(image, 1, seed=0)

    return lay


def test_a_drop_shows_more_of_the_scene_and_upside_down(lone_drop):
    scene = np.zeros((200, 200, 3), np.float32)
    scene[:90, :, 0] = 1  # above and
    scene[:, :60, 2] = 1  # to the left, beyond the drop
    wet = lone_drop(scene)
    assert wet[105:112, 100, 0].min() > 0.9, "what is above is below the middle of the drop"
    assert wet[90:95, 100, 0].max() < 0.1
    assert wet[100, 112:115, 2].min() > 0.9, "what is beyond the left is on the right"
    assert wet[100, 85:105, 2].max() < 0.1


def test_the_scene_in_a_drop_is_out_of_focus(lone_drop):
    stripes = np.tile(np.float32([0, 0, 1, 1]), (100, 25))[..., None]
    inside = lone_drop(stripes)[45:55, 45:55]
    assert inside.std() < 0.1
    assert inside.mean() == pytest.approx(0.5, abs=0.05)


@pytest.mark.parametrize(("rim", "darker"), [(-0.5, True), (0.4, False)])
def test_a_drop_changes_light_towards_its_rim_and_fades_at_its_edge(lone_drop, rim, darker):
    gray = np.full((80, 80, 1), 0.5, np.float32)
    row = lone_drop(gray, rim=rim, softness=0.3)[40, 40:, 0] - 0.5
    assert abs(row[0]) < 0.01
    assert (row[13] < -0.07) if darker else (row[13] > 0.07)
    assert np.abs(np.diff(row)).max() < 0.08, "no step where it ends"
    assert not row[20:].any()


def test_strength_is_the_share_of_light_that_comes_through(lone_drop):
    scene = np.zeros((80, 80, 1), np.float32)
    scene[35:45, 35:45] = 1
    full, half = (1 - lone_drop(scene, strength=share, shrinking=8.0)[38:42, 38:42] for share in (1.0, 0.5))
    np.testing.assert_allclose(half, full / 2, atol=1e-6)


def test_the_roughest_drops_have_no_cut_edges(monkeypatch):
    monkeypatch.setattr(raindrops, "ROUGHNESS", (0.12, 0.12))
    monkeypatch.setattr(raindrops, "LENGTHENING", (1.3, 1.3))
    covered, distances = raindrops._covered, []

    def watch(drop, distance):
        distances.append(distance)
        return covered(drop, distance)

    monkeypatch.setattr(raindrops, "_covered", watch)
    add_raindrops(np.zeros((300, 300, 1), np.float32), 30, seed=0)
    for distance in distances:
        if distance.shape[0] == distance.shape[1]:  # nothing of it is beyond the image's border
            assert np.concatenate([distance[0], distance[-1], distance[:, 0], distance[:, -1]]).min() > 1
