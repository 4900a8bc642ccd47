from __future__ import annotations

import io

import cv2
import numpy as np
import pytest
import tifffile
from PIL import Image, ImageFile

from semanir_plugin.basicsr_host.data.checks import read_size
from semanir_plugin.inference.image_limits import check_pixels
from semanir_plugin.inference.images import decode_image, decode_pixels, decode_upright
from semanir_plugin.pixels import to_float, to_uint8

SIZE = (5, 7)


def noise(*channels, dtype=np.uint8):
    return np.random.default_rng(0).integers(0, np.iinfo(dtype).max + 1, (*SIZE, *channels), dtype=dtype)


def encode(pixels, suffix=".png"):
    return cv2.imencode(suffix, pixels)[1].tobytes()


def encode_with_pillow(pixels, file_format="PNG", **options):
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, file_format, **options)
    return file.getvalue()


def test_8_bit_colour():
    pixels = noise(3)
    np.testing.assert_array_equal(decode_image(encode(pixels), "color"), pixels.astype(np.float32) / 255)


def test_a_gray_file_for_a_colour_net_has_its_value_three_times():
    pixels = noise()
    image = decode_image(encode(pixels), "color")
    np.testing.assert_array_equal(image, np.stack([pixels] * 3, -1).astype(np.float32) / 255)


@pytest.mark.parametrize("channels", ["gray", "y"])
def test_a_gray_file_for_a_gray_net_is_itself(channels):
    pixels = noise()
    np.testing.assert_array_equal(decode_image(encode(pixels), channels), pixels[..., None].astype(np.float32) / 255)


def test_luma_of_a_colour_file():
    pixels = noise(3)
    luma = np.round(pixels @ [0.114, 0.587, 0.299])
    image = decode_image(encode(pixels), "gray")
    assert image.shape == (*SIZE, 1)
    assert np.abs(255 * image[..., 0] - luma).max() <= 1.001
    assert (255 * image % 1 < 1e-3).mean() > 0.5


def test_y_of_a_colour_file_is_rounded_to_8_bit():
    pixels = noise(3)
    y = np.round(pixels @ [24.966, 128.553, 65.481] / 255 + 16)
    np.testing.assert_allclose(255 * decode_image(encode(pixels), "y")[..., 0], y, atol=1e-4)


@pytest.mark.parametrize("channels", ["color", "gray", "y"])
def test_16_bit_is_kept(channels):
    pixels = noise(dtype=np.uint16)
    image = decode_image(encode(pixels), channels)
    np.testing.assert_array_equal(image[..., 0], pixels.astype(np.float32) / 65535)


def test_y_of_16_bit_is_not_rounded():
    pixels = noise(3, dtype=np.uint16)
    y = (pixels / 65535) @ [24.966, 128.553, 65.481] + 16
    np.testing.assert_allclose(255 * decode_image(encode(pixels), "y")[..., 0], y, atol=1e-3)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_alpha_is_dropped(dtype):
    pixels = noise(4, dtype=dtype)
    np.testing.assert_array_equal(decode_image(encode(pixels), "color"), to_float(pixels[..., :3]))
    gray = encode_with_pillow(np.stack([noise(), noise()], -1))
    np.testing.assert_allclose(decode_image(gray, "gray")[..., 0], noise().astype(np.float32) / 255, atol=1.1 / 255)


def test_palettes_and_single_bits():
    pixels = (noise() > 100).astype(np.uint8) * 255
    file = io.BytesIO()
    Image.fromarray(pixels).convert("1").save(file, "PNG")
    for channels, count in (("color", 3), ("gray", 1), ("y", 1)):
        image = decode_image(file.getvalue(), channels)
        np.testing.assert_array_equal(image, np.stack([pixels] * count, -1).astype(np.float32) / 255)
    file = io.BytesIO()
    Image.fromarray(noise(3)).convert("P").save(file, "PNG", transparency=3)
    assert decode_image(file.getvalue(), "color").shape == (*SIZE, 3)


def test_photographs_are_turned_upright():
    exif = Image.Exif()
    exif[0x0112] = 6
    content = encode_with_pillow(np.zeros((16, 32, 3), np.uint8), "JPEG", exif=exif)
    assert decode_pixels(content).shape == (32, 16, 3)
    assert decode_image(content, "gray").shape == (32, 16, 1)


