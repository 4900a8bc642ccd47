"""Writing images, or pairs of them, as LMDBs in BasicSR's format: resumable, verified, published when complete.

While it is written, `x.lmdb` is the folder `.partial_x.lmdb` beside it, and the file `.partial_x.lmdb.plan` identifies
what it is made of. A run that was killed goes on from what it had committed.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import cached_property, partial
from itertools import groupby
from pathlib import Path
from typing import Any, TypeVar

import cv2
import lmdb
import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from semanir_plugin.atomic_io import write_atomic
from semanir_plugin.basicsr_host.data.checks import fits_cropped, read_size
from semanir_plugin.basicsr_host.data.in_order import in_order
from semanir_plugin.basicsr_host.data.lmdb_listing import read_lmdb_keys
from semanir_plugin.basicsr_host.data.meta_info import Size
from semanir_plugin.basicsr_host.data.outputs import check_own, draft_of, publish, remove_tree
from semanir_plugin.basicsr_host.data.pairing import Found
from semanir_plugin.basicsr_host.data.sub_images import SubImages
from semanir_plugin.basicsr_host.lmdb_environments import open_lmdb
from semanir_plugin.degradations import BicubicVariant, downsample_bicubic, least_side
from semanir_plugin.errors import UserError, first_names, one_line
from semanir_plugin.inference.images import decode_pixels
from semanir_plugin.path_safety import can_name_file
from semanir_plugin.pixels import to_float, to_uint8

__all__ = ["write_lmdbs"]

R = TypeVar("R")
Box = tuple[int, int, int, int]  # top, left, height, width

_FIRST_MAP_SIZE = 1 << 28  # address space, not disk; doubled whenever it is full
_BATCH_BYTES = 32 << 20  # committed together: the most that a killed run loses


def write_lmdbs(
    found: Sequence[Found],
    targets: Sequence[Path],
    *,
    scale: int = 1,
    sub_images: SubImages | None = None,
    compress_level: int = 1,
    downsample: BicubicVariant | None = None,
    raw: bool = False,
    workers: int = 1,
    overwrite: bool = False,
) -> int:
    """Write images to an LMDB, or pairs to two, as PNG. Alpha is dropped; gray and 16 bit are kept.

    Args:
        found: Images, or pairs of ground truth and input.
        targets: One LMDB, or that of the ground truths and that of the inputs.
        scale: Factor between the sizes of a pair; a ground truth is cropped to that multiple of its input.
        sub_images: Cut ground truths into these, and inputs alike; they are called `NAME_s001` and so on.
        compress_level: Of PNG, 0 to 9.
        downsample: Make the inputs of single images, smaller by `scale`, by this variant of bicubic. Both become 8 bit
            colour.
        raw: Write pixels as they are, as BMP in 8 bit: some three times as large, and read without decoding from the
            memory that all workers of a loader share.
        workers: Threads that decode and encode.
        overwrite: Replace LMDBs that are there, and what an interrupted run with other images or options left.

    Returns:
        The number of entries of each.

    Raises:
        UserError: An image cannot be read, sizes do not fit, names cannot be keys, a target is there already or cannot
            be written, or what was written does not read back.
    """
    _check_targets(targets)
    factors = (1,) if len(targets) == 1 else (scale, 1)
    sizes = _read_sizes(found, workers)
    if downsample is not None:
        sizes = [(size, (size[0] // scale, size[1] // scale)) for (size,) in sizes]
    plan = _Plan(found, sizes, factors, sub_images, compress_level, downsample, raw)
    plan.check()
    sides = [_Side(plan, index, target) for index, target in enumerate(targets)]
    try:
        _prepare(sides, overwrite=overwrite)
        _write(plan, [side for side in sides if side.draft.is_dir()], workers)
        for side in sides:
            side.verify(workers)
        publish(targets)
        for side in sides:
            side.plan_file.unlink(missing_ok=True)
    except (OSError, lmdb.Error) as error:
        reason = str(error).rpartition(": ")[2]  # behind the path, or LMDB's function
        raise UserError(
            f"{targets[0].parent}: cannot write there: {reason}; mend that, and the same command goes on"
        ) from error
    return len(plan.entries)


@dataclass(frozen=True)
class _Entry:
    """A sub-image, or a whole image."""

    key: str
    image: int
    boxes: tuple[Box, ...]


@dataclass(frozen=True)
class _Plan:
    """Plan of the databases to write, made before any image is decoded.

    Attributes:
        found: The images.
        sizes: Their sizes, of each side.
        factors: Size of each side in relation to the last.
        sub_images: Grid on the first side.
        compress_level: Of PNG.
        downsample: How inputs are made of the images, which are ground truths; None: they are not.
        raw: Whether BMP is written.
    """

    found: Sequence[Found]
    sizes: Sequence[tuple[Size, ...]]
    factors: tuple[int, ...]
    sub_images: SubImages | None
    compress_level: int
    downsample: BicubicVariant | None
    raw: bool

    @cached_property
    def entries(self) -> list[_Entry]:
        return [
            _Entry(key, image, tuple(_times(box, factor) for factor in self.factors))
            for image, (each, sizes) in enumerate(zip(self.found, self.sizes, strict=True))
            for key, box in self._cut(each.name, sizes[-1])
        ]

    def _cut(self, name: str, size: Size) -> Iterator[tuple[str, Box]]:
        """Yield the keys and boxes of an image, on the last side."""
        (width, height), grid, factor = size, self.sub_images, self.factors[0]
        if grid is None:
            yield name, (0, 0, height, width)
            return
        own = SubImages(side=grid.side // factor, step=grid.step // factor, threshold=grid.threshold // factor)
        for number, (top, left) in enumerate(own.corners(height, width), 1):
            yield f"{name}_s{number:03d}", (top, left, min(own.side, height), min(own.side, width))

    @property
    def _options(self) -> tuple[Any, ...]:
        return self.factors, self.sub_images, self.compress_level, self.downsample, self.raw

    @cached_property
    def digest(self) -> str:
        """Identify the files, as far as their size and time of change tell, and the options."""
        digest = hashlib.sha256(repr(self._options).encode())
        for each, sizes in zip(self.found, self.sizes, strict=True):
            stats = [(str(path.resolve()), path.stat().st_size, path.stat().st_mtime_ns) for path in each.paths]
            digest.update(repr((each.name, stats, sizes)).encode())
        return digest.hexdigest()

    def check(self) -> None:
        """Refuse what cannot be written.

        Raises:
            UserError: Sizes do not fit, or a name cannot be a key.
        """
        scale, grid = self.factors[0], self.sub_images
        if grid is not None and any(value % scale for value in (grid.side, grid.step, grid.threshold)):
            raise UserError(
                f"crop, step and threshold must be multiples of the scale {scale}, as the inputs are cut too"
            )
        for each, sizes in zip(self.found, self.sizes, strict=True):
            if self.downsample is not None:
                _check_least_side(each.paths[0], sizes[0], scale)
            elif not fits_cropped(sizes[0], sizes[-1], scale):
                told = " and ".join(f"{path} {w}x{h}" for path, (w, h) in zip(each.paths, sizes, strict=True))
                raise UserError(f"{told}: not a factor of {scale}; correct the scale or the folders")
        self._check_keys()

    def _check_keys(self) -> None:
        seen: dict[str, int] = {}
        for entry in self.entries:
            path = self.found[entry.image].paths[-1]
            if not can_name_file(entry.key) or not entry.key.isascii() or "." in entry.key:
                raise UserError(
                    f"{path}: '{entry.key}' cannot be a key; rename it to ASCII without dots, of 200 characters at most"
                )
            if entry.key in seen:
                raise UserError(f"{path} and {self.found[seen[entry.key]].paths[-1]}: both would be '{entry.key}'")
            seen[entry.key] = entry.image


def _check_least_side(path: Path, size: Size, scale: int) -> None:
    if min(size) // scale * scale < (least := least_side(scale)):
        raise UserError(f"{path}: too small; both sides need at least {least} pixels at scale {scale}; remove it")


@dataclass(frozen=True)
class _Side:
    """One LMDB on its way: written in `draft`, which becomes `target`."""

    plan: _Plan
    index: int
    target: Path

    @property
    def draft(self) -> Path:
        return draft_of(self.target)

    @property
    def plan_file(self) -> Path:
        return self.draft.with_name(f"{self.draft.name}.plan")

    def planned(self) -> str | None:
        """Return the digest of the plan that an interrupted run followed."""
        return self.plan_file.read_text(encoding="utf-8") if self.plan_file.is_file() else None

    def verify(self, workers: int) -> None:
        """Read everything back and write `meta_info.txt`. Entries that do not read back are taken out again.

        Raises:
            UserError: The keys are not those of the plan, or an entry has not its size or cannot be decoded.
        """
        folder, entries = self.draft if self.draft.is_dir() else self.target, self.plan.entries
        with self._read(folder) as env:
            results = in_order(partial(self._describe, env), entries, workers)
            lines = list(_progress(results, len(entries), "Verifying"))
        wrong = [entry.key for entry, line in zip(entries, lines, strict=True) if line is None]
        wrong += sorted(key.decode() for key in read_lmdb_keys(folder) - {entry.key.encode() for entry in entries})
        if wrong:
            if folder == self.draft:
                _delete(folder, wrong)
            raise UserError(f"{folder}: {first_names(wrong)} did not read back; the same command writes them again")
        write_atomic("".join(line for line in lines if line).encode(), folder / "meta_info.txt")

    @contextmanager
    def _read(self, folder: Path) -> Iterator[Any]:
        """Open a draft, of which nobody else knows, until it has been read; or what may be open elsewhere."""
        if folder == self.target:
            yield open_lmdb(folder)
            return
        with lmdb.open(str(folder), readonly=True, lock=False) as env:
            yield env

    def _describe(self, env: Any, entry: _Entry) -> str | None:
        """Return an entry's line of `meta_info.txt`, if it is as planned."""
        with env.begin() as transaction:
            value = transaction.get(entry.key.encode())
        try:
            pixels = decode_pixels(value or b"")
        except ValueError:
            return None
        height, width, channels = (*pixels.shape, 1)[:3]
        as_planned = (height, width) == entry.boxes[self.index][2:]
        return f"{entry.key}.png ({height},{width},{channels}) {self.plan.compress_level}\n" if as_planned else None


