from __future__ import annotations

import io
from pathlib import Path

import cv2
import lmdb
import numpy as np
import pytest
from basicsr.data import build_dataset
from basicsr.utils.lmdb_util import LmdbMaker
from PIL import Image

from semanir_plugin.basicsr_host.data.checks import check_datasets
from semanir_plugin.errors import UserError


def write(folder, **sizes):
    """Write an image of the given (width, height) for each name."""
    folder.mkdir(exist_ok=True)
    for name, (width, height) in sizes.items():
        pixels = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{name}.png")
    return folder


def write_lmdb(folder, **sizes):
    maker = LmdbMaker(str(folder), map_size=1 << 20)
    for name, (width, height) in sizes.items():
        png = cv2.imencode(".png", np.zeros((height, width, 3), np.uint8))[1].tobytes()
        maker.put(png, name, (height, width, 3))
    maker.close()
    return folder


@pytest.fixture
def gt(tmp_path):
    return write(tmp_path / "gt", a=(32, 16), b=(16, 24))


@pytest.fixture
def lq(tmp_path):
    return write(tmp_path / "lq", a=(16, 8), b=(8, 12))


@pytest.fixture
def options(gt, lq):
    def options(phase="train", **changes):
        dataset = {
            "name": "pairs",
            "type": "PairedImageDataset",
            "phase": phase.partition("_")[0],
            "scale": 2,
            "io_backend": {"type": "disk"},
            "dataroot_gt": str(gt),
            "dataroot_lq": str(lq),
        }
        return {"datasets": {phase: {**dataset, **changes}}}

    return options


@pytest.fixture
def refused():
    def refused(opt, key, *parts):
        with pytest.raises(UserError) as error:
            check_datasets(opt, lambda keys: f"x.yml:{keys[-1]}")
        (phase,) = opt["datasets"]
        message = str(error.value)
        assert message.startswith(f"x.yml:{key}: datasets:{phase}:{key}: ")
        assert "\n" not in message
        for part in parts:
            assert part in message

    return refused


@pytest.mark.parametrize("phase", ["train", "val", "test_1"])
def test_pairs_pass(options, phase):
    check_datasets(options(phase, gt_size=16))


def test_pairs_pass_by_template_and_with_hidden_files_and_sub_folders(options, gt, lq):
    for path in lq.iterdir():
        path.rename(lq / f"{path.stem}x2.png")
    (gt / ".hidden").write_text("")
    (gt / "sub").mkdir()
    check_datasets(options(filename_tmpl="{}x2"))


def test_pairs_pass_by_meta_info_file(options, gt, lq, tmp_path):
    write(gt, unlisted=(5, 5))
    (lq / "a.png").rename(lq / "ax2.png")
    (tmp_path / "meta.txt").write_text("a.png (16,32,3)\n")
    check_datasets(options(meta_info_file=str(tmp_path / "meta.txt"), filename_tmpl="{}x2"))


def test_a_place_is_optional(options):
    with pytest.raises(UserError, match=r"^datasets:val:dataroot_gt: no such folder: /absent$"):
        check_datasets(options("val", dataroot_gt="/absent"))