@pytest.mark.parametrize("content", [b"no image", b"\x89PNG\r\n\x1a\n"])
def test_what_cannot_be_decoded(content):
    with pytest.raises(ValueError, match="cannot be decoded; replace it or take it out"):
        decode_image(content, "color")


def test_a_part_of_a_png_that_is_longer_than_the_file_is_not_made_room_for(monkeypatch):
    monkeypatch.setattr(cv2, "imdecode", lambda *_: pytest.fail("OpenCV would take 1.5 GB"))
    content = encode(np.zeros((5, 7, 3), np.uint8), ".png")
    start = content.index(b"IDAT") - 4
    lying = content[:start] + (1_500_000_000).to_bytes(4, "big") + content[start + 4 :]
    for damaged in (lying, content[:-1]):
        with pytest.raises(ValueError, match="cannot be decoded; replace it or take it out"):
            decode_image(damaged, "color")


def test_what_follows_a_png_is_of_no_matter():
    content = encode(np.full((5, 7, 3), 9, np.uint8), ".png")
    assert (decode_image(content + b"IDAT" * 5, "color") == np.float32(9 / 255)).all()


def test_floating_point_files_are_refused():
    with pytest.raises(ValueError, match="float32 pixels; 8 and 16 bit are read, so convert it"):
        decode_image(encode(np.zeros((4, 4, 3), np.float32), ".tif"), "color")


def test_rounding_back_and_forth():
    levels = np.arange(256, dtype=np.uint8)
    np.testing.assert_array_equal(to_uint8(to_float(levels)), levels)
    np.testing.assert_array_equal(to_uint8(np.float32([-0.5, 0.4 / 255, 0.6 / 255, 1.5])), [0, 0, 1, 255])
    assert to_float(np.float32([0.3]))[0] == np.float32(0.3)


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP"])
def test_limits_orientation_and_size_are_read_from_the_head(kind, tmp_path, monkeypatch):
    exif = Image.Exif()
    exif[0x0112] = 6
    for name, more in {"plain": {}, "turned": {"exif": exif}}.items():
        content = encode_with_pillow(np.zeros((16, 32, 3), np.uint8), kind, **more)
        (tmp_path / name).write_bytes(content)
        monkeypatch.setattr(ImageFile.ImageFile, "load", lambda self: pytest.fail("the pixels are decoded"))
        assert check_pixels(content) == (6 if more else 1)
        assert read_size(tmp_path / name) == ((16, 32) if more else (32, 16))
        monkeypatch.undo()


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("opacity", [False, True])
def test_tiffs_whose_planes_lie_apart_are_read_as_data(dtype, opacity, tmp_path):
    samples = noise(3 + opacity, dtype=dtype)
    more = {"extrasamples": ["unassalpha"]} if opacity else {}
    tifffile.imwrite(
        tmp_path / "x.tif", np.moveaxis(samples, 2, 0).copy(), photometric="rgb", planarconfig="separate", **more
    )
    content = (tmp_path / "x.tif").read_bytes()
    bgr = samples[..., 2::-1].astype(dtype)
    np.testing.assert_array_equal(decode_pixels(content), bgr)
    shallow = bgr if dtype == np.uint8 else (bgr >> 8).astype(np.uint8)
    np.testing.assert_array_equal(decode_upright(content, cv2.IMREAD_COLOR), shallow)
    gray = decode_pixels(content, cv2.IMREAD_GRAYSCALE)
    of_a_png = decode_pixels(encode(bgr), cv2.IMREAD_GRAYSCALE)
    assert np.abs(gray.astype(int) - of_a_png).max() <= np.iinfo(dtype).max // 255  # it rounds in another way


def test_a_tiff_of_floats_is_not_called_damaged(tmp_path):
    tifffile.imwrite(tmp_path / "x.tif", np.zeros((*SIZE, 3), np.float32), photometric="rgb")
    with pytest.raises(
        ValueError, match=r"x\.tif cannot be read: a TIFF of a kind that only `basicsr restore` reads; re"
    ):
        read_size(tmp_path / "x.tif")
    (tmp_path / "x.tif").write_bytes(b"II*\0damaged")
    with pytest.raises(ValueError, match=r"x\.tif cannot be read: not an image, or a damaged one; replace it"):
        read_size(tmp_path / "x.tif")
