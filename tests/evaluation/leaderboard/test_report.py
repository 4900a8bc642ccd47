from __future__ import annotations

import csv
import io
import json

import pytest

from semanir_plugin.evaluation.leaderboard.report import (
    format_csv,
    format_markdown,
    print_table,
    rank_scores,
    write_reports,
)


def row(name, psnr, ssim=0.5, kind="measured", **more):
    cells = {"Set5": {"scores": {"psnr": psnr, "ssim": ssim}, "error": None, "images": []}}
    costs = dict.fromkeys(("flops", "flops_size", "runtime_ms", "peak_memory_mib", "runtime_size"))
    source = "a paper" if kind == "published" else None
    return {"name": name, "kind": kind, "source": source, "parameters": None, **costs, "cells": cells, **more}


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
        "test_sets": [{"name": "Set5", "images": 5, "condition": "x4"}],
        "environment": {
            "date": "today",
            "command": "basicsr",
            "versions": {"torch": "2"},
            "device": "CPU",
            "commit": None,
        },
        "rows": [
            row("a|b", 30.001, parameters=12_017_703, flops=77_610_958_848, flops_size=[3, 64, 48]),
            row("c", 30.004, 0.9, runtime_ms={"median": 12.34, "low": 11, "high": 14}, peak_memory_mib=3.21),
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
    assert "| model | params | mult-adds | time | memory | Set5 x4<br>PSNR / SSIM |" in text
    assert "| a\\|b | 12.02 M | 77.61 G | - | - | **30.00** / 0.5000 |" in text
    assert "| c | - | - | 12.3 ms (11.0-14.0) | 3.2 MiB | **30.00** / **0.9000** |" in text
    assert "| d | - | - | - | - | <u>29.00</u> / <u>0.8000</u> |" in text
    assert "| [e] | - | - | - | - | failed |" in text
    assert "| f (published) | - | - | - | - | 99.00 / 0.9900 |" in text
    assert "- Cost: of an input of 3 x 64 x 48;" in text
    assert "- Published, not measured here: a paper." in text
    assert "- [e] failed on Set5: it [is] broken" in text
    assert "commit unknown by `basicsr`" in text


def test_csv_has_full_precision_and_says_what_is_published(results):
    rows = list(csv.DictReader(io.StringIO(format_csv(results))))
    assert [each["kind"] for each in rows] == ["measured"] * 4 + ["published"]
    assert float(rows[0]["Set5 psnr"]) == 30.001
    assert (rows[0]["flops"], rows[0]["flops_size"], rows[0]["parameters"]) == (
        "77610958848",
        "3 x 64 x 48",
        "12017703",
    )
    assert (rows[1]["runtime_ms_median"], rows[1]["runtime_ms_high"]) == ("12.34", "14")
    assert rows[3]["error"] == "Set5: it [is] broken"
    assert rows[3]["Set5 psnr"] == ""


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
    assert "\n[e] failed on Set5: it [is] broken\n" in plain.getvalue()


def test_reports_are_valid_json(results, tmp_path):
    write_reports(results, tmp_path)
    assert json.loads((tmp_path / "results.json").read_text()) == results
    assert {path.name for path in tmp_path.iterdir()} >= {"results.json", "results.md", "results.csv", "results.html"}
    results["rows"][0]["cells"]["Set5"]["scores"]["psnr"] = float("nan")
    with pytest.raises(ValueError, match="Out of range"):
        write_reports(results, tmp_path)
