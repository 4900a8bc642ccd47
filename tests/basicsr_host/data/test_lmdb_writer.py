from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import cv2
import lmdb
import numpy as np
import pytest
from basicsr.data import build_dataset
from basicsr.data.data_util import paths_from_lmdb

from semanir_plugin.basicsr_host.data import lmdb_writer
from semanir_plugin.basicsr_host.data.checks import check_datasets
from semanir_plugin.basicsr_host.data.lmdb_writer import write_lmdbs
from semanir_plugin.basicsr_host.data.pairing import find_pairs, find_singles
from semanir_plugin.basicsr_host.data.sub_images import SubImages
from semanir_plugin.errors import UserError
from tests.conftest import ROOT

SIZES = {"a": (40, 56), "b": (33, 30), "c": (24, 24), "d": (50, 41)}  # height, width


def write_images(folder, scale=1, suffix=""):
    folder.mkdir(parents=True, exist_ok=True)
    for seed, (name, (height, width)) in enumerate(SIZES.items()):
        pixels = np.random.default_rng(seed).integers(0, 256, (height * scale, width * scale, 3), dtype=np.uint8)
        cv2.imwrite(str(folder / f"{name}{suffix}.png"), pixels)
    return folder


@pytest.fixture
def folder(tmp_path):
    return write_images(tmp_path / "images")


@pytest.fixture
def pairs(tmp_path):
    gt, lq = write_images(tmp_path / "gt", 2), write_images(tmp_path / "lq", 1, "x2")
    return lambda: find_pairs(str(gt), str(lq), filename_tmpl="{}x2")


def read(path):
    """Return the images of an LMDB as BasicSR finds and reads them."""
    with lmdb.open(str(path), readonly=True, lock=False) as env, env.begin() as transaction:
        values = {key: transaction.get(key.encode("ascii")) for key in paths_from_lmdb(str(path))}
        assert len(values) == transaction.stat()["entries"]
    return {key: cv2.imdecode(np.frombuffer(value, np.uint8), cv2.IMREAD_UNCHANGED) for key, value in values.items()}


def write(folder, target, **options):
    return write_lmdbs(find_singles(str(folder)), [target], **options)


@pytest.mark.parametrize("workers", [1, 3])
def test_a_folder(folder, tmp_path, workers):
    target = tmp_path / "deep" / "x.lmdb"
    assert write(folder, target, workers=workers, compress_level=9) == 4
    assert (target / "meta_info.txt").read_text().splitlines() == [
        *("a.png (40,56,3) 9", "b.png (33,30,3) 9", "c.png (24,24,3) 9", "d.png (50,41,3) 9")
    ]
    images = read(target)
    for name in SIZES:
        np.testing.assert_array_equal(images[name], cv2.imread(str(folder / f"{name}.png")))
    assert {path.name for path in target.iterdir()} == {"data.mdb", "lock.mdb", "meta_info.txt"}
    assert [path.name for path in target.parent.iterdir()] == ["x.lmdb"]


def test_the_level_of_compression(folder, tmp_path):
    for name in SIZES:
        cv2.imwrite(str(folder / f"{name}.png"), np.tile(np.arange(200, dtype=np.uint8), (200, 1)))
    sizes = []
    for level in (0, 9):
        write(folder, tmp_path / f"{level}.lmdb", compress_level=level)
        sizes.append((tmp_path / f"{level}.lmdb" / "data.mdb").stat().st_size)
    assert sizes[0] > 2 * sizes[1]


def test_what_basicsr_trains_on(pairs, tmp_path):
    targets = [tmp_path / "GT.lmdb", tmp_path / "LQ.lmdb"]
    assert write_lmdbs(pairs(), targets, scale=2, sub_images=SubImages(side=32, step=16)) > 20
    opt = {
        **{"name": "x", "type": "PairedImageDataset", "phase": "train", "scale": 2, "io_backend": {"type": "lmdb"}},
        **{"dataroot_gt": str(targets[0]), "dataroot_lq": str(targets[1])},
        **{"gt_size": 32, "use_hflip": False, "use_rot": False},
    }
    check_datasets({"datasets": {"train": opt}})
    dataset = build_dataset(opt)
    for index in range(len(dataset)):
        sample = dataset[index]
        assert sample["gt"].shape == (3, 32, 32)
        assert sample["lq"].shape == (3, 16, 16)


