from __future__ import annotations

import io
import struct
import zlib

import cv2
import numpy as np
import pytest
import tifffile
from basicsr.utils import imfrombytes
from PIL import Image, ImageCms, ImageOps, PngImagePlugin, features

from semanir_plugin.basicsr_host.data.checks import read_size
from semanir_plugin.inference import photograph_writing, png_chunks
from semanir_plugin.inference.images import decode_pixels
from semanir_plugin.inference.orientation import turn_upright
from semanir_plugin.inference.photograph_reading import decode_photograph
from semanir_plugin.inference.photograph_writing import FORMATS, lost_metadata, write_photograph
from semanir_plugin.inference.photographs import Metadata, Photograph, PhotographInBands
from tests.inference.encoding import encode_photograph

SIZE = (5, 7)
PROFILE = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


def noise(*channels, dtype=np.uint8):
    return np.random.default_rng(0).integers(0, np.iinfo(dtype).max + 1, (*SIZE, *channels), dtype=dtype)


def with_pillow(image, file_format="PNG", **options):
    file = io.BytesIO()
    (image if isinstance(image, Image.Image) else Image.fromarray(image)).save(file, file_format, **options)
    return file.getvalue()


def with_tifffile(samples, **options):
    file = io.BytesIO()
    tifffile.imwrite(file, samples, **options)
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
    photo = Photograph(noise(channels, dtype=np.uint16), metadata=Metadata(icc=PROFILE))
    again = decode_photograph(encode_photograph(photo, suffix))
    assert again.pixels.dtype == np.uint16
    np.testing.assert_array_equal(again.pixels, photo.pixels)
    assert again.metadata.icc == PROFILE


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
    monkeypatch.setattr(photograph_writing, "BLOCK", 7 * 90 * channels * np.dtype(dtype).itemsize)
    image = cv2.imread(str(photos["chelsea.png"]))[100:163, 100:190]
    samples = np.dstack([image, image[..., :1]])[..., :channels].astype(dtype) * (1 if dtype == np.uint8 else 257)

    def written(*cuts):
        file, bands = io.BytesIO(), np.split(samples, cuts)
        whole = PhotographInBands(
            shape=samples.shape, dtype=samples.dtype, bands=iter(bands), metadata=Metadata(icc=PROFILE)
        )
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
    again = decode_photograph(encode_photograph(Photograph(pixels, metadata=Metadata(icc=PROFILE)), suffix))
    assert again.metadata.icc == PROFILE
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
    upright = turn_upright(stored, orientation)
    photo = decode_photograph(content)
    np.testing.assert_array_equal(photo.pixels, upright)
    again = decode_photograph(encode_photograph(photo, ".png"))
    np.testing.assert_array_equal(again.pixels, upright)


def test_a_16_bit_tiff_is_turned_once():
    file, stored = io.BytesIO(), noise(3, dtype=np.uint16)
    tifffile.imwrite(file, stored, photometric="rgb", extratags=[(0x0112, "H", 1, 6)])
    np.testing.assert_array_equal(decode_photograph(file.getvalue()).pixels, turn_upright(stored, 6))


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["PNG", "TIFF", "WEBP", "JPEG", "MPO"])
def test_all_readers_turn_all_formats_alike(kind, orientation, tmp_path):
    image = Image.fromarray(cv2.GaussianBlur(noise(3), (0, 0), 3))
    more = {"WEBP": {"lossless": True}, "MPO": {"save_all": True, "append_images": [image]}}.get(kind, {})
    content = with_pillow(image, kind, exif=exif_of(orientation), **more)
    upright = np.asarray(ImageOps.exif_transpose(Image.open(io.BytesIO(content))))
    np.testing.assert_array_equal(decode_photograph(content).pixels, upright)
    read_as_data = {"decode_pixels": decode_pixels(content), "imfrombytes": imfrombytes(content)}
    for name, pixels in read_as_data.items():
        assert np.abs(pixels[..., ::-1].astype(int) - upright).max() <= 3, name  # JPEG decoders differ a little
    (tmp_path / "x").write_bytes(content)
    assert read_size(tmp_path / "x") == upright.shape[1::-1]


