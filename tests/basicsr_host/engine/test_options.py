from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch
import yaml

from semanir_plugin.basicsr_host.engine import options
from semanir_plugin.basicsr_host.engine.options import adaptations, resolve_options
from semanir_plugin.errors import UserError
from semanir_plugin.option_files import OptionFile, apply_overrides, load_options

RECIPE = """\
name: run
model_type: SRModel
scale: 4
num_gpu: auto
datasets:
  train:
    type: PairedImageDataset
    dataroot_gt: ~/gt
    batch_size_per_gpu: 2
  val_1: {type: SingleImageDataset}
network_g:
  type: SwinIR
  depths: [6, 6]
train:
  total_iter: !!float 5e2
val:
  val_freq: !!float 5e3
"""


@pytest.fixture
def write(tmp_path):
    def write(text: str | bytes) -> Path:
        path = tmp_path / "x.yml"
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return path

    return write


@pytest.fixture
def recipe(write) -> OptionFile:
    return load_options(write(RECIPE))


def value(write, text: str):
    return load_options(write(f"key: {text}")).data["key"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("!!float 2e-4", 2e-4),
        ("1e-4", 1e-4),
        ("-1e-4", -1e-4),
        ("1e5", 1e5),
        ("1.5E+3", 1500.0),
        (".5e1", 5.0),
        ("-1", -1),
        ("0.5", 0.5),
        ("true", True),
        ("~", None),
        ("'1e-4'", "1e-4"),
        ("e5", "e5"),
        ("1e-4x", "1e-4x"),
        ("[1, 2e0]", [1, 2.0]),
    ],
)
def test_scalars_follow_yaml_1_2(write, text, expected):
    result = value(write, text)
    assert result == expected
    assert type(result) is type(expected)


def test_the_global_safe_loader_is_left_alone(recipe):
    assert yaml.safe_load("1e-4") == "1e-4"


@pytest.mark.parametrize(
    ("text", "line", "message"),
    [
        ("a: 1\nb: [1,\nc: 2\n", 4, "expected ',' or ']'"),
        ("a:\n  b: 1\n  b: 2\n", 3, "duplicate key 'b'"),
        ("a: 1\nb: !!python/object/apply:os.system ['true']\n", 2, "is not plain data"),
        ("a: 1\nb: !!float fast\n", 2, "'fast' is not a valid float"),
        ("a: 1\n1: 2\n", 2, "the key '1' is not a string"),
        ("a: 1\n? [x]\n: 2\n", 2, "is not a string"),
        ("a: 1\nb: 2\0\n", 2, "special characters"),
        ("a: 1\n---\nb: 1\n", 2, "another document"),
        ("- a\n", 1, "must be a mapping"),
        ("", 1, "must be a mapping"),
        ("a: &a [*a]\n", 1, "alias that contains itself"),
        ("a: " + "[" * 5000, 1, "nested too deeply"),
    ],
)
def test_a_broken_file_is_one_line_with_file_and_line(write, text, line, message):
    path = write(text)
    with pytest.raises(UserError) as error:
        load_options(path)
    assert str(error.value).startswith(f"{path}:{line}: ")
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_an_alias_bomb_is_refused(write):
    levels = [f"l{i}: &l{i} [{', '.join([f'*l{i - 1}'] * 10)}]" for i in range(1, 7)]
    with pytest.raises(UserError, match="once the aliases are expanded"):
        load_options(write("\n".join(["l0: &l0 x", *levels])))


def test_unreadable_files(write, tmp_path):
    with pytest.raises(UserError, match=r"absent\.yml: cannot read the option file: No such file"):
        load_options(tmp_path / "absent.yml")
    with pytest.raises(UserError, match="Is a directory"):
        load_options(tmp_path)
    with pytest.raises(UserError, match="not text in UTF-8"):
        load_options(write(b"\x89PNG\r\n\xff\xd8"))


def test_aliases_and_merges_give_independent_sections(write):
    data = load_options(write("a: &a {x: [1], y: 2}\nb: *a\nc: {<<: *a, y: 3}\n")).data
    data["b"]["x"].append(2)
    assert data == {"a": {"x": [1], "y": 2}, "b": {"x": [1, 2], "y": 2}, "c": {"x": [1], "y": 3}}


def test_where_names_the_line_or_the_nearest_section(recipe):
    assert recipe.where(("network_g", "depths")) == f"{recipe.path}:13"
    assert recipe.where(("network_g", "absent")) == f"{recipe.path}:11"
    assert recipe.where(("absent",)) == str(recipe.path)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2e-4", 2e-4),
        ("!!float 2", 2.0),
        ("-1", -1),
        ("[1, 2]", [1, 2]),
        ("None", None),
        ("~", None),
        ("false", False),
        ("a=b=c", "a=b=c"),
        ("'none'", None),
        ("__import__('os').abort()", "__import__('os').abort()"),
        ("{type: AdamW}", {"type": "AdamW"}),
    ],
)
def test_overrides_keep_types_and_are_never_executed(recipe, text, expected):
    result = apply_overrides(recipe, [f"train:x={text}"]).data["train"]["x"]
    assert result == expected
    assert type(result) is type(expected)


