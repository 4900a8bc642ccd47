from __future__ import annotations

import cv2
import numpy as np
import pytest
from basicsr.data.paired_image_dataset import PairedImageDataset
from basicsr.utils.matlab_functions import imresize

from semanir_plugin.data.sr_pairs import find_images, write_sr_pairs
from semanir_plugin.errors import UserError


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
    write_sr_pairs(find_images(source), tmp_path / "out", scale, lmdb=backend == "lmdb")
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
    with pytest.raises(UserError, match=r"zebra\.png: not a readable image"):
        write_sr_pairs(find_images(source), tmp_path / "out", 2, lmdb=lmdb)
    assert not [path for path in (tmp_path / "out").iterdir() if not path.name.startswith(".partial")]


def test_names_must_differ(tmp_path, source):
    (source / "rocket.png").write_bytes((source / "coffee.png").read_bytes())
    with pytest.raises(UserError, match="both be called rocket"):
        write_sr_pairs(find_images(source), tmp_path / "out", 2)


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
