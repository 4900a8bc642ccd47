"""Restore one file into another, for all that restore files: the command line and the page in the browser."""

from __future__ import annotations

import io
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from semanir_plugin.atomic_io import open_atomic, remove_unfinished
from semanir_plugin.errors import one_line
from semanir_plugin.inference.films.kinds import FilmOptions
from semanir_plugin.inference.photograph_reading import decode_photograph
from semanir_plugin.inference.photograph_restoration import PhotographRestoration, is_out_of_memory
from semanir_plugin.inference.photograph_writing import lost_metadata, write_photograph
from semanir_plugin.inference.photographs import Photograph, PhotographInBands
from semanir_plugin.inference.restore_plan import Job
from semanir_plugin.inference.tiling import Progress

__all__ = ["Outcome", "Watch", "try_job"]

Watch = Callable[[Photograph, PhotographInBands], PhotographInBands]
"""Is given a photograph and its result before that is written, and returns one with the same bands, to look at them."""


@dataclass(frozen=True)
class Outcome:
    """What became of a file.

    Attributes:
        problem: Why it was not restored; None: it was.
        lost: Names of what its result does not keep.
        notes: Sentences about what may not be as expected.
        is_out_of_memory: Whether the problem is that memory was used up; its text names flags that help.
    """

    problem: str | None = None
    lost: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    is_out_of_memory: bool = False


def try_job(
    job: Job,
    restoration: PhotographRestoration,
    progress: Progress | None = None,
    *,
    most_pixels: int | None = None,
    watch: Watch | None = None,
    films: FilmOptions | None = None,
    debug: bool = False,
) -> Outcome:
    """Restore one photograph or film; its result appears whole or not at all. Failures are told, so that others go on.

    Args:
        job: What to restore, and where the result goes.
        restoration: The network and its settings.
        progress: Called with the number of tiles done and of all tiles; of a film, of pictures.
        most_pixels: Pixels that a photograph may have; None: as many as are decoded.
        watch: Looks at the result on its way, of a photograph.
        films: How films are coded; None: as `FilmOptions` has it.
        debug: Whether a failure shows where it comes from.
    """
    photograph = None
    try:
        if job.is_film:
            return _restore_film(job, restoration, films or FilmOptions(), progress)
        photograph = _read(job.source, most_pixels)
        result = restoration.restore_for_file(photograph, job.target.suffix.lower(), progress)
        _write(result if watch is None else watch(photograph, result), job.target)
        return Outcome(lost=tuple(lost_metadata(photograph.metadata, job.target.suffix.lower())))
    except OSError as error:
        return Outcome(f"{error.strerror or error}; check {error.filename or job.source}")
    except Exception as error:
        if debug:
            traceback.print_exc()
        if not is_out_of_memory(error):
            return Outcome(one_line(error))
    # Not within the handler, where the error keeps alive what filled the memory.
    return Outcome(restoration.advise_on_memory(photograph), is_out_of_memory=True)


def _restore_film(
    job: Job, restoration: PhotographRestoration, options: FilmOptions, progress: Progress | None
) -> Outcome:
    from semanir_plugin.inference.films.restoration import restore_film  # with PyAV, for this alone

    job.target.parent.mkdir(parents=True, exist_ok=True)
    told = restore_film(job.source, job.target, restoration, options, progress or (lambda *_: None))
    return Outcome(lost=tuple(told.lost), notes=tuple(told.notes))


def _read(source: Path, most_pixels: int | None) -> Photograph:
    content = source.read_bytes()
    if most_pixels is not None:
        _check_pixels(_size_in_header(content), most_pixels)
    photograph = decode_photograph(content)
    if most_pixels is not None:
        _check_pixels(photograph.pixels.shape[:2], most_pixels)
    return photograph


def _size_in_header(content: bytes) -> tuple[int, ...]:
    try:
        with Image.open(io.BytesIO(content)) as image:
            return image.size
    except Exception:  # what Pillow does not know, or what is damaged: the decoder tells
        return (0, 0)


def _check_pixels(size: tuple[int, ...], most: int) -> None:
    if size[0] * size[1] > most:
        raise ValueError(f"has {size[0] * size[1]:,} pixels; at most {most:,} are restored here, so make it smaller")


def _write(photograph: PhotographInBands, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    remove_unfinished(target.parent, target.name)
    with open_atomic(target) as file:
        write_photograph(file, photograph, target.suffix.lower())
