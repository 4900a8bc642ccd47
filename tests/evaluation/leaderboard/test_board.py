"""Test that errors in a leaderboard's option file are told before any work, in one line."""

from __future__ import annotations

from pathlib import Path

import cv2
import pytest
import yaml

from semanir_plugin.errors import UserError
from semanir_plugin.evaluation.leaderboard.board import read_board
from semanir_plugin.option_files import apply_overrides, load_options

NETWORK = {"type": "SwinIR", "upscale": 4, "img_size": 56}
OPTIONS = {
    "name": "board",
    "task": "sr",
    "protocol": "sr_y_crop",
    "scale": 4,
    "models": {
        "Bicubic": {"classical": "bicubic"},
        "others": {"images": "results/others", "filename_tmpl": "{}_x4", "source": "a paper"},
        "net": {"network_g": NETWORK, "checkpoint": "net.pth", "topk": None, "tile": 64},
    },
    "test_sets": {"Set5": {"gt": "photos"}, "Set14": {"gt": "photos"}},
    "published": ["SwinIR"],
    "cost": {"size": [64, 48]},
}
SIGMA = {"task": "denoising", "protocol": "denoising_gray", "scale": None, "models": {"x": {"classical": "identity"}}}


def drawn(degradations, **options):
    """Return the changes that make a board of one set with drawn degradations."""
    sets = {"a": {"gt": "photos", "degradations": degradations, **options}}
    return {"task": "all_in_one", "protocol": "drawn_rgb", "average": True, "test_sets": sets}


@pytest.fixture
def read(tmp_path, monkeypatch, photos):
    monkeypatch.chdir(tmp_path)
    Path("photos").mkdir()
    Path("empty").mkdir()
    Path("small").mkdir()
    image = cv2.imread(str(photos["coffee.png"]))
    cv2.imwrite("photos/coffee.png", image[:48, :64])
    cv2.imwrite("small/coffee.png", image[:12, :16])

    def read(options=OPTIONS, *overrides):
        Path("board.yml").write_text(yaml.safe_dump(options, sort_keys=False))
        return read_board(apply_overrides(load_options("board.yml"), overrides), tmp_path)

    return read


def test_what_is_right_is_read(read, tmp_path):
    board = read()
    assert (board.title, board.scale, board.folder) == ("board", 4, tmp_path / "results" / "board")
    assert list(board.models) == ["Bicubic", "others", "net"]
    assert (board.models["net"].tile, board.models["net"].param_key) == (64, "params")
    assert [(each.name, len(each), each.level) for each in board.test_sets] == [("Set5", 1, 4), ("Set14", 1, 4)]
    assert [row["model"] for row in board.published] == ["SwinIR"]
    assert (board.cost.size, board.cost.runs, board.save_images) == ([64, 48], 10, True)
    board = read(OPTIONS, "models:net=~", "test_sets:Set5=~", "path:results_root=elsewhere", "cost=~", "title=A title")
    assert (list(board.models), len(board.test_sets), board.cost) == (["Bicubic", "others"], 1, None)
    assert (board.title, board.folder) == ("A title", Path("elsewhere/board"))


