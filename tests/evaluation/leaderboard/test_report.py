from __future__ import annotations

import csv
import io
import json
from dataclasses import asdict

import pytest
from markdown_it import MarkdownIt

from semanir_plugin.evaluation.leaderboard.columns import COSTS, NO_COST, format_short
from semanir_plugin.evaluation.leaderboard.report import (
    format_csv,
    format_markdown,
    print_table,
    rank_scores,
    write_reports,
)


def row(name, psnr, ssim=0.5, kind="measured", **more):
    cells = {"Set5": {"scores": {"psnr": psnr, "ssim": ssim}, "error": None, "images": []}}
    source = "a paper" if kind == "published" else None
    return {"model": name, "kind": kind, "source": source, **NO_COST, "cells": cells, **more}


TIMES = {"time_ms": 15565.4, "time_low_ms": 157.7, "time_high_ms": 20000, "processor_time_ms": 158.2, "disturbed": True}


@pytest.fixture
def results():
    metrics = [
        {"name": "psnr", "label": "PSNR", "unit": "dB", "better": "higher", "digits": 2},
        {"name": "ssim", "label": "SSIM", "unit": "", "better": "higher", "digits": 4},
    ]
    failed = {"Set5": {"scores": {}, "error": "it [is] broken", "images": []}}
    return {
        "title": "A [red] title",
        "task": "sr",
        "protocol": {"name": "sr_y_crop", "version": 1, "description": "As papers do."},
        "metrics": metrics,
        "costs": [asdict(column) for column in COSTS],
        "cost_size": [3, 64, 48],
        "test_sets": [{"name": "Set5", "images": 5, "condition": "x4"}],
        "environment": {
            "date": "today",
            "command": "basicsr",
            "versions": {"torch": "2"},
            "device": "CPU",
            "commit": None,
        },
        "rows": [
            row("a|b", 30.001, parameters=12_017_703, mult_adds=77_610_958_848),
            row("c", 30.004, 0.9, **TIMES, memory_mib=3.21),
            row("d", 29.0, 0.8),
            row("[e]", 28.0, cells=failed),
            row("f", 99.0, 0.99, kind="published"),
        ],
        "references": {},
    }


def test_only_measured_rows_compete_as_far_as_digits_are_shown(results):
    assert rank_scores(results) == {
        (0, "Set5", "psnr"): 0,
        (1, "Set5", "psnr"): 0,
        (2, "Set5", "psnr"): 1,
        (1, "Set5", "ssim"): 0,
        (2, "Set5", "ssim"): 1,
    }


def test_less_may_be_better(results):
    results["metrics"][0]["better"] = "lower"
    assert rank_scores(results)[2, "Set5", "psnr"] == 0


def test_one_row_is_not_the_best_of_one(results):
    results["rows"] = results["rows"][:1]
    assert rank_scores(results) == {}


def test_markdown(results):
    text = format_markdown(results)
    costs = " | ".join(f"{column.label}<br>\\[{column.unit}\\]" for column in COSTS)
    assert f"| model | {costs} | Set5 x4<br>PSNR / SSIM |" in text
    assert "| a\\|b | 12.0 | 77.6 | - | - | - | **30.00** / 0.5000 |" in text
    assert "| c | - | - | 15,565 (158-20,000) disturbed | 158 | 3.21 | **30.00** / **0.9000** |" in text
    assert "| d | - | - | - | - | - | <u>29.00</u> / <u>0.8000</u> |" in text
    assert "| \\[e\\] | - | - | - | - | - | failed |" in text
    assert "| f (published) | - | - | - | - | - | 99.00 / 0.9900 |" in text
    assert "- Cost of an input of 3 x 64 x 48 on CPU; mult-adds: " in text
    assert "- Disturbed: other work had the processor" in text
    assert "- Published, not measured here: a paper." in text
    assert "- Failed: \\[e\\] on Set5: it \\[is\\] broken" in text
    assert "commit unknown by `basicsr`" in text


HOSTILE = "![p](http://e.xyz/a.png)\n# <img src=x> `a` | *b* __c__ $d$ www.e.xyz"


