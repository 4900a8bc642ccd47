"""Packages that a local server has in place of Debian's."""

from __future__ import annotations

import functools
import hashlib
import io
import sys
import tarfile
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

import cv2
import numpy as np
import pytest

from tests.conftest import ROOT

sys.path.append(str(ROOT / "scripts"))
import debian_pictures


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_):
        pass


def pack(path, pictures):
    """Write a .deb of these files, an array or bytes each; return its place in the pool and its digest."""
    with io.BytesIO() as stream:
        with tarfile.open(fileobj=stream, mode="w:xz") as files:
            for name, content in pictures.items():
                data = content if isinstance(content, bytes) else cv2.imencode(name[-4:], content)[1].tobytes()
                member = tarfile.TarInfo(f"./usr/share/{name}")
                member.size = len(data)
                files.addfile(member, io.BytesIO(data))
            link = tarfile.TarInfo("./usr/share/link.png")
            link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
            files.addfile(link)
        parts = {"debian-binary": b"2.0\n", "control.tar.xz": b"odd", "data.tar.xz": stream.getvalue()}
    head = "{:16}0           0     0     100644  {:<10}`\n"
    body = [head.format(name, len(data)).encode() + data + b"\n" * (len(data) % 2) for name, data in parts.items()]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"!<arch>\n" + b"".join(body))
    return path.name, hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.fixture
def mirror(tmp_path, photos, monkeypatch):
    """A server with two packages of wallpapers and one of stamps, which the script is told to take."""
    pool = tmp_path / "debian" / "pool" / "main"
    photo = cv2.resize(cv2.imread(str(photos["coffee.png"])), (2700, 1800))
    noise = np.random.default_rng(0).integers(0, 256, photo.shape, np.uint8)
    sharp = cv2.addWeighted(photo, 0.7, noise, 0.3, 0)
    stamp = np.dstack([sharp[:800, :1000], np.full((800, 1000), 255, np.uint8)])
    stamp[:300, :, 3] = 0
    packages = dict(
        [
            pack(pool / "one.deb", {"sharp.jpg": sharp, "small.png": sharp[:300, :300], "a.txt": b"words" * 30000}),
            pack(pool / "two.deb", {"smaller.png": cv2.resize(sharp, (1500, 1000)), "flat.bmp": photo * 0}),
        ]
    )
    monkeypatch.setattr(debian_pictures, "WALLPAPERS", packages)
    place, digest = pack(
        pool / "stamps.deb", {"stamp.png": stamp, "opaque.png": sharp[:400, :400], "tiny.png": stamp[:90, :90]}
    )
    monkeypatch.setattr(debian_pictures, "STAMPS", place)
    monkeypatch.setattr(debian_pictures, "STAMPS_SHA256", digest)
    monkeypatch.setattr(debian_pictures, "run_in_venv", lambda: None)
    server = ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=tmp_path / "debian"))
    Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()


def run(monkeypatch, *arguments):
    monkeypatch.setattr(sys, "argv", ["debian_pictures.py", *map(str, arguments)])
    return debian_pictures.main()


def test_each_picture_is_cut_once_in_its_largest_version(mirror, tmp_path, photos, monkeypatch, capsys):
    out = tmp_path / "out"
    assert run(monkeypatch, out, "--mirror", mirror) == 0
    names = sorted(path.name for path in out.iterdir())
    assert names == ["s000.png", *(f"w000_{index:02d}.png" for index in range(10))], "9 at 1620 x 1080, 1 at 900 x 600"
    assert capsys.readouterr().out == f"{out}: 11 pictures\n"
    pieces = [cv2.imread(str(out / name)) for name in names[1:]]
    assert {piece.shape for piece in pieces} == {(320, 480, 3)}
    details = [debian_pictures.measure_detail(piece) for piece in pieces]
    assert details == sorted(details, reverse=True)
    stamp = cv2.imread(str(out / "s000.png"))
    assert stamp.shape == (400, 500, 3)
    assert (stamp[:150] == stamp[0, 0]).all()
    assert (stamp[151:] != stamp[0, 0]).any()
    assert run(monkeypatch, out, "--mirror", mirror) == 2
    assert capsys.readouterr().err == f"debian_pictures: {out}: is there already; name a new folder, or remove it\n"


def test_what_is_there_is_not_downloaded_again_and_what_is_broken_is(mirror, tmp_path, monkeypatch):
    out, nowhere = tmp_path / "out", "http://127.0.0.1:9"
    assert run(monkeypatch, out, "--mirror", nowhere) == 2
    assert run(monkeypatch, out, "--mirror", mirror) == 0
    out.rename(tmp_path / "first")
    assert run(monkeypatch, out, "--mirror", nowhere) == 0
    out.rename(tmp_path / "second")
    package = tmp_path / "out.packages" / "one.deb"
    package.write_bytes(package.read_bytes()[:500])
    assert run(monkeypatch, out, "--mirror", nowhere) == 2
    assert run(monkeypatch, out, "--mirror", mirror) == 0
    assert package.stat().st_size > 500


def test_a_place_where_nothing_can_be_written_is_one_line(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(debian_pictures, "run_in_venv", lambda: None)
    (tmp_path / "file").touch()
    assert run(monkeypatch, tmp_path / "file" / "out") == 2
    assert capsys.readouterr().err.startswith("debian_pictures: [Errno 20] Not a directory")


@pytest.mark.parametrize(
    ("fault", "told"),
    [
        (
            "gone",
            "one.deb is missing and cannot be downloaded (HTTPError: HTTP Error 404: File not found): fetch URL",
        ),
        ("other", "URL/pool/main/one.deb: is not the package that is expected (SHA-256); try another --mirror"),
    ],
)
def test_what_cannot_be_had_is_one_line(mirror, tmp_path, monkeypatch, capsys, fault, told):
    package = tmp_path / "debian" / "pool" / "main" / "one.deb"
    package.unlink() if fault == "gone" else package.write_bytes(b"another")
    assert run(monkeypatch, tmp_path / "out", "--mirror", mirror) == 2
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert error.startswith("debian_pictures: " + told.replace("URL", mirror))
    assert not (tmp_path / "out.packages" / "one.deb").exists()
    assert not (tmp_path / "out").exists()
