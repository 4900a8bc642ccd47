from __future__ import annotations

import cv2
import numpy as np
import pytest

from semanir_plugin.basicsr_host.data import JPEGDataset
from semanir_plugin.basicsr_host.data.guarded_dataset import GuardedDataset
from semanir_plugin.basicsr_host.data.sampler import SeededIndex
from semanir_plugin.degradations import compress_jpeg
from semanir_plugin.pixels import to_uint8


@pytest.fixture
def build(tmp_path, photos):
    def build(pixels=None, **options):
        pixels = cv2.imread(str(photos["coffee.png"]))[:61, :86] if pixels is None else pixels
        cv2.imwrite(str(tmp_path / "a.png"), pixels)
        opt = {"name": "x", "phase": "val", "dataroot_gt": str(tmp_path), "io_backend": {"type": "disk"}, **options}
        return JPEGDataset(opt)

    return build


def to_bgr(tensor):
    return to_uint8(tensor.numpy().transpose(1, 2, 0)[..., ::-1])


@pytest.mark.parametrize("channels", [1, 3])
def test_the_input_is_the_jpeg_of_the_ground_truth(build, channels):
    sample = build(quality=10, num_channels=channels)[0]
    np.testing.assert_array_equal(to_bgr(sample["lq"]), compress_jpeg(to_bgr(sample["gt"]), 10))


def test_gray_is_the_y_of_8_bit(build):
    gt = 255 * build(quality=10, num_channels=1)[0]["gt"].numpy()
    np.testing.assert_allclose(gt, gt.round(), atol=1e-4)
    assert 16 <= gt.min() < gt.max() <= 235


def test_16_bit_is_rounded_before(build):
    pixels = np.random.default_rng(0).integers(0, 65536, (16, 16, 3), dtype=np.uint16)
    sample = build(pixels, quality=10)[0]
    np.testing.assert_allclose(
        255 * sample["gt"].numpy().transpose(1, 2, 0)[..., ::-1], np.round(pixels / 257), atol=1e-4
    )
    np.testing.assert_array_equal(to_bgr(sample["lq"]), compress_jpeg(to_bgr(sample["gt"]), 10))


def test_training_draws_the_quality_for_each_patch(build):
    options = {"phase": "train", "gt_size": 32, "use_hflip": True, "use_rot": True}
    dataset = GuardedDataset(build(quality=[10, 12], **options))
    found = set()
    for seed in range(20):
        sample = dataset[SeededIndex(0, seed)]
        gt, lq = to_bgr(sample["gt"]), to_bgr(sample["lq"])
        found |= {quality for quality in range(5, 20) if np.array_equal(compress_jpeg(gt, quality), lq)}
    assert found == {10, 11, 12}