XMP = (
    b'XML:com.adobe.xmp\0%b<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF '
    b'xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#"><rdf:Description '
    b'xmlns:tiff="http://ns.adobe.com/tiff/1.0/" tiff:Orientation="6" tiff:ImageWidth="7">'
    b"<exif:PixelYDimension>5</exif:PixelYDimension></rdf:Description>"
    b"</rdf:RDF></x:xmpmeta>"
)
SHORT, LONG = XMP % b"", XMP % b"\0\0\0\0"
RAW_EXIF = b"\nexif\n%8d\n" % len(exif_of(6).tobytes()) + exif_of(6).tobytes().hex().encode() + b"\n"


def between_the_pixels_and_the_end(content, kind, data):
    chunk = len(data).to_bytes(4, "big") + kind + data + zlib.crc32(kind + data).to_bytes(4, "big")
    return content[:-12] + chunk + content[-12:]


TURNED = {
    "EXIF behind the pixels": (b"eXIf", exif_of(6).tobytes().removeprefix(b"Exif\0\0")),
    "EXIF as a text": (b"zTXt", b"Raw profile type exif\0\0" + zlib.compress(RAW_EXIF)),
    "XMP": (b"iTXt", LONG),
    "XMP in an old text": (b"tEXt", SHORT),
    "XMP that is packed": (b"iTXt", LONG[:18] + b"\1\0\0\0" + zlib.compress(LONG[22:])),
}


@pytest.mark.parametrize("kind", TURNED)
def test_wherever_a_png_tells_its_orientation_it_is_turned_once_by_all(kind, tmp_path):
    plain = with_pillow(noise(3))
    if kind == "EXIF behind the pixels":
        content = between_the_pixels_and_the_end(plain, *TURNED[kind])
    else:
        content = png_with(TURNED[kind])
    upright = turn_upright(noise(3), 6)
    photo = decode_photograph(content)
    np.testing.assert_array_equal(photo.pixels, upright)
    np.testing.assert_array_equal(decode_pixels(content)[..., ::-1], upright)
    (tmp_path / "x.png").write_bytes(content)
    assert read_size(tmp_path / "x.png") == (5, 7)
    written = Photograph(photo.pixels, None, photo.metadata.of_size(5, 7))
    again = ImageOps.exif_transpose(Image.open(io.BytesIO(encode_photograph(written, ".png"))))
    np.testing.assert_array_equal(np.asarray(again), upright)


def test_xmp_tells_the_size_of_the_result():
    ((kind, data),) = Metadata(png_texts=((b"iTXt", LONG),)).of_size(10, 14).png_texts
    assert kind == b"iTXt"
    for told in (b'tiff:ImageWidth="10"', b"<exif:PixelYDimension>14<", b'tiff:Orientation="1"'):
        assert told in data


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_16_bit_photographs_are_turned_too(dtype):
    content = encode_photograph(Photograph(noise(3, dtype=dtype), metadata=Metadata(exif=exif_of(6).tobytes())), ".png")
    np.testing.assert_array_equal(decode_photograph(content).pixels, turn_upright(noise(3, dtype=dtype), 6))


