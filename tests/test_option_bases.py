"""Option files on top of a base, the shipped ones by name, and values that names and datasets share."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from semanir_plugin.basicsr_host.engine.run import read_run_options
from semanir_plugin.basicsr_host.engine.validation import validate_options
from semanir_plugin.cli import main
from semanir_plugin.errors import UserError
from semanir_plugin.option_files import load_options, read_option_file, self_contained_text
from semanir_plugin.plain_yaml import dump_yaml, parse_yaml
from semanir_plugin.shipped_recipes import find_recipe, shipped_recipes
from tests.conftest import ROOT

BASE = """\
name: base
scale: 4
a: {x: 1, y: [1, 2], deep: {p: 1, q: 2}}
kinds:
  same: {type: A, x: 1}
  other: {type: A, x: 1}
switched: {x: 1}
"""
TOP = """\
base: base.yml
name: top
a:
  y: [3]
  deep: {q: ~}
kinds:
  same: {y: 2}
  other: {type: B}
switched: ~
"""


@pytest.fixture(autouse=True)
def _in_tmp_path(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def write(**texts):
    for name, text in texts.items():
        Path(f"{name}.yml").write_text(text)


def test_sections_are_merged_and_everything_else_is_replaced():
    write(base=BASE, top=TOP)
    file = load_options("top.yml")
    assert file.data == {
        "name": "top",
        "scale": 4,
        "a": {"x": 1, "y": [3], "deep": {"p": 1, "q": None}},
        "kinds": {"same": {"type": "A", "x": 1, "y": 2}, "other": {"type": "B"}},
        "switched": None,
    }
    assert file.where(("scale",)) == "base.yml:2"
    assert file.where(("a", "x")) == "base.yml:3"
    assert file.where(("a", "y")) == "top.yml:4"
    assert file.where(("kinds", "same", "type")) == "base.yml:5"
    assert file.where(("kinds", "other", "x")) == "top.yml:8", "the base's place of an option that does not apply"
    assert [path.name for path in file.sources] == ["top.yml", "base.yml"]


def test_a_base_has_a_base_and_is_looked_for_beside_the_file_that_names_it():
    Path("sub").mkdir()
    write(**{"sub/a": "base: ../b.yml\nx: 1", "b": "base: sub/c.yml\nx: 2\ny: 2", "sub/c": "z: 3\ny: 3"})
    assert load_options("sub/a.yml").data == {"x": 1, "y": 2, "z": 3}


def test_a_base_can_be_a_shipped_file_or_a_name_that_stands_for_one():
    write(
        mine="base: train_SemanIRUNet_color_DN50.yml\nname: mine{sigma}", near="base: train_SemanIR_SRx4.yml\nscale: 2"
    )
    file = read_option_file("mine.yml")
    assert (file.data["name"], file.data["sigma"]) == ("mine50", 50)
    assert load_options("near.yml").data["network_g"]["embed_dim"] == 180
    write(train_SemanIR_SRx4="scale: 8")
    assert load_options("near.yml").data == {"scale": 2}, "a file beside it comes first"


@pytest.mark.parametrize(
    ("base", "told"),
    [
        ("x.yml", "leads back to x.yml"),
        ("y.yml", "leads back to x.yml"),
        ("no.yml", "no.yml: no such file"),
        ("train_SemanIR_SRx5.yml", "did you mean the shipped 'train_SemanIR_SRx"),
        ("7", "must be the name of a .yml file"),
        (str(ROOT / "options" / "train_SemanIR_SRx4.yml"), "must be the name of a .yml file"),
        ("[a.yml]", "must be the name of a .yml file"),
        ("sub", "must be the name of a .yml file"),
    ],
)
def test_bases_that_cannot_be(base, told):
    write(x=f"name: x\nbase: {base}\n", y="base: x.yml")
    with pytest.raises(UserError, match=told) as error:
        load_options("x.yml")
    assert str(error.value).startswith(("x.yml:2: base", "./y.yml:1: base", "y.yml:1: base"))


def test_a_pile_of_bases_has_an_end():
    write(**{f"x{i}": f"base: x{i + 1}.yml" for i in range(30)})
    with pytest.raises(UserError, match="more than 8 files, one on top of the other"):
        load_options("x0.yml")


@pytest.mark.parametrize("name", shipped_recipes())
def test_a_shipped_file_written_out_is_the_same_options(name):
    file = load_options(name)
    text = self_contained_text(file)
    assert "\t" not in text
    Path("copy.yml").write_text(text)
    assert load_options("copy.yml").data == file.data
    assert "base" not in yaml.safe_load(text)
    assert text.splitlines()[0] == file.sources[0].read_text().splitlines()[0]


@pytest.mark.parametrize(
    "text",
    [
        'a: "1e-4"',
        "a: 1e-4",
        "a: [1e-7, .inf, ~, 'yes', '~', '1', 0x10]",
        "a: 'x: y'",
        "a: {}",
        "a: []\nb: é",
        "a: |\n  l\n  m",
    ],
)
def test_what_is_written_reads_back(text):
    data, _ = parse_yaml(text, str)
    assert parse_yaml(dump_yaml(data), str)[0] == data


@pytest.mark.parametrize(
    ("named", "found"),
    [
        ("train_SemanIR_SRx4.yml", "train_SemanIR_SRx4.yml"),
        ("train_SemanIR_SRx4", "train_SemanIR_SRx4.yml"),
        ("options/train_SemanIR_SRx4.yml", "train_SemanIR_SRx4.yml"),
        ("/anywhere/options/test_SemanIRUNet_gray_JPEG30.yml", "test_SemanIRUNet_gray_JPEG.yml"),
        ("mine/train_SemanIR_SRx4.yml", None),
        ("aliases.yml", None),
        ("train_SemanIR_SRx5.yml", None),
    ],
)
def test_shipped_files_are_found_by_name(named, found):
    recipe = find_recipe(named)
    assert (recipe and recipe.path.name) == found
    if found is None:
        with pytest.raises(UserError, match="cannot read the option file"):
            load_options(named)


def test_the_recipes_lie_in_the_package():
    names = {path.name for path in (ROOT / "options").glob("*.yml")} - {"aliases.yml"}
    assert {path.name for path in (ROOT / "semanir_plugin" / "recipes").glob("*.yml")} == names | {"aliases.yml"}
    assert names <= shipped_recipes().keys()


LEVELS = """\
name: x{sigma}_{}_{other}
sigma: 25
datasets:
  train: {type: GaussianNoiseDataset, name: 'D{sigma}', dataroot_gt: 'a/{sigma}', filename_tmpl: '{}x{scale}'}
  val: {type: GaussianNoiseDataset, sigma: 5, dataroot_gt: a}
  val_2: {type: PairedImageDataset, dataroot_gt: 'x{scale}', dataroot_lq: b}
