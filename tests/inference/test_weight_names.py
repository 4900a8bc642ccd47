"""Checkpoints of other training codes: of compiled, parallel and averaged networks, and of LightningModules."""

from __future__ import annotations

import re

import pytest
import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel

import semanir_plugin
from semanir_plugin.archs.semanir_arch import SemanIR
from semanir_plugin.errors import UserError
from semanir_plugin.inference.checkpoints import fit_weights, read_checkpoint, select_weights

OPTIONS = {
    **{"upscale": 2, "embed_dim": 8, "depths": [1], "num_heads": [2], "window_size": 8, "topk": 8},
    **{"upsampler": "pixelshuffledirect", "compile_backend": None},
}


@pytest.fixture(scope="module")
def net():
    return SemanIR(**OPTIONS).eval()


class Lightning(nn.Module):
    def __init__(self, **parts):
        super().__init__()
        for name, part in parts.items():
            self.add_module(name, part)


def of_lightning(**parts):
    return {"epoch": 3, "pytorch-lightning_version": "2.5.0", "state_dict": Lightning(**parts).state_dict()}


def compiled(net):
    return {f"_orig_mod.{name}": value for name, value in net.state_dict().items()}


NAMES = ["model", "netG", "generator", "network", "net", "ema_model"]

WRAPPED = {
    "compiled": compiled,
    "compiled in part": lambda net: {k.replace("0.", "0._orig_mod.", 1): v for k, v in net.state_dict().items()},
    "parallel": lambda net: nn.DataParallel(net).state_dict(),
    "parallel and compiled": lambda net: {f"module.{name}": value for name, value in compiled(net).items()},
    "averaged": lambda net: {"params": AveragedModel(net).state_dict()},
    "averaged and parallel": lambda net: AveragedModel(nn.DataParallel(net)).state_dict(),
    "lightning": lambda net: of_lightning(net_g=net, net_d=nn.Linear(2, 2)),
    "lightning with another name": lambda net: of_lightning(model=net, loss=nn.Linear(2, 2)),
    "lightning that is compiled": lambda net: {
        "pytorch-lightning_version": "2.5.0",
        "state_dict": {f"_orig_mod.{name}": value for name, value in Lightning(net_g=net).state_dict().items()},
    },
    **{f"wrapped as {name}": lambda net, name=name: Lightning(**{name: net}).state_dict() for name in NAMES},
    "wrapped and parallel": lambda net: {f"model.module.{k}": v for k, v in net.state_dict().items()},
    "beside others": lambda net: {"state_dict": Lightning(generator=net, discriminator=nn.Linear(2, 2)).state_dict()},
    "another entry": lambda net: {"epoch": 3, "model_state_dict": net.state_dict(), "optimizer": {"state": {}}},
    "bare, of lightning": lambda net: Lightning(net_g=net, net_d=nn.Linear(2, 2)).state_dict(),
}


@pytest.mark.parametrize("kind", WRAPPED)
def test_they_load_as_the_network_they_wrap(kind, net, tmp_path):
    torch.save(WRAPPED[kind](net), tmp_path / "x.pth")
    loaded = semanir_plugin.load(tmp_path / "x.pth", options={"type": "SemanIR", **OPTIONS}, device="cpu").module
    assert all(torch.equal(value, loaded.state_dict()[name]) for name, value in net.state_dict().items())


W = torch.zeros(2, 2)
REFUSED = {
    "number": ({"params": {3: W}}, "3 is no name of a weight; save a state_dict"),
    "text": ({"params": {"weight": "W"}}, "its 'weight' is a str, no tensor; save a state_dict"),
    "text beside weights": ({"weight": W, "epoch": 3}, "its 'epoch' is a int, no tensor; save a state_dict"),
    "whole numbers": ({"params": {"weight": W.int()}}, "its 'weight' is of int32, no fractions; save plain weights"),
    "truths": ({"params": {"weight": W.bool()}}, "its 'weight' is of bool, no fractions; save plain weights"),
    "several entries": (
        {"a": {"weight": W}, "b": {"weight": W}},
        "holds no weights under 'params', but a, b; set path",
    ),
    "collision": (
        {"params": {"module.weight": W, "weight": W}},
        "'weight' and another weight are both 'weight'; save the network alone",
    ),
    "lightning": (
        {"pytorch-lightning_version": "2", "state_dict": {"a.weight": W, "b.weight": W}},
        "of a LightningModule, none of whose parts (a, b) is called net_g, netG, generator, network, net, model",
    ),
    "complex": ({"params": {"weight": W.to(torch.complex64)}}, "its 'weight' is complex; save plain weights"),
    "sparse": ({"params": {"weight": W.to_sparse()}}, "its 'weight' is sparse; save plain weights"),
    "meta": (
        {"params": {"weight": W.to("meta")}},
        "its 'weight' is without values (on the device 'meta'); save plain weights",
    ),
    "quantised": (
        {"params": {"weight": torch.quantize_per_tensor(W, 1, 0, torch.qint8)}},
        "its 'weight' is quantised; save plain weights",
    ),
    "nested": (
        {"params": {"weight": torch.nested.nested_tensor([W[0], W[1]])}},
        "its 'weight' is nested; save plain weights",
    ),
    "no weights": ({1: 2}, "holds no weights under 'params', but 1; set path.param_key_g"),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_what_is_wrong_is_told_with_file_and_name(kind, tmp_path):
    content, told = REFUSED[kind]
    torch.save(content, tmp_path / "x.pth")
    net = nn.Linear(2, 2, bias=False)
    with pytest.raises(UserError, match=f"^{tmp_path}/x.pth: {re.escape(told)}"):
        fit_weights(
            net, select_weights(read_checkpoint(tmp_path / "x.pth"), "params", f"{tmp_path}/x.pth"), f"{tmp_path}/x.pth"
        )


@pytest.mark.parametrize(("more", "keys"), [({}, "params"), ({"params_ema": {"weight": W}}, "params or params_ema")])
def test_weights_one_level_below_are_told_where_they_are(more, keys):
    checkpoint = {"network_g": {"type": "Linear"}, "params": {"weight": W}, **more}
    told = f"x.pth: its 'network_g' is a dict, no tensor; its weights have the key {keys}"
    with pytest.raises(UserError, match=f"^{re.escape(told)}$"):
        select_weights(checkpoint, None, "x.pth")


def test_weights_of_which_none_fits_are_no_weights_of_the_network(tmp_path):
    net = nn.Linear(2, 2)
    fit_weights(net, {"bias": torch.ones(2), "other": W}, "x.pth", strict=False)
    assert net.bias.tolist() == [1, 1]
    with pytest.raises(UserError, match=r"^x.pth: none of its weights fits Linear \(bias, other\); check network_g$"):
        fit_weights(net, {"bias": torch.ones(3), "other": W}, "x.pth", strict=False)


def test_restoring_advises_what_it_can_do(tmp_path):
    torch.save({"weights": [W]}, tmp_path / "x.pth")
    with pytest.raises(UserError, match=r"but weights; name a file that has some$"):
        semanir_plugin.load(tmp_path / "x.pth", options={"type": "SemanIR", **OPTIONS})
