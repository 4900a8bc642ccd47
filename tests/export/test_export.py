from __future__ import annotations

import io
import json
import os
import re
import subprocess
import sys
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from basicsr.utils.registry import ARCH_REGISTRY
from PIL import Image

from semanir_plugin.blocks.prompts import DegradationPrompts, modulate
from semanir_plugin.cli import main
from semanir_plugin.errors import UserError
from semanir_plugin.export import checking, exporting
from semanir_plugin.export.checking import check_sizes, compare, picture
from semanir_plugin.export.exporting import ExportArguments, export_network
from semanir_plugin.export.formats import FORMATS, onnx_file, openvino_files
from semanir_plugin.export.lowering import PortableNetwork, bytes_per_pixel, restoration_of, trace, traced_size
from semanir_plugin.inference.checkpoints import save_weights
from semanir_plugin.inference.loading import build_network, load
from semanir_plugin.ops.common import position_table
from semanir_plugin.registry import ARCHS
from tests.conftest import ROOT

for name in ("onnx", "onnxscript", "onnxruntime", "openvino"):
    pytest.importorskip(name)

SEMANIR = {
    "type": "SemanIR",
    "upscale": 2,
    "embed_dim": 8,
    "depths": [2],
    "num_heads": [2],
    "shift": "layer",
    "window_size": 8,
    "topk": 12,
    "upsampler": "pixelshuffledirect",
    "interpolating_init": True,
}
AST = {"type": "AST", "img_size": 8, "embed_dim": 8, "depths": [1, 2, 1], "num_heads": [1, 2, 2], "win_size": 4}
SWINIR = {
    "type": "SwinIR",
    "upscale": 2,
    "in_chans": 3,
    "img_size": 16,
    "window_size": 4,
    "img_range": 1.0,
    "depths": [2],
    "embed_dim": 8,
    "num_heads": [2],
    "mlp_ratio": 2,
    "upsampler": "pixelshuffledirect",
    "resi_connection": "1conv",
}
MIXED = {
    "type": "MixedArch",
    "base": SWINIR,
    "mix": [
        {
            "where": "layers.*.residual_group.blocks.0.attn",
            "what": {"type": "key_semantic", "topk": 5},
            "how": "replace",
            "share": "RSTB",
        }
    ],
}
UNET = {
    "type": "SemanIRUNet",
    "in_chans": 1,
    "embed_dim": 8,
    "depths": [1, 1],
    "refinement_depth": 1,
    "head_dim": 4,
    "window_sizes": [8, 4],
    "topk": 9,
    "position_bias": "factorised",
    "similarity": "cosine",
    "shift": "layer",
    "prompts": 3,
}


def saved(options, folder):
    """Write a network with random weights, of which all count, and return the file."""
    torch.manual_seed(1)
    net = build_network(options, "options")
    for parameter in net.parameters():
        parameter.data.add_(0.1 * torch.randn_like(parameter))
    path = folder / f"{options['type']}.safetensors"
    save_weights(path, net, options)
    return path


@pytest.fixture(autouse=True)
def _no_time_for_timing(monkeypatch):
    monkeypatch.setattr(checking, "ENOUGH", 0)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("exported")


@pytest.fixture(scope="module")
def checkpoint(folder):
    return saved(SEMANIR, folder)


@pytest.fixture(scope="module")
def exported(checkpoint, folder):
    """A small SemanIR x2 as ONNX, by the command."""
    exported = export_network(ExportArguments(model=str(checkpoint), format="onnx", output=str(folder / "net.onnx")))
    return exported.paths[0]


def image(size, channels=3):
    return picture(channels, size, seed=3)


# Both axes in one window, one of them, several; multiples of the window and others; a single pixel.
SIZES = [(1, 1), (8, 8), (3, 21), (17, 8), (30, 19)]


def graph_of(options, folder, topk=None):
    restorer = load(saved(options, folder), device="cpu")
    size = traced_size(restorer.descriptor)
    program = trace(PortableNetwork(restorer, topk), restorer.descriptor.in_channels, size, free=True)
    return restorer, program, size


@pytest.mark.parametrize("size", SIZES)
def test_onnx_restores_images_of_any_size(exported, checkpoint, size):
    restorer = load(checkpoint, device="cpu")
    restore = partial(restoration_of(restorer.descriptor, None).restore, restorer.module)
    for each in compare(restore, FORMATS["onnx"].runtimes({".onnx": exported.read_bytes()}), [image(size)]):
        assert each.psnr > 80


