"""Put a film together: restored pictures, and all else that its source has."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

from semanir_plugin.errors import one_line
from semanir_plugin.inference.films.encoding import Coded, Target
from semanir_plugin.inference.films.kinds import CODECS, CONTAINERS
from semanir_plugin.inference.films.reading import moving, open_film

__all__ = ["check_streams", "join"]

OF_FILES = ("major_brand", "minor_version", "compatible_brands", "encoder", "creation_time_utc")
"""Entries of a source's metadata that are about its file."""

OF_STREAMS = ("encoder", "vendor_id", "handler_name")


@dataclass
class _Output:
    """A film that is written.

    Attributes:
        container: The file, of PyAV.
        pictures: Its stream of pictures.
        others: By the numbers of the source's streams, those of the result with the same content.
        lost: Names of what it does not hold.
    """

    container: Any
    pictures: Any
    others: dict[int, Any]
    lost: list[str]


def check_streams(source: Path, target: Target, suffix: str, folder: Path) -> list[str]:
    """Refuse a film whose sound files with a suffix cannot hold, and return the names of what else they do not.

    Raises:
        ValueError: There is such sound.
        OSError: A file for trying, in a folder, cannot be written.
    """
    trial = folder / "trial"
    try:
        with open_film(source) as container, _opened(trial, container, target, suffix) as output:
            return output.lost
    finally:
        trial.unlink(missing_ok=True)


def join(source: Path, target: Target, packets: Callable[[], Iterator[Coded]], suffix: str, path: Path) -> None:
    """Write the whole film to a new file.

    Args:
        source: The film that was restored, whose sound, subtitles and metadata are copied as they are.
        target: How pictures are coded.
        packets: Yields the pictures, in the order of decoding; it is called twice.
        suffix: End of the result's name, which says what kind of file it is.
        path: The file, whatever its name.

    Raises:
        ValueError: The source cannot be read any longer, or the file cannot hold it.
        OSError: It cannot be written.
    """
    with open_film(source) as container, _opened(path, container, target, suffix) as output:
        base = target.film.time_base
        timed = _timed([packet.pts for packet in packets()], packets())
        waiting = next(timed, None)
        for packet in _copied(container, output):
            while waiting is not None and waiting[1] * base <= packet.dts * packet.time_base:
                _mux(output, *waiting, base)
                waiting = next(timed, None)
            packet.stream = output.others[packet.stream_index]
            output.container.mux(packet)
        while waiting is not None:
            _mux(output, *waiting, base)
            waiting = next(timed, None)


def _copied(container: Any, output: _Output) -> Iterator[Any]:
    """Yield the packets of the source's other streams."""
    streams = [container.streams[number] for number in output.others]
    for packet in container.demux(streams) if streams else ():
        if packet.dts is not None:
            yield packet


def _timed(times: Sequence[int], packets: Iterable[Coded]) -> Iterator[tuple[Coded, int]]:
    """Yield packets with the times when they are decoded, which rise, and are not after `times`, when they are shown.

    Parts are coded apart, so that their own times of decoding do not fit together where pictures come at a variable
    rate.
    """
    shown = sorted(times)
    place = {pts: number for number, pts in enumerate(shown)}
    lag = max(number - place[pts] for number, pts in enumerate(times))
    step = max(1, shown[1] - shown[0]) if len(shown) > 1 else 1
    for number, packet in enumerate(packets):
        yield packet, shown[number - lag] if number >= lag else shown[0] - (lag - number) * step


def _mux(output: _Output, coded: Coded, dts: int, base: Fraction) -> None:
    import av

    packet = av.Packet(coded.data)
    packet.time_base, packet.pts, packet.dts, packet.duration = base, coded.pts, dts, coded.duration
    packet.is_keyframe, packet.stream = coded.key, output.pictures
    output.container.mux(packet)


@contextmanager
def _opened(path: Path, source: Any, target: Target, suffix: str) -> Iterator[_Output]:
    """Open a new file with all streams, and write its end when it is left."""
    import av

    kind = CONTAINERS[suffix]
    metadata = {key: value for key, value in source.metadata.items() if key not in OF_FILES}
    flags = "+use_metadata_tags" if any(key.startswith("com.") for key in metadata) else ""
    options = {"movflags": f"+faststart{flags}"} if kind in ("mp4", "mov") else {}
    try:
        with av.open(str(path), "w", format=kind, container_options=options) as container:
            container.metadata.update(metadata)
            output = _Output(container, _add_pictures(container, moving(source), target), {}, [])
            for stream in source.streams:
                if stream.index != moving(source).index:
                    _add(output, stream, suffix)
            container.set_chapters(source.chapters())
            container.start_encoding()
            yield output
    except av.error.FFmpegError as error:
        if isinstance(error, OSError) and error.errno and 0 < error.errno < 200:
            raise OSError(error.errno, os.strerror(error.errno), str(path)) from error
        raise ValueError(f"a {suffix} file cannot hold it ({one_line(error)}); name the result .mkv") from error


def _add_pictures(container: Any, stream: Any, target: Target) -> Any:
    pictures = container.add_stream(CODECS[target.codec].encoder, rate=target.film.rate)
    target.configure(pictures.codec_context)
    pictures.time_base = target.film.time_base
    _describe(pictures, stream)
    if target.film.matrix is not None:
        pictures.set_display_matrix(target.film.matrix)
    return pictures


def _add(output: _Output, stream: Any, suffix: str) -> None:
    """Add a stream that is copied; sound that cannot be is an error, all else is told."""
    import av

    if stream.type == "attachment" and suffix == ".mkv":
        output.container.add_attachment(stream.name or "attachment", stream.mimetype or "", stream.data)
        return
    name = stream.codec_context.name if stream.codec_context else stream.type
    try:
        if stream.type not in ("audio", "subtitle", "video"):
            raise ValueError("no file holds it for certain")
        added = output.container.add_stream_from_template(stream)
    except (ValueError, av.error.FFmpegError) as error:
        if stream.type == "audio":
            raise ValueError(f"a {suffix} file cannot hold its sound ({name}); name the result .mkv") from error
        if stream.type != "data":  # time codes and the like, of the file
            output.lost.append({"subtitle": "subtitles", "video": "cover"}.get(stream.type, stream.type) + f" ({name})")
        return
    _describe(added, stream)
    output.others[stream.index] = added


def _describe(added: Any, stream: Any) -> None:
    added.metadata.update({key: value for key, value in stream.metadata.items() if key not in OF_STREAMS})
    added.disposition = stream.disposition
