"""Logs and TensorBoard's records of trainings, read and drawn."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from semanir_plugin import errors
from semanir_plugin.cli import main
from semanir_plugin.evaluation import training_curves
from semanir_plugin.evaluation.training_curves import plot_training
from semanir_plugin.evaluation.training_logs import TrainingRun, read_run, read_runs
from tests.conftest import ROOT, tiny_overrides

OPTIONS = """2026-01-31 12:00:00,000 DEBUG:
  name: one
  train:[
    total_iter: {last}
  ]
  val:[
    val_freq: {frequency}
  ]
"""


def progress(iteration, losses, name="one"):
    shown = " ".join(f"{key}: {value:.4e}" for key, value in losses.items())
    return (
        f"2026-01-31 12:00:00,000 INFO: [{name[:5]}..][epoch:  3, iter:{iteration:8,d}, lr:(2.000e-04,1.000e-05,)] "
        f"[eta: 1 day, 3:00:00, time (data): 0.038 (0.004)] {shown} \n"
    )


def validation(scores, dataset="Set5", best=""):
    lines = "".join(f"\t # {key}: {value:.4f}{best}\n" for key, value in scores.items())
    return f"2026-01-31 12:00:00,000 INFO: Validation {dataset}\n{lines}\n"


def write_log(folder, *parts, stamp="20260131_120000", last=1000, frequency=30):
    folder.mkdir(exist_ok=True)
    path = folder / f"train_one_{stamp}.log"
    path.write_text(OPTIONS.format(last=last, frequency=frequency) + "".join(parts))
    return path


def test_losses_and_scores_are_read(tmp_path):
    best = "\tBest: 31.0000 @ 1500 iter"
    path = write_log(
        tmp_path,
        progress(1500, {"l_pix": 0.25, "l_fft": 2e-5}),
        validation({"psnr": 30.5, "ssim": 0.875}, best=best),
        validation({"psnr": 27.25}, dataset="Urban 100", best=best),
        progress(3000, {"l_pix": float("nan"), "l_fft": 1e-5}),
        validation({"psnr": float("inf")}),
        last=3000,
        frequency="1500.0",
    )
    run = read_run(path)
    assert run.name == "one"
    assert run.series.pop("losses/l_pix") == pytest.approx({1500: 0.25, 3000: float("nan")}, nan_ok=True)
    assert run.series == {
        "losses/l_fft": {1500: 2e-5, 3000: 1e-5},
        "metrics/Set5/psnr": {1500: 30.5, 3000: float("inf")},
        "metrics/Set5/ssim": {1500: 0.875},
        "metrics/Urban 100/psnr": {1500: 27.25},
    }


def test_validations_are_at_multiples_of_their_frequency(tmp_path):
    """Validations are at multiples of `val_freq`, whatever iterations losses are printed at, and at the last one."""
    log = [validation({"psnr": 1.0})]  # at 30: nothing is printed before 40
    for iteration in (40, 80, 120):
        log += [progress(iteration, {"l_pix": 0.1})] + [validation({"psnr": 2.0})] * (2 if iteration == 120 else 1)
    series = read_run(write_log(tmp_path, *log, last=130)).series
    assert list(series["metrics/Set5/psnr"]) == [30, 60, 90, 120, 130]
    without = write_log(tmp_path / "bare", *log)
    without.write_text(without.read_text().replace("val_freq", "other"))
    assert list(read_run(without).series["metrics/Set5/psnr"]) == [0, 40, 80, 120]


STARTS = ("Training on 5 images, iterations 61 to 90.", "Start training from epoch: 3, iter: 60")


@pytest.mark.parametrize("start", STARTS)
def test_a_resumed_run_goes_on_where_it_took_up(tmp_path, start):
    first = [each for i in (30, 60, 90) for each in (progress(i, {"l_pix": i}), validation({"psnr": i}))]
    write_log(tmp_path / "one", *first)
    again = f"2026-01-31 12:00:00,000 INFO: {start}\n"
    second = [again, validation({"psnr": 5.0}), progress(100, {"l_pix": 7.0})]  # printed every 100 from now on
    write_log(tmp_path / "one", *second, stamp="20260131_130000")
    run = read_run(tmp_path / "one")
    assert run.series["metrics/Set5/psnr"] == {30: 30.0, 60: 60.0, 90: 5.0}
    assert run.series["losses/l_pix"] == {30: 30.0, 60: 60.0, 100: 7.0}
    assert run.name == "one"


def test_a_validation_that_is_made_up_for_drops_nothing_else(tmp_path):
    first = [each for i in (30, 60) for each in (progress(i, {"l_pix": i}), validation({"psnr": i}))]
    write_log(tmp_path / "one", *first[:-1])
    undone = "2026-01-31 12:00:00,000 INFO: Iteration 60 is yet to be validated.\n"
    started = f"2026-01-31 12:00:00,000 INFO: {STARTS[0]}\n"
    second = [undone, validation({"psnr": 5.0}), started, progress(90, {"l_pix": 7.0}), validation({"psnr": 6.0})]
    write_log(tmp_path / "one", *second, stamp="20260131_130000")
    run = read_run(tmp_path / "one")
    assert run.series["metrics/Set5/psnr"] == {30: 30.0, 60: 5.0, 90: 6.0}
    assert run.series["losses/l_pix"] == {30: 30.0, 60: 60.0, 90: 7.0}


def test_a_start_that_was_killed_before_it_told_anything_takes_nothing_back(tmp_path):
    write_log(tmp_path / "one", progress(30, {"l_pix": 0.5}), validation({"psnr": 20.0}))
    write_log(tmp_path / "one", f"2026-01-31 13:00:00,000 INFO: {STARTS[0]}\n", stamp="20260131_130000")
    assert read_run(tmp_path / "one").series == {"losses/l_pix": {30: 0.5}, "metrics/Set5/psnr": {30: 20.0}}


@pytest.mark.parametrize("cut", [3, 4, 5, 6, 40])
def test_a_log_that_ends_within_a_line_is_read_up_to_it(tmp_path, cut):
    path = write_log(tmp_path, progress(5, {"l_pix": 0.25}), progress(10, {"l_pix": 0.125}))
    path.write_text(path.read_text()[:-cut])
    assert read_run(path).series == {"losses/l_pix": {5: 0.25}}


def test_runs_of_one_name_are_told_apart(tmp_path):
    paths = [write_log(tmp_path / folder, progress(5, {"l_pix": 1.0})) for folder in ("a", "b")]
    assert [run.name for run in read_runs(paths)] == [f"{folder}/train_one_20260131_120000.log" for folder in "ab"]
    assert [run.name for run in read_runs([tmp_path / "a", tmp_path / "b"])] == ["a", "b"]
    assert [run.name for run in read_runs(paths[:1])] == ["one"]
    assert [run.name for run in read_runs(paths, ["x", "y"])] == ["x", "y"]


def test_what_training_writes_is_read(sr_data, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for total, resume in ((6, ()), (9, ("--auto_resume",))):
        entries = {"logger__print_freq": 2, "val__val_freq": 3, "logger__save_checkpoint_freq": 3, "name": "tiny"}
        entries |= {"train__total_iter": total, "logger__use_tb_logger": "true"}
        overrides = [each for each in tiny_overrides(sr_data) if not each.startswith("logger")]
        overrides += [f"{key.replace('__', ':')}={value}" for key, value in entries.items()]
        recipe = str(ROOT / "options" / "train_SemanIR_SRx4.yml")
        assert main(["train", "-opt", recipe, *resume, "--force_yml", *overrides]) == 0
    log, events = read_run(Path("experiments/tiny")), read_run(Path("tb_logger/tiny"))
    assert log.series.keys() == events.series.keys() == {"losses/l_pix", "metrics/Set5/psnr", "metrics/Set5/ssim"}
    assert list(log.series["metrics/Set5/psnr"]) == [3, 6, 9]
    assert list(log.series["losses/l_pix"]) == [2, 4, 6, 8]
    for name, values in log.series.items():
        assert values == pytest.approx(events.series[name], rel=1e-3, abs=1e-4)
    capsys.readouterr()
    assert main(["curves", "experiments/tiny", "tb_logger/tiny", "-o", "curves.png", "--names", "log", "events"]) == 0
    assert capsys.readouterr().out == "curves.png: 3 curves of 2 runs\n"
    assert cv2.imread("curves.png").shape[:2] == (525, 2070)


@pytest.fixture
def figures(monkeypatch):
    from matplotlib.figure import Figure

    figures, save = [], Figure.savefig
    monkeypatch.setattr(Figure, "savefig", lambda self, *args, **kw: figures.append(self) or save(self, *args, **kw))
    return figures


def test_the_picture_has_a_panel_for_each_series_with_all_runs(tmp_path, figures):
    one = TrainingRun(
        "one", {"losses/l_pix": {1: 0.5, 2: 0.25}, "metrics/B/psnr_y": {1: 20.0, 2: 22.5, 3: float("inf"), 4: 21.0}}
    )
    two = TrainingRun(
        "two", {"metrics/A/lpips": {5: 0.5, 10_000: 0.25}, "metrics/B/psnr_y": {1: 21.0}, "losses/l_pix": {1: 1.0}}
    )
    three = TrainingRun("three", {"metrics/B/other": {1: 1.0}})
    plot_training([one, two, three], tmp_path / "x.png")
    panels = {(axes.get_title(), axes.get_ylabel()): axes for axes in figures[0].axes}
    loss, psnr, lpips, other = panels.values()
    assert list(panels) == [
        ("training loss l_pix", "l_pix"),
        ("validation on B", "psnr_y [dB], more is better"),
        ("validation on A", "lpips, less is better"),
        ("validation on B", "other"),
    ]
    assert {axes.get_xlabel() for axes in panels.values()} == {"iteration"}
    assert [axes.get_yscale() for axes in panels.values()] == ["log", "linear", "linear", "linear"]
    legends = [[text.get_text() for text in axes.get_legend().get_texts()] for axes in panels.values()]
    assert legends == [["one", "two"], ["one: 22.50 at 2", "two: 21.00 at 1"], ["two: 0.2500 at 10,000"], ["three"]]
    stars = [line.get_xydata().tolist() for line in psnr.get_lines() if line.get_marker() == "*"]
    assert stars == [[[2, 22.5]], [[1, 21]]]
    curves = [line for line in (*loss.get_lines(), *lpips.get_lines()) if line.get_marker() != "*"]
    assert [line.get_xydata().tolist() for line in curves] == [
        [[1, 0.5], [2, 0.25]],
        [[1, 1.0]],
        [[5, 0.5], [10_000, 0.25]],
    ]
    assert len({(line.get_color(), str(line.get_linestyle())) for line in loss.get_lines()}) == 2
    assert loss.get_lines()[1].get_color() == lpips.get_lines()[0].get_color(), "a run has one colour everywhere"
    assert len(other.get_lines()) == 1


def test_long_losses_are_smoothed_over_their_neighbourhood(tmp_path, figures):
    values = np.random.default_rng(0).random(450)
    values[200] = np.nan
    plot_training([TrainingRun("one", {"losses/l_pix": dict(enumerate(values))})], tmp_path / "x.svg")
    raw, smooth = figures[0].axes[0].get_lines()
    assert np.array_equal(raw.get_ydata(), values, equal_nan=True)
    assert figures[0].axes[0].get_legend().get_texts()[0].get_text() == "one, mean of 9 values"
    expected = [np.nanmean(values[max(0, index - 4) : index + 5]) for index in range(450)]
    assert smooth.get_ydata() == pytest.approx(expected)


def test_what_a_user_can_mend_is_one_line(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("empty").mkdir()
    Path("folder.png").mkdir()
    Path("other.log").write_text("2026-01-31 INFO: nothing of interest\n")
    Path("picture.log").write_bytes(b"\x89PNG\xff\xfe")
    Path("events.out.tfevents.1.x").write_bytes(b"no events, but long enough to be read as some")
    write_log(tmp_path / "good", progress(5, {"l_pix": 1.0}))
    for words, arguments in [
        ("there is no such file or folder", ["nothing"]),
        ("holds neither train_*.log nor TensorBoard's events", ["empty"]),
        ("has no losses or validation scores", ["good", "other.log"]),
        ("not a text file", ["picture.log"]),
        ("events.out.tfevents.1.x", ["events.out.tfevents.1.x"]),
        ("2 names for 1 runs", ["good", "--names", "a", "b"]),
        ("ends in .png, .pdf or .svg", ["good", "-o", "x.jpg"]),
        ("there is no folder", ["good", "-o", "no/x.png"]),
        ("is a folder", ["good", "-o", "folder.png"]),
    ]:
        assert main(["curves", "-o", "x.png", *arguments]) == 2, words
        error = capsys.readouterr().err
        assert words in error
        assert error.count("\n") == 1
    assert not Path("x.png").exists()


@pytest.mark.parametrize(("count", "below"), [(4, False), (9, True)])
def test_legends_of_many_runs_do_not_cover_the_curves(count, below, tmp_path, monkeypatch):
    figures = []
    monkeypatch.setattr(training_curves, "save_figure", lambda figure, path: figures.append(figure))
    series = {"losses/l_pix": {1: 0.5, 2: 0.4}, "metrics/Set5/psnr": {1: 25.0, 2: 26.0}}
    plot_training([TrainingRun(f"run {index}", series) for index in range(count)], tmp_path / "x.png")
    figures[0].savefig(tmp_path / "x.png")
    for axes in figures[0].axes:
        legend, panel, words = axes.get_legend().get_window_extent(), axes.bbox, axes.xaxis.label.get_window_extent()
        assert (legend.y1 < words.y0) == below
        assert panel.height > 150
        assert legend.y0 > 0


@pytest.mark.parametrize("missing", ["matplotlib", "tensorboard"])
def test_a_package_that_is_missing_is_told_before_any_work(tmp_path, monkeypatch, capsys, missing):
    monkeypatch.setattr(errors, "find_spec", lambda name: None if name == missing else object())
    events = tmp_path / "events.out.tfevents.1"
    events.touch()
    monkeypatch.setattr(training_curves, "plot_training", None)
    assert main(["curves", str(events), "-o", str(tmp_path / "curves.png")]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.endswith(f"needs the package {missing}: pip install {missing}")
