"""`basicsr restore`, from photographs of every kind to what lies in the folder afterwards."""

from __future__ import annotations

import io
import json
import os
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from basicsr.archs.srvgg_arch import SRVGGNetCompact
from PIL import Image, ImageCms
from tqdm import tqdm

from semanir_plugin.archs import NetworkDescriptor, SemanIR
from semanir_plugin.cli import build_parser, main
from semanir_plugin.inference import loading, shipped_weights
from semanir_plugin.inference.checkpoints import save_weights
from semanir_plugin.inference.loading import load
from semanir_plugin.inference.orientation import turn_upright
from semanir_plugin.inference.photograph_reading import decode_photograph
from semanir_plugin.inference.purposes import PURPOSES
from semanir_plugin.inference.restoration import Restoration, RestorationOptions
from semanir_plugin.inference.shipped_weights import find_weights
from tests.conftest import ROOT, TINY_NETWORK

PROFILE = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
COMPACT = {"type": "SRVGGNetCompact", "num_feat": 4, "num_conv": 1, "upscale": 2}
SEMANIR = {"type": "SemanIR", "upscale": 2, "upsampler": "pixelshuffledirect", **TINY_NETWORK}


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """Networks that double every pixel: of colours and of gray; and one that attends."""
    folder = tmp_path_factory.mktemp("models")
    for name, channels in (("color", 3), ("gray", 1)):
        options = {**COMPACT, "num_in_ch": channels, "num_out_ch": channels}
        net = SRVGGNetCompact(**{key: value for key, value in options.items() if key != "type"})
        for parameter in net.parameters():
            torch.nn.init.zeros_(parameter)
        save_weights(folder / f"{name}.safetensors", net, options)
    torch.manual_seed(0)
    net = SemanIR(**{key: value for key, value in SEMANIR.items() if key != "type"})
    save_weights(folder / "semanir.safetensors", net, SEMANIR)
    torch.save({"params": net.state_dict()}, folder / "silent.pth")
    return folder


@pytest.fixture(autouse=True)
def _folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("in").mkdir()


def noise(*shape, dtype=np.uint8):
    return np.random.default_rng(0).integers(0, np.iinfo(dtype).max + 1, shape, dtype=dtype)


def put(name, samples, **options):
    path = Path("in", name)
    if samples.dtype == np.uint16:
        path.write_bytes(cv2.imencode(path.suffix, samples)[1].tobytes())
    else:
        Image.fromarray(samples).save(path, **options)
    return path


def run(models, *arguments, inputs=("in",), output="out", model="color.safetensors"):
    """Restore by weights of `models`, or, where there are none of that name, by shipped ones."""
    weights = models / model if (models / model).exists() else model
    return main(["restore", *inputs, "-o", output, "--model", str(weights), *arguments])


def result(name):
    return decode_photograph(Path("out", name).read_bytes())


def doubled(samples):
    return samples.repeat(2, 0).repeat(2, 1)


@pytest.mark.parametrize("size", [(1, 1), (7, 5), (1, 6), (33, 18)])
@pytest.mark.parametrize("suffix", ["png", "tif", "bmp"])
def test_names_formats_and_sizes(models, size, suffix, capsys):
    samples = noise(*size, 3)
    put(f"photo.{suffix}", samples)
    assert run(models) == 0
    np.testing.assert_array_equal(result(f"photo.{suffix}").pixels, doubled(samples))
    out = capsys.readouterr()
    assert out.out == "out: 1 restored\n"
    assert out.err == "", "no progress bar where nobody looks"


@pytest.mark.parametrize("suffix", ["png", "tif"])
@pytest.mark.parametrize("channels", [(), (3,)])
def test_16_bit_stay_16_bit(models, suffix, channels):
    samples = noise(7, 5, *channels, dtype=np.uint16)
    put(f"deep.{suffix}", samples)
    assert run(models) == 0
    pixels = result(f"deep.{suffix}").pixels
    assert pixels.dtype == np.uint16
    np.testing.assert_array_equal(pixels, doubled(samples[..., ::-1] if channels else samples[..., None]))


