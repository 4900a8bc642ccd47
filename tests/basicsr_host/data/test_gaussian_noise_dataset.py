from __future__ import annotations

import cv2
import numpy as np
import pytest

from semanir_plugin.basicsr_host.data import GaussianNoiseDataset
from semanir_plugin.basicsr_host.data.guarded_dataset import GuardedDataset
from semanir_plugin.basicsr_host.data.sampler import SeededIndex


@pytest.fixture
def build(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (40, 30, 3), dtype=np.uint8)
    pixels[0, 0] = 0
    for name in ("a", "b"):
        cv2.imwrite(str(tmp_path / f"{name}.png"), pixels)

    def build(**options):
        opt = {"name": "x", "phase": "val", "dataroot_gt": str(tmp_path), "io_backend": {"type": "disk"}, **options}
        return GaussianNoiseDataset(opt)

    return build


def noise(sample):
    return (sample["lq"] - sample["gt"]).numpy()


def sample_noise(seed, shape):
    np.random.seed(seed)
    return np.random.normal(0, 25 / 255, shape)


def test_every_image_is_scored_on_the_same_realisation(build):
    dataset = build(sigma=25)
    expected = sample_noise(0, (40, 30, 3))[..., ::-1].transpose(2, 0, 1)  # drawn for BGR, the tensor is RGB
    for index in range(2):
        np.testing.assert_allclose(noise(dataset[index]), expected, atol=1e-6)


@pytest.mark.parametrize(
    ("options", "seed", "step"), [({"noise_order": "rgb"}, 0, 1), ({"noise_seed": 7}, 7, -1)], ids=str
)
def test_other_realisations(build, options, seed, step):
    expected = sample_noise(seed, (40, 30, 3))[..., ::step].transpose(2, 0, 1)
    np.testing.assert_allclose(noise(build(sigma=25, **options)[0]), expected, atol=1e-6)


def test_noise_as_files_have_it(build):
    plain, rounded = (build(sigma=50, rounded=each)[0] for each in (False, True))
    expected = (plain["lq"] * 255).round().clamp(0, 255)
    np.testing.assert_allclose(rounded["lq"] * 255, expected, atol=1e-4)
    assert (plain["lq"] < 0).any()


def test_gray(build):
    dataset = build(sigma=25, num_channels=1)
    np.testing.assert_allclose(noise(dataset[0])[0], sample_noise(0, (40, 30, 1))[..., 0], atol=1e-6)
    assert dataset[0]["gt"][0, 0, 0] == 0, "luma, not the Y of YCbCr, in which black is 16"


def train(build, sigma):
    options = {"phase": "train", "gt_size": 24, "use_hflip": False, "use_rot": False}
    dataset = GuardedDataset(build(sigma=sigma, **options))
    return [noise(dataset[SeededIndex(0, seed)]) for seed in range(60)]


def test_training_draws_strength_and_noise_for_each_patch(build):
    patches = train(build, [5, 50])
    strengths = np.array([255 * each.std() for each in patches])
    assert 4 < strengths.min() < 15
    assert 40 < strengths.max() < 53
    assert strengths.mean() == pytest.approx(27.5, abs=5)
    fixed = train(build, 15)
    assert all(255 * each.std() == pytest.approx(15, rel=0.1) for each in fixed)
    assert not np.allclose(fixed[0], fixed[1], atol=1e-3)
