"""Names of the images that validation and testing save, checked before any work: every image is a file of its own."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from semanir_plugin.basicsr_host.models.shared_validation import SharedValidation, result_path
from semanir_plugin.errors import UserError
from semanir_plugin.path_safety import check_fits

__all__ = ["check_result_names"]


def check_result_names(opt: Mapping[str, Any], model: Any, datasets: Iterable[Any]) -> None:
    """Refuse images that would be saved under one name, or too long a name, where `val.save_img` asks for them.

    BasicSR names a result by its input, without folder and suffix; in training, whatever the set.

    Args:
        opt: Resolved options.
        model: The model that saves them.
        datasets: Sets to score; those that do not list one input per sample are left alone.

    Raises:
        UserError: Two images of a set, or of two sets, would be one file, or one would have too long a name.
    """
    if not (opt.get("val") or {}).get("save_img"):
        return
    by_set = not opt["is_train"] or isinstance(model, SharedValidation)
    taken: dict[tuple[str, str], tuple[str, str]] = {}
    for dataset in datasets:
        name = dataset.opt["name"]
        for path in dataset.inputs():
            key = (name if by_set else "", Path(path).stem)
            _check_length(opt, name if by_set else "", path)
            other = taken.setdefault(key, (name, path))
            if other != (name, path):
                raise UserError(_describe(other, (name, path)))


def _check_length(opt: Mapping[str, Any], name: str, path: str) -> None:
    """Refuse an image whose result would have too long a name: with the iteration in training, else with the suffix."""
    last = opt["train"]["total_iter"] if opt["is_train"] else ""
    result = result_path(opt, name, Path(path).stem, last).name
    folder = Path(opt["path"]["visualization"])
    check_fits(
        folder, "choose another path.experiments_root" if opt["is_train"] else "choose another path.results_root"
    )
    check_fits(folder / result, f"rename {path}, or set val.save_img: false")


def _describe(first: tuple[str, str], second: tuple[str, str]) -> str:
    images = " and ".join(f"{path} of '{name}'" for name, path in (first, second))
    cure = "rename one" if first[0] == second[0] else "take model_type: SemanIRModel, which tells sets apart"
    return f"val.save_img: the results of {images} would be one file: {cure}, or set val.save_img: false"
