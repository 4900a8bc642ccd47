from __future__ import annotations

import io
import zlib

import cv2
import numpy as np
import pytest
import tifffile
from PIL import Image, ImageCms

from semanir_plugin.inference import photographs
from semanir_plugin.inference.photographs import (
    FORMATS,
    UPRIGHT,
    Photograph,
    PhotographInBands,
    decode_photograph,
    write_photograph,
)
from tests.inference.encoding import encode_photograph

SIZE = (5, 7)
PROFILE = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


def noise(*channels, dtype=np.uint8):
    return np.random.default_rng(0).integers(0, np.iinfo(dtype).max + 1, (*SIZE, *channels), dtype=dtype)


def with_pillow(image, file_format="PNG", **options):
    file = io.BytesIO()
    (image if isinstance(image, Image.Image) else Image.fromarray(image)).save(file, file_format, **options)
    return file.getvalue()


def exif_of(orientation, **more):
    exif = Image.Exif()
    exif[0x0112] = orientation
    exif.update({getattr(Image.ExifTags.Base, name).value: value for name, value in more.items()})
    return exif


LOSSLESS = [".png", ".tif", ".tiff", ".bmp"]


@pytest.mark.parametrize("suffix", LOSSLESS)
@pytest.mark.parametrize("channels", [1, 3])
def test_8_bit_there_and_back(suffix, channels):
    photo = Photograph(noise(channels))
    again = decode_photograph(encode_photograph(photo, suffix))
    assert again.pixels.dtype == np.uint8
    np.testing.assert_array_equal(again.pixels, photo.pixels)
    assert again.alpha is None


@pytest.mark.parametrize("suffix", [".png", ".tif"])
@pytest.mark.parametrize("channels", [1, 3])
def test_16_bit_there_and_back(suffix, channels):
    photo = Photograph(noise(channels, dtype=np.uint16), icc=PROFILE)
    again = decode_photograph(encode_photograph(photo, suffix))
    assert again.pixels.dtype == np.uint16
    np.testing.assert_array_equal(again.pixels, photo.pixels)
    assert again.icc == PROFILE


@pytest.mark.parametrize(
    ("suffix", "channels", "dtype"),
    [
        *((".png", 3, np.uint8), (".png", 1, np.uint8), (".png", 3, np.uint16), (".bmp", 3, np.uint8)),
        *((".tif", 3, np.uint8), (".tif", 1, np.uint8), (".tif", 3, np.uint16)),
    ],
)
def test_transparency_there_and_back(suffix, channels, dtype):
    photo = Photograph(noise(channels, dtype=dtype), noise(dtype=dtype)[::-1])
    again = decode_photograph(encode_photograph(photo, suffix))
    np.testing.assert_array_equal(again.pixels, photo.pixels)
    np.testing.assert_array_equal(again.alpha, photo.alpha)


def test_16_bit_gray_with_transparency_stays_gray():
    photo = Photograph(noise(1, dtype=np.uint16), noise(dtype=np.uint16)[::-1])
    again = decode_photograph(encode_photograph(photo, ".png"))
    np.testing.assert_array_equal(again.pixels, photo.pixels)
    np.testing.assert_array_equal(again.alpha, photo.alpha)


@pytest.mark.parametrize("suffix", [".png", ".tif"])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_bands_of_any_height_make_the_same_file(photos, suffix, dtype, channels, monkeypatch):
    monkeypatch.setattr(photographs, "BLOCK", 7 * 90 * channels * np.dtype(dtype).itemsize)
    image = cv2.imread(str(photos["chelsea.png"]))[100:163, 100:190]
    samples = np.dstack([image, image[..., :1]])[..., :channels].astype(dtype) * (1 if dtype == np.uint8 else 257)

    def written(*cuts):
        file, bands = io.BytesIO(), np.split(samples, cuts)
        whole = PhotographInBands(shape=samples.shape, dtype=samples.dtype, bands=iter(bands), icc=PROFILE)
        write_photograph(file, whole, suffix)
        return file.getvalue()

    assert written() == written(1, 2, 16, 60) == written(7, 14)
    decoded = tifffile.imread(io.BytesIO(written())) if suffix == ".tif" else None
    if decoded is None and (channels, dtype) != (2, np.uint16):  # which OpenCV makes colours of
        with_alpha = channels in (2, 4)
        decoded = cv2.imdecode(np.frombuffer(written(), np.uint8), cv2.IMREAD_UNCHANGED)
        decoded = decoded[..., [0, 3]] if channels == 2 else decoded
        decoded = decoded[..., [2, 1, 0, 3][: 3 + with_alpha]] if channels > 2 else decoded
    if decoded is not None:
        np.testing.assert_array_equal(decoded.reshape(samples.shape), samples)


