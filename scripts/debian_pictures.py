"""Collect sharp photographs and drawings under free licences, to train on beside BSD400: Debian's wallpapers.

    python3 scripts/debian_pictures.py OUT

OUT gets pieces of 480 x 320 pixels, as large as BSD400's photographs, of pictures that were made so much smaller that
nothing of JPEG or of a lens is left in them: of each the dozen with the most detail. The packages, 0.84 GB, lie in
OUT.packages afterwards; a command that was stopped goes on with them. Debian drops old ones: its past has them, at
snapshot.debian.org.
"""

from __future__ import annotations

import argparse
import hashlib
import lzma
import sys
import tarfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bootstrap import run_in_venv

if TYPE_CHECKING:
    from numpy.typing import NDArray

MIRROR = "http://deb.debian.org/debian"
ARCHIVE = "https://snapshot.debian.org/archive/debian/20261129T000000Z"
# Packages of wallpapers by their place in Debian's pool, with their SHA-256.
WALLPAPERS = {
    "g/gnome-backgrounds/gnome-backgrounds_43.1-1_all.deb": (
        "a670dea21572652127d6e55f9cdb3a226d0037854fdbfd037003c7d00ee0dc4e"
    ),
    "g/gnome-backgrounds/gnome-backgrounds_3.38.0-1_all.deb": (
        "76d8a4c52e5f346d9cb08bc8a1f58ad443d2bae211721af8a7248457c7a520e8"
    ),
    "l/lomiri-wallpapers/lomiri-wallpapers-16.04_20.04.0-2_all.deb": (
        "a99ff6a3bfe451e4cc0682ecb3cc82e71740626d59e4845ae34a0a0e45421eab"
    ),
    "l/lomiri-wallpapers/lomiri-wallpapers-20.04_20.04.0-2_all.deb": (
        "d44e89b8473aafe64a5b678f014862dc31335aaaf18665c544d985d854f1a709"
    ),
    "l/lxqt-themes/lxqt-themes_1.2.0-1_all.deb": "d518df36b515b09d36cb00b12645dd8ce170bb82bb0966297741905ce3edc8e1",
    "m/mate-backgrounds/mate-backgrounds_1.26.0-1_all.deb": (
        "7bf4c2209f34b4f61ba6d24c8b58c28b361e82e4b943aae6d42c030169af9e04"
    ),
    "p/phosh-wallpapers/phosh-wallpapers_0.55.0-1_all.deb": (
        "e150841c3e82621774a582611603a3e156d3d4132c2644204465aa37a7624113"
    ),
    "u/ukui-wallpapers/ukui-wallpapers_20.04.3-1.1_all.deb": (
        "6d49be70152e6d603163458e177e501deb0be8f2916389ccbfcf59b0d7fc0262"
    ),
    "p/plasma-workspace-wallpapers/plasma-workspace-wallpapers_5.27.5-2_all.deb": (
        "32cd18b71c8c938a18b3b351f217c02ac590e323caa3cf322fbb875ce8892f8b"
    ),
    "p/plasma-workspace-wallpapers/plasma-workspace-wallpapers_5.20.5-1_all.deb": (
        "9b41c29924f4afb0108cbf34db8b719981aeafcb1d63e94be0be03d5268da845"
    ),
    "p/plasma-workspace-wallpapers/plasma-workspace-wallpapers_6.7.4-1_all.deb": (
        "3802ae051bc6b5b16c7242c95cb5f0db229807ac3d0b7e8bcd765e8eaae4b8b1"
    ),
    "b/budgie-backgrounds/budgie-backgrounds_3.0-1_all.deb": (
        "b91c2d5209558bc11d8d3a161f22a608857e3f8c735980cfab0d6650b03014ca"
    ),
    "b/budgie-backgrounds/budgie-backgrounds_4.2-1_all.deb": (
        "114f980efcd2924b49b9201286ee212c97b4f3b0b84add4e983238f9a7b11896"
    ),
    "h/hyprland/hyprland-backgrounds_0.57.0+ds-1_all.deb": (
        "df2ed3c1c80a92a57145c4613f676670e83b9efe9395a5502aa5c7c00e73bb8a"
    ),
}
STAMPS = "t/tuxpaint-stamps/tuxpaint-stamps-default_2022.06.04-1_all.deb"
STAMPS_SHA256 = "6db6c1bfc870a47f1499d6203b083522eacb57c5f9c87d468f2e92eb6d9d5f34"

