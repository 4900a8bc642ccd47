"""Files that are not the 8-bit colour PNG that a network was made for, through the command's own entry."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
import yaml

from semanir_plugin.cli import main
from tests.conftest import TINY_NETWORK

NETWORK = {"type": "SemanIR", "upscale": 2, "upsampler": "pixelshuffledirect", **TINY_NETWORK}
METRICS = {"psnr": {"type": "calculate_psnr", "crop_border": 0}}


@pytest.fixture(autouse=True)
def _in_tmp_path(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


@pytest.fixture(scope="module")
def photo(photos):
    """(26, 34, 3), 8 bit, with even values."""
    return cv2.imread(str(photos["astronaut.png"]))[100:126, 200:234] // 2 * 2


def run(lq, *, gt=None, in_chans=3, metrics=None, **dataset):
    """Restore `lq` by an untrained network."""
    Path("lq").mkdir()
    cv2.imwrite("lq/odd.png", lq)
    data = {"name": "set", "type": "SingleImageDataset", "dataroot_lq": "lq", **dataset}
    if gt is not None:
        Path("gt").mkdir()
        cv2.imwrite("gt/odd.png", gt)
        data |= {"type": "PairedImageDataset", "dataroot_gt": "gt"}
    opt = {
        **{"name": "x", "model_type": "SemanIRModel", "scale": 2, "num_gpu": 0, "manual_seed": 1},
        **{"datasets": {"test_1": data}, "network_g": {**NETWORK, "in_chans": in_chans}},
        "val": {"save_img": True, "metrics": metrics},
    }
    Path("x.yml").write_text(yaml.safe_dump(opt))
    return main(["test", "-opt", "x.yml"])


def restored():
    return cv2.imread("results/x/visualization/set/odd_x.png", cv2.IMREAD_UNCHANGED)


@pytest.fixture(scope="module")
def expected(photo, tmp_path_factory):
    """Return the restored photograph, given as 8-bit colour PNG."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("plain"))
        assert run(photo) == 0
        return restored()


@pytest.mark.parametrize("kind", ["alpha", "16 bit"])
def test_what_holds_the_same_colours_is_restored_alike(photo, expected, kind):
    alpha = np.dstack([photo, np.arange(34, dtype=np.uint8) * np.ones((26, 1), np.uint8)])
    assert run({"alpha": alpha, "16 bit": photo.astype(np.uint16) * 257}[kind]) == 0
    np.testing.assert_array_equal(restored(), expected)
    assert expected.std() > 5


def test_a_gray_file_for_a_colour_network_is_a_gray_picture(photo):
    gray = cv2.cvtColor(photo, cv2.COLOR_BGR2GRAY)
    assert run(gray) == 0
    assert restored().shape == (52, 68, 3)
    from_gray = restored()
    Path("lq/odd.png").unlink()
    Path("lq").rmdir()
    assert run(cv2.cvtColor(gray, cv2.COLOR_GRAY2BGR)) == 0
    np.testing.assert_array_equal(restored(), from_gray)


def test_a_colour_file_for_a_gray_network(photo, capsys):
    assert run(photo, in_chans=1) == 2
    line = capsys.readouterr().err.splitlines()[-1]
    cure = "it takes 1 channels, not 3; set num_channels: 1 or color: y in the dataset, or make network_g a colour one"
    assert line == f"basicsr test: network_g cannot restore an LQ image of 3 x 26 x 34, of lq/odd.png: {cure}"
    assert not Path("results").exists()


def test_a_gray_file_for_a_gray_network(photo, capsys):
    gray = cv2.cvtColor(photo, cv2.COLOR_BGR2GRAY)
    assert run(gray, gt=cv2.resize(gray, None, fx=2, fy=2), in_chans=1, metrics=METRICS, color="y") == 0
    assert restored().shape == (52, 68)
    assert "psnr" in Path("results/x/metrics.json").read_text()


def test_luma_for_a_colour_network(photo, capsys):
    assert run(photo, gt=cv2.resize(photo, None, fx=2, fy=2), color="y") == 2
    line = capsys.readouterr().err.splitlines()[-1]
    assert "network_g cannot restore an LQ image of 1 x 26 x 34, of lq/odd.png: it takes 3 channels, not 1" in line
    assert line.endswith("set num_channels: 3 or remove color: y in the dataset, or make network_g a gray one")
    assert not Path("results").exists()


def test_an_image_smaller_than_a_window(photo):
    assert run(photo[:7, :5], gt=cv2.resize(photo[:7, :5], None, fx=2, fy=2), metrics=METRICS) == 0
    assert restored().shape == (14, 10, 3)


def test_an_image_too_small_to_be_scored(photo, capsys):
    metrics = {"ssim": {"type": "calculate_ssim", "crop_border": 2}}
    assert run(photo[:7, :5], gt=cv2.resize(photo[:7, :5], None, fx=2, fy=2), metrics=metrics) == 2
    assert "GT odd.png, 10x14, is too small for calculate_ssim: both sides need 15" in capsys.readouterr().err
    assert not Path("results").exists()
