"""Networks from checkpoints alone."""

from __future__ import annotations

import json
import re
from functools import partial

import numpy as np
import pytest
import torch
from basicsr.models import build_model
from basicsr.models.base_model import BaseModel
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import nn

import semanir_plugin
from semanir_plugin.archs import AST, SemanIR
from semanir_plugin.archs.ast_checkpoints import infer_options, to_authors_layout
from semanir_plugin.archs.network_record import RECORD, to_record
from semanir_plugin.errors import UserError
from semanir_plugin.inference import shipped_weights
from semanir_plugin.inference.checkpoints import read_checkpoint, save_weights
from semanir_plugin.inference.loading import build_network, load
from semanir_plugin.inference.shipped_weights import find_weights
from tests.conftest import TINY_NETWORK

OPTIONS = {"type": "SemanIR", "upscale": 2, "upsampler": "pixelshuffledirect", **TINY_NETWORK, "topk": [4, 12]}
IMAGE = torch.rand(1, 3, 9, 13)


def network(seed=0, **more):
    torch.manual_seed(seed)
    arguments = {**OPTIONS, **more}
    del arguments["type"]
    return SemanIR(**arguments).eval()


@torch.no_grad()
def same(a, b, image=IMAGE):
    return torch.equal(a(image), b(image))


@pytest.fixture
def model(tmp_path):
    """The host's model, saving as our trainings do."""
    return BaseModel(
        {"num_gpu": 0, "is_train": True, "dist": False, "path": {"models": tmp_path}, "network_g": OPTIONS}
    )


@pytest.fixture
def trained(model, tmp_path):
    """A checkpoint, and the network of its averaged weights."""
    average = network(1)
    model.save_network([network(0), average], "net_g", -1, ["params", "params_ema"])
    return tmp_path / "net_g_latest.pth", average


def test_a_checkpoint_is_enough_to_restore_images(trained):
    path, average = trained
    built = load(path).module
    assert same(built, average)
    assert not built.training


def test_it_is_of_plain_values(trained):
    saved = torch.load(trained[0], weights_only=True)
    assert list(saved) == ["params", "params_ema", "network_g", "semanir_plugin"]
    assert saved["network_g"] == OPTIONS
    assert saved["semanir_plugin"] == {"format": 1, "version": semanir_plugin.__version__}


@pytest.mark.parametrize("key", ["params", "params_ema"])
def test_basicsr_loads_it(trained, stock, model, key):
    stock_model = stock("basicsr.models.base_model").BaseModel(model.opt)
    target = network(2)
    stock_model.load_network(target, str(trained[0]), True, key)
    assert same(target, trained[1]) == (key == "params_ema")
    again = network(3)
    model.load_network(again, str(trained[0]), True, key)
    assert same(again, target)


def test_without_an_average_the_weights_themselves(model, tmp_path):
    net = network(4)
    model.save_network(net, "net_g", 7)
    assert same(load(tmp_path / "net_g_7.pth").module, net)


def test_a_discriminator_carries_its_own_options(model, tmp_path):
    model.opt["network_d"] = {"type": "UNetDiscriminatorSN"}
    model.save_network(torch.nn.Linear(1, 1), "net_d", 7)
    saved = torch.load(tmp_path / "net_d_7.pth", weights_only=True)
    assert saved["network_d"] == {"type": "UNetDiscriminatorSN"}
    assert "network_g" not in saved


def test_options_of_python_are_made_plain_or_left_out(model, tmp_path, caplog):
    model.opt["network_g"] = {"type": "SemanIR", "depths": (1, 1)}
    model.save_network(network(), "net_g", 1)
    assert torch.load(tmp_path / "net_g_1.pth", weights_only=True)["network_g"]["depths"] == [1, 1]
    model.opt["network_g"] = {"type": "SemanIR", "dtype": torch.float16}
    model.save_network(network(), "net_g", 2)
    assert list(torch.load(tmp_path / "net_g_2.pth", weights_only=True)) == ["params"]


def test_our_training_saves_so(tmp_path):
    opt = {
        "model_type": "SemanIRModel",
        "num_gpu": 0,
        "is_train": False,
        "dist": False,
        "path": {"models": str(tmp_path)},
        "network_g": OPTIONS,
    }
    model = build_model(opt)
    model._save_networks("best")
    assert same(load(tmp_path / "net_g_best.pth").module, model.net_g.eval())


def test_compilation_is_left_to_training(model, tmp_path):
    model.opt["network_g"] = {**OPTIONS, "compile_backend": "no such"}
    model.save_network(network(), "net_g", 1)
    assert same(load(tmp_path / "net_g_1.pth").module, network())


