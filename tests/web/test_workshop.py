"""Pictures of several visitors on their way, without a browser."""

from __future__ import annotations

import threading
import zipfile
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from semanir_plugin.cli import main
from semanir_plugin.errors import UserError
from semanir_plugin.inference.photograph_reading import decode_photograph
from semanir_plugin.inference.photograph_restoration import PhotographRestoration
from semanir_plugin.inference.photographs import PhotographInBands
from semanir_plugin.web import batch as batch_module
from semanir_plugin.web import workshop as workshop_module
from semanir_plugin.web.batch import ARROW, TIMES, Report
from semanir_plugin.web.offers import Offer
from semanir_plugin.web.page import problems_html, status_html
from semanir_plugin.web.previews import LARGEST_SIDE, Comparison
from semanir_plugin.web.workshop import Settings, Workshop

OFFER = Offer("Enlarge", "", "semanir-mini-x4")
SETTINGS = Settings(offer="Enlarge")


@pytest.fixture
def workshop(tmp_path):
    (tmp_path / "served").mkdir()
    workshop = Workshop([OFFER], tmp_path / "served", most_pixels=5000)
    yield workshop
    workshop.close()


@pytest.fixture
def pictures(tmp_path, photos):
    """A photograph, one of 16 bit, one of the same name, one too large, one damaged, and no picture."""
    folder = tmp_path / "dropped"
    (folder / "again").mkdir(parents=True)
    crop = cv2.imread(str(photos["chelsea.png"]))[60:100, 80:140]
    cv2.imwrite(str(folder / "cat.png"), crop)
    cv2.imwrite(str(folder / "again" / "cat.png"), crop.astype(np.uint16) * 257)
    Image.fromarray(np.zeros((80, 80), np.uint8)).save(folder / "large.png")
    (folder / "broken.jpg").write_bytes(b"\xff\xd8\xff")
    (folder / "notes.txt").write_text("no picture")
    return [folder / name for name in ("cat.png", "again/cat.png", "large.png", "broken.jpg", "notes.txt")]


def last(reports):
    *_, report = reports
    return report


def test_results_are_those_of_basicsr_restore(workshop, pictures, tmp_path):
    report = last(workshop.restore("a", pictures, SETTINGS))
    assert [result.file.name for result in report.results] == ["cat.png", "cat.png"]
    for result, picture in zip(report.results, pictures, strict=False):
        by_command = ["-o", str(tmp_path / "out.png"), "--model", "semanir-mini-x4", "--overwrite"]
        assert main(["restore", str(picture), *by_command]) == 0
        assert result.file.read_bytes() == (tmp_path / "out.png").read_bytes()
        assert Image.open(result.before).size == Image.open(result.after).size == (240, 160)
        assert result.about.startswith(f"60 {TIMES} 40 {ARROW} 240 {TIMES} 160 pixels, ")
    assert decode_photograph(report.results[1].file.read_bytes()).pixels.dtype == np.uint16
    with zipfile.ZipFile(report.archive) as archive:
        assert archive.namelist() == ["cat.png", "cat (2).png"]
        assert archive.read("cat (2).png") == report.results[1].file.read_bytes()
    assert [problem.partition(";")[0] for problem in report.problems] == [
        "large.png: has 6,400 pixels",
        "broken.jpg: is no image, or a damaged one",
        next(each for each in report.problems if each.startswith("notes.txt: not one of .avif")).partition(";")[0],
    ]
    assert (report.share, report.doing) == (1.0, "")


def test_who_restores_again_or_leaves_has_nothing_left(workshop, pictures):
    first = last(workshop.restore("a", pictures[:1], SETTINGS)).results[0]
    second = last(workshop.restore("a", pictures[:1], SETTINGS)).results[0]
    other = last(workshop.restore("b", pictures[:1], SETTINGS)).results[0]
    assert (first.file.exists(), second.file.exists()) == (False, True)
    workshop.forget("a")
    assert (second.file.exists(), other.file.exists()) == (False, True)
    assert len(list(workshop.folder.iterdir())) == 1


def test_who_has_gone_without_a_word_is_forgotten_after_a_while(workshop, pictures, monkeypatch):
    gone = last(workshop.restore("a", pictures[:1], SETTINGS)).results[0]
    monkeypatch.setattr(workshop_module, "KEPT", -1)
    last(workshop.restore("b", pictures[:1], SETTINGS))
    assert not gone.file.exists()


