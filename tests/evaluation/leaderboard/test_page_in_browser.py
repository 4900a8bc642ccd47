"""The leaderboard's page in a real browser: what its script makes of it."""

from __future__ import annotations

import copy
import re

import cv2
import numpy as np
import pytest

from semanir_plugin.evaluation.leaderboard.columns import COSTS, NO_COST
from semanir_plugin.evaluation.leaderboard.page import write_page
from tests.evaluation.leaderboard.invented_results import HOSTILE

TIMES, DASH, MORE = "\N{MULTIPLICATION SIGN}", "\N{EN DASH}", "\N{SINGLE RIGHT-POINTING ANGLE QUOTATION MARK}"


@pytest.fixture(scope="module")
def shown(invented, tmp_path_factory):
    """A page of what is hard to show: hostile names, a failed cell, an infinite score, figures that are equal."""
    folder, results = invented
    results = copy.deepcopy(results)
    results["title"] = results["rows"][4]["model"] = HOSTILE
    results["test_sets"][1]["condition"] = results["protocol"]["description"] = HOSTILE
    results["environment"]["command"] = results["environment"]["versions"]["torch"] = HOSTILE
    results["rows"][7]["source"] = HOSTILE
    results["rows"][2]["cells"]["Set14"] = {"scores": {}, "error": HOSTILE, "images": []}
    del results["rows"][3]["cells"]["B/100"]
    results["rows"][0]["cells"]["B/100"]["scores"]["psnr"] = float("inf")
    results["rows"][4]["cells"]["Set5"]["scores"]["psnr"] = results["rows"][5]["cells"]["Set5"]["scores"]["psnr"] - 1e-6
    results["rows"][3]["disturbed"] = True
    named = results["references"]["Set5"]
    results["references"]["Set5"] = {HOSTILE if name == "image001" else name: named[name] for name in named}
    for row in results["rows"][:6]:
        row["cells"]["Set5"]["images"][1]["name"] = HOSTILE
    path = tmp_path_factory.mktemp("page") / "page.html"
    write_page(results, folder, path)
    return path, results


@pytest.fixture
def opened(browser, shown):
    browser.get(shown[0].as_uri())
    browser.get_log("browser")
    browser.refresh()
    yield browser
    assert browser.get_log("browser") == []
    assert (
        browser.execute_script("return performance.getEntriesByType('resource').filter(e => e.name.startsWith('http'))")
        == []
    )


def column(browser, body, index):
    """Texts of a column of the table, without what is there for screen readers."""
    script = """return [...document.querySelectorAll(`#results tbody:nth-of-type(${arguments[0]}) tr:not(.body-title)`)]
        .map(row => row.children[arguments[1]].querySelector('.name, span:not(.unseen)') || row.children[arguments[1]])
        .map(cell => cell.textContent)"""
    return browser.execute_script(script, body, index)


def sort_by(browser, name, index=0):
    buttons = [
        each for each in browser.find_elements("css selector", "#results th button") if each.text.startswith(name)
    ]
    buttons[index].click()
    heads = browser.find_elements("css selector", "#results th[aria-sort]")
    assert len(heads) == 1
    assert heads[0].text.startswith(name)
    return heads[0].get_attribute("aria-sort")


def test_the_table_sorts_measured_and_published_rows_apart(opened, shown):
    names = [row["model"] for row in shown[1]["rows"]]
    assert column(opened, 1, 1)[0] == column(opened, 1, 1)[1] > column(opened, 1, 1)[2] > column(opened, 1, 1)[-1]
    assert sort_by(opened, "PSNR") == "ascending"
    worst_first = column(opened, 1, 0)
    assert worst_first[0] == "Bicubic"
    assert column(opened, 2, 0) == ["RCAN", "SwinIR", "SemanIR-B (paper)"]
    assert sort_by(opened, "PSNR") == "descending"
    assert column(opened, 1, 0)[-1] == "Bicubic"
    assert column(opened, 2, 0) == ["SemanIR-B (paper)", "SwinIR", "RCAN"]
    assert sort_by(opened, "parameters") == "ascending"
    assert column(opened, 1, 0) == ["Bicubic", "SRCNN-like", "SwinIR-light", HOSTILE, "EDSR-baseline", "SemanIR-S"]
    assert sort_by(opened, "model") == "ascending"
    assert column(opened, 1, 0) == sorted(names[:6], key=str.lower)
    assert opened.switch_to.active_element.text.startswith("model"), "the focus stays on the button"
    assert "model" in opened.find_element("id", "sorted").get_attribute("textContent")


