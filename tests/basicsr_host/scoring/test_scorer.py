"""What `val.metrics` asks for, and what goes with it."""

from __future__ import annotations

import warnings

import cv2
import numpy as np
import pytest
import torch
from basicsr.metrics import calculate_metric
from basicsr.utils import tensor2img
from basicsr.utils.registry import DATASET_REGISTRY

from semanir_plugin.basicsr_host.scoring import PROTOCOLS, Scorer, dataset_problems, protocol_problems, split_metrics

PSNR = {"type": "calculate_psnr", "crop_border": 3}
SSIM = {"type": "calculate_ssim", "crop_border": 3}
NIQE = {"type": "calculate_niqe", "crop_border": 3, "better": "lower"}


def scorer(metrics, scale=1):
    return Scorer.from_options({"val": {"metrics": metrics}, "scale": scale})


@pytest.mark.parametrize(
    ("metrics", "split"),
    [
        (None, (None, {})),
        ("derain_y", ("derain_y", {})),
        ({"psnr": PSNR, "ssim": None, "protocol": None}, (None, {"psnr": PSNR})),
        ({"niqe": NIQE, "protocol": "derain_y"}, ("derain_y", {"niqe": NIQE})),
        ({"protocol": PSNR}, (None, {"protocol": PSNR})),
    ],
    ids=str,
)
def test_metrics_are_a_protocol_blocks_or_both(metrics, split):
    assert split_metrics(metrics) == split


def test_a_protocol_comes_first_and_the_first_psnr_decides():
    both = scorer({"niqe": NIQE, "mine": PSNR, "protocol": "jpeg_color"})
    assert both.names == ("psnr", "ssim", "psnr_b", "psnr_y", "ssim_y", "niqe", "mine")
    assert both.first_psnr == "psnr"
    assert [both.better(name) for name in ("psnr_b", "niqe", "mine")] == ["higher", "lower", "higher"]
    assert both.with_reference == ("psnr", "ssim", "psnr_b", "psnr_y", "ssim_y", "mine")
    assert scorer({"niqe": NIQE, "mine": PSNR}).first_psnr == "mine"
    assert scorer({"niqe": NIQE}).first_psnr is None
    assert Scorer.from_options({}).names == ()


def test_blocks_are_scored_as_basicsr_does():
    output, truth = torch.rand(1, 3, 120, 210) * 1.2 - 0.1, torch.rand(1, 3, 120, 210)
    images = {"img": tensor2img([output]), "img2": tensor2img([truth])}
    blocks = {"psnr": PSNR, "ssim": SSIM, "niqe": NIQE}
    assert scorer(blocks).score(output, truth) == {
        name: calculate_metric(images, each) for name, each in blocks.items()
    }
    assert scorer({"niqe": NIQE}).score(output, None).keys() == {"niqe"}


def test_the_mean_of_blocks_is_basicsrs_and_of_a_protocol_exact():
    values = [1e16, 1.0, 1.0]
    both = scorer({"protocol": "derain_y", "mine": PSNR})
    means = both.mean([{"psnr": value, "ssim": 0.5, "mine": value} for value in values])
    assert means == {"psnr": (1e16 + 2) / 3, "ssim": 0.5, "mine": 1e16 / 3}


def test_gray_images_for_a_protocol_of_colours():
    with pytest.raises(ValueError, match="derain_y scores images of 3 channels, not 1"):
        scorer("derain_y").score(torch.rand(1, 1, 20, 20), torch.rand(1, 1, 20, 20))


@pytest.mark.parametrize(
    ("block", "least"), [(PSNR, (7, 7)), (SSIM, (17, 17)), (NIQE, (102, 198)), (NIQE, (198, 102))], ids=str
)
def test_smaller_images_than_are_let_pass_have_no_score(block, least):
    """NIQE's least is two blocks of 96, side by side or one on the other."""
    image = cv2.GaussianBlur(np.random.default_rng(0).integers(0, 256, (300, 300, 3)).astype(np.float32), (0, 0), 1)
    for height, width in (least, (least[0] - 1, least[1]), (least[0], least[1] - 1)):
        images = {"img": image[:height, :width], "img2": image[:height, :width] + 1}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                score = calculate_metric(images, block)
            except (cv2.error, np.linalg.LinAlgError, RuntimeError):
                score = np.nan
        problem = scorer({"x": block}).problem_of_size(width, height)
        assert np.isfinite(score) == (problem is None) == ((height, width) == least)
    assert problem.startswith(f"is too small for {block['type']}: ")