@pytest.mark.parametrize(
    ("suffix", "dtype"), [(".png", np.uint8), (".png", np.uint16), (".jpg", np.uint8), (".webp", np.uint8)]
)
def test_other_metadata_is_kept_without_the_orientation(suffix, dtype):
    content = with_pillow(noise(3), "JPEG", exif=exif_of(8, Model="Box", Artist="Ada"), icc_profile=PROFILE)
    photo = decode_photograph(content)
    photo = Photograph(photo.pixels.astype(dtype), None, photo.metadata)
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
        (b"", "has 0 bytes; download or save it again"),
        (b"hello", "is no image"),
        (with_pillow(noise(3), "PDF"), "is no image"),
        (with_pillow(np.zeros((32, 32, 3), np.uint8), "ICO"), "is a ICO file; AVIF, BMP, .* are restored"),
        (with_pillow(Image.new("CMYK", (7, 5)), "JPEG"), "has pixels of kind CMYK; convert it to RGB"),
        (with_pillow(np.full(SIZE, 3, np.float32), "TIFF"), "has floats from 3 to 3; those in 0 to 1 are restored"),
        (with_tifffile(np.full(SIZE, np.nan, np.float32)), "has floats from nan to nan"),
        (with_tifffile(noise(4), photometric="separated"), "has pixels of kind CMYK; convert it to RGB"),
        (with_tifffile(noise(3).astype(np.int16), photometric="rgb"), "has int16 pixels; convert it to 8 or 16 bit"),
        (with_tifffile(np.zeros((2, *SIZE), np.float32)), "has 2 frames or pages"),
        (frames(), "has 2 frames or pages"),
        (truncated(with_pillow(np.zeros((64, 64, 3), np.uint8), "JPEG")), "cannot be decoded|damaged"),
        (truncated(with_pillow(noise(3))), "cannot be decoded|damaged"),
        (encode_photograph(Photograph(noise(3, dtype=np.uint16)), ".png")[:-40], "cannot be decoded|damaged"),
    ],
    ids=[
        *("empty", "text", "pdf", "ico", "cmyk", "float", "nan", "cmyk tiff", "int16", "pages"),
        *("frames", "cut jpeg", "cut png", "cut deep png"),
    ],
)
def test_what_cannot_be_restored_is_told(content, told):
    with pytest.raises(ValueError, match=told) as caught:
        decode_photograph(content)
    assert "\n" not in str(caught.value)


def test_a_tiff_of_tifffile_with_gray_and_16_bit():
    file = io.BytesIO()
    tifffile.imwrite(file, noise(dtype=np.uint16))
    np.testing.assert_array_equal(decode_photograph(file.getvalue()).pixels[..., 0], noise(dtype=np.uint16))


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
def test_tiffs_whose_planes_lie_apart(dtype):
    samples = noise(3, dtype=np.uint16).astype(dtype) if dtype != np.float32 else noise(3).astype(dtype) / 255
    content = with_tifffile(np.moveaxis(samples, 2, 0), photometric="rgb", planarconfig="separate")
    np.testing.assert_array_equal(decode_photograph(content).pixels, samples)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_tiffs_in_which_white_is_zero(dtype):
    content = with_tifffile(noise(dtype=dtype), photometric="miniswhite")
    np.testing.assert_array_equal(decode_photograph(content).pixels[..., 0], np.iinfo(dtype).max - noise(dtype=dtype))


def test_a_gray_tiff_of_16_bit_with_opacity():
    samples = noise(2, dtype=np.uint16)
    photo = decode_photograph(with_tifffile(samples, photometric="minisblack", planarconfig="contig", extrasamples=[2]))
    np.testing.assert_array_equal(photo.pixels[..., 0], samples[..., 0])
    np.testing.assert_array_equal(photo.alpha, samples[..., 1])


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
def test_colours_times_the_opacity_are_divided_by_it(dtype):
    most = 1 if dtype == np.float32 else np.iinfo(dtype).max
    stored = np.broadcast_to(np.array([0.4, 0.2, 0, 0.5]) * most, (*SIZE, 4)).round(0 if most > 1 else 9).astype(dtype)
    photo = decode_photograph(with_tifffile(stored, photometric="rgb", extrasamples=["assocalpha"]))
    np.testing.assert_allclose(photo.pixels[0, 0] / most, [0.8, 0.4, 0], atol=2 / 255 if dtype == np.uint8 else 1e-4)
    np.testing.assert_array_equal(photo.alpha, stored[..., 3])


