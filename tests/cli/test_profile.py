from __future__ import annotations

import json
from pathlib import Path

import pytest
from PIL import Image

from semanir_plugin.cli import main
from tests.conftest import ROOT, TINY_NETWORK

RECIPE = str(ROOT / "options" / "test_SemanIR_SRx4.yml")
TINY = [f"network_g:{key}={value}" for key, value in TINY_NETWORK.items()]


@pytest.fixture(autouse=True)
def _folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def run(*arguments, recipe=RECIPE):
    return main(["profile", "-opt", recipe, "-o", "out", "--repeats", "1", *arguments])


def test_a_shipped_option_file(capsys):
    assert run("--size", "16x24", "8x8", "--force_yml", *TINY) == 0
    out = capsys.readouterr()
    assert out.out.splitlines()[-1] == "out: profile.json, profile.png"
    assert "16x24\n\npart " in out.out
    report = json.loads(Path("out/profile.json").read_text())
    assert [profile["size"] for profile in report["profiles"]] == [[16, 24], [8, 8]]
    assert report["network_g"]["type"] == "SemanIR"
    assert report["network_g"]["embed_dim"] == 8
    stages = report["profiles"][0]["stages"]
    assert [stage["name"] for stage in stages if "stages" in stage["name"]] == ["stages.0", "stages.1"]
    assert report["profiles"][0]["ops"][0]["shape"] == [6, 2, 64, 4]
    width, height = Image.open("out/profile.png").size
    assert width > 1000
    assert height > 500


def test_an_architecture_of_basicsr(capsys):
    network = "{type: SRVGGNetCompact, num_feat: 4, num_conv: 1, num_in_ch: 1, num_out_ch: 1}"
    Path("mine.yml").write_text(f"network_g: {network}\n")
    assert run(recipe="mine.yml") == 0
    assert "128x128" in capsys.readouterr().out
    assert json.loads(Path("out/profile.json").read_text())["profiles"][0]["ops"] == []


@pytest.mark.parametrize(
    ("content", "arguments", "told"),
    [
        ("name: x", [], "mine.yml: has no network_g with a type"),
        ("network_g: {type: SemanIRR}", [], "mine.yml: unknown architecture 'SemanIRR'; did you mean 'SemanIR'?"),
        ("network_g: {type: SemanIR, depth: 3}", [], "mine.yml: SemanIR refuses its options: "),
        ("network_g: {type: SwinIR}", ["--size", "0x7"], None),
        ("network_g: {type: EDSR, num_in_ch: 1, num_out_ch: 1}", [], "--size 128x128: the network does not take it: "),
        ("network_g: {type: AST}", ["--device", "tpu9"], "--device tpu9: "),
        ("network_g: {type: AST}", ["--repeats", "0"], "--repeats must be at least 1"),
        ("network_g: {type: AST}", ["-o", "mine.yml/x"], "mine.yml/x: cannot write there"),
    ],
)
def test_mistakes_are_one_line_and_exit_code_2(capsys, content, arguments, told):
    Path("mine.yml").write_text(content)
    if told is None:
        with pytest.raises(SystemExit) as caught:
            run(*arguments, recipe="mine.yml")
        assert caught.value.code == 2
        assert "must be HEIGHTxWIDTH, such as 64x96, not '0x7'" in capsys.readouterr().err
        return
    assert run(*arguments, recipe="mine.yml") == 2
    error = capsys.readouterr().err
    assert error.startswith(f"basicsr profile: {told}")
    assert error.count("\n") == 1
    assert not Path("out/profile.json").exists()


def test_it_explains_itself(capsys):
    with pytest.raises(SystemExit):
        main(["profile", "--help"])
    assert "basicsr profile -opt options/test_SemanIR_SRx4.yml" in capsys.readouterr().out
