from __future__ import annotations

import math
import sys
from types import ModuleType

import cv2
import numpy as np
import pytest
import torch
from basicsr.metrics import calculate_metric, calculate_psnr, calculate_ssim
from scipy.ndimage import gaussian_filter, uniform_filter

from semanir_plugin.degradations import compress_jpeg
from semanir_plugin.errors import UserError
from semanir_plugin.metrics import (
    calculate_lpips,
    calculate_psnr_b,
    calculate_psnr_y_matlab,
    calculate_ringing,
    calculate_specks,
    calculate_ssim_rgb3d,
    calculate_ssim_uniform7,
    calculate_ssim_y_matlab,
    lpips,
    matlab_y,
)

NAMES = (
    *("calculate_psnr_b", "calculate_ssim_rgb3d", "calculate_lpips"),
    *("calculate_ssim_uniform7", "calculate_psnr_y_matlab", "calculate_ssim_y_matlab"),
    *("calculate_specks", "calculate_ringing"),
)
LOWER = ("calculate_lpips", "calculate_specks", "calculate_ringing")


class FakeLPIPS(torch.nn.Module):
    """Stands in for the package's network: the mean difference of the reds, in its range of -1 to 1."""

    made: list[str] = []

    def __init__(self, *, net, verbose):
        super().__init__()
        assert not verbose
        self.made.append(net)

    def forward(self, first, second):
        assert first.shape == second.shape
        assert first.shape[:2] == (1, 3)
        assert first.dtype == torch.float32
        assert first.min() >= -1
        assert first.max() <= 1
        return (first - second)[:, :1].mean()[None, None, None, None]


@pytest.fixture
def package(monkeypatch):
    module = ModuleType("lpips")
    module.LPIPS = FakeLPIPS
    monkeypatch.setitem(sys.modules, "lpips", module)
    monkeypatch.setattr(FakeLPIPS, "made", [])
    lpips._load.cache_clear()
    yield module
    lpips._load.cache_clear()


@pytest.fixture
def photo(photos):
    return cv2.imread(str(photos["astronaut.png"]))[:61, :86]


@pytest.fixture
def pair(photo):
    return compress_jpeg(photo, 10), photo


@pytest.mark.usefixtures("package")
@pytest.mark.parametrize("name", NAMES)
def test_images_are_taken_as_basicsr_gives_them(pair, name):
    def measure(img, img2, **options):
        flat = {"tolerance": 40} if name in ("calculate_specks", "calculate_ringing") else {}
        return calculate_metric({"img": img, "img2": img2}, {"type": name, **flat, **options})

    better = "lower" if name in LOWER else "higher"
    value = measure(*pair, crop_border=3, better=better)
    assert measure(*(image[3:-3, 3:-3] for image in pair), crop_border=0) == pytest.approx(value, rel=1e-5) or (
        name == "calculate_psnr_b"  # whose blocks begin elsewhere
    )
    assert measure(*(image.transpose(2, 0, 1) for image in pair), crop_border=3, input_order="CHW") == value
    assert measure(*pair, crop_border=0) != value
    with pytest.raises(ValueError, match=r"differ in shape: \(61, 86, 3\) and \(60, 86, 3\)"):
        measure(pair[0], pair[1][1:], crop_border=0)
    with pytest.raises(ValueError, match="nothing is left of 60 x 86 pixels without 30 at each border"):
        measure(*(image[1:] for image in pair), crop_border=30)
    with pytest.raises(ValueError, match="input_order"):
        measure(*pair, crop_border=0, input_order="WHC")
    with pytest.raises(TypeError, match="crop_boder"):
        measure(*pair, crop_border=0, crop_boder=1)


