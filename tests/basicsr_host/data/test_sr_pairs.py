from __future__ import annotations

import json

import cv2
import lmdb
import numpy as np
import pytest
from basicsr.data.paired_image_dataset import PairedImageDataset
from basicsr.utils.matlab_functions import imresize

from semanir_plugin.basicsr_host.data import lmdb_writer
from semanir_plugin.basicsr_host.data.outputs import remove_tree
from semanir_plugin.basicsr_host.data.pairing import find_images
from semanir_plugin.basicsr_host.data.sr_pairs import write_sr_pairs
from semanir_plugin.degradations import downsample_bicubic
from semanir_plugin.errors import UserError
from semanir_plugin.pixels import to_float


@pytest.fixture
def source(tmp_path, photos):
    folder = tmp_path / "photos"
    folder.mkdir()
    for name, path in photos.items():
        cv2.imwrite(str(folder / name), cv2.imread(str(path))[:61, :86])
    (folder / "notes.txt").write_text("not an image")
    return folder


def read(folder, scale, backend):
    suffix = ".lmdb" if backend == "lmdb" else ""
    opt = {
        **{"dataroot_gt": f"{folder}/GT{suffix}", "dataroot_lq": f"{folder}/LR_bicubic_X{scale}{suffix}"},
        **{"io_backend": {"type": backend}, "scale": scale, "phase": "val"},
    }
    dataset = PairedImageDataset(opt)
    return {dataset.paths[i]["gt_path"].rpartition("/")[2].split(".")[0]: dataset[i] for i in range(len(dataset))}