@pytest.mark.parametrize("planes", ["contig", "separate"])
@pytest.mark.parametrize("colours", [1, 3])
def test_so_are_grays_and_planes_of_8_bit(colours, planes):
    stored = np.full((*SIZE, colours + 1), 51, np.uint8)
    stored[..., -1] = 128
    laid_out = np.moveaxis(stored, 2, 0).copy() if planes == "separate" else stored
    kind = {"photometric": "rgb" if colours == 3 else "minisblack", "planarconfig": planes}
    photo = decode_photograph(with_tifffile(laid_out, **kind, extrasamples=["assocalpha"]))
    assert np.abs(photo.pixels.astype(int) - 102).max() <= 1
    assert (photo.pixels.shape[2], np.unique(photo.alpha).tolist()) == (colours, [128])


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
def test_what_tiffs_say_is_kept_or_told_at_every_depth(dtype):
    samples = np.zeros((*SIZE, 3), dtype)
    told = {"iccprofile": PROFILE, "resolution": (300, 150), "resolutionunit": "inch", "description": "a scan"}
    xmp = (700, "B", 12, b"<x:xmpmeta/>", True)
    # metadata=None: no second description, of which Pillow before 13 reads the last
    photo = decode_photograph(with_tifffile(samples, photometric="rgb", metadata=None, **told, extratags=[xmp]))
    assert photo.metadata == Metadata(icc=PROFILE, dpi=(300, 150), unkept=("texts", "XMP"))
    assert lost_metadata(photo.metadata, ".tif") == ["texts", "XMP"]


@pytest.mark.parametrize(("unit", "dpi"), [("inch", (2, 1)), ("centimeter", (5.08, 2.54)), ("none", None)])
def test_units_of_resolution(unit, dpi):
    content = with_tifffile(noise(3), photometric="rgb", resolution=(2, 1), resolutionunit=unit)
    assert decode_photograph(content).metadata.dpi == dpi


def test_a_tiff_without_a_resolution_has_none():
    assert decode_photograph(with_pillow(noise(3), "TIFF")).metadata.dpi is None


def test_what_tifffile_says_of_its_own_accord_is_no_text():
    assert decode_photograph(with_tifffile(noise(3), photometric="rgb")).metadata == Metadata()


def test_comments_are_told():
    photo = decode_photograph(with_pillow(noise(3), "JPEG", comment=b"at the sea"))
    assert lost_metadata(photo.metadata, ".jpg") == ["comment"]


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_floats_are_read_and_written_in_tiff(dtype):
    samples = (noise(3) / 255).astype(dtype)
    photo = decode_photograph(with_tifffile(samples, photometric="rgb"))
    assert photo.pixels.dtype == np.float32
    np.testing.assert_array_equal(photo.pixels, samples.astype(np.float32))
    np.testing.assert_array_equal(decode_photograph(encode_photograph(photo, ".tif")).pixels, photo.pixels)
    deep = decode_photograph(encode_photograph(photo, ".png")).pixels
    np.testing.assert_array_equal(deep, np.round(samples.astype(np.float64) * 65535))
    assert decode_photograph(encode_photograph(photo, ".bmp")).pixels.dtype == np.uint8


@pytest.mark.parametrize("channels", [1, 3])
def test_a_hidden_colour_of_a_deep_png_is_transparent(channels):
    samples = noise(channels, dtype=np.uint16)
    hidden = samples[2, 3].astype(">u2").tobytes()
    content = encode_photograph(Photograph(samples, metadata=Metadata(png_texts=((b"tRNS", hidden),))), ".png")
    photo = decode_photograph(content)
    np.testing.assert_array_equal(photo.pixels, samples)
    assert np.argwhere(photo.alpha == 0).tolist() == [[2, 3]]
    assert np.unique(photo.alpha).tolist() == [0, 65535]


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".tif", ".bmp"])
def test_the_resolution_is_kept(suffix):
    kind = FORMATS[suffix]
    photo = decode_photograph(with_pillow(noise(3), kind, dpi=(300, 150)))
    again = Image.open(io.BytesIO(encode_photograph(photo, suffix)))
    assert again.info["dpi"] == pytest.approx((300, 150), abs=0.1)