network_g: {type: 'x{sigma}'}
path: {pretrain_network_g: 'w{sigma}.pth'}
scale: 1
"""


def test_a_level_is_one_value():
    write(x=LEVELS)
    file = read_run_options("x.yml", ["sigma=50"], is_train=True)
    datasets = file.data["datasets"]
    assert file.data["name"] == "x50_{}_{other}"
    assert [datasets[phase].get("sigma") for phase in datasets] == [50, 5, None]
    assert datasets["train"] == {
        **{"type": "GaussianNoiseDataset", "name": "D50", "dataroot_gt": "a/50", "filename_tmpl": "{}x{scale}"},
        "sigma": 50,
    }
    assert datasets["val_2"]["dataroot_gt"] == "x1"
    assert file.data["network_g"]["type"] == "x{sigma}"
    assert file.data["path"]["pretrain_network_g"] == "w50.pth"
    assert file.where(("datasets", "train", "sigma")) == "--force_yml"
    assert read_run_options("x.yml", ["sigma=2.5"], is_train=True).data["name"].startswith("x2.5_")


def test_levels_that_cannot_be():
    write(x=LEVELS)
    for entries, told in (
        (["sigma=[0,50]"], "x.yml:1: name: {sigma} cannot stand for the range"),
        (["quality=10"], "--force_yml: quality: nothing reads it"),
        (["name=x{quality}"], "--force_yml: name: {quality} stands for the top level's quality: set it"),
        (["datasets:train:sigma=1"], "x.yml:2: sigma: nothing reads it"),
    ):
        with pytest.raises(UserError) as error:
            read_run_options("x.yml", entries, is_train=True)
        assert str(error.value).startswith(told)
    for is_train in (True, False):
        file = read_run_options("train_SemanIRUNet_gray_DN.yml", ["sigma=300"], is_train=is_train)
        with pytest.raises(UserError, match=r"--force_yml: datasets:.*: sigma must lie from 0 to 255, not 300"):
            validate_options(file, is_train=is_train)


def test_a_training_is_tested_on_its_validation_sets():
    file = read_run_options("train_SemanIR_light_SRx2.yml", is_train=False)
    validate_options(file, is_train=False)
    assert "train" not in file.data
    assert "logger" not in file.data
    assert file.data["datasets"].keys() == {"test"}
    assert file.data["path"]["pretrain_network_g"] == "experiments/train_SemanIR_light_SRx2/models/net_g_best.pth"
    assert file.data["path"]["param_key_g"] == "params_ema"
    place = file.where(("datasets", "test", "dataroot_lq"))
    name, _, line = place.rpartition(":")
    assert Path(name).name == "train_SemanIR_SRx2.yml"
    assert Path(name).read_text().splitlines()[int(line) - 1].strip() == "dataroot_lq: datasets/Set5/LR_bicubic_X2"


@pytest.mark.parametrize(
    ("entries", "weights", "key"),
    [
        ([], "experiments/train_AST_B_derain_SPAD/models/net_g_best.pth", "params"),
        (["path:experiments_root=e", "name=n", "train:ema_decay=0.9"], "e/n/models/net_g_best.pth", "params_ema"),
        (["path:pretrain_network_g=w.pth", "path:param_key_g=k"], "w.pth", "k"),
        (["datasets:test_1={}"], "experiments/train_AST_B_derain_SPAD/models/net_g_best.pth", "params"),
        (["path:param_key_g=x"], "experiments/train_AST_B_derain_SPAD/models/net_g_best.pth", "x"),
        (["path:pretrain_network_g=w.pth", "train:ema_decay=0.9"], "w.pth", "params_ema"),
    ],
)
def test_the_weights_that_a_training_left_are_tested(entries, weights, key):
    path = read_run_options("train_AST_B_derain_SPAD.yml", entries, is_train=False).data["path"]
    assert (path["pretrain_network_g"], path["param_key_g"]) == (weights, key)


def test_weights_that_a_training_starts_from_are_not_what_it_made():
    text = "datasets: {train: {}, val_1: {}, val: {}}\nname: t\npath: {pretrain_network_g: start.pth, param_key_g: k}\n"
    write(x=text, y="base: x.yml\ndatasets: {test_a: {}}\npath: {pretrain_network_g: t.pth}", z="datasets: {train: {}}")
    tuned = read_run_options("x.yml", is_train=False).data
    assert tuned["path"] == {"pretrain_network_g": "experiments/t/models/net_g_best.pth", "param_key_g": "params"}
    last = Path("experiments/t/models/net_g_latest.pth")  # as BasicSR's own models, which keep no best one
    last.parent.mkdir(parents=True)
    last.touch()
    assert read_run_options("x.yml", is_train=False).data["path"]["pretrain_network_g"] == str(last)
    assert tuned["datasets"].keys() == {"test", "test_1"}
    test = read_run_options("y.yml", is_train=False).data
    assert (test["path"]["pretrain_network_g"], list(test["datasets"])) == ("t.pth", ["test_a"])
    with pytest.raises(UserError, match="datasets: nothing to score"):
        read_run_options("z.yml", is_train=False)


def test_the_command_lists_shows_and_copies(capsys):
    assert main(["options", "list", "*_SemanIRUNet_color_DN??"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 6
    assert "train_SemanIRUNet_color_DN15.yml  train_SemanIRUNet_color_DN.yml of this package, with sigma 15" in lines
    assert main(["options", "show", "train_SemanIR_SRx4"]) == 0
    schema, *lines = capsys.readouterr().out.splitlines()
    assert lines == (ROOT / "options" / "train_SemanIR_SRx4.yml").read_text().splitlines()[1:]
    assert Path(schema.rpartition("$schema=")[2]).is_file()
    for folder in ((), ("new/folder",)):
        assert main(["options", "copy", "train_SemanIR_B_SRx2", *folder]) == 0
        copied = Path(capsys.readouterr().out.strip())
        assert copied == Path(*folder, "train_SemanIR_B_SRx2.yml")
        assert load_options(copied).data == load_options(ROOT / "options" / copied.name).data
        assert main(["options", "copy", "train_SemanIR_B_SRx2", *folder]) == 2
        assert (
            capsys.readouterr().err
            == f"basicsr options: {copied}: is there already; remove it, or name another folder\n"
        )


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["list", "tarin_*"], "no option file is called 'tarin_*'"),
        (["show", "tain_SemanIR_SRx4"], "did you mean the shipped 'train_SemanIR_SRx4.yml'?"),
        (["copy", "test_Bicubic_SRx4", "file/folder"], "file/folder: cannot be written: Not a directory"),
    ],
)
def test_the_command_refuses_in_one_line(capsys, arguments, told):
    Path("file").touch()
    assert main(["options", *arguments]) == 2
    error = capsys.readouterr().err
    assert told in error
    assert error.count("\n") == 1
