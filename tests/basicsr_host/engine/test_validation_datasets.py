"""The options of the plugin's own datasets in an option file."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from semanir_plugin.basicsr_host.engine.options import resolve_options
from semanir_plugin.basicsr_host.engine.validation import validate_options
from semanir_plugin.errors import UserError
from semanir_plugin.option_files import apply_overrides, load_options

TRAIN = """\
name: x
model_type: SemanIRModel
scale: 2
datasets:
  train:
    type: GaussianNoiseDataset
    dataroot_gt: GT
    gt_size: 64
    use_hflip: true
    use_rot: true
    batch_size_per_gpu: 4
    sigma: [0, 50]
network_g:
  type: SemanIR
  upscale: 2
train:
  optim_g: {type: Adam, lr: 1e-4}
  scheduler: {type: MultiStepLR, milestones: [5]}
  total_iter: 10
  pixel_opt: {type: L1Loss}
"""
PATCHES = {"gt_size": 64, "use_hflip": True, "use_rot": True, "batch_size_per_gpu": 4}
SNOW = {"dataroot_gt": "a", "dataroot_lq": "b"}


@pytest.fixture
def validate(tmp_path):
    (tmp_path / "x.yml").write_text(TRAIN)

    def validate(*entries):
        file = apply_overrides(load_options(tmp_path / "x.yml"), entries)
        validate_options(file, is_train=True)
        return file

    return validate


def dataset(kind, phase="train", **options):
    values = {"type": kind, **({"dataroot_gt": "GT"} if kind != "MixedPairedDataset" else {})}
    return f"datasets:{phase}={json.dumps({**values, **(PATCHES if phase == 'train' else {}), **options})}"


@pytest.mark.parametrize(
    "options",
    [
        {"kind": "GaussianNoiseDataset", "sigma": 25},
        {"kind": "GaussianNoiseDataset", "sigma": [0.5, 50], "num_channels": 1, "noise_seed": 3, "noise_order": "rgb"},
        {"kind": "GaussianNoiseDataset", "sigma": 15.0, "phase": "val"},
        {"kind": "JPEGDataset", "quality": 10, "phase": "val"},
        {"kind": "JPEGDataset", "quality": [10, 40], "num_channels": 1, "meta_info_file": "x", "io_backend": None},
        {"kind": "DemosaicDataset", "io_backend": {"type": "lmdb"}},
        {"kind": "BicubicSRDataset", "lq_cache": "~/cache"},
        {"kind": "BicubicSRDataset", "lq_cache": None, "phase": "val"},
        {"kind": "RealWorldDataset", "stages": {"first": {"prob": 0.5}, "last": {"jpeg_range": [30, 40]}}},
        {"kind": "RealWorldDataset", "stages": {"only": {"kernel_list": ["iso"], "kernel_prob": [1]}}, "phase": "val"},
        {"kind": "MixedPairedDataset", "sources": {"snow": SNOW, "rain": {**SNOW, "filename_tmpl": "{}x"}}},
        {"kind": "MixedPairedDataset", "sources": {"snow": {**SNOW, "weight": 2, "meta_info_file": "x"}, "rain": None}},
        {"kind": "MixedPairedDataset", "sources": {"snow": SNOW, "noise": {"dataroot_gt": "a", "sigma": [0, 50]}}},
        {"kind": "MixedDegradationDataset", "degradations": {"noise": {"sigma": [0, 50], "weight": 2}, "clean": {}}},
        {"kind": "MixedDegradationDataset", "degradations": {"jpeg": {"quality": [5, 9]}, "haze": None}, "seed": 3},
        {
            "kind": "MixedDegradationDataset",
            "degradations": {"haze": {"beta": 1, "airlight": [0.8, 1]}},
            "phase": "val",
        },
    ],
    ids=str,
)
def test_options_pass(validate, options):
    validate(dataset(**options))


@pytest.mark.parametrize("kind", ["GaussianNoiseDataset", "BicubicSRDataset", "MixedPairedDataset"])
def test_patches_may_grow(validate, kind):
    options = {"GaussianNoiseDataset": {"sigma": 25}, "MixedPairedDataset": {"sources": {"snow": SNOW}}}.get(kind, {})
    options |= {"gt_size": None, "batch_size_per_gpu": None}
    options |= {"gt_sizes": [32, 64], "batch_sizes_per_gpu": [4, 2], "iters": [6, 4]}
    validate(dataset(kind, **options))
    with pytest.raises(UserError, match="iters add up to 11"):
        validate(dataset(kind, **{**options, "iters": [6, 5]}))


WRONG = {
    dataset("GaussianNoiseDataset"): "train: missing 'sigma': add it",
    dataset("GaussianNoiseDataset", sigma="25"): "sigma must be a number or a list of numbers, not '25'",
    dataset("GaussianNoiseDataset", sigma=None): "train: missing 'sigma': add it",
    dataset("GaussianNoiseDataset", sigma=[5, 1]): "sigma must be one number or [low, high], not [5, 1]",
    dataset("GaussianNoiseDataset", sigma=300): "sigma must lie from 0 to 255, not 300",
    dataset("GaussianNoiseDataset", sigma=25, num_channels=2): "num_channels must be 1 or 3, not 2",
    dataset("GaussianNoiseDataset", sigma=25, noise_order="hsv"): "noise_order must be 'bgr' or 'rgb', not 'hsv'",
    dataset("GaussianNoiseDataset", sigma=25, noise_sed=1): "did you mean 'noise_seed'?",
    dataset("GaussianNoiseDataset", sigma=25, color="y"): "unknown key 'color' of GaussianNoiseDataset",
    dataset("GaussianNoiseDataset", sigma=25, mean=0): "unknown key 'mean' of GaussianNoiseDataset",
    dataset("GaussianNoiseDataset", sigma=25, dataroot_gt=None): "train: missing 'dataroot_gt': add it",
    dataset("GaussianNoiseDataset", sigma=25, use_rot=None): "train: missing 'use_rot': add it",
    dataset("GaussianNoiseDataset", "val", sigma=[0, 50]): "val: sigma must be one number where images are scored",
    dataset("JPEGDataset", quality=10.5): "quality must be a whole number or a list of whole numbers, not 10.5",
    dataset("JPEGDataset", quality=[0, 40]): "quality must lie from 1 to 100, not [0, 40]",
    dataset("JPEGDataset", "val", quality=[10, 40]): "val: quality must be one number where images are scored",
    dataset("DemosaicDataset", sigma=3): "unknown key 'sigma' of DemosaicDataset",
    dataset("DemosaicDataset", filename_tmpl="{}"): "unknown key 'filename_tmpl' of DemosaicDataset",
    dataset("BicubicSRDataset", lq_cache=3): "lq_cache must be a string, not 3",
    dataset("BicubicSRDataset", gt_size=63): "gt_size 63 is not a multiple of the scale 2",
    dataset("RealWorldDataset"): "train: missing 'stages': add it",
    dataset("RealWorldDataset", stages={}): "stages is empty: add one",
    dataset("RealWorldDataset", stages={"a": {"blur": 1}}): "unknown key 'blur' of RealWorldDataset",
    dataset("RealWorldDataset", stages={"a": {"prob": 2}}): "prob must be a number of at least 0 and at most 1, not 2",
    dataset("RealWorldDataset", stages={"a": {"jpeg_range": [9, 5]}}): "stages: a: jpeg_range must be [low, high]",
    dataset("RealWorldDataset", stages={"a": {}}, fonts=["x.ttf"]): "fonts: there is no file x.ttf",
    dataset("MixedPairedDataset"): "train: missing 'sources': add it",
    dataset("MixedPairedDataset", sources=None): "train: missing 'sources': add it",
    dataset("MixedPairedDataset", sources={}): "sources is empty: add one",
    dataset("MixedPairedDataset", sources=[SNOW]): "sources must be a section of its own",
    dataset("MixedPairedDataset", sources={"snow": "x"}): "train:sources: snow must be a section of its own, not 'x'",
    dataset("MixedPairedDataset", sources={"snow": {"dataroot_lq": "a"}}): "sources:snow: MixedPairedDataset needs",
    dataset("MixedPairedDataset", sources={"snow": {"dataroot_gt": "a"}}): "snow: give either dataroot_lq or",
    dataset("MixedPairedDataset", sources={"a": {**SNOW, "wieght": 1}}): "sources:a: unknown key 'wieght'",
    dataset("MixedPairedDataset", sources={"a": {**SNOW, "weight": "2"}}): "weight must be a number or ~, not '2'",
    dataset("MixedPairedDataset", sources={"a": {**SNOW, "weight": 1}, "b": SNOW}): "give a weight to every source",
    dataset("MixedPairedDataset", sources={"a": SNOW}, use_hflip=None): "missing 'use_hflip': add it",
    dataset("MixedPairedDataset", "val", sources={"a": SNOW}): "val: MixedPairedDataset is for training",
    dataset("MixedDegradationDataset"): "train: missing 'degradations': add it",
    dataset("MixedDegradationDataset", degradations={"fog": {}}): "degradations: unknown key 'fog'",
    dataset("MixedDegradationDataset", degradations={"rain": 3}): "degradations: rain must be a section of its own",
    dataset("MixedDegradationDataset", degradations={"rain": {}}): "rain: MixedDegradationDataset needs 'amount'",
    dataset("MixedDegradationDataset", degradations={"haze": {"beta": "1"}}): "beta must be a number or a list of",
    dataset("MixedDegradationDataset", degradations={"jpeg": {"quality": 1, "sigma": 1}}): "unknown key 'sigma'",
    dataset("MixedDegradationDataset", degradations={"clean": {"weight": 0}}): "weight must be a number above 0",
    dataset("MixedDegradationDataset", degradations={"noise": {"sigma": 300}}): "noise: sigma must lie from 0 to 255",
    dataset("MixedDegradationDataset", "val", degradations={"noise": {"sigma": [1, 2]}}): "one number where images",
    dataset("MixedDegradationDataset", "val", degradations={"clean": {}, "jpeg": {"quality": 5}}): "give one degrada",
}


@pytest.mark.parametrize(("entry", "told"), WRONG.items(), ids=WRONG.values())
def test_what_cannot_be_right(validate, entry, told):
    with pytest.raises(UserError) as error:
        validate(entry)
    assert told in str(error.value)
    assert "\n" not in str(error.value)


def test_a_wrong_value_is_told_with_its_line(tmp_path, validate):
    (tmp_path / "x.yml").write_text(TRAIN.replace("[0, 50]", "[0, 500]"))
    line = 1 + TRAIN[: TRAIN.index("sigma")].count("\n")
    with pytest.raises(UserError, match=rf"x\.yml:{line}: datasets:train: sigma must lie from 0 to 255"):
        validate()


@pytest.mark.parametrize("kind", ["BicubicSRDataset", "MixedPairedDataset"])
def test_a_scale_is_needed(validate, kind):
    options = {"sources": {"a": SNOW}} if kind == "MixedPairedDataset" else {}
    with pytest.raises(UserError, match=f"missing 'scale': {kind} needs it"):
        validate(dataset(kind, **options), "scale=~", "network_g:upscale=2")


def test_home_is_found_in_every_folder(validate, tmp_path):
    sources = {"snow": {"dataroot_gt": "~/gt", "dataroot_lq": "~/lq", "meta_info_file": "~/m.txt"}}
    entries = dataset("MixedPairedDataset", sources=sources), dataset("BicubicSRDataset", "val", lq_cache="~/cache")
    opt = resolve_options(validate(*entries, "val={val_freq: 5}"), is_train=True, root=tmp_path)
    home = str(Path.home())
    snow = opt["datasets"]["train"]["sources"]["snow"]
    assert snow == {"dataroot_gt": f"{home}/gt", "dataroot_lq": f"{home}/lq", "meta_info_file": f"{home}/m.txt"}
    assert opt["datasets"]["val"]["lq_cache"] == f"{home}/cache"