@pytest.fixture
def held(monkeypatch):
    """Networks wait, when they begin, until they are let go on; and tell how many are at work."""
    begun, go_on, at_work, most = threading.Event(), threading.Event(), [0], [0]
    restore = PhotographRestoration.restore_for_file

    def wait(self, *args):
        at_work[0] += 1
        most[0] = max(most[0], at_work[0])
        begun.set()
        assert go_on.wait(20)
        at_work[0] -= 1
        return restore(self, *args)

    monkeypatch.setattr(PhotographRestoration, "restore_for_file", wait)
    return begun, go_on, most


def test_stopping_ends_within_a_picture_and_keeps_those_before(workshop, pictures, held):
    begun, go_on, _ = held
    reports = workshop.restore("a", [pictures[4], pictures[0]], SETTINGS)
    doing = next(reports)
    while doing.doing != "cat.png":
        doing = next(reports)
    assert begun.wait(20)
    workshop.stop("a")
    go_on.set()
    report = last(reports)
    assert (len(report.results), len(report.problems), report.doing) == (0, 1, "")
    assert status_html(report, 2) == "<p>Stopped; 0 of 2 restored.</p>"


def test_one_picture_at_a_time_whoever_asks(workshop, pictures, held):
    _, go_on, most = held
    first = workshop.restore("a", pictures[:1], SETTINGS)
    next(first)
    second = workshop.restore("b", pictures[:1], SETTINGS)
    assert [next(second).doing, next(second).doing] == ["starting", "waiting for pictures of others"]
    go_on.set()
    assert len(last(second).results) == len(last(first).results) == 1
    assert most == [1]


def test_closing_the_iterator_stops_the_work(workshop, pictures, held):
    _, go_on, _ = held
    reports = workshop.restore("a", pictures[:1], SETTINGS)
    next(reports)
    reports.close()
    go_on.set()
    workshop.close()
    assert not list(workshop.folder.rglob("cat.png"))


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        (Settings(offer="Paint"), "there is no such network"),
        (Settings(offer="Enlarge", tile=8), "leaves no room beside an overlap"),
        (Settings(offer="Enlarge", topk=0), "topk"),
    ],
)
def test_what_cannot_be_is_one_line(workshop, pictures, settings, told):
    with pytest.raises(UserError, match=told):
        last(workshop.restore("a", pictures[:1], settings))


def test_no_pictures_and_too_many(workshop):
    with pytest.raises(UserError, match="drop a picture first"):
        next(workshop.restore("a", [], SETTINGS))
    with pytest.raises(UserError, match="101 pictures are too many"):
        next(workshop.restore("a", [Path("a.png")] * 101, SETTINGS))


def test_too_little_memory_is_told_in_the_pages_words(workshop, pictures, monkeypatch):
    def fail(*_):
        raise MemoryError

    monkeypatch.setattr(PhotographRestoration, "restore_for_file", fail)
    (problem,) = last(workshop.restore("a", pictures[:1], SETTINGS)).problems
    assert problem == "cat.png: needs more memory than there is; choose smaller tiles, or make it smaller"


def test_a_full_disk_is_not_filled_by_results(workshop, pictures, monkeypatch):
    monkeypatch.setattr(batch_module, "LEAST_FREE", 1 << 80)
    report = last(workshop.restore("a", pictures[:1], SETTINGS))
    assert (report.results, report.problems) == ((), ("cat.png: the disk is nearly full; try again later",))


def test_a_large_result_is_shown_smaller(tmp_path, photos):
    photograph = decode_photograph(photos["coffee.png"].read_bytes())
    pixels = photograph.pixels.repeat(5, 0).repeat(5, 1)
    bands = PhotographInBands(shape=pixels.shape, dtype=pixels.dtype, bands=np.array_split(pixels, 7))
    comparison = Comparison()
    np.testing.assert_array_equal(comparison.watch(photograph, bands).gather(), pixels)
    before, after = (np.asarray(Image.open(path), float) for path in comparison.write(tmp_path / "shown"))
    assert before.shape == after.shape == (1000, 1500, 3)
    assert max(after.shape) <= LARGEST_SIDE
    assert np.abs(before - after).mean() < 3


def test_names_are_text_on_the_page():
    hostile = "<img src=x onerror=alert(1)>.png"
    report = Report(problems=[f"{hostile}: is no image"], doing=hostile, share=0.5, seconds=10)
    assert "<img" not in problems_html(report) + status_html(report, 2)
    assert "about 10 s left" in status_html(report, 2)