@pytest.mark.parametrize("model", ["color.safetensors", "gray.safetensors"])
def test_gray_stays_gray(models, model):
    samples = noise(7, 5)
    put("gray.png", samples)
    assert run(models, model=model) == 0
    np.testing.assert_array_equal(result("gray.png").pixels[..., 0], doubled(samples))


def test_colours_do_not_pass_a_gray_network(models, capsys):
    put("color.png", noise(7, 5, 3))
    put("gray.png", noise(7, 5))
    assert run(models, model="gray.safetensors") == 1
    out = capsys.readouterr()
    assert out.err.count("\n") == 1
    assert out.err.startswith("in/color.png: is in colour, but the network restores gray")
    assert out.out == "out: 1 restored, 1 could not be\n"
    assert os.listdir("out") == ["gray.png"]


@pytest.mark.parametrize("channels", [2, 4])
def test_transparency_is_enlarged_smoothly(models, channels):
    samples = noise(7, 5, channels)
    samples[..., -1] = np.linspace(3, 255, 35).reshape(7, 5)  # at less, colours can hardly be seen
    put("clear.png", samples)
    assert run(models) == 0
    restored = result("clear.png")
    np.testing.assert_array_equal(restored.pixels, doubled(samples[..., :-1]))
    assert restored.alpha.shape == (14, 10)
    alpha = restored.alpha.astype(int)
    np.testing.assert_allclose(alpha.reshape(7, 2, 5, 2).mean((1, 3)), samples[..., -1], atol=8)
    assert (alpha[:, ::2] != alpha[:, 1::2]).mean() > 0.8, "smooth, not doubled"


def test_a_palette_becomes_colours(models):
    image = Image.fromarray(noise(7, 5, 3)).quantize(9)
    image.save("in/palette.png")
    assert run(models) == 0
    np.testing.assert_array_equal(result("palette.png").pixels, doubled(np.asarray(image.convert("RGB"))))


def test_orientation_once_and_the_profile_kept(models):
    exif = Image.Exif()
    exif[0x0112], exif[0x0110] = 6, "Box"
    samples = cv2.GaussianBlur(noise(24, 40, 3), (9, 9), 3)
    put("turned.jpg", samples, exif=exif, icc_profile=PROFILE, quality=95)
    assert run(models) == 0
    written = Image.open("out/turned.jpg")
    assert written.size == (48, 80)
    assert written.info["icc_profile"] == PROFILE
    assert (written.getexif().get(0x0112, 1), written.getexif()[0x0110]) == (1, "Box")
    difference = np.asarray(written).astype(int) - doubled(turn_upright(samples, 6))
    assert np.abs(difference).mean() < 2


def test_a_folder_with_everything(models, capsys):
    put("a photo with spaces.png", noise(7, 5, 3))
    put("фото_写真_é.png", noise(5, 7, 3))
    put("cmyk.jpg", noise(8, 8, 4)[..., :3])
    Image.new("CMYK", (8, 8)).save("in/cmyk.jpg")
    content = io.BytesIO()
    Image.fromarray(noise(64, 64, 3)).save(content, "JPEG")
    Path("in/truncated.jpg").write_bytes(content.getvalue()[:2000])
    Path("in/empty.png").touch()
    Path("in/text.png").write_text("not a picture")
    Path("in/notes.txt").write_text("left alone")
    Path("in/folder.png").mkdir()
    assert run(models) == 1
    out = capsys.readouterr()
    told = dict(line.split(": ", 1) for line in out.err.splitlines())
    assert told.keys() == {f"in/{name}" for name in ("cmyk.jpg", "truncated.jpg", "empty.png", "text.png")}
    assert "CMYK; convert it to RGB" in told["in/cmyk.jpg"]
    assert "truncated" in told["in/truncated.jpg"]
    assert "is no image" in told["in/text.png"]
    assert out.out == "out: 2 restored, 4 could not be\n"
    assert sorted(os.listdir("out")) == sorted(["a photo with spaces.png", "фото_写真_é.png"])