def psnr_b_by_definition(img, img2, offset=0):
    """The paper's sums, pixel by pixel, of one channel that begins `offset` pixels within a block."""
    img, img2 = img.astype(float), img2.astype(float)
    height, width = img.shape
    across, within = [], []
    for y in range(height):
        for x in range(width):
            for dy, dx in ((0, 1), (1, 0)):
                if y + dy < height and x + dx < width:
                    at_edge = (x + 1 + offset) % 8 == 0 if dx else (y + 1 + offset) % 8 == 0
                    (across if at_edge else within).append((img[y, x] - img[y + dy, x + dx]) ** 2)
    effect = np.mean(across) - np.mean(within)
    effect *= math.log2(8) / math.log2(min(height, width)) if effect > 0 else 0
    return 10 * math.log10(255**2 / (np.mean((img - img2) ** 2) + effect))


@pytest.mark.parametrize("crop_border", [0, 3, 8])
@pytest.mark.parametrize("size", [(61, 86), (56, 40), (40, 61)])
def test_psnr_b_of_gray(pair, crop_border, size):
    images = [image[: size[0], : size[1], 1] for image in (pair[0], pair[1])]
    inner = [image[crop_border : size[0] - crop_border, crop_border : size[1] - crop_border] for image in images]
    value = calculate_psnr_b(*images, crop_border)
    assert value == pytest.approx(psnr_b_by_definition(*inner, crop_border), abs=1e-9)
    assert value < calculate_psnr(*images, crop_border) - 0.2


def test_psnr_b_looks_at_the_restored_image_alone(pair):
    jpeg, photo = pair[0][..., 1], pair[1][..., 1]
    smooth = cv2.GaussianBlur(photo, (0, 0), 2)
    assert calculate_psnr_b(smooth, jpeg, 0) > calculate_psnr_b(jpeg, smooth, 0) + 0.2


def test_psnr_b_of_colours_is_the_mean_of_the_channels(pair):
    each = [psnr_b_by_definition(pair[0][..., channel], pair[1][..., channel]) for channel in range(3)]
    assert calculate_psnr_b(*pair, 0) == pytest.approx(np.mean(each), abs=1e-9)
    with_y = calculate_psnr_b(*pair, 0, test_y_channel=True)
    assert with_y < calculate_psnr(*pair, 0, test_y_channel=True)
    assert abs(with_y - np.mean(each)) > 0.1


@pytest.mark.parametrize("size", [(1, 1), (1, 20), (5, 5), (8, 8)])
def test_psnr_b_of_small_images(size):
    dark, light = np.full(size, 10, np.uint8), np.full(size, 20, np.uint8)
    assert calculate_psnr_b(dark, light, 0) == pytest.approx(calculate_psnr(dark, light, 0))
    assert calculate_psnr_b(dark, dark, 0) == math.inf


@pytest.mark.parametrize(("quality", "psnr_b"), [(10, 25.21), (20, 27.50), (30, 28.94), (40, 29.92)])
def test_psnr_b_has_the_figures_of_the_literature(benchmark_data, quality, psnr_b):
    scores = []
    for path in (benchmark_data / "test" / "classic5").iterdir():
        image = cv2.imread(str(path), cv2.IMREAD_GRAYSCALE)[..., None]
        scores.append(calculate_psnr_b(compress_jpeg(image, quality), image, 0))
    assert np.mean(scores) == pytest.approx(psnr_b, abs=0.01)


def ssim_3d_by_definition(img, img2):
    def average(volume):
        return gaussian_filter(volume, 1.5, mode="nearest", radius=5)

    x, y = img.astype(float), img2.astype(float)
    mean_x, mean_y = average(x), average(y)
    covariance = average(x * y) - mean_x * mean_y
    variances = average(x * x) - mean_x**2 + average(y * y) - mean_y**2
    c1, c2 = 6.5025, 58.5225
    values = (2 * mean_x * mean_y + c1) * (2 * covariance + c2) / ((mean_x**2 + mean_y**2 + c1) * (variances + c2))
    return values.mean()