@pytest.mark.parametrize("scale", [2, 3, 4])
@pytest.mark.parametrize("backend", ["disk", "lmdb"])
def test_pairs_are_what_basicsr_reads(tmp_path, source, scale, backend):
    write_sr_pairs(find_images(source), tmp_path / "out", scale, bicubic="basicsr", lmdb=backend == "lmdb")
    pairs = read(tmp_path / "out", scale, backend)
    assert set(pairs) == {"astronaut", "chelsea", "coffee", "rocket"}
    rgb = cv2.imread(str(source / "coffee.png"))[..., ::-1].astype(np.float32) / 255
    rgb = rgb[: 61 // scale * scale, : 86 // scale * scale]
    np.testing.assert_allclose(pairs["coffee"]["gt"].numpy().transpose(1, 2, 0), rgb, atol=1e-6)
    lr = np.clip(imresize(rgb, 1 / scale), 0, 1)
    np.testing.assert_allclose(pairs["coffee"]["lq"].numpy().transpose(1, 2, 0), lr, atol=0.51 / 255)


def test_a_second_run_replaces_the_first(tmp_path, source):
    for _ in range(2):
        write_sr_pairs(find_images(source), tmp_path / "out", 2, lmdb=True)
    assert len(read(tmp_path / "out", 2, "lmdb")) == 4
    assert not list((tmp_path / "out").glob(".partial*"))


@pytest.mark.parametrize("lmdb", [False, True])
def test_nothing_half_written_appears(tmp_path, source, lmdb):
    (source / "zebra.png").write_bytes(b"\x89PNG and no more")
    with pytest.raises(UserError, match=r"zebra\.png:? (not a readable image|cannot be read)"):
        write_sr_pairs(find_images(source), tmp_path / "out", 2, lmdb=lmdb)
    assert not (tmp_path / "out").exists() or not list((tmp_path / "out").iterdir())
    (source / "zebra.png").unlink()
    write_sr_pairs(find_images(source), tmp_path / "out", 2, lmdb=lmdb)


KILLED = """
import json, os, signal
from pathlib import Path
from semanir_plugin.basicsr_host.data.pairing import find_images
from semanir_plugin.basicsr_host.data.sr_pairs import write_sr_pairs

def kill_at(name, count):
    function, calls = getattr(Path, name), []
    def call_or_die(*args, **kwargs):
        calls.append(name)
        return function(*args, **kwargs) if len(calls) < count else os.kill(os.getpid(), signal.SIGKILL)
    setattr(Path, name, call_or_die)

def write_and_die(out, name, count):
    write_sr_pairs(find_images("old"), out, 2)
    kill_at(name, count)
    write_sr_pairs(find_images("new"), out, 2)
    os._exit(0)

for name, count in json.loads('MOMENTS'):
    if os.fork() == 0:
        write_and_die(f"{name}_{count}", name, count)
    assert os.WTERMSIG(os.wait()[1]) == signal.SIGKILL, (name, count)
"""


def test_a_killed_run_leaves_whole_folders_of_one_run(tmp_path, source, python):
    source.rename(tmp_path / "new")
    (tmp_path / "old").mkdir()
    for path in find_images(tmp_path / "new"):
        cv2.imwrite(str(tmp_path / "old" / path.name), 255 - cv2.imread(str(path)))
    renaming = [("rename", count) for count in (1, 2, 3, 4)]  # both old ones aside, both new ones in place
    moments = [("write_bytes", 3), *renaming, ("unlink", 1)]
    python(KILLED.replace("MOMENTS", json.dumps(moments)))
    for name, count in moments:
        out = tmp_path / f"{name}_{count}"
        folders = {folder: read_folder(out / folder) for folder in ("GT", "LR_bicubic_X2") if (out / folder).exists()}
        assert all(len(images) == 4 for images in folders.values()), name
        assert len(folders) < 2 or are_pairs(*folders.values()), name
        write_sr_pairs(find_images(tmp_path / "new"), out, 2)
        assert sorted(path.name for path in out.iterdir()) == ["GT", "LR_bicubic_X2"]
        assert are_pairs(*(read_folder(out / folder) for folder in ("GT", "LR_bicubic_X2")))


def read_folder(folder):
    return {path.name: cv2.imread(str(path)) for path in folder.iterdir()}


def are_pairs(gt, lr):
    small = {name: downsample_bicubic(to_float(image), 2) for name, image in gt.items()}
    return small.keys() == lr.keys() and all((small[name] == lr[name]).all() for name in lr)


@pytest.mark.parametrize("raw", [False, True])
def test_an_interrupted_lmdb_goes_on(tmp_path, source, monkeypatch, raw):
    put, puts, encoded = lmdb_writer._put, [], []

    def put_and_die(env, items):
        put(env, items)
        puts.extend(items)
        if len(puts) == 4:  # of both LMDBs, two images
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(lmdb_writer, "_BATCH_BYTES", 1)
        patch.setattr(lmdb_writer, "_put", put_and_die)
        with pytest.raises(KeyboardInterrupt):
            write_sr_pairs(find_images(source), tmp_path / "out", 2, lmdb=True, raw=raw)
    encode = lmdb_writer._encode
    monkeypatch.setattr(lmdb_writer, "_encode", lambda plan, each: encoded.append(each) or encode(plan, each))
    write_sr_pairs(find_images(source), tmp_path / "out", 2, lmdb=True, raw=raw)
    assert len(encoded) == 2
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["GT.lmdb", "LR_bicubic_X2.lmdb"]


def test_raw_pairs_are_the_same_pixels_without_decoding(tmp_path, source):
    gray = cv2.imread(str(source / "coffee.png"), cv2.IMREAD_GRAYSCALE)
    cv2.imwrite(str(source / "coffee.png"), gray.astype(np.uint16) * 257)
    for raw in (False, True):
        write_sr_pairs(find_images(source), tmp_path / str(raw), 2, lmdb=True, raw=raw, crop=32, workers=2)
    packed, raw = (read(tmp_path / name, 2, "lmdb") for name in ("False", "True"))
    assert packed.keys() == raw.keys()
    assert all((packed[name][side] == raw[name][side]).all() for name in raw for side in ("gt", "lq"))
    with lmdb.open(str(tmp_path / "True" / "GT.lmdb"), readonly=True, lock=False) as env, env.begin() as transaction:
        assert all(value.startswith(b"BM") for _, value in transaction.cursor())


def snapshot(folder):
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("linked", [False, True])
def test_photographs_are_not_replaced_by_their_pairs(tmp_path, source, linked):
    (source / "notes.txt").unlink()
    (source / "rocket.jpg").unlink()
    folder = source.rename(tmp_path / "GT")
    if linked:
        folder = tmp_path / "links"
        folder.mkdir()
        for path in (tmp_path / "GT").iterdir():
            (folder / path.name).symlink_to(path)
    before = snapshot(tmp_path)
    with pytest.raises(UserError, match=r"astronaut\.png lies in .*GT, which would be replaced; move it or choose"):
        write_sr_pairs(find_images(folder), tmp_path, 2)
    assert snapshot(tmp_path) == before


@pytest.mark.parametrize("name", ["GT/notes.txt", "LR_bicubic_X2/sub/a.png", ".partial_GT/notes.txt"])
def test_other_files_are_not_removed(tmp_path, source, name):
    write_sr_pairs(find_images(source), tmp_path / "out", 2)
    stray = tmp_path / "out" / name
    stray.parent.mkdir(exist_ok=True)
    stray.write_text("mine")
    (source / "a.png").write_text("not an image, which is not found out before the files are")
    before = snapshot(tmp_path)
    with pytest.raises(UserError, match="is in the way of what would be written; move it"):
        write_sr_pairs(find_images(source), tmp_path / "out", 2)
    assert snapshot(tmp_path) == before


@pytest.mark.parametrize("name", ["GT.lmdb/a.png", "LR_bicubic_X2.lmdb"])
def test_other_files_are_not_removed_for_an_lmdb(tmp_path, source, name):
    stray = tmp_path / name
    stray.parent.mkdir(exist_ok=True)
    stray.write_text("mine")
    with pytest.raises(UserError, match=f"{stray} is in the way"):
        write_sr_pairs(find_images(source), tmp_path, 2, lmdb=True)
    assert stray.read_text() == "mine"


def test_removing_refuses_before_it_removes(tmp_path):
    (tmp_path / "GT" / "b").mkdir(parents=True)
    (tmp_path / "GT" / "a.png").write_text("")
    with pytest.raises(UserError, match="GT/b is in the way"):
        remove_tree(tmp_path / "GT")
    assert (tmp_path / "GT" / "a.png").exists()


@pytest.mark.parametrize("shape", [(5, 5), (96, 7), (3, 96)])
def test_images_too_small_for_the_scale_are_named(tmp_path, shape):
    cv2.imwrite(str(tmp_path / "tiny.png"), np.zeros((*shape, 3), np.uint8))
    with pytest.raises(UserError, match=r"tiny\.png: too small; both sides need at least 8 pixels"):
        write_sr_pairs([tmp_path / "tiny.png"], tmp_path / "out", 4)
    cv2.imwrite(str(tmp_path / "least.png"), np.zeros((8, 8, 3), np.uint8))
    write_sr_pairs([tmp_path / "least.png"], tmp_path / "out", 4)


def test_empty_files_are_named(tmp_path):
    (tmp_path / "a.png").touch()
    with pytest.raises(UserError, match=r"a\.png: not a readable image"):
        write_sr_pairs([tmp_path / "a.png"], tmp_path / "out", 4)


def test_an_output_folder_that_cannot_be_made(tmp_path, source):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"file: cannot write there: .*File exists.*; mend that or choose"):
        write_sr_pairs(find_images(source), tmp_path / "file", 2)