def test_rows_without_a_figure_come_last_either_way(opened):
    for direction in ("descending", "ascending"):
        assert sort_by(opened, "PSNR", 1) == direction
        assert (column(opened, 1, 0)[-1], column(opened, 1, 3)[-1]) == ("EDSR-baseline", "failed")
    for direction, place in (("descending", 0), ("ascending", -2)):
        assert sort_by(opened, "PSNR", 2) == direction
        assert (column(opened, 1, 0)[-1], column(opened, 1, 5)[-1]) == ("SwinIR-light", DASH)
        assert column(opened, 1, 5)[place] == "∞"


def test_the_best_two_of_the_measured_rows_are_marked(opened):
    script = """return [...document.querySelectorAll('#results table .' + arguments[0])].map(mark => {
        const row = mark.closest('tr'); return [row.querySelector('.name').textContent,
        [...row.children].indexOf(mark.closest('td')), row.className, mark.parentElement.textContent]})"""
    best, second = (opened.execute_script(script, rank) for rank in ("rank1", "rank2"))
    assert {row[2] for row in best + second} == {"measured"}, "though published ones are better"
    assert {(name, place) for name, place, *_ in best if place in (1, 5)} == {
        (HOSTILE, 1),
        ("SemanIR-S", 1),
        ("Bicubic", 5),
    }
    assert [name for name, place, *_ in second if place in (1, 5)] == ["SemanIR-S", "SwinIR-light"]
    assert all(row[3].endswith("(best)") for row in best)
    assert all(row[3].endswith("(second best)") for row in second)


def test_a_failed_cell_tells_why_and_a_disturbed_row_is_marked(opened):
    assert HOSTILE in opened.find_element("css selector", ".failures li").get_attribute("textContent")
    script = """return [...document.querySelectorAll('#results td .tag')].map(tag => [
        tag.closest('tr').querySelector('.name').textContent, tag.textContent])"""
    assert opened.execute_script(script) == [["SwinIR-light", "disturbed"]]
    note = opened.find_element("css selector", "#results p.note").text
    assert f"Cost of an input of 3 {TIMES} 64 {TIMES} 64 on an invented device; mult-adds: a multiplication and" in note
    assert "Disturbed: other work had the processor" in note


def test_columns_are_called_as_in_the_other_tables(opened, shown):
    heads = [each.text.split("\n")[0] for each in opened.find_elements("css selector", "#results th button .key")]
    metrics = [metric["label"] for _ in shown[1]["test_sets"] for metric in shown[1]["metrics"]]
    assert heads == ["model", *metrics, *(column.label for column in COSTS)]
    units = [each.text for each in opened.find_elements("css selector", "#results th.cost small")]
    assert units == [column.unit for column in COSTS]


def choose(browser, label, text):
    script = """const labels = [...document.querySelectorAll('label')];
        const select = labels.find(each => each.firstChild.textContent === arguments[0]).querySelector('select');
        select.value = [...select.options].find(each => each.textContent === arguments[1]).value;
        select.dispatchEvent(new Event('change'));"""
    browser.execute_script(script, label, text)


def test_metrics_can_be_chosen(opened):
    count = len(opened.find_elements("css selector", "#results table td"))
    choose(opened, "Metrics", "SSIM")
    heads = [each.text.split()[0] for each in opened.find_elements("css selector", "#results thead tr:last-child th")]
    assert heads == ["SSIM"] * 3 + [column.label.split()[0] for column in COSTS]
    assert len(opened.find_elements("css selector", "#results table td")) == count - 9 * 3


def test_published_rows_name_their_source_once(browser, opened, shown, invented, tmp_path):
    assert HOSTILE in texts(opened, ".source")
    assert len(texts(opened, ".source")) == 3
    write_page(invented[1], invented[0], tmp_path / "page.html")
    browser.get((tmp_path / "page.html").as_uri())
    assert texts(browser, ".source") == []
    assert texts(browser, ".body-title span")[0].endswith("not measured here: README of the authors' repository")


BOXES = """return [...document.querySelectorAll('#plot text.label')].map(each => {
    const {x, y, width, height} = each.getBBox(); return [x + 1, y + 3, x + width - 1, y + height - 3]})"""
MARKS = """return Object.fromEntries([...document.querySelectorAll('#plot .mark[tabindex]')].map(mark => {
    const {e, f} = mark.transform.baseVal[0].matrix; return [mark.dataset.row, [e, f]]}))"""