@pytest.mark.parametrize("size", [(61, 86), (8, 30), (1, 1)])
def test_ssim_of_volumes(pair, size):
    images = [image[: size[0], : size[1]] for image in pair]
    value = calculate_ssim_rgb3d(*images, 0)
    assert value == pytest.approx(ssim_3d_by_definition(*images), abs=1e-9)
    assert calculate_ssim_rgb3d(*(image[..., ::-1] for image in images), 0) == pytest.approx(value, abs=1e-12)
    assert calculate_ssim_rgb3d(images[1], images[1], 0) == pytest.approx(1, abs=1e-12)


def test_ssim_of_volumes_is_another_measure(pair):
    assert abs(calculate_ssim_rgb3d(*pair, 0) - calculate_ssim(*pair, 0)) > 0.01


def test_ssim_of_volumes_needs_colours(pair):
    with pytest.raises(ValueError, match="must have 3 channels, not 1; of gray ones use calculate_ssim"):
        calculate_ssim_rgb3d(pair[0][..., 0], pair[1][..., 0], 0)


def ssim_uniform7_by_definition(img, img2):
    def average(channel):
        return uniform_filter(channel, 7)[3:-3, 3:-3]

    values = []
    for x, y in zip(np.moveaxis(img.astype(float), -1, 0), np.moveaxis(img2.astype(float), -1, 0), strict=True):
        mean_x, mean_y, unbiased = average(x), average(y), 49 / 48
        covariance = unbiased * (average(x * y) - mean_x * mean_y)
        variances = unbiased * (average(x * x) - mean_x**2 + average(y * y) - mean_y**2)
        c1, c2 = 6.5025, 58.5225
        luminance = (2 * mean_x * mean_y + c1) / (mean_x**2 + mean_y**2 + c1)
        values.append((luminance * (2 * covariance + c2) / (variances + c2)).mean())
    return np.mean(values)


@pytest.mark.parametrize("size", [(61, 86), (7, 30)])
def test_ssim_of_uniform_windows(pair, size):
    images = [image[: size[0], : size[1]].astype(float) + 0.25 for image in pair]
    value = calculate_ssim_uniform7(*images, 0)
    assert value == pytest.approx(ssim_uniform7_by_definition(*images), abs=1e-9)


def test_ssim_of_uniform_windows_needs_a_window(pair):
    with pytest.raises(ValueError, match="7 x 7 pixels are needed, got 6 x 80"):
        calculate_ssim_uniform7(*(image[:12] for image in pair), 3)


def test_y_is_matlabs():
    """MATLAB's `rgb2ycbcr` gives, for 8 bit colours, white 235, black 16, and 81, 145, 41 for the primaries."""
    colours = np.array([[255, 255, 255], [0, 0, 0], [0, 0, 255], [0, 255, 0], [255, 0, 0]], np.uint8)
    for colour, y in zip(colours, (235, 16, 81, 145, 41), strict=True):
        image = np.tile(colour, (12, 13, 1))
        assert np.array_equal(np.unique(matlab_y._rounded_y(image.astype(float))), [y])


def test_y_is_rounded_before_it_is_compared(pair, photo):
    y = [16 + image[..., ::-1].astype(float) @ [65.481, 128.553, 24.966] / 255 for image in pair]
    rounded = [np.floor(each + 0.5).astype(np.uint8) for each in y]
    value = calculate_psnr_y_matlab(*pair, 0)
    assert value == pytest.approx(10 * np.log10(255**2 / np.mean((rounded[0] * 1.0 - rounded[1]) ** 2)), abs=1e-9)
    assert value == pytest.approx(calculate_psnr(*pair, 0, test_y_channel=True), abs=0.05)
    assert value != pytest.approx(calculate_psnr(*pair, 0, test_y_channel=True), abs=1e-5)
    assert calculate_ssim_y_matlab(*pair, 0) == pytest.approx(calculate_ssim(*rounded, 0), abs=1e-9)
    nearly = photo + 0.4
    assert calculate_psnr_y_matlab(nearly, photo, 0) == math.inf, "images that are not rounded are"


def is_flat(truth, y, x, distance, tolerance):
    """By definition, at one pixel of (H, W, C)."""
    around = truth[max(y - distance, 0) : y + distance + 1, max(x - distance, 0) : x + distance + 1].astype(float)
    return all(np.ptp(around[..., channel]) <= tolerance for channel in range(truth.shape[2]))


