"""The leaderboard's page: what is in the file."""

from __future__ import annotations

import base64
import copy
import json
import re

import cv2
import numpy as np
import pytest

from semanir_plugin.evaluation.leaderboard import page as page_module
from semanir_plugin.evaluation.leaderboard.page import write_page
from tests.evaluation.leaderboard.invented_results import HOSTILE


def written(results, folder, path, **how):
    write_page(results, folder, path, **how)
    text = path.read_text()
    return text, json.loads(re.search(r'<script type="application/json" id="data">(.*?)</script>', text, re.DOTALL)[1])


def decode(url):
    assert url.startswith("data:image/jpeg;base64,")
    return cv2.imdecode(np.frombuffer(base64.b64decode(url.partition(",")[2]), np.uint8), cv2.IMREAD_COLOR)


def test_the_file_holds_every_version_of_every_image(invented, tmp_path):
    folder, results = invented
    text, data = written(results, folder, tmp_path / "page.html")
    assert {name: len(pictures) for name, pictures in data["pictures"].items()} == {"Set5": 3, "Set14": 2, "B/100": 4}
    for picture in data["pictures"]["Set14"]:
        assert list(picture["versions"]) == ["truth", "input", "0", "1", "2", "3", "4", "5"]
        for version, url in picture["versions"].items():
            part = {"truth": "_truth", "input": "_input"}.get(version, f"row{version}")
            original = cv2.imread(str(folder / "images" / part / "Set14" / f"{picture['name']}.png"))
            assert cv2.PSNR(original, decode(url)) > 33, version
    assert not data["encoding"]["missing"]
    assert "images/" not in text
    assert not re.search(r"https?://(?!www\.w3\.org/2000/svg)", text)
    assert "default-src 'none'" in text, "a browser refuses to load anything"


def test_a_small_budget_takes_the_images_on_which_models_differ_most(invented, tmp_path):
    folder, results = invented
    results = copy.deepcopy(results)
    for row in results["rows"][:6]:
        for image in row["cells"]["B/100"]["images"]:
            image["scores"]["psnr"] = 30 + (results["rows"].index(row) if image["name"] == "image002" else 0)
    _, data = written(results, folder, tmp_path / "page.html", budget=1)
    names = {name: [picture["name"] for picture in pictures] for name, pictures in data["pictures"].items()}
    assert names["B/100"] == ["image002"]
    assert [len(each) for each in names.values()] == [1, 1, 1]
    used = sum(len(each) for each in data["pictures"]["Set5"][0]["versions"].values()) * 3 // 4
    _, data = written(results, folder, tmp_path / "page.html", budget=4 * used)
    assert len(data["pictures"]["Set5"]) == 2


def test_of_large_images_the_most_detailed_part_is_shown(invented, tmp_path, monkeypatch):
    folder, results = invented
    monkeypatch.setattr(page_module, "LARGEST_SIDE", 80)
    _, data = written(results, folder, tmp_path / "page.html")
    for picture in data["pictures"]["Set14"]:
        assert (picture["height"], picture["width"], picture["cut"]) == (75, 80, True)
        truth = cv2.imread(str(folder / f"images/_truth/Set14/{picture['name']}.png"))
        fits = [cv2.PSNR(truth[:, left : left + 80], decode(picture["versions"]["truth"])) for left in range(22)]
        assert max(fits) > 33 > sorted(fits)[-2]


@pytest.mark.parametrize("damage", ["absent", "empty", "text", "size"])
def test_a_damaged_image_is_left_out_and_named(invented, tmp_path, damage):
    folder, results = invented
    results = copy.deepcopy(results)
    name = f"images/{damage}.png"
    if damage == "size":
        cv2.imwrite(str(folder / name), np.zeros((9, 8, 3), np.uint8))
    elif damage != "absent":
        (folder / name).write_bytes(b"no image" if damage == "text" else b"")
    results["rows"][2]["cells"]["Set5"]["images"][1]["output"] = name
    results["references"]["Set14"]["image000"]["truth"] = name if damage != "size" else "images/other.png"
    _, data = written(results, folder, tmp_path / "page.html")
    assert name in data["encoding"]["missing"]
    assert "2" not in data["pictures"]["Set5"][1]["versions"]
    assert "1" in data["pictures"]["Set5"][1]["versions"]
    assert [picture["name"] for picture in data["pictures"]["Set14"]] == ["image001"]


def test_no_text_can_end_the_script_or_become_html(invented, tmp_path):
    folder, results = invented
    results = copy.deepcopy(results)
    results["title"] = results["rows"][0]["model"] = HOSTILE
    text, data = written(results, folder, tmp_path / "page.html")
    assert data["results"]["rows"][0]["model"] == HOSTILE
    assert "<img" not in text
    assert text.count("</script>") == 2
    assert f"<title>{HOSTILE.replace('&', '&amp;').replace('<', '&lt;').replace('>', '&gt;')}".partition('"')[0] in text


def test_infinite_scores_are_valid_json(invented, tmp_path):
    folder, results = invented
    results = copy.deepcopy(results)
    results["rows"][0]["cells"]["Set5"]["scores"] = {"psnr": float("inf"), "ssim": float("nan")}
    _, data = written(results, folder, tmp_path / "page.html")
    assert data["results"]["rows"][0]["cells"]["Set5"]["scores"] == {"psnr": "Infinity", "ssim": "NaN"}


def test_a_page_that_cannot_be_written_leaves_the_old_one(invented, tmp_path, monkeypatch):
    folder, results = invented
    (tmp_path / "page.html").write_text("old")
    monkeypatch.setattr(page_module, "FILES", tmp_path / "nowhere")
    with pytest.raises(OSError, match="nowhere"):
        write_page(results, folder, tmp_path / "page.html")
    assert [path.name for path in tmp_path.iterdir()] == ["page.html"]
    assert (tmp_path / "page.html").read_text() == "old"