@pytest.mark.parametrize(("step", "threshold"), [(32, 0), (16, 0), (32, 16), (48, 0)])
def test_sub_images_of_pairs_lie_at_the_same_place(pairs, tmp_path, step, threshold):
    targets, found = [tmp_path / "GT.lmdb", tmp_path / "LQ.lmdb"], pairs()
    grid = SubImages(side=32, step=step, threshold=threshold)
    count = write_lmdbs(found, targets, scale=2, sub_images=grid, workers=2)
    gt, lq = (read(target) for target in targets)
    expected = {}
    for each in found:
        images = [cv2.imread(str(path)) for path in each.paths]
        small = SubImages(side=16, step=step // 2, threshold=threshold // 2)
        for number, (y, x) in enumerate(small.corners(*images[1].shape[:2]), 1):
            expected[f"{each.name}_s{number:03d}"] = (
                images[0][2 * y : 2 * y + 32, 2 * x : 2 * x + 32],
                images[1][y : y + 16, x : x + 16],
            )
    assert gt.keys() == lq.keys() == expected.keys()
    assert len(expected) == count
    for key, (large, small) in expected.items():
        np.testing.assert_array_equal(gt[key], large)
        np.testing.assert_array_equal(lq[key], small)


def test_a_ground_truth_is_cropped_to_its_input(pairs, tmp_path):
    for path in (tmp_path / "gt").iterdir():
        cv2.imwrite(str(path), cv2.copyMakeBorder(cv2.imread(str(path)), 0, 1, 0, 1, cv2.BORDER_REPLICATE))
    write_lmdbs(pairs(), [tmp_path / "GT.lmdb", tmp_path / "LQ.lmdb"], scale=2)
    assert {key: image.shape[:2] for key, image in read(tmp_path / "GT.lmdb").items()} == {
        name: (2 * height, 2 * width) for name, (height, width) in SIZES.items()
    }


def test_images_smaller_than_sub_images_are_kept(folder, tmp_path):
    write(folder, tmp_path / "x.lmdb", sub_images=SubImages(side=32, step=32))
    images = read(tmp_path / "x.lmdb")
    assert images["c_s001"].shape == (24, 24, 3)
    assert images["b_s001"].shape == (32, 30, 3)


def test_gray_16_bit_alpha_and_turned_photographs(folder, tmp_path):
    from PIL import Image

    values = np.random.default_rng(0).integers(0, 65536, (20, 24, 4), dtype=np.uint16)
    cv2.imwrite(str(folder / "a.png"), values[..., 0].astype(np.uint8))
    cv2.imwrite(str(folder / "b.png"), values[..., :3])
    cv2.imwrite(str(folder / "c.png"), values.astype(np.uint8))
    (folder / "d.png").unlink()
    exif = Image.Exif()
    exif[0x0112] = 6
    photograph = Image.fromarray(values[..., :3].astype(np.uint8))
    photograph.save(folder / "d.jpg", exif=exif)
    photograph.save(folder / "e.jpg", "MPO", save_all=True, append_images=[photograph], exif=exif)  # of a phone
    photograph.save(folder / "f.png", exif=exif)
    photograph.save(folder / "g.webp", exif=exif)
    write(folder, tmp_path / "x.lmdb")
    images = read(tmp_path / "x.lmdb")
    np.testing.assert_array_equal(images["a"], values[..., 0].astype(np.uint8))
    np.testing.assert_array_equal(images["b"], values[..., :3])
    np.testing.assert_array_equal(images["c"], values[..., :3].astype(np.uint8))
    assert all(images[name].shape == (24, 20, 3) for name in "defg")
    lines = (tmp_path / "x.lmdb" / "meta_info.txt").read_text().splitlines()
    assert lines[0] == "a.png (20,24,1) 1"


def test_the_map_grows(folder, tmp_path, monkeypatch):
    monkeypatch.setattr(lmdb_writer, "_FIRST_MAP_SIZE", 1 << 13)
    write(folder, tmp_path / "x.lmdb")
    assert len(read(tmp_path / "x.lmdb")) == 4


class Killed(BaseException):
    pass


@pytest.fixture
def kill_at(monkeypatch):
    """Have the n-th call of a function of a module or class end the run, before it does anything."""

    def kill_at(owner, name, call=1):
        calls, function = [], getattr(owner, name)

        def wrapper(*args, **kwargs):
            calls.append(args)
            if len(calls) == call:
                raise Killed
            return function(*args, **kwargs)

        monkeypatch.setattr(owner, name, wrapper)

    return kill_at


KILLS = {
    "before anything": (Path, "mkdir", 1),
    "between the folders": (Path, "mkdir", 2),
    "before the plans": (lmdb_writer, "write_atomic", 1),
    "between the plans": (lmdb_writer, "write_atomic", 2),
    "writing": (lmdb_writer, "_put", 5),
    "verifying": (lmdb_writer._Side, "_describe", 3),
    "before the second list": (lmdb_writer, "write_atomic", 4),
    "before publishing": (lmdb_writer, "publish", 1),
    "publishing": (Path, "rename", 1),
    "between publishing": (Path, "rename", 2),
    "before removing the plans": (Path, "unlink", -1),
}


@pytest.mark.parametrize("overwrite", [False, True])
@pytest.mark.parametrize("kill", KILLS.values(), ids=KILLS)
def test_a_killed_run_goes_on(pairs, tmp_path, kill_at, monkeypatch, kill, overwrite):
    out = tmp_path / "out"
    out.mkdir()
    targets = [out / "GT.lmdb", out / "LQ.lmdb"]
    options = {"scale": 2, "sub_images": SubImages(side=32, step=32), "overwrite": overwrite}
    if overwrite:
        write_lmdbs(pairs()[:2], targets, scale=2)
    old = {target: read(target).keys() for target in targets if overwrite}
    monkeypatch.setattr(lmdb_writer, "_BATCH_BYTES", 1)
    with monkeypatch.context() as patch:
        if kill[2] > 0:
            owner, name, call = kill
            kill_at(owner, name, call + 2 if overwrite and name == "rename" else call)  # old ones move aside first
        else:  # the last removal of the run is that of a plan
            patch.setattr(Path, "unlink", lambda path, *_, unlink=Path.unlink, **__: _kill_at_plan(path, unlink))
        with pytest.raises(Killed):
            write_lmdbs(pairs(), targets, **options)
    monkeypatch.undo()
    for target in targets:
        if target.exists():  # complete, be it old or new
            assert len(read(target)) == len((target / "meta_info.txt").read_text().splitlines())
            assert read(target).keys() == old.get(target) or len(read(target)) == 34
    assert len({len(read(target)) for target in targets if target.exists()}) < 2, "a pair of an old and a new one"
    assert write_lmdbs(pairs(), targets, **options) == len(read(targets[0])) == len(read(targets[1])) == 34
    assert sorted(path.name for path in out.iterdir()) == ["GT.lmdb", "LQ.lmdb"]
    write_lmdbs(pairs(), [out / "1.lmdb", out / "2.lmdb"], **options)
    for target, fresh in zip(targets, (out / "1.lmdb", out / "2.lmdb"), strict=True):
        assert (target / "meta_info.txt").read_text() == (fresh / "meta_info.txt").read_text()
        assert all(np.array_equal(image, read(fresh)[key]) for key, image in read(target).items())


def _kill_at_plan(path, unlink):
    if path.suffix == ".plan" and path.with_name("GT.lmdb").exists():
        raise Killed
    unlink(path, missing_ok=True)


KILLED_AT_ITS_SECOND_COMMIT = """
import os, signal
import semanir_plugin
from semanir_plugin.cli import main
from semanir_plugin.basicsr_host.data import lmdb_writer

def put_and_die(*args, put=lmdb_writer._put, calls=[]):
    put(*args)
    calls.append(args)
    if len(calls) == 2:
        os.kill(os.getpid(), signal.SIGKILL)

lmdb_writer._BATCH_BYTES = 1
lmdb_writer._put = put_and_die
main(["lmdb", "-i", "images", "-o", "x.lmdb", "--workers", "2"])
"""


@pytest.fixture
def encoded(monkeypatch):
    """The names of the images that were encoded."""
    names, encode = [], lmdb_writer._encode
    monkeypatch.setattr(
        lmdb_writer,
        "_encode",
        lambda plan, entries: names.append(plan.found[entries[0].image].name) or encode(plan, entries),
    )
    return names


@pytest.mark.usefixtures("folder")
def test_a_process_that_was_killed_goes_on_from_what_it_had_committed(tmp_path, monkeypatch, encoded):
    monkeypatch.chdir(tmp_path)
    command = [sys.executable, "-c", KILLED_AT_ITS_SECOND_COMMIT]
    result = subprocess.run(command, env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True)
    assert result.returncode == -9, result.stderr
    assert not (tmp_path / "x.lmdb").exists()
    write("images", Path("x.lmdb"))
    assert sorted(encoded) == ["c", "d"]
    assert list(read("x.lmdb")) == list(SIZES)


@pytest.fixture
def interrupted(folder, tmp_path, monkeypatch, kill_at):
    """A run that ended before its third image was committed."""
    with monkeypatch.context() as patch:
        patch.setattr(lmdb_writer, "_BATCH_BYTES", 1)
        kill_at(lmdb_writer, "_put", 3)
        with pytest.raises(Killed):
            write(folder, tmp_path / "x.lmdb", sub_images=SubImages(side=24, step=24))
    monkeypatch.undo()


CHANGES = {
    "a file": lambda folder: {"sub_images": SubImages(side=24, step=24), "_": (folder / "d.png").touch()},
    "a name": lambda folder: {
        "sub_images": SubImages(side=24, step=24),
        "_": (folder / "d.png").rename(folder / "e.png"),
    },
    "the grid": lambda _: {"sub_images": SubImages(side=24, step=12)},
    "no grid": lambda _: {},
    "the level": lambda _: {"sub_images": SubImages(side=24, step=24), "compress_level": 3},
}


@pytest.mark.usefixtures("interrupted")
@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_an_interrupted_run_is_not_mixed_with_another(folder, tmp_path, encoded, change):
    options = change(folder)
    options.pop("_", None)
    with pytest.raises(
        UserError, match=r"\.partial_x\.lmdb is of an interrupted run with other images or options; go on"
    ):
        write(folder, tmp_path / "x.lmdb", **options)
    write(folder, tmp_path / "x.lmdb", overwrite=True, **options)
    assert len(encoded) == 4
    assert [path.name for path in tmp_path.iterdir() if "x.lmdb" in path.name] == ["x.lmdb"]


@pytest.mark.usefixtures("interrupted")
def test_only_what_is_missing_is_encoded(folder, tmp_path, encoded):
    grid = SubImages(side=24, step=24)
    write(folder, tmp_path / "x.lmdb", sub_images=grid)
    assert encoded == ["c", "d"]
    assert len(read(tmp_path / "x.lmdb")) == sum(len(grid.corners(*size)) for size in SIZES.values())


def test_nothing_is_overwritten_unasked(folder, tmp_path):
    target = tmp_path / "x.lmdb"
    write(folder, target)
    before = (target / "data.mdb").stat().st_mtime_ns
    (folder / "a.png").unlink()
    with pytest.raises(UserError, match=r"x\.lmdb is there already; give --overwrite to replace it"):
        write(folder, target)
    assert (target / "data.mdb").stat().st_mtime_ns == before
    write(folder, target, overwrite=True)
    assert list(read(target)) == ["b", "c", "d"]


@pytest.mark.parametrize("overwrite", [False, True])
@pytest.mark.parametrize("name", ["x.lmdb/notes.txt", "x.lmdb/sub/y.txt", ".partial_x.lmdb/notes.txt"])
def test_what_is_not_ours_is_never_removed(folder, tmp_path, overwrite, name):
    stray = tmp_path / name
    stray.parent.mkdir(parents=True)
    stray.write_text("mine")
    with pytest.raises(UserError, match="is in the way of what would be written"):
        write(folder, tmp_path / "x.lmdb", overwrite=overwrite)
    assert stray.read_text() == "mine"


@pytest.mark.parametrize("change", ["truncate", "swap", "remove", "add"])
def test_what_does_not_read_back_is_written_again(folder, tmp_path, monkeypatch, change):
    def damage(env, items, put=lmdb_writer._put):
        put(env, items)
        values = dict(items)
        with env.begin(write=True) as transaction:
            if change == "truncate":
                transaction.put(b"b", values["b"][: len(values["b"]) // 2])
            elif change == "swap":
                transaction.put(b"b", values["c"])
            elif change == "remove":
                transaction.delete(b"b")
            else:
                transaction.put(b"b2", values["b"])

    monkeypatch.setattr(lmdb_writer, "_put", damage)
    key = "b2" if change == "add" else "b"
    with pytest.raises(UserError, match=rf"\.partial_x\.lmdb: {key} did not read back; the same command writes them"):
        write(folder, tmp_path / "x.lmdb")
    assert not (tmp_path / "x.lmdb").exists()
    monkeypatch.undo()
    write(folder, tmp_path / "x.lmdb")
    assert list(read(tmp_path / "x.lmdb")) == list(SIZES)


def test_a_file_that_changes_meanwhile(folder, tmp_path, monkeypatch):
    def late(plan, entries, encode=lmdb_writer._encode):
        if entries[0].image == 2:
            cv2.imwrite(str(folder / "c.png"), np.zeros((9, 9, 3), np.uint8))
        return encode(plan, entries)

    monkeypatch.setattr(lmdb_writer, "_encode", late)
    with pytest.raises(UserError, match=r"c\.png: changed while it was read; run the command again"):
        write(folder, tmp_path / "x.lmdb")


def test_the_disk_is_full(folder, tmp_path, monkeypatch):
    def fail(*_):
        raise lmdb.DiskError("No space left on device")

    monkeypatch.setattr(lmdb_writer, "_put", fail)
    with pytest.raises(
        UserError, match=r"cannot write there: No space left on device; mend that, and the same"
    ) as error:
        write(folder, tmp_path / "x.lmdb")
    assert "\n" not in str(error.value)
    monkeypatch.undo()
    write(folder, tmp_path / "x.lmdb")


def break_png(folder):
    (folder / "b.png").write_bytes((folder / "b.png").read_bytes()[:-30])


def write_floats(folder):
    cv2.imwrite(str(folder / "b.tif"), np.zeros((9, 9), np.float32))
    (folder / "b.png").unlink()


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (break_png, r"b\.png cannot be read: truncated PNG; replace it"),
        (write_floats, r"b\.tif: the image has float32 pixels; 8 and 16 bit are read, so convert it"),
        (lambda folder: (folder / "b.png").rename(folder / "b.2.png"), r"'b\.2' cannot be a key; rename it to ASCII"),
        (lambda folder: (folder / "b.png").rename(folder / "café.png"), "'café' cannot be a key; rename it to ASCII"),
    ],
    ids=["header", "floats", "dot", "accent"],
)
def test_images_that_cannot_be_written_are_named(folder, tmp_path, change, told):
    change(folder)
    with pytest.raises(UserError, match=told) as error:
        write(folder, tmp_path / "x.lmdb")
    assert "\n" not in str(error.value)
    assert not (tmp_path / "x.lmdb").exists()


def test_keys_of_two_images_may_meet(folder, tmp_path):
    (folder / "c.png").rename(folder / "a_s001.png")
    grid = SubImages(side=64, step=64)
    write(folder, tmp_path / "x.lmdb", sub_images=grid)
    (folder / "d.png").rename(folder / "a_s001_s001.png")
    (tmp_path / "more").mkdir()
    found = [*find_singles(str(folder))]
    clash = [type(found[0])("a", found[0].paths), type(found[0])("a", found[1].paths)]
    with pytest.raises(UserError, match="both would be 'a_s001'"):
        write_lmdbs(clash, [tmp_path / "y.lmdb"], sub_images=grid)


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (
            {"scale": 3},
            r"gt/a\.png 112x80 and .*lq/ax2\.png 56x40: not a factor of 3; correct the scale or the folders",
        ),
        (
            {"scale": 2, "sub_images": SubImages(side=33, step=32)},
            "crop, step and threshold must be multiples of the scale 2",
        ),
        ({"scale": 2, "sub_images": SubImages(side=32, step=31)}, "must be multiples of the scale 2"),
        ({"scale": 2, "sub_images": SubImages(side=32, step=32, threshold=1)}, "must be multiples of the scale 2"),
    ],
)
def test_pairs_that_do_not_fit(pairs, tmp_path, options, told):
    with pytest.raises(UserError, match=told):
        write_lmdbs(pairs(), [tmp_path / "GT.lmdb", tmp_path / "LQ.lmdb"], **options)
    assert not list(tmp_path.glob("*.lmdb*"))
    assert not list(tmp_path.glob(".partial*"))


def test_targets_must_be_lmdbs_of_their_own(pairs, folder, tmp_path):
    with pytest.raises(UserError, match=r"BasicSR wants an LMDB's name to end with \.lmdb; call it so"):
        write(folder, tmp_path / "x")
    with pytest.raises(UserError, match="is named for both ground truths and inputs; give each its own"):
        write_lmdbs(pairs(), [tmp_path / "x.lmdb", tmp_path / "gt" / ".." / "x.lmdb"], scale=2)
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match=r"file: cannot write there: .*; mend that"):
        write(folder, tmp_path / "file" / "x.lmdb")