def test_a_null_leaves_a_base_s_kind_of_model_for_another(read):
    changes = [f"models:Bicubic:{key}={value}" for key, value in {"classical": "~", "images": "results/mine"}.items()]
    assert read(OPTIONS, *changes).models["Bicubic"].images == "results/mine"


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("modles=1", "unknown key 'modles' of a leaderboard; did you mean 'models'"),
        ("name=a/b", "name must be a string that can name a folder"),
        ("task=srr", "unknown task 'srr'; did you mean 'sr'"),
        ("protocol=sr_y_corp", "unknown protocol 'sr_y_corp' of sr; did you mean 'sr_y_crop'"),
        ("protocol=jpeg_gray", "unknown protocol 'jpeg_gray' of sr"),
        ("scale=1", "the protocol sr_y_crop needs a scale above 1"),
        ("scale=four", "scale must be a whole number of at least 1, not 'four'"),
        ("published=some", "published must be true or false or a list of strings, not 'some'"),
        ("published=[SwinR]", "unknown method 'SwinR'; did you mean 'SwinIR'"),
        ("models:net:network_g=~", "models:net: give one of network_g, weights, images, classical"),
        ("models:shipped:weights=no-such", "models:shipped: no file and no weights 'no-such'"),
        ("cost:size=[64]", "cost: size must be a height and a width in pixels"),
        ("cost:runs=0", "cost: runs must be a whole number of at least 1"),
        ("cost:rnus=3", "cost: unknown key 'rnus'; did you mean 'runs'"),
        ("path:result_root=x", "path: unknown key 'result_root'; did you mean 'results_root'"),
        ("num_gpu=-1", "num_gpu must be 'auto' or a whole number of at least 0"),
        ("test_sets:Set5:sigma=25", "test_sets:Set5: sigma means nothing to the protocol sr_y_crop"),
        ("test_sets:Set5:gtt=x", "test_sets:Set5: unknown key 'gtt' of a test set; did you mean 'gt'"),
        ("test_sets:Set5:gt=nowhere", "test_sets: Set5: nowhere: no such folder"),
        ("test_sets:Set5:gt=empty", "test_sets: Set5: empty: no images"),
        ("test_sets:Set5:gt=small", "coffee.png is 16x12, but both sides need 19 pixels"),
        (
            "test_sets:Set5:lq=photos",
            "coffee.png is 64x48, but photos/coffee.png is 64x48 at scale 4; make the sizes fit",
        ),
        ("test_sets:set5:gt=photos", "'set5' and 'Set5' would share a folder: rename one"),
        ("test_sets={}", "test_sets has no entry: add a test set"),
        ("models:new={}", "models:new: give one of network_g, weights, images, classical"),
        (
            "models:net:classical=bicubic",
            "weights, images, classical, not network_g and classical",
        ),
        ("models:Bicubic:classical=bicbic", "classical must be 'bicubic' or 'identity' or 'malvar', not 'bicbic'"),
        ("models:Bicubic:classical=malvar", "malvar makes no result for sr: remove it"),
        ("models:Bicubic:classical=identity", "identity makes no result for sr: remove it"),
        ("models:others:filename_tmpl=x", r"filename_tmpl must have one \{\}"),
        (
            "models:net:network_g:type=SwinR",
            "models:net:network_g: unknown architecture 'SwinR'; did you mean 'SwinIR'",
        ),
        ("models:net:network_g:embed_dim=0", "models:net:network_g: embed_dim must be a whole number of at least 1"),
        ("models:net:network_g:depths=[]", "models:net:network_g: depths is empty: give it an entry for each stage"),
        ("models:net:network_g:num_heads=[1,1,1]", "models:net:network_g: depths and num_heads need an entry for each"),
        (
            "models:net:network_g:img_size=60",
            r"board.yml:\d+: models:net:network_g: SwinIR cannot be built: RuntimeErr",
        ),
        ("models:net:network_g:upscale=2", "upscale 2 is not the scale 4 of the datasets"),
        ("models:net:tile=big", "models:net: tile must be"),
        ("models:net:topk=0", "models:net: topk must be a whole number of at least 1"),
        (
            "models:net:tile_overlap=64",
            "a tile of 64 leaves no room beside an overlap of 64; use 65, better 130, or a smaller tile_overlap",
        ),
        ("models:net={weights: semanir-mini-x4, tile_overlap: 8}", "models:net: tile_overlap needs tile: a number"),
        ("models:net:checkpont=x", "unknown key 'checkpont' of a model with network_g; did you mean 'checkpoint'"),
    ],
)
def test_what_is_wrong_is_told_in_one_line(read, override, message):
    with pytest.raises(UserError, match=message) as error:
        read(OPTIONS, override)
    assert str(error.value).startswith(("board.yml:", "--force_yml"))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"test_sets": {"a": {"gt": "photos"}}}, "test_sets:a: missing 'sigma': add it"),
        (
            {"test_sets": {"a": {"gt": "photos", "sigma": 300}}},
            "sigma must be a number of at least 0 and at most 255, not 300",
        ),
        ({"test_sets": {"a": {"gt": "photos", "sigma": 25}}, "scale": 2}, "has images of one size: remove scale 2"),
        (
            {"task": "deblurring", "protocol": "deblurring_rgb", "test_sets": {"a": {"gt": "photos"}}},
            "missing 'lq': the protocol deblurring_rgb needs a folder of inputs",
        ),
        (
            {"task": "jpeg", "protocol": "jpeg_gray", "test_sets": {"a": {"gt": "photos", "quality": 0}}},
            "quality must be a whole number of at least 1 and at most 100, not 0",
        ),
        ({"models": {}, "test_sets": {"a": {"gt": "photos", "sigma": 25}}}, "models has no entry: add one"),
        (drawn(None), "test_sets:a: missing 'degradations': add it"),
        (drawn({}), "test_sets:a: degradations is empty: add one of clean, noise, rain,"),
        (drawn(3), "test_sets:a: degradations must be a section of its own, not 3"),
        (drawn({"rian": {}}), "test_sets:a:degradations: unknown key 'rian'; did you mean 'rain'"),
        (drawn({"rain": 2}), "test_sets:a:degradations: rain must be a section of its own, not 2"),
        (drawn({"rain": {}}), "test_sets:a:degradations:rain: a test set needs 'amount'"),
        (drawn({"rain": {"amuont": 2}}), "rain: unknown key 'amuont' of a test set; did you mean 'amount'"),
        (drawn({"rain": {"amount": "x"}}), "degradations:rain: amount must be a number or a list of numbers, not 'x'"),
        (drawn({"rain": {"amount": 101}}), "test_sets:a: rain: amount must lie from 0 to 100, not 101"),
        (drawn({"rain": {"amount": [1, 2]}}), "rain: amount must be one number where images are scored, not"),
        (drawn({"rain": {"amount": 1}, "clean": {}}), "test_sets:a: give one degradation where images are scored, not"),
        (drawn({"clean": {}}, seed=-1), "test_sets:a: seed must be a whole number of at least 0, not -1"),
        (drawn({"clean": {}}, lq="photos"), "test_sets:a: lq and degradations contradict each other: give one"),
        (drawn({"clean": {}}, sigma=25), "test_sets:a: sigma means nothing to the protocol drawn_rgb: remove it"),
        (drawn({"clean": {}}, averaged=False), "every test set has averaged: false"),
        ({"test_sets": {"a": {"gt": "photos", "sigma": 25, "seed": 1}}}, "seed means nothing to the protocol denois"),
    ],
)
def test_what_other_tasks_need(read, changes, message):
    options = {**OPTIONS, **SIGMA, "published": False, **changes}
    with pytest.raises(UserError, match=message):
        read({key: value for key, value in options.items() if value is not None})