def flat_ground_by_definition(img, img2, distance, beyond, tolerance):
    squares = [
        (img[y, x].astype(float) - img2[y, x]) ** 2
        for y in range(img.shape[0])
        for x in range(img.shape[1])
        if is_flat(img2, y, x, distance, tolerance)
        and not (beyond is not None and is_flat(img2, y, x, beyond, tolerance))
    ]
    return math.sqrt(np.mean(squares))


@pytest.fixture(scope="module")
def page():
    """White, then a shade that differs in one channel alone, with letters; and what a network left of it."""
    truth = np.full((41, 52, 3), 255, np.uint8)
    truth[:, 30:, 0] = 250
    truth[3:8, 5:9] = truth[20:23, 18:24] = 0
    truth[30:, :20] -= np.random.default_rng(1).integers(0, 3, (11, 20, 3), dtype=np.uint8)
    noise = np.random.default_rng(0).normal(0, 6, truth.shape)
    return np.clip(truth + noise, 0, 255).round().astype(np.uint8), truth


@pytest.mark.parametrize("tolerance", [0, 2, 5])
@pytest.mark.parametrize(("distance", "beyond"), [(0, 1), (1, 4), (2, 8), (5, 6)])
def test_flat_ground_is_where_it_is_defined(page, distance, beyond, tolerance):
    specks = calculate_specks(*page, 0, distance=distance, tolerance=tolerance)
    assert specks == pytest.approx(flat_ground_by_definition(*page, distance, None, tolerance), rel=1e-12)
    ringing = calculate_ringing(*page, 0, nearest=distance, farthest=beyond, tolerance=tolerance)
    assert ringing == pytest.approx(flat_ground_by_definition(*page, distance, beyond, tolerance), rel=1e-12)


def test_flat_ground_of_gray_and_of_none(page, photo):
    gray = [image[..., 0] for image in page]
    assert calculate_specks(*gray, 0) == calculate_specks(*(image[..., None] for image in gray), 0) > 0
    assert calculate_specks(page[1], page[1], 0) == 0
    assert math.isnan(calculate_specks(photo, photo, 0, tolerance=0))
    with pytest.raises(ValueError, match="must be at least 0, not -1 and 2"):
        calculate_specks(*page, 0, distance=-1)
    with pytest.raises(ValueError, match="farthest must be more than nearest, which is 8, not 8"):
        calculate_ringing(*page, 0, nearest=8)


@pytest.mark.usefixtures("package")
def test_lpips_gets_rgb_in_its_range():
    dark, light = np.zeros((20, 20, 3), np.uint8), np.zeros((20, 20, 3), np.uint8)
    light[..., 2] = 255
    assert calculate_lpips(light, dark, 0) == pytest.approx(2)
    assert calculate_lpips(light[..., 2], dark[..., 2], 0) == pytest.approx(2)
    assert calculate_lpips(light[..., ::-1], dark, 0) == 0
    assert FakeLPIPS.made == ["alex"]
    calculate_lpips(light, dark, 0, net="vgg")
    assert FakeLPIPS.made == ["alex", "vgg"]


def test_lpips_without_its_package(monkeypatch, pair):
    monkeypatch.setitem(sys.modules, "lpips", None)
    lpips._load.cache_clear()
    with pytest.raises(UserError, match=r"needs the package lpips: pip install 'semanir_plugin\[lpips\]'"):
        calculate_lpips(*pair, 0)


def test_lpips_without_weights(package, monkeypatch, pair, tmp_path):
    def ask_torch(net, **_):
        torch.hub.load_state_dict_from_url(f"https://localhost.invalid/{net}.pth", model_dir=str(tmp_path))

    monkeypatch.setattr(package, "LPIPS", ask_torch)
    with pytest.raises(UserError, match=r"alex\.pth is missing and cannot be downloaded"):
        calculate_lpips(*pair, 0)