def png_with(*chunks):
    return encode_photograph(Photograph(noise(3), metadata=Metadata(png_texts=chunks)), ".png")


COLOURS = ((b"cICP", bytes([9, 16, 0, 1])), (b"gAMA", (45455).to_bytes(4, "big")))
TEXT = (b"tEXt", b"workflow\0" + b"x" * 1_500_000)


def test_what_a_png_says_of_its_colours_and_its_texts_is_kept():
    again = encode_photograph(decode_photograph(png_with(*COLOURS, TEXT)), ".png")
    for kind, data in (*COLOURS, TEXT):
        assert kind + data in again


def test_large_texts_and_profiles_are_read():
    limit = PngImagePlugin.MAX_TEXT_CHUNK
    profile = np.random.default_rng(0).bytes(1_200_000)
    content = encode_photograph(Photograph(noise(3), metadata=Metadata(icc=profile)), ".png")
    assert decode_photograph(content).metadata.icc == profile
    packed = b"workflow\0\0" + zlib.compress(b"x" * 3_000_000)
    for chunk in (TEXT, (b"zTXt", packed), (b"iTXt", b"workflow\0\1\0\0\0" + packed[10:])):
        content = png_with(chunk)
        np.testing.assert_array_equal(decode_photograph(content).pixels, noise(3))
        np.testing.assert_array_equal(decode_pixels(content)[..., ::-1], noise(3))
    assert limit == PngImagePlugin.MAX_TEXT_CHUNK


@pytest.mark.parametrize(
    ("suffix", "lost"),
    [
        (".png", []),
        (".jpg", ["texts", "cICP", "gAMA"]),
        (".webp", ["resolution in DPI", "texts", "cICP", "gAMA"]),
        (".tif", ["EXIF", "texts", "cICP", "gAMA"]),
        (".bmp", ["colour profile", "EXIF", "texts", "cICP", "gAMA"]),
    ],
)
def test_what_a_format_does_not_keep_is_told(suffix, lost):
    metadata = Metadata(icc=b"1", exif=b"2", dpi=(72, 72), png_colours=COLOURS, png_texts=(TEXT,))
    assert lost_metadata(metadata, suffix) == lost


def test_exif_tells_the_size_of_the_result():
    exif = exif_of(1, Model="Box", ImageWidth=7, ImageLength=5)
    exif.get_ifd(Image.ExifTags.IFD.Exif).update({0xA002: 7, 0xA003: 5, 0x9003: "2026:11:27 10:00:00"})
    metadata = Metadata(exif=exif.tobytes()).of_size(14, 10)
    again = Image.Exif()
    again.load(metadata.exif)
    inner = again.get_ifd(Image.ExifTags.IFD.Exif)
    assert (again[0x0100], again[0x0101], inner[0xA002], inner[0xA003]) == (14, 10, 14, 10)
    assert (again[0x0110], inner[0x9003]) == ("Box", "2026:11:27 10:00:00")
    without = Metadata(exif=exif_of(1, Model="Box").tobytes())
    assert 0x0100 not in Image.open(io.BytesIO(with_pillow(noise(3), exif=without.of_size(14, 10).exif))).getexif()


@pytest.mark.parametrize(
    ("kind", "options"),
    [("GIF", {}), ("TGA", {}), ("PPM", {}), ("QOI", {}), ("PCX", {}), ("JPEG2000", {}), ("SGI", {})],
)
def test_other_formats_that_pillow_reads(kind, options):
    image = Image.fromarray(noise(3)).quantize(8) if kind == "GIF" else Image.fromarray(noise(3))
    photo = decode_photograph(with_pillow(image, kind))
    np.testing.assert_array_equal(photo.pixels, np.asarray(image.convert("RGB")))


