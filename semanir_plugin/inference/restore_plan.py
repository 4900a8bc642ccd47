"""Plan of the photographs and films to restore and the names of their results, made before any work."""

from __future__ import annotations

import glob
import logging
import os
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from semanir_plugin.errors import UserError, first_names
from semanir_plugin.inference.films.kinds import CONTAINERS, FILMS, FilmOptions, can_read_films, parts_folder
from semanir_plugin.inference.photograph_reading import PICTURES, READABLE, missing_package
from semanir_plugin.inference.photograph_writing import FORMATS
from semanir_plugin.path_safety import check_fits, check_inside

__all__ = ["Job", "plan_jobs", "result_name"]

_logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Job:
    """A photograph or film, and the path of its restoration."""

    source: Path
    target: Path

    @property
    def is_film(self) -> bool:
        """Whether it is a film."""
        return _is_film(self.source)


def plan_jobs(
    inputs: Sequence[str],
    output: str,
    *,
    recursive: bool = False,
    suffix: str = "",
    overwrite: bool = False,
    skip_existing: bool = False,
    films: FilmOptions | None = None,
) -> list[Job]:
    """Return the photographs and films to restore and their targets, in the order of names.

    Args:
        inputs: Files, folders, or patterns such as `scans/*.png`; of folders and patterns images and films are taken.
        output: A folder, in which results keep their names; or for a single file, the path of the result.
        recursive: Whether folders within folders are searched; results lie in folders of the same names.
        suffix: End of the names of results, before `.png` or the like.
        overwrite: Whether results that are there are replaced.
        skip_existing: Whether photographs whose results are there are left out.
        films: How films are coded.

    Raises:
        UserError: There is nothing to restore, a film cannot be coded so, two results would have one name, or one too
            long a name, one would replace a photograph of the input, or is there and neither flag says what to do, or
            a link leads out of the output.
    """
    if Path(suffix).name != suffix:
        raise UserError(f"--suffix {suffix} must be part of a name, without folders")
    jobs = list(_name(inputs, Path(os.path.expanduser(output)), recursive, suffix))
    if not jobs:
        raise UserError(f"{', '.join(inputs)}: no images ({', '.join(READABLE)}) there; --recursive also looks further")
    _check_targets(jobs)
    _check_films(jobs, films or FilmOptions())
    there = [job for job in jobs if os.path.lexists(job.target)]
    if there and not (overwrite or skip_existing):
        raise UserError(
            f"{len(there)} of {len(jobs)} results are there already, {there[0].target} the first; give --skip-existing "
            "to leave them, or --overwrite to replace them"
        )
    return [job for job in jobs if job not in there] if skip_existing else jobs


def _name(inputs: Sequence[str], output: Path, recursive: bool, suffix: str) -> Iterator[Job]:
    single = len(inputs) == 1 and Path(inputs[0]).is_file()
    if single and not output.is_dir():
        _check_kind(Path(inputs[0]), output)
    if single and output.suffix.lower() in _written_as(Path(inputs[0])) and not output.is_dir():
        if suffix:
            raise UserError(f"--suffix {suffix} is for folders; {output} names the result in full")
        _check_folder(output.parent)
        yield Job(_checked(Path(inputs[0])), output)
        return
    _check_folder(output)
    for each in inputs:
        for source, within in _find(each, output, recursive):
            target = output / within.with_name(result_name(source, suffix))
            check_inside(target.parent, output)
            yield Job(source, target)


def result_name(source: Path, suffix: str = "") -> str:
    """Return what a result is called: as its source; a PNG, or .mkv of films, where the format of that is only read."""
    kind = source.suffix if source.suffix.lower() in _written_as(source) else ".mkv" if _is_film(source) else ".png"
    return f"{source.stem}{suffix}{kind}"


def _check_kind(source: Path, output: Path) -> None:
    """Refuse a film that is to become a picture, and the reverse.

    Raises:
        UserError: It is.
    """
    suffix, known = output.suffix.lower(), _written_as(source)
    if suffix in {*FORMATS, *FILMS} and suffix not in known:
        raise UserError(f"{output}: {source} becomes one of {', '.join(known)}; name it so, or name a folder")