def test_an_architecture_of_basicsr(model, tmp_path):
    options = {"type": "SRVGGNetCompact", "num_feat": 4, "num_conv": 1, "upscale": 2}
    net = build_network(options, "")
    save_weights(tmp_path / "compact.safetensors", net, options)
    assert same(load(tmp_path / "compact.safetensors").module, net)


@pytest.mark.parametrize("position_bias", ["table", "factorised"])
def test_safetensors_hold_weights_and_options(tmp_path, model, position_bias):
    path, net = tmp_path / "net.safetensors", network(5, position_bias=position_bias)
    options = {**OPTIONS, "position_bias": position_bias}
    save_weights(path, net, options)
    assert load_file(path).keys() == {*net.state_dict(), RECORD}
    built = load(path)
    assert same(built.module, net)
    assert built.options == options
    target = network(6, position_bias=position_bias)
    model.load_network(target, str(path), True, "params_ema")
    assert same(target, net)


def test_safetensors_are_replaced_whole(tmp_path, monkeypatch):
    path = tmp_path / "net.safetensors"
    save_weights(path, network(5), OPTIONS)
    monkeypatch.setattr("os.fsync", lambda _: (_ for _ in ()).throw(OSError("No space left on device")))
    with pytest.raises(OSError, match="No space left"):
        save_weights(path, network(6), OPTIONS)
    assert same(load(path).module, network(5))
    assert list(tmp_path.iterdir()) == [path]


TINY_AST = {"img_size": 128, "in_chans": 3, "embed_dim": 4, "depths": [1, 2, 1, 2, 1], "num_heads": [1, 2, 2, 4, 1]}


@pytest.mark.parametrize("token_mlp", ["frfn", "leff", "mlp"])
@pytest.mark.parametrize("prefix", ["", "module."])
def test_checkpoints_of_ast_s_authors_tell_by_their_names(tmp_path, token_mlp, prefix):
    net = AST(**TINY_AST, token_mlp=token_mlp, win_size=4, mlp_ratio=2.0).eval()
    state = {f"{prefix}{key}": value for key, value in to_authors_layout(net.state_dict()).items()}
    torch.save({"epoch": 3, "state_dict": state, "optimizer": {}}, tmp_path / "model_best.pth")
    built = load(tmp_path / "model_best.pth")
    assert same(built.module, net, torch.rand(1, 3, 32, 16))
    given = {"token_mlp": token_mlp, "win_size": 4, "mlp_ratio": 2.0, "dd_in": 3}
    assert built.options == {"type": "AST", **TINY_AST, **given}


def test_other_channels_of_ast():
    net = AST(**{**TINY_AST, "in_chans": 1}, dd_in=4)
    options = infer_options(to_authors_layout(net.state_dict()))
    assert (options["in_chans"], options["dd_in"]) == (1, 4)


def write_bytes(path, content):
    path.write_bytes(content)


def resave(path, change):
    content = {"params": network().state_dict(), "network_g": dict(OPTIONS), "semanir_plugin": {"format": 1}}
    change(content)
    torch.save(content, path)


def other_network(content):
    content["network_g"]["embed_dim"] = 10


def ast_without_parts(content):
    content.clear()
    content["state_dict"] = {"input_proj.proj.0.weight": torch.zeros(4, 3, 3, 3)}


@pytest.mark.parametrize(
    ("write", "told"),
    [
        (partial(resave, change=lambda c: c.pop("network_g")), "does not say what network it is of; name .*: -opt"),
        (partial(resave, change=lambda c: c.update(network_g={"depths": [1]})), "does not say what network it is of"),
        (
            partial(resave, change=lambda c: c["network_g"].update(type="SemanIRR")),
            "unknown architecture 'SemanIRR'.*mean 'SemanIR'",
        ),
        (partial(resave, change=lambda c: c["network_g"].update(depth=3)), "SemanIR refuses its options: .*'depth'"),
        (partial(resave, change=other_network), r"does not fit SemanIR: .*mis-shaped \(.*; name the option file"),
        (partial(resave, change=lambda c: c["semanir_plugin"].update(format=2)), "of format 2, .* reads format 1"),
        (partial(resave, change=lambda c: c.pop("params")), "holds no weights under 'params', but network_g, seman"),
        (partial(resave, change=ast_without_parts), "an AST of its authors without .*; download it again"),
        (partial(write_bytes, content=b"hello"), "not a PyTorch checkpoint, or a damaged one"),
    ],
)
def test_what_is_wrong_is_told_in_one_line(tmp_path, write, told):
    path = tmp_path / "net.pth"
    write(path)
    with pytest.raises(UserError, match=rf"net\.pth:? {told}") as caught:
        load(path)
    assert "\n" not in str(caught.value)