@pytest.mark.parametrize(
    ("options", "name", "topk"),
    [
        (AST, "torchscript", None),
        (UNET, "torch-export", 3),
        (MIXED, "torchscript", None),
        ({**SEMANIR, "depths": [1], "embed_dim": 12, "unshuffle": 2, "keep_flat": True}, "torch-export", None),
    ],
    ids=["AST", "SemanIRUNet", "MixedArch", "SemanIR-unshuffle"],
)
def test_every_network_restores_images_of_any_size(tmp_path, monkeypatch, options, name, topk):
    monkeypatch.setattr(position_table, "LARGEST_KEPT", 0)
    restorer, program, size = graph_of(options, tmp_path, topk)
    files = FORMATS[name].write(program, {"scale": "2"}, None)
    images = [image(each, restorer.descriptor.in_channels) for each in SIZES]
    restore = partial(restoration_of(restorer.descriptor, topk).restore, restorer.module)
    for each in compare(restore, FORMATS[name].runtimes(files), images):
        assert each.psnr > 80, each.size
    if topk:
        given = torch.from_numpy(images[-1])
        assert (restore(given) - restorer.restore(given)).abs().max() > 1e-3, "the choice of keys makes no difference"
    assert not any(str(ROOT).encode() in content for content in files.values())
    assert 100 < bytes_per_pixel(program, size) < 100_000


def test_openvino_takes_two_files(exported, checkpoint, monkeypatch):
    monkeypatch.setattr(openvino_files, "to_onnx", lambda *_: exported.read_bytes())
    files = FORMATS["openvino"].write(None, {"scale": "2"}, None)
    assert list(files) == [".xml", ".bin"]
    assert b'<scale value="2"' in files[".xml"]
    restorer = load(checkpoint, device="cpu")
    restore = partial(restoration_of(restorer.descriptor, None).restore, restorer.module)
    for each in compare(restore, FORMATS["openvino"].runtimes(files), [image((19, 30))]):
        assert each.psnr > 80


def test_the_file_tells_what_it_takes(exported):
    import onnx

    model = onnx.load(exported)
    about = {each.key: each.value for each in model.metadata_props}
    assert json.loads(about.pop("network_g")) == SEMANIR
    assert int(about.pop("bytes_per_pixel")) > 1000
    assert about.pop("written_by").startswith("semanir_plugin ")
    assert about == {
        "model": "SemanIR.safetensors",
        "network": "SemanIR",
        "task": "super-resolution",
        "scale": "2",
        "layout": "NCHW, N = 1",
        "channels": "RGB",
        "value_range": "0 (black) to 1 (white), fp32; clip and round the result",
        "size": "any height and width",
        "topk": "12",
    }
    sizes = [each.dim_param or each.dim_value for each in model.graph.input[0].type.tensor_type.shape.dim]
    assert sizes == [1, 3, "height", "width"]
    assert [(each.domain, each.version) for each in model.opset_import] == [("", 20)]
    assert not model.functions
    assert str(ROOT) not in str(model)
    onnx.checker.check_model(model, full_check=True)


SCRIPT = re.search(r"```python\n(import sys\n.*?)```", (ROOT / "docs" / "export.md").read_text(), re.DOTALL)[1]
# What restores where neither this package nor PyTorch is installed.
ALONE = "import sys\nfor name in ('semanir_plugin', 'torch', 'basicsr'): sys.modules[name] = None\n"


