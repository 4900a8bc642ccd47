"""`basicsr restore` of films, from what PyAV writes here to what it reads of the results."""

from __future__ import annotations

import io
import sys
from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from basicsr.archs.srvgg_arch import SRVGGNetCompact

from semanir_plugin.cli import main
from semanir_plugin.inference.checkpoints import save_weights
from semanir_plugin.inference.films import parts, reading, restoration
from semanir_plugin.inference.photograph_restoration import PhotographRestoration
from semanir_plugin.inference.restore_plan import result_name

av = pytest.importorskip("av", reason="PyAV is not installed")

MILLISECONDS, FRAMES = Fraction(1, 1000), 12
VARIABLE = [0, 400, 1100, 1500, 3000, 3100, 3300, 4000, 5000, 5100, 5101, 7000]
COMPACT = {"type": "SRVGGNetCompact", "num_feat": 4, "num_conv": 1, "upscale": 2, "num_in_ch": 3, "num_out_ch": 3}
BT709, BT2020 = (1, 1, 1, 1), (9, 1, 9, 16)  # matrix, range, primaries, transfer: by H.273


def draw(path, *, format="yuv420p", codec="libx264", size=(48, 32), pts=None, tags=BT709, frames=FRAMES, **more):
    """Write a film of waves, at 25 pictures a second or at given milliseconds."""
    with av.open(str(path), "w") as film:
        film.metadata["title"] = "Waves"
        stream = film.add_stream(
            codec, rate=25, options=more.get("options", {"crf": "4"} if codec == "libx264" else {})
        )
        stream.width, stream.height, stream.pix_fmt = *size, format
        stream.codec_context.time_base = stream.time_base = MILLISECONDS
        context = stream.codec_context
        context.colorspace, context.color_range, context.color_primaries, context.color_trc = tags
        if "aspect" in more:
            context.sample_aspect_ratio = more["aspect"]
        if "rotation" in more:
            stream.set_display_rotation(more["rotation"])
        if more.get("chapters"):
            film.set_chapters(
                [{"id": 1, "start": 0, "end": 200, "time_base": MILLISECONDS, "metadata": {"title": "One"}}]
            )
        sound = film.add_stream(more["sound"], rate=48000) if "sound" in more else None
        texts = film.add_mux_stream("subrip", time_base=MILLISECONDS) if more.get("texts") else None
        if sound:
            sound.metadata["language"] = "deu"
        for number in range(frames):
            frame = av.VideoFrame.from_ndarray(waves(number, size), "rgb24").reformat(
                format=format, dst_colorspace=tags[0]
            )
            frame.pts, frame.time_base = pts[number] if pts else 40 * number, MILLISECONDS
            film.mux(stream.encode(frame))
        film.mux(stream.encode(None))
        if sound:
            film.mux([packet for frame in noise() for packet in sound.encode(frame)] + sound.encode(None))
        if texts:
            packet = av.Packet(b"A line.")
            packet.stream, packet.time_base, packet.pts, packet.dts, packet.duration = texts, MILLISECONDS, 80, 80, 200
            film.mux(packet)
    return Path(path)


def waves(number, size):
    y, x = np.mgrid[: size[1], : size[0]]
    parts = [np.sin((x + 2 * number) / 9), np.cos((y - number) / 7), np.sin((x + y + number) / 11)]
    return np.round(127 + 90 * np.stack(parts, axis=2)).astype(np.uint8)


def noise():
    for number in range(20):
        samples = np.random.default_rng(number).standard_normal((2, 1024)).astype(np.float32) / 10
        frame = av.AudioFrame.from_ndarray(samples, "fltp", "stereo")
        frame.sample_rate, frame.pts, frame.time_base = 48000, 1024 * number, Fraction(1, 48000)
        yield frame


def copies(path, kind):
    """Return the packets of sound or subtitles, with the seconds they are of."""
    with av.open(str(path)) as film:
        streams = [stream for stream in film.streams if stream.type == kind]
        packets = film.demux(streams) if streams else ()
        return [(round(float(each.pts * each.time_base), 3), bytes(each)) for each in packets if each.size]