ABOUT = [
    (5, "semanir_plugin must be a section, not 5"),
    (None, "semanir_plugin must be a section, not ~"),
    ([1], "semanir_plugin must be a section, not a list"),
    ({}, "semanir_plugin:format is missing"),
    ({"format": "1"}, "semanir_plugin:format must be a whole number of at least 1, not '1'"),
    ({"format": 1.5, "version": "0"}, "semanir_plugin:format must be"),
    ({"format": True}, "semanir_plugin:format must be"),
    ({"format": -1}, "semanir_plugin:format must be"),
    ({"format": [[1]] * 1000}, "semanir_plugin:format must be a whole number of at least 1, not a list"),
    ({"format": 1, "version": 5}, "semanir_plugin:version must be a string, not 5"),
    ({"format": 1, "version": ["x"]}, "semanir_plugin:version must be a string, not a list"),
]


@pytest.mark.parametrize(("about", "told"), ABOUT)
def test_a_format_that_is_none(tmp_path, about, told):
    path = tmp_path / "net.pth"
    resave(path, lambda content: content.update(semanir_plugin=about))
    safe = tmp_path / "net.safetensors"
    save_file(network().state_dict(), safe, {"network_g": json.dumps(OPTIONS), "semanir_plugin": json.dumps(about)})
    for each in (path, safe):
        with pytest.raises(UserError, match=re.escape(f"{each}: {told}")):
            load(each)


def test_of_a_long_version_the_beginning_is_told(tmp_path):
    path = tmp_path / "net.pth"
    resave(path, lambda content: content.update(semanir_plugin={"format": 2, "version": "9" * 3000}))
    with pytest.raises(UserError, match=r"of format 2, written by semanir_plugin 9{40}; "):
        load(path)


@pytest.mark.parametrize("suffix", ["pth", "safetensors"])
def test_weights_that_are_no_numbers_are_named(tmp_path, suffix):
    path, net = tmp_path / f"net.{suffix}", network()
    net.conv_first.bias.data[2] = torch.nan
    if suffix == "pth":
        resave(path, lambda content: content.update(params=net.state_dict()))
    else:
        save_weights(path, net, OPTIONS)
    with pytest.raises(
        UserError, match=r"its 'conv_first.bias' has values that are no numbers \(NaN\); download or save"
    ):
        load(path)


@pytest.mark.parametrize("content", [b"hello", b"\x08\0\0\0\0\0\0\0{}      ", b"\x08\0\0\0\0\0\0\0{oops"])
def test_damaged_safetensors(tmp_path, content):
    path = tmp_path / "net.safetensors"
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"net\.safetensors: (not a safetensors file|does not say)"):
        load(path)


def test_truncated_and_absent_safetensors(tmp_path):
    path = tmp_path / "net.safetensors"
    save_weights(path, network(), OPTIONS)
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(UserError, match="not a safetensors file, or a damaged one"):
        load(path)
    with pytest.raises(UserError, match=r"no file and no weights .*absent\.safetensors"):
        load(tmp_path / "absent.safetensors")


def test_safetensors_of_others_need_an_option_file(tmp_path):
    path = tmp_path / "net.safetensors"
    save_file(network().state_dict(), path, {"network_g": "SemanIR"})
    with pytest.raises(UserError, match="damaged"):
        load(path)
    save_file(network().state_dict(), path, {"comment": "{not json"})
    with pytest.raises(UserError, match="does not say what network it is of"):
        load(path)
    assert same(load(path, options=OPTIONS).module, network())


def test_converted_files_keep_the_options(trained, tmp_path):
    """What converts checkpoints keeps the tensors alone, often in half precision."""
    halved = {key: value.bfloat16() for key, value in torch.load(trained[0], weights_only=True)["params_ema"].items()}
    save_file(halved, tmp_path / "half.safetensors")
    assert load(tmp_path / "half.safetensors").options == OPTIONS
    torch.save({"state_dict": {f"net_g.{key}": value for key, value in halved.items()}}, tmp_path / "wrapped.pth")
    assert load(tmp_path / "wrapped.pth").options == OPTIONS


RECORDS = [
    (torch.tensor(5.0), "no row of characters"),
    (torch.zeros(200_000), "no row of characters"),
    (torch.full((9,), torch.nan), "no characters"),
    (torch.tensor([300.0, -1.0]), "no characters"),
    (torch.full((50_000,), float(ord("["))), "JSON that is nested too deeply"),
    (to_record({"depths": [1]}), "no options of a network"),
    (torch.tensor([ord(each) for each in "{oops"]).float(), "no JSON, or cut off"),
]


@pytest.mark.parametrize(("record", "told"), RECORDS)
def test_a_record_that_is_none(tmp_path, record, told):
    save_file({**network().state_dict(), RECORD: record}, tmp_path / "net.safetensors")
    with pytest.raises(
        UserError, match=rf"net\.safetensors: its {RECORD} is {told}.*; name the option file it was trained with: -opt"
    ):
        load(tmp_path / "net.safetensors")