@pytest.mark.parametrize("size", [(53, 30), (8, 61)])
def test_onnx_restores_a_photograph_without_this_package(exported, checkpoint, photos, tmp_path, size):
    left, top = 200, 100
    photo = Image.open(photos["astronaut.png"]).crop((left, top, left + size[1], top + size[0]))
    photo.save(tmp_path / "photo.png")
    done = subprocess.run(
        [sys.executable, "-c", ALONE + SCRIPT, str(exported), "photo.png", "alone.png"],
        cwd=tmp_path,
        env={key: value for key, value in os.environ.items() if key != "PYTHONPATH"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert (
        main(["restore", str(tmp_path / "photo.png"), "-o", str(tmp_path / "ours.png"), "--model", str(checkpoint)])
        == 0
    )
    alone, ours = (np.asarray(Image.open(tmp_path / name), int) for name in ("alone.png", "ours.png"))
    assert alone.shape == ours.shape == (2 * size[0], 2 * size[1], 3)
    assert np.abs(alone - ours).max() <= 1
    assert (alone != ours).mean() < 0.01


def test_the_script_has_fifteen_lines():
    assert len([line for line in SCRIPT.splitlines() if line]) <= 15


def run(*arguments, capsys):
    code = main(["export", *map(str, arguments)])
    return code, capsys.readouterr().err


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (
            ["--format", "torchscript", "--opset", "18"],
            "--opset is a version of ONNX's operators, of which torchscript",
        ),
        (["--format", "onnx", "--opset", "9"], "--opset must be from 18 to 23, not 9"),
        (["--format", "onnx", "-o", "net.pt"], "files of onnx are called NAME.onnx"),
        (["--format", "onnx", "-o", "nowhere/net.onnx"], "there is no folder nowhere; make it"),
        (["--format", "onnx", "-o", "folder.onnx", "--overwrite"], "folder.onnx: is a folder; name a file in it"),
        (["--format", "onnx", "-o", f"{'n' * 300}.onnx"], "File name too long; choose a shorter name"),
        (["--format", "onnx", "-o", "closed/net.onnx"], "cannot be written there (Permission denied); choose another"),
        (["--format", "onnx", "-o", "there.onnx"], "there.onnx is there already; give --overwrite"),
        (["--format", "openvino", "-o", "there.xml"], "there.bin is there already; give --overwrite"),
    ],
)
def test_wrong_flags_end_in_one_line_before_any_work(checkpoint, tmp_path, monkeypatch, capsys, flags, message):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(exporting, "load", None)
    for name in ("there.onnx", "there.bin"):
        Path(name).touch()
    for name in ("folder.onnx", "closed"):
        Path(name).mkdir()
    access = os.access
    monkeypatch.setattr(os, "access", lambda path, mode: Path(path).name != "closed" and access(path, mode))
    code, error = run("--model", checkpoint, *flags, capsys=capsys)
    assert (code, error.count("\n")) == (2, 1)
    assert message in error


@pytest.mark.parametrize("missing", ["onnxscript", "onnxruntime"])
def test_a_missing_package_is_named_with_the_extra(checkpoint, tmp_path, monkeypatch, capsys, missing):
    from semanir_plugin import errors

    monkeypatch.setattr(errors, "find_spec", lambda name: None if name == missing else object())
    code, error = run("--model", checkpoint, "--format", "onnx", "-o", tmp_path / "net.onnx", capsys=capsys)
    assert code == 2
    assert error.endswith(f"needs the package {missing}: pip install 'semanir_plugin[export]'\n")


def test_keys_of_a_network_that_chooses_none(tmp_path, capsys):
    code, error = run(
        "--model",
        saved(AST, tmp_path),
        "--format",
        "torchscript",
        "--topk",
        "9",
        "-o",
        tmp_path / "net.pt",
        capsys=capsys,
    )
    assert (code, error.count("\n")) == (2, 1)
    assert "topk is for networks that choose keys" in error


