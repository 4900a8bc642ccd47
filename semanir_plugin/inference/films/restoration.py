"""Restore a film: picture by picture, in parts that a killed command goes on from, then put together."""

from __future__ import annotations

import time
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch

import semanir_plugin
from semanir_plugin.atomic_io import move_into_place
from semanir_plugin.inference.films.encoding import Coded, Encoder, Target
from semanir_plugin.inference.films.joining import check_streams, join
from semanir_plugin.inference.films.kinds import CODECS, FilmOptions
from semanir_plugin.inference.films.parts import Parts, fingerprint_of_file, fingerprint_of_network
from semanir_plugin.inference.films.reading import Film, Picture, pictures, scan
from semanir_plugin.inference.photograph_restoration import PhotographRestoration
from semanir_plugin.inference.photographs import Photograph
from semanir_plugin.inference.tiling import Progress

__all__ = ["restore_film"]

LONGEST_PART = 240  # pictures
SHORTEST_PART = 12
SECONDS = 20.0  # that a part takes, once it is not too short; so much is lost when the command is killed


@dataclass
class Told:
    """What is told of a film that was restored.

    Attributes:
        lost: Names of what the result does not keep.
        notes: Sentences about what may not be as expected.
    """

    lost: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def restore_film(
    source: Path, target: Path, restoration: PhotographRestoration, options: FilmOptions, progress: Progress
) -> Told:
    """Restore a film into a new one, which appears when it is whole.

    Sound, subtitles, chapters and metadata are copied, times and the meaning of colours are kept. What was done before
    the command was stopped, by whatever, is not done again.

    Args:
        source: A film.
        target: The result; its suffix is one of `CONTAINERS`.
        restoration: The network and its settings.
        options: How it is coded.
        progress: Called with the number of pictures done and of all; first with those of earlier commands.

    Raises:
        ValueError: The film is damaged, or something of it cannot be in such a file; or as `restore_photograph`.
        UserError: Another command restores it.
        OSError: A file cannot be read or written.
    """
    film = scan(source)
    codec = options.codec_for(target.suffix.lower())
    crf = CODECS[codec].crf if options.crf is None else options.crf
    aim = Target(film=film, scale=restoration.restoration.descriptor.scale, codec=codec, crf=crf)
    Encoder(aim)  # which says so if it cannot
    parts = Parts(target, _fingerprint(source, aim, restoration))
    with parts.opened():
        told = Told(check_streams(source, aim, target.suffix.lower(), parts.folder), _notes(film))
        done = parts.count
        progress(done, film.frames)
        _restore(source, aim, restoration, parts, done, progress)
        whole = parts.folder / "whole"
        join(source, aim, parts.packets, target.suffix.lower(), whole)
        move_into_place(whole, target)
        parts.clear()
    told.lost += ["transparency"] * film.transparent + ["HDR mastering data"] * film.mastered
    return told


def _notes(film: Film) -> list[str]:
    notes = []
    if film.interlaced:
        notes.append("is interlaced, and its two fields are restored as one picture; deinterlace it before")
    if film.is_hdr:
        notes.append("is HDR, which networks have hardly seen; it is restored as it is coded, and tagged as it was")
    return notes


def _fingerprint(source: Path, aim: Target, restoration: PhotographRestoration) -> dict[str, str]:
    import av

    versions = (semanir_plugin.__version__, av.__version__, *av.library_versions.values(), torch.__version__)
    return {
        "source": fingerprint_of_file(source),
        "network": fingerprint_of_network(restoration.network),
        "settings": repr((restoration.restoration.options, restoration.restoration.precision)),
        "result": repr(aim),
        "versions": repr(versions),
    }


def _restore(
    source: Path, aim: Target, restoration: PhotographRestoration, parts: Parts, done: int, progress: Progress
) -> None:
    """Restore what is not yet, and add it to the parts; interrupted, what was begun is added as well."""
    stream = pictures(source, aim.film, done)
    while True:
        part = _Part(aim, done)
        try:
            for picture in stream:
                restored = restoration.restore(Photograph(picture.pixels)).gather()
                part.add(replace(picture, pixels=restored))
                progress(done + part.pictures, aim.film.frames)
                if part.is_enough:
                    break
        except KeyboardInterrupt:
            part.write(parts)
            raise
        if not part.pictures:
            return
        part.write(parts)
        done += part.pictures


class _Part:
    """A part that is being made."""

    def __init__(self, aim: Target, start: int) -> None:
        self._start, self._encoder, self._packets = start, Encoder(aim), list[Coded]()
        self._began, self.pictures = time.monotonic(), 0

    @property
    def is_enough(self) -> bool:
        if self.pictures < SHORTEST_PART:
            return False
        return self.pictures >= LONGEST_PART or time.monotonic() - self._began > SECONDS

    def add(self, picture: Picture) -> None:
        self._packets += self._encoder.encode(picture.pixels, picture.pts, picture.duration)
        self.pictures += 1

    def write(self, parts: Parts) -> None:
        if self.pictures:
            parts.add(self._start, [*self._packets, *self._encoder.finish()])
