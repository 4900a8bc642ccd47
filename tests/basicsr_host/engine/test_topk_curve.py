"""Scores against keys per query."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import cv2
import pytest
import torch
from torch.utils.data import DataLoader

from semanir_plugin.basicsr_host.engine import topk_curve
from semanir_plugin.basicsr_host.engine.topk_curve import Point, format_table, measure_curve, plot_curve, write_csv
from semanir_plugin.cli import main
from semanir_plugin.inference.restoration import Restoration
from tests.conftest import ROOT, tiny_overrides

POINTS = [
    Point("Set5", 8, {"psnr": 31.25, "ssim": 0.875, "seconds_per_image": 0.125}),
    Point("Set5", 16, {"psnr": 1 / 3, "ssim": 0.9, "seconds_per_image": 0.25}),
    Point("Urban100", 8, {"psnr": 27.5, "ssim": 0.75, "seconds_per_image": 12.0}),
]


def test_the_table_is_markdown_with_aligned_columns():
    assert format_table(POINTS).splitlines() == [
        "| dataset  | topk |    psnr |   ssim | seconds_per_image |",
        "| -------- | ---: | ------: | -----: | ----------------: |",
        "| Set5     |    8 | 31.2500 | 0.8750 |            0.1250 |",
        "| Set5     |   16 |  0.3333 | 0.9000 |            0.2500 |",
        "| Urban100 |    8 | 27.5000 | 0.7500 |           12.0000 |",
    ]


def test_names_are_text_in_the_table():
    table = format_table([Point("![a](http://b)|\n_c_", 8, {"my_metric": 1.0})])
    assert table.splitlines()[0].endswith("| my_metric |")
    assert r"| \!\[a\](http\://b)\| \_c\_ |" in table


def test_the_csv_has_full_precision(tmp_path):
    write_csv(POINTS, tmp_path / "x.csv")
    rows = list(csv.DictReader((tmp_path / "x.csv").open()))
    assert [(row["dataset"], int(row["topk"])) for row in rows] == [("Set5", 8), ("Set5", 16), ("Urban100", 8)]
    assert float(rows[1]["psnr"]) == 1 / 3


def test_the_plot_has_a_panel_for_each_value_of_each_set(tmp_path, monkeypatch):
    from matplotlib.figure import Figure

    figures, save = [], Figure.savefig
    monkeypatch.setattr(Figure, "savefig", lambda self, *args, **kw: figures.append(self) or save(self, *args, **kw))
    assert plot_curve(POINTS, tmp_path / "x.png")
    panels = {(axes.get_title(), axes.get_ylabel()): axes for axes in figures[0].axes}
    names = ("psnr", "ssim", "seconds per image")
    assert list(panels) == [(dataset, name) for dataset in ("Set5", "Urban100") for name in names]
    (line,) = panels["Set5", "ssim"].get_lines()
    assert line.get_xydata().tolist() == [[8, 0.875], [16, 0.9]]
    assert [label.get_text() for label in panels["Set5", "ssim"].get_xticklabels()] == ["8", "16"]
    assert panels["Set5", "seconds per image"].get_ylim()[0] == 0
    assert panels["Set5", "ssim"].get_ylim()[0] > 0.8
    image = cv2.imread(str(tmp_path / "x.png"))
    assert image.shape[0] == 2 * 390
    assert image.std() > 5


def test_no_plot_without_matplotlib(tmp_path, monkeypatch):
    monkeypatch.setattr(topk_curve, "find_spec", lambda name: None)
    assert not plot_curve(POINTS, tmp_path / "x.png")
    assert not (tmp_path / "x.png").exists()


class Model:
    """Notes with how many keys it was asked for what."""

    def __init__(self, rank=0, world_size=1):
        self.opt, self.restoration = {"rank": rank, "world_size": world_size}, Restoration()
        self.calls, self.seconds_per_image = [], []

    @property
    def topk(self):
        return self.restoration.options.topk

    def feed_data(self, data):
        self.lq = self.output = data["lq"]

    def test(self):
        self.calls.append((self.topk, self.lq.shape))


class Dataset(list):
    opt = {"name": "set"}


def measure(model, topks):
    dataset = Dataset({"lq": torch.zeros(shape)} for shape in [(2, 3), (2, 3), (4, 3)])
    loader, names = DataLoader(dataset), []

    def score(each):
        names.append(each.dataset.opt["name"])
        model.seconds_per_image = [9.0, model.topk, model.topk + 1]
        return {"psnr": 2.0 * model.topk}

    points = measure_curve(model, loader, topks, score)
    assert loader.dataset.opt["name"] == "set"
    return points, names


def test_each_k_is_scored_once_under_its_own_name():
    model = Model()
    points, names = measure(model, [4, 2, 4])
    assert names == ["set_topk4", "set_topk2"]
    assert points == [
        Point("set", 2, {"psnr": 4.0, "seconds_per_image": 3}),
        Point("set", 4, {"psnr": 8.0, "seconds_per_image": 5}),
    ]
    assert [point.label for point in points] == ["set_topk2", "set_topk4"]
    sizes = [(1, 2, 3), (1, 4, 3)]
    assert model.calls == [(k, size) for k in (4, 2) for size in sizes], "each size once before its time counts"
    assert not hasattr(model, "lq")


def test_of_several_processes_each_warms_up_on_its_own_images():
    model = Model(rank=1, world_size=2)
    measure(model, [4, 2])
    assert model.calls == [(4, (1, 2, 3)), (2, (1, 2, 3))]


@pytest.fixture
def test_run(sr_data, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def test_run(*entries):
        overrides = [entry for entry in tiny_overrides(sr_data) if entry.startswith(("network_g", "num_gpu"))]
        for i in (1, 2, 3):
            for side, folder in (("gt", "GT"), ("lq", "LR_bicubic_X4")):
                overrides.append(f"datasets:test_{i}:dataroot_{side}={sr_data / 'val' / folder}")
        overrides += ["path:pretrain_network_g=~", *entries]
        return main(["test", "-opt", str(ROOT / "options" / "test_SemanIR_SRx4.yml"), "--force_yml", *overrides])

    return test_run


def test_a_list_of_topk_makes_a_curve(test_run):
    results = Path("results", "test_SemanIR_SRx4")
    assert test_run("val:topk=[12, 2]", "manual_seed=3") == 0
    scores = json.loads((results / "metrics.json").read_text())
    assert list(scores) == [f"{name}_topk{k}" for name in ("Set5", "Set14", "BSD100") for k in (2, 12)]
    assert scores["Set5_topk2"]["psnr"] != scores["Set5_topk12"]["psnr"]
    assert all(0 < values["seconds_per_image"] < 60 for values in scores.values())
    rows = list(csv.DictReader((results / "topk.csv").open()))
    for row in rows:
        values = scores[f"{row.pop('dataset')}_topk{row.pop('topk')}"]
        assert {name: float(value) for name, value in row.items()} == values
    table = (results / "topk.md").read_text()
    assert table.startswith("| dataset | topk |    psnr |")
    assert len(table.splitlines()) == 2 + len(rows) == 8
    assert table in next(results.glob("*.log")).read_text()
    assert cv2.imread(str(results / "topk.png")).shape[0] == 3 * 390
    folders = {path.name for path in (results / "visualization").iterdir()}
    assert folders == set(scores), "each k has its own images"
    assert test_run("val:topk=2", "manual_seed=3", "name=one") == 0
    one = json.loads(Path("results", "one", "metrics.json").read_text())
    assert one["Set5"] == {name: scores["Set5_topk2"][name] for name in ("psnr", "ssim")}
    assert not Path("results", "one", "topk.csv").exists()


def test_a_missing_matplotlib_is_told(test_run, monkeypatch, capsys):
    monkeypatch.setattr(topk_curve, "find_spec", lambda name: None)
    assert test_run("val:topk=[2]") == 0
    assert "topk.png is not drawn: it needs matplotlib (pip install matplotlib)" in capsys.readouterr().err
    assert Path("results", "test_SemanIR_SRx4", "topk.csv").is_file()