def told(path):
    """Return what a film says, but for its size."""
    with av.open(str(path)) as film:
        stream = film.streams.video[0]
        frames = list(film.decode(stream))
        first = frames[0]
        return {
            "times": [round(float(frame.pts * frame.time_base), 4) for frame in frames],
            "colours": (first.colorspace, first.color_range, first.color_primaries, first.color_trc),
            "format": stream.codec_context.pix_fmt,
            "rotation": first.rotation,
            "aspect": stream.sample_aspect_ratio or 1,
            "title": film.metadata.get("title"),
            "languages": [other.metadata.get("language") for other in film.streams.audio],
            "chapters": [(each["start"] * each["time_base"], each["metadata"]) for each in film.chapters()],
        }


def planes(path, plane=0):
    """Return a plane of all pictures, (N, H, W)."""
    with av.open(str(path)) as film:
        found = []
        for frame in film.decode(video=0):
            part = frame.planes[plane]
            kind = np.uint8 if frame.format.components[0].bits == 8 else np.uint16
            rows = np.frombuffer(part, kind).reshape(-1, part.line_size // np.dtype(kind).itemsize)
            found.append(rows[: part.height, : part.width].astype(int))
        return np.stack(found)


def doubled(samples):
    return samples.repeat(2, 1).repeat(2, 2)


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return double(tmp_path_factory.mktemp("model") / "double.safetensors")


def double(path, bias=0.0):
    """Write a network that doubles every pixel, up to a bias."""
    net = SRVGGNetCompact(**{key: value for key, value in COMPACT.items() if key != "type"})
    for parameter in net.parameters():
        torch.nn.init.constant_(parameter, bias)
    save_weights(path, net, COMPACT)
    return str(path)


@pytest.fixture(scope="module")
def films(tmp_path_factory):
    folder = tmp_path_factory.mktemp("films")
    draw(folder / "plain.mp4", sound="aac", chapters=True)
    draw(folder / "ten.mkv", format="yuv420p10le", tags=BT2020, sound="libopus", texts=True)
    draw(folder / "turned.mov", pts=VARIABLE, rotation=90, aspect=Fraction(4, 3), sound="pcm_s16le")
    draw(folder / "full.mkv", format="yuv444p", tags=(6, 2, 6, 6))
    return folder


@pytest.fixture(autouse=True)
def _folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def restore(model, source, target, *flags):
    return main(["restore", str(source), "-o", target, "--model", model, *flags])


@pytest.mark.parametrize("name", ["plain.mp4", "ten.mkv", "turned.mov", "full.mkv"])
def test_sound_times_colours_and_words_are_kept(model, films, name, capsys):
    assert restore(model, films / name, "out") == 0
    assert told(f"out/{name}") == told(films / name)
    assert copies(f"out/{name}", "audio") == copies(films / name, "audio")
    assert copies(f"out/{name}", "subtitle") == copies(films / name, "subtitle")
    difference = np.abs(planes(f"out/{name}") - doubled(planes(films / name)))
    assert difference.mean() < (4 if name == "ten.mkv" else 1)
    assert [path.name for path in Path("out").iterdir()] == [name], "nothing is left beside it"
    hdr = "note: is HDR, which networks have hardly seen; it is restored as it is coded, and tagged as it was"
    assert capsys.readouterr().err == (f"{films / name}: {hdr}\n" if name == "ten.mkv" else "")


@pytest.mark.parametrize("name", ["plain.mp4", "ten.mkv", "full.mkv"])
def test_without_loss_each_sample_is_where_it_was(model, films, name):
    assert restore(model, films / name, "out.mkv", "--video-codec", "ffv1") == 0
    assert np.abs(planes("out.mkv") - doubled(planes(films / name))).max() <= 1
    difference = planes("out.mkv", 1) - doubled(planes(films / name, 1))
    step = 4 if name == "ten.mkv" else 1
    assert np.abs(difference.mean(axis=(1, 2))).max() < 0.3 * step
    assert np.abs(difference).mean() < 2 * step


@pytest.mark.parametrize("codec", ["hevc", "av1", "vp9"])
def test_other_codecs(model, films, codec):
    assert restore(model, films / "plain.mp4", "out.mp4", "--video-codec", codec, "--crf", "10") == 0
    assert told("out.mp4") == told(films / "plain.mp4")
    assert np.abs(planes("out.mp4") - doubled(planes(films / "plain.mp4"))).mean() < 1.5


def test_quality_is_asked_for(model, films):
    for crf in ("0", "40"):
        assert restore(model, films / "full.mkv", f"{crf}.mkv", "--crf", crf) == 0
    assert Path("40.mkv").stat().st_size < 0.6 * Path("0.mkv").stat().st_size


def test_odd_sizes_gray_rgb_and_what_is_only_read(model, monkeypatch):
    draw("odd.mkv", format="yuv444p", size=(33, 17))
    draw("gray.mkv", format="gray", codec="ffv1")
    draw("rgb.mkv", format="bgr0", codec="ffv1", tags=(0, 2, 1, 1))
    draw("old.avi", codec="mpeg4")
    assert main(["restore", "odd.mkv", "gray.mkv", "rgb.mkv", "old.avi", "-o", "out", "--model", model]) == 0
    assert sorted(path.name for path in Path("out").iterdir()) == ["gray.mkv", "odd.mkv", "old.mkv", "rgb.mkv"]
    assert [told(f"out/{name}.mkv")["format"] for name in ("odd", "gray", "rgb", "old")] == [
        *("yuv444p", "yuv420p", "yuv444p", "yuv420p")
    ]
    assert np.abs(planes("out/gray.mkv", 1) - 128).max() <= 1
    with av.open("out/rgb.mkv") as film:
        first = next(film.decode(video=0)).to_ndarray(format="rgb24").astype(int)
    assert np.abs(first - waves(0, (48, 32)).repeat(2, 0).repeat(2, 1)).mean() < 3


def test_photographs_and_films_in_one_folder(model, films, capsys):
    Path("in").mkdir()
    cv2.imwrite("in/photo.png", np.zeros((8, 8, 3), np.uint8))
    Path("in/clip.mp4").write_bytes((films / "plain.mp4").read_bytes())
    Path("in/broken.mkv").write_bytes(b"no film")
    assert restore(model, "in", "out") == 1
    assert sorted(path.name for path in Path("out").iterdir()) == ["clip.mp4", "photo.png"]
    out = capsys.readouterr()
    assert out.out == "out: 2 restored, 1 could not be\n"
    assert out.err == "in/broken.mkv: cannot be decoded: Invalid data found when processing input; copy it again\n"


class Killed(BaseException):
    """As a process ends by kill -9: nothing is put in order."""


@pytest.fixture
def ends(monkeypatch):
    """Ends the command before a picture; counts those that are restored."""
    seen, restore = [], PhotographRestoration.restore

    def at(number=None, how=Killed, part=1):
        def count(self, photograph, **settings):
            if len(seen) == number:
                raise how
            seen.append(photograph)
            return restore(self, photograph, **settings)

        seen.clear()
        monkeypatch.setattr(restoration, "SHORTEST_PART", part)
        monkeypatch.setattr(restoration, "SECONDS", 0)
        monkeypatch.setattr(PhotographRestoration, "restore", count)
        return seen

    return at


@pytest.mark.parametrize("name", ["plain.mp4", "turned.mov"])
def test_a_killed_command_is_gone_on_from(model, films, ends, name):
    ends(7, part=3)
    with pytest.raises(Killed):
        restore(model, films / name, name)
    assert [path.name for path in Path().iterdir()] == [f".{name}.parts"], "no half of a film under its name"
    seen = ends()
    assert restore(model, films / name, name) == 0
    assert len(seen) == FRAMES - 6
    assert told(name) == told(films / name)
    assert np.abs(planes(name) - doubled(planes(films / name))).mean() < 1.5
    assert [path.name for path in Path().iterdir()] == [name]


def test_ctrl_c_keeps_every_picture(model, films, ends, capsys):
    ends(5, KeyboardInterrupt, part=100)
    assert restore(model, films / "plain.mp4", "out.mkv", "--video-codec", "ffv1") == 130
    assert capsys.readouterr().err == "basicsr restore: interrupted\n"
    seen = ends()
    assert restore(model, films / "plain.mp4", "out.mkv", "--video-codec", "ffv1") == 0
    assert len(seen) == FRAMES - 5
    assert np.abs(planes("out.mkv") - doubled(planes(films / "plain.mp4"))).max() <= 1


@pytest.mark.parametrize("other", ["source", "settings", "network", "damaged"])
def test_parts_of_something_else_are_made_anew(model, films, ends, other):
    ends(7, part=3)
    with pytest.raises(Killed):
        restore(model, films / "plain.mp4", "out.mp4")
    seen, source, flags = ends(), films / "plain.mp4", []
    if other == "source":
        source = draw("other.mp4", frames=FRAMES, size=(48, 32), pts=[41 * each for each in range(FRAMES)])
    elif other == "settings":
        flags = ["--crf", "17"]
    elif other == "network":
        model = double("other.safetensors", bias=1e-3)
    else:
        last = sorted(Path(".out.mp4.parts").glob("*.part"))[-1]
        last.write_bytes(last.read_bytes()[:-1])
    assert restore(model, source, "out.mp4", *flags) == 0
    assert len(seen) == (FRAMES - 3 if other == "damaged" else FRAMES)


def test_time_left_counts_what_is_done_now(model, films, ends, monkeypatch):
    ends(7, part=3)
    with pytest.raises(Killed):
        restore(model, films / "plain.mp4", "out.mp4")
    ends()
    bars = []
    import tqdm

    whole = tqdm.tqdm

    class Shown(whole):
        def __init__(self, *args, **settings):
            super().__init__(*args, **{**settings, "disable": False, "file": io.StringIO()})
            bars.append(self)

    monkeypatch.setattr(tqdm, "tqdm", Shown)
    assert restore(model, films / "plain.mp4", "out.mp4") == 0
    assert bars[0].initial == pytest.approx(6 / FRAMES)
    assert bars[0].n == pytest.approx(1)
    assert "picture 12 of 12" in str(bars[0])


def test_two_commands_at_once(model, films, capsys):
    held = parts.Parts(Path("out.mp4"), {})
    with held.opened():
        assert restore(model, films / "plain.mp4", "out.mp4") == 1
        assert "is being restored by another command, in .out.mp4.parts; wait for its end" in capsys.readouterr().err
        assert held.folder.is_dir(), "it is the other command's"
    assert restore(model, films / "plain.mp4", "out.mp4") == 0


def test_what_a_kind_of_file_cannot_hold(model, films, capsys):
    assert restore(model, films / "plain.mp4", "out.webm") == 1
    assert capsys.readouterr().err.endswith(": a .webm file cannot hold its sound (aac); name the result .mkv\n")
    assert restore(model, films / "ten.mkv", "out.mp4") == 0
    assert "note: a .mp4 does not keep its subtitles (srt)" in capsys.readouterr().err
    assert restore(model, films / "ten.mkv", "vp9.mkv", "--video-codec", "vp9") == 1
    assert "vp9 holds no yuv420p10le" in capsys.readouterr().err
    assert [path.name for path in Path().iterdir()] == ["out.mp4"]


@pytest.mark.parametrize(
    ("target", "flags", "told"),
    [
        ("out.mp4", ["--video-codec", "ffv1"], ".mp4 files hold no ffv1; take --video-codec h264, hevc, av1, vp9"),
        ("out.webm", ["--video-codec", "h264"], ".webm files hold no h264; take --video-codec av1, vp9"),
        ("out.mp4", ["--crf", "52"], "--crf 52 is more than h264 has, 0 to 51; 16 is usual"),
        ("out.mkv", ["--crf", "1", "--video-codec", "ffv1"], "--crf 1 is for codecs that lose something"),
        ("out.png", [], "becomes one of .mp4, .m4v, .mov, .mkv, .webm"),
        ("out.avi", [], "becomes one of .mp4, .m4v, .mov, .mkv, .webm"),
    ],
)
def test_what_cannot_be_is_told_before_any_work(model, films, target, flags, told, capsys):
    assert restore(model, films / "plain.mp4", target, *flags) == 2
    err = capsys.readouterr().err
    assert told in err
    assert err.count("\n") == 1
    assert not list(Path().iterdir())


def test_a_photograph_does_not_become_a_film(model, capsys):
    cv2.imwrite("photo.png", np.zeros((8, 8, 3), np.uint8))
    assert restore(model, "photo.png", "out.mp4") == 2
    assert "photo.png becomes one of .bmp" in capsys.readouterr().err


def cut(source, share):
    content = source.read_bytes()
    return content[: int(len(content) * share)]


def test_damaged_films_are_one_line_and_leave_nothing(model, films, capsys):
    long = draw("long.mkv", frames=40)
    broken = {
        "cut.mp4": (cut(films / "plain.mp4", 0.5), "cannot be decoded"),
        "cut.mkv": (cut(long, 0.6), "is cut off: it ends after "),
        "empty.mov": (b"", "has 0 bytes; download or save it again"),
        "page.mp4": (b"<!DOCTYPE html><html>", "is a web page in place of the file"),
        "text.mp4": (b"no film" * 99, "cannot be decoded"),
        "sound.mp4": (sound_alone(), "has no moving pictures"),
    }
    for name, (content, told) in broken.items():
        Path(name).write_bytes(content)
        assert restore(model, name, "out/result.mp4") == 1, name
        err = capsys.readouterr().err
        assert err.startswith(f"{name}: {told}"), err
        assert err.count("\n") == 1
        assert not list(Path("out").iterdir())


def sound_alone():
    file = io.BytesIO()
    with av.open(file, "w", format="mp4") as film:
        stream = film.add_stream("aac", rate=48000)
        film.mux([packet for frame in noise() for packet in stream.encode(frame)] + stream.encode(None))
    return file.getvalue()


def test_a_film_whose_pictures_are_damaged_is_told_when_they_come(model, ends, capsys):
    film = draw("film.mp4", frames=50, size=(96, 64), options={"crf": "4", "g": "10"})
    content = bytearray(film.read_bytes())
    content[len(content) // 2 : len(content) // 2 + 900] = bytes(37 * each % 256 for each in range(900))
    film.write_bytes(content)
    seen = ends()
    assert restore(model, "film.mp4", "out.mkv") == 1
    err = capsys.readouterr().err
    assert err.startswith(("film.mp4: is damaged at 0.", "film.mp4: is damaged at 1."))
    assert err.count("\n") == 1
    assert 10 < len(seen) < 40
    assert sorted(path.name for path in Path().iterdir()) == [".out.mkv.parts", "film.mp4"]


def test_a_head_that_claims_huge_pictures(model, films, monkeypatch, capsys):
    monkeypatch.setattr(reading, "MOST_PIXELS", 1500)
    assert restore(model, films / "plain.mp4", "out.mp4") == 1
    assert "has pictures of 48 x 32 pixels; films of at most 1,500 are restored" in capsys.readouterr().err


def test_fields_are_told(model, capsys):
    draw("fields.mp4", size=(64, 64), options={"crf": "10", "x264-params": "tff=1"})
    assert restore(model, "fields.mp4", "out.mp4") == 0
    assert "fields.mp4: note: is interlaced, and its two fields are restored as one picture" in capsys.readouterr().err


def test_without_pyav(model, films, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "av", None)
    assert restore(model, films / "plain.mp4", "out.mp4") == 2
    assert (
        "install PyAV (pip install 'semanir_plugin[video]'), which reads it, or convert it" in capsys.readouterr().err
    )
    Path("in").mkdir()
    cv2.imwrite("in/photo.png", np.zeros((8, 8, 3), np.uint8))
    Path("in/clip.mp4").touch()
    assert restore(model, "in", "out") == 0
    err = capsys.readouterr().err
    assert "passed over: in/clip.mp4; install PyAV (pip install 'semanir_plugin[video]')" in err


def test_names():
    assert [result_name(Path(name)) for name in ("a.MP4", "a.avi", "a.webm")] == ["a.MP4", "a.mkv", "a.webm"]


def test_a_name_without_room_for_its_parts_is_told_before_any_work(model, films, capsys):
    assert restore(model, films / "plain.mp4", "a" * 248 + ".mp4") == 2
    assert "File name too long; choose a shorter name" in capsys.readouterr().err