def test_a_file_of_another_format_by_name(models):
    put("photo.png", noise(7, 5, 3))
    assert run(models, inputs=["in/photo.png"], output="new/result.tiff") == 0
    np.testing.assert_array_equal(
        decode_photograph(Path("new/result.tiff").read_bytes()).pixels, doubled(noise(7, 5, 3))
    )


def test_nothing_is_replaced_unasked(models, capsys):
    put("photo.png", noise(7, 5, 3))
    assert run(models) == 0
    first = Path("out/photo.png").read_bytes()
    put("photo.png", noise(7, 5, 3)[::-1])
    assert run(models) == 2
    assert "1 of 1 results are there already, out/photo.png the first; give --skip-existing" in capsys.readouterr().err
    assert run(models, "--skip-existing") == 0
    assert Path("out/photo.png").read_bytes() == first
    assert run(models, "--overwrite") == 0
    assert Path("out/photo.png").read_bytes() != first


def test_a_failing_write_leaves_nothing(models, monkeypatch, capsys):
    put("photo.png", noise(7, 5, 3))
    monkeypatch.setattr("os.fsync", lambda _: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    assert run(models) == 1
    assert capsys.readouterr().err == "in/photo.png: No space left on device; check out/photo.png\n"
    assert os.listdir("out") == []


def test_a_killed_run_leaves_whole_results_and_goes_on(models):
    count = 30
    for index in range(count):
        put(f"{index:02}.png", noise(120, 180, 3))
    command = [sys.executable, "-m", "semanir_plugin.cli", "restore", "in", "-o", "out"]
    command += ["--model", str(models / "color.safetensors")]
    process = subprocess.Popen(command, env={**os.environ, "PYTHONPATH": str(ROOT)})
    while len(list(Path().glob("out/*.png"))) < 3:
        assert process.poll() is None
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    done = {path.name: path.stat().st_mtime_ns for path in Path().glob("out/*.png")}
    assert 3 <= len(done) < count
    for name in done:
        assert result(name).pixels.shape == (240, 360, 3)
    assert run(models, "--skip-existing") == 0
    assert {path.name for path in Path().glob("out/*.png")} == {f"{index:02}.png" for index in range(count)}
    assert all(Path("out", name).stat().st_mtime_ns == changed for name, changed in done.items())


@pytest.mark.parametrize(
    ("flags", "options", "dtype"),
    [
        ([], {}, None),
        (["--topk", "1"], {"topk": 1}, None),
        (["--self-ensemble"], {"self_ensemble": True}, None),
        (["--tile", "16", "--tile-overlap", "0"], {"tile": 16, "tile_overlap": 0}, None),
        (["--tile", "auto", "--device", "cpu"], {}, None),  # to which this photograph is one tile
        (["--precision", "bf16"], {}, torch.bfloat16),
        (["--precision", "fp16"], {}, torch.float16),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_the_flags_reach_the_network(models, flags, options, dtype):
    samples = noise(37, 52, 3, dtype=np.uint16)
    put("photo.png", samples)
    assert run(models, *flags, model="semanir.safetensors") == 0
    net = load(models / "semanir.safetensors").module
    image = torch.from_numpy(samples[..., ::-1] / np.float32(65535)).permute(2, 0, 1)[None]

    def restored(dtype, **options):
        how = Restoration(descriptor=net.descriptor, options=RestorationOptions(**options), precision=dtype)
        return how.restore(net, image).float()

    pixels = torch.from_numpy(result("photo.png").pixels / np.float32(65535)).permute(2, 0, 1)[None]
    torch.testing.assert_close(pixels, restored(dtype, **options).clamp(0, 1), atol=1e-5, rtol=0)
    if options or dtype:
        assert (pixels - restored(None).clamp(0, 1)).abs().max() > 1e-4


def test_an_option_file_says_what_a_checkpoint_does_not(models, capsys):
    put("photo.png", noise(7, 5, 3))
    assert run(models, model="silent.pth") == 2
    assert "silent.pth: does not say what network it is of; name the option file it was trained with: -opt" in (
        capsys.readouterr().err
    )
    network = "\n".join(f"  {key}: {value}" for key, value in SEMANIR.items())
    Path("mine.yml").write_text(f"name: mine\nnetwork_g:\n{network}\n")
    Path("empty.yml").write_text("name: mine\n")
    assert run(models, "-opt", "mine.yml", model="silent.pth") == 0
    assert run(models, "--opt", "empty.yml", "--overwrite", model="silent.pth") == 2
    assert "empty.yml: has no network_g with a type" in capsys.readouterr().err


def replace_forward(monkeypatch, forward):
    """Have a network fail when it restores, but not when it is tried on small images."""
    monkeypatch.setattr(SRVGGNetCompact, "forward", forward)
    monkeypatch.setattr(loading, "describe", lambda net, options: NetworkDescriptor(scale=2))


@pytest.mark.parametrize(
    ("tile", "told"),
    [
        ([], "restore it in tiles: --tile auto, or --tile 33"),
        (["--tile", "80"], "give --tile 40"),
        (["--tile", "auto"], "give --tile 64"),
    ],
)
@pytest.mark.parametrize(
    "error",
    [
        torch.cuda.OutOfMemoryError("CUDA out of memory. Tried"),
        RuntimeError("DefaultCPUAllocator: can't allocate memory"),
    ],
)
def test_too_little_memory_is_told_with_its_cure(models, monkeypatch, capsys, tile, told, error):
    put("photo.png", noise(7, 5, 3))

    def forward(self, x):
        raise error

    replace_forward(monkeypatch, forward)
    assert run(models, *tile) == 1
    assert capsys.readouterr().err == f"in/photo.png: needs more memory than there is; {told}\n"


@pytest.mark.parametrize("suffix", ["png", "tif", "jpg"])
def test_a_failure_half_way_leaves_nothing(models, monkeypatch, capsys, suffix):
    put(f"photo.{suffix}", noise(64, 20, 3))
    passes = []

    def forward(self, x):
        passes.append(1)
        if len(passes) == 4:
            raise RuntimeError("no more")
        return x.repeat_interleave(2, -1).repeat_interleave(2, -2)

    replace_forward(monkeypatch, forward)
    assert run(models, "--tile", "24", "--tile-overlap", "8") == 1
    assert capsys.readouterr().err == f"in/photo.{suffix}: RuntimeError: no more\n"
    assert os.listdir("out") == []


@pytest.mark.parametrize("flags", [[], ["--self-ensemble"]])
def test_the_bar_moves_by_tiles(models, monkeypatch, flags):
    put("a.png", noise(20, 20, 3))
    put("b.png", noise(40, 40, 3))
    moves = []
    monkeypatch.setattr(tqdm, "update", lambda self, n: moves.append(n) or setattr(self, "n", self.n + n))
    assert run(models, "--tile", "24", "--tile-overlap", "0", *flags) == 0
    assert moves == [1, *[0.25] * 4]


def test_values_that_are_no_numbers_are_told(models, monkeypatch, capsys):
    put("photo.png", noise(7, 5, 3))
    replace_forward(monkeypatch, lambda self, x: x * torch.nan)
    assert run(models, "--precision", "fp16") == 1
    assert "infinite values of it; restore it in full precision" in capsys.readouterr().err
    assert run(models) == 1
    assert "infinite values of it; take other weights" in capsys.readouterr().err


def test_a_failing_network_is_one_line_and_with_debug_a_traceback(models, monkeypatch, capsys):
    put("photo.png", noise(7, 5, 3))
    replace_forward(monkeypatch, lambda self, x: x.oops)
    assert run(models) == 1
    err = capsys.readouterr().err
    assert err.startswith("in/photo.png: AttributeError: ")
    assert err.count("\n") == 1
    assert run(models, "--debug") == 1
    assert "Traceback" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--topk", "8"], "topk is for networks that choose keys, which SRVGGNetCompact does not; leave it out"),
        (
            ["--tile", "32", "--tile-overlap", "32"],
            "a tile of 32 leaves no room beside an overlap of 32; use 33, better 66, or a smaller tile_overlap",
        ),
        (["--device", "tpu9"], "device tpu9: "),
        (["-opt", "absent.yml"], "absent.yml: cannot read the option file"),
    ],
)
def test_mistakes_are_one_line_and_exit_code_2(models, capsys, arguments, told):
    put("photo.png", noise(7, 5, 3))
    assert run(models, *arguments) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"basicsr restore: {told}")
    assert error.count("\n") == 1
    assert not Path("out").exists()


