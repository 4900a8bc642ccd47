from __future__ import annotations

import logging

import pytest
import torch
from basicsr.archs import build_network

from semanir_plugin.basicsr_host.engine.validation import validate_options
from semanir_plugin.cli import main
from semanir_plugin.errors import UserError
from semanir_plugin.option_files import load_options
from tests.archs.test_every_arch import TINY
from tests.conftest import ROOT
from tests.mixing.hosts import HOSTS, SWINIR

ATTENTION = {"where": "WindowAttention", "what": "key_semantic", "how": "replace"}


def mixed(base, *entries):
    return build_network({"type": "MixedArch", "base": base, "mix": list(entries)})


def test_sizes_and_topk_are_the_hosts():
    net = mixed(SWINIR, ATTENTION)
    assert net.descriptor.size.multiple_of == 4
    assert net.descriptor.topk is None
    assert net(torch.rand(2, 3, 8, 12)).is_contiguous(), "the host's is not"
    assert mixed(HOSTS["EDSR"], {"where": "body", "what": "frfn"}).descriptor.size.multiple_of == 1
    ours = mixed({"type": "SemanIR", **TINY["SemanIR"], "topk": [4, 9]}, {"where": "stages.0", "what": "frfn"})
    assert ours.descriptor.size.multiple_of == 8
    assert ours.descriptor.topk == (4, 9)
    x = torch.rand(1, 3, 16, 24)
    with torch.no_grad():
        assert not torch.equal(ours.eval()(x, topk=2), ours(x, topk=9))


def test_a_host_may_be_registered_under_basicsrs_suffix():
    net = mixed({"type": "SRVGGNetCompact", "num_feat": 8, "num_conv": 2}, {"where": "body.2", "what": "mlp"})
    assert net(torch.rand(1, 3, 9, 7)).shape == (1, 3, 36, 28)


def test_weights_of_the_host_are_completed_and_it_is_logged(caplog):
    host, net = build_network(SWINIR), mixed(SWINIR, ATTENTION, {"where": "RSTB", "what": "frfn"})
    with caplog.at_level(logging.INFO, logger="basicsr"):
        logging.getLogger("basicsr").propagate = True
        net.load_state_dict(net.translate_state(host.state_dict()))
    assert "weights of the host taken" in caplog.text
    assert "of replaced modules left out" in caplog.text
    assert torch.equal(net.network.conv_first.weight, host.conv_first.weight)
    own = net.state_dict()
    assert net.translate_state(own) is own


def test_a_host_that_reads_others_layouts_still_does():
    from semanir_plugin.archs.ast_checkpoints import to_authors_layout

    base = {"type": "AST", **TINY["AST"]}
    host = build_network(base)
    net = mixed(base, {"where": "bottom", "what": "frfn"})
    net.load_state_dict(net.translate_state(to_authors_layout(host.state_dict())))
    assert torch.equal(net.network.conv_first.weight, host.conv_first.weight)


def test_it_may_be_mixed_into_itself():
    inner = {"type": "MixedArch", "base": HOSTS["EDSR"], "mix": [{"where": "body.0", "what": "frfn"}]}
    net = mixed(inner, {"where": "network.body.1", "what": "assa"})
    own = net.state_dict()
    assert net.translate_state(own) is own
    net.load_state_dict(net.translate_state(build_network(inner).state_dict()))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("base: {type: SwnIR}, mix: []", r"base: unknown architecture 'SwnIR'; did you mean 'SwinIR'"),
        ("base: {type: EDSR, num_in_ch: 3, num_out_ch: 3, num_feet: 8}, mix: []", "unknown key 'num_feet' of EDSR"),
        ("base: {type: EDSR, num_in_ch: 3, num_out_ch: 3, upscale: 2}, mix: []", "upscale 2 is not the scale 4"),
        ("mix: []", "MixedArch needs 'base'"),
        (
            "base: {type: EDSR, num_in_ch: 3, num_out_ch: 3}, mix: [{where: body, what: frnf}]",
            r"mix\[0\]: unknown block",
        ),
        ("base: {type: EDSR, num_in_ch: 3, num_out_ch: 3}, mix: [3]", r"mix\[0\]: an entry has where"),
    ],
)
def test_option_files_are_checked_before_any_work(text, message, tmp_path):
    path = tmp_path / "mixed.yml"
    path.write_text(f"base: train_SemanIR_light_ASSA_SRx4.yml\nnetwork_g: {{type: MixedArch, {text}}}\n")
    with pytest.raises(UserError, match=f"mixed.yml:2: network_g.*{message}"):
        validate_options(load_options(str(path)), is_train=True)


def test_a_pattern_that_matches_nothing_ends_the_command_with_one_line(tmp_path, sr_data, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "mixed.yml"
    path.write_text((ROOT / "options" / "train_EDSR_FRFN_SRx4.yml").read_text().replace("body.*", "boddy.*"))
    data = [f"datasets:{phase}:dataroot_gt={sr_data / 'val' / 'GT'}" for phase in ("train", "val")]
    small = ["datasets:train:gt_size=32", "datasets:train:batch_size_per_gpu=1", "train:amp=~", "num_gpu=0"]
    assert main(["train", "-opt", str(path), "--force_yml", *data, *small]) == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert "mix[0]: nothing matches 'boddy.*'" in error
    assert not (tmp_path / "experiments").exists()
