"""Packages of other people, whose names option files use: installed ones, and modules that the command line names."""

from __future__ import annotations

import importlib
import itertools
import sys
from pathlib import Path

import cv2
import pytest
import yaml

from semanir_plugin import extensions
from semanir_plugin.cli import main
from semanir_plugin.registry import REGISTRIES
from tests.conftest import ROOT

numbers = itertools.count()

SOURCE = '''
from basicsr.data.paired_image_dataset import PairedImageDataset
from basicsr.models.sr_model import SRModel
from basicsr.utils.registry import ARCH_REGISTRY, DATASET_REGISTRY, LOSS_REGISTRY, MODEL_REGISTRY
from torch import nn


@ARCH_REGISTRY.register()
class {name}Net(nn.Sequential):
    def __init__(self, width=4):
        super().__init__(nn.Conv2d(3, width, 3, padding=1), nn.Conv2d(width, 48, 3, padding=1), nn.PixelShuffle(4))


@DATASET_REGISTRY.register()
class {name}Pairs(PairedImageDataset):
    pass


@LOSS_REGISTRY.register()
class {name}Loss(nn.L1Loss):
    pass


@MODEL_REGISTRY.register()
class {name}Model(SRModel):
    """Trains like SRModel."""
'''


class Package:
    """A package of somebody: `folder` holds its module, and its metadata where it is installed."""

    def __init__(self, folder: Path) -> None:
        number = next(numbers)
        self.folder, self.module, self.name = folder, f"somebodys_{number}", f"Somebody{number}"
        self.write(SOURCE.format(name=self.name))

    def write(self, source: str) -> None:
        self.folder.mkdir(exist_ok=True)
        (self.folder / f"{self.module}.py").write_text(source)

    def install(self, monkeypatch, *, announced: bool = False, named_module: bool = True) -> None:
        info = self.folder / f"{self.module}-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {self.module}\nVersion: 1.0\n")
        if named_module:
            (info / "top_level.txt").write_text(f"{self.module}\n")
        if announced:
            (info / "entry_points.txt").write_text(f"[{extensions.GROUP}]\nx = {self.module}\n")
        monkeypatch.syspath_prepend(str(self.folder))

    def options(self, data: Path | None = None, **more: object) -> str:
        """Write an option file that uses everything the package has, on the data of `sr_data`; return its path."""
        data = data or Path("nowhere")
        pairs = {
            "type": f"{self.name}Pairs",
            "use_hflip": True,
            "use_rot": True,
            "gt_size": 32,
            "batch_size_per_gpu": 2,
        }
        lmdbs = {"dataroot_gt": f"{data}/train/GT.lmdb", "dataroot_lq": f"{data}/train/LR_bicubic_X4.lmdb"}
        folders = {"dataroot_gt": f"{data}/val/GT", "dataroot_lq": f"{data}/val/LR_bicubic_X4"}
        options = {
            **{"name": self.module, "model_type": f"{self.name}Model", "scale": 4, "num_gpu": 0, **more},
            "network_g": {"type": f"{self.name}Net", "width": 5},
            "datasets": {
                "train": {**pairs, **lmdbs, "io_backend": {"type": "lmdb"}},
                "val": {"type": f"{self.name}Pairs", **folders},
            },
            "train": {
                **{
                    "total_iter": 2,
                    "optim_g": {"type": "Adam", "lr": 1.0e-3},
                    "pixel_opt": {"type": f"{self.name}Loss"},
                },
                "scheduler": {"type": "MultiStepLR", "milestones": [2]},
            },
            "val": {"val_freq": 2, "metrics": {"psnr": {"type": "calculate_psnr", "crop_border": 4}}},
        }
        Path("mine.yml").write_text(yaml.safe_dump(options, sort_keys=False))
        return "mine.yml"