def test_channels_that_photographs_do_not_have(tmp_path, capsys):
    options = {**COMPACT, "num_in_ch": 4, "num_out_ch": 4}
    net = SRVGGNetCompact(**{key: value for key, value in options.items() if key != "type"})
    save_weights(tmp_path / "four.safetensors", net, options)
    put("photo.png", noise(7, 5, 3))
    assert run(tmp_path, model="four.safetensors") == 2
    assert (
        "SRVGGNetCompact maps images of 4 channels to 4; images have 1 or 3, before and after"
        in capsys.readouterr().err
    )


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--tile", "none"], ["--tile", "whole number of at least 1", "'none'"]),
        (["--topk", "0"], ["--topk", "at least 1", "'0'"]),
        (["--tile-overlap", "-1"], ["--tile-overlap"]),
        (["--overwrite", "--skip-existing"], ["not allowed with"]),
        (["--self-ensembel"], ["unknown argument", "--self-ensemble"]),
        (["--precision", "fp8"], ["fp8", "bf16"]),
    ],
)
def test_misspelt_arguments(capsys, arguments, words):
    with pytest.raises(SystemExit) as caught:
        main(["restore", "in", "-o", "out", "--model", "m.pth", *arguments])
    error = capsys.readouterr().err
    assert caught.value.code == 2
    assert error.count("\n") == 1
    assert all(word in error for word in words)


