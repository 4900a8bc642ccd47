"""Reading of films: what a file says, whether it is whole, and its pictures one after another."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from semanir_plugin.errors import one_line
from semanir_plugin.foreign_files import HEAD, foreign_kind
from semanir_plugin.inference.films.colours import UNTOLD, WEIGHTS, Coding, guess_matrix, to_rgb

__all__ = ["Film", "Picture", "open_film", "pictures", "scan"]

MOST_PIXELS = 1 << 26
"""Of a picture, twice as many as 8K has; a head of some bytes can claim any number."""

TOLD = ("matroska", "mov")  # formats whose heads tell how long a film is; of others it is estimated
LATE = 0.25  # seconds and two pictures that it may end before

PLANAR = {
    **{"nv12": "yuv420p", "nv21": "yuv420p", "nv16": "yuv422p", "nv24": "yuv444p", "p010le": "yuv420p10le"},
    **{"yuyv422": "yuv422p", "uyvy422": "yuv422p", "yvyu422": "yuv422p", "p210le": "yuv422p10le"},
    **{"yuv411p": "yuv444p", "yuvj411p": "yuv444p", "yuv410p": "yuv444p", "yuv440p": "yuv444p", "yuvj440p": "yuv444p"},
}
"""Formats that are first made into another, which holds the same samples or more of them."""

FULL = 2  # FFmpeg's number of a range
HDR = (16, 18)  # PQ and HLG, by the numbers of ITU-T H.273


@dataclass(frozen=True, kw_only=True)
class Film:
    """What the first picture of a film and its file say.

    Attributes:
        width: Of the pictures as they are coded.
        height: As well.
        coding: What samples mean; of RGB and gray what they are to mean in the result.
        primaries: Number of ITU-T H.273, and so is the next.
        transfer: 16 and 18 are HDR.
        time_base: Seconds of a unit of time.
        rate: Pictures per second, in the mean.
        aspect: Width of a pixel by its height; None: it is not told.
        matrix: Display matrix, nine numbers: how the pictures are to be turned; None: not at all.
        interlaced: Whether pictures are made of two fields.
        transparent: Whether they have opacity.
        mastered: Whether there is data on the display that it was made for.
        frames: How many pictures there are.
    """

    width: int
    height: int
    coding: Coding
    primaries: int
    transfer: int
    time_base: Fraction
    rate: Fraction
    aspect: Fraction | None
    matrix: tuple[int, ...] | None
    interlaced: bool
    transparent: bool
    mastered: bool
    frames: int

    @property
    def is_hdr(self) -> bool:
        """Whether it is coded for more brightness than screens of old have."""
        return self.transfer in HDR


@dataclass(frozen=True)
class Picture:
    """A picture of a film.

    Attributes:
        pixels: (H, W, 3) RGB or (H, W, 1) gray, 16 bit.
        pts: When it is shown, in units of the film's time base.
        duration: For how long; 0: until the next.
    """

    pixels: NDArray[np.uint16]
    pts: int
    duration: int


@contextmanager
def open_film(path: Path) -> Iterator[Any]:
    """Open a film by PyAV; what it raises is told in a line.

    Raises:
        ValueError: It is none, or it is damaged.
        OSError: It cannot be read.
    """
    import av

    av.logging.set_level(None)  # FFmpeg's own lines on the terminal
    try:
        with av.open(str(path)) as container:
            if not any(_is_moving(stream) for stream in container.streams.video):
                raise ValueError("has no moving pictures; copy it again, if it should have")
            yield container
    except av.error.FFmpegError as error:
        if isinstance(error, FileNotFoundError | PermissionError | IsADirectoryError):
            raise OSError(error.errno, error.strerror, str(path)) from error
        raise ValueError(
            _kind(path) or f"cannot be decoded: {error.strerror or one_line(error)}; copy it again"
        ) from error


def _kind(path: Path) -> str | None:
    """Return what a file is that FFmpeg cannot read, and what to do; None of what may be a damaged film."""
    with path.open("rb") as file:
        told = foreign_kind(file.read(HEAD))
    return None if told and told.startswith("is a film") else told


def moving(container: Any) -> Any:
    """Return the stream of the pictures."""
    return next(stream for stream in container.streams.video if _is_moving(stream))


def _is_moving(stream: Any) -> bool:
    import av

    return stream.codec_context is not None and not stream.disposition & av.stream.Disposition.attached_pic


def scan(path: Path) -> Film:
    """Read all of a film but decode only its beginning, so that what is wrong is told before the work.

    Raises:
        ValueError: It is damaged, ends too early, has pictures of too many pixels, or colours that are not known.
        OSError: It cannot be read.
    """
    with open_film(path) as container:
        _check_size(moving(container).codec_context)
        frames = _count(container)
    with open_film(path) as container:
        stream = moving(container)
        frame = next(_decoded(container, stream), None)
        if frame is None:
            raise ValueError("cannot be decoded: it has no picture; copy it again")
        return _describe(container, stream, frame, frames)


def _check_size(context: Any) -> None:
    if context.width * context.height > MOST_PIXELS:
        size = f"{context.width:,} x {context.height:,}"
        raise ValueError(f"has pictures of {size} pixels; films of at most {MOST_PIXELS:,} are restored")


def _count(container: Any) -> int:
    """Return the number of pictures; raise ValueError where there should be more."""
    stream, frames, end, damaged = moving(container), 0, 0.0, None
    for packet in container.demux():
        if packet.dts is None and packet.pts is None and not packet.size:
            continue  # of those that end the streams
        at = packet.pts if packet.pts is not None else packet.dts
        if at is not None:
            end = max(end, float((at + (packet.duration or 0)) * packet.time_base))
        if packet.is_corrupt and damaged is None:
            damaged = end
        frames += packet.stream_index == stream.index
    least, end_told = _least(container, stream)
    if frames < least or end < end_told:
        told = (container.duration or 0) / 1e6
        raise ValueError(f"is cut off: it ends after {end:.1f} of {told:.1f} seconds; copy it again")
    if damaged is not None:
        raise ValueError(f"is damaged at {damaged:.1f} seconds; copy it again")
    return frames


def _least(container: Any, stream: Any) -> tuple[int, float]:
    """Return how many pictures a whole film has at least, and the seconds before which it does not end."""
    if not container.format.name.startswith(TOLD):
        return 0, 0.0
    picture = float(1 / stream.average_rate) if stream.average_rate else 0.0
    told = float((container.duration or 0) + (container.start_time or 0)) / 1e6
    return stream.frames, told - LATE - 2 * picture


def _describe(container: Any, stream: Any, frame: Any, frames: int) -> Film:
    from av.sidedata.sidedata import Type

    matrix = frame.side_data.get(Type.DISPLAYMATRIX)
    mastered = any(frame.side_data.get(kind) for kind in (Type.MASTERING_DISPLAY_METADATA, Type.CONTENT_LIGHT_LEVEL))
    return Film(
        width=frame.width,
        height=frame.height,
        coding=_coding(frame),
        primaries=frame.color_primaries,
        transfer=frame.color_trc,
        time_base=stream.time_base,
        rate=stream.average_rate or stream.guessed_rate or Fraction(25),
        aspect=stream.sample_aspect_ratio,
        matrix=None if matrix is None else tuple(np.frombuffer(bytes(matrix), np.int32).tolist()),
        interlaced=frame.interlaced_frame,
        transparent=any(part.is_alpha for part in frame.format.components),
        mastered=mastered,
        frames=frames,
    )


def _coding(frame: Any) -> Coding:
    """Return what a frame's samples mean; of RGB and gray what those of the result are to mean."""
    name = PLANAR.get(frame.format.name, frame.format.name)
    format = _format(name)
    depth = 8 if max(part.bits for part in format.components) <= 8 else 10
    matrix = guess_matrix(frame.width, frame.height) if frame.colorspace in UNTOLD else frame.colorspace
    if format.is_rgb or format.has_palette:
        return Coding(matrix=1, full=False, depth=depth, across=1, down=1)
    if matrix not in WEIGHTS:
        raise ValueError(f"has colours by matrix {matrix} of H.273; those of {', '.join(map(str, WEIGHTS))} are known")
    across, down = _chroma_factors(format)
    full = frame.color_range == FULL or name.startswith("yuvj")
    return Coding(matrix=matrix, full=full, depth=depth, across=across, down=down)


