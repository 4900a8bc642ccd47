from __future__ import annotations

import json

import cv2
import numpy as np
import pytest
import torch
from PIL import Image

import semanir_plugin
from semanir_plugin.archs import NetworkDescriptor, SemanIR
from semanir_plugin.blocks import SizeRequirements
from semanir_plugin.errors import UserError
from semanir_plugin.inference.checkpoints import save_weights
from semanir_plugin.inference.restorer import Restorer
from tests.conftest import TINY_NETWORK

OPTIONS = {"upscale": 2, "upsampler": "pixelshuffledirect", **TINY_NETWORK}


def doubling(channels=3):
    """A network that doubles every pixel."""
    net = torch.nn.Upsample(scale_factor=2).eval()
    descriptor = NetworkDescriptor(scale=2, in_channels=channels, out_channels=channels)
    return Restorer(net, {"type": "Upsample"}, descriptor, torch.device("cpu"))


@pytest.fixture(scope="module")
def net():
    torch.manual_seed(0)
    module = SemanIR(**OPTIONS).eval()
    return Restorer(module, {"type": "SemanIR", **OPTIONS}, module.descriptor, torch.device("cpu"))


def noise(*shape, dtype=np.uint8):
    random = np.random.default_rng(0)
    if np.dtype(dtype).kind == "f":
        return random.random(shape).astype(dtype)
    return random.integers(0, np.iinfo(dtype).max + 1, shape, dtype)


def visible(image):
    """Colours that can hardly be seen do not come back."""
    if image.shape[-1] == 4:
        most = 1 if image.dtype.kind == "f" else np.iinfo(image.dtype).max
        image[..., 3] = np.maximum(image[..., 3], most / 50)
    return image


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float16, np.float32, np.float64])
@pytest.mark.parametrize("shape", [(9, 13), (9, 13, 1), (9, 13, 3), (9, 13, 4), (1, 1, 3)])
def test_arrays_come_back_as_they_were(dtype, shape):
    image = visible(noise(*shape, dtype=dtype))
    restored = doubling().restore(image)
    assert (type(restored), restored.dtype) == (np.ndarray, image.dtype)
    assert restored.shape == (2 * shape[0], 2 * shape[1], *shape[2:])
    colours = np.s_[..., :3] if len(shape) == 3 else np.s_[...]
    np.testing.assert_allclose(restored[::2, ::2][colours], image[colours], atol=1e-6 if image.dtype.kind == "f" else 0)


@pytest.mark.parametrize(("mode", "colours"), [("1", 1), ("L", 1), ("LA", 1), ("P", 3), ("RGB", 3), ("RGBA", 3)])
def test_pil_images_come_back_as_pil_images(mode, colours):
    image = Image.fromarray(visible(noise(9, 13, 4))).convert("RGB" if mode == "P" else mode).convert(mode)
    image.info["icc_profile"] = b"a profile"
    restored = doubling().restore(image)
    assert restored.mode == {"1": "L", "P": "RGB"}.get(mode, mode)
    assert (restored.size, restored.info["icc_profile"]) == ((26, 18), b"a profile")
    pair = (np.asarray(restored)[::2, ::2], np.asarray(image.convert(restored.mode)))
    small, expected = (pixels.reshape(9, 13, -1)[..., :colours] for pixels in pair)
    np.testing.assert_array_equal(small, expected)


def test_pil_images_of_16_bit_come_back_as_such():
    gray = noise(9, 13, dtype=np.uint16)
    image = Image.fromarray(gray)
    image.info["icc_profile"] = b"a profile"
    restored = doubling().restore(image)
    assert (image.mode, restored.mode, restored.size) == ("I;16", "I;16", (26, 18))
    assert restored.info["icc_profile"] == b"a profile"
    np.testing.assert_array_equal(np.asarray(restored)[::2, ::2], gray)