def test_png_files_are_about_as_small_as_those_of_pillow(photos):
    pixels = cv2.imread(str(photos["coffee.png"]))[..., ::-1]
    assert len(encode_photograph(Photograph(pixels), ".png")) < 1.03 * len(with_pillow(np.ascontiguousarray(pixels)))


def deep_la_png(samples):
    """16-bit gray with alpha, which neither OpenCV nor Pillow writes."""

    def chunk(kind, data):
        return len(data).to_bytes(4, "big") + kind + data + zlib.crc32(kind + data).to_bytes(4, "big")

    height, width = samples.shape[:2]
    header = width.to_bytes(4, "big") + height.to_bytes(4, "big") + bytes([16, 4, 0, 0, 0])
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in samples)
    chunks = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + chunks


def test_16_bit_gray_with_transparency_is_read():
    samples = noise(2, dtype=np.uint16)
    photo = decode_photograph(deep_la_png(samples))
    np.testing.assert_array_equal(photo.pixels, samples[..., :1])
    np.testing.assert_array_equal(photo.alpha, samples[..., 1])


@pytest.mark.parametrize("suffix", [".jpg", ".jpeg", ".webp"])
def test_lossy_formats_lose_little(photos, suffix):
    pixels = cv2.imread(str(photos["chelsea.png"]))[100:163, 100:181, ::-1]
    again = decode_photograph(encode_photograph(Photograph(pixels, icc=PROFILE), suffix))
    assert again.icc == PROFILE
    assert 10 * np.log10(255**2 / np.mean((again.pixels - pixels.astype(float)) ** 2)) > 38


def test_a_jpeg_keeps_colours_at_full_size():
    file = Image.open(io.BytesIO(encode_photograph(Photograph(noise(3)), ".jpg")))
    assert [layer[1:3] for layer in file.layer] == [(1, 1)] * 3


def test_gray_jpegs_stay_gray():
    again = decode_photograph(encode_photograph(Photograph(noise(1)), ".jpg"))
    assert again.pixels.shape == (*SIZE, 1)


def test_a_jpeg_cannot_be_transparent():
    with pytest.raises(ValueError, match=r"transparent.*name it \.png"):
        encode_photograph(Photograph(noise(3), noise()), ".jpg")


def test_16_bit_become_8_where_the_format_has_no_more():
    samples = np.array([[[0], [128], [129], [65535]]], np.uint16)
    again = decode_photograph(encode_photograph(Photograph(samples), ".bmp"))
    assert again.pixels.ravel().tolist() == [0, 0, 1, 255]


def test_a_palette_becomes_colours():
    image = Image.fromarray(noise(3)).quantize(9)
    photo = decode_photograph(with_pillow(image))
    np.testing.assert_array_equal(photo.pixels, np.asarray(image.convert("RGB")))
    assert photo.alpha is None


def test_a_transparent_entry_of_a_palette_becomes_alpha():
    image = Image.fromarray(noise(3)).quantize(9)
    photo = decode_photograph(with_pillow(image, transparency=2))
    np.testing.assert_array_equal(photo.alpha == 0, np.asarray(image) == 2)


def test_black_and_white_become_gray():
    bits = noise() > 127
    photo = decode_photograph(with_pillow(Image.fromarray(bits)))
    np.testing.assert_array_equal(photo.pixels[..., 0], 255 * bits.astype(np.uint8))


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("file_format", ["PNG", "TIFF"])
def test_photographs_are_turned_upright_once(orientation, file_format):
    stored = noise(3)
    content = with_pillow(stored, file_format, exif=exif_of(orientation, Model="Box"))
    upright = stored if orientation == 1 else UPRIGHT[orientation](stored)
    photo = decode_photograph(content)
    np.testing.assert_array_equal(photo.pixels, upright)
    again = decode_photograph(encode_photograph(photo, ".png"))
    np.testing.assert_array_equal(again.pixels, upright)


