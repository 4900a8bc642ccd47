"""Validation of BasicSR's video models, and the sets of clips that they validate on."""

from __future__ import annotations

import inspect
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from basicsr.archs import build_network
from basicsr.data import build_dataset
from basicsr.metrics import calculate_metric
from basicsr.models.video_base_model import VideoBaseModel
from basicsr.models.video_recurrent_gan_model import VideoRecurrentGANModel
from basicsr.models.video_recurrent_model import VideoRecurrentModel
from torch.utils.data import DataLoader

from semanir_plugin.basicsr_host.data.guarded_dataset import GuardedDataset
from semanir_plugin.errors import UserError

METRICS = {
    "psnr": {"type": "calculate_psnr", "crop_border": 0},
    "ssim": {"type": "calculate_ssim", "crop_border": 0, "better": "higher"},
}


@pytest.fixture
def clips(tmp_path):
    """Two clips, of 3 and 5 frames, 12 x 16; the inputs are the ground truths, with noise."""
    rng = np.random.default_rng(0)
    for clip, count in (("000", 3), ("011", 5)):
        for frame in range(count):
            image = rng.integers(0, 200, (12, 16, 3))
            for side, noise in (("gt", 0), ("lq", rng.integers(0, 50, image.shape))):
                path = tmp_path / side / clip / f"{frame:08d}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                cv2.imwrite(str(path), (image + noise).astype(np.uint8))
    return tmp_path


def options(clips, kind, **more):
    return {
        **{"type": kind, "name": "mine", "dataroot_gt": str(clips / "gt"), "dataroot_lq": str(clips / "lq")},
        **{"io_backend": {"type": "disk"}, "cache_data": False, "num_frame": 3, "padding": "replicate", **more},
    }