def _is_film(source: Path) -> bool:
    return source.suffix.lower() in FILMS


def _is_readable(source: Path) -> bool:
    return can_read_films() if _is_film(source) else source.suffix.lower() in READABLE


def _written_as(source: Path) -> Collection[str]:
    """Return the suffixes that the result of a source may have."""
    return CONTAINERS if _is_film(source) else FORMATS


def _missing(suffix: str) -> str | None:
    """Return what has to be installed to read files with a suffix; None where they can be read, or are neither."""
    if suffix.lower() in FILMS:
        return None if can_read_films() else "PyAV (pip install 'semanir_plugin[video]')"
    return missing_package(suffix)


def _check_films(jobs: Sequence[Job], options: FilmOptions) -> None:
    for job in (each for each in jobs if each.is_film):
        check_fits(parts_folder(job.target), "choose a shorter name, or restore it apart")
        for problem in options.problems(job.target.suffix.lower()):
            raise UserError(f"{job.source}: {problem}")


def _check_folder(folder: Path) -> None:
    for each in (folder, *folder.parents):
        if each.exists() and not each.is_dir():
            raise UserError(f"{each} is a file; name a folder for the results")


def _find(name: str, output: Path, recursive: bool) -> Iterator[tuple[Path, Path]]:
    """Yield each photograph that an input stands for, and its path within the output."""
    path = Path(os.path.expanduser(name))
    if path.is_file():
        yield _checked(path), Path(path.name)
    elif path.is_dir():
        if path.resolve() == output.resolve():
            raise UserError(f"{output} is the folder of the photographs; name another one for the results")
        found = (each for each in _images(path.rglob("*") if recursive else path.iterdir()))
        inside = output.resolve()  # results of an earlier run are no photographs
        yield from ((each, each.relative_to(path)) for each in found if inside not in each.resolve().parents)
    else:
        matches = _images(map(Path, glob.iglob(str(path), recursive=True)))
        if not matches:
            raise UserError(f"{name}: no such file or folder, and no images that match; check the name")
        yield from ((each, Path(each.name)) for each in matches)


def _checked(path: Path) -> Path:
    if package := _missing(path.suffix):
        raise UserError(f"{path}: install {package}, which reads it, or convert it")
    if not _is_readable(path):
        raise UserError(f"{path}: not one of {', '.join((*READABLE, *sorted(FILMS)))}; convert it")
    return path


def _images(paths: Iterable[Path]) -> list[Path]:
    shown = (path for path in paths if not path.name.startswith("."))
    named = sorted(path for path in shown if path.suffix.lower() in PICTURES | FILMS)
    pictures = [path for path in named if path.is_file()]
    _tell_passed_over(pictures)
    if missing := [str(path) for path in named if path.is_symlink() and not path.exists()]:
        _logger.warning(f"passed over: {first_names(missing)}; get the files that these links name")
    return [path for path in pictures if _is_readable(path)]


def _tell_passed_over(pictures: Sequence[Path]) -> None:
    missing = [(str(path), package) for path in pictures if (package := _missing(path.suffix))]
    for package in sorted({package for _, package in missing}):
        names = first_names([name for name, each in missing if each == package])
        _logger.warning(f"passed over: {names}; install {package}, which reads them, or convert them")


def _check_targets(jobs: Sequence[Job]) -> None:
    sources = {os.path.realpath(job.source) for job in jobs}
    taken: dict[str, Path] = {}
    for job in jobs:
        check_fits(job.target, "choose a shorter name, or restore it apart")
        target = os.path.realpath(job.target)
        if target in sources:
            raise UserError(f"{job.target} is itself to be restored; name another folder, or give a --suffix")
        if target in taken:
            raise UserError(f"{taken[target]} and {job.source} would both become {job.target}; restore them apart")
        taken[target] = job.source
