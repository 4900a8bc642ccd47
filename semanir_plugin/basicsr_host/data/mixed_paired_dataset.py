"""Dataset of several sets of pairs, for networks that learn several restorations at once."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from basicsr.data.paired_image_dataset import PairedImageDataset

from semanir_plugin.basicsr_host.data.dataset_options import PatchOptions, Problem, check_range, read_options
from semanir_plugin.basicsr_host.data.gaussian_noise_dataset import GaussianNoiseDataset
from semanir_plugin.basicsr_host.data.joined_dataset import JoinedDataset
from semanir_plugin.registry import DATASETS

__all__ = ["MixedPairedDataset", "MixedPairedOptions", "Source", "source_options"]


@dataclass(frozen=True, kw_only=True)
class Source:
    """One entry of `sources`: pairs, or clean images to which noise is added.

    Attributes:
        dataroot_gt: As PairedImageDataset takes it, and so the next three.
        dataroot_lq: Folder or LMDB of the inputs.
        meta_info_file: Lists the ground truths to read.
        filename_tmpl: Name of an input, `{}` being that of its ground truth.
        sigma: Instead of `dataroot_lq`, as GaussianNoiseDataset takes it; noisy images are clipped and rounded to 8
            bit.
        weight: How often patches come from here, in proportion to the other weights.
    """

    dataroot_gt: str
    dataroot_lq: str | None = None
    meta_info_file: str | None = None
    filename_tmpl: str = "{}"
    sigma: float | Sequence[float] | None = None
    weight: float | None = None


@dataclass(frozen=True, kw_only=True)
class MixedPairedOptions(PatchOptions):
    """Options of `MixedPairedDataset`.

    Attributes:
        sources: A section for each, under a name of its own. Null leaves one out.
    """

    sources: Mapping[str, Mapping[str, Any] | None]

    def phase_problems(self, *, training: bool) -> Iterator[Problem]:
        """Yield the problems of the values."""
        sources = {name: source for name, source in self.sources.items() if source is not None}
        weights = [source.get("weight") for source in sources.values()]
        if not training:
            yield "type", "MixedPairedDataset is for training; to score, make each source a dataset of its own"
        if not weights:
            yield "sources", "sources is empty: add one"
        elif None in weights and any(weights):
            yield "sources", "give a weight to every source or to none"
        elif not all(weight is None or 0 < weight < math.inf for weight in weights):
            yield "sources", f"every weight must be above 0, not {weights}"
        for name, source in sources.items():
            sigma = source.get("sigma")
            if (source.get("dataroot_lq") is None) == (sigma is None):
                yield "sources", f"sources: {name}: give either dataroot_lq or, for noise, sigma"
            elif sigma is not None:
                for _, problem in check_range("sigma", sigma, least=0, most=255, training=True):
                    yield "sources", f"sources: {name}: {problem}"


_KINDS: dict[str, Any] = {"PairedImageDataset": PairedImageDataset, "GaussianNoiseDataset": GaussianNoiseDataset}


def source_options(opt: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Return the options of each source, with the type of its dataset."""
    common = {key: value for key, value in opt.items() if key != "sources"}
    return {
        name: {**common, **_kind(source), "io_backend": dict(opt["io_backend"]), **source}
        for name, source in opt["sources"].items()
        if source is not None
    }


def _kind(source: Mapping[str, Any]) -> dict[str, Any]:
    noisy = source.get("sigma") is not None
    return {"type": "GaussianNoiseDataset", "rounded": True} if noisy else {"type": "PairedImageDataset"}


@DATASETS.register
class MixedPairedDataset(JoinedDataset):
    """Pairs of several folders or LMDBs, or clean images that get noise, for training.

    Without weights every pair is read equally often. With weights an epoch is as long as it must be for each source to
    have its share and for every pair to occur; the pairs of one source occur equally often, give or take one.

    Args:
        opt: `MixedPairedOptions`; for all sources alike `gt_size`, `use_hflip`, `use_rot`, `scale` and `io_backend`, as
            PairedImageDataset takes them; `phase`.

    Raises:
        ValueError: A value of the options cannot be right.
    """

    OPTIONS = MixedPairedOptions
    SECTIONS: ClassVar[dict[str, type]] = {"sources": Source}

    def __init__(self, opt: Mapping[str, Any]) -> None:
        self.options = read_options(MixedPairedOptions, opt)
        # Looked up here and not only by PairedImageDataset, since an option file may have what a dataset looks up.
        patches = {"gt_size": opt["gt_size"], "use_hflip": opt["use_hflip"], "use_rot": opt["use_rot"]}
        sources = source_options(opt).values()
        sets = [_KINDS[each["type"]]({**each, **patches, "scale": opt["scale"]}) for each in sources]
        weights = [source.get("weight") for source in sources]
        counts = _count_samples([len(each) for each in sets], weights)
        samples = [
            (each, index % len(each)) for each, count in zip(sets, counts, strict=True) for index in range(count)
        ]
        super().__init__(opt, sets, samples)


def _count_samples(sizes: Sequence[int], weights: Sequence[float | None]) -> list[int]:
    """Return the number of samples per epoch from each source: all its pairs, and more by weight."""
    known = [weight for weight in weights if weight is not None]
    if not known:
        return list(sizes)
    rate = max(size / weight for size, weight in zip(sizes, known, strict=True))
    return [max(size, round(rate * weight)) for size, weight in zip(sizes, known, strict=True)]