def _format(name: str) -> Any:
    import av

    return av.VideoFormat(name, 64, 64)


def _chroma_factors(format: Any) -> tuple[int, int]:
    return (64 // format.components[1].width, 64 // format.components[1].height) if _has_colours(format) else (2, 2)


def _has_colours(format: Any) -> bool:
    return len(format.components) > 2


def pictures(path: Path, film: Film, start: int = 0) -> Iterator[Picture]:
    """Yield the pictures of a film, from one on; times rise from each to the next.

    Raises:
        ValueError: One is damaged or of another size, or the film ends too early.
    """
    with open_film(path) as container:
        stream, last, number = moving(container), None, 0
        stream.thread_type = "AUTO"
        for number, frame in enumerate(_decoded(container, stream), 1):
            pts = _time(frame, last)
            if number > start:
                _check(frame, film, pts)
                yield Picture(_pixels(frame, film.coding), pts, frame.duration or 0)
            last = pts
    if last is None or number < start:
        raise ValueError(f"is cut off: it has {number:,} pictures; copy it again")


def _decoded(container: Any, stream: Any) -> Iterator[Any]:
    """Yield the frames of a film, from the first on that is whole, as what was received begins anywhere.

    Raises:
        ValueError: One behind it is damaged.
    """
    import av

    begun = False
    for packet in container.demux(stream):
        try:
            frames = packet.decode()
        except av.error.InvalidDataError as error:
            if begun:
                raise ValueError(_damaged(packet.pts, packet.time_base)) from error
            continue
        for frame in frames:
            if frame.is_corrupt and begun:
                raise ValueError(_damaged(frame.pts, frame.time_base))
            begun = begun or not frame.is_corrupt
            if begun:
                yield frame


def _damaged(pts: int | None, time_base: Any) -> str:
    where = "at its end" if pts is None else f"at {float(pts * time_base):.1f} seconds"
    return f"is damaged {where}; copy it again, or cut that out"


def _time(frame: Any, last: int | None) -> int:
    told = frame.pts if frame.pts is not None else frame.dts
    if last is None:
        return told or 0
    return told if told is not None and told > last else last + max(1, frame.duration or 1)


def _check(frame: Any, film: Film, pts: int) -> None:
    if (frame.width, frame.height) != (film.width, film.height):
        size = f"{film.width} x {film.height} to {frame.width} x {frame.height}"
        raise ValueError(f"changes from {size} pixels at {float(pts * film.time_base):.1f} seconds; cut it there")


def _pixels(frame: Any, coding: Coding) -> NDArray[np.uint16]:
    """Return the pixels of a frame, (H, W, 3) or, of gray, (H, W, 1)."""
    if frame.format.is_rgb or frame.format.has_palette:
        return _rgb(frame)
    if frame.format.name in PLANAR:
        frame = frame.reformat(format=PLANAR[frame.format.name])
    bits = frame.format.components[0].bits
    found = Coding(matrix=coding.matrix, full=coding.full, depth=bits, across=coding.across, down=coding.down)
    if not _has_colours(frame.format):
        black, white = found.luma
        gray = ((_plane(frame, 0, bits).astype(np.float32) - black) / white).clip(0, 1)
        return np.round(gray * 65535).astype(np.uint16)[..., None]
    return to_rgb((_plane(frame, 0, bits), _plane(frame, 1, bits), _plane(frame, 2, bits)), found)


def _rgb(frame: Any) -> NDArray[np.uint16]:
    if max(part.bits for part in frame.format.components) <= 8:
        return np.asarray(frame.to_ndarray(format="rgb24")).astype(np.uint16) * 257
    return np.asarray(frame.to_ndarray(format="rgb48le"))


def _plane(frame: Any, number: int, bits: int) -> NDArray[Any]:
    plane = frame.planes[number]
    kind = np.dtype(np.uint8) if bits <= 8 else np.dtype(">u2" if frame.format.is_big_endian else "<u2")
    rows = np.frombuffer(plane, kind).reshape(-1, plane.line_size // kind.itemsize)
    return rows[: plane.height, : plane.width]
