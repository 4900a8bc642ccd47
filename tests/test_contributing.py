"""The recipes and the map in CONTRIBUTING.md."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch
from basicsr.utils.registry import ARCH_REGISTRY

from semanir_plugin.blocks import SizeRequirements
from semanir_plugin.cli import main
from semanir_plugin.registration import register
from tests.conftest import ROOT, tiny_overrides

TEXT = (ROOT / "CONTRIBUTING.md").read_text()


def test_the_map_shows_what_is_there():
    folders = {path.name for path in (ROOT / "semanir_plugin").iterdir() if path.is_dir()} - {"__pycache__"}
    assert set(re.findall(r"^  (\w+)/ ", TEXT, re.MULTILINE)) == folders


def test_imports_run_one_way():
    order = [("ops",), ("blocks",), ("archs",), ("models", "data", "losses", "metrics"), ("engine",), ("cli",)]
    for position, package in ((position, package) for position, each in enumerate(order) for package in each):
        later = "|".join(package for each in order[position + 1 :] for package in each)
        for path in (ROOT / "semanir_plugin" / package).rglob("*.py"):
            assert not later or not re.search(rf"from semanir_plugin\.({later})\b", path.read_text()), path


@pytest.mark.parametrize("op", [path.name for path in (ROOT / "semanir_plugin" / "ops").iterdir() if path.is_dir()])
def test_every_op_has_a_truth_and_a_test(op):
    if op == "common" or op.startswith("__"):
        pytest.skip("what ops share, or bytecode")
    folder = ROOT / "semanir_plugin" / "ops" / op
    assert re.findall(r"^(?:from|import) (\w+)", (folder / "naive.py").read_text(), re.MULTILINE)[1:].count("torch")
    assert (ROOT / "tests" / "ops" / f"test_{op}.py").is_file()


def test_an_architecture_added_by_the_recipe_trains(sr_data, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)

    @register(ARCH_REGISTRY)
    class OneConvolution(torch.nn.Module):
        def __init__(self, *, upscale: int, width: int = 8) -> None:
            super().__init__()
            self.size_requirements = SizeRequirements(multiple_of=2)
            self.layers = torch.nn.Sequential(
                torch.nn.Conv2d(3, width, 2, stride=2), torch.nn.ConvTranspose2d(width, 3, 2 * upscale, 2 * upscale)
            )

        def forward(self, x):
            return self.layers(x)

    try:
        entries = [entry for entry in tiny_overrides(sr_data) if not entry.startswith("network_g")]
        entries += ["train:total_iter=2", "val:val_freq=2"]
        recipe = (ROOT / "options" / "train_SemanIR_SRx4.yml").read_text()
        start, stop = recipe.index("network_g:"), recipe.index("path:\n")
        for key, code in (("width", 0), ("widht", 2)):
            network = f"network_g:\n  type: OneConvolution\n  upscale: 4\n  {key}: 4\n\n"
            Path("mine.yml").write_text(recipe[:start] + network + recipe[stop:])
            assert main(["train", "-opt", "mine.yml", "--force_yml", *entries]) == code
        assert "did you mean 'width'" in capsys.readouterr().err
    finally:
        del ARCH_REGISTRY._obj_map["OneConvolution"]