@pytest.mark.skipif(not features.check("avif"), reason="Pillow without AVIF")
def test_avif_is_read_and_written():
    pixels = cv2.GaussianBlur(noise(3), (0, 0), 2)
    photo = decode_photograph(with_pillow(pixels, "AVIF", quality=100, subsampling="4:4:4"))
    again = decode_photograph(encode_photograph(photo, ".avif"))
    assert np.abs(again.pixels.astype(int) - pixels).max() <= 8


def test_gray_ppm_of_16_bit():
    content = b"P5\n7 5\n65535\n" + noise(dtype=np.uint16).astype(">u2").tobytes()
    np.testing.assert_array_equal(decode_photograph(content).pixels[..., 0], noise(dtype=np.uint16))


def chunk(kind: bytes, data: bytes) -> bytes:
    return len(data).to_bytes(4, "big") + kind + data + zlib.crc32(kind + data).to_bytes(4, "big")


def gray_png(rows: int, *, interlaced: bool = False) -> bytes:
    """A PNG of 30 x 20 pixels, of which some rows have data; interlaced, of some bytes of a row's length."""
    head = (30).to_bytes(4, "big") + (20).to_bytes(4, "big") + bytes([8, 0, 0, 0, interlaced])
    data = zlib.compress((b"\0" + bytes([0] * 30)) * rows)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", data) + chunk(b"IEND", b"")


@pytest.mark.parametrize("interlaced", [False, True])
def test_a_png_of_fewer_pixels_than_it_says_is_damaged(interlaced):
    assert decode_photograph(gray_png(22, interlaced=interlaced)).pixels.shape == (20, 30, 1)
    with pytest.raises(ValueError, match="damaged: it has fewer pixels than its header says"):
        decode_photograph(gray_png(19, interlaced=interlaced))


def test_the_bytes_of_a_png_are_counted_as_its_writer_does():
    for mode in ("1", "L", "LA", "P", "RGB", "RGBA", "I;16"):
        for size in ((1, 1), (7, 3), (33, 5)):
            file = io.BytesIO()
            Image.new(mode, size).save(file, "PNG")
            content = file.getvalue()
            (data,) = (content[start:end] for kind, start, end in png_chunks._places(content) if kind == b"IDAT")
            assert png_chunks._pixel_bytes(content) == len(zlib.decompress(data)), (mode, size)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize(
    "options", [{}, {"rowsperstrip": 2}, {"compression": "zlib", "rowsperstrip": 4}, {"tile": (16, 16)}]
)
def test_a_tiff_of_fewer_pixels_than_it_says_is_damaged(dtype, options):
    file = io.BytesIO()
    tifffile.imwrite(file, np.full((20, 30, 3), 200, dtype), photometric="rgb", **options)
    content = bytearray(file.getvalue())
    assert decode_photograph(bytes(content)).pixels.min() == 200
    with tifffile.TiffFile(io.BytesIO(content)) as parsed:
        place = parsed.pages[0].tags["ImageLength"].valueoffset
    content[place : place + 4] = (2000).to_bytes(4, "little")
    with pytest.raises(ValueError, match="damaged: it has fewer pixels than its header says"):
        decode_photograph(bytes(content))
    with pytest.raises(ValueError, match="the image is damaged: it has fewer pixels than its header says; replace it"):
        decode_pixels(bytes(content))