@pytest.fixture
def package(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr(extensions, "_imported", {})
    made = Package(tmp_path / "site")
    yield made
    sys.modules.pop(made.module, None)
    for registry in REGISTRIES:
        entries = getattr(importlib.import_module("basicsr.utils.registry"), registry.host_name)._obj_map
        for name in [each for each in entries if each.startswith(made.name)]:
            del entries[name]


def test_an_installed_package_is_used_everywhere(package, sr_data, monkeypatch, capsys):
    package.install(monkeypatch)
    opt = package.options(sr_data, imports=[package.module])
    assert main(["train", "-opt", opt]) == 0, capsys.readouterr().err
    weights = f"experiments/{package.module}/models/net_g_latest.pth"
    assert f"mine.yml:5: imports: {package.module} is imported, a module of {package.module}" in capsys.readouterr().err
    assert main(["test", "-opt", opt]) == 0
    photo = next((sr_data / "val" / "LR_bicubic_X4").iterdir())
    assert main(["restore", str(photo), "-o", "x4.png", "--model", weights]) == 0
    assert cv2.imread("x4.png").shape[0] == 4 * cv2.imread(str(photo)).shape[0]
    board = {
        **{"name": "board", "task": "sr", "protocol": "sr_y_crop", "scale": 4, "imports": [package.module]},
        "test_sets": {"val": {"gt": str(sr_data / "val" / "GT")}},
        "models": {"mine": {"weights": weights}},
    }
    Path("board.yml").write_text(yaml.safe_dump(board))
    assert main(["leaderboard", "-opt", "board.yml"]) == 0
    assert main(["list", "--modules", "-opt", opt]) == 0
    assert main(["list", "archs", "models", "datasets", "losses"]) == 0
    out = capsys.readouterr().out
    for line in (f"{package.name}Net", f"{package.name}Model: Trains like SRModel", f"{package.name}Pairs"):
        assert f"\n  {line}" in out
    assert "Conv2d" in out


def test_one_that_announces_itself_needs_not_be_named(package, sr_data, monkeypatch, capsys):
    package.install(monkeypatch, announced=True)
    opt = package.options(sr_data)
    assert main(["train", "-opt", opt]) == 0, capsys.readouterr().err


def test_from_python_it_is_found_as_well(package, monkeypatch):
    from semanir_plugin.registry import ARCHS

    package.install(monkeypatch, announced=True)
    assert ARCHS.find(f"{package.name}Net").__module__ == package.module


def test_one_that_is_broken_stops_no_command(package, monkeypatch, capsys):
    package.install(monkeypatch, announced=True)
    package.write("import torch\n\nraise RuntimeError('half installed')\n")
    assert main(["list", "losses"]) == 0
    err = capsys.readouterr().err
    place = f"{package.folder / package.module}.py:3"
    assert f"WARNING: {package.module} extends this package, but {place}: RuntimeError: half installed;" in err


@pytest.mark.parametrize("before", [True, False])
@pytest.mark.parametrize("as_file", [True, False])
def test_the_command_line_may_name_what_is_not_installed(package, before, as_file, monkeypatch, capsys):
    flag = ["--import", str(package.folder / f"{package.module}.py") if as_file else package.module]
    if not as_file:
        monkeypatch.chdir(package.folder)
    assert main([*flag, "list", "archs"] if before else ["list", "archs", *flag]) == 0
    assert f"\n  {package.name}Net\n      width=4\n" in capsys.readouterr().out


def test_a_file_alone_imports_nothing_that_is_not_installed(package, capsys, monkeypatch):
    monkeypatch.chdir(package.folder)
    monkeypatch.syspath_prepend(str(package.folder))  # as `python -m` has the working directory
    opt = package.options(imports=[package.module])
    assert main(["train", "-opt", opt]) == 2
    assert "mine.yml:5: imports: " in (err := capsys.readouterr().err)
    assert f"'{package.module}' is not installed" in err
    assert f"basicsr --import {package.module} ..." in err
    assert package.module not in sys.modules
    assert main(["list", "--modules", "-opt", opt, "--import", package.module]) == 0


@pytest.mark.parametrize("module", ["antigravity", "os", "pip.__main__", "numpy;os", "../mine", "", "pytest "])
def test_nor_what_is_no_module_of_a_package(package, module, capsys):
    opt = package.options(imports=[module])
    assert main(["test", "-opt", opt]) == 2
    assert f"imports: {module!r} is not installed" in capsys.readouterr().err


def test_an_editable_installation_counts(package, monkeypatch):
    package.install(monkeypatch, named_module=False)
    assert main(["list", "--modules", "-opt", package.options(imports=[package.module])]) == 0


@pytest.mark.parametrize(
    ("source", "told"),
    [
        ("import torch\nfrom torch import nothing\n", ":2: ImportError: cannot import name 'nothing'"),
        ("x = [\n", ":1: SyntaxError: '[' was never closed"),
        ("import torch\n\n1 / 0\n", ":3: ZeroDivisionError: division by zero"),
    ],
)
def test_what_stops_an_import_is_told_with_its_line(package, source, told, capsys):
    package.write(source)
    path = package.folder / f"{package.module}.py"
    assert main(["--import", str(path), "list"]) == 2
    err = capsys.readouterr().err
    assert err.startswith(f"basicsr list: --import {path}: {path}{told}")
    assert err.count("\n") == 1


def test_files_that_are_not_there_or_not_found_first(package, capsys):
    assert main(["--import", "missing.py", "list"]) == 2
    assert "--import missing.py: ModuleNotFoundError: No module named 'missing'; correct it" in capsys.readouterr().err
    (package.folder / "yaml.py").write_text("")
    assert main(["--import", str(package.folder / "yaml.py"), "list"]) == 2
    assert f"{yaml.__file__} is found first: rename the file" in capsys.readouterr().err


@pytest.mark.parametrize("value", ["mine", {"a": 1}, [1], [["a"]]])
def test_imports_is_a_list_of_names(package, value, capsys):
    assert main(["train", "-opt", package.options(imports=value)]) == 2
    assert "imports must be a list of modules, such as [my_archs], not" in capsys.readouterr().err


def test_recipes_import_nothing():
    assert not [path for path in (ROOT / "options").glob("*.yml") if "imports" in yaml.safe_load(path.read_text())]
