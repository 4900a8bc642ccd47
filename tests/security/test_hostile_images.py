"""Images that are bombs, and LMDBs whose lists lie."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path

import cv2
import lmdb
import numpy as np
import pytest
import yaml
from basicsr.utils import FileClient

from semanir_plugin.basicsr_host.data.checks import read_size
from semanir_plugin.cli import main
from semanir_plugin.errors import UserError
from semanir_plugin.inference.checkpoints import save_weights
from semanir_plugin.inference.image_kinds import to_photograph
from semanir_plugin.inference.images import decode_pixels
from semanir_plugin.inference.loading import build_network
from tests.conftest import ROOT, tiny_overrides
from tests.memory import taking_less_than
from tests.security.attacks import assert_refused, png_bomb, told

TRAIN = str(ROOT / "options" / "train_SemanIR_SRx4.yml")
COMPACT = {"type": "SRVGGNetCompact", "num_feat": 4, "num_conv": 1, "upscale": 2}


def png(height=8, width=12):
    pixels = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return cv2.imencode(".png", pixels)[1].tobytes()


@pytest.fixture
def model():
    save_weights("model.safetensors", build_network(COMPACT, ""), COMPACT)
    return "model.safetensors"


@pytest.fixture(autouse=True)
def _bounded_memory():
    """Check that each test takes less memory than a bomb of 200 million pixels would in colour."""
    with taking_less_than(500):
        yield


@pytest.fixture(scope="module")
def bomb():
    content = png_bomb(pixels=True)
    assert len(content) < 200 << 10
    return content


def test_restoring_names_the_bomb_and_goes_on(model, bomb, capsys):
    Path("in").mkdir()
    Path("in/a_bomb.png").write_bytes(bomb)
    Path("in/photo.png").write_bytes(png())
    assert main(["restore", "in", "-o", "out", "--model", model]) == 1
    lines = told(capsys)
    assert len(lines) == 1
    assert "a_bomb.png" in lines[0]
    assert [path.name for path in Path("out").iterdir()] == ["photo.png"]


@pytest.mark.parametrize("flag", [cv2.IMREAD_ANYCOLOR, cv2.IMREAD_GRAYSCALE])
def test_no_decoder_of_ours_takes_it(bomb, flag):
    with pytest.raises(ValueError, match="more pixels than are decoded"):
        decode_pixels(bomb, flag)


def test_nor_do_the_datasets_of_the_host(bomb):
    Path("bomb.png").write_bytes(bomb)
    with pytest.raises(UserError, match=r"bomb\.png: the image has more pixels than are decoded"):
        FileClient("disk").get("bomb.png")


def test_explaining(model, bomb, capsys):
    Path("bomb.png").write_bytes(bomb)
    code = main(["explain", "bomb.png", "--at", "0,0", "--model", model, "-o", "out.png"])
    assert code == 2
    assert len(told(capsys)) == 1


@pytest.mark.parametrize("head_only", [True, False])
def test_training_and_writing_lmdbs(sr_data, bomb, capsys, head_only):
    Path("GT").mkdir()
    Path("GT/a_bomb.png").write_bytes(png_bomb() if head_only else bomb)
    assert_refused(capsys, train(sr_data, datasets__val__dataroot_gt="GT"), "a_bomb.png", "GT")
    assert_refused(capsys, main(["lmdb", "-i", "GT", "-o", "GT.lmdb"]), "a_bomb.png")
    assert not list(Path().glob("*.lmdb"))


def test_a_leaderboard(bomb, capsys):
    Path("GT").mkdir()
    Path("GT/a_bomb.png").write_bytes(bomb)
    board = {"name": "board", "task": "sr", "protocol": "sr_y_crop", "scale": 4}
    board |= {"models": {"bicubic": {"classical": "bicubic"}}, "test_sets": {"Set": {"gt": "GT"}}}
    Path("board.yml").write_text(yaml.safe_dump(board))
    assert_refused(capsys, main(["leaderboard", "-opt", "board.yml"]), "a_bomb.png")


def train(data, **more):
    more = {"train__total_iter": 1, "val__val_freq": 1, "val__save_img": "true", **more}
    return main(["train", "-opt", TRAIN, "--force_yml", *tiny_overrides(data, **more)])


def write_lmdb(path, entries, lines):
    with lmdb.open(str(path), map_size=1 << 24) as env, env.begin(write=True) as transaction:
        for key, value in entries.items():
            transaction.put(key.encode(), value)
    (path / "meta_info.txt").write_text("".join(f"{line}\n" for line in lines))


def train_on_lmdb(data, gt_lines, lq_lines, entries, phase="train"):
    for name, lines in (("GT.lmdb", gt_lines), ("LQ.lmdb", lq_lines)):
        write_lmdb(Path(name), entries[name], lines)
    more = {f"datasets__{phase}__dataroot_{key}": Path(name) for key, name in (("gt", "GT.lmdb"), ("lq", "LQ.lmdb"))}
    return train(data, **more, **{f"datasets__{phase}__io_backend": "{type: lmdb}"})


PAIR = {"GT.lmdb": {"a": png(64, 80)}, "LQ.lmdb": {"a": png(16, 20)}}
GT_LINE, LQ_LINE = "a.png (64,80,3) 1", "a.png (16,20,3) 1"


def test_an_honest_lmdb(sr_data):
    assert train_on_lmdb(sr_data, [GT_LINE], [LQ_LINE], PAIR) == 0


@pytest.mark.parametrize("phase", ["train", "val"])
@pytest.mark.parametrize(
    ("gt", "lq", "words"),
    [
        (["a.png (0,0,3) 1"], ["a.png (0,0,3) 1"], ["meta_info.txt:1"]),
        ([f"a.png ({'9' * 5000},80,3) 1"], [LQ_LINE], ["meta_info.txt:1"]),
        ([GT_LINE, "b.png (64,80,3) 1"], [LQ_LINE, "b.png (16,20,3) 1"], ["lacks b"]),
        (["../a.png (64,80,3) 1"], ["../a.png (16,20,3) 1"], ["meta_info.txt:1"]),
        (["/etc/a.png (64,80,3) 1"], ["/etc/a.png (16,20,3) 1"], ["meta_info.txt:1"]),
        (["a\0b.png (64,80,3) 1"], ["a\0b.png (16,20,3) 1"], ["meta_info.txt:1"]),
        ([f"{'a' * 400}.png (64,80,3) 1"], [f"{'a' * 400}.png (16,20,3) 1"], ["meta_info.txt:1"]),
        (["a\x1b[2Jb.png (64,80,3) 1"], ["a\x1b[2Jb.png (16,20,3) 1"], ["meta_info.txt:1"]),
        ([GT_LINE, "", GT_LINE], [LQ_LINE], ["meta_info.txt:2"]),
        ([], [], ["empty"]),
    ],
    ids=["zero", "digits", "missing", "parent", "root", "nul", "long", "escape", "blank", "empty"],
)
def test_lists_that_lie(sr_data, capsys, gt, lq, words, phase):
    entries = {name: {"a": sides["a"], "a" * 400: sides["a"]} for name, sides in PAIR.items()}
    code = train_on_lmdb(sr_data, gt, lq, entries, phase)
    assert_refused(capsys, code, *words)


@pytest.mark.parametrize("sizes", [((8, 12), (2, 3)), ((64, 80), (8, 8))])
def test_sizes_that_lie(sr_data, capsys, sizes):
    entries = {name: {"a": png(*size)} for name, size in zip(PAIR, sizes, strict=True)}
    assert_refused(capsys, train_on_lmdb(sr_data, [GT_LINE], [LQ_LINE], entries), "meta_info.txt:1 says")
    assert not Path("experiments").exists()


def test_a_list_that_is_no_text(sr_data, capsys):
    write_lmdb(Path("GT.lmdb"), {"a": png()}, [])
    Path("GT.lmdb/meta_info.txt").write_bytes(b"\xff\xfe\0")
    code = train(sr_data, datasets__train__dataroot_gt="GT.lmdb")
    assert_refused(capsys, code, "meta_info.txt", "as text")


def test_a_bomb_within_an_lmdb(sr_data, bomb, capsys):
    code = train_on_lmdb(sr_data, [GT_LINE], [LQ_LINE], {"GT.lmdb": {"a": bomb}, "LQ.lmdb": {"a": bomb}})
    assert_refused(capsys, code, "more pixels than are decoded")


@pytest.mark.parametrize("name", ["../GT/val0.png", "/etc/passwd.png", "..", "a//b.png", "a\x1b.png"])
def test_a_list_of_files_that_leads_elsewhere(sr_data, capsys, name):
    Path("list.txt").write_text(f"{name} (60,84,3)\n")
    code = train(sr_data, datasets__val__meta_info_file="list.txt")
    assert_refused(capsys, code, "list.txt", "is not a file below")


def test_entries_named_by_hostile_files(capsys):
    Path("in").mkdir()
    Path("in/a\nb.png").write_bytes(png())
    assert_refused(capsys, main(["lmdb", "-i", "in", "-o", "out.lmdb"]), "cannot be a key")
    assert not Path("out.lmdb").exists()


def test_names_that_are_no_unicode(model, capsys):
    Path("in").mkdir()
    Path("in", b"\xff\n\x1b[2J.png".decode("utf-8", "surrogateescape")).write_bytes(b"no image")
    Path("in", b"\xfe.png".decode("utf-8", "surrogateescape")).write_bytes(png())
    assert main(["restore", "in", "-o", "out", "--model", model]) == 1
    lines = told(capsys)
    assert len(lines) == 1
    assert "\x1b" not in lines[0]
    assert r"\udcff\n\x1b[2J.png" in lines[0]
    assert json.dumps([path.name for path in Path("out").iterdir()]) == r'["\udcfe.png"]'


def pipe(path):
    os.mkfifo(path)
    return "is a pipe or a device, no ordinary file"


def device(path):
    path.symlink_to("/dev/zero")
    return "is a pipe or a device, no ordinary file"


def dangling(path):
    path.symlink_to("nowhere")
    return "is a link that leads to no file (No such file or directory)"


READERS = {
    "sr": ["prepare", "sr", "in", "out", "--scale", "2"],
    "rain": ["prepare", "rain", "in", "out"],
    "lmdb": ["lmdb", "-i", "in", "-o", "out.lmdb"],
    "sub-images": ["prepare", "sub-images", "in", "out", "--crop", "4"],
    "explain": ["explain", "in/z.png", "--at", "1,1", "--model", "semanir-mini-x2", "-o", "out.png"],
}


@pytest.mark.parametrize("make", [pipe, device, dangling])
@pytest.mark.parametrize("command", READERS.values(), ids=READERS)
def test_what_is_no_ordinary_file_is_not_opened(command, make, capsys):
    Path("in").mkdir()
    Path("in/photo.png").write_bytes(png())
    told_of = make(Path("in/z.png"))
    assert_refused(capsys, main(command), "in/z.png", told_of)


@pytest.mark.parametrize("make", [pipe, device, dangling])
def test_nor_by_the_checks_of_a_training_or_from_python(make):
    told_of = make(path := Path("z.png"))
    for read in (read_size, to_photograph):
        with pytest.raises((ValueError, UserError), match=re.escape(told_of)):
            read(path)
