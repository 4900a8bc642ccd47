from __future__ import annotations

import random

import cv2
import numpy as np
import pytest
from basicsr.data import build_dataset

from semanir_plugin.basicsr_host.scoring import PROTOCOLS
from semanir_plugin.degradations import downsample_bicubic

STAGES = {"only": {}}
NOTHING = {"blur_prob": 0, "noise_prob": 0, "compression_prob": 0}
TRAIN = {"phase": "train", "gt_size": 32, "use_hflip": True, "use_rot": True}


@pytest.fixture
def build(tmp_path, photos):
    for name, image in photos.items():
        cv2.imwrite(str(tmp_path / name), cv2.imread(str(image))[40:105, 100:167])

    def build(scale=4, stages=STAGES, **options):
        opt = {
            "name": "real",
            "type": "RealWorldDataset",
            "phase": "val",
            "scale": scale,
            "stages": stages,
        }
        return build_dataset({**opt, "dataroot_gt": str(tmp_path), "io_backend": {"type": "disk"}, **options})

    return build


def image(tensor):
    return tensor.numpy()[::-1].transpose(1, 2, 0)


def test_scored_images_are_cropped_and_damaged_each_in_its_own_way(build):
    dataset = build()
    samples = [dataset[index] for index in range(len(dataset))]
    for sample in samples:
        assert sample["gt"].shape == (3, 64, 64)
        assert sample["lq"].shape == (3, 16, 16)
        assert np.abs(image(sample["lq"]) - downsample_bicubic(image(sample["gt"]), 4) / 255).max() > 0.01
    assert dataset.truth_size(dataset.opt, (67, 65)) == (64, 64)
    assert np.array_equal(dataset[0]["lq"], samples[0]["lq"])
    assert not np.array_equal(build(seed=1)[0]["lq"], samples[0]["lq"])


def test_without_stages_images_are_scored_as_by_the_protocol(build):
    sample, protocol = build(2, stages=None)[1], PROTOCOLS["sr_real_rgb"]
    truth = protocol.make_truth(image(sample["gt"]), 2)
    np.testing.assert_array_equal(protocol.degrade(truth, 2), image(sample["lq"]))


def test_clean_patches_are_reduced_by_bicubic_alone(build):
    for scale in (1, 4):
        dataset = build(scale, clean_prob=1, drawing_prob=0, **TRAIN)
        random.seed(0)
        sample = dataset[0]
        gt = image(sample["gt"])
        expected = gt if scale == 1 else downsample_bicubic(gt, scale) / np.float32(255)
        np.testing.assert_allclose(image(sample["lq"]), expected, atol=1e-6)


def test_drawings_take_the_place_of_photographs(build):
    random.seed(0)
    shares = {share: [build(drawing_prob=share, **TRAIN)[0]["gt"] for _ in range(12)] for share in (0, 1)}
    flat = {
        share: np.mean([(each.diff(dim=-1) == 0).double().mean() for each in each]) for share, each in shares.items()
    }
    assert flat[1] > 0.4 > 0.15 > flat[0]
    assert all(each.shape == (3, 32, 32) for each in shares[1])


def test_shares_are_kept(build):
    dataset = build(1, {"s": NOTHING | {"noise_prob": 1}}, clean_prob=0.25, drawing_prob=0, **TRAIN)
    random.seed(0)
    clean = [bool((sample["lq"] == sample["gt"]).all()) for sample in (dataset[0] for _ in range(200))]
    assert 0.17 < np.mean(clean) < 0.33