def test_names_are_text_in_markdown(results):
    results["title"] = results["test_sets"][0]["name"] = results["rows"][0]["model"] = HOSTILE
    results["rows"][4]["source"] = results["environment"]["command"] = results["environment"]["device"] = HOSTILE
    for row in results["rows"]:
        row["cells"] = {HOSTILE: row["cells"]["Set5"]}
    results["rows"][3]["cells"][HOSTILE]["error"] = HOSTILE
    text = format_markdown(results)
    shown = MarkdownIt().enable("table").parse(text)
    inline = [each for token in shown for each in token.children or ()]
    assert not [each for each in inline if each.type in ("image", "link_open", "em_open")]
    assert {each.content for each in inline if each.type == "html_inline"} == {"<u>", "</u>", "<br>"}
    said = [" ".join(HOSTILE.split()) in "".join(each.content for each in token.children or ()) for token in shown]
    assert sum(said) == 7, "title, column, row, and notes on cost, source, failure and making"
    assert [token.tag for token in shown if token.type == "heading_open"] == ["h1"]
    assert len([token for token in shown if token.type == "tr_open"]) == 1 + 5


def test_columns_have_one_name_in_every_table(results):
    for row in results["rows"]:
        row.update({column.key: 1.0 for column in COSTS}, time_low_ms=1, time_high_ms=1)
    names = [column.label for column in COSTS]
    first = next(csv.reader(io.StringIO(format_csv(results))))
    units = {"ms": "_ms", "MiB": "_mib"}
    keys = [name.replace(" ", "_").replace("-", "_") for name in names]
    assert [key for key in first if key in NO_COST and key not in ("time_low_ms", "time_high_ms", "disturbed")] == [
        key + units.get(column.unit, "") for key, column in zip(keys, COSTS, strict=True)
    ]
    assert first[0] == "model"
    assert first[-3:] == ["Set5 PSNR", "Set5 SSIM", "error"]
    terminal = io.StringIO()
    print_table(results, terminal)
    head = next(line for line in format_markdown(results).splitlines() if line.startswith("| model"))
    for name in ("model", *names):
        assert name in terminal.getvalue()
        assert f"| {name}" in head
    assert {*results["rows"][0]} - {"cells"} <= {*first}, "what JSON says of a row stands in CSV by the same names"


def test_csv_has_full_precision_and_says_what_is_published_and_disturbed(results):
    rows = list(csv.DictReader(io.StringIO(format_csv(results))))
    assert [each["kind"] for each in rows] == ["measured"] * 4 + ["published"]
    assert float(rows[0]["Set5 PSNR"]) == 30.001
    assert (rows[0]["mult_adds"], rows[0]["parameters"], rows[0]["disturbed"]) == ("77610958848", "12017703", "")
    shown = {key: rows[1][key] for key in (*TIMES, "cost_size")}
    assert shown == {key: str(value) for key, value in TIMES.items()} | {"cost_size": "3 x 64 x 48"}
    assert rows[3]["error"] == "Set5: it [is] broken"
    assert rows[3]["Set5 PSNR"] == ""


@pytest.mark.parametrize(
    ("value", "shown"), [(0, "0"), (0.0574, "0.0574"), (0.00012345, "0.00012"), (12.017, "12.0"), (15565.4, "15,565")]
)
def test_three_digits(value, shown):
    assert format_short(value) == shown


def test_the_terminal_marks_best_second_best_and_published(results, monkeypatch):
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.delenv("NO_COLOR", raising=False)
    terminal, plain = Terminal(), io.StringIO()
    print_table(results, terminal)
    print_table(results, plain)
    assert "\x1b[1m30.00\x1b[0m / \x1b[1m0.9000" in terminal.getvalue()
    assert "\x1b[4m29.00\x1b[0m / \x1b[4m0.8000" in terminal.getvalue()
    assert any("\x1b[2m" in line and "f (published)" in line for line in terminal.getvalue().splitlines())
    assert "\x1b" not in plain.getvalue()
    assert "A [red] title" in plain.getvalue()
    assert "    failed" in plain.getvalue()
    assert "\nFailed: [e] on Set5: it [is] broken\n" in plain.getvalue()
    assert "15,565 (158-20,000) disturbed" in plain.getvalue()


def test_reports_are_valid_json(results, tmp_path):
    write_reports(results, tmp_path)
    assert json.loads((tmp_path / "results.json").read_text()) == results
    assert {path.name for path in tmp_path.iterdir()} >= {"results.json", "results.md", "results.csv", "results.html"}
    results["rows"][0]["cells"]["Set5"]["scores"]["psnr"] = float("nan")
    with pytest.raises(ValueError, match="Out of range"):
        write_reports(results, tmp_path)