class Middle(torch.nn.Module):
    def forward(self, x):
        return x[:, x.shape[1] // 2]


def model(cls, net, folder, **more):
    """A model that has been built, as far as validation needs it."""
    made = cls.__new__(cls)
    made.opt = {
        **{"name": "run", "dist": False, "is_train": False, "path": {"visualization": str(folder / "images")}},
        "val": {"metrics": METRICS, **more},
    }
    made.net_g, made.device, made.is_train = net, torch.device("cpu"), False
    return made


@pytest.mark.parametrize("in_training", [True, False])
@pytest.mark.parametrize(
    ("cls", "net", "kind", "cached"),
    [
        (VideoBaseModel, Middle(), "VideoTestDataset", False),
        (VideoBaseModel, Middle(), "VideoTestDataset", True),
        (VideoRecurrentModel, torch.nn.Identity(), "VideoRecurrentTestDataset", False),
        (VideoRecurrentModel, torch.nn.Identity(), "VideoRecurrentTestDataset", True),
    ],
    ids=["frames", "frames in memory", "clips", "clips in memory"],
)
def test_scores_are_means_of_folders_and_images_are_saved(clips, cls, net, kind, cached, in_training):
    dataset = GuardedDataset(build_dataset(options(clips, kind, cache_data=cached)))
    made = model(cls, net, clips)
    made.opt["is_train"] = in_training
    for _ in range(2):  # clips in memory are as they were
        made.nondist_validation(DataLoader(dataset), 7 if in_training else "run", None, save_img=True)
    expected = {metric: [] for metric in METRICS}
    for folder in sorted((clips / "gt").iterdir()):
        pairs = [
            {"img": cv2.imread(str(clips / "lq" / folder.name / path.name)), "img2": cv2.imread(str(path))}
            for path in sorted(folder.iterdir())
        ]
        for metric, block in METRICS.items():
            expected[metric].append(np.mean([calculate_metric(pair, block) for pair in pairs]))
    assert made.metric_results == {metric: pytest.approx(np.mean(values)) for metric, values in expected.items()}
    assert all(type(value) is float for value in made.metric_results.values())
    assert made.best_metric_results["mine"]["psnr"]["val"] == made.metric_results["psnr"]
    saved = sorted((clips / "images").rglob("*.png"))
    label = 7 if in_training else "run"
    assert [str(path.relative_to(clips / "images")) for path in saved] == [
        f"mine/{folder}/{frame:08d}_{label}.png" for folder, count in (("000", 3), ("011", 5)) for frame in range(count)
    ]
    np.testing.assert_array_equal(cv2.imread(str(saved[4])), cv2.imread(str(clips / "lq" / "011" / "00000001.png")))


def test_sets_of_other_folders_and_none_with_metrics(clips):
    made = model(VideoRecurrentModel, torch.nn.Identity(), clips, metrics=None)
    dataset = build_dataset(options(clips, "VideoRecurrentTestDataset"))
    made.dist_validation(DataLoader(dataset), "run", None, save_img=False)
    assert not hasattr(made, "metric_results")
    made.opt["val"]["metrics"] = METRICS
    made.dist_validation(DataLoader(dataset), "run", None, save_img=False)
    for side in ("gt", "lq"):
        Path(clips, side, "000").rename(clips / side / "077")
    other = build_dataset(options(clips, "VideoRecurrentTestDataset", name="other"))
    made.dist_validation(DataLoader(other), "run", None, save_img=False)
    assert made.best_metric_results.keys() == {"mine", "other"}


def test_images_of_vimeo_are_named_by_clip_and_sequence(clips):
    sequence = clips / "lq" / "00001" / "0266"
    for side in ("gt", "lq"):
        sequence = clips / side / "00001" / "0266"
        sequence.mkdir(parents=True)
        for index in range(1, 8):
            cv2.imwrite(str(sequence / f"im{index}.png"), np.full((12, 16, 3), 10 * index, np.uint8))
    (clips / "list.txt").write_text("00001/0266 7 (12,16,3)\n")
    more = {"name": "Vimeo90K", "meta_info_file": str(clips / "list.txt")}
    dataset = build_dataset(options(clips, "VideoTestVimeo90KDataset", **more))
    names = []
    for cls, net, val in (
        (VideoBaseModel, Middle(), {"suffix": "s"}),
        (VideoRecurrentModel, torch.nn.Identity(), {"center_frame_only": True}),
    ):
        made = model(cls, net, clips / cls.__name__, **val)
        made.validation(DataLoader(dataset), "run", None, save_img=True)
        assert made.metric_results["psnr"] == float("inf")
        names += [path.name for path in (clips / cls.__name__).rglob("*.png")]
    assert names == ["00001_0266_im4_s.png", "00001_0266_run.png"]


def test_a_network_of_other_frames_is_told(clips):
    made = model(VideoRecurrentModel, torch.nn.Identity(), clips)
    dataset = build_dataset(options(clips, "VideoTestDataset"))
    with pytest.raises(UserError, match=r"restores 3 frames of a sample that has 1; .*center_frame_only"):
        made.validation(DataLoader(dataset), "run", None, save_img=False)


@pytest.mark.parametrize("name", ["mine", "Vid4"])
def test_sets_may_have_any_name(clips, name):
    opt = options(clips, "VideoTestDataset", name=name)
    dataset = build_dataset(opt)
    assert len(dataset) == 8
    assert dataset.opt == opt
    with pytest.raises(ValueError, match="Non-supported video test dataset"):
        inspect.unwrap(type(dataset).__init__)(dataset, {**opt, "name": "mine"})


@pytest.mark.parametrize("damage", ["missing", "cut", "text"])
def test_a_frame_that_cannot_be_read_is_named(clips, damage):
    dataset = GuardedDataset(build_dataset(options(clips, "VideoTestDataset")))
    path = clips / "lq" / "011" / "00000002.png"
    content = {"cut": path.read_bytes()[:-30], "text": b"hello"}.get(damage)
    path.unlink()
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(UserError, match=r"011/00000002\.png: "):
        dataset[5]


def test_frames_of_16_bit_are_read_as_such(clips):
    pixels = np.random.default_rng(0).integers(0, 65536, (12, 16, 3), dtype=np.uint16)
    for side in ("gt", "lq"):
        for path in (clips / side / "000").iterdir():
            cv2.imwrite(str(path), pixels)
    sample = build_dataset(options(clips, "VideoRecurrentTestDataset"))[0]
    read = sample["gt"][0].numpy()[::-1].transpose(1, 2, 0)
    np.testing.assert_allclose(read, pixels / 65535, atol=1e-6)


def test_a_video_gan_without_fix_flow_trains_all(clips):
    made = VideoRecurrentGANModel.__new__(VideoRecurrentGANModel)
    made.opt = {"train": {"optim_g": {"type": "Adam", "lr": 1}, "optim_d": {"type": "Adam", "lr": 1}}}
    made.net_g = made.net_d = torch.nn.Linear(2, 2)
    made.optimizers = []
    made.setup_optimizers()
    assert [len(each.param_groups[0]["params"]) for each in made.optimizers] == [2, 2]


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU that features are taken to")
def test_long_clips_stay_on_a_cpu():
    net = build_network({"type": "BasicVSRPlusPlus", "mid_channels": 16, "num_blocks": 1, "cpu_cache_length": 2}).eval()
    clip = torch.rand(1, 3, 3, 64, 64)
    with torch.no_grad():
        with pytest.raises((AssertionError, RuntimeError), match=r"CUDA|NVIDIA"):
            inspect.unwrap(type(net).forward)(net, clip)
        assert net(clip).shape == (1, 3, 3, 256, 256)