def test_a_record_may_ask_for_no_more_than_other_options(tmp_path):
    for options, told in (({**OPTIONS, "embed_dim": 90_000}, "refuses"), ({"type": "SpyNet"}, "asks for SpyNet")):
        save_file({**network().state_dict(), RECORD: to_record(options)}, tmp_path / "net.safetensors")
        with pytest.raises(UserError, match=told):
            load(tmp_path / "net.safetensors")


def test_networks_of_others_have_no_record(model, tmp_path):
    options = {"type": "SRVGGNetCompact", "num_feat": 4, "num_conv": 1, "upscale": 2}
    model.opt["network_g"] = options
    model.save_network(build_network(options, ""), "net_g", 1)
    save_weights(tmp_path / "net_g_1.safetensors", build_network(options, ""), options)
    for path in (tmp_path / "net_g_1.pth", tmp_path / "net_g_1.safetensors"):
        assert RECORD not in read_checkpoint(path)["params"]


@pytest.mark.parametrize("wrap", [lambda net: net, nn.DataParallel, lambda net: {"epoch": 3, "model": net}])
def test_a_network_saved_as_a_whole_is_read_of_whom_one_trusts(tmp_path, monkeypatch, wrap):
    net, path = network(), tmp_path / "whole.pth"
    torch.save(wrap(net), path)
    with pytest.raises(UserError, match=r"would execute code; .*, set SEMANIR_UNPICKLE=.*whole\.pth$"):
        load(path)
    monkeypatch.setenv("SEMANIR_UNPICKLE", str(path))
    loaded = load(path, device="cpu")
    assert loaded.options == net.options
    assert same(loaded.module, net)


def test_of_others_networks_saved_as_a_whole_the_weights_are_read(tmp_path, monkeypatch):
    path = tmp_path / "whole.pth"
    net = nn.Conv2d(3, 3, 1)
    torch.save({"params": net}, path)
    monkeypatch.setenv("SEMANIR_UNPICKLE", str(path))
    assert read_checkpoint(path)["params"].keys() == {"weight", "bias"}
    with pytest.raises(UserError, match="does not say what network it is of"):
        load(path)


def test_modules_pass_over_a_record():
    net = network()
    state = {**net.state_dict(), RECORD: to_record(OPTIONS)}
    assert not any(network(1).load_state_dict(state))
    wrapped = torch.nn.ModuleDict({"net_g": network(1)})
    assert not any(wrapped.load_state_dict({f"net_g.{key}": value for key, value in state.items()}))


def test_an_option_file_counts_more_than_the_checkpoint(trained):
    with pytest.raises(
        UserError, match=r"does not fit SemanIR.*; name other options .*another option file\) or another checkpoint"
    ):
        load(trained[0], options={**OPTIONS, "embed_dim": 4})


def test_shipped_weights_go_by_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(shipped_weights, "FOLDER", tmp_path / "weights")
    with pytest.raises(UserError, match="no file and no weights 'SRx4'; no weights come with this version"):
        find_weights("SRx4")
    (tmp_path / "weights").mkdir()
    for name in ("SemanIR_SRx2", "SemanIR_SRx4"):
        save_weights(tmp_path / "weights" / f"{name}.safetensors", network(), OPTIONS)
    assert find_weights("SemanIR_SRx4") == tmp_path / "weights" / "SemanIR_SRx4.safetensors"
    with pytest.raises(UserError, match=r"did you mean 'SemanIR_SRx4'\?; names: SemanIR_SRx2, SemanIR_SRx4"):
        find_weights("semanir_srx44")
    (tmp_path / "SemanIR_SRx4").write_bytes(np.zeros(1).tobytes())
    assert find_weights("SemanIR_SRx4").resolve() == tmp_path / "SemanIR_SRx4", "a file comes first"


@pytest.mark.parametrize("name", ["a" * 5000, "a\0b", "no/such/folder/net.pth"])
def test_names_that_are_no_files_are_told(name):
    with pytest.raises(UserError, match="no file and no weights"):
        load(name)


def test_equal_weights_are_equal_files(tmp_path):
    net = network(0)
    for number in range(6):
        save_weights(tmp_path / f"{number}.safetensors", net, OPTIONS)
    assert len({path.read_bytes() for path in tmp_path.iterdir()}) == 1
    with safe_open(tmp_path / "0.safetensors", "pt") as file:
        assert set(file.metadata()) == {"format", "network_g", "semanir_plugin"}
        assert torch.equal(file.get_tensor("conv_first.weight"), net.conv_first.weight)
