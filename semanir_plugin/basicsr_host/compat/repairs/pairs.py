"""Repairs of how BasicSR pairs the files of two folders."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from basicsr.data import data_util

from semanir_plugin.basicsr_host.compat.repairs.table import Repair, modules_with

__all__ = ["REPAIRS", "match_inputs"]

Paths = list[dict[str, str]]


def match_inputs(truths: Iterable[str], inputs: Iterable[str], template: str) -> dict[str, str | None]:
    """Return the input of each ground truth, None where there is none, or several have its name.

    Args:
        truths: Names of files, perhaps below folders.
        inputs: Names of files.
        template: Stem of an input, `{}` being that of its ground truth; one of another suffix will do.
    """
    names, by_stem = set(inputs), dict[str, list[str]]()
    for name in names:
        by_stem.setdefault(Path(name).stem, []).append(name)

    def match(truth: Path) -> str | None:
        stem = template.format(truth.stem)
        same = by_stem.get(stem, [])
        return f"{stem}{truth.suffix}" if f"{stem}{truth.suffix}" in names else same[0] if len(same) == 1 else None

    return {truth: match(Path(truth)) for truth in truths}


def pair_folders(folders: Sequence[str], keys: Sequence[str], filename_tmpl: str) -> Paths:
    """`paired_paths_from_folder` wants both files of a pair to have one suffix: not `.png` and `.jpg`, or `.JPG`.

    Raises:
        ValueError: Images do not pair up.
    """
    inputs, truths = (list(data_util.scandir(folder)) for folder in folders)
    pairs = _pair(folders, keys, match_inputs(truths, inputs, filename_tmpl))
    if len(inputs) != len(truths):
        raise ValueError(f"{folders[0]} has {len(inputs)} images and {folders[1]} {len(truths)}")
    return pairs


def pair_listed(folders: Sequence[str], keys: Sequence[str], meta_info_file: str, filename_tmpl: str) -> Paths:
    """`paired_paths_from_meta_info_file` wants one suffix, too.

    Raises:
        ValueError: An image has no input.
    """
    lines = Path(meta_info_file).read_text(encoding="utf-8").splitlines()
    truths = [line.strip().split(" ")[0] for line in lines]
    return _pair(folders, keys, match_inputs(truths, data_util.scandir(folders[0]), filename_tmpl))


def _pair(folders: Sequence[str], keys: Sequence[str], matched: dict[str, str | None]) -> Paths:
    lonely = next((truth for truth, name in matched.items() if name is None), None)
    if lonely is not None:
        raise ValueError(f"{folders[0]} has no input for {lonely} of {folders[1]}, or several")
    return [
        {f"{keys[0]}_path": str(Path(folders[0], name or "")), f"{keys[1]}_path": str(Path(folders[1], truth))}
        for truth, name in matched.items()
    ]


REPAIRS: tuple[Repair, ...] = (
    *((module, "paired_paths_from_folder", pair_folders) for module in modules_with("paired_paths_from_folder")),
    *(
        (module, "paired_paths_from_meta_info_file", pair_listed)
        for module in modules_with("paired_paths_from_meta_info_file")
    ),
)
