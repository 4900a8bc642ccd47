"""Every shipped option file, and one of each kind started as a user would, on stand-ins of its data."""

from __future__ import annotations

import json
import re
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from basicsr.archs import build_network

from semanir_plugin.basicsr_host.engine.run import read_run_options
from semanir_plugin.basicsr_host.engine.validation import validate_options
from semanir_plugin.cli import main
from semanir_plugin.option_files import load_options
from semanir_plugin.shipped_recipes import find_recipe, shipped_recipes
from tests.archs.test_every_arch import TINY
from tests.conftest import ROOT
from tests.mixing.hosts import HOSTS

RECIPES = shipped_recipes()
OPTIONS = sorted({recipe.path for recipe in RECIPES.values()})
TINY_OF_OTHERS = {"SwinIR": {"img_size": 16, "embed_dim": 4, "depths": [1], "num_heads": [2]}}
HEIGHT, WIDTH = 48, 60  # of stand-ins of ground truths; multiples of 2, 3 and 4


@pytest.fixture(autouse=True)
def _in_tmp_path(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


@pytest.fixture(scope="session")
def photo(photos):
    return cv2.imread(str(photos["chelsea.png"]))


def names(command):
    return [name for name in RECIPES if name.startswith(f"{command}_")]


def read(name):
    """Return the options of a training or a test as the command reads them."""
    return read_run_options(f"options/{name}", is_train=name.startswith("train_")).data


def classes(options):
    """Return the classes that options name, by section: what a run goes through."""
    if isinstance(options, dict):
        own = [str(options["type"])] if "type" in options else []
        return own + [f"{key}: {each}" for key, value in options.items() for each in classes(value)]
    return [each for value in options for each in classes(value)] if isinstance(options, list) else []


def first_of_each_kind(command):
    """Return the names of which no other before them runs the same classes; several datasets to score are as one."""
    kinds = {}
    for name in names(command):
        options = read(name)
        options["datasets"] = {phase.partition("_")[0]: each for phase, each in options["datasets"].items()}
        kinds.setdefault(tuple(sorted(classes(options))), name)
    return sorted(kinds.values())


@pytest.mark.parametrize("name", [*names("train"), *names("test")])
def test_every_name_is_of_options_that_are_right(name):
    file = read_run_options(f"options/{name}", is_train=name.startswith("train_"))
    validate_options(file, is_train=name.startswith("train_"))
    build_network({**file.data["network_g"], **tiny(file.data)})
    assert "{" not in file.data["name"]
    if "demo" not in name:
        assert file.data["name"].removeprefix(Path(name).stem) in ("", "25", "10")  # the file's own level


@pytest.mark.parametrize("name", first_of_each_kind("train"))
def test_trains_and_validates(name, photo):
    options = read(name)
    make_data(options, photo)
    assert main(["train", "-opt", f"options/{name}", "--force_yml", *overrides(options)]) == 0
    run = Path("experiments", options["name"])
    assert (run / "models" / "net_g_latest.pth").is_file()
    log = "".join(each.read_text() for each in run.glob("*.log"))
    assert f"options/{name} is {RECIPES[name]}." in log
    if "val" in options["datasets"]:
        assert "# psnr:" in log


def test_the_copy_in_the_run_folder_tests_what_was_trained(photo, capsys):
    name = "train_SemanIRUNet_gray_DN15.yml"
    options = read(name)
    make_data(options, photo)
    assert main(["train", "-opt", f"options/{name}", "--force_yml", *overrides(options)]) == 0
    copied = Path("experiments", Path(name).stem, name)
    assert load_options(copied).data == load_options(name).data
    assert main(["test", "-opt", str(copied), "--force_yml", *overrides(options)]) == 0
    scores = json.loads(Path("results", Path(name).stem, "metrics.json").read_text())
    assert scores["Set12_15"].keys() == {"psnr", "ssim"}
    assert (
        "Weights: experiments/train_SemanIRUNet_gray_DN15/models/net_g_best.pth, params_ema" in capsys.readouterr().err
    )


@pytest.mark.parametrize("name", first_of_each_kind("test"))
def test_scores(name, photo):
    options = read(name)
    make_data(options, photo)
    if checkpoint := (options.get("path") or {}).get("pretrain_network_g"):
        Path(checkpoint).parent.mkdir(parents=True)
        net = build_network({**options["network_g"], **tiny(options)})
        torch.save({"params_ema": net.state_dict(), "params": net.state_dict()}, checkpoint)
    assert main(["test", "-opt", f"options/{name}", "--force_yml", *overrides(options)]) == 0
    metrics = json.loads(next(Path("results", options["name"]).rglob("metrics.json")).read_text())
    assert metrics.keys() == {dataset["name"] for dataset in options["datasets"].values()}
    assert all(np.isfinite(value) for scores in metrics.values() for value in scores.values())


@pytest.mark.parametrize("recipe", names("leaderboard"))
def test_compares(recipe, photo):
    options = load_options(f"options/{recipe}").data
    for section in ("models", "test_sets"):
        options[section] = {key: value for key, value in options[section].items() if value is not None}
    assert options["name"] == Path(recipe).stem
    scale = options.get("scale", 1)
    entries = ["cost:size=[32,48]", "cost:runs=1", "cost:warm_up=0", "num_gpu=0"]
    levels = set()
    for section in options["test_sets"].values():
        levels.add(str(section.get("sigma", section.get("quality"))))
        for key in section.keys() & {"gt", "lq"}:
            folder = Path(section[key].replace("*", "scene"))
            folder.mkdir(parents=True, exist_ok=True)
            cv2.imwrite(str(folder / ("im_0.png" if "im_" in section.get("pair_by", "") else "0.png")), photo[:48, :60])
    networks = {name: each for name, each in options["models"].items() if "network_g" in each}
    for name, model in networks.items():
        small = tiny(model)
        entries += [f"models:{name}:network_g:{key}={value}" for key, value in small.items()]
        net = build_network({**model["network_g"], **small})
        for level in sorted(levels) if "{}" in model["checkpoint"] else [""]:
            checkpoint = Path(model["checkpoint"].replace("{}", level))
            checkpoint.parent.mkdir(parents=True, exist_ok=True)
            torch.save({model["param_key"]: net.state_dict()}, checkpoint)
    assert main(["leaderboard", "-opt", f"options/{recipe}", "--force_yml", *entries]) == 0
    results = json.loads(Path("results", options["name"], "results.json").read_text())
    measured = [row for row in results["rows"] if row["kind"] == "measured"]
    assert [row["model"] for row in measured] == list(options["models"])
    assert len(results["rows"]) > len(measured) or not options["published"]
    for row in measured:
        assert row["cells"].keys() == options["test_sets"].keys() | ({"average"} if options.get("average") else set())
        assert row["model"] not in networks or row["mult_adds"] > 0
        assert row["model"] not in networks or row["parameters"] > 0
    assert scale == 1 or results["test_sets"][0]["condition"] == f"x{scale}"


def test_train_and_test_files_come_in_pairs():
    # Short trainings and ends of trainings are other schedules of networks that have their test files.
    trained = {re.sub("_(short|finish)", "", name.removeprefix("train_")) for name in names("train")}
    assert trained <= {name.removeprefix("test_") for name in names("test")}


def test_files_say_what_they_are_for():
    for path in OPTIONS:
        assert path.read_text().startswith("# "), f"{path.name} does not say what it is for"


@pytest.mark.parametrize("name", [name for name in names("train") if "LR_bicubic" in str(read(name))])
def test_recipes_name_the_commands_that_make_their_pairs(name):
    options = read(name)
    if name == "train_SemanIR_demo_SRx4.yml":
        pytest.skip("scripts/demo.py makes its data")
    for phase, more in (("train", r"( --crop \d+)? --lmdb"), ("val", "")):
        folder, _ = options["datasets"][phase]["dataroot_gt"].split("/GT")
        suffix = ".lmdb" if more else ""
        assert options["datasets"][phase]["dataroot_lq"] == f"{folder}/LR_bicubic_X{options['scale']}{suffix}"
        assert options["datasets"][phase]["io_backend"]["type"] == ("lmdb" if more else "disk")
        command = rf"^#   basicsr prepare sr \w+ {folder} --scale {options['scale']}{more}$"
        assert re.search(command, RECIPES[name].path.read_text(), re.MULTILINE)


def test_files_name_files_that_are_there():
    for path in OPTIONS:
        named = re.findall(r"\b(?:docs|options|scripts)/[\w/]+\.\w+", path.read_text())
        assert [each for each in named if not ((ROOT / each).is_file() or find_recipe(each))] == [], path.name


def make_data(options, photo):
    """Write images where the option file looks for them, laid out as its datasets want them."""
    for dataset in options["datasets"].values():
        for folders in filter(None, dataset.get("sources", {"": dataset}).values()):
            write_images(Path(folders["dataroot_gt"]), photo, 1)
            if "dataroot_lq" in folders:
                write_images(Path(folders["dataroot_lq"]), photo, options["scale"])


def write_images(root, photo, scale):
    if root.exists():
        return
    folder = root.with_suffix("")
    folder.mkdir(parents=True)
    for index in range(2):
        image = photo[30 * index : 30 * index + HEIGHT, 100 : 100 + WIDTH]
        cv2.imwrite(str(folder / f"{index}.png"), cv2.resize(image, (WIDTH // scale, HEIGHT // scale)))
    if root.suffix == ".lmdb":
        assert main(["lmdb", "-i", str(folder), "-o", str(root)]) == 0


def tiny(options):
    """Return arguments that make the option file's network small, of those that it sets."""
    network = options["network_g"]
    if network["type"] == "MixedArch":
        return {"base": {**network["base"], **small(network["base"])}}
    return small(network)


def small(network):
    """Return the tiny size of an architecture, at the option file's scale."""
    known = {**HOSTS, **TINY}.get(network["type"], {})
    if network.get("unshuffle", 1) > 1:
        known = known | {"embed_dim": 16}  # all pixels of a cell are features
    return {key: value for key, value in known.items() if key not in ("upscale", "scale", "type")}


def overrides(options):
    """Return the `--force_yml` entries that make any option file a matter of seconds."""
    values = {f"network_g:{key}": json.dumps(value) for key, value in tiny(options).items()}
    values |= {"num_gpu": 0, "logger:use_tb_logger": "false"} if "logger" in options else {"num_gpu": 0}
    train = options["datasets"].get("train")
    if train:
        values |= {
            "datasets:train:num_worker_per_gpu": 0,
            "train:amp": "~",
            "train:total_iter": 2,
            "logger:save_checkpoint_freq": 2,
        }
        if "gt_sizes" in train:
            values |= {
                "datasets:train:gt_sizes": [16, 32],
                "datasets:train:batch_sizes_per_gpu": [2, 1],
                "datasets:train:iters": [1, 1],
            }
        else:
            values |= {"datasets:train:gt_size": 8 * options["scale"], "datasets:train:batch_size_per_gpu": 2}
        if "periods" in options["train"]["scheduler"]:
            values |= {"train:scheduler:periods": [1, 1], "train:scheduler:restart_weights": [1, 0.5]}
            values["train:warmup_iter"] = 1
        if "val" in options:
            values["val:val_freq"] = 2
    return [f"{key}={value}" for key, value in values.items()]