def test_overrides_set_existing_and_new_keys_and_leave_the_original(recipe):
    forced = apply_overrides(recipe, ["network_g:depths=[2]", "path:new:deep=1", "network_g={type: EDSR}", "scale = 2"])
    assert forced.data["network_g"] == {"type": "EDSR"}
    assert forced.data["path"] == {"new": {"deep": 1}}
    assert forced.data["scale"] == 2
    assert forced.where(("path", "new", "deep")) == "--force_yml"
    assert forced.where(("network_g", "type")) == "--force_yml"  # its line in the file no longer holds
    assert forced.where(("train",)) == recipe.where(("train",))
    assert recipe.data["network_g"]["depths"] == [6, 6]


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ("train", "write section:key=value"),
        ("=3", "write section:key=value"),
        ("a::b=3", "write section:key=value"),
        ("name:x=1", "'name' is a value, not a section"),
        ("network_g:depths:0=1", "'depths' is a value, not a section"),
        ("train:x=[1", "expected ',' or ']'"),
        ("train:x=!!python/name:os.abort", "is not plain data"),
    ],
)
def test_a_wrong_override_names_itself(recipe, entry, message):
    with pytest.raises(UserError) as error:
        apply_overrides(recipe, [entry])
    assert str(error.value).startswith(f"--force_yml {entry}: ")
    assert message in str(error.value)


def test_resolving_fills_what_the_host_requires(recipe, tmp_path):
    opt = resolve_options(recipe, is_train=True, root=tmp_path)
    train, val = opt["datasets"]["train"], opt["datasets"]["val_1"]
    assert (train["phase"], val["phase"], train["scale"], val["name"]) == ("train", "val", 4, "val_1")
    assert train["dataroot_gt"] == os.path.expanduser("~/gt")
    assert val["io_backend"] == {"type": "disk"}
    assert opt["val"] == {"val_freq": 5000, "save_img": False, "suffix": None, "pbar": False}
    assert opt["logger"] == {
        "print_freq": 100,
        "save_checkpoint_freq": 5000,
        "use_tb_logger": False,
        "safetensors": False,
    }
    assert type(opt["train"]["total_iter"]) is int
    assert (opt["is_train"], opt["dist"], opt["rank"], opt["world_size"]) == (True, False, 0, 1)
    assert opt["num_gpu"] == torch.cuda.device_count()
    assert 1 <= opt["manual_seed"] <= 10000
    assert "phase" not in recipe.data["datasets"]["train"]


COUNTS = {
    "scale": 4,
    "manual_seed": 3,
    "datasets:train:batch_size_per_gpu": 2,
    "datasets:train:num_worker_per_gpu": 0,
    "datasets:train:num_prefetch_queue": 2,
    "datasets:train:gt_size": 64,
    "train:total_iter": 500,
    "train:warmup_iter": -1,
    "train:accumulation_steps": 2,
    "val:val_freq": 10,
    "val:topk": 64,
    "logger:print_freq": 10,
    "logger:save_checkpoint_freq": 10,
}


@pytest.mark.parametrize(("keys", "count"), COUNTS.items())
def test_counts_written_as_floats_become_ints(recipe, tmp_path, keys, count):
    resolved = resolve_options(
        apply_overrides(recipe, ["model_type=SemanIRModel", f"{keys}={count}.0"]), is_train=True, root=tmp_path
    )
    for key in keys.split(":"):
        resolved = resolved[key]
    assert resolved == count
    assert type(resolved) is int


def test_lists_of_counts_become_ints_and_the_largest_patch_stands_for_all(recipe, tmp_path):
    lists = {"gt_sizes": [64, 128, 96], "batch_sizes_per_gpu": [8, 4, 2], "iters": [200, 200, 100]}
    entries = [f"datasets:train:{key}={[float(each) for each in value]}" for key, value in lists.items()]
    entries += ["datasets:train:gt_size=~", "val:topk=[64.0, 128]", "model_type=SemanIRModel"]
    opt = resolve_options(apply_overrides(recipe, entries), is_train=True, root=tmp_path)
    train = opt["datasets"]["train"]
    assert {key: train[key] for key in lists} == lists
    assert train["gt_size"] == 128
    assert opt["val"]["topk"] == [64, 128]
    assert {type(each) for key in lists for each in train[key]} == {type(each) for each in opt["val"]["topk"]} == {int}


def test_a_null_number_counts_as_absent(recipe, tmp_path):
    nulls = ["train:accumulation_steps", "train:warmup_iter", "train:ema_decay", "logger:print_freq"]
    forced = apply_overrides(recipe, ["model_type=SemanIRModel", *(f"{key}=~" for key in nulls)])
    opt = resolve_options(forced, is_train=True, root=tmp_path)
    assert (opt["train"]["accumulation_steps"], opt["train"]["warmup_iter"], opt["train"]["ema_decay"]) == (1, -1, 0)
    assert opt["logger"]["print_freq"] == 100