@pytest.fixture
def prompted():
    """An architecture of nothing but prompts."""

    @ARCHS.register
    class Prompted(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = torch.nn.Conv2d(3, 3, 3, padding=1)
            self.prompts = DegradationPrompts(3, [3], 4)
            for parameter in self.prompts.parameters():
                parameter.data.mul_(10)

        def forward(self, x):
            features = self.conv(x)
            return modulate(features, self.prompts(features)[0])

    yield {"type": "Prompted"}
    del ARCH_REGISTRY._obj_map["Prompted"], ARCHS._entries["Prompted"]


def test_prompts_are_those_of_the_whole_image_whatever_its_size(prompted, tmp_path):
    restorer, program, _ = graph_of(prompted, tmp_path)
    files = FORMATS["onnx"].write(program, {"scale": "1"}, None)
    bright, dark = image((9, 20)), 1 - image((9, 20))
    images = [bright, dark, np.concatenate([bright, dark], axis=3), image((70, 31))]
    restore = partial(restoration_of(restorer.descriptor, None).restore, restorer.module)
    runtimes = FORMATS["onnx"].runtimes(files)
    assert list(runtimes) == ["onnxruntime", "OpenVINO"]
    for each in compare(restore, runtimes, images):
        assert each.psnr > 100, each
    halves = [restore(torch.from_numpy(each)) for each in images[:3]]
    inside = (halves[2][..., :15] - halves[0][..., :15]).abs()
    assert inside.max() > 1e-3, "or the other half would decide nothing"


@pytest.fixture
def deciding():
    """An architecture whose values decide what it does, which no graph can hold."""

    @ARCHS.register
    class Deciding(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = torch.nn.Conv2d(3, 3, 3, padding=1)

        def forward(self, x):
            return self.conv(x) if x.mean() > 0.5 else x

    yield {"type": "Deciding"}
    del ARCH_REGISTRY._obj_map["Deciding"], ARCHS._entries["Deciding"]


def test_what_cannot_be_exported_says_so_in_one_line(deciding, tmp_path, capsys):
    code, error = run(
        "--model", saved(deciding, tmp_path), "--format", "torchscript", "-o", tmp_path / "net.pt", capsys=capsys
    )
    assert (code, error.count("\n")) == (2, 1)
    assert re.match(r"basicsr export: Deciding cannot be exported: .+; one size may do: --size HxW$", error)
    assert not (tmp_path / "net.pt").exists()


@pytest.mark.parametrize(
    ("spoilt", "message"),
    [
        (lambda out: out + 0.002, "54.0 dB beside PyTorch's result, the least is 60"),
        (lambda out: out[..., 1:], "-inf dB"),
        (lambda out: out * np.nan, "nan dB"),
        (lambda out: out.missing, "the file fails in onnxruntime"),
    ],
)
def test_a_file_that_restores_otherwise_is_not_kept(
    checkpoint, exported, tmp_path, monkeypatch, capsys, spoilt, message
):
    content = exported.read_bytes()
    runtimes = FORMATS["onnx"].runtimes
    wrong = {
        "write": lambda *_: {".onnx": content},
        "runtimes": lambda files: {
            name: lambda given, run=run: spoilt(run(given)) for name, run in runtimes(files).items()
        },
    }
    monkeypatch.setattr(exporting, "trace", lambda *_, **__: None)
    monkeypatch.setattr(exporting, "bytes_per_pixel", lambda *_: 1)
    monkeypatch.setitem(FORMATS, "onnx", FORMATS["onnx"].__class__((".onnx",), **wrong))
    code, error = run("--model", checkpoint, "--format", "onnx", "-o", tmp_path / "net.onnx", capsys=capsys)
    assert (code, error.count("\n")) == (2, 1)
    assert message in error
    assert not list(tmp_path.iterdir())


def test_the_command_prints_how_the_file_does(checkpoint, tmp_path, capsys):
    target = tmp_path / "net.pt"
    assert (
        main(["export", "--model", str(checkpoint), "--format", "torchscript", "--size", "9x20", "-o", str(target)])
        == 0
    )
    written, head, *rows = capsys.readouterr().out.splitlines()
    assert re.match(rf"{target} \(0\.\d MB\); it takes about \d+ kB of memory per pixel of the image$", written)
    assert head.split("  ")[0] == "pixels"
    assert [row.split("  ")[:2] for row in rows] == [["9 x 20", "TorchScript"]] * 2
    extra = {"about.json": ""}
    module = torch.jit.load(io.BytesIO(target.read_bytes()), _extra_files=extra)
    assert json.loads(extra["about.json"])["size"] == "9 x 20"
    assert module(torch.zeros(1, 3, 9, 20)).shape == (1, 3, 18, 40)


def test_a_file_that_openvino_cannot_load_is_told_and_kept(exported, monkeypatch, caplog):
    def refuse(content):
        raise RuntimeError("OpConversionFailure")

    monkeypatch.setattr(onnx_file, "run_in_openvino", refuse)
    assert list(FORMATS["onnx"].runtimes({".onnx": exported.read_bytes()})) == ["onnxruntime"]
    assert "OpenVINO cannot load the file, others may: RuntimeError: OpConversionFailure" in caplog.text


def test_check_sizes_are_of_one_row_and_of_several_and_other_than_the_traced(checkpoint):
    descriptor = load(checkpoint, device="cpu").descriptor
    assert check_sizes(descriptor) == ((7, 19), (25, 15))
    assert traced_size(descriptor) not in check_sizes(descriptor)


def test_a_network_of_squares_alone_is_refused(checkpoint, monkeypatch):
    from dataclasses import replace

    restorer = load(checkpoint, device="cpu")
    square = replace(restorer.descriptor, size=replace(restorer.descriptor.size, square=True))
    monkeypatch.setattr(exporting, "load", lambda *_, **__: replace(restorer, descriptor=square))
    with pytest.raises(UserError, match="takes square images alone"):
        export_network(ExportArguments(model=str(checkpoint), format="torch-export"))
