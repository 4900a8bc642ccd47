"""The scores of degraded inputs that the field's protocols give, by the datasets as they are validated on."""

from __future__ import annotations

import numpy as np
import pytest
from basicsr.data import build_dataset
from basicsr.metrics import calculate_psnr
from basicsr.utils import tensor2img


@pytest.fixture
def score(benchmark_data):
    def score(name, crop_border=0, test_y_channel=False, **options):
        """Return the mean PSNR of the inputs, clipped and rounded to 8 bit as any image that is scored."""
        opt = {"name": name, "phase": "test", "dataroot_gt": str(benchmark_data / "test" / name)}
        dataset = build_dataset({**opt, "io_backend": {"type": "disk"}, **options})
        pairs = ([tensor2img([dataset[index][key]]) for key in ("lq", "gt")] for index in range(len(dataset)))
        return np.mean([calculate_psnr(*pair, crop_border, test_y_channel=test_y_channel) for pair in pairs])

    return score


@pytest.mark.parametrize(("quality", "psnr"), [(10, 27.82), (20, 30.12), (30, 31.48), (40, 32.43)])
def test_gray_jpeg(score, quality, psnr):
    assert score("classic5", type="JPEGDataset", quality=quality, num_channels=1) == pytest.approx(psnr, abs=0.02)


@pytest.mark.parametrize(("crop_border", "psnr"), [(10, 34.43), (0, 34.46)])
def test_malvars_demosaicking(score, crop_border, psnr):
    assert score("McMaster", crop_border, type="DemosaicDataset") == pytest.approx(psnr, abs=0.05)


@pytest.mark.parametrize(("name", "channels"), [("Set12", 1), ("Set5", 3), ("McMaster", 3)])
def test_noise_that_is_not_clipped(benchmark_data, name, channels):
    """20 log10(255 / 25) = 20.17, give or take what one realisation per image size leaves of the mean."""
    opt = {"name": name, "phase": "test", "dataroot_gt": str(benchmark_data / "test" / name), "sigma": 25}
    dataset = build_dataset(
        {**opt, "type": "GaussianNoiseDataset", "io_backend": {"type": "disk"}, "num_channels": channels}
    )
    samples = [dataset[index] for index in range(len(dataset))]
    psnr = [-10 * np.log10((sample["lq"] - sample["gt"]).square().mean().item()) for sample in samples]
    assert np.mean(psnr) == pytest.approx(20.17, abs=0.04)


@pytest.mark.parametrize(("scale", "psnr"), [(2, 33.68), (4, 28.43)])
def test_bicubic(benchmark_data, scale, psnr):
    """The LR brought back by MATLAB's bicubic; Y channel, `scale` border pixels cropped."""
    from basicsr.utils.matlab_functions import imresize

    opt = {"name": "Set5", "phase": "test", "dataroot_gt": str(benchmark_data / "test" / "Set5"), "scale": scale}
    dataset = build_dataset({**opt, "type": "BicubicSRDataset", "io_backend": {"type": "disk"}})
    scores = []
    for index in range(len(dataset)):
        sample = dataset[index]
        pair = (tensor2img([image]) for image in (imresize(sample["lq"], scale), sample["gt"]))
        scores.append(calculate_psnr(*pair, scale, test_y_channel=True))
    assert np.mean(scores) == pytest.approx(psnr, abs=0.02)
