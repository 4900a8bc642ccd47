"""Which files are films, which of them can be written, and by what they are coded; known without PyAV."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

__all__ = ["CODECS", "CONTAINERS", "FILMS", "Codec", "FilmOptions", "can_read_films", "parts_folder"]

CONTAINERS = {".mp4": "mp4", ".m4v": "mp4", ".mov": "mov", ".mkv": "matroska", ".webm": "webm"}
"""Formats of films that are written, by suffix."""

FILMS = {*CONTAINERS, ".3gp", ".avi", ".flv", ".m2ts", ".mpeg", ".mpg", ".mts", ".ogv", ".ts", ".vob", ".wmv"}
"""Suffixes of films; what is only read becomes .mkv, which holds any sound."""


@dataclass(frozen=True, kw_only=True)
class Codec:
    """A way to code films.

    Attributes:
        encoder: FFmpeg's name of what does it.
        crf: Quality where none is asked for: little that can be seen is lost; None: nothing is lost.
        worst: The largest number that `crf` may be.
        suffixes: Which files may hold it.
        more: Further options of the encoder.
    """

    encoder: str
    crf: int | None
    worst: int
    suffixes: tuple[str, ...]
    more: tuple[tuple[str, str], ...] = ()


CODECS = {
    "h264": Codec(encoder="libx264", crf=16, worst=51, suffixes=(".mp4", ".m4v", ".mov", ".mkv")),
    "hevc": Codec(
        encoder="libx265",
        crf=18,
        worst=51,
        suffixes=(".mp4", ".m4v", ".mov", ".mkv"),
        # What it says of itself in the head depends on the machine; and its log goes to the terminal.
        more=(("x265-params", "info=0:log-level=error"),),
    ),
    "av1": Codec(encoder="libsvtav1", crf=20, worst=63, suffixes=(".mp4", ".mkv", ".webm"), more=(("preset", "6"),)),
    "vp9": Codec(
        encoder="libvpx-vp9",
        crf=20,
        worst=63,
        suffixes=(".mp4", ".mkv", ".webm"),
        more=(("row-mt", "1"), ("cpu-used", "2")),
    ),
    "ffv1": Codec(encoder="ffv1", crf=None, worst=0, suffixes=(".mkv", ".mov"), more=(("level", "3"),)),
}


@dataclass(frozen=True, kw_only=True)
class FilmOptions:
    """How films are written.

    Attributes:
        video_codec: A key of `CODECS`; None: H.264, and VP9 in .webm.
        crf: The codec's constant quality, 0 the best; None: the codec's own of `CODECS`.
    """

    video_codec: str | None = None
    crf: int | None = None

    def codec_for(self, suffix: str) -> str:
        """Return the key of the codec for files with a suffix."""
        return self.video_codec or ("vp9" if suffix == ".webm" else "h264")

    def problems(self, suffix: str) -> Iterator[str]:
        """Yield what does not go together, or with files with a suffix."""
        name = self.codec_for(suffix)
        codec = CODECS[name]
        if suffix not in codec.suffixes:
            others = ", ".join(each for each, other in CODECS.items() if suffix in other.suffixes)
            yield f"{suffix} files hold no {name}; take --video-codec {others}, or name it {', '.join(codec.suffixes)}"
        if self.crf is not None and codec.crf is None:
            yield f"--crf {self.crf} is for codecs that lose something, which {name} does not; leave it out"
        elif self.crf is not None and self.crf > codec.worst:
            yield f"--crf {self.crf} is more than {name} has, 0 to {codec.worst}; {codec.crf} is usual"


def parts_folder(target: Path) -> Path:
    """Return the folder for what is done of a film, beside its result."""
    return target.with_name(f".{target.name}.parts")


def can_read_films() -> bool:
    """Return whether PyAV is installed."""
    return find_spec("av") is not None
