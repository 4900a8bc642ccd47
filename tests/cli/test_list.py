from __future__ import annotations

import pytest
from basicsr.utils.registry import ARCH_REGISTRY
from torch.nn import Conv2d

from semanir_plugin.blocks import BLOCKS
from semanir_plugin.cli import main
from semanir_plugin.cli.list import KINDS
from tests.conftest import ROOT


def test_everything_is_listed_with_its_arguments(capsys):
    assert main(["list"]) == 0
    out = capsys.readouterr().out
    sections = [line for line in out.splitlines() if line and not line.startswith(" ")]
    assert sections == list(KINDS)
    for name in (*BLOCKS, "SemanIR", "SwinIR", "MixedArch", "PairedImageDataset", "FFTLoss", "calculate_psnr_b"):
        assert f"\n  {name}" in out
    lines = out.splitlines()
    assert "position_bias='table'" in " ".join(out.split())
    assert "num_heads=None, window_size=8, shift=0, topk=None, similarity='dot'" in out
    at = next(index for index, line in enumerate(lines) if line.startswith("  GaussianNoiseDataset: "))
    described = " ".join(line.strip() for line in lines[at + 1 : at + 4])
    assert "sigma" in described
    assert "noise_seed=0" in described
    assert "dataroot_gt" in described
    at = next(index for index, line in enumerate(lines) if line.startswith("  EDVRModel: "))
    assert lines[at + 1].strip() == "train:dcn_lr_mul, train:tsa_iter"
    for name in ("sr_y_crop@1: ", "semanir-mini-x4: For small pictures", "AdamW: ", "CosineAnnealingRestartLR: "):
        assert f"\n  {name}" in out
    assert "      T_max, eta_min=0.0\n" in out
    assert "_basicsr" not in out


def test_what_reads_the_list_may_have_enough_of_it(python):
    command = 'import sys; print("first"); from semanir_plugin.cli import main; sys.exit(main(["list"]))'
    first = "import subprocess, sys; p = subprocess.Popen([sys.executable, '-c', sys.argv[1]], stdout=-1, stderr=-1); "
    print_it = "p.stdout.readline(); p.stdout.close(); print(p.stderr.read().decode(), p.wait())"
    assert python(f"import sys; sys.argv[1:] = [{command!r}]; {first}{print_it}").split() == ["0"]


def test_some_kinds_are_listed(capsys):
    assert main(["list", "losses", "blocks"]) == 0
    out = capsys.readouterr().out
    assert out.index("losses\n") < out.index("blocks\n")
    assert "SemanIR:" not in out


def test_modules_are_listed_with_their_features(capsys, tmp_path):
    opt = tmp_path / "swinir.yml"
    opt.write_text(
        "network_g:\n  type: MixedArch\n  mix: []\n  base: {type: SwinIR, img_size: 16, window_size: 8, embed_dim: 12, "
        "depths: [2], num_heads: [2], upsampler: pixelshuffledirect, upscale: 2}\n"
    )
    assert main(["list", "--modules", "-opt", str(opt)]) == 0
    rows = {line.split()[0]: " ".join(line.split()[1:]) for line in capsys.readouterr().out.splitlines()}
    assert rows["layers.0"] == "RSTB sequence, 12 channels"
    assert rows["layers.0.residual_group.blocks.1.attn"] == "WindowAttention windows of 64 tokens, 12 channels"
    assert rows["layers.0.conv"] == "Conv2d map, 12 channels"
    assert rows["upsample.1"] == "PixelShuffle 1 x 12 x 32 x 48 to 1 x 3 x 64 x 96"


def test_modules_of_a_shipped_recipe_are_listed(capsys):
    opt = ROOT / "options" / "train_SemanIR_SRx4.yml"
    shrink = ["network_g:embed_dim=8", "network_g:depths=[1]", "network_g:num_heads=[2]", "network_g:window_size=8"]
    assert main(["list", "--modules", "-opt", str(opt), "--force_yml", *shrink]) == 0
    assert "stages.0.layers.0.mlp" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["archz"], "unknown kind 'archz'; known: archs, blocks"),
        (["--modules"], "give both --modules and -opt FILE"),
        (["-opt", "x.yml"], "give both --modules and -opt FILE"),
        (["--modules", "-opt", "nowhere.yml"], "nowhere.yml"),
        (["--modules", "-opt", "empty.yml"], "missing 'network_g'"),
        (["--modules", "-opt", "unknown.yml"], r"unknown.yml:1: network_g: unknown architecture 'SwnIR'"),
        (["--modules", "-opt", "wrong.yml"], r"wrong.yml:1: network_g: .*num_feet"),
    ],
)
def test_mistakes_are_one_line_and_exit_code_2(args, message, capsys, tmp_path, monkeypatch):
    import re

    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty.yml").write_text("name: x\n")
    (tmp_path / "unknown.yml").write_text("network_g: {type: SwnIR}\n")
    (tmp_path / "wrong.yml").write_text("network_g: {type: EDSR, num_in_ch: 3, num_out_ch: 3, num_feet: 3}\n")
    assert main(["list", *args]) == 2
    error = capsys.readouterr().err
    assert re.search(message, error)
    assert error.count("\n") == 1


def test_a_network_without_modules_has_a_head_alone(capsys, tmp_path, monkeypatch):
    monkeypatch.setitem(ARCH_REGISTRY._obj_map, "Bare", type("Bare", (Conv2d,), {}))
    (tmp_path / "bare.yml").write_text(
        "network_g: {type: Bare, in_channels: 3, out_channels: 3, kernel_size: 3, padding: 1}\n"
    )
    assert main(["list", "--modules", "-opt", str(tmp_path / "bare.yml")]) == 0
    assert capsys.readouterr().out.split() == ["module", "class", "features"]