def test_files_come_back_as_pil_images_or_of_16_bit_as_arrays(tmp_path):
    cv2.imwrite(str(tmp_path / "8.png"), noise(9, 13, 3))
    cv2.imwrite(str(tmp_path / "16.png"), noise(9, 13, 3, dtype=np.uint16))
    shallow, deep = (doubling().restore(each) for each in (tmp_path / "8.png", str(tmp_path / "16.png")))
    assert (shallow.mode, shallow.size) == ("RGB", (26, 18))
    np.testing.assert_array_equal(deep[::2, ::2], noise(9, 13, 3, dtype=np.uint16)[..., ::-1])


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16, torch.float64])
def test_tensors_come_back_as_they_were(net, dtype):
    image = torch.rand(2, 3, 11, 14, dtype=dtype).requires_grad_()
    restored = net.restore(image)
    assert (restored.shape, restored.dtype, restored.requires_grad) == ((2, 3, 22, 28), dtype, False)
    assert 0 <= restored.min() <= restored.max() <= 1
    with torch.no_grad():
        torch.testing.assert_close(restored, net.module(image.float()).clamp(0, 1).to(dtype))


@pytest.mark.parametrize(
    "settings",
    [
        {"tile": 16, "tile_overlap": 8},
        {"tile": "auto"},
        {"precision": "bf16"},
        {"topk": 3},
        {"self_ensemble": True},
    ],
    ids=str,
)
def test_an_array_is_restored_as_the_same_tensor_is(net, settings):
    image = noise(29, 37, 3, dtype=np.float32)
    tensor = torch.from_numpy(image).permute(2, 0, 1)[None]
    expected = net.restore(tensor, **settings)[0].permute(1, 2, 0)
    np.testing.assert_allclose(net.restore(image, **settings), expected, atol=1e-6)
    if settings != {"tile": "auto"}:
        assert not torch.allclose(expected, net.restore(tensor)[0].permute(1, 2, 0), atol=1e-5)


def test_progress_is_by_tiles(net):
    told = []
    net.restore(noise(40, 24, 3), tile=24, tile_overlap=8, progress=lambda *each: told.append(each))
    assert told == [(1, 2), (2, 2)]


@pytest.mark.parametrize(
    ("image", "told"),
    [
        (np.full((4, 4, 3), 200.0), r"floats must lie in \[0, 1\], got 200 to 200; divide by 255"),
        (np.full((4, 4, 3), np.nan), r"floats must lie in \[0, 1\], got nan to nan"),
        (np.full((4, 4), -0.5), r"floats must lie in \[0, 1\], got -0.5 to -0.5"),
        (np.zeros((4, 4, 2), np.uint8), r"an array must be \(H, W\), \(H, W, 3\) or \(H, W, 4\), got \(4, 4, 2\)"),
        (np.zeros((3, 4, 4, 3), np.uint8), r"an array must be .*, got \(3, 4, 4, 3\)"),
        (np.zeros((0, 4, 3), np.uint8), r"the array is empty: \(0, 4, 3\)"),
        (np.zeros((4, 4, 3), np.int64), r"an array must be of uint8, uint16 or floats in \[0, 1\], not int64"),
        (np.zeros((4, 4), bool), "an array must be of uint8, uint16 or floats .*, not bool"),
        (torch.zeros(3, 8, 8), r"a tensor must be \(B, 3, H, W\) for this network, got \(3, 8, 8\)"),
        (torch.zeros(1, 1, 8, 8), r"a tensor must be \(B, 3, H, W\) for this network, got \(1, 1, 8, 8\)"),
        (torch.zeros(1, 3, 0, 8), "the tensor is empty"),
        (torch.full((1, 3, 8, 8), 9.0), r"floats must lie in \[0, 1\]"),
        (torch.zeros(1, 3, 8, 8, dtype=torch.uint8), r"a tensor must be of floats in \[0, 1\], not torch.uint8"),
        (Image.new("CMYK", (4, 4)), "the image has pixels of kind CMYK; convert it to RGB"),
        (Image.new("RGB", (0, 4)), "the image is empty: 0 x 4"),
        ([[0, 1]], "an image is a path, a PIL image, a NumPy array or a tensor, not a list; convert it"),
    ],
    ids=lambda value: "",
)
def test_what_is_no_image_is_one_clear_value_error(net, image, told):
    with pytest.raises(ValueError, match=f"^{told}"):
        net.restore(image)