def packed_tiff(samples, bits, *, apart=False):
    """Return a TIFF without compression of (H, W, C) samples of any number of bits, each row in whole bytes."""
    height, width, colours = samples.shape
    rows = np.moveaxis(samples, 2, 0) if apart else samples.reshape(1, height, -1)  # (planes, H, row)
    planes = [np.packbits((rows_[..., None] >> np.arange(bits)[::-1] & 1).reshape(height, -1), 1) for rows_ in rows]
    strips = [plane.astype(np.uint8).tobytes() for plane in planes]
    tags = {256: [width], 257: [height], 258: [bits] * colours, 259: [1], 262: [2 if colours == 3 else 1]}
    tags |= {273: [0] * len(strips), 277: [colours], 278: [height]}
    tags |= {279: [len(strip) for strip in strips], 284: [2 if apart else 1]}
    where = 8 + 2 + 12 * len(tags) + 4 + sum(4 * len(each) for each in tags.values() if len(each) > 1)
    tags[273] = [where + sum(map(len, strips[:index])) for index in range(len(strips))]
    head, longer, place = b"II*\0" + struct.pack("<IH", 8, len(tags)), b"", 8 + 2 + 12 * len(tags) + 4
    for tag, values in tags.items():
        head += struct.pack("<HHII", tag, 4, len(values), place + len(longer) if len(values) > 1 else values[0])
        longer += struct.pack(f"<{len(values)}I", *values) if len(values) > 1 else b""
    return head + bytes(4) + longer + b"".join(strips)


@pytest.mark.parametrize("width", [48, 50])
def test_black_and_white_tiffs_of_a_bit_for_a_pixel_are_read(width):
    drawing = np.random.default_rng(0).random((20, width)) < 0.5
    contents = [with_pillow(drawing, "TIFF"), with_pillow(drawing, "TIFF", compression="raw")]
    contents += [with_tifffile(drawing, photometric="minisblack", **more) for more in ({}, {"tile": (16, 16)})]
    contents += [packed_tiff(drawing[..., None], 1)]
    for content in contents:
        np.testing.assert_array_equal(decode_photograph(content).pixels[..., 0], drawing * np.uint8(255))


@pytest.mark.parametrize("width", [48, 51])
@pytest.mark.parametrize("bits", [2, 4, 10, 12, 14])
def test_tiffs_whose_bits_are_packed_are_read_from_black_to_white(bits, width):
    drawn = np.random.default_rng(0).integers(0, 2**bits, (20, width, 1))
    drawn[0, :2, 0] = 0, 2**bits - 1
    pixels = decode_photograph(packed_tiff(drawn, bits)).pixels
    most = np.iinfo(pixels.dtype).max
    assert pixels.dtype == (np.uint8 if bits < 8 else np.uint16)
    assert pixels[0, :2, 0].tolist() == [0, most]
    np.testing.assert_allclose(pixels / most, drawn / (2**bits - 1), atol=1 / most)


@pytest.mark.parametrize("apart", [False, True])
@pytest.mark.parametrize("bits", [1, 4, 12])
def test_colours_of_packed_bits_are_read_or_refused_for_what_they_are(bits, apart):
    drawn = np.random.default_rng(0).integers(0, 2**bits, (20, 51, 3))
    content = packed_tiff(drawn, bits, apart=apart)
    if bits == 12 and not apart:
        pixels = decode_photograph(content).pixels
        np.testing.assert_allclose(pixels / 65535, drawn / 4095, atol=1 / 65535)
        return
    with pytest.raises(ValueError, match=r"has (bool pixels|samples of \d+ bits); convert it to 8 or 16 bit"):
        decode_photograph(content)


@pytest.mark.parametrize("bits", [1, 4, 12])
def test_a_tiff_of_packed_bits_with_a_row_too_few_is_damaged(bits):
    content = bytearray(packed_tiff(np.zeros((20, 51, 1), int), bits))
    content[8 + 2 + 12 + 8 : 8 + 2 + 12 + 12] = (21).to_bytes(4, "little")  # the height
    with pytest.raises(ValueError, match="damaged: it has fewer pixels than its header says"):
        decode_photograph(bytes(content))
