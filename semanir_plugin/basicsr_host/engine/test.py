"""The testing pipeline: score a network on test sets and save its images."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from basicsr.data import build_dataloader
from torch.utils.data import DataLoader

from semanir_plugin.atomic_io import write_atomic
from semanir_plugin.basicsr_host.engine.distributed import detecting_lost_processes
from semanir_plugin.basicsr_host.engine.dry_run import dry_run
from semanir_plugin.basicsr_host.engine.result_names import check_result_names
from semanir_plugin.basicsr_host.engine.run import (
    Run,
    RunArguments,
    build_guarded_dataset,
    build_run_model,
    open_run_folder,
    start_run,
)
from semanir_plugin.basicsr_host.engine.run_lock import run_locked
from semanir_plugin.basicsr_host.engine.topk_curve import Point, format_table, measure_curve, plot_curve, write_csv
from semanir_plugin.basicsr_host.scoring import Scorer
from semanir_plugin.errors import UserError, one_line

__all__ = ["test"]

Scores = dict[str, dict[str, float]]


@detecting_lost_processes()
def test(args: RunArguments) -> Scores:
    """Test as an option file says; images and `metrics.json` go to the run's results folder.

    Where `val.topk` is a list, each test set is scored with each, under its name and `_topk` with the number; a table
    and a plot of all go there too, as `topk.csv`, `topk.md` and `topk.png`.

    Returns:
        The mean of each metric by test set; nothing on processes but the first, which does the scoring.

    Raises:
        UserError: The options, the data or the weights are not right.
    """
    run = start_run(args, is_train=False)
    sets = [dataset_opt for _, dataset_opt in sorted(run.opt["datasets"].items())]
    loaders = [build_dataloader(build_guarded_dataset(each), each) for each in sets]
    model = build_run_model(run)
    check_result_names(run.opt, model, [loader.dataset for loader in loaders])
    for loader in loaders:
        dry_run(model, loader.dataset.first_sample())
    _tell_weights(run, model)
    with run_locked(run), _reporting_write_errors(run):
        open_run_folder(run)
        return _score_and_report(run, model, loaders)


@contextmanager
def _reporting_write_errors(run: Run) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        what, why = error.filename or run.opt["path"]["results_root"], error.strerror or one_line(error)
        cure = "make room or choose another path.results_root, then start again"
        raise UserError(f"{what}: cannot be written: {why}; {cure}") from error


def _score_and_report(run: Run, model: Any, loaders: Sequence[DataLoader[Any]]) -> Scores:
    topk = run.opt["val"].get("topk")
    scores = _score_each_topk(run, model, loaders, topk) if isinstance(topk, list) else _score_all(run, model, loaders)
    if run.opt["rank"] != 0:
        return {}
    write_atomic(f"{json.dumps(scores, indent=2)}\n".encode(), Path(run.opt["path"]["results_root"], "metrics.json"))
    return scores


def _tell_weights(run: Run, model: Any) -> None:
    """Log what is scored, which a training's option file does not name."""
    path = run.opt["path"]
    if path.get("pretrain_network_g"):
        run.logger.info(f"Weights: {path['pretrain_network_g']}, {path.get('param_key_g', 'params')}")
    elif any(True for _ in model.net_g.parameters()):
        run.logger.warning("path.pretrain_network_g is not set: untrained weights are scored.")


def _score_all(run: Run, model: Any, loaders: Sequence[Any]) -> Scores:
    if not loaders:  # as validation has made sure, of a model that samples
        model.validation(None, current_iter=run.opt["name"], tb_logger=None, save_img=True)
    return {loader.dataset.opt["name"]: _score(run, model, loader) for loader in loaders}


def _score(run: Run, model: Any, loader: DataLoader[Any]) -> dict[str, float]:
    dataset: Any = loader.dataset
    protocol = Scorer.from_options(run.opt).protocol
    by = "" if protocol is None else f", by {protocol.name}, version {protocol.version}"
    run.logger.info(f"Testing {dataset.opt['name']}: {len(dataset)} images{by}.")
    model.validation(loader, current_iter=run.opt["name"], tb_logger=None, save_img=run.opt["val"]["save_img"])
    return dict(getattr(model, "metric_results", {}))


def _score_each_topk(run: Run, model: Any, loaders: Sequence[DataLoader[Any]], topks: Sequence[int]) -> Scores:
    curves = [measure_curve(model, loader, topks, lambda each: _score(run, model, each)) for loader in loaders]
    points = [point for curve in curves for point in curve]
    if run.opt["rank"] == 0:
        _report(run, points)
    return {point.label: point.values for point in points}


def _report(run: Run, points: Sequence[Point]) -> None:
    folder = Path(run.opt["path"]["results_root"])
    table = format_table(points)
    run.logger.info(f"Keys per query:\n{table}")
    write_atomic(f"{table}\n".encode(), folder / "topk.md")
    write_csv(points, folder / "topk.csv")
    if not plot_curve(points, folder / "topk.png"):
        run.logger.warning("topk.png is not drawn: it needs matplotlib (pip install matplotlib).")
