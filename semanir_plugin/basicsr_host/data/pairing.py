"""Find the images of a folder, or pair those of two folders, by name."""

from __future__ import annotations

import glob
import logging
import os
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from semanir_plugin.basicsr_host.data.checks import IMAGE_SUFFIXES
from semanir_plugin.errors import UserError, first_names
from semanir_plugin.inference.photograph_reading import PICTURES
from semanir_plugin.path_safety import check_ordinary

__all__ = ["Found", "find_all_images", "find_images", "find_pairs", "find_singles"]

_logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Found:
    """An image, or a ground truth and its input.

    Attributes:
        name: Its stem, after the names of the folders that wildcards stand for.
        paths: One or two files.
    """

    name: str
    paths: tuple[Path, ...]


@dataclass(frozen=True)
class _Listed:
    path: Path
    folders: tuple[str, ...]

    @property
    def name(self) -> str:
        return "-".join((*self.folders, self.path.stem))


Identity = tuple[str, ...]  # what both images of a pair have, and no other


def find_images(folder: str | os.PathLike[str]) -> list[Path]:
    """Return the images directly in a folder, sorted by name.

    Raises:
        UserError: There is no such folder, or no image in it, or a pipe or device by the name of one.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder; name a folder of photographs")
    shown = (path for path in folder.iterdir() if not path.name.startswith("."))
    images = sorted(path for path in shown if path.suffix.lower() in IMAGE_SUFFIXES)
    if not images:
        raise UserError(f"{folder}: no images ({', '.join(sorted(IMAGE_SUFFIXES))}) in it")
    for path in images:
        check_ordinary(path)
    return images


def find_all_images(folder: str | os.PathLike[str]) -> list[Path]:
    """Return the same, with a warning of the pictures that are not among them."""
    images = find_images(folder)
    shown = (path for path in Path(folder).iterdir() if not path.name.startswith("."))
    others = sorted(path.name for path in shown if path.suffix.lower() in PICTURES - IMAGE_SUFFIXES)
    if others:
        _logger.warning(f"{folder}: passed over are {first_names(others)}, which data sets do not read; convert them")
    return images


def find_singles(folder: str) -> list[Found]:
    """Return the images of a folder, sorted by name.

    Args:
        folder: A folder, or a pattern such as `GoPro/train/*/sharp` for several.

    Raises:
        UserError: There is no such folder, one has no images, or two images would have one name.
    """
    return _sort(Found(each.name, (each.path,)) for each in _list(folder))


def find_pairs(gt: str, lq: str, *, filename_tmpl: str = "{}", pair_by: str | None = None) -> list[Found]:
    """Return the pairs of two folders, sorted by name. Where both are patterns, wildcards must stand for the same.

    Args:
        gt: Folder of the ground truths, or a pattern.
        lq: Folder of the inputs, or a pattern.
        filename_tmpl: Stem of an input, `{}` being that of its ground truth, by which the pair is called.
        pair_by: Instead of it, a regular expression for what the stems of both have in common: its first group, or all
            that it matches. A ground truth may then have several inputs, and the pair is called by its input.

    Raises:
        UserError: As `find_singles`; or images do not pair up, or the expression or the template cannot be right.
    """
    if pair_by is None:
        if filename_tmpl.count("{}") != 1:
            raise UserError(
                f"filename_tmpl '{filename_tmpl}' must have one {{}}, which is the name of the ground truth"
            )
        truths = _by_identity(_list(gt), lambda each: (*each.folders, filename_tmpl.replace("{}", each.path.stem)))
        inputs = [((*each.folders, each.path.stem), each) for each in _list(lq)]
    else:
        identify = _match(pair_by)
        truths = _by_identity(_list(gt), identify)
        inputs = [(identify(each), each) for each in _list(lq)]
    _check_complete(truths, inputs, gt, lq, "filename_tmpl" if pair_by is None else "pair_by")
    return _sort(
        Found((truths[identity] if pair_by is None else each).name, (truths[identity].path, each.path))
        for identity, each in inputs
    )


def _list(pattern: str) -> list[_Listed]:
    if Path(pattern).is_dir() or not glob.has_magic(pattern):
        return [_Listed(path, ()) for path in find_all_images(pattern)]
    folders = sorted(path for path in glob.glob(pattern) if Path(path).is_dir())
    if not folders:
        raise UserError(f"{pattern}: no such folders; correct the pattern")
    wildcards = re.compile(_capture_wildcards(pattern))
    listed = []
    for folder in folders:
        match = wildcards.fullmatch(folder)
        names = tuple(filter(None, match.groups())) if match else ()
        listed += [_Listed(path, names) for path in find_all_images(folder)]
    return listed


def _capture_wildcards(pattern: str) -> str:
    """Return a glob pattern as a regular expression whose groups are what the wildcards stand for."""
    groups = {"*": "([^/]*)", "?": "([^/])"}
    parts = re.split(r"(\*+|\?|\[!?\]?[^]]*\])", pattern)  # every second part is a wildcard
    wild = [groups.get(part[:1], f"({part.replace('[!', '[^', 1)})") for part in parts[1::2]]
    return "".join(re.escape(text) + group for text, group in zip(parts[::2], [*wild, ""], strict=True))


def _match(expression: str) -> Callable[[_Listed], Identity]:
    """Return the function that identifies an image by a regular expression."""
    try:
        compiled = re.compile(expression)
    except re.error as error:
        raise UserError(f"pair_by '{expression}' is not a regular expression: {error}") from error

    def identify(each: _Listed) -> Identity:
        match = compiled.search(each.path.stem)
        if match is None:
            raise UserError(f"pair_by '{expression}' does not fit {each.path}; correct it or move the file")
        return (*each.folders, match[1] if compiled.groups else match[0])

    return identify


def _by_identity(listed: Iterable[_Listed], identify: Callable[[_Listed], Identity]) -> dict[Identity, _Listed]:
    known: dict[Identity, _Listed] = {}
    for each in listed:
        identity = identify(each)
        if identity in known:
            raise UserError(f"{each.path} and {known[identity].path} are ground truths of the same inputs; remove one")
        known[identity] = each
    return known


def _check_complete(
    truths: dict[Identity, _Listed], inputs: list[tuple[Identity, _Listed]], gt: str, lq: str, option: str
) -> None:
    """Refuse images of one side that have none on the other."""
    lonely = [each.name for identity, each in inputs if identity not in truths]
    if lonely:
        raise UserError(f"{lq}: no ground truth in {gt} for {first_names(lonely)}; correct {option} or the folders")
    used = {identity for identity, _ in inputs}
    lonely = [each.name for identity, each in truths.items() if identity not in used]
    if lonely:
        raise UserError(f"{gt}: no input in {lq} for {first_names(lonely)}; correct {option} or the folders")


def _sort(found: Iterable[Found]) -> list[Found]:
    """Sort by name, and refuse names that two have."""
    names: dict[str, Found] = {}
    for each in found:
        if each.name in names:
            raise UserError(f"{each.paths[-1]} and {names[each.name].paths[-1]} would both be called {each.name}")
        names[each.name] = each
    return [names[name] for name in sorted(names)]
