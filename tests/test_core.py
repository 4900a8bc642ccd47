"""The core: this package where neither BasicSR, mmengine nor LMDB can be imported."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

REPOSITORY = Path(__file__).resolve().parents[1]
IN_REPOSITORY = (REPOSITORY / "semanir_plugin").is_dir()  # scripts/check_package.py runs a copy of this file elsewhere
PICTURE = REPOSITORY / "docs" / "images" if IN_REPOSITORY else Path(__file__).parent

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
"""
ONE_COMMAND = "sys.exit(main(sys.argv[1:]))\n"
COMMANDS_IN_TURN = """
import json
for arguments in json.loads(sys.argv[1]):
    try:
        code = main(arguments)
    except SystemExit as end:
        code = end.code
    assert not code, f"basicsr {arguments[0]} ends with {code}"
"""
OPTIONS = "network_g: {type: SemanIR, embed_dim: 8, depths: [1], num_heads: [2], window_size: 8, topk: 12}\n"
PARTS = ("ops", "blocks", "mixing", "archs", "degradations", "metrics", "losses", "inference", "web", "export")


def run(code, *arguments, cwd):
    command = [sys.executable, "-c", code, *map(str, arguments)]
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)} if IN_REPOSITORY else dict(os.environ)
    return subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True)


def python(code, *arguments, cwd):
    done = run(code, *arguments, cwd=cwd)
    assert done.returncode == 0, done.stderr


@pytest.fixture
def photo(tmp_path):
    path = tmp_path / "photo.png"
    Image.open(PICTURE / "semanir_mini_x4.jpg").crop((40, 40, 104, 104)).save(path)
    return path


def test_a_photograph_is_restored_in_three_lines(tmp_path, photo):
    code = (
        "import semanir_plugin\n"
        "net = semanir_plugin.load('semanir-mini-x4')\n"
        "net.restore('photo.png').save('restored.png')\n"
        "assert 'torch._dynamo' not in sys.modules, 'a second is lost in importing the compiler'"
    )
    python(ALONE + code, cwd=tmp_path)
    small = Image.open(tmp_path / "restored.png").resize((64, 64), Image.Resampling.BOX)
    difference = np.abs(np.asarray(small, float) - np.asarray(Image.open(photo))).mean()
    assert difference < 3


def test_every_module_of_the_core_can_be_imported(tmp_path):
    code = (
        "import importlib, pkgutil\n"
        "for name in sys.argv[1:]:\n"
        "    part = importlib.import_module(f'semanir_plugin.{name}')\n"
        "    for module in pkgutil.walk_packages(part.__path__, part.__name__ + '.'):\n"
        "        if 'triton' not in module.name.rpartition('.')[2]: importlib.import_module(module.name)"
    )
    python(ALONE + code, *PARTS, cwd=tmp_path)


def test_kernels_come_with_the_wheel_or_are_compiled_here(tmp_path):
    code = (
        "import torch\n"
        "from semanir_plugin.ops.common import native_support\n"
        "from semanir_plugin.ops.key_semantics import native_backend\n"
        "print(native_support.describe(native_backend.SOURCE))"
    )
    told = run(ALONE + code, cwd=tmp_path).stdout
    has_wheel = sys.platform == "linux" and platform.machine() in ("x86_64", "aarch64")
    assert told.startswith("came with the package: " if has_wheel and not IN_REPOSITORY else "compiled here: ")


def test_commands_that_need_no_host(tmp_path, photo):
    (tmp_path / "net.yml").write_text(OPTIONS)
    commands = [
        ["--help"],
        ["env"],
        ["options", "show", "train_SemanIR_B_SRx2"],
        ["restore", "photo.png", "-o", "out", "--model", "semanir-mini-x4", "--tile", "48", "--tile-overlap", "16"],
        ["explain", "photo.png", "--at", "30,20", "--model", "semanir-mini-x4", "-o", "explained.png"],
        ["profile", "-opt", "net.yml", "--size", "32x32", "-o", "profiles"],
    ]
    python(WITHOUT_HOST + COMMANDS_IN_TURN, json.dumps(commands), cwd=tmp_path)
    assert (tmp_path / "out" / "photo.png").is_file()
    assert (tmp_path / "explained.png").is_file()


def test_what_needs_the_host_says_how_to_install_it(tmp_path):
    done = run(WITHOUT_HOST + ONE_COMMAND, "train", "-opt", "net.yml", cwd=tmp_path)
    assert done.returncode == 2
    assert done.stderr.startswith(
        "basicsr train: BasicSR is not installed; run: python -m semanir_plugin.basicsr_host.install"
    )
    assert done.stderr.count("\n") == 1
