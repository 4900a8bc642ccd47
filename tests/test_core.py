"""The core: this package where neither BasicSR, mmengine nor LMDB can be imported."""

from __future__ import annotations

import os
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from tests.conftest import ROOT

# All that the core takes beside torch; PyYAML, tqdm and tifffile only where they are used.
ALONE = """
import sys
for name in ("basicsr", "mmengine", "lmdb", "scipy", "skimage", "torchvision", "matplotlib", "rich", "yaml", "tqdm",
             "tifffile", "lpips", "triton"):
    sys.modules[name] = None
"""
# `basicsr restore` and the like also read option files and show their progress.
WITHOUT_HOST = """
import sys
from importlib.machinery import PathFinder
find = PathFinder.find_spec
hosts = ("basicsr", "mmengine", "lmdb")
PathFinder.find_spec = lambda name, *rest: None if name.partition(".")[0] in hosts else find(name, *rest)
from semanir_plugin.cli import main
sys.exit(main(sys.argv[1:]))
"""
PARTS = ("ops", "blocks", "mixing", "archs", "degradations", "metrics", "losses", "inference")


def run(code, *arguments, cwd):
    command = [sys.executable, "-c", code, *map(str, arguments)]
    return subprocess.run(command, cwd=cwd, env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True)


def python(code, *arguments, cwd):
    done = run(code, *arguments, cwd=cwd)
    assert done.returncode == 0, done.stderr


@pytest.fixture
def photo(tmp_path, photos):
    path = tmp_path / "photo.png"
    Image.open(photos["coffee.png"]).crop((100, 100, 164, 164)).save(path)
    return path


def test_a_photograph_is_restored_in_three_lines(tmp_path, photo):
    code = (
        "import semanir_plugin\n"
        "net = semanir_plugin.load('semanir-mini-x4')\n"
        "net.restore('photo.png').save('restored.png')"
    )
    python(ALONE + code, cwd=tmp_path)
    small = Image.open(tmp_path / "restored.png").resize((64, 64), Image.Resampling.BOX)
    difference = np.abs(np.asarray(small, float) - np.asarray(Image.open(photo))).mean()
    assert difference < 3


@pytest.mark.parametrize("part", PARTS)
def test_every_module_of_the_core_can_be_imported(tmp_path, part):
    code = (
        f"import importlib, pkgutil, semanir_plugin.{part} as part\n"
        "for module in pkgutil.walk_packages(part.__path__, part.__name__ + '.'):\n"
        "    if 'triton' not in module.name.rpartition('.')[2]: importlib.import_module(module.name)"
    )
    python(ALONE + code, cwd=tmp_path)


@pytest.mark.parametrize(
    "arguments",
    [
        ["restore", "photo.png", "-o", "out", "--model", "semanir-mini-x4", "--tile", "48", "--tile-overlap", "16"],
        ["explain", "photo.png", "--at", "30,20", "--model", "semanir-mini-x4", "-o", "explained.png"],
        ["profile", "-opt", ROOT / "options" / "test_SemanIR_mini_SRx4.yml", "--size", "32x32", "-o", "profiles"],
        ["--help"],
    ],
    ids=lambda arguments: arguments[0],
)
def test_commands_that_need_no_host(tmp_path, photo, arguments):
    python(WITHOUT_HOST, *arguments, cwd=tmp_path)


def test_what_needs_the_host_says_how_to_install_it(tmp_path):
    done = run(WITHOUT_HOST, "train", "-opt", ROOT / "options" / "train_SemanIR_SRx4.yml", cwd=tmp_path)
    assert done.returncode == 2
    assert done.stderr.startswith("basicsr train: BasicSR is not installed; run: pip install")
    assert done.stderr.count("\n") == 1