def _check_targets(targets: Sequence[Path]) -> None:
    for target in targets:
        if target.suffix != ".lmdb":
            raise UserError(f"{target}: BasicSR wants an LMDB's name to end with .lmdb; call it so")
        check_own(target)
    if len({target.resolve() for target in targets}) < len(targets):
        raise UserError(f"{targets[0]} is named for both ground truths and inputs; give each its own")


def _prepare(sides: Sequence[_Side], *, overwrite: bool) -> None:
    """Make the folders to write in, or find those of an interrupted run."""
    planned = [side.planned() for side in sides]
    for side, digest in zip(sides, planned, strict=True):
        if digest not in (None, side.plan.digest) and not overwrite:
            told = f"{side.draft} is of an interrupted run with other images or options"
            raise UserError(f"{told}; go on with those, or give --overwrite to start anew")
    begun = all(digest == side.plan.digest for side, digest in zip(sides, planned, strict=True))
    resumed = begun and all(side.draft.is_dir() or side.target.is_dir() for side in sides)
    for side in sides:
        published = resumed and not side.draft.is_dir()
        if side.target.exists() and not published and not overwrite:
            raise UserError(f"{side.target} is there already; give --overwrite to replace it, or choose another name")
    if not resumed:
        _start(sides)


def _start(sides: Sequence[_Side]) -> None:
    for side in sides:
        side.plan_file.unlink(missing_ok=True)
        remove_tree(side.draft)
    for side in sides:
        side.draft.mkdir(parents=True)
    for side in sides:  # last, so that a plan has its folder, and no folder is written to without all plans
        write_atomic(side.plan.digest.encode(), side.plan_file)


