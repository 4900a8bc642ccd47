"""`basicsr train` in its validation, `basicsr test` and `basicsr leaderboard` give the same digits."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
import yaml
from basicsr.utils.registry import ARCH_REGISTRY
from torch.nn import functional as F

from semanir_plugin.archs import NetworkDescriptor
from semanir_plugin.basicsr_host.data.sr_pairs import write_sr_pairs
from semanir_plugin.basicsr_host.scoring import PROTOCOLS
from semanir_plugin.cli import main
from semanir_plugin.registry import ARCHS

LEVELS = {"sigma": 25, "quality": 10, "degradations": {"rain": {"amount": 2}}}
WAYS = [(name, "made" if protocol.degrade else "pairs") for name, protocol in PROTOCOLS.items()]
WAYS.remove(("all_in_one_5", "made"))  # as all_in_one_3 is
WAYS.append(("all_in_one_5", "pairs"))


@pytest.fixture(scope="module", autouse=True)
def sharpening():
    """An architecture of one convolution beside the enlarged input, which goes beyond [0, 1]."""

    @ARCHS.register
    class Sharpening(torch.nn.Module):
        def __init__(self, *, upscale: int, channels: int) -> None:
            super().__init__()
            self.descriptor = NetworkDescriptor(scale=upscale, in_channels=channels, out_channels=channels)
            self.layer = torch.nn.Conv2d(channels, channels, 3, padding=1)

        def forward(self, x):
            enlarged = F.interpolate(x, scale_factor=self.descriptor.scale, mode="bicubic")
            return enlarged + 0.3 * self.layer(enlarged)

    yield
    del ARCH_REGISTRY._obj_map["Sharpening"], ARCHS._entries["Sharpening"]


@pytest.fixture
def folders(tmp_path, monkeypatch, photos):
    """Write clean images of odd sizes, blurred ones beside them, of 8 or 16 bit; GT and LQ."""
    monkeypatch.chdir(tmp_path)

    def write(depth=8):
        for index, name in enumerate(("chelsea.png", "coffee.png")):
            pixels = cv2.imread(str(photos[name]))[20 : 87 + 6 * index, 101:194]
            if depth == 16:
                pixels = pixels.astype(np.uint16) * 256 + np.arange(93, dtype=np.uint16)[:, None]
            for folder, image in (("GT", pixels), ("LQ", cv2.GaussianBlur(pixels, (0, 0), 1))):
                Path(folder).mkdir(exist_ok=True)
                cv2.imwrite(f"{folder}/{index}.png", image)

    write()
    return write


def dataset_of(protocol, kind, **roots):
    """Return the section of a dataset, and the options of the same test set in a leaderboard."""
    folder = {"name": "A", "dataroot_gt": "GT", "io_backend": {"type": "disk"}, **roots}
    level = {key: value for key, value in LEVELS.items() if key == protocol.condition}
    if kind == "pairs":
        pairs = {"dataroot_lq": "LQ", **folder}
        return {"type": "PairedImageDataset", **pairs}, {"gt": pairs["dataroot_gt"], "lq": pairs["dataroot_lq"]}
    return {"type": protocol.degrade.dataset, **folder, **protocol.degrade.options, **level}, {"gt": "GT", **level}


def write_options(name, scale, channels, dataset, trained_on):
    """Write option files of a training of one step and of a test of what it leaves."""
    gt_size = {"gt_size": 24, "use_hflip": False, "use_rot": False, "batch_size_per_gpu": 1}
    network = {"type": "Sharpening", "upscale": scale, "channels": channels}
    common = {"model_type": "SemanIRModel", "scale": scale, "num_gpu": 0, "manual_seed": 0, "network_g": network}
    own = {"stages": {"only": {}}} if dataset["type"] == "RealWorldDataset" else {}  # a training needs them
    train = {
        **{
            **common,
            "name": "trained",
            "datasets": {"train": {**dataset, **own, **trained_on, **gt_size}, "val": dataset},
        },
        "train": {
            **{"total_iter": 1, "optim_g": {"type": "Adam", "lr": 1e-3}, "pixel_opt": {"type": "L1Loss"}},
            "scheduler": {"type": "MultiStepLR", "milestones": [9]},
        },
        "val": {"val_freq": 1, "metrics": name},
    }
    test = {
        **{**common, "name": "tested", "datasets": {"test": dataset}},
        "path": {"pretrain_network_g": "experiments/trained/models/net_g_1.pth"},
        "val": {"metrics": {"protocol": name, "mine": {"type": "calculate_psnr", "crop_border": 0}}},
    }
    for kind, content in (("train", train), ("test", test)):
        Path(f"{kind}.yml").write_text(yaml.safe_dump(content))
    return network


def scores_of_all(name, dataset, test_set, **trained_on):
    """Train a step, test and make a leaderboard; return the scores of each, in full precision."""
    protocol = PROTOCOLS[name]
    scale = 3 if protocol.condition == "scale" else 1
    network = write_options(name, scale, protocol.num_channels, dataset, trained_on)
    model = {"network_g": network, "checkpoint": "experiments/trained/models/net_g_1.pth"}
    board = {"name": "board", "task": protocol.task, "protocol": name, "num_gpu": 0, "save_images": False}
    board |= {"scale": scale, "models": {"x": model}, "test_sets": {"A": test_set}}
    Path("board.yml").write_text(yaml.safe_dump(board))
    assert [main([command, "-opt", f"{command}.yml"]) for command in ("train", "test")] == [0, 0]
    assert main(["leaderboard", "-opt", "board.yml"]) == 0
    state = torch.load("experiments/trained/training_states/1.state", weights_only=False)
    trained = {key: record["val"] for key, record in state["best_metric_results"]["A"].items()}
    tested = json.loads(Path("results/tested/metrics.json").read_text())["A"]
    (row,) = json.loads(Path("results/board/results.json").read_text())["rows"]
    mine = tested.pop("mine")
    assert abs(mine - tested["psnr"]) < 30, "BasicSR's own beside it"
    return trained, tested, row["cells"]["A"]["scores"]


@pytest.mark.parametrize(("name", "kind"), WAYS, ids=[name for name, _ in WAYS])
def test_the_digits_are_the_same(folders, name, kind):
    trained, tested, compared = scores_of_all(name, *dataset_of(PROTOCOLS[name], kind))
    assert trained == tested == compared
    assert list(tested) == [metric.name for metric in PROTOCOLS[name].metrics]
    assert all(5 < value < 60 for key, value in tested.items() if key.startswith("psnr"))


def test_of_pairs_that_are_written(folders):
    """LR images on the disk, and ground truths that are larger than what is scored."""
    write_sr_pairs(sorted(Path("GT").iterdir()), "pairs", 3)
    dataset, _ = dataset_of(PROTOCOLS["sr_y_crop"], "pairs", dataroot_lq="pairs/LR_bicubic_X3")
    trained, tested, compared = scores_of_all("sr_y_crop", dataset, {"gt": "GT"}, dataroot_gt="pairs/GT")
    assert trained == tested == compared


def test_of_pairs_of_16_bit(folders):
    folders(depth=16)
    trained, tested, compared = scores_of_all("raindrop_rgb", *dataset_of(PROTOCOLS["raindrop_rgb"], "pairs"))
    assert trained == tested == compared