def test_a_16_bit_tiff_is_turned_once():
    file, stored = io.BytesIO(), noise(3, dtype=np.uint16)
    tifffile.imwrite(file, stored, photometric="rgb", extratags=[(0x0112, "H", 1, 6)])
    np.testing.assert_array_equal(decode_photograph(file.getvalue()).pixels, UPRIGHT[6](stored))


def test_upright_is_what_pillow_and_opencv_take_it_for():
    stored = noise(3)
    for orientation in UPRIGHT:
        content = with_pillow(stored, exif=exif_of(orientation))
        np.testing.assert_array_equal(
            UPRIGHT[orientation](stored), cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR)[..., ::-1]
        )


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_16_bit_photographs_are_turned_too(dtype):
    content = encode_photograph(Photograph(noise(3, dtype=dtype), exif=exif_of(6).tobytes()), ".png")
    np.testing.assert_array_equal(decode_photograph(content).pixels, UPRIGHT[6](noise(3, dtype=dtype)))


@pytest.mark.parametrize(
    ("suffix", "dtype"), [(".png", np.uint8), (".png", np.uint16), (".jpg", np.uint8), (".webp", np.uint8)]
)
def test_other_metadata_is_kept_without_the_orientation(suffix, dtype):
    content = with_pillow(noise(3), "JPEG", exif=exif_of(8, Model="Box", Artist="Ada"), icc_profile=PROFILE)
    photo = decode_photograph(content)
    photo = Photograph(photo.pixels.astype(dtype), None, photo.icc, photo.exif)
    written = Image.open(io.BytesIO(encode_photograph(photo, suffix)))
    exif = written.getexif()
    assert (exif[0x0110], exif[0x013B], exif.get(0x0112)) == ("Box", "Ada", None)
    assert written.info["icc_profile"] == PROFILE


def test_a_cameras_jpeg_with_a_preview_is_a_jpeg():
    content = with_pillow(noise(3), "MPO", save_all=True, append_images=[Image.fromarray(noise(3)[:2, :2].copy())])
    assert Image.open(io.BytesIO(content)).format == "MPO"
    assert decode_photograph(content).pixels.shape == (*SIZE, 3)


@pytest.mark.parametrize("size", [(1, 1), (1, 9), (7, 5)])
@pytest.mark.parametrize("suffix", FORMATS)
def test_tiny_photographs(size, suffix):
    pixels = np.full((*size, 3), 99, np.uint8)
    again = decode_photograph(encode_photograph(Photograph(pixels), suffix))
    assert again.pixels.shape == pixels.shape
    assert np.abs(again.pixels - 99.0).max() < 4


def frames():
    images = [Image.fromarray(noise(3)), Image.fromarray(noise(3)[::-1].copy())]
    return with_pillow(images[0], "WEBP", save_all=True, append_images=images[1:])


def truncated(content):
    return content[: len(content) // 2]


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"", "is no image, or a damaged one"),
        (b"hello", "is no image"),
        (with_pillow(noise(3), "GIF"), "is a GIF file; BMP, JPEG, PNG, TIFF, WEBP are restored"),
        (with_pillow(Image.new("CMYK", (7, 5)), "JPEG"), "has pixels of kind CMYK; convert it to RGB"),
        (with_pillow(np.zeros(SIZE, np.float32), "TIFF"), "has pixels of kind F; convert it"),
        (frames(), "has 2 frames or pages"),
        (truncated(with_pillow(np.zeros((64, 64, 3), np.uint8), "JPEG")), "cannot be decoded|damaged"),
        (truncated(with_pillow(noise(3))), "cannot be decoded|damaged"),
        (encode_photograph(Photograph(noise(3, dtype=np.uint16)), ".png")[:-40], "cannot be decoded|damaged"),
    ],
    ids=["empty", "text", "gif", "cmyk", "float", "frames", "cut jpeg", "cut png", "cut deep png"],
)
def test_what_cannot_be_restored_is_told(content, told):
    with pytest.raises(ValueError, match=told) as caught:
        decode_photograph(content)
    assert "\n" not in str(caught.value)


def test_a_tiff_of_tifffile_with_gray_and_16_bit():
    file = io.BytesIO()
    tifffile.imwrite(file, noise(dtype=np.uint16))
    np.testing.assert_array_equal(decode_photograph(file.getvalue()).pixels[..., 0], noise(dtype=np.uint16))
