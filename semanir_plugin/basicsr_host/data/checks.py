"""Check image folders and LMDBs before any work, so that errors do not wait for some later iteration.

Only folder listings, the first and last bytes of images, and of LMDBs `meta_info.txt` and the first bytes of images are
read, so that tens of thousands of images take seconds.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from basicsr.data.paired_image_dataset import PairedImageDataset
from basicsr.data.single_image_dataset import SingleImageDataset
from basicsr.utils.registry import DATASET_REGISTRY
from PIL import Image, UnidentifiedImageError

from semanir_plugin.basicsr_host.compat.repairs.image_files import END_OF_IMAGE
from semanir_plugin.basicsr_host.compat.repairs.pairs import match_inputs
from semanir_plugin.basicsr_host.data.clean_image_dataset import CleanImageDataset
from semanir_plugin.basicsr_host.data.joined_dataset import split_roots
from semanir_plugin.basicsr_host.data.lmdb_listing import read_lmdb_sizes
from semanir_plugin.basicsr_host.data.meta_info import ListedImage, Size, read_meta_info
from semanir_plugin.basicsr_host.data.mixed_paired_dataset import MixedPairedDataset, source_options
from semanir_plugin.basicsr_host.scoring import Scorer
from semanir_plugin.errors import UserError, first_names
from semanir_plugin.foreign_files import HEAD, foreign_kind
from semanir_plugin.inference.image_limits import large_metadata
from semanir_plugin.inference.orientation import upright_size
from semanir_plugin.inference.tiff_tags import read_tiff_tags
from semanir_plugin.path_safety import check_ordinary

__all__ = ["IMAGE_SUFFIXES", "check_datasets", "fits_cropped", "read_size"]

Keys = tuple[str, ...]

# What BasicSR's decoder, OpenCV, reads.
IMAGE_SUFFIXES = {
    *(".bmp", ".dib", ".jfif", ".jp2", ".jpe", ".jpeg", ".jpg", ".pbm", ".pgm", ".png", ".pnm", ".ppm"),
    *(".tif", ".tiff", ".webp"),
}
_HEAD = max(map(len, END_OF_IMAGE))
_TAIL = 64 << 10  # where an image ends, but for what some cameras append
_THREADS = 16


def check_datasets(
    opt: Mapping[str, Any], where: Callable[[Keys], str] | None = None, *, resuming: bool = False
) -> None:
    """Check the data that paired, single and clean image datasets name; of others, that their folders exist.

    Args:
        opt: Resolved options.
        where: Gives the place of a key path in the option file, with which a message then starts.
        resuming: Whether a training goes on, which leaves out training images that have become unreadable.

    Raises:
        UserError: A folder, LMDB or image is missing or cannot be read, images do not pair up, or sizes do not fit.
    """
    scorer = Scorer.from_options(opt)
    for phase, dataset_opt in opt["datasets"].items():
        for section, part in _split(dataset_opt):
            lenient = resuming and phase == "train" and (opt.get("train") or {}).get("max_unreadable") != 0
            _DatasetCheck(("datasets", phase, *section), part, where or (lambda _: ""), scorer, lenient).run()


def _split(dataset_opt: Mapping[str, Any]) -> Iterator[tuple[Keys, Mapping[str, Any]]]:
    """Yield the options of each dataset that a dataset is made of, and the sub-section that gives them."""
    if issubclass(DATASET_REGISTRY.get(dataset_opt["type"]), MixedPairedDataset):
        yield from ((("sources", name), part) for name, part in source_options(dataset_opt).items())
    else:
        yield from (((), part) for part in split_roots(dataset_opt))


@dataclass(frozen=True)
class _DatasetCheck:
    """The checks of one dataset; `where` places the messages, `scorer` scores it where it is not for training.

    Where they are `lenient`, images that cannot be read pass.
    """

    section: Keys
    opt: Mapping[str, Any]
    where: Callable[[Keys], str]
    scorer: Scorer
    lenient: bool = False

    def error(self, key: str, message: str) -> UserError:
        keys = (*self.section, key)
        return UserError(": ".join(filter(None, [self.where(keys), ":".join(keys), message])))

    def run(self) -> None:
        roots = [key for key, value in self.opt.items() if key.startswith("dataroot") and isinstance(value, str)]
        for key in roots:
            if not Path(self.opt[key]).is_dir():
                raise self.error(key, self.tell_missing(key))
        if issubclass(self.dataset, PairedImageDataset | SingleImageDataset | CleanImageDataset):
            lmdbs = {key: self.read_lmdb_sizes(key) for key in roots if self.in_lmdb}
            names = {key: list(lmdbs[key]) if self.in_lmdb else self.list_images(key) for key in roots}
            paired = len(names) == 2
            sizes = lmdbs or {self.first: self.read_sizes(self.first, names[self.first])}
            self.check_listed(sizes[self.first])
            pairs = self.pair(names["dataroot_gt"], names["dataroot_lq"]) if paired else []
            if paired and not self.in_lmdb:
                sizes["dataroot_lq"] = self.read_sizes("dataroot_lq", [lq for _, lq in pairs])
            for gt, lq in pairs:
                if self.lenient and not (gt in sizes["dataroot_gt"] and lq in sizes["dataroot_lq"]):
                    continue
                self.check_sizes((gt, sizes["dataroot_gt"][gt]), (lq, sizes["dataroot_lq"][lq]))
            for name, size in sizes.get("dataroot_gt", {}).items():
                self.check_side(name, size)
            if not self.training:
                self.check_scored(pairs, sizes)

    @property
    def dataset(self) -> Any:
        return DATASET_REGISTRY.get(self.opt["type"])

    @property
    def training(self) -> bool:
        return self.section[1] == "train"

    @property
    def in_lmdb(self) -> bool:
        result: bool = self.opt["io_backend"]["type"] == "lmdb"
        return result

    def tell_missing(self, key: str) -> str:
        """Say that a folder is not there; of an LMDB also how to make it, or do without."""
        root = Path(self.opt[key])
        if root.suffix != ".lmdb":
            return f"no such folder: {_locate(root)}"
        missing, folder = f"no such LMDB: {_locate(root)}", root.with_suffix("")
        if folder.is_dir():
            return f"{missing}; to read {folder}, leave out .lmdb and set io_backend to {{type: disk}}"
        cut = ", of large photographs with --crop 480 too" if self.training else ""
        return f"{missing}; make it{cut}: {self.lmdb_command(key)}"

    def lmdb_command(self, key: str) -> str:
        """Return the command that makes an LMDB of folders of images, of pairs those of both sides."""
        gt, lq, scale = self.opt.get("dataroot_gt"), self.opt.get("dataroot_lq"), self.opt.get("scale", 1)
        if not (gt and lq):
            return f"basicsr prepare lmdb -i IMAGES -o {self.opt[key]}"
        folder = Path(gt).parent
        if (Path(gt), Path(lq)) == (folder / "GT.lmdb", folder / f"LR_bicubic_X{scale}.lmdb"):
            return f"basicsr prepare sr IMAGES {folder} --scale {scale} --lmdb"
        return f"basicsr prepare lmdb -i GT_IMAGES LQ_IMAGES -o {gt} {lq}" + (f" --scale {scale}" if scale > 1 else "")

    def list_images(self, key: str) -> list[str]:
        """Return the names that BasicSR will read: paths below the folder."""
        root = Path(self.opt[key])
        if key == self.first and self.listed is not None:
            if not self.listed:
                raise self.error("meta_info_file", f"{self.opt['meta_info_file']} lists no images; make it again")
            names = [each.name for each in self.listed]
            self.check_there(root)
        else:
            names = sorted(path.name for path in root.iterdir() if path.is_file() and not path.name.startswith("."))
            stray = [name for name in names if Path(name).suffix.lower() not in IMAGE_SUFFIXES]
            if stray and root.suffix == ".lmdb":
                raise self.error(key, f"{root} is an LMDB; set io_backend to {{type: lmdb}}")
            if stray:
                raise self.error(key, f"{first_names(stray)} in {root}: not an image, but would be read; move it away")
        if not names:
            raise self.error(key, f"no images in {_locate(root)}; sub-folders are not searched")
        return names

    @property
    def first(self) -> str:
        """The folder that `meta_info_file` lists: of two, that of the ground truths."""
        return "dataroot_gt" if isinstance(self.opt.get("dataroot_gt"), str) else "dataroot_lq"

    @cached_property
    def listed(self) -> list[ListedImage] | None:
        """What `meta_info_file` lists; None where there is none."""
        if not self.opt.get("meta_info_file"):
            return None
        path = Path(self.opt["meta_info_file"])
        if not path.is_file():
            raise self.error("meta_info_file", f"no such file: {_locate(path)}")
        try:
            return read_meta_info(path)
        except ValueError as error:
            raise self.error("meta_info_file", str(error)) from error

    def check_there(self, root: Path) -> None:
        for each in () if self.lenient else self.listed or ():
            if not (root / each.name).is_file():
                raise self.error("meta_info_file", f"{each.place}: no '{each.name}' in {_locate(root)}; correct it")

    def check_listed(self, sizes: Mapping[str, Size]) -> None:
        """Refuse sizes in `meta_info_file` that images do not have."""
        for each in (self.listed or []) if not self.in_lmdb else []:
            size = sizes.get(each.name)
            if each.size and size and each.size != size:
                told = f"{each.place} says {_format(each.size)}, but {each.name} is {_format(size)}; correct it"
                raise self.error("meta_info_file", told)

    def read_lmdb_sizes(self, key: str) -> dict[str, Size]:
        """Return the sizes by LMDB key, after checking that each image is there and has its size."""
        root = Path(self.opt[key])
        if root.suffix != ".lmdb":
            raise self.error(key, f"{root} does not end with .lmdb; name an LMDB, or set io_backend to {{type: disk}}")
        for name in ("meta_info.txt", "data.mdb"):
            if not (root / name).is_file():
                raise self.error(key, f"{root} has no {name}, so it is not a complete LMDB of BasicSR's; make it again")
        try:
            return read_lmdb_sizes(root, lenient=self.lenient)
        except ValueError as error:
            raise self.error(key, str(error)) from error

    def pair(self, gt: Iterable[str], lq: Iterable[str]) -> list[tuple[str, str]]:
        gt, found = list(gt), set(lq)
        template = "{}" if self.in_lmdb else self.opt.get("filename_tmpl", "{}")
        matched = match_inputs(gt, found, template).items()
        pairs = [(name, partner or template.format(Path(name).stem) + Path(name).suffix) for name, partner in matched]
        hint = "" if self.in_lmdb else f"; correct filename_tmpl '{self.opt.get('filename_tmpl', '{}')}' or the folders"
        lonely = [f"{partner} for {name}" for name, partner in pairs if partner not in found]
        if lonely:
            raise self.error(
                "dataroot_lq", f"GT without LQ: no {first_names(lonely)} in {self.opt['dataroot_lq']}{hint}"
            )
        lonely = sorted(found - {partner for _, partner in pairs})
        if lonely and not self.opt.get("meta_info_file"):
            raise self.error("dataroot_gt", f"LQ without GT: none for {first_names(lonely)}{hint}")
        return pairs

    def read_sizes(self, key: str, names: Iterable[str]) -> dict[str, Size]:
        root = Path(self.opt[key])
        with ThreadPoolExecutor(_THREADS) as pool:
            results = dict(zip(names, pool.map(lambda name: _try_to_read_size(root / name), names), strict=True))
        for result in results.values():
            if isinstance(result, ValueError) and not self.lenient:
                raise self.error(key, str(result)) from result
        return {name: result for name, result in results.items() if not isinstance(result, ValueError)}

    def check_sizes(self, gt: tuple[str, Size], lq: tuple[str, Size]) -> None:
        (gt_name, gt_size), (lq_name, lq_size), scale = gt, lq, self.opt["scale"]
        fit = _fits_exactly if self.training else fits_cropped
        if not fit(gt_size, lq_size, scale):
            sizes = f"GT {gt_name} is {_format(gt_size)}, LQ {lq_name} is {_format(lq_size)}"
            raise self.error("dataroot_lq", f"{sizes}: not a factor of {scale}; correct the scale or the folders")

    def check_side(self, gt_name: str, gt_size: Size) -> None:
        least = self.dataset.least_side(self.opt) if issubclass(self.dataset, CleanImageDataset) else 1
        if min(gt_size) < least:
            message = f"GT {gt_name}, {_format(gt_size)}, is too small: both sides need {least} pixels; take it out"
            raise self.error("dataroot_gt", message)
        if self.training and min(gt_size) < (self.opt.get("gt_size") or 0):
            message = f"{self.opt['gt_size']} is more than GT {gt_name}, {_format(gt_size)}, has; use smaller patches"
            raise self.error("gt_sizes" if "gt_sizes" in self.opt else "gt_size", message)

    def check_scored(self, pairs: Iterable[tuple[str, str]], sizes: Mapping[str, Mapping[str, Size]]) -> None:
        """Refuse images of sizes that cannot be scored: of a pair what BasicSR crops the ground truth to."""
        scale = self.opt.get("scale", 1)
        enlarged = {name: (w * scale, h * scale) for name, (w, h) in sizes.get("dataroot_lq", {}).items()}
        if "dataroot_gt" not in sizes:
            scored = {("dataroot_lq", f"the result of {name}"): size for name, size in enlarged.items()}
        elif pairs:
            scored = {("dataroot_gt", f"GT {gt}"): enlarged[lq] for gt, lq in pairs}
        else:
            truths = sizes["dataroot_gt"].items()
            scored = {("dataroot_gt", f"GT {name}"): self.dataset.truth_size(self.opt, size) for name, size in truths}
        for (key, name), size in scored.items():
            if problem := self.scorer.problem_of_size(*size):
                raise self.error(key, f"{name}, {_format(size)}, {problem}")


def read_size(path: Path) -> Size:
    """Read the size of an image from its header, as it is when upright.

    Raises:
        ValueError: It cannot be read, or is a PNG or JPEG without its end.
    """
    try:
        check_ordinary(path)
        with large_metadata(), Image.open(path) as image:
            if not _has_end(path):
                raise ValueError(f"truncated {image.format}")
            return upright_size(image)
    except UserError as error:
        raise ValueError(str(error)) from error
    except Exception as error:  # Pillow's parsers raise many kinds on damaged headers
        if isinstance(error, UnidentifiedImageError) and (told := foreign_kind(_head_of(path))):
            raise ValueError(f"{path} cannot be read: it {told}") from error
        reason = _tell_unidentified(path) if isinstance(error, UnidentifiedImageError) else error
        raise ValueError(f"{path} cannot be read: {getattr(error, 'strerror', None) or reason}; replace it") from error


def _head_of(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(HEAD)


def _tell_unidentified(path: Path) -> str:
    tags = read_tiff_tags(path.read_bytes())
    return "a TIFF of a kind that only `basicsr restore` reads" if tags else "not an image, or a damaged one"


def _try_to_read_size(path: Path) -> Size | ValueError:
    try:
        return read_size(path)
    except ValueError as error:
        return error


def _has_end(path: Path) -> bool:
    with path.open("rb") as file:
        head = file.read(_HEAD)
        end = next((end for start, end in END_OF_IMAGE.items() if head.startswith(start)), b"")
        file.seek(-min(_TAIL, path.stat().st_size), os.SEEK_END)
        return end in file.read() or end in path.read_bytes()


def _fits_exactly(gt: Size, lq: Size, scale: int) -> bool:
    return gt == (lq[0] * scale, lq[1] * scale)


def fits_cropped(gt: Size, lq: Size, scale: int) -> bool:
    """Return whether the GT, which BasicSR crops in validation, exceeds `scale` times the LQ by a margin only."""
    margins = [g - x * scale for g, x in zip(gt, lq, strict=True)]
    return min(margins) >= 0 and any(round(g / x) == scale for g, x in zip(gt, lq, strict=True))


def _locate(path: str | Path) -> str:
    return str(path) if Path(path).is_absolute() else f"{path}, which is {Path(path).absolute()}"


def _format(size: Size) -> str:
    return f"{size[0]}x{size[1]}"