def test_colour_for_a_gray_network():
    with pytest.raises(ValueError, match="is in colour, but the network restores gray"):
        doubling(channels=1).restore(noise(4, 4, 3))
    np.testing.assert_array_equal(doubling(channels=1).restore(noise(4, 4))[::2, ::2], noise(4, 4))


def test_files_that_cannot_be_read(tmp_path):
    with pytest.raises(UserError, match=r"absent\.png: cannot be opened \(No such file"):
        doubling().restore(tmp_path / "absent.png")
    (tmp_path / "text.png").write_text("no image")
    with pytest.raises(ValueError, match=r"text\.png: is no image, or a damaged one"):
        doubling().restore(tmp_path / "text.png")


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        (
            {"tile": 8},
            "a tile of 8 leaves no room beside an overlap of 32; use 33, better 66, or a smaller tile_overlap",
        ),
        ({"tile": 0}, "tile must be 'auto' or"),
        ({"tile_overlap": 8}, "tile_overlap needs tile: a number, or auto"),
        ({"topk": 3}, "topk is for networks that choose keys, which Upsample does not"),
        ({"precision": "int8"}, r"precision must be one of \['fp32', 'bf16', 'fp16'\] for Upsample, not 'int8'"),
    ],
    ids=str,
)
def test_settings_that_do_not_fit_are_told(settings, told):
    with pytest.raises(ValueError, match=told):
        doubling().restore(noise(4, 4, 3), **settings)


class Picky(torch.nn.Module):
    """Takes squares of a multiple of 4, of pixels from -1 to 1."""

    def forward(self, x):
        assert x.shape[-1] == x.shape[-2]
        assert x.shape[-1] % 4 == 0
        assert x.min() < 0
        return -x


@pytest.mark.parametrize("settings", [{}, {"tile": 8, "tile_overlap": 4}], ids=str)
def test_sizes_and_ranges_are_what_the_network_takes(settings):
    size = SizeRequirements(minimum=12, multiple_of=4, square=True)
    net = Restorer(Picky(), {}, NetworkDescriptor(size=size, value_range=(-1, 1)), torch.device("cpu"))
    image = noise(9, 22, 3)
    np.testing.assert_array_equal(net.restore(image, **settings), 255 - image)


def test_three_lines_from_a_name_a_file_and_a_folder(tmp_path, photos):
    photo = Image.open(photos["astronaut.png"]).crop((200, 100, 264, 164))
    net = semanir_plugin.load("semanir-mini-x4", device="cpu")
    restored = net.restore(photo)
    assert restored.size == (256, 256)
    save_weights(tmp_path / "net.safetensors", net.module, net.options)
    (tmp_path / "folder").mkdir()
    torch.save({"params": net.module.state_dict()}, tmp_path / "folder" / "weights.pth")
    (tmp_path / "folder" / "config.json").write_text(json.dumps(dict(net.options)))
    for place in (tmp_path / "net.safetensors", tmp_path / "folder"):
        again = semanir_plugin.load(place, device="cpu").restore(photo)
        assert np.array_equal(again, restored), place


@pytest.mark.parametrize(
    ("files", "told"),
    [
        ({"a.pth": b""}, "a folder without a config.json; name the file of weights in it"),
        ({"config.json": b"{"}, r"config\.json: cannot be read as JSON"),
        ({"config.json": b"[]"}, r"config\.json: has no 'type' of a network beside its options"),
        ({"config.json": b'{"type": "SemanIR"}'}, r"has 0 files of weights beside config\.json, not one"),
    ],
)
def test_folders_that_are_not_right_are_told(tmp_path, files, told):
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError, match=told):
        semanir_plugin.load(tmp_path)


def test_other_attributes_are_missing_as_ever():
    with pytest.raises(AttributeError, match="has no attribute 'lode'"):
        semanir_plugin.lode  # noqa: B018
