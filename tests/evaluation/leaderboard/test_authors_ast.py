"""Checkpoints of AST's authors, by every path that restores with them."""

from __future__ import annotations

import pytest
import torch
from basicsr.models import build_model
from basicsr.utils import get_root_logger

from semanir_plugin.archs import AST
from semanir_plugin.archs.ast_checkpoints import AUTHORS_IMG_SIZE, infer_options, to_authors_layout
from semanir_plugin.evaluation.leaderboard.contestants import WeightsOptions, make_contestant
from semanir_plugin.inference.checkpoints import describe_network
from semanir_plugin.inference.loading import load
from semanir_plugin.option_files import load_options

RECIPES = [f"AST_{size}_{task}" for size in "TB" for task in ("derain_SPAD", "raindrop_AGAN", "dehaze_DenseHaze")]
OF_TRAINING = ("drop_path_rate", "use_checkpoint")
BOARDS = ("Derain", "Raindrop", "Dehaze")
TINY = {"embed_dim": 4, "depths": [1, 1, 1, 1, 2, 1, 1, 1, 1]}  # a second layer at the bottom, which may be shifted


def read(name):
    return load_options(f"options/{name}.yml").data


def networks(name):
    options = read(name)
    models = options.get("models", {"": options}).values()
    return [model["network_g"] for model in models if "network_g" in model]


@pytest.mark.parametrize("name", [f"test_{recipe}" for recipe in RECIPES] + [f"leaderboard_{name}" for name in BOARDS])
def test_recipes_build_what_the_authors_files_are_found_to_be(name):
    for network in networks(name):
        options = {key: value for key, value in network.items() if key not in ("type", *OF_TRAINING)}
        with torch.device("meta"):
            state = to_authors_layout(AST(**options).state_dict())
        found = infer_options(state)
        assert {key: found[key] for key in ("type", *options)} == {"type": "AST", **options}


@pytest.mark.parametrize("recipe", RECIPES)
def test_what_is_trained_is_tested_as_it_was_trained(recipe):
    trained, tested = (networks(f"{phase}_{recipe}")[0] for phase in ("train", "test"))
    assert trained["img_size"] == tested["img_size"]


def build(options, path):
    settings = {"is_train": False, "dist": False, "rank": 0, "world_size": 1, "num_gpu": 0, "scale": 1}
    files = {"pretrain_network_g": str(path), "param_key_g": "params", "strict_load_g": True}
    model = {"model_type": "SemanIRModel", "network_g": options, "path": files, "val": {}}
    return build_model({**model, **settings, "manual_seed": 0}).net_g


@pytest.fixture
def log(caplog, monkeypatch):
    monkeypatch.setattr(get_root_logger(), "propagate", True)  # BasicSR's logger keeps to itself
    return caplog


@pytest.fixture
def authors(tmp_path):
    net = AST(**TINY, img_size=AUTHORS_IMG_SIZE).eval()
    torch.nn.init.normal_(net.bottom.layers[1].attn.proj.weight)
    path = tmp_path / "model_best.pth"
    torch.save({"epoch": 1, "state_dict": to_authors_layout(net.state_dict()), "optimizer": {}}, path)
    return net, path


def test_restore_test_and_leaderboard_build_the_same_network(authors, log):
    net, path = authors
    recipe = {**networks("test_AST_B_dehaze_DenseHaze")[0], **TINY}
    row = make_contestant(
        "x", WeightsOptions(weights=str(path)).resolve(), {"num_gpu": 0, "manual_seed": 0, "scale": 1}
    )
    built = [load(path, device="cpu").module, build(recipe, path), row.prepare(str(path)).model.net_g]
    image = torch.rand(1, 3, 128, 256)
    with torch.no_grad():
        expected, other = net(image), AST(**TINY, img_size=256).eval()
        other.load_state_dict(net.state_dict())
        assert not torch.allclose(other(image), expected), "the option matters"
        assert all(torch.equal(each.eval()(image), expected) for each in built)
    said = [record.message for record in log.records if "img_size" in record.message]
    assert len(said) == 3
    assert all("do not record img_size: 128 is taken; for another, name an option file" in each for each in said)


def test_another_size_than_that_of_the_training_is_told(tmp_path, log):
    path, options = tmp_path / "net_g_1.pth", {"type": "AST", **TINY, "img_size": 256}
    state = AST(**TINY, img_size=256).state_dict()
    torch.save({"params": state, **describe_network(options)}, path)
    build(options, path)
    assert "img_size" not in log.text
    build({**options, "img_size": 128}, path)
    assert "was trained with img_size 256, but runs with the option file's 128" in log.text
    assert load(path, device="cpu").module.img_size == 256
