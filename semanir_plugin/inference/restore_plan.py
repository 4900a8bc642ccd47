"""Plan of the photographs to restore and the names of their results, made before any work."""

from __future__ import annotations

import glob
import logging
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from semanir_plugin.errors import UserError, first_names
from semanir_plugin.inference.photograph_reading import PICTURES, READABLE, missing_package
from semanir_plugin.inference.photograph_writing import FORMATS
from semanir_plugin.path_safety import check_fits, check_inside

__all__ = ["Job", "plan_jobs", "result_name"]

_logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Job:
    """A photograph and the path of its restoration."""

    source: Path
    target: Path


def plan_jobs(
    inputs: Sequence[str],
    output: str,
    *,
    recursive: bool = False,
    suffix: str = "",
    overwrite: bool = False,
    skip_existing: bool = False,
) -> list[Job]:
    """Return the photographs to restore and their targets, in the order of names.

    Args:
        inputs: Files, folders, or patterns such as `scans/*.png`; of folders and patterns the images are taken.
        output: A folder, in which results keep their names; or for a single file, the path of the result.
        recursive: Whether folders within folders are searched; results lie in folders of the same names.
        suffix: End of the names of results, before `.png` or the like.
        overwrite: Whether results that are there are replaced.
        skip_existing: Whether photographs whose results are there are left out.

    Raises:
        UserError: There is nothing to restore, two results would have one name, or one too long a name, one would
            replace a photograph of the input, or is there and neither flag says what to do, or a link leads out of the
            output.
    """
    if Path(suffix).name != suffix:
        raise UserError(f"--suffix {suffix} must be part of a name, without folders")
    jobs = list(_name(inputs, Path(os.path.expanduser(output)), recursive, suffix))
    if not jobs:
        raise UserError(f"{', '.join(inputs)}: no images ({', '.join(READABLE)}) there; --recursive also looks further")
    _check_targets(jobs)
    there = [job for job in jobs if os.path.lexists(job.target)]
    if there and not (overwrite or skip_existing):
        raise UserError(
            f"{len(there)} of {len(jobs)} results are there already, {there[0].target} the first; give --skip-existing "
            "to leave them, or --overwrite to replace them"
        )
    return [job for job in jobs if job not in there] if skip_existing else jobs


def _name(inputs: Sequence[str], output: Path, recursive: bool, suffix: str) -> Iterator[Job]:
    single = len(inputs) == 1 and Path(inputs[0]).is_file()
    if single and output.suffix.lower() in FORMATS and not output.is_dir():
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
    """Return what the result of a photograph is called: as the photograph, a PNG where its format is only read."""
    kind = source.suffix if source.suffix.lower() in FORMATS else ".png"
    return f"{source.stem}{suffix}{kind}"


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
    if package := missing_package(path.suffix):
        raise UserError(f"{path}: install {package}, which reads it, or convert it")
    if path.suffix.lower() not in READABLE:
        raise UserError(f"{path}: not one of {', '.join(READABLE)}; convert it")
    return path


def _images(paths: Iterable[Path]) -> list[Path]:
    shown = (path for path in paths if not path.name.startswith("."))
    named = sorted(path for path in shown if path.suffix.lower() in PICTURES)
    pictures = [path for path in named if path.is_file()]
    _tell_passed_over(pictures)
    if missing := [str(path) for path in named if path.is_symlink() and not path.exists()]:
        _logger.warning(f"passed over: {first_names(missing)}; get the files that these links name")
    return [path for path in pictures if path.suffix.lower() in READABLE]


def _tell_passed_over(pictures: Sequence[Path]) -> None:
    missing = [(str(path), package) for path in pictures if (package := missing_package(path.suffix))]
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