def test_names_must_differ(tmp_path, source):
    (source / "rocket.png").write_bytes((source / "coffee.png").read_bytes())
    with pytest.raises(UserError, match="both be called rocket"):
        write_sr_pairs(find_images(source), tmp_path / "out", 2)


@pytest.mark.parametrize("name", ["a.b.png", "café.png"])
def test_names_that_an_lmdb_cannot_hold(tmp_path, source, name):
    (source / "coffee.png").rename(source / name)
    write_sr_pairs(find_images(source), tmp_path / "out", 2)
    with pytest.raises(UserError, match="ASCII without dots"):
        write_sr_pairs(find_images(source), tmp_path / "out", 2, lmdb=True)


@pytest.mark.parametrize("name", ["missing", "empty"])
def test_folders_without_images_are_named(tmp_path, name):
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match=name):
        find_images(tmp_path / name)


@pytest.mark.parametrize("lmdb", [False, True])
def test_sub_images_cover_the_photograph_and_stay_aligned(tmp_path, source, lmdb):
    backend = "lmdb" if lmdb else "disk"
    coffee = [source / "coffee.png"]  # 60 x 84 after cropping to a multiple of 4
    write_sr_pairs(coffee, tmp_path / "whole", 4, lmdb=lmdb)
    write_sr_pairs(coffee, tmp_path / "cut", 4, crop=32, lmdb=lmdb)
    whole, cut = read(tmp_path / "whole", 4, backend)["coffee"], read(tmp_path / "cut", 4, backend)
    corners = [(top, left) for top in (0, 28) for left in (0, 32, 52)]
    assert sorted(cut) == [f"coffee_s{index:03d}" for index in range(1, 7)]
    for (_, pair), (top, left) in zip(sorted(cut.items()), corners, strict=True):
        assert (pair["gt"] == whole["gt"][:, top : top + 32, left : left + 32]).all()
        assert (pair["lq"] == whole["lq"][:, top // 4 : top // 4 + 8, left // 4 : left // 4 + 8]).all()


def test_sub_images_are_a_multiple_of_the_scale(tmp_path, source):
    with pytest.raises(UserError, match="not a multiple of the scale 4"):
        write_sr_pairs(find_images(source), tmp_path / "out", 4, crop=30)
