from __future__ import annotations

from pathlib import Path

import pytest

from semanir_plugin.errors import UserError
from semanir_plugin.inference.restore_plan import plan_jobs


@pytest.fixture(autouse=True)
def _tree(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names = ["in/b.png", "in/a.JPG", "in/notes.txt", "in/.hidden.png", "in/sub/c.tiff", "in/sub/a.JPG", "more/b.png"]
    for name in names:
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).touch()


def names(jobs):
    return [(str(job.source), str(job.target)) for job in jobs]


def test_a_folder_in_the_order_of_names():
    assert names(plan_jobs(["in"], "out")) == [("in/a.JPG", "out/a.JPG"), ("in/b.png", "out/b.png")]


def test_folders_within_folders_keep_their_names():
    jobs = plan_jobs(["in"], "out", recursive=True)
    assert ("in/sub/c.tiff", "out/sub/c.tiff") in names(jobs)
    assert len(jobs) == 4


def test_results_within_the_folder_are_no_photographs():
    Path("in/out").mkdir()
    Path("in/out/b.png").touch()
    assert names(plan_jobs(["in"], "in/out", recursive=True, skip_existing=True)) == [
        ("in/a.JPG", "in/out/a.JPG"),
        ("in/sub/a.JPG", "in/out/sub/a.JPG"),
        ("in/sub/c.tiff", "in/out/sub/c.tiff"),
    ]


def test_patterns_and_several_inputs():
    assert names(plan_jobs(["in/*", "in/sub/c.tiff"], "out")) == [
        ("in/a.JPG", "out/a.JPG"),
        ("in/b.png", "out/b.png"),
        ("in/sub/c.tiff", "out/c.tiff"),
    ]
    assert names(plan_jobs(["**/c.*"], "out")) == [("in/sub/c.tiff", "out/c.tiff")]


def test_a_name_with_brackets_is_a_file_first():
    Path("in/b[1].png").touch()
    Path("in/b1.png").touch()
    assert names(plan_jobs(["in/b[1].png"], "out")) == [("in/b[1].png", "out/b[1].png")]


def test_a_single_file_may_be_given_a_name():
    assert names(plan_jobs(["in/b.png"], "x/restored.webp")) == [("in/b.png", "x/restored.webp")]
    assert names(plan_jobs(["in/b.png"], "x/restored")) == [("in/b.png", "x/restored/b.png")]
    Path("folder.png").mkdir()
    assert names(plan_jobs(["in/b.png"], "folder.png")) == [("in/b.png", "folder.png/b.png")]


def test_a_suffix():
    assert names(plan_jobs(["in/a.JPG"], "in", suffix="_x4")) == [("in/a.JPG", "in/a_x4.JPG")]


def test_what_is_there_is_told_skipped_or_replaced():
    Path("out").mkdir()
    Path("out/b.png").touch()
    with pytest.raises(
        UserError, match=r"1 of 2 results are there already, out/b\.png the first; give --skip-existing"
    ):
        plan_jobs(["in"], "out")
    assert names(plan_jobs(["in"], "out", skip_existing=True)) == [("in/a.JPG", "out/a.JPG")]
    assert len(plan_jobs(["in"], "out", overwrite=True)) == 2


@pytest.mark.parametrize("overwrite", [False, True])
def test_a_photograph_is_never_replaced(overwrite):
    with pytest.raises(UserError, match=r"in/b\.png is itself to be restored"):
        plan_jobs(["in/b.png"], "in", overwrite=overwrite)
    Path("link").symlink_to("in")
    with pytest.raises(UserError, match="is itself to be restored"):
        plan_jobs(["in/b.png"], "link/b.png", overwrite=overwrite)
    with pytest.raises(UserError, match="in is the folder of the photographs; name another"):
        plan_jobs(["in"], "in", suffix="_x4", overwrite=overwrite)


@pytest.mark.parametrize(
    ("inputs", "output", "options", "told"),
    [
        (["in/b.png", "more/b.png"], "out", {}, "in/b.png and more/b.png would both become out/b.png"),
        (["in", "in/sub/a.JPG"], "out", {}, "in/a.JPG and in/sub/a.JPG would both become out/a.JPG"),
        (["**/*.png"], "out", {}, "in/b.png and more/b.png would both become out/b.png; restore them apart"),
        (["absent"], "out", {}, "absent: no such file or folder, and no images that match"),
        (["in/*.webp"], "out", {}, "no such file or folder, and no images that match"),
        (["in/notes.txt"], "out", {}, "in/notes.txt: not one of .avif, .bmp, "),
        (["empty"], "out", {}, "empty: no images (.avif, .bmp"),
        (["in"], "in/notes.txt", {}, "in/notes.txt is a file; name a folder"),
        (["in"], "in/notes.txt/out", {}, "in/notes.txt is a file; name a folder"),
        (["in/b.png"], "in/notes.txt/out/x.png", {}, "in/notes.txt is a file; name a folder"),
        (["in/b.png"], "out", {"suffix": "a/b"}, "--suffix a/b must be part of a name"),
        (["in/b.png"], "out.png", {"suffix": "_x4"}, "--suffix _x4 is for folders; out.png names"),
    ],
)
def test_what_cannot_be_is_told(inputs, output, options, told):
    Path("empty/sub").mkdir(parents=True)
    with pytest.raises(UserError) as caught:
        plan_jobs(inputs, output, **options)
    assert told in str(caught.value)


def test_what_is_only_read_becomes_a_png():
    for name in ("in/d.jfif", "in/e.gif", "in/f.tga"):
        Path(name).touch()
    jobs = dict(names(plan_jobs(["in"], "out")))
    assert [jobs[name] for name in ("in/d.jfif", "in/e.gif", "in/f.tga")] == ["out/d.jfif", "out/e.png", "out/f.png"]
    Path("in/e.tga").touch()
    with pytest.raises(UserError, match=r"in/e.gif and in/e.tga would both become out/e.png; restore them apart"):
        plan_jobs(["in"], "out")


def test_pictures_that_another_package_would_read_are_told(monkeypatch, caplog):
    monkeypatch.setattr("semanir_plugin.inference.restore_plan.READABLE", (".png",))
    monkeypatch.setattr("semanir_plugin.inference.photograph_reading.READABLE", (".png",))
    for name in ("in/p.heic", "in/q.HEIC", "in/r.jxl"):
        Path(name).touch()
    assert names(plan_jobs(["in"], "out")) == [("in/b.png", "out/b.png")]
    assert caplog.messages == [
        "passed over: in/p.heic, in/q.HEIC; install pillow-heif, which reads them, or convert them",
        "passed over: in/r.jxl; install pillow-jxl-plugin, which reads them, or convert them",
    ]
    with pytest.raises(UserError, match=r"^in/p\.heic: install pillow-heif, which reads it, or convert it$"):
        plan_jobs(["in/p.heic"], "out")


def test_links_to_nothing_are_told(caplog):
    Path("in/annexed.png").symlink_to("objects/absent")
    assert names(plan_jobs(["in"], "out")) == [("in/a.JPG", "out/a.JPG"), ("in/b.png", "out/b.png")]
    assert caplog.messages == ["passed over: in/annexed.png; get the files that these links name"]
