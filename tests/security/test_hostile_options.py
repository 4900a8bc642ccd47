"""Option files that would run something, fill the memory, or write elsewhere."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import time
from pathlib import Path

import pytest
import yaml

from semanir_plugin.cli import main
from semanir_plugin.errors import UserError
from semanir_plugin.option_files import apply_overrides, load_options
from semanir_plugin.path_safety import can_name_file
from tests.conftest import ROOT, tiny_overrides
from tests.memory import taking_less_than
from tests.security.attacks import assert_refused, told

TRAIN = ROOT / "options" / "train_SemanIR_SRx4.yml"
TEST = ROOT / "options" / "test_SemanIR_SRx4.yml"

COMMANDS = {
    "train": ["train", "-opt", "x.yml"],
    "test": ["test", "-opt", "x.yml"],
    "list": ["list", "--modules", "-opt", "x.yml"],
    "profile": ["profile", "-opt", "x.yml", "-o", "out"],
    "leaderboard": ["leaderboard", "-opt", "x.yml"],
    "restore": ["restore", "photo.png", "-o", "out.png", "--model", "m.pth", "-opt", "x.yml"],
    "explain": ["explain", "photo.png", "--at", "0,0", "-o", "out.png", "--model", "m.pth", "-opt", "x.yml"],
}


def bomb(join) -> str:
    lines = ["l0: &l0 {k: x}"]
    lines += [f"l{i}: &l{i} {join(f'*l{i - 1}', i)}" for i in range(1, 9)]
    return "\n".join(lines)


HOSTILE = {
    "apply": "a: !!python/object/apply:os.system ['touch executed']",
    "new": "a: !!python/object/new:os.system ['touch executed']",
    "name": "a: !!python/name:os.system",
    "module": "a: !!python/module:antigravity",
    "merged": "<<: !!python/object/apply:os.system ['touch executed']",
    "key": "? !!python/object/apply:os.system ['touch executed']\n: 1",
    "aliases": bomb(lambda alias, _: f"[{', '.join([alias] * 10)}]"),
    "merges": bomb(lambda alias, _: f"{{<<: [{', '.join([alias] * 10)}]}}"),
    "itself": "a: &a [*a]",
    "merges itself": "a: &a {<<: *a}",
    "deep lists": "a: " + "[" * 100_000,
    "deep sections": "a: " + "{a: " * 50_000,
    "deep by lines": "\n".join(" " * i + "a:" for i in range(150)),
    "sexagesimal": f"name: 1{':59' * 20_000}",
}


@pytest.mark.parametrize(
    ("command", "attack"),
    [
        *(("train", attack) for attack in HOSTILE),
        *((each, attack) for each in COMMANDS for attack in ("apply", "aliases")),
    ],
)
def test_every_command_refuses(photos, witness, capsys, command, attack):
    shutil.copy(photos["chelsea.png"], "photo.png")
    Path("m.pth").write_bytes(b"")
    Path("x.yml").write_text(HOSTILE[attack])
    start = time.process_time()
    with taking_less_than(500):
        assert_refused(capsys, main(COMMANDS[command]))
    assert time.process_time() - start < 20
    assert not Path("executed").exists()
    assert not Path("out.png").exists()


def test_an_endless_file(capsys):
    assert_refused(capsys, main(["train", "-opt", "/dev/zero"]), "/dev/zero", "256 KiB")


@pytest.mark.parametrize(
    "base",
    [
        *("/etc/passwd", "/dev/zero", "/etc/passwd.yml", "../../../../etc/passwd", "..", ".", "sub.yml", "pipe.yml"),
        *("device.yml", "loop.yml", "x.yml", "y.yml", "huge.yml", "bomb.yml", "apply.yml", "a\0.yml", "\x1b[2J.yml"),
        *("a" * 5000 + ".yml", "{}.yml", "~/x.yml", 7, ["x.yml"], {"x": 1}),
    ],
    ids=lambda base: repr(base)[:20],
)
def test_a_base(witness, capsys, base):
    Path("sub.yml").mkdir()
    os.mkfifo("pipe.yml")
    Path("device.yml").symlink_to("/dev/zero")
    Path("loop.yml").symlink_to("loop.yml")
    Path("huge.yml").write_text("# " + "a" * (1 << 20))
    Path("bomb.yml").write_text(HOSTILE["aliases"])
    Path("apply.yml").write_text(HOSTILE["apply"])
    Path("y.yml").write_text("base: x.yml\n")
    Path("x.yml").write_text(yaml.safe_dump({"name": "x", "base": base}))
    assert_refused(capsys, main(["train", "-opt", "x.yml"]), ".yml")
    assert not Path("executed").exists()


def test_a_number_that_cannot_be_printed(capsys):
    entries = ["--force_yml", f"scale=0x{'f' * 10_000}"]
    assert_refused(capsys, main(["train", "-opt", str(TRAIN), *entries]), "64 bits")


@pytest.mark.parametrize("entry", ["name=!!python/object/apply:os.system ['touch executed']", "name={{{{", "a:b=*c"])
def test_overrides(witness, capsys, entry):
    assert_refused(capsys, main(["train", "-opt", str(TRAIN), "--force_yml", entry]), "--force_yml")


def test_python_in_values_stays_text(witness, capsys):
    text = "__import__('os').system('touch executed')"
    assert_refused(capsys, main(["train", "-opt", str(TRAIN), "--force_yml", f"model_type={text}"]), "__import__")


NO_NAMES = [
    *("../../outside/x", "/tmp/x", "..", ".", " ", "a/b", "a\\b", "C:\\x"),
    *("a\0b", "a\nb", "a\x1b[2Jb", "\u202egnp.exe", "\ud800", "a" * 201, "é" * 101),
]


@pytest.mark.parametrize("name", NO_NAMES)
def test_what_can_name_no_file(name):
    assert not can_name_file(name)


@pytest.mark.parametrize("name", ["a", "a.b", "...a", "Ünïcode 2", "日本", "a" * 200, "-rf", "a'b\"", "{}"])
def test_what_can(name):
    assert can_name_file(name)
    Path(name).write_text("")


def with_option(path: Path, keys: str, value: object, data: Path) -> list[str]:
    """Arguments of a command on a copy of an option file in which one value is another."""
    is_train = path is TRAIN
    options = yaml.safe_load(path.read_text())
    if not is_train:
        roots = {"dataroot_gt": str(data / "val" / "GT"), "dataroot_lq": str(data / "val" / "LR_bicubic_X4")}
        options["datasets"] = {"test_1": {"type": "PairedImageDataset", "name": "Set", **roots}}
        options["path"] = {}
    section = options
    *parents, last = keys.split(":")
    for key in parents:
        section = section[key]
    section[last] = value
    Path("x.yml").write_text(yaml.safe_dump(options))
    entries = tiny_overrides(data, train__total_iter=1, val__val_freq=1, val__save_img="true")
    if not is_train:
        entries = [entry for entry in entries if entry.startswith(("network_g", "num_gpu"))]
    return ["train" if is_train else "test", "-opt", "x.yml", "--force_yml", *entries]


NAMING = {
    "train": (TRAIN, "name"),
    "validation set": (TRAIN, "datasets:val:name"),
    "test": (TEST, "name"),
    "test set": (TEST, "datasets:test_1:name"),
    "suffix": (TEST, "val:suffix"),
}


@pytest.mark.parametrize(
    ("value", "what"),
    [*((name, "train") for name in NO_NAMES), *((name, each) for each in NAMING for name in NO_NAMES[:3])],
)
def test_names_that_lead_elsewhere(sr_data, capsys, value, what):
    path, keys = NAMING[what]
    code = main(with_option(path, keys, value, sr_data))
    assert_refused(capsys, code, keys.rpartition(":")[2], "must be")
    assert sorted(each.name for each in Path().iterdir()) == ["x.yml"]


@pytest.mark.parametrize("value", ["{}{}", "{0.__class__}", "{:>9999999999}", "{x}", "{", "../{}", "x", 7])
def test_templates(sr_data, capsys, value):
    assert_refused(capsys, main(with_option(TRAIN, "datasets:val:filename_tmpl", value, sr_data)), "filename_tmpl")


def test_names_of_a_leaderboard_are_folders_of_their_own(sr_data, capsys):
    board = {"task": "sr", "protocol": "sr_y_crop", "scale": 4, "num_gpu": 0, "cost": None}
    names = ["../../outside/model", "..", "<b>", "a" * 150]
    board |= {"models": {name: {"classical": "bicubic"} for name in names}}
    board |= {"test_sets": {name: {"gt": str(sr_data / "val" / "GT")} for name in ("../../outside/set", "/etc")}}
    for name in NO_NAMES:
        Path("x.yml").write_text(yaml.safe_dump({"name": name, **board}))
        assert_refused(capsys, main(["leaderboard", "-opt", "x.yml"]), "name must be")
    for section in ("models", "test_sets"):
        unprintable = {"\x1b[2J": next(iter(board[section].values()))}
        Path("x.yml").write_text(yaml.safe_dump({"name": "board", **board, section: unprintable}))
        assert_refused(capsys, main(["leaderboard", "-opt", "x.yml"]), "cannot be printed")
    Path("x.yml").write_text(yaml.safe_dump({"name": "board", **board}))
    assert main(["leaderboard", "-opt", "x.yml"]) == 0
    assert sorted(path.name for path in Path().iterdir()) == ["results", "x.yml"]


def test_anchors_and_merge_keys_are_plain_data():
    Path("x.yml").write_text("a: &a {x: 1, y: [2]}\nb: {<<: *a, x: 3}\nc: {<<: [{x: 4}, *a]}\n")
    assert load_options("x.yml").data == {
        "a": {"x": 1, "y": [2]},
        "b": {"x": 3, "y": [2]},
        "c": {"x": 4, "y": [2]},
    }


@pytest.mark.parametrize("text", ["a: {<<: 1}", "a: {<<: [1]}", "<<: x"])
def test_merges_of_what_is_no_section(text):
    Path("x.yml").write_text(text)
    with pytest.raises(UserError, match="expected a mapping"):
        load_options("x.yml")


TAGS = ("bool", "int", "float", "timestamp", "binary", "null", "set", "omap", "pairs", "merge", "str", "seq", "map")
MISFITS = [f"!!{tag} {text}" for tag in TAGS for text in ('""', "xx", "[]", "[x]", "{a: b}", "[{a: b}]")]


@pytest.mark.parametrize("text", MISFITS)
def test_tags_that_do_not_fit_are_one_line_or_plain_data(text, capsys):
    Path("x.yml").write_text(f"network_g: {{type: {text}}}\n")
    assert main(["profile", "-opt", "x.yml", "-o", "out"]) == 2
    assert len(told(capsys)) == 1
    Path("x.yml").write_text("network_g: {type: SemanIR}\n")
    for entry in (f"network_g={text}", f"network_g:type={text}"):
        with contextlib.suppress(UserError):
            json.dumps(apply_overrides(load_options("x.yml"), [entry]).data)