def test_a_relative_missing_folder_is_shown_in_full(options, refused, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    refused(options(dataroot_lq="absent"), "dataroot_lq", f"no such folder: absent, which is {tmp_path}/absent")


def test_an_empty_folder(options, refused, tmp_path):
    (tmp_path / "none" / "sub").mkdir(parents=True)
    refused(options(dataroot_gt=str(tmp_path / "none")), "dataroot_gt", "no images in", "sub-folders are not searched")


def test_files_that_are_no_images(options, refused, lq):
    (lq / "Thumbs.db").write_text("")
    refused(options(), "dataroot_lq", "Thumbs.db in", "not an image, but would be read; move it away")


def test_gt_without_lq(options, refused, gt):
    write(gt, c=(4, 4), d=(4, 4), e=(4, 4), f=(4, 4))
    refused(options(), "dataroot_lq", "no c.png for c.png, d.png for d.png, e.png for e.png and 1 more in", "'{}'")


def test_lq_without_gt(options, refused, lq):
    write(lq, c=(4, 4))
    refused(options(), "dataroot_gt", "LQ without GT: none for c.png; correct filename_tmpl")


def test_a_wrong_template(options, refused):
    refused(options(filename_tmpl="{}x4"), "dataroot_lq", "no ax4.png for a.png", "correct filename_tmpl '{}x4'")


@pytest.mark.parametrize(
    ("phase", "size", "passes"),
    [
        ("train", (16, 8), True),
        ("train", (15, 8), False),
        ("train", (8, 16), False),
        ("val", (15, 8), True),  # the dataset crops the GT
        ("val", (15, 7), True),
        ("val", (13, 6), True),  # a wide margin, that makes one side look like a factor of 3
        ("val", (17, 8), False),
        ("val", (16, 9), False),
        ("val", (8, 4), False),  # a factor of 4
    ],
)
def test_sizes_follow_the_scale(options, refused, lq, phase, size, passes):
    write(lq, a=size)
    if passes:
        check_datasets(options(phase))
    else:
        told = f"GT a.png is 32x16, LQ a.png is {size[0]}x{size[1]}: not a factor of 2; correct the scale"
        refused(options(phase), "dataroot_lq", told)


def test_patches_larger_than_an_image(options, refused):
    refused(options(gt_size=18), "gt_size", "18 is more than GT a.png, 32x16, has")
    check_datasets(options("val", gt_size=18))


def test_the_largest_patch_counts(options, refused):
    refused(options(gt_size=18, gt_sizes=[16, 18]), "gt_sizes", "18 is more than GT a.png, 32x16, has")


@pytest.mark.parametrize(
    ("metric", "border", "needs"),
    [("calculate_psnr", 7, None), ("calculate_psnr", 8, 17), ("calculate_ssim", 2, None), ("calculate_ssim", 3, 17)],
)
def test_images_too_small_to_be_scored(options, refused, metric, border, needs):
    val = {"metrics": {"x": {"type": "calculate_psnr", "crop_border": 0}, "y": {"type": metric, "crop_border": border}}}
    for phase in ("train", "val", "test_1"):
        opt = {**options(phase), "val": val}
        if needs and phase != "train":
            with pytest.raises(UserError) as error:
                check_datasets(opt)
            assert str(error.value) == (
                f"datasets:{phase}:dataroot_gt: GT a.png, 32x16, is too small for {metric}: both sides need {needs} "
                "pixels with its crop_border; take it out"
            )
        else:
            check_datasets(opt)


@pytest.mark.parametrize(
    ("metrics", "place", "told"),
    [
        ("sr_y_crop", "gt", "GT a.png, 64x14, is too small for the protocol sr_y_crop: both sides need 15 pixels"),
        ("basicsr_rgb_mod12", "gt", "GT a.png, 32x16, of which the protocol basicsr_rgb_mod12 scores 24x12: make in"),
        ({"n": {"type": "calculate_niqe", "crop_border": 0}}, "gt", "GT a.png, 32x16, is too small for calculate_niqe"),
        (
            {"n": {"type": "calculate_niqe", "crop_border": 0}},
            "lq",
            "the result of a.png, 32x16, is too small for calc",
        ),
    ],
    ids=str,
)
def test_what_is_scored_has_the_size_for_it(options, lq, gt, metrics, place, told):
    """Of pairs what BasicSR crops the ground truth to, of single images the result."""
    opt = {**options("test"), "val": {"metrics": metrics}, "scale": 2}
    if metrics == "sr_y_crop":
        check_datasets(opt)
        write(lq, a=(32, 7)), write(gt, a=(64, 15))  # the last row is cropped
    elif place == "lq":
        del opt["datasets"]["test"]["dataroot_gt"]
        opt["datasets"]["test"]["type"] = "SingleImageDataset"
    with pytest.raises(UserError, match=f"^datasets:test:dataroot_{place}: {told}"):
        check_datasets(opt)


def test_a_truncated_png_is_named(options, refused, gt):
    path = gt / "b.png"
    path.write_bytes(path.read_bytes()[:-20])
    assert Image.open(path).size == (16, 24)  # its header alone tells nothing
    refused(options(), "dataroot_gt", f"{path} cannot be read: truncated PNG; replace it")


def to_jpeg(*folders):
    for path in [path for folder in folders for path in folder.iterdir()]:
        Image.open(path).save(path.with_suffix(".jpg"))
        path.unlink()


def test_a_truncated_jpeg_is_named(options, refused, gt, lq):
    to_jpeg(gt, lq)
    check_datasets(options())
    path = gt / "b.jpg"
    path.write_bytes(path.read_bytes()[:-20])
    refused(options(), "dataroot_gt", f"{path} cannot be read: truncated JPEG; replace it")


@pytest.mark.parametrize("suffix", ["png", "jpg"])
@pytest.mark.parametrize("count", [1000, 100_000])
def test_bytes_after_the_end_do_not_matter(options, gt, lq, suffix, count):
    if suffix == "jpg":
        to_jpeg(gt, lq)
    with (gt / f"b.{suffix}").open("ab") as file:
        file.write(bytes(count))
    check_datasets(options())


@pytest.mark.parametrize("content", [b"", b"not an image", b"\x89PNG\r\n\x1a\n" + bytes(30)])
def test_an_unreadable_image_is_named(options, refused, lq, content):
    (lq / "a.png").write_bytes(content)
    refused(options(), "dataroot_lq", f"{lq}/a.png cannot be read: ")


def test_a_jpeg_on_its_side_counts_as_opencv_turns_it(options, gt, tmp_path):
    turned = write(tmp_path / "turned")
    for path in gt.iterdir():
        exif = Image.Exif()
        exif[0x0112] = 6
        with Image.open(path) as image:
            image.transpose(Image.Transpose.ROTATE_90).save(turned / f"{path.stem}.jpg", exif=exif)
    lq = write(tmp_path / "small", a=(16, 8), b=(8, 12))
    to_jpeg(lq)
    assert cv2.imread(str(turned / "a.jpg")).shape == (16, 32, 3)
    check_datasets(options(dataroot_gt=str(turned), dataroot_lq=str(lq)))


def test_meta_info_file_missing_or_naming_absent_images(options, refused, gt, tmp_path):
    meta = tmp_path / "meta.txt"
    refused(options(meta_info_file=str(meta)), "meta_info_file", f"no such file: {meta}")
    meta.write_text("z.png (16,32,3)\n")
    refused(options(meta_info_file=str(meta)), "meta_info_file", f"{meta}:1: no 'z.png' in {gt}; correct it")
    meta.write_text("")
    refused(options(meta_info_file=str(meta)), "meta_info_file", f"{meta} lists no images; make it again")


@pytest.fixture
def lmdb_options(options, tmp_path):
    roots = {
        "dataroot_gt": str(write_lmdb(tmp_path / "gt.lmdb", a=(32, 16), b=(16, 24))),
        "dataroot_lq": str(write_lmdb(tmp_path / "lq.lmdb", a=(16, 8), b=(8, 12))),
    }
    return lambda phase="train", **changes: options(phase, **{"io_backend": {"type": "lmdb"}, **roots, **changes})


def test_lmdbs_pass(lmdb_options):
    check_datasets(lmdb_options(gt_size=16, filename_tmpl="{}x2"))  # BasicSR pairs LMDBs by equal keys


def test_a_missing_lmdb_is_told_with_what_makes_it(lmdb_options, refused, tmp_path):
    def roots(gt, lq):
        return {"dataroot_gt": f"{tmp_path}/{gt}.lmdb", "dataroot_lq": f"{tmp_path}/{lq}.lmdb"}

    large = "; make it, of large photographs with --crop 480 too: "
    command = f"{large}basicsr prepare sr IMAGES {tmp_path} --scale 2 --lmdb"
    refused(lmdb_options(**roots("GT", "LR_bicubic_X2")), "dataroot_gt", f"no such LMDB: {tmp_path}/GT.lmdb{command}")
    command = f"basicsr prepare lmdb -i GT_IMAGES LQ_IMAGES -o {tmp_path}/gt.lmdb {tmp_path}/x.lmdb --scale 2"
    refused(lmdb_options(**roots("gt", "x")), "dataroot_lq", f"{large}{command}")
    refused(lmdb_options("val", **roots("gt", "x")), "dataroot_lq", f"x.lmdb; make it: {command}")
    (tmp_path / "GT").mkdir()
    told = f"; to read {tmp_path}/GT, leave out .lmdb and set io_backend to {{type: disk}}"
    refused(lmdb_options(**roots("GT", "LR_bicubic_X2")), "dataroot_gt", f"no such LMDB: {tmp_path}/GT.lmdb{told}")


def test_lmdbs_that_are_not_complete(lmdb_options, refused, tmp_path, gt):
    refused(lmdb_options(dataroot_gt=str(gt)), "dataroot_gt", "gt does not end with .lmdb")
    (tmp_path / "gt.lmdb" / "data.mdb").unlink()
    refused(lmdb_options(), "dataroot_gt", "gt.lmdb has no data.mdb")
    (tmp_path / "gt.lmdb" / "meta_info.txt").write_text("a.png\n")
    (tmp_path / "gt.lmdb" / "data.mdb").touch()
    refused(lmdb_options(), "dataroot_gt", "meta_info.txt:1: 'a.png' is not like 'name.png (480,480,3) 1'")
    (tmp_path / "gt.lmdb" / "meta_info.txt").unlink()
    refused(lmdb_options(), "dataroot_gt", "gt.lmdb has no meta_info.txt")


def test_an_lmdb_whose_meta_info_is_empty(lmdb_options, refused, tmp_path):
    (tmp_path / "gt.lmdb" / "meta_info.txt").write_text("")
    refused(lmdb_options(), "dataroot_gt", "gt.lmdb/meta_info.txt is empty; make the LMDB again")


@pytest.mark.parametrize("size", [0, 100, 8192, -4096])
def test_a_truncated_lmdb_is_named(lmdb_options, refused, tmp_path, size):
    path = tmp_path / "lq.lmdb" / "data.mdb"
    path.write_bytes(path.read_bytes()[:size])
    told = "truncated" if size in (8192, -4096) else "MDB_INVALID" if size else ""
    refused(lmdb_options(), "dataroot_lq", f"{path} cannot be read: ", told, "; make the LMDB again")


def test_an_lmdb_that_lacks_images_of_its_meta_info(lmdb_options, refused, tmp_path):
    with (tmp_path / "gt.lmdb" / "meta_info.txt").open("a") as file:
        file.writelines(f"{name}.png (16,16,3) 1\n" for name in "cdef")
    refused(lmdb_options(), "dataroot_gt", "gt.lmdb lacks c, d, e and 1 more of its meta_info.txt; make it again")


@pytest.mark.parametrize(
    ("lines", "told"),
    [
        (
            "a.png (17,32,3) 1\nb.png (24,16,3) 1\n",
            ":1 says 32x17x3, but a is 32x16x3; correct it, or",
        ),
        ("a.png (16,32,3) 1\nb.png (24,48,3) 1\n", ":2 says 48x24x3, but b is 16x24x3"),
        ("a.png (16,32,1) 1\nb.png (24,16,3) 1\n", ":1 says 32x16x1, but a is 32x16x3"),
        ("a.png (16,32,3) 1\nb.png (24,16,3) 1\na.png (16,32,3) 1\n", ":3: 'a' is listed already, in "),
        ("a.png (16,32,3) 1\n\n", ":2: '' is not like"),
        ("a.png (-16,32,3) 1\n", ":1: 'a.png (-16,32,3) 1' is not like"),
        ("a.png (9999999,32,3) 1\n", ":1: 'a.png (9999999,32,3) 1' is not like"),
        ("a.png (16,32,5) 1\n", ":1: 'a.png (16,32,5) 1' is not like"),
        ("a.png (16,32,3) -1\n", ":1: 'a.png (16,32,3) -1' is not like"),
        ("a.png (16,32,3) 1 b.png (24,16,3) 1\n", ":1 says 16x24x3, but a is 32x16x3"),
    ],
)
def test_lines_of_an_lmdb_that_lie(lmdb_options, refused, tmp_path, lines, told):
    meta = tmp_path / "gt.lmdb" / "meta_info.txt"
    meta.write_text(lines)
    refused(lmdb_options(), "dataroot_gt", f"{meta}{told}")


def test_lines_of_an_lmdb_may_leave_out_channels_and_level(lmdb_options, tmp_path):
    (tmp_path / "gt.lmdb" / "meta_info.txt").write_text("a.png (16,32)\nb.png (24, 16, 3)\n")
    check_datasets(lmdb_options())


def test_an_image_of_an_lmdb_that_is_none(lmdb_options, refused, tmp_path):
    with lmdb.open(str(tmp_path / "gt.lmdb")) as env, env.begin(write=True) as transaction:
        transaction.put(b"b", b"\x89PNG")
    refused(lmdb_options(), "dataroot_gt", "gt.lmdb: 'b' is not an image, or a damaged one; make it again")
    check_datasets(lmdb_options(), resuming=True)  # where it is passed over


def test_an_image_of_an_lmdb_with_much_before_its_size(lmdb_options, tmp_path):
    content = io.BytesIO()
    Image.new("RGB", (32, 16)).save(content, "JPEG", exif=b"Exif\0\0" + bytes(60_000))
    with lmdb.open(str(tmp_path / "gt.lmdb")) as env, env.begin(write=True) as transaction:
        transaction.put(b"a", content.getvalue())
    check_datasets(lmdb_options())


def test_an_lmdb_can_be_opened_after_its_check(lmdb_options, tmp_path):
    check_datasets(lmdb_options())
    check_datasets(lmdb_options())
    lmdb.open(str(tmp_path / "gt.lmdb"), readonly=True).close()


def test_an_lmdb_is_read_once(lmdb_options, monkeypatch):
    opened = []
    monkeypatch.setattr(lmdb, "open", lambda path, *, open=lmdb.open, **kw: opened.append(path) or open(path, **kw))
    check_datasets(lmdb_options())
    assert len(opened) == len(set(opened)) == 2


def test_an_lmdb_read_as_a_folder(lmdb_options, refused):
    refused(lmdb_options(io_backend={"type": "disk"}), "dataroot_gt", "is an LMDB; set io_backend to {type: lmdb}")


def test_lmdbs_that_do_not_match(lmdb_options, refused, tmp_path):
    meta = tmp_path / "lq.lmdb" / "meta_info.txt"
    refused(lmdb_options(scale=4), "dataroot_lq", "GT a is 32x16, LQ a is 16x8: not a factor of 4")
    refused(lmdb_options(gt_size=20), "gt_size", "20 is more than GT a, 32x16")
    meta.write_text("".join(line for line in meta.read_text().splitlines(keepends=True) if line.startswith("a")))
    refused(lmdb_options(), "dataroot_lq", "GT without LQ: no b for b")


def test_single_images(options, refused, lq, tmp_path):
    single = {"name": "x", "type": "SingleImageDataset", "io_backend": {"type": "disk"}}
    check_datasets({"datasets": {"test_1": {**single, "dataroot_lq": str(lq)}}})
    refused({"datasets": {"test_1": {**single, "dataroot_lq": "/absent"}}}, "dataroot_lq", "no such folder")
    (lq / "a.png").write_bytes(b"")
    refused({"datasets": {"test_1": {**single, "dataroot_lq": str(lq)}}}, "dataroot_lq", "a.png cannot be read")


CLEAN = {
    "noise": {"type": "GaussianNoiseDataset", "sigma": 25},
    "jpeg": {"type": "JPEGDataset", "quality": 10},
    "demosaic": {"type": "DemosaicDataset"},
    "bicubic": {"type": "BicubicSRDataset", "scale": 2},
}


@pytest.fixture(params=CLEAN.values(), ids=CLEAN)
def clean_options(request, gt):
    def clean_options(phase="train", **changes):
        dataset = {**request.param, "name": "x", "io_backend": {"type": "disk"}, "dataroot_gt": str(gt)}
        return {"datasets": {phase: {**dataset, "gt_size": 16, **changes}}}

    return clean_options


def test_clean_images(clean_options, refused, gt, tmp_path):
    check_datasets(clean_options())
    check_datasets(clean_options("val", gt_size=18))
    refused(clean_options(gt_size=18), "gt_size", "18 is more than GT a.png, 32x16, has; use smaller patches")
    refused(clean_options(dataroot_gt="/absent"), "dataroot_gt", "no such folder")
    refused(clean_options(dataroot_gt="/a.lmdb"), "dataroot_gt", "no such LMDB: /a.lmdb", "lmdb -i IMAGES -o /a.lmdb")
    refused(clean_options(meta_info_file="/absent"), "meta_info_file", "no such file: /absent")
    (gt / "b.png").write_bytes((gt / "b.png").read_bytes()[:-20])
    refused(clean_options(), "dataroot_gt", f"{gt}/b.png cannot be read: truncated PNG; replace it")
    (gt / "notes.txt").write_text("")
    refused(clean_options("test_1"), "dataroot_gt", "notes.txt in", "not an image, but would be read")


def test_clean_images_in_an_lmdb(clean_options, refused, tmp_path, gt):
    folder = write_lmdb(tmp_path / "gt.lmdb", a=(32, 16), b=(16, 24))
    backend = {"io_backend": {"type": "lmdb"}}
    check_datasets(clean_options(dataroot_gt=str(folder), **backend))
    refused(clean_options(dataroot_gt=str(folder), gt_size=18, **backend), "gt_size", "18 is more than GT a, 32x16")
    refused(clean_options(**backend), "dataroot_gt", "gt does not end with .lmdb")


@pytest.mark.parametrize("phase", ["train", "val"])
def test_images_too_small_for_bicubic(refused, gt, phase):
    opt = {**CLEAN["bicubic"], "scale": 4, "io_backend": {"type": "disk"}, "dataroot_gt": str(gt), "gt_size": 4}
    check_datasets({"datasets": {phase: opt}})
    write(gt, c=(40, 8))
    check_datasets({"datasets": {phase: opt}})
    write(gt, c=(40, 7))
    refused({"datasets": {phase: opt}}, "dataroot_gt", "GT c.png, 40x7, is too small: both sides need 8 pixels")


def test_each_source_of_a_mixture(gt, lq, tmp_path):
    sources = {"snow": {"dataroot_gt": str(gt), "dataroot_lq": str(lq)}, "rain": {}}
    sources["rain"] = {**sources["snow"], "weight": 2}
    mixture = {"type": "MixedPairedDataset", "scale": 2, "io_backend": {"type": "disk"}, "gt_size": 16}
    opt = {"datasets": {"train": {**mixture, "sources": sources}}}
    check_datasets(opt)
    for change, told in (
        ({"dataroot_lq": "/absent"}, "dataroot_lq: no such folder: /absent"),
        ({"filename_tmpl": "{}x2"}, "dataroot_lq: GT without LQ: no ax2.png for a.png"),
        ({"dataroot_lq": str(gt)}, "dataroot_lq: GT a.png is 32x16, LQ a.png is 32x16: not a factor of 2"),
    ):
        sources["rain"].update(change)
        with pytest.raises(UserError) as error:
            check_datasets(opt, lambda keys: f"x.yml:{keys[-2]}")
        assert str(error.value).startswith(f"x.yml:rain: datasets:train:sources:rain:{told}")
        sources["rain"] = dict(sources["snow"])
    opt["datasets"]["train"]["gt_size"] = 18
    with pytest.raises(UserError, match=r"18 is more than GT a\.png"):
        check_datasets(opt)


def test_other_datasets_need_their_folders_only(refused, tmp_path):
    (tmp_path / "notes.txt").write_text("")
    other = {"type": "REDSDataset", "io_backend": {"type": "disk"}, "dataroot_lq": str(tmp_path)}
    check_datasets({"datasets": {"train": {**other, "dataroot_gt": str(tmp_path)}}})
    refused({"datasets": {"train": {**other, "dataroot_gt": "/absent"}}}, "dataroot_gt", "no such folder")


def test_what_passes_can_be_read(options, lmdb_options):
    train = {"gt_size": 16, "use_hflip": True, "use_rot": True}
    for opt in (options(**train), lmdb_options(**train), options("val"), lmdb_options("val")):
        check_datasets(opt)
        (dataset_opt,) = opt["datasets"].values()
        dataset = build_dataset(dataset_opt)
        for sample in (dataset[0], dataset[1]):
            assert sample["gt"].shape[-1] == 2 * sample["lq"].shape[-1]


@pytest.mark.parametrize("suffix", [".PNG", ".bmp", ".webp"])
def test_the_files_of_a_pair_may_have_different_suffixes(options, lq, suffix):
    for path in list(lq.iterdir()):
        image = cv2.imread(str(path))
        path.unlink()
        (lq / f"{path.stem}{suffix}").write_bytes(cv2.imencode(suffix, image)[1].tobytes())
    opt = options("val")
    check_datasets(opt)
    dataset = build_dataset({**opt["datasets"]["val"], "phase": "val"})
    assert [Path(pair["lq_path"]).name for pair in dataset.paths] == [f"a{suffix}", f"b{suffix}"]
    assert len([dataset[index] for index in range(2)]) == 2


def test_two_inputs_of_one_name_are_told(options, refused, lq):
    image = cv2.imread(str(lq / "a.png"))
    (lq / "a.png").unlink()
    for suffix in (".bmp", ".webp"):
        cv2.imwrite(str(lq / f"a{suffix}"), image)
    refused(options(), "dataroot_lq", "GT without LQ: no a.png for a.png in")


@pytest.mark.parametrize(
    ("lines", "told"),
    [
        ("a.png (16,32,3)\n\n", "meta.txt:2: the line is blank; remove it"),
        (
            "a.png\nmy photo.png (16,32,3)\n",
            "meta.txt:2: a name ends at the first space, so it is 'my'; rename the file",
        ),
        ("a.png (16,32,3)\nb.png (99,32,3)\n", "meta.txt:2 says 32x99, but b.png is "),
        ("a.png\nmy.best photo.png (16,32,3)\n", "meta.txt:2: no 'my.best' in "),
        ("a.png (-16,32,3)\n", "meta.txt:1: '(-16,32,3)' is not a size like '(480,480,3)'; correct it"),
        ("a.png (16,99999999,3) 1\n", "meta.txt:1: '(16,99999999,3) 1' is not a size"),
        ("a.png (16,32,7)\n", "meta.txt:1: '(16,32,7)' is not a size"),
        (" a.png (16,32,3)\n", "meta.txt:1: the line starts with a space; remove it"),
        ("../a.png\n", "meta.txt:1: '../a.png' is not a file below the folder; correct it"),
    ],
)
def test_lines_of_a_list_that_lie(options, refused, tmp_path, lines, told):
    meta = tmp_path / "meta.txt"
    meta.write_text(lines)
    refused(options(meta_info_file=str(meta)), "meta_info_file", f"{tmp_path}/{told}")
