from __future__ import annotations

import gzip
import io
import tarfile
import zipfile

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from semanir_plugin.basicsr_host.data.checks import read_size
from semanir_plugin.errors import UserError
from semanir_plugin.foreign_files import foreign_kind
from semanir_plugin.inference.checkpoints import read_checkpoint
from semanir_plugin.inference.images import decode_pixels
from semanir_plugin.inference.photograph_reading import decode_photograph
from semanir_plugin.option_files import load_options

LFS = b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"a" * 64 + b"\nsize 12345\n"
PAGE = b"\n<!DOCTYPE html>\n<html><head><title>404</title></head></html>"


def tar():
    target = io.BytesIO()
    with tarfile.open(fileobj=target, mode="w") as archive:
        archive.addfile(tarfile.TarInfo("net.pth"))
    return target.getvalue()


def array():
    target = io.BytesIO()
    np.save(target, np.zeros(3))
    return target.getvalue()


EVERYWHERE = {
    "page": (PAGE, "is a web page in place of the file; download that by its own link"),
    "commented page": (b"<!-- x -->\n<HTML lang=en>", "is a web page"),
    "pointer": (LFS, "is a pointer of Git LFS in place of the file; fetch that: git lfs pull"),
    "xml": (b'<?xml version="1.0"?><Error><Code>AccessDenied</Code></Error>', "is XML, as servers answer"),
    "gzip": (gzip.compress(b"x"), "is compressed by gzip; unpack it"),
    "tar": (tar(), "is a tar archive; unpack it"),
}
NO_CHECKPOINTS = EVERYWHERE | {
    "empty": (b"", "has 0 bytes; download or save it again"),
    "zeros": (bytes(5000), "begins with zeros, as what was broken off does"),
    "json": (b'{"error": "denied"}', "is JSON, as servers answer"),
    "onnx": (b"\x08\x07\x12\x07pytorch\x1a\x051.9.0:\x90\x01\n", "is an ONNX model; name the .pth"),
    "hdf5": (b"\x89HDF\r\n\x1a\n" + bytes(100), "is an HDF5 file"),
    "gguf": (b"GGUF" + bytes(100), "is a GGUF file"),
    "numpy": (array(), "is a NumPy array; save tensors by torch.save"),
}


@pytest.mark.parametrize("suffix", ["pth", "safetensors"])
@pytest.mark.parametrize(("content", "told"), NO_CHECKPOINTS.values(), ids=NO_CHECKPOINTS)
def test_in_place_of_a_checkpoint(tmp_path, suffix, content, told):
    path = tmp_path / f"net.{suffix}"
    path.write_bytes(content)
    with pytest.raises(UserError, match=rf"net\.{suffix}: {told}"):
        read_checkpoint(path)


@pytest.mark.parametrize(("content", "told"), EVERYWHERE.values(), ids=EVERYWHERE)
def test_in_place_of_an_image(tmp_path, content, told):
    path = tmp_path / "a.png"
    path.write_bytes(content)
    for read in (lambda: decode_photograph(content), lambda: decode_pixels(content), lambda: read_size(path)):
        with pytest.raises(ValueError, match=told):
            read()


@pytest.mark.parametrize("name", ["page", "pointer", "xml"])
def test_in_place_of_an_option_file(tmp_path, name):
    content, told = EVERYWHERE[name]
    path = tmp_path / "net.yml"
    path.write_bytes(content)
    with pytest.raises(UserError, match=rf"net\.yml: {told}"):
        load_options(path)


def test_a_photograph_of_a_telephone_under_another_name():
    assert foreign_kind(b"\0\0\0\x18ftypheic\0\0\0\0") == "is a HEIC photograph; convert it to JPEG or PNG"
    assert foreign_kind(b"\0\0\0\x18ftypavif\0\0\0\0") is None


@pytest.mark.parametrize(
    ("head", "ending"), [(b"\0\0\0\x20ftypisom", "mp4"), (b"\0\0\0\x14ftypqt  ", "mp4"), (b"\x1aE\xdf\xa3", "mkv")]
)
def test_a_film_under_the_name_of_a_photograph(head, ending):
    with pytest.raises(ValueError, match=f"^is a film; give its name the ending of one, such as .{ending}$"):
        decode_photograph(head + bytes(100))


def torchscript(path):
    torch.jit.save(torch.jit.script(torch.nn.Conv2d(1, 1, 1)), path)


def exported(path):
    torch.export.save(torch.export.export(torch.nn.Conv2d(1, 1, 1), (torch.zeros(1, 1, 2, 2),)), path)


def archive(path):
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("weights/net.pth", "x")


@pytest.mark.parametrize(
    ("write", "told"),
    [
        (torchscript, "is a TorchScript program; name the file of weights"),
        (exported, r"is a program of torch\.export's; name the file of weights"),
        (archive, r"is a ZIP archive without torch's data\.pkl, of weights/net\.pth; unpack it"),
        (lambda path: save_file({"a": torch.zeros(1)}, path), r"is a safetensors file; call it \.safetensors"),
    ],
)
@pytest.mark.filterwarnings("error:.*TorchScript", "ignore::DeprecationWarning")
def test_other_formats_under_the_name_of_a_checkpoint(tmp_path, write, told):
    write(path := str(tmp_path / "net.pt2"))
    (tmp_path / "net.pt2").rename(path := tmp_path / "net.pth")
    with pytest.raises(UserError, match=rf"net\.pth: {told}"):
        read_checkpoint(path)


@pytest.mark.parametrize("zipped", [True, False])
def test_a_file_of_torch_under_the_name_of_safetensors(tmp_path, zipped):
    path = tmp_path / "net.safetensors"
    torch.save({"a": torch.zeros(1)}, path, _use_new_zipfile_serialization=zipped)
    with pytest.raises(UserError, match=r"net\.safetensors: is a file of torch\.save's; call it \.pth"):
        read_checkpoint(path)


def test_a_long_header_of_safetensors_is_not_taken_for_onnx(tmp_path):
    path, fill = tmp_path / "net.safetensors", 0x120108 - 200
    save_file({"a": torch.zeros(1)}, path, {"x": "y" * fill})
    length = int.from_bytes(path.read_bytes()[:8], "little")
    save_file({"a": torch.zeros(1)}, path, {"x": "y" * (fill + 0x120108 - length)})
    assert path.read_bytes().startswith(b"\x08\x01\x12")
    assert read_checkpoint(path)["params"]["a"] == 0


@pytest.mark.parametrize("suffix", ["pth", "safetensors"])
def test_devices_are_not_read(suffix, tmp_path):
    path = tmp_path / f"net.{suffix}"
    path.symlink_to("/dev/zero")
    with pytest.raises(UserError, match="is a pipe or a device, no ordinary file; name the file of weights"):
        read_checkpoint(path)


@pytest.mark.parametrize("suffix", ["png", "jpeg", "webp", "gif", "bmp", "tga", "tiff", "ppm"])
def test_images_are_no_foreign_files(suffix, tmp_path):
    path = tmp_path / f"a.{suffix}"
    Image.fromarray(np.zeros((5, 7, 3), np.uint8)).save(path)
    assert foreign_kind(path.read_bytes()) is None