def test_it_explains_itself(capsys):
    with pytest.raises(SystemExit):
        main(["restore", "--help"])
    assert "basicsr restore scans -o restored" in capsys.readouterr().out


@pytest.mark.parametrize("page", ["README.md", "docs/restore.md"])
def test_documented_commands_are_understood(page):
    text = (ROOT / page).read_text().replace("\\\n", " ")
    commands = [line for line in text.splitlines() if line.startswith(("basicsr restore ", "basicsr profile "))]
    assert len(commands) >= 2
    for command in commands:
        if ": " not in command.partition(" ")[2].partition("#")[0]:  # not what it says
            build_parser().parse_args(shlex.split(command, comments=True)[1:])


def test_a_disc_on_nothing_gets_no_dark_rim(models):
    rows, columns = np.mgrid[:64, :64]
    opacity = np.clip(24.5 - np.hypot(rows - 31.5, columns - 31.5), 0, 1)
    white = np.where(opacity > 0, 255, 0)
    put("disc.png", np.dstack([white] * 3 + [(opacity * 255).round()]).astype(np.uint8))
    assert run(models, model="semanir-mini-x2") == 0
    restored = result("disc.png")
    share = restored.alpha[..., None] / 255
    assert (restored.pixels * share + 255 * (1 - share)).round().min() > 252, "over white"


