"""The testing pipeline: score a network on test sets and save its images."""

from __future__ import annotations

import json
from pathlib import Path

from basicsr.data import build_dataloader

from semanir_plugin.engine.rehearsal import rehearse
from semanir_plugin.engine.run import RunArguments, build_guarded_dataset, build_run_model, open_run_folder, start_run

__all__ = ["test"]

Scores = dict[str, dict[str, float]]


def test(args: RunArguments) -> Scores:
    """Test as an option file says; images and `metrics.json` go to the run's results folder.

    Returns:
        The mean of each metric by test set; nothing on processes but the first, which does the scoring.

    Raises:
        UserError: The options, the data or the weights are not right.
    """
    run = start_run(args, is_train=False)
    sets = [dataset_opt for _, dataset_opt in sorted(run.opt["datasets"].items())]
    loaders = [build_dataloader(build_guarded_dataset(each), each) for each in sets]
    model = build_run_model(run)
    for loader in loaders:
        rehearse(model, loader.dataset.first_sample())
    if not run.opt["path"].get("pretrain_network_g") and any(True for _ in model.net_g.parameters()):
        run.logger.warning("path.pretrain_network_g is not set: untrained weights are scored.")
    open_run_folder(run)
    scores: Scores = {}
    for loader in loaders:
        name = loader.dataset.opt["name"]
        run.logger.info(f"Testing {name}: {len(loader.dataset)} images.")
        model.validation(loader, current_iter=run.opt["name"], tb_logger=None, save_img=run.opt["val"]["save_img"])
        scores[name] = dict(getattr(model, "metric_results", {}))
    if run.opt["rank"] != 0:
        return {}
    path = Path(run.opt["path"]["results_root"], "metrics.json")
    path.write_text(json.dumps(scores, indent=2) + "\n", encoding="utf-8")
    return scores