PIECE = (480, 320)  # width and height
SHORT_SIDES = (1080, 600)  # to which pictures are made smaller
PIECES = 12  # of a picture at most
LEAST_FILE = 100_000  # bytes of a file with anything to see
LEAST_DETAIL = 4.0  # mean absolute Laplacian of a piece, in levels of 255


@dataclass
class Picture:
    """A picture in a package, and what tells it from others."""

    package: Path
    member: str
    pixels: int
    thumbnail: NDArray[Any]


def main() -> int:
    """Download what is missing, and write the pieces; return the exit code."""
    parser = argparse.ArgumentParser(
        description=__doc__.partition("\n")[0],
        epilog=__doc__.partition("\n")[2],
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("out", type=Path, metavar="OUT", help="folder to write")
    parser.add_argument("--mirror", default=MIRROR, metavar="URL", help=f"of Debian ({MIRROR}); of its past: {ARCHIVE}")
    args = parser.parse_args()
    run_in_venv()
    from semanir_plugin.errors import UserError

    try:
        collect(args.out, args.mirror)
    except (UserError, OSError) as error:
        print(f"debian_pictures: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
    return 0


def collect(out: Path, mirror: str) -> None:
    """Write the pieces of all packages to a new folder."""
    from tqdm import tqdm

    from semanir_plugin.errors import UserError

    if out.exists():
        raise UserError(f"{out}: is there already; name a new folder, or remove it")
    folder, unfinished = out.with_name(f"{out.name}.packages"), out.with_name(f"{out.name}.part")
    unfinished.mkdir(parents=True, exist_ok=True)
    packages = [fetch(place, digest, folder, mirror) for place, digest in WALLPAPERS.items()]
    stamps = fetch(STAMPS, STAMPS_SHA256, folder, mirror)
    pictures = find_pictures(packages)
    for package in tqdm(packages, "Cutting", unit="package", disable=None):
        write_pieces(package, pictures, unfinished)
    for number, stamp in enumerate(put_on_grounds(stamps)):
        write(stamp, unfinished / f"s{number:03d}.png")
    unfinished.rename(out)
    print(f"{out}: {sum(1 for _ in out.iterdir())} pictures")


def write_pieces(package: Path, pictures: Sequence[Picture], folder: Path) -> None:
    """Write the pieces of those pictures that are in this package, by the pictures' numbers."""
    files = open_package(package)
    for number, picture in enumerate(pictures):
        if picture.package == package:
            pieces = cut(decode(files, files.getmember(picture.member)))
            for index, piece in enumerate(pieces):
                write(piece, folder / f"w{number:03d}_{index:02d}.png")


def write(image: NDArray[Any], path: Path) -> None:
    """Write a PNG, whole or not at all."""
    import cv2

    from semanir_plugin.atomic_io import write_atomic

    write_atomic(cv2.imencode(".png", image)[1].tobytes(), path)


def fetch(place: str, digest: str, folder: Path, mirror: str) -> Path:
    """Return a package of Debian's pool, downloaded where it is missing.

    Raises:
        UserError: It cannot be had, or is another one.
    """
    from semanir_plugin.downloads import download
    from semanir_plugin.errors import UserError

    path, url = folder / Path(place).name, f"{mirror}/pool/main/{place}"
    if path.exists() and hashlib.sha256(path.read_bytes()).hexdigest() == digest:
        return path
    folder.mkdir(parents=True, exist_ok=True)
    try:
        download(url, str(path), hash_prefix=digest)
    except RuntimeError as error:
        raise UserError(f"{url}: is not the package that is expected (SHA-256); try another --mirror") from error
    return path


def open_package(path: Path) -> tarfile.TarFile:
    """Return the files of a .deb: an `ar` archive, one of whose members is a tar archive named data.tar.xz."""
    data, start = path.read_bytes(), len(b"!<arch>\n")
    while start < len(data):
        name, size = data[start : start + 16], int(data[start + 48 : start + 58])
        start += 60
        if name.startswith(b"data.tar.xz"):  # unpacked as a whole: to go back in a stream is to begin anew
            return tarfile.open(fileobj=BytesIO(lzma.decompress(data[start : start + size])))
        start += size + size % 2
    raise ValueError(f"{path}: has no data.tar.xz")


def decode(files: tarfile.TarFile, member: tarfile.TarInfo, flags: int | None = None) -> Any:
    """Return the pixels of a picture; None if it is none."""
    import cv2
    import numpy as np

    content = files.extractfile(member)
    assert content is not None  # a regular file's
    return cv2.imdecode(np.frombuffer(content.read(), np.uint8), cv2.IMREAD_COLOR if flags is None else flags)


def members(files: tarfile.TarFile, suffixes: tuple[str, ...]) -> Iterator[tarfile.TarInfo]:
    """Yield the regular files of these kinds, by name."""
    for member in sorted(files.getmembers(), key=lambda each: each.name):
        if member.isreg() and member.name.lower().endswith(suffixes):
            yield member


def find_pictures(packages: list[Path]) -> list[Picture]:
    """Return the pictures of packages, each in its largest version once: desktops share them."""
    import cv2
    import numpy as np
    from tqdm import tqdm

    found: list[Picture] = []
    for package in tqdm(packages, "Looking at pictures", unit="package", disable=None):
        files = open_package(package)
        for member in members(files, (".jpg", ".jpeg", ".png", ".webp")):
            image = decode(files, member) if member.size > LEAST_FILE else None
            if image is None or min(image.shape[:2]) * 0.75 < min(SHORT_SIDES):
                continue
            pixels = image.shape[0] * image.shape[1]
            thumbnail = cv2.resize(image, (32, 20), interpolation=cv2.INTER_AREA).astype(float)
            alike = [each for each in found if np.abs(each.thumbnail - thumbnail).mean() < 8]
            if not alike:
                found.append(Picture(package, member.name, pixels, thumbnail))
            elif pixels > alike[0].pixels:
                alike[0].package, alike[0].member, alike[0].pixels = package, member.name, pixels
    return found


def cut(image: NDArray[Any]) -> list[NDArray[Any]]:
    """Return the pieces of a picture with the most detail, of all its smaller versions."""
    import cv2

    (width, height), pieces = PIECE, []
    for short in SHORT_SIDES:
        scale = short / min(image.shape[:2])
        if scale > 0.75:
            continue
        size = (round(image.shape[1] * scale), round(image.shape[0] * scale))
        smaller = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
        for top in range(0, size[1] - height + 1, height):
            pieces += [
                smaller[top : top + height, left : left + width] for left in range(0, size[0] - width + 1, width)
            ]
    ranked = sorted(((measure_detail(piece), -index) for index, piece in enumerate(pieces)), reverse=True)
    return [pieces[-index] for detail, index in ranked[:PIECES] if detail > LEAST_DETAIL]


def measure_detail(image: NDArray[Any]) -> float:
    """Return the mean absolute Laplacian of the luma, in levels of 255."""
    import cv2
    import numpy as np

    gray = cv2.cvtColor(image, cv2.COLOR_BGR2GRAY).astype(float)
    return float(np.abs(cv2.Laplacian(gray, cv2.CV_64F)).mean())


def put_on_grounds(package: Path) -> Iterator[NDArray[Any]]:
    """Yield photographs of things that were cut out, each before one colour, at half their size."""
    import cv2
    import numpy as np

    draws = np.random.default_rng(0)
    files = open_package(package)
    for member in members(files, (".png",)):
        image = decode(files, member, cv2.IMREAD_UNCHANGED)
        if image is None or image.ndim != 3 or image.shape[2] != 4 or image.dtype != np.uint8:
            continue
        height, width = image.shape[:2]
        if min(height, width) < 360:
            continue
        opacity = image[..., 3:] / 255.0
        before = (image[..., :3] * opacity + draws.uniform(20, 235, 3) * (1 - opacity)).astype(np.float32)
        scale = max(0.5, 240 / min(height, width))
        size = (round(width * scale), round(height * scale))
        smaller = np.round(cv2.resize(before, size, interpolation=cv2.INTER_AREA)).astype(np.uint8)
        if measure_detail(smaller) >= 3:
            yield smaller[:480, :640]


if __name__ == "__main__":
    sys.exit(main())