def test_runs_go_under_the_root(recipe, tmp_path):
    run = tmp_path / "experiments" / "run"
    assert resolve_options(recipe, is_train=True, root=tmp_path)["path"] == {
        "experiments_root": str(run),
        "log": str(run),
        "models": str(run / "models"),
        "training_states": str(run / "training_states"),
        "visualization": str(run / "visualization"),
        "tb_logger": str(tmp_path / "tb_logger" / "run"),
    }
    results = tmp_path / "results" / "run"
    assert resolve_options(recipe, is_train=False, root=tmp_path)["path"] == {
        "results_root": str(results),
        "log": str(results),
        "visualization": str(results / "visualization"),
    }


def test_runs_go_where_the_file_says(recipe, tmp_path):
    forced = apply_overrides(recipe, ["path:experiments_root=~/runs", f"path:results_root={tmp_path}/out"])
    path = resolve_options(forced, is_train=True, root=tmp_path)["path"]
    assert path["models"] == os.path.expanduser("~/runs/run/models")
    assert path["tb_logger"] == os.path.expanduser("~/runs/tb_logger/run")
    path = resolve_options(forced, is_train=False, root=tmp_path)["path"]
    assert path["results_root"] == f"{tmp_path}/out/run"


def test_debug_prefixes_the_name_and_shortens_the_cycle(recipe, tmp_path):
    opt = resolve_options(recipe, is_train=True, root=tmp_path, debug=True)
    assert opt["name"] == "debug_run"
    assert opt["path"]["models"].endswith("debug_run/models")
    assert (opt["val"]["val_freq"], opt["logger"]["print_freq"], opt["logger"]["save_checkpoint_freq"]) == (8, 1, 8)


@pytest.mark.parametrize(
    ("asked", "there", "used", "told"),
    [
        (8, 0, 0, "--force_yml: num_gpu: GPUs asked for: 8, none found; the CPU is used; batches are of 3, not 24, as "
         "batch_size_per_gpu stays 3"),
        (1, 0, 0, "--force_yml: num_gpu: GPUs asked for: 1, none found; the CPU is used"),
        (4, 2, 2, "--force_yml: num_gpu: GPUs asked for: 4, 2 found; batches are of 6, not 12, as batch_size_per_gpu "
         "stays 3"),
        (1, 2, 1, None),
        (0, 2, 0, None),  # the CPU is asked for
        ("auto", 2, 2, None),
    ],
)  # fmt: skip
def test_a_run_takes_the_gpus_that_are_there(recipe, tmp_path, monkeypatch, asked, there, used, told):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: there)
    forced = apply_overrides(recipe, [f"num_gpu={asked}", "datasets:train:batch_size_per_gpu=3"])
    opt = resolve_options(forced, is_train=True, root=tmp_path)
    assert (opt["num_gpu"], list(adaptations(forced, opt))) == (used, [told] if told else [])


def test_the_file_counts_the_gpus_of_all_processes_and_names_a_backend(recipe, monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(options, "get_dist_info", lambda: (0, 2))
    monkeypatch.setattr(torch.distributed, "get_backend", lambda: "gloo")
    batch = ["num_gpu=4", "datasets:train:batch_size_per_gpu=3", "manual_seed=0"]
    forced = apply_overrides(recipe, [*batch, "dist_params={backend: nccl, port: 29500}"])
    opt = resolve_options(forced, is_train=True, root=".", launcher="pytorch")
    told = "num_gpu: GPUs asked for: 4, 2 processes started; batches are of 6, not 12, as batch_size_per_gpu stays 3"
    backend = "dist_params: backend 'nccl' is for another device; processes exchange by gloo"
    assert list(adaptations(forced, opt)) == [f"--force_yml: {told}", f"--force_yml: {backend}"]


def test_launcher_and_auto_resume_are_recorded(recipe, tmp_path):
    opt = resolve_options(recipe, is_train=True, root=tmp_path, launcher="pytorch", auto_resume=True)
    assert (opt["dist"], opt["auto_resume"]) == (True, True)


def test_a_dataset_that_is_null_is_left_out(recipe, tmp_path):
    forced = apply_overrides(recipe, ["datasets:val_1=~"])
    assert list(resolve_options(forced, is_train=True, root=tmp_path)["datasets"]) == ["train"]


def test_no_validation_section_means_no_validation(recipe, tmp_path):
    forced = apply_overrides(recipe, ["val=none"])
    assert resolve_options(forced, is_train=True, root=tmp_path)["val"] is None
    assert resolve_options(forced, is_train=False, root=tmp_path)["val"] == {
        "save_img": False,
        "suffix": None,
        "pbar": False,
    }