@pytest.mark.parametrize(
    ("cost", "unit", "key", "count"),
    [("parameters", "M", "parameters", 9), ("mult-adds", "G", "mult_adds", 6), ("time", "ms", "time_ms", 6)],
)
def test_the_plot_places_models_by_cost_and_quality(opened, shown, cost, unit, key, count):
    choose(opened, "Cost", cost)
    marks = opened.execute_script(MARKS)
    assert len(marks) == count
    rows = {index: shown[1]["rows"][int(index)] for index in marks}
    value = {index: row[key] for index, row in rows.items()}
    assert sorted(marks, key=lambda index: marks[index][0]) == sorted(marks, key=value.get)
    quality = {index: row["cells"]["Set5"]["scores"]["psnr"] for index, row in rows.items()}
    heights = [marks[index][1] for index in sorted(marks, key=quality.get)]
    assert heights == sorted(heights, reverse=True)
    positive = [index for index in sorted(marks, key=value.get) if value[index] > 0]
    a, b, c = (positive[0], positive[len(positive) // 2], positive[-1])
    ratio = (marks[b][0] - marks[a][0]) / (marks[c][0] - marks[a][0])
    assert ratio == pytest.approx(np.log(value[b] / value[a]) / np.log(value[c] / value[a]), abs=1e-4)
    assert (len(opened.find_elements("css selector", "#plot .mark.published[tabindex]")) > 0) == (count == 9)
    title = opened.find_element("css selector", "#plot .axis-title").text
    assert title.startswith(f"{cost} [{unit}], logarithmic")
    assert sorted(texts(opened, "#plot text.label")) == sorted(shorten(row["model"]) for row in rows.values())
    boxes = opened.execute_script(BOXES)
    for index, (left, top, right, bottom) in enumerate(boxes):
        assert all(x >= right or left >= r or y >= bottom or top >= b for x, y, r, b in boxes[:index]), "names overlap"


def shorten(name):
    return name if len(name) <= 26 else f"{name[:25]}…"


def test_a_mark_tells_its_figures_to_mouse_and_keyboard(opened):
    mark = opened.find_element("css selector", "#plot .mark[data-row='1']")
    opened.execute_script("arguments[0].focus()", mark)
    text = opened.find_element("id", "point").text
    assert text == mark.get_attribute("aria-label")
    assert text.startswith("SRCNN-like: PSNR on Set5 2")
    assert text.endswith("parameters 0.0570 M")
    choose(opened, "Published", "hidden")
    assert len(opened.find_elements("css selector", "#plot .mark[tabindex]")) == 6
    choose(opened, "Published", "shown")
    choose(opened, "Quality", "PSNR on B/100")
    assert len(opened.find_elements("css selector", "#plot .mark[tabindex]")) == 7, (
        "what is infinite or missing has no place"
    )


def knob(browser):
    element = browser.find_element("css selector", ".knob")
    browser.execute_script("arguments[0].scrollIntoView({block: 'center'})", element)
    return element


def split(browser):
    """Return the position of the slider's line, in percent, after comparing it with the clip of the version above."""
    value = knob(browser).get_attribute("aria-valuenow")
    clip = browser.execute_script("return getComputedStyle(document.querySelector('.compare .after')).clipPath")
    line = browser.execute_script("""const box = document.querySelector('.compare').getBoundingClientRect();
        const at = document.querySelector('.compare .line').getBoundingClientRect();
        return 100 * (at.left + at.width / 2 - box.left) / box.width""")
    assert float(re.search(r"([\d.]+)%\)", clip)[1]) == pytest.approx(line, abs=0.5)
    assert round(line) == pytest.approx(int(value), abs=1)
    return line


def test_the_slider_follows_the_mouse(opened):
    from selenium.webdriver import ActionChains

    assert split(opened) == pytest.approx(50)
    width = opened.execute_script("return document.querySelector('.compare').clientWidth")
    ActionChains(opened).click_and_hold(knob(opened)).move_by_offset(width // 4, 12).release().perform()
    assert split(opened) == pytest.approx(75, abs=1)
    ActionChains(opened).move_by_offset(-30, 0).perform()
    assert split(opened) == pytest.approx(75, abs=1), "let go"
    ActionChains(opened).click_and_hold(knob(opened)).move_by_offset(width // 2, 0).release().perform()
    assert split(opened) == pytest.approx(100, abs=0.1)


def test_the_slider_follows_a_finger(opened):
    from selenium.webdriver import ActionChains
    from selenium.webdriver.common.actions.pointer_input import PointerInput

    area = opened.find_element("css selector", ".compare")
    knob(opened)
    actions = ActionChains(opened, devices=[PointerInput("touch", "finger")])
    pointer = actions.w3c_actions.pointer_action
    width = area.size["width"]
    pointer.move_to(area, -width // 4, 20).pointer_down()
    pointer.move_to(area, 0, 22).move_to(area, -width // 10, 22).pointer_up()
    actions.perform()
    assert split(opened) == pytest.approx(40, abs=2)


def test_the_slider_follows_the_keys(opened):
    from selenium.webdriver import Keys

    element = knob(opened)
    at = [50]
    for key, step in ((Keys.ARROW_RIGHT, 2), (Keys.ARROW_LEFT, -2), (Keys.ARROW_UP, 2), (Keys.PAGE_DOWN, -10)):
        element.send_keys(key)
        at.append(at[-1] + step)
        assert split(opened) == pytest.approx(at[-1], abs=0.1)
    for key, place in ((Keys.HOME, 0), (Keys.ARROW_LEFT, 0), (Keys.END, 100)):
        element.send_keys(key)
        assert split(opened) == pytest.approx(place, abs=0.1)


CANVAS = """const done = arguments[arguments.length - 1], pixels = canvas =>
        [...canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height).data];
    setTimeout(() => done([...document.querySelectorAll('.crops canvas')].map(
        canvas => [canvas.width, canvas.getAttribute('aria-label'), pixels(canvas)])), 150)"""


def test_a_click_enlarges_that_place_of_every_version(opened, invented):
    from selenium.webdriver import ActionChains

    area = opened.find_element("css selector", ".compare")
    knob(opened)
    choose(opened, "Crop", f"24 {TIMES} 24 pixels")
    enlarged = area.size["width"] / 128
    ActionChains(opened).move_to_element_with_offset(
        area, round(-34 * enlarged), round(-6 * enlarged)
    ).click().perform()
    assert split(opened) == pytest.approx(50), "a click does not move the line"
    crops = opened.execute_async_script(CANVAS)
    assert [label for _, label, _ in crops][0::7] == ["image000, Input, crop", "image000, Ground truth, crop"]
    left, top = 64 - 34 - 12, 48 - 6 - 12
    for file, (side, _, pixels) in zip(["_input", *(f"row{i}" for i in range(6)), "_truth"], crops, strict=True):
        assert side == 24
        got = np.array(pixels, np.uint8).reshape(24, 24, 4)[..., 2::-1]
        image = cv2.imread(str(invented[0] / "images" / file / "Set5" / "image000.png"))
        fits = {
            (y, x): cv2.PSNR(image[y : y + 24, x : x + 24], np.ascontiguousarray(got))
            for y in range(top - 3, top + 4)
            for x in range(left - 3, left + 4)
        }
        y, x = max(fits, key=fits.get)
        assert abs(y - top) <= 1
        assert abs(x - left) <= 1
        assert fits[y, x] > 28


def place_of(frame):
    """Side, top and left of the crop."""
    return [int(each) for each in re.findall(r"\d+", frame.get_attribute("aria-label"))]


def test_the_crop_follows_the_keys_and_stays_inside(opened):
    from selenium.webdriver import Keys

    frame = opened.find_element("css selector", ".crop-frame")
    for _ in range(12):
        frame.send_keys(Keys.ARROW_LEFT)
        frame.send_keys(Keys.ARROW_UP)
    assert place_of(frame) == [48, 0, 0]
    frame.send_keys(Keys.ARROW_RIGHT)
    frame.send_keys(Keys.SHIFT + Keys.ARROW_DOWN)
    assert place_of(frame) == [48, 1, 8]


def texts(browser, selector):
    return [each.get_attribute("textContent") for each in browser.find_elements("css selector", selector)]


def sources(browser):
    return [each.get_attribute("src") for each in browser.find_elements("css selector", ".compare img")]


def test_versions_and_images_can_be_chosen(opened):
    assert texts(opened, ".compare .caption") == ["Input", HOSTILE], "the best one beside the input"
    first = sources(opened)
    choose(opened, "Left", "Bicubic")
    choose(opened, "Right", "Ground truth")
    assert texts(opened, ".compare .caption") == ["Bicubic", "Ground truth"]
    assert not set(first) & set(sources(opened))
    opened.find_element("css selector", "[aria-label='Next image']").click()
    assert opened.switch_to.active_element.get_attribute("aria-label") == "Next image"
    assert opened.find_element("css selector", ".compare img").get_attribute("alt") == f"{HOSTILE}, Bicubic"
    choose(opened, "Test set", "Set14")
    assert opened.find_element("css selector", ".compare img").get_attribute("alt") == "image000, Bicubic"
    assert [each.text for each in opened.find_elements("css selector", ".crops strong")][3] == "SwinIR-light", (
        "no failed one"
    )
    opened.find_element("css selector", "summary").click()
    opened.find_elements("css selector", "details .link")[1].click()
    assert opened.find_element("css selector", ".compare img").get_attribute("alt") == "image001, Bicubic"
    assert opened.find_element("css selector", "details").get_attribute("open")


def test_hostile_names_are_text(opened):
    assert opened.title == HOSTILE
    assert opened.find_element("css selector", "h1").get_attribute("textContent") == HOSTILE
    assert opened.find_elements("css selector", "img[onerror], img[src='x']") == []
    assert HOSTILE in opened.find_element("css selector", "footer code").get_attribute("textContent")


@pytest.fixture
def at_width(opened):
    """A function that reloads the page at a width in pixels, and returns what a script finds then."""

    def at_width(width, script):
        size = {"width": width, "height": 800, "deviceScaleFactor": 1, "mobile": True}
        opened.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
        opened.refresh()
        return opened.execute_script(script)

    yield at_width
    opened.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


@pytest.mark.parametrize("width", [360, 1300])
def test_nothing_is_wider_than_the_screen(at_width, width):
    script = """return [document.documentElement.scrollWidth,
        document.querySelectorAll("#results thead .group[colspan='1']").length]"""
    assert at_width(width, script) == [width, 3 if width < 600 else 0]


COLUMNS_IN_VIEW = """const holder = document.querySelector('#results .scroll');
    const right = (element) => element.getBoundingClientRect().right;
    return [right(document.querySelector('#results th.cost:last-child')) <= right(holder),
        document.querySelectorAll('#results thead tr:last-child th').length,
        getComputedStyle(holder.parentElement, '::after').content]"""


def test_the_last_column_of_five_test_sets_is_in_view_or_the_edge_tells(browser, at_width, invented, tmp_path):
    folder, results = invented
    results = copy.deepcopy(results)
    for name in ("Urban100", "Manga109"):
        results["test_sets"].append({"name": name, "images": 100, "condition": "x4"})
        for row in results["rows"]:
            row["cells"][name] = row["cells"]["Set5"]
    write_page(results, folder, tmp_path / "page.html")
    browser.get((tmp_path / "page.html").as_uri())
    costs = len(COSTS)
    assert at_width(1300, COLUMNS_IN_VIEW) == [True, 10 + costs, "none"]
    assert at_width(1024, COLUMNS_IN_VIEW) == [True, 5 + costs, "none"], "PSNR alone"
    assert at_width(700, COLUMNS_IN_VIEW) == [False, 5 + costs, f'"{MORE}"']
    scrolled = f"document.querySelector('#results .scroll').scrollLeft = 9999; {COLUMNS_IN_VIEW}"
    assert at_width(700, scrolled)[0]


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_stands_out_in_both_schemes(opened, scheme):
    features = [{"name": "prefers-color-scheme", "value": scheme}]
    opened.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})
    script = """const of = (selector, what) => getComputedStyle(document.querySelector(selector))[what];
        return [['body', 'body'], ['.note', 'body'], ['th[aria-sort] button', 'thead th'], ['.rank1', '.rank1'],
            ['tr.published .tag', 'tr.published td'], ['.source', 'tr.published td'], ['.failed', 'body']]
            .map(([text, ground]) => [of(text, 'color'), of(ground, 'backgroundColor')])"""
    for text, ground in opened.execute_script(script):
        light, dark = sorted((luminance(text), luminance(ground)), reverse=True)
        assert (light + 0.05) / (dark + 0.05) > 4.5, (text, ground)
    assert (luminance(opened.execute_script(script)[0][1]) < 0.1) == (scheme == "dark")


def luminance(colour):
    red, green, blue = (int(each) / 255 for each in re.findall(r"\d+", colour)[:3])
    linear = [each / 12.92 if each <= 0.03928 else ((each + 0.055) / 1.055) ** 2.4 for each in (red, green, blue)]
    return np.dot(linear, (0.2126, 0.7152, 0.0722))


def test_results_without_images_or_costs_make_a_page(browser, invented, tmp_path):
    folder, results = invented
    results = copy.deepcopy(results)
    results["references"] = {}
    results["metrics"], results["test_sets"] = results["metrics"][:1], results["test_sets"][:1]
    results["rows"] = [{**row, **NO_COST, "cells": {}} for row in results["rows"][:2]]
    write_page(results, folder, tmp_path / "page.html")
    browser.get((tmp_path / "page.html").as_uri())
    assert browser.get_log("browser") == []
    assert "No cost was measured." in browser.find_element("id", "cost").text
    assert "There are no images to show." in browser.find_element("id", "images").text
    assert [each.text for each in browser.find_elements("css selector", "#results td")] == [DASH, DASH]