def test_what_a_result_does_not_keep_is_told(models, capsys):
    exif = Image.Exif()
    exif[0x0110] = "Box"
    source = put("photo.png", noise(7, 5, 3), exif=exif, dpi=(300, 300))
    assert run(models, inputs=(str(source),), output="photo.bmp") == 0
    assert "in/photo.png: note: a .bmp does not keep its EXIF\n" in capsys.readouterr().err
    assert round(Image.open("photo.bmp").info["dpi"][0]) == 300
    assert run(models, inputs=(str(source),), output="photo.jpg") == 0
    assert capsys.readouterr().err == ""


@pytest.fixture
def weights(monkeypatch, tmp_path):
    """A folder in the place of that of the shipped weights, with what is clean and what may be anything."""
    shipped = find_weights("semanir-mini-x4"), find_weights("semanir-mini-x2")
    (tmp_path / "shipped").mkdir()
    monkeypatch.setattr(shipped_weights, "FOLDER", tmp_path / "shipped")
    for path in shipped:
        for name in (path.stem, f"{path.stem}-real"):
            (tmp_path / "shipped" / f"{name}.safetensors").symlink_to(path)
    return tmp_path / "shipped"


@pytest.mark.parametrize(
    ("flags", "scale", "others"), [([], 4, "--scale 2"), (["--scale", "4"], 4, "--scale 2"), (["--scale", "2"], 2, "4")]
)
@pytest.mark.usefixtures("weights")
def test_without_a_model_the_network_for_any_picture_is_taken_and_told(flags, scale, others, capsys):
    put("photo.png", noise(7, 5, 3))
    assert main(["restore", "in", "-o", "out", *flags]) == 0
    told = capsys.readouterr().err
    assert told == (
        f"note: no --model, so semanir-mini-x{scale}-real, which enlarges {scale} times; "
        f"--scale {others[-1]} or --model NAME for others\n"
    )
    assert result("photo.png").pixels.shape == (7 * scale, 5 * scale, 3)


def test_without_a_model_nothing_is_guessed(weights, capsys):
    put("photo.png", noise(7, 5, 3))
    (weights / "semanir-mini-x2-real.safetensors").unlink()
    assert main(["restore", "in", "-o", "out", "--scale", "2"]) == 2
    names = "semanir-mini-x2, semanir-mini-x4-real, semanir-mini-x4"
    assert capsys.readouterr().err == (
        "basicsr restore: semanir-mini-x2-real, for pictures of any kind, does not come with this version; "
        f"give --model: {names}\n"
    )
    for flags, problem in (
        (["--model", "semanir-mini-x4", "--scale", "4"], "--scale chooses a network where none is named"),
        (["-opt", "mine.yml"], "-opt says what network a checkpoint is of; name the checkpoint by --model"),
    ):
        assert main(["restore", "in", "-o", "out", *flags]) == 2
        assert problem in capsys.readouterr().err
    assert not Path("out").exists()


def test_networks_for_special_pictures_say_so(models, weights, capsys):
    put("photo.png", noise(7, 5, 3))
    assert run(models, model="semanir-mini-x2") == 0
    only = f"semanir-mini-x2 {PURPOSES['semanir-mini-x2'].limits}"
    assert capsys.readouterr().err == f"note: {only}; for others take semanir-mini-x2-real\n"
    (weights / "semanir-mini-x2-real.safetensors").unlink()
    assert run(models, "--overwrite", model="semanir-mini-x2") == 0
    assert capsys.readouterr().err == f"note: {only}\n", "what does not come with it is not named"
    Path("semanir-mini-x2").mkdir()
    Path("semanir-mini-x2", "config.json").write_text(json.dumps(COMPACT))
    Path("semanir-mini-x2", "mine.safetensors").symlink_to(models / "color.safetensors")
    assert run(models, "--overwrite", model="semanir-mini-x2") == 0
    assert capsys.readouterr().err == "", "what is there by that name is the user's own"