def test_sizes_that_a_protocol_scores():
    sizes = {"sr_y_crop": (64, 92), "basicsr_rgb_mod12": (60, 84)}
    for name, (height, width) in sizes.items():
        assert scorer(name, 4).problem_of_size(width, height) is None
        assert f"of which the protocol {name} scores {width}x{height}" in scorer(name, 4).problem_of_size(
            width + 1, height
        )
    small = "is too small for the protocol demosaicking_crop10: both sides need 31 pixels; take it out"
    assert scorer("demosaicking_crop10").problem_of_size(30, 40) == small


@pytest.mark.parametrize(
    ("name", "scale", "blocks", "told"),
    [
        ("sr_y_crop", 1, (), "the protocol sr_y_crop needs a scale above 1"),
        ("derain_y", 2, (), "the protocol derain_y has images of one size: remove scale 2"),
        ("derain_y", 1, ("niqe", "ssim"), "ssim is a metric of the protocol derain_y too: rename yours"),
        ("derain_y", 1, ("niqe",), None),
    ],
)
def test_what_goes_with_a_protocol(name, scale, blocks, told):
    assert list(protocol_problems(PROTOCOLS[name], scale, blocks)) == ([told] if told else [])


@pytest.mark.parametrize(
    ("name", "dataset", "options", "told"),
    [
        ("derain_y", "PairedImageDataset", {}, None),
        ("derain_y", "PairedImageDataset", {"color": "y"}, "color changes the ground truths that derain_y-v1 scores"),
        ("derain_y", "PairedImageDataset", {"mean": [0.5]}, "mean changes the ground truths"),
        (
            "jpeg_gray",
            "PairedImageDataset",
            {"color": "y"},
            "does not read gray images as jpeg_gray-v1 does: take JPEG",
        ),
        ("derain_y", "JPEGDataset", {}, "JPEGDataset does not make what derain_y-v1 scores: take PairedImageDataset"),
        ("jpeg_color", "DemosaicDataset", {}, "take JPEGDataset or PairedImageDataset"),
        ("jpeg_gray", "JPEGDataset", {"num_channels": 1}, None),
        ("jpeg_gray", "JPEGDataset", {}, "the protocol jpeg_gray-v1 needs num_channels: 1"),
        ("denoising_color_bgr", "GaussianNoiseDataset", {}, None),
        ("denoising_color_rgb", "GaussianNoiseDataset", {}, "denoising_color_rgb-v1 needs noise_order: rgb"),
        ("denoising_color_bgr", "GaussianNoiseDataset", {"noise_seed": 1}, "needs noise_seed: 0"),
        ("sr_y_crop", "BicubicSRDataset", {"bicubic": None}, None),
        ("sr_y_crop@1", "BicubicSRDataset", {}, "the protocol sr_y_crop-v1 needs bicubic: basicsr"),
        ("sr_y_crop", "BicubicSRDataset", {"multiple_of": 12}, "needs multiple_of: 1"),
        ("basicsr_rgb_mod12", "BicubicSRDataset", {"bicubic": "basicsr"}, "needs multiple_of: 12"),
        ("demosaicking_full", "DemosaicDataset", {}, None),
        ("drawn_rgb", "MixedDegradationDataset", {"degradations": {"rain": {"amount": 2}}, "seed": 3}, None),
        ("drawn_rgb", "JPEGDataset", {}, "JPEGDataset does not make what drawn_rgb-v1 scores: take MixedDegradation"),
        ("sr_y_crop", "FFHQDataset", {}, None),
    ],
)
def test_what_a_dataset_must_give(name, dataset, options, told):
    problems = list(dataset_problems(PROTOCOLS[name], DATASET_REGISTRY.get(dataset), options))
    assert bool(problems) == (told is not None)
    for key, problem in problems[:1]:
        assert told in problem
        assert key == "type" or key in problem