def _write(plan: _Plan, sides: Sequence[_Side], workers: int) -> None:
    """Write the entries that any of the LMDBs lacks."""
    if not sides:
        return
    with ExitStack() as stack:
        envs = [stack.enter_context(lmdb.open(str(side.draft), map_size=_FIRST_MAP_SIZE)) for side in sides]
        done = set.intersection(*map(_keys, envs))
        missing = [each for each in plan.entries if each.key.encode() not in done]
        images = [list(group) for _, group in groupby(missing, key=lambda each: each.image)]
        encoded = in_order(partial(_encode, plan), images, workers)
        for batch in _batch(_progress(encoded, len(plan.found), "Writing", initial=len(plan.found) - len(images))):
            for env, side in zip(envs, sides, strict=True):
                _put(env, [(key, values[side.index]) for key, values in batch])


def _delete(folder: Path, keys: Iterable[str]) -> None:
    with lmdb.open(str(folder)) as env, env.begin(write=True) as transaction:
        for key in keys:
            transaction.delete(key.encode())


def _keys(env: Any) -> set[bytes]:
    with env.begin() as transaction:
        return set(transaction.cursor().iternext(values=False))


def _put(env: Any, items: Sequence[tuple[str, bytes]]) -> None:
    while True:
        try:
            with env.begin(write=True) as transaction:
                for key, value in items:
                    transaction.put(key.encode(), value)
            return
        except lmdb.MapFullError:
            env.set_mapsize(2 * env.info()["map_size"])


def _batch(encoded: Iterable[list[tuple[str, list[bytes]]]]) -> Iterator[list[tuple[str, list[bytes]]]]:
    batch, size = [], 0
    for entries in encoded:
        batch += entries
        size += sum(len(value) for _, values in entries for value in values)
        if size >= _BATCH_BYTES:
            yield batch
            batch, size = [], 0
    yield batch


def _encode(plan: _Plan, entries: Sequence[_Entry]) -> list[tuple[str, list[bytes]]]:
    """Return the key and the file of each side, of entries of one image."""
    sides = _read_sides(plan, entries[0].image)
    suffix, options = (".bmp", []) if plan.raw else (".png", [cv2.IMWRITE_PNG_COMPRESSION, plan.compress_level])

    def encode(pixels: NDArray[Any], box: Box) -> bytes:
        top, left, height, width = box
        return cv2.imencode(suffix, pixels[top : top + height, left : left + width], options)[1].tobytes()

    return [(entry.key, [encode(*each) for each in zip(sides, entry.boxes, strict=True)]) for entry in entries]


def _read_sides(plan: _Plan, image: int) -> list[NDArray[Any]]:
    sides = [_read(*each) for each in zip(plan.found[image].paths, plan.sizes[image], strict=plan.downsample is None)]
    if plan.downsample is not None or plan.raw:
        sides = [to_uint8(to_float(pixels)) for pixels in sides]
    if plan.downsample is not None:
        truth, factor = sides[0], plan.factors[0]
        if truth.ndim == 2:
            truth = np.repeat(truth[..., None], 3, axis=2)
        height, width = (side // factor * factor for side in truth.shape[:2])
        sides = [truth, downsample_bicubic(to_float(truth[:height, :width]), factor, plan.downsample)]
    return sides


def _read(path: Path, size: Size) -> NDArray[Any]:
    try:
        pixels = decode_pixels(path.read_bytes())
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: {one_line(error)}") from error
    if pixels.shape[1::-1] != size:
        raise UserError(f"{path}: changed while it was read; run the command again")
    return pixels


def _times(box: Box, factor: int) -> Box:
    top, left, height, width = box
    return top * factor, left * factor, height * factor, width * factor


def _read_sizes(found: Sequence[Found], workers: int) -> list[tuple[Size, ...]]:
    def read(each: Found) -> tuple[Size, ...]:
        return tuple(read_size(path) for path in each.paths)

    try:
        return list(_progress(in_order(read, found, workers), len(found), "Reading sizes"))
    except ValueError as error:
        raise UserError(str(error)) from error


def _progress(results: Iterator[R], total: int, title: str, initial: int = 0) -> Iterator[R]:
    yield from tqdm(results, desc=title, total=total, initial=initial, unit="image", disable=None)
